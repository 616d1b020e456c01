"""mkdocs hook: pages that are generated at build time, so that they cannot become outdated.

Commands: the --help of every command. Config keys: the schema. The notebook, CONTRIBUTING.md and
CHANGELOG.md: converted to pages.
"""

import contextlib
import dataclasses
import html
import io
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_type_hints

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from mmpt.cli.main import command_names, load_command, summary
from mmpt.config import Config
from mmpt.extractors import EXTRACTORS

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = "notebooks/search_signs"
FROM_ROOT = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
#: In the repository, links lead to the files that these pages are generated from.
GENERATED = FROM_ROOT | {
    "mmpt/cli": "commands.md",
    "mmpt/config/schema.py": "config_keys.md",
    f"{NOTEBOOK}.ipynb": f"{NOTEBOOK}.md",
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    pages = {
        "commands.md": commands_page(),
        "config_keys.md": config_page(),
        f"{NOTEBOOK}.md": notebook_page(ROOT / "docs" / f"{NOTEBOOK}.ipynb"),
    }
    for source, target in FROM_ROOT.items():
        pages[target] = (ROOT / source).read_text(encoding="utf-8").replace("](docs/", "](")
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links to the sources of generated pages point to these pages."""
    for source, target in GENERATED.items():
        markdown = re.sub(rf"\]\((\.\./)*{re.escape(source)}(?=[)#])", f"]({target}", markdown)
    return markdown


def commands_page() -> str:
    """The --help of every command, after a table of all."""
    parts = ["# Commands\n", "`python -m mmpt` is the same as `signclip`.\n"]
    parts += ["| command | what it does |", "|---|---|"]
    parts += [f"| [`{n}`](#signclip-{n.replace(' ', '-')}) | {summary(n)} |" for n in command_names()]
    parts.append("")
    for name in command_names():
        parts += [f"## signclip {name}\n", f"```text\n{help_of(name)}```\n"]
        if name == "extract":
            for kind in EXTRACTORS.names():
                parts += [f"### signclip extract {kind}\n", f"```text\n{help_of(name, kind)}```\n"]
    return "\n".join(parts)


def help_of(name: str, *words: str) -> str:
    """What `signclip NAME WORDS --help` prints, in 100 columns."""
    os.environ["COLUMNS"] = "100"
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown), contextlib.suppress(SystemExit):
        load_command(name)([*words, "--help"])
    return shown.getvalue()


def config_page() -> str:
    """Every key of the schema: name, default, meaning and bounds."""
    parts = [
        "# Config keys\n",
        "Every key of a task config, from `mmpt/config/schema.py`. `signclip config show X.yaml` prints a "
        "config with all its values, `signclip config check X.yaml` checks one.\n",
    ]
    for name, rows in _sections():
        heading = f"`{name}:`" if name else "Top level"
        parts += [
            f"## {heading} {{: #{name or 'top-level'} }}\n",
            "| key | default | meaning |",
            "|---|---|---|",
        ]
        parts += [*rows, ""]
    return "\n".join(parts)


def _sections() -> Iterator[tuple[str, list[str]]]:
    types = get_type_hints(Config)
    for field in dataclasses.fields(Config):
        if dataclasses.is_dataclass(types[field.name]):
            yield field.name, sorted(_rows(types[field.name]))
    yield "", list(_rows(Config))


def _rows(options: Any, prefix: str = "") -> Iterator[str]:
    types = get_type_hints(options)
    for field in dataclasses.fields(options):
        about, name = field.metadata, f"{prefix}{field.name}"
        if dataclasses.is_dataclass(types[field.name]):
            if options is not Config:
                yield from _rows(types[field.name], f"{name}.")
        elif about.get("supported", True):
            yield f"| `{name}` | {_default(field)} | {_meaning(about)} |"


def _meaning(about: Mapping[str, Any]) -> str:
    limits = [f"one of {', '.join(map(str, about['choices']))}"] if about["choices"] else []
    limits += [f"at least {about['min']}"] if about["min"] is not None else []
    limits += [f"at most {about['max']}"] if about["max"] is not None else []
    meaning = f"{about['doc']} ({', '.join(limits)})" if limits else about["doc"]
    return html.escape(meaning, quote=False).replace("|", "\\|")


def _default(field: "dataclasses.Field[Any]") -> str:
    value = field.default
    if field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
    return "required" if value is dataclasses.MISSING else f"`{json.dumps(value)}`"


def notebook_page(path: Path) -> str:
    """The cells of a notebook, with what its code prints."""
    parts = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        printed = "".join("".join(output["text"]) for output in cell["outputs"])
        parts += [f"```text\n{printed}```"] if printed else []
    return "\n\n".join(parts) + "\n"
