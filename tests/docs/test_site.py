"""The documentation site builds offline without a warning, and all links and anchors of the pages exist."""

import os
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from mmpt.cli.main import command_names
from tests.commands import run_lines
from tests.conftest import ROOT

pytest.importorskip("material", reason="the site needs requirements-docs.txt")

MARKDOWN = [ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")]


class Page(HTMLParser):
    """The ids, the links and the files (scripts, pictures, styles) of an HTML page."""

    def __init__(self, path: Path):
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.ids.update(found[name] for name in ("id", "name") if name in found)
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        elif tag == "link" and found.get("rel") in ("stylesheet", "icon", "preload"):
            self.loaded.append(found["href"])
        elif "src" in found:
            self.loaded.append(found["src"])


def test_site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It builds without a network, and is whole."""
    monkeypatch.setenv("NO_MKDOCS_2_WARNING", "1")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    site = tmp_path / "site"
    done = run_lines([f"python -m mkdocs build --strict --site-dir {site}"], ROOT)
    assert done.returncode == 0, done.stderr
    assert "Documentation built" in done.stderr and "WARNING" not in done.stderr, done.stderr
    pages = {path: Page(path) for path in site.rglob("*.html") if path.name != "404.html"}
    check_contents(site, pages)
    check_links_and_anchors(site, pages)
    check_that_nothing_is_loaded_from_other_hosts(site, pages)


def check_contents(site: Path, pages: dict[Path, Page]) -> None:
    assert not [*site.rglob("*.py*"), *site.rglob("__pycache__")]
    commands = (site / "commands.html").read_text(encoding="utf-8")
    assert not [name for name in command_names() if f"usage: signclip {name} " not in commands]
    assert "--no-refine-face" in commands, "the options of one extractor"
    named = pages[site / "api.html"].ids
    assert {"mmpt.SignCLIP.embed_pose", "mmpt.search.Index.search"} <= named
    keys = (site / "config_keys.html").read_text(encoding="utf-8")
    assert "ensemble_size" in keys and "augment3d.rotation" in keys


def check_links_and_anchors(site: Path, pages: dict[Path, Page]) -> None:
    broken = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = Path(os.path.normpath(path.parent / unquote(parts.path))) if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            known = pages[target].ids if target in pages else set()
            if not target.is_file() or (parts.fragment and unquote(parts.fragment) not in known):
                broken.append(f"{path.relative_to(site)}: {link}")
    assert len(pages) > 15 and not broken


def check_that_nothing_is_loaded_from_other_hosts(site: Path, pages: dict[Path, Page]) -> None:
    loaded = [(path, name) for path, page in pages.items() for name in page.loaded]
    assert len(loaded) > 15
    assert not [name for _, name in loaded if urlsplit(name).netloc]
    assert not [name for path, name in loaded if name and not (path.parent / urlsplit(name).path).is_file()]


def github_anchors(text: str) -> set[str]:
    """The anchors that GitHub gives to the headings of a Markdown text."""
    text = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    headings = [re.sub(r"[`*\[\]]", "", heading) for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE)]
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [*MARKDOWN, *sorted((ROOT / "docs").glob("*.md"))], ids=lambda p: p.name)
def test_anchors_of_markdown_links_exist(page: Path) -> None:
    """Links are followed on GitHub too, where anchors are made in another way than on the site."""
    text = page.read_text(encoding="utf-8")
    for target, anchor in re.findall(r"\]\(((?!https?:)[^)#\s]*)(?:#([^)\s]+))?\)", text):
        path = page.parent / target if target else page
        assert path.exists(), f"{page.name}: {target}"
        if anchor:
            assert anchor in github_anchors(path.read_text(encoding="utf-8")), (
                f"{page.name}: {target}#{anchor}"
            )
