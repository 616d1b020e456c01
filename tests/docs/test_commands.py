"""Every command line in README and docs is one that its command accepts."""

import io
import re
import shlex
from contextlib import redirect_stdout
from functools import lru_cache
from pathlib import Path

import pytest

from mmpt.cli.main import command_names, load_command
from mmpt.extractors import EXTRACTORS
from tests.conftest import ROOT, run_module

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
#: options of other programs
FOREIGN = {"--index-url", "--no-deps", "--no-build-isolation", "--nnodes", "--node-rank", "--nproc-per-node"}
FOREIGN |= {"--write_json", "--save-predictions", "--master-addr", "--master-port", "--logdir", "--rm"}


def code(page: Path) -> list[str]:
    """The lines of the code blocks and the inline code of a page, with continued lines joined."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    if page.name == "CONTRIBUTING.md":  # its examples add commands, and have a test
        text = text.partition("\n## A new loss\n")[0]
    fenced = re.findall(r"^```\w*\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    inline = re.findall(r"`([^`]+)`", re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE))
    return [line.strip() for block in fenced for line in block.splitlines()] + [
        " ".join(words.split()) for words in inline
    ]


def command_lines() -> list[tuple[str, str]]:
    """(page, words after signclip) of each command line."""
    found = []
    for page in PAGES:
        for line in code(page):
            start = re.search(r"(?:^|python )(?:signclip|-m mmpt) ([a-z].*)", line)
            if start and not start[1].startswith("COMMAND"):
                found.append((page.name, start[1].partition(" #")[0].partition(" > ")[0].strip()))
    return found


def parsed(words: str) -> tuple[str, list[str]]:
    """The command that the words name, and the rest. Fails if there is none."""
    given = shlex.split(words)
    for count in (2, 1):
        name = " ".join(given[:count])
        if name in command_names():
            return name, given[count:]
    groups = {name.split()[0] for name in command_names()}
    assert given == given[:1] and given[0] in groups, f"there is no command signclip {words}"
    return "", []


@lru_cache
def help_of(name: str, *words: str) -> str:
    """What `signclip NAME WORDS --help` prints."""
    shown = io.StringIO()
    with redirect_stdout(shown), pytest.raises(SystemExit) as ended:
        load_command(name)([*words, "--help"])
    assert ended.value.code == 0
    return shown.getvalue()


def help_for(name: str, rest: list[str]) -> str:
    return (
        help_of(name, *[word for word in rest if word in EXTRACTORS]) if name == "extract" else help_of(name)
    )


def options_in(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])--[a-z][\w-]*", text))


def test_documented_commands_exist_with_their_options() -> None:
    lines = command_lines()
    assert len(lines) > 40
    for page, words in lines:
        name, rest = parsed(words)
        if name:
            wrong = options_in(" ".join(rest)) - options_in(help_for(name, rest)) - {"--help"}
            assert not wrong, f"{page}: signclip {words}: {wrong}"


def test_documented_command_lines_parse() -> None:
    """Complete lines (with a required argument) are accepted as they stand."""
    for page, words in command_lines():
        name, rest = parsed(words)
        if not name or name == "extract" or not rest or "..." in rest or "[" in words or "--help" in rest:
            continue
        command = load_command(name)
        try:
            command.parser().parse_intermixed_args(rest)
        except SystemExit:
            pytest.fail(f"{page}: signclip {words}")


def test_documented_options_exist() -> None:
    """An option that is named without its command belongs to some command, script or entry point."""
    known = {"--help", "--version"} | FOREIGN
    for name in command_names():
        known |= options_in(help_of(name))
    for kind in EXTRACTORS.names():
        known |= options_in(help_of("extract", kind))
    for path in [ROOT / "demo_finger.py", *(ROOT / "scripts").rglob("*.py")]:
        known |= options_in(path.read_text(encoding="utf-8"))
    for page in PAGES:
        for line in code(page):
            if not line.startswith(("pip ", "git ")):
                assert options_in(line) <= known, f"{page.name}: {line}"


def test_commands_are_named_by_signclip() -> None:
    """Pages name `signclip COMMAND`, and no script or module that became a command (but training.md)."""
    old = r"scripts/(?:ablate|results|leave_one_out)\.py|-m mmpt\.cli"
    for page in [*PAGES, *sorted((ROOT / "docs").rglob("*.ipynb"))]:
        lines = [line for line in page.read_text(encoding="utf-8").splitlines() if re.search(old, line)]
        assert not [line for line in lines if "`python -m mmpt.cli.train X.yaml`" not in line], page.name


@pytest.mark.parametrize("script", ["locallaunch.py", "demo_finger.py"])
def test_entry_points_of_the_checkout_are_shown_and_have_help(script: str) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"python {script}" in readme
    done = run_module(script, "--help")
    assert done.returncode == 0 and "usage:" in done.stdout


def test_messages_and_help_name_signclip() -> None:
    """Errors and help texts name the command that a pip user has, and no module."""
    named = [
        path
        for folder in ("mmpt", "scripts", "configs", "projects")
        for path in [*(ROOT / folder).rglob("*.py"), *(ROOT / folder).rglob("*.yaml")]
        if "python -m mmpt.cli" in path.read_text(encoding="utf-8")
    ]
    kept = ["mmpt/cli/predict.py", "mmpt/cli/search/__main__.py"]  # they describe their former names
    assert sorted(str(path.relative_to(ROOT)) for path in named) == kept
