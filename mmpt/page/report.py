"""One HTML file that shows a view (see mmpt.evaluators.reports.view) and opens from disk."""

import base64
import hashlib
import html
import json
import re
from pathlib import Path
from typing import Any

from mmpt.page import STATIC
from mmpt.utils.errors import UserError
from mmpt.utils.files import read_text

_MODULES = ("address.js", "dom.js", "player.js", "matrix.js", "results.js", "report.js")
_DATA = re.compile(r'<script type="application/json" id="view">(.*?)</script>', re.DOTALL)
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main id="results"><noscript>This report needs JavaScript; results.md holds the tables.</noscript></main>
<script type="application/json" id="view">{view}</script>
<script>{script}</script>
</body>
</html>
"""


def report_html(view: dict[str, Any]) -> str:
    """The report of a view as one HTML file. Its scripts are named by hash, so no other text can run."""
    style = (STATIC / "style.css").read_text(encoding="utf-8")
    script = _one_script()
    policy = (
        f"default-src 'none'; script-src {_source(script)}; style-src {_source(style)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    return _PAGE.format(
        policy=policy, title=html.escape(str(view["title"])), style=style, view=_json(view), script=script
    )


def view_of_report(path: Path) -> dict[str, Any]:
    """The view in a file that report_html wrote. Raises UserError if it is another file."""
    found = _DATA.search(read_text(path))
    try:
        view = json.loads(found[1]) if found else None
    except ValueError:
        view = None
    if not isinstance(view, dict) or view.get("format") != 1:
        raise UserError(f"{path}: not a report of signclip evaluate: evaluate the model again.")
    return view


def _one_script() -> str:
    """The modules of the report as one script: scripts in a file on disk cannot import modules."""
    sources = [(STATIC / name).read_text(encoding="utf-8") for name in _MODULES]
    joined = "\n".join(sources)
    joined = re.sub(r"^import [^;]*;\n", "", joined, flags=re.MULTILINE)
    joined = re.sub(r"^export ", "", joined, flags=re.MULTILINE)
    return f'"use strict";\n(() => {{\n{joined}}})();\n'


def _json(view: dict[str, Any]) -> str:
    """JSON that ends no script element and holds no character that a browser or editor takes for markup."""
    text = json.dumps(view, separators=(",", ":"), allow_nan=False)
    return text.replace("&", r"\u0026").replace("<", r"\u003c").replace(">", r"\u003e")


def _source(text: str) -> str:
    """A source of a Content-Security-Policy that allows this text only."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
