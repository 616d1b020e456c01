"""README, CONTRIBUTING and docs name files, modules and targets that exist; version pins are consistent."""

import ast
import importlib.metadata
import importlib.util
import itertools
import re
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.conftest import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
REQUIREMENTS = sorted(ROOT.glob("requirements*.txt"))
PLACEHOLDERS = {"X.yaml", "Y.yaml", "Z.yaml"}


def found(pattern: str) -> set[tuple[str, str]]:
    """(page, match) of a pattern on all pages. CONTRIBUTING's examples are checked by their own test."""
    texts = {page.name: page.read_text("utf-8") for page in PAGES}
    texts["CONTRIBUTING.md"] = texts["CONTRIBUTING.md"].partition("\n## A new loss\n")[0]
    return {(name, word) for name, text in texts.items() for word in re.findall(pattern, text)}


def test_named_files_exist() -> None:
    named = found(r"\b((?:projects|scripts|configs|mmpt|tests|docs)/[\w./*-]+\.(?:yaml|py|md|csv))\b")
    assert len(named) > 15
    gone = {
        (page, name)
        for page, name in named
        if not list(ROOT.glob(name)) and Path(name).name not in PLACEHOLDERS and "*" not in name
    }
    assert not gone


def test_named_configs_exist() -> None:
    named = {name for _, name in found(r"`((?:test_)?(?:rwthfs|fslex)_\w+)`")}
    assert len(named) > 10
    assert not {name for name in named if not list(ROOT.glob(f"projects/signclip/**/{name}.yaml"))}


def test_named_modules_exist() -> None:
    named = {name for _, name in found(r"-m (mmpt\.[\w.]+)")}
    assert not {name for name in named if importlib.util.find_spec(name) is None}


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_bytes()) <= 9 * 1024


@pytest.mark.parametrize("path", sorted(ROOT.glob("scripts/*.py")), ids=lambda path: path.name)
def test_commands_in_help_are_complete_lines(path: Path) -> None:
    """A command in --help can be copied and run: it continues on the next line only after a backslash."""
    description = ast.get_docstring(ast.parse(path.read_text("utf-8")), clean=False) or ""
    lines = [*description.splitlines(), ""]
    for line, following in itertools.pairwise(lines):
        another = re.match(r"\s+(PYTHON|python|signclip)", following)
        whole = not following.strip() or line.endswith("\\") or another
        assert whole or not re.match(r"    python ", line), f"{line}\n{following}"


def test_named_make_targets_exist() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    named = {name for _, name in found(r"(?:^|`)make ([a-z][\w-]*)")}
    assert {"demo", "test", "check"} <= named <= targets


def test_links_to_files_exist() -> None:
    for page in [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md"]:
        for target in re.findall(r"\]\(((?!https?:|#)[^)#\s]+)", page.read_text("utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


PYTHONS = ("3.11", "3.12", "3.13")
THIS = ".".join(map(str, sys.version_info[:2]))


def required(path: Path, python: str) -> list[Requirement]:
    """The lines of a file that hold for a Python."""
    lines = path.read_text("utf-8").splitlines()
    wanted = [Requirement(line) for line in lines if line and not line.startswith(("#", "-c"))]
    return [it for it in wanted if it.marker is None or it.marker.evaluate({"python_version": python})]


def pins(python: str = THIS) -> dict[str, str]:
    """Package -> its only version for a Python."""
    lines = required(ROOT / "constraints.txt", python)
    found = {canonical(it.name): str(it.specifier).removeprefix("==") for it in lines}
    assert len(found) == len(lines)
    return found


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("path", REQUIREMENTS, ids=lambda path: path.name)
def test_every_requirement_is_pinned(path: Path, python: str) -> None:
    known = pins(python)
    for it in required(path, python):
        version = str(it.specifier).removeprefix("==")
        if path.name == "requirements-nodeps.txt":
            assert version, f"{it}: nothing else pins it"
        else:
            assert canonical(it.name) in known, f"{it.name} has no pin in constraints.txt"
            assert not version or known[canonical(it.name)] == version
    supported = re.search(r'python_requires="(.+)"', (ROOT / "setup.py").read_text("utf-8"))
    assert supported and Requirement(f"mmpt{supported[1]}").specifier.contains(python)


def test_installed_versions_equal_pinned_versions() -> None:
    wrong = {}
    for name, version in pins().items():
        try:
            installed = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        if installed.partition("+")[0] != version:
            wrong[name] = (installed, version)
    assert not wrong
