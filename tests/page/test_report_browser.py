"""The report in a browser: it opens from disk, finds and plays wrong clips, and runs no foreign text."""

from pathlib import Path
from typing import Any

import pytest

from mmpt.evaluators.reports.view import ShownClip, make_view
from mmpt.page.report import report_html
from mmpt.processors.fingerspelling import find_lexicon, read_index
from tests.page.conftest import Window
from tests.page.test_report import HOSTILE, answers

LETTERS = ["A", "B", "C", "D"]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve clips of four letters in three sign languages; three are wrong."""
    rows = [row for row in read_index(find_lexicon(None)) if row.letter in LETTERS]
    languages = ["gsg", "ase", "sgg"]
    chosen = [
        next(row for row in rows if row.letter == letter and row.language == language)
        for language in languages
        for letter in LETTERS
    ]
    truth = [LETTERS.index(row.letter) for row in chosen]
    given = [*truth]
    given[1], given[6], given[10] = 0, 0, 3
    clips = [ShownClip(f"{row.language}/{row.letter}", row.path, language=row.language) for row in chosen]
    prompts = [f"Fingerspell the letter {letter}." for letter in LETTERS]
    table = {"title": "Metrics", "header": ["metric", "value"], "rows": [["V2T R@1", "0.7500"]]}
    lines = {"facts": ["12 clips"], "warnings": []}
    view = make_view("letters", lines, [table], [answers(truth, given, prompts)], clips)
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(report_html(view), encoding="utf-8")
    return path


@pytest.mark.parametrize("window", [(1280, "light"), (390, "dark")], indirect=True)
def test_report_opens_from_disk_and_plays_a_wrong_clip(window: Window, report: Path) -> None:
    page = window.page
    page.goto(report.as_uri())
    page.get_by_role("button", name="C taken for A: 1 clip").click()
    assert page.locator(".count").inner_text() == "1 clip"
    detail = page.locator(".detail")
    assert detail.locator("dd").all_inner_texts()[:2] == [
        "Fingerspell the letter C.",
        "Fingerspell the letter A.",
    ]
    canvases = detail.locator("canvas")
    assert canvases.count() == 2 and window.plays(canvases.first) and window.plays(canvases.last)
    assert window.fits() and window.errors == [] and window.requests == [report.as_uri()]


def test_report_filters_and_keys(window: Window, report: Path) -> None:
    page = window.page
    page.goto(report.as_uri())
    shown = lambda: page.locator(".clips small").all_inner_texts()  # noqa: E731
    assert shown() == ["gsg/B", "ase/C", "sgg/C"]
    page.get_by_label("Correct prompt").select_option("Fingerspell the letter C.")
    assert shown() == ["ase/C", "sgg/C"]
    page.get_by_label("Language").select_option("sgg")
    assert shown() == ["sgg/C"]
    page.get_by_label("Language").select_option("")
    page.get_by_label("Correct prompt").select_option("")
    page.get_by_label("Show correct clips").check()
    assert len(shown()) == 12
    page.get_by_label("Id").fill("ASE/")
    assert shown() == [f"ase/{letter}" for letter in LETTERS]
    page.locator(".clips button").first.focus()
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.textContent").endswith("ase/B")
    assert page.locator(".detail dd").last.inner_text() == "ase/B"
    first = page.locator(".matrix button").first
    first.focus()
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.title") == "B taken for A: 1 clip"
    page.keyboard.press("Enter")
    assert shown() == []  # the id filter stays
    assert window.errors == []


def test_report_of_hostile_names_runs_nothing(window: Window, tmp_path: Path) -> None:
    clips = [ShownClip(name, None, None, name, name, name) for name in HOSTILE]
    table = {"title": HOSTILE[0], "header": HOSTILE, "rows": [HOSTILE]}
    lines: dict[str, Any] = {"facts": HOSTILE, "warnings": HOSTILE}
    view = make_view(HOSTILE[0], lines, [table], [answers([0, 1, 2, 3], [1, 1, 0, 3], HOSTILE)], clips)
    path = tmp_path / "report.html"
    path.write_text(report_html(view), encoding="utf-8")
    window.page.goto(path.as_uri())
    assert window.page.locator("h2").inner_text() == HOSTILE[0]
    assert window.page.locator(".detail dd").first.inner_text() == HOSTILE[0]
    assert window.page.evaluate("window.hacked") is None
    assert window.page.locator("img, #results script").count() == 0 and window.errors == []
