"""Print a script that completes commands and options of `signclip` in a shell.

    signclip completion bash > ~/.local/share/bash-completion/completions/signclip
    signclip completion zsh > "${fpath[1]}/_signclip"

It completes in shells that are opened afterwards.
"""

import argparse
from typing import Any

from mmpt.cli.command import Command, Parser

SHELLS = ("bash", "zsh", "tcsh")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("shell", choices=SHELLS, help="shell to print the script for")


def run(args: argparse.Namespace) -> None:
    """Build the parsers of all commands and print the script."""
    import shtab

    print(shtab.complete(_whole_parser(), shell=args.shell))


def _whole_parser() -> argparse.ArgumentParser:
    """One parser with every command as a subcommand."""
    from mmpt.cli.main import command_names, load_command, summary

    whole = Parser(prog="signclip")
    commands = whole.add_subparsers()
    groups: dict[str, Any] = {}
    for name in command_names():
        group, _, last = name.rpartition(" ")
        if group and group not in groups:
            groups[group] = commands.add_parser(group, help=f"commands of {group}").add_subparsers()
        part = groups[group] if group else commands
        load_command(name).add_all_arguments(part.add_parser(last, help=summary(name)))
    return whole


main = Command("completion", __doc__, add_arguments, run)
