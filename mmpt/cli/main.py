"""`signclip COMMAND`: finds and runs a command. The command `config show` is mmpt/cli/config/show.py.

A module of this package is a command if it defines `main`, a Command (see command.py); a folder groups
commands.
"""

import ast
import importlib.util
import os
import pkgutil
import sys
from collections.abc import Sequence
from pathlib import Path

import mmpt.cli
from mmpt import __version__
from mmpt.cli.command import Command
from mmpt.registry import nearest
from mmpt.utils.errors import UserError, run_cli

_NOT_COMMANDS = ("main", "command", "predict")
USAGE = """usage: signclip COMMAND [arguments]

Contrastive training, evaluation and search of text and sign-language video in one latent space.

{commands}

`signclip COMMAND --help` explains one. Configs are YAML files, or package:NAME for those that come with mmpt
(`signclip config list`)."""


def signclip() -> int:
    """The installed command: like it, processes that it starts import nothing from the working directory."""
    os.environ.setdefault("PYTHONSAFEPATH", "1")
    return main()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that the words name, and return its exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    return run_cli(_main, words, words=words)


def _main(words: list[str]) -> int:
    if words[:1] == ["--version"]:
        print(f"signclip {__version__}")
        return 0
    names = command_names()
    for count in (2, 1):
        name = " ".join(words[:count])
        if name in names:
            return load_command(name)(words[count:])
    if not words or words[0] in ("-h", "--help"):
        print(USAGE.format(commands=_table(names)))
        return 0
    group = [name for name in names if name.startswith(f"{words[0]} ")]
    if group and words[1:2] in ([], ["-h"], ["--help"]):
        print(f"usage: signclip {words[0]} COMMAND [arguments]\n\n{_table(group)}")
        return 0
    two = " ".join(words[:2])
    of_two = nearest(two, [name for name in names if " " in name])
    given = two if group or of_two else words[0]
    hint = of_two or nearest(given, names)
    raise UserError(f"there is no command {given!r}.{hint} Commands: {', '.join(names)}.")


def command_names() -> list[str]:
    """The names of all commands, such as "train" and "experiment ablate", sorted."""
    found = pkgutil.walk_packages(mmpt.cli.__path__, "mmpt.cli.")
    names = [m.name.removeprefix("mmpt.cli.") for m in found if not m.ispkg and "__main__" not in m.name]
    return sorted(name.replace(".", " ").replace("_", "-") for name in names if name not in _NOT_COMMANDS)


def load_command(name: str) -> Command:
    """Import the module of a command."""
    command: Command = importlib.import_module(_module(name)).main
    return command


def _module(name: str) -> str:
    return "mmpt.cli." + name.replace(" ", ".").replace("-", "_")


def _table(names: Sequence[str]) -> str:
    """The names with the first line of each module's docstring, read without importing the module."""
    width = max(map(len, names))
    return "\n".join(f"  {name:<{width}}  {summary(name)}" for name in names)


def summary(name: str) -> str:
    """The first line of the docstring of a command's module, without importing it."""
    spec = importlib.util.find_spec(_module(name))
    assert spec is not None and spec.origin is not None
    docstring = ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8")))
    return (docstring or "").partition("\n")[0]
