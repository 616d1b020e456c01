"""Which packages may import which, and what an import costs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands import run_code

ROOT = Path(__file__).parents[1]
MODULES = sorted((ROOT / "mmpt").rglob("*.py"))
ROOMS = [
    {"config", "utils", "pose", "signwriting", "timed_text", "registry"},
    {"processors", "extractors", "models", "losses", "page"},
    {"datasets", "evaluators", "search"},
    {"embedding"},
    {"tasks", "spotting"},
    {"cluster", "experiments", "training", "serving"},
    {"fairseq_plugin", "cli"},
]


def imports(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def level(room: str) -> int:
    return next(depth for depth, rooms in enumerate(ROOMS) if room in rooms)


@pytest.fixture(scope="module")
def imported() -> dict[tuple[str, ...], set[str]]:
    """What each module of mmpt imports, by the parts of its path."""
    return {path.relative_to(ROOT).parts: imports(path) for path in MODULES}


def test_only_the_plugin_imports_fairseq(imported):
    fairseq = {
        path
        for path, names in imported.items()
        if {"fairseq", "fairseq_cli"} & {n.split(".")[0] for n in names}
    }
    assert {path[1] for path in fairseq} == {"fairseq_plugin"}, sorted(fairseq)


def test_imports_between_packages_go_one_way(imported):
    wrong = [
        f"{'/'.join(path)} may not import {name}"
        for path, names in imported.items()
        for name in sorted(names)
        if len(path) > 2 and name.startswith("mmpt.") and level(name.split(".")[1]) > level(path[1])
    ]
    assert not wrong


def test_import_mmpt_imports_nothing_else():
    """Under 0.1 s: because it imports nothing, which a loaded machine cannot blur."""
    code = "import sys; before = set(sys.modules); import mmpt; print(sorted(set(sys.modules) - before))"
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout
    heavy = {"torch", "numpy", "transformers", "fairseq", "omegaconf", "pose_format", "mmpt.config"}
    assert not heavy & set(ast.literal_eval(output)), output


def test_evaluating_and_the_demo_never_import_fairseq():
    modules = "mmpt.evaluators.evaluation, mmpt.training.run, demo_finger"
    modules += ", mmpt.cli.evaluate, mmpt.cli.predict, mmpt.cli.train"
    done = run_code(f"import sys; sys.modules['fairseq'] = None; import {modules}")
    assert done.returncode == 0, done.stderr


COMMANDS = sorted([*ROOT.glob("*.py"), *ROOT.glob("scripts/*.py"), *ROOT.glob("mmpt/cli/[a-z]*.py")])
LOADING = """
import sys

class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name.startswith("mmpt.") and name not in ("mmpt.cli", "mmpt.utils", "mmpt.utils.errors"):
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupt())
import runpy
"""


@pytest.mark.parametrize(
    "path",
    [
        path for path in COMMANDS if path.name not in ("setup.py", "mutants.py")
    ],  # mutmut is not installed for tests
    ids=lambda p: str(p.relative_to(ROOT)),
)
def test_ctrl_c_during_imports_has_no_traceback(path):
    first = "import mmpt.cli" if path.parent.name == "cli" else f"sys.path.insert(0, {str(path.parent)!r})"
    run = f"{first}; runpy.run_path({str(path)!r}, run_name='__main__')"
    ended = run_code(LOADING + run)
    assert ended.returncode in (1, 2) and "Traceback" not in ended.stderr, ended.stderr
