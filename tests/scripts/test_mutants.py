"""scripts/mutants.py: which files are meant, and what is stale in the list of equivalent mutants."""

import importlib.util
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from unittest.mock import MagicMock

import pytest

from tests.conftest import ROOT

MUTMUT = (
    "",
    ".__main__",
    ".mutation",
    ".mutation.data",
    ".mutation.diff_apply",
    ".mutation.trampoline",
    ".stats",
)


@pytest.fixture
def mutants(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, without mutmut, which `make mutants` installs."""
    for name in (*MUTMUT, ".utils", ".utils.file_utils", ".utils.format_utils"):
        fake = MagicMock(__name__=f"mutmut{name}")  # `from mutmut import __main__` looks in sys.modules
        monkeypatch.setitem(sys.modules, f"mutmut{name}", fake)
    for name in ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES"):  # restored after the test
        monkeypatch.setenv(name, "")
    spec = importlib.util.spec_from_file_location("mutants_script", ROOT / "scripts" / "mutants.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "module", ["ranks", "ranks.py", "metrics/ranks.py", "evaluators.metrics.ranks", "mmpt.evaluators", ""]
)
def test_a_module_may_be_given_in_any_form(mutants, module):
    assert mutants.fits(Path("mmpt/evaluators/metrics/ranks.py"), module)
    assert not mutants.fits(Path("mmpt/losses/mixup.py"), module) or not module


def test_stale_entries(mutants):
    known = {"mmpt.losses", "mmpt.losses.mixup", "mmpt.models.pooling"}
    listed = {
        "mmpt.losses.mixup.f: a",
        "mmpt.losses.mixup.f: b",
        "mmpt.models.pooling.g: a",
        "mmpt.gone.h: a",
    }
    survived = {"mmpt.losses.mixup.f: a"}
    stale = mutants.stale(listed, survived, {"mmpt.losses.mixup"}, known)
    assert stale == ["mmpt.gone.h: a", "mmpt.losses.mixup.f: b"]
    assert mutants.stale(listed, survived, {"mmpt.losses"}, known) == ["mmpt.gone.h: a"]


def test_summary_names_stale_entries(mutants, tmp_path, capsys):
    path = Path("mmpt/losses/mixup.py")
    listed = ["mmpt.losses.mixup.f: same", "mmpt.losses.mixup.f: old"]
    mutants.EQUIVALENT = tmp_path / "list.toml"
    mutants.EQUIVALENT.write_text(f"[[group]]\nwhy = 'x'\nmutants = {listed}\n")
    mutants.walk_mutatable_files = lambda: [path]
    mutants.status = lambda path: {"one": "survived", "two": "killed", "three": "survived"}
    mutants.described = lambda name, path: (f"mmpt.losses.mixup.f: {name.replace('one', 'same')}", "    + x")
    mutants.print_summary({path: ["one", "two", "three"]})
    said = capsys.readouterr().out
    assert "no survivor any more, remove it: 'mmpt.losses.mixup.f: old'" in said
    assert "survived: three" in said and "f: same'" not in said
    mutants.print_summary({path: ["one", "two"]})  # a sample
    assert "remove it" not in capsys.readouterr().out


def test_entries_are_of_functions_that_exist():
    """A renamed function leaves entries behind."""
    groups = tomllib.loads((ROOT / "tests" / "equivalent_mutants.toml").read_text())["group"]
    for key in (key for group in groups for key in group["mutants"]):
        *module, function = key.partition(":")[0].split(".")
        while module and not (files := _files_of(ROOT.joinpath(*module))):
            module.pop()
        assert module and f"def {function}(" in files[0].read_text(encoding="utf-8"), key


def _files_of(module: Path) -> list[Path]:
    return [file for file in (module.with_suffix(".py"), module / "__init__.py") if file.is_file()]
