"""Serve a model: an HTTP API, and a page to try it, to search signs and to browse results.

    signclip serve --model runs/fslex_demo/model --index runs/fslex_demo/index --results runs/fslex_demo

The server accepts connections from this machine only, unless --host names another address. It does not keep
what is sent to it. /openapi.json describes the API. On SIGTERM or Ctrl-C it finishes the current requests
and stops.
"""

import argparse
import itertools
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from mmpt.cli.command import Command
from mmpt.serving import DEFAULT_LIMITS, Limits
from mmpt.utils.errors import MissingDataError, UserError
from mmpt.utils.logging import log_level, setup_logging
from mmpt.utils.output_kinds import EVALUATION, PROTOCOL_REPORT
from mmpt.utils.packages import VIDEO, need_packages

if TYPE_CHECKING:
    from mmpt.search import Index
    from mmpt.serving.api import Content
    from mmpt.serving.clips import Clips

log = logging.getLogger(__name__)

PACKAGES = ("starlette", "uvicorn", "multipart")
RECORDS = (EVALUATION.record, PROTOCOL_REPORT.record)
_LIMITS = {
    "bytes": (int, "of a request"),
    "frames": (int, "of a clip"),
    "clips": (int, "in a request"),
    "prompts": (int, "in a request"),
    "characters": (int, "of a prompt"),
    "seconds": (float, "to receive a request, and to answer it"),
    "requests": (int, "at the same time; more are refused with status 429"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument(
        "--model",
        required=True,
        help="model folder (see `signclip convert`), checkpoint with its config.yaml, or org/name on the hub",
    )
    parser.add_argument("--index", metavar="FOLDER", help="index of `signclip search build` to search in")
    parser.add_argument(
        "--clips",
        action="append",
        default=[],
        metavar="SOURCE",
        help="where the poses of the index are: a folder, a table or a task config (may be repeated)",
    )
    parser.add_argument(
        "--results",
        action="append",
        default=[],
        type=Path,
        metavar="FOLDER",
        help="results of `signclip evaluate`, or a folder with several (may be repeated)",
    )
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="report of `signclip check`")
    parser.add_argument(
        "--prompts", metavar="FILE", help="default prompts, one per line (default: those of --clips CONFIG)"
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: this machine only)"
    )
    parser.add_argument(
        "--port", type=int, default=8000, help="port (default: 8000); 0: a free one, which is logged"
    )
    parser.add_argument(
        "--token",
        default=os.environ.get("SIGNCLIP_TOKEN"),
        help="clients must send `Authorization: Bearer TOKEN` (default: the variable SIGNCLIP_TOKEN)",
    )
    parser.add_argument(
        "--cors",
        action="append",
        default=[],
        metavar="ORIGIN",
        help="a page of this origin, such as https://example.org, may call the API (may be repeated)",
    )
    parser.add_argument("--allow-video", action="store_true", help="extract the poses of videos (MediaPipe)")
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:1, ...")
    for name, (kind, what) in _LIMITS.items():
        default = getattr(DEFAULT_LIMITS, name)
        text = f"most {name} {what} (default: {default})"
        parser.add_argument(f"--max-{name}", type=kind, default=default, metavar="N", help=text)


def run(args: argparse.Namespace) -> None:
    """Load what is served, and answer requests until the process is stopped."""
    setup_logging(logging.INFO)
    need_packages("serve", PACKAGES, "serve")
    if args.allow_video:
        need_packages("--allow-video", VIDEO)
    limits = _limits(args)
    _check_token(args.token)
    from mmpt.serving import server

    opened = server.listen(args.host, args.port)
    local = server.is_local(args.host)
    if not local and not args.token:
        log.warning("--host %s: everyone who reaches this address can use the model: give --token", args.host)
    from mmpt.serving.app import create_app

    hosts = server.local_names(args.host) if local else None
    app = create_app(_content(args), limits, args.token, hosts, args.cors)
    address = server.address_of(opened) + (f"#token={quote(args.token, safe='')}" if args.token else "")
    log.info("serving %s at %s (Ctrl-C stops)", args.model, address)
    # warnings of the embedder name prompts of clients; the answers hold them
    with log_level(logging.ERROR, "mmpt.embedding.embedder"):
        server.run(app, opened, limits)


def _check_token(token: str | None) -> None:
    if token is not None and not (token and token.isascii() and token.isprintable() and " " not in token):
        got = "another one" if token else "an empty one"
        raise UserError(f"--token or SIGNCLIP_TOKEN: expected printable ASCII without spaces, got {got}.")


def _limits(args: argparse.Namespace) -> Limits:
    for name in _LIMITS:
        value = getattr(args, f"max_{name}")
        if not 0 < value < 1e15:
            raise UserError(f"--max-{name} {value:g}: expected a number above 0.")
    return Limits(**{name: getattr(args, f"max_{name}") for name in _LIMITS})


def _content(args: argparse.Namespace) -> "Content":
    from mmpt.embedding.embedder import SignCLIP
    from mmpt.search import Index
    from mmpt.serving.api import Content
    from mmpt.serving.clips import Clips
    from mmpt.utils.text import read_lines

    index = Index(args.index) if args.index else None
    clips = Clips(args.clips)
    if index and args.clips:
        _log_poses(index, clips)
    prompts = [line for line in read_lines(args.prompts) if line] if args.prompts else clips.prompts
    results = _results(args.results)
    if args.data and not (args.data / "check.md").is_file():
        raise MissingDataError(f"--data {args.data}: there is no check.md: write it with `signclip check`.")
    model = SignCLIP.from_pretrained(args.model, args.device)
    if index:
        index.check_model(model.fingerprint, f"the model {args.model}")
    return Content(model, index, clips, prompts, results, args.data, args.allow_video, bool(args.token))


def _log_poses(index: "Index", clips: "Clips") -> None:
    found = sum(index.name(row) in clips for row in range(len(index)))
    hint = "" if found else ": if they are parts of recordings, give their table with --clips"
    log.info("poses found for %d of %d clips of the index%s", found, len(index), hint)


def _results(folders: list[Path]) -> dict[str, Path]:
    """The evaluations in some folders and below, by a name without slashes."""
    named: dict[str, Path] = {}
    for folder in folders:
        found = sorted({path.parent for name in RECORDS for path in folder.rglob(name)})
        if not found:
            raise MissingDataError(f"--results {folder}: no results.json in it or below: evaluate first.")
        for path in found:
            whole = path.resolve()
            name = whole.parent.name if whole.name in ("eval", "protocols") else whole.name
            numbered = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
            named[next(free for free in numbered if free not in named)] = path
    return named


main = Command("serve", __doc__, add_arguments, run)

if __name__ == "__main__":
    sys.exit(main())
