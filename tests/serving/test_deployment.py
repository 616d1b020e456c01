"""The steps of the Dockerfile, as far as they can be checked without Docker, and `make serve`."""

import json
import re
import subprocess

from mmpt.cli.main import load_command
from tests.conftest import ROOT

LINES = (ROOT / "Dockerfile").read_text().splitlines()


def test_dockerfile_serves_as_an_ordinary_user() -> None:
    """Its files exist, its command is one that `signclip` accepts, and what follows USER needs no root."""
    steps = [line.split(" ", 1) for line in LINES if line and not line.startswith("#")]
    names = [name for name, _ in steps]
    assert set(names) <= {"FROM", "WORKDIR", "COPY", "RUN", "USER", "EXPOSE", "CMD"}
    text = dict(steps)
    assert re.fullmatch(r"python:3\.1[12]-slim", text["FROM"])
    runs = [step for name, step in steps if name == "RUN"]
    files = [file for step in runs for file in re.findall(r"-r (\S+)", step)]
    assert files == ["requirements.txt", "requirements-serve.txt"] and all(
        (ROOT / f).is_file() for f in files
    )
    assert f"useradd --create-home {text['USER']}" in runs[-1]
    assert "RUN" not in names[names.index("USER") :]
    program, command, *options = json.loads(text["CMD"])
    assert (program, command) == ("signclip", "serve")
    args = load_command("serve").parser().parse_args(options)
    assert args.host == "0.0.0.0" and str(args.port) == text["EXPOSE"] and args.model == "/model"


def test_make_serve_trains_converts_indexes_and_serves(tmp_path) -> None:
    """The commands that make would run, of which each is accepted."""
    shown = subprocess.run(
        ["make", "--dry-run", "serve", f"RUNS={tmp_path}", "PORT=0"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.replace("\\\n", " ")
    commands = re.findall(r"-m mmpt (\w+(?: build)?) ([^\n;&]*)", shown)
    assert [name for name, _ in commands] == ["convert", "search build", "serve"]
    for name, options in commands:
        load_command(name).parser().parse_intermixed_args(options.split())
