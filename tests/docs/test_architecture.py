"""docs/architecture.md: its files and levels match the code, and its picture is up to date."""

import importlib.util
import re

from tests.conftest import ROOT
from tests.test_imports import ROOMS

PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def test_architecture_names_existing_files() -> None:
    named = set(re.findall(r"(?<![\w/])([a-z_]+/[\w/]+\.(?:py|md|svg))\b", PAGE))
    assert len(named) > 40
    assert not {name for name in named if not ((ROOT / "mmpt" / name).exists() or (ROOT / name).exists())}


def test_architecture_levels_are_those_of_the_imports() -> None:
    rows = re.findall(r"^\| (\d) \| `(\w+)` \|", PAGE, re.MULTILINE)
    levels = {package: int(level) for level, package in rows}
    packages = {path.parent.name for path in (ROOT / "mmpt").glob("*/__init__.py")}
    assert set(levels) == packages
    for package, level in levels.items():
        assert package in ROOMS[level - 1], package


def test_architecture_picture_is_what_its_script_draws() -> None:
    path = ROOT / "docs" / "make_architecture_picture.py"
    spec = importlib.util.spec_from_file_location("make_architecture_picture", path)
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert (path.parent / "architecture.svg").read_text(encoding="utf-8") == script.picture()
