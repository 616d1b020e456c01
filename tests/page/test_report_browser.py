"""The report in a browser: it opens from disk, finds and plays wrong clips, and runs no foreign text."""

import re
from pathlib import Path
from typing import Any

import pytest

from mmpt.evaluators.reports import view as view_module
from mmpt.evaluators.reports.view import Answers, ShownClip, make_view
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


def test_report_filters_are_in_its_address(window: Window, report: Path) -> None:
    """A link shows the clips that its sender saw, also in a report that is open."""
    page = window.page
    address = lambda: page.evaluate("location.href")  # noqa: E731
    shown = lambda: page.locator(".clips small").all_inner_texts()  # noqa: E731
    page.goto(report.as_uri())
    assert address() == report.as_uri()
    page.get_by_role("button", name="C taken for A: 1 clip").click()
    page.get_by_label("Show correct clips").check()
    page.get_by_label("Id").fill("C")
    link, seen = address(), shown()
    assert seen == ["ase/C"] and "Fingerspell+the+letter+C." in link
    page.goto("about:blank")
    page.goto(link)
    assert shown() == seen and page.get_by_label("Show correct clips").is_checked()
    assert page.get_by_label("Id").input_value() == "C" and address() == link
    page.get_by_role("combobox", name="Predicted prompt").select_option("")
    page.get_by_label("Id").fill("")
    assert shown() == ["gsg/C", "ase/C", "sgg/C"] and "given" not in address() and "id=" not in address()
    page.evaluate("link => location.assign(link)", link)
    page.wait_for_function("document.querySelectorAll('.clips small').length == 1")
    page.goto(report.as_uri() + "#?truth=no+such+prompt&language=sgg&other=1")
    page.wait_for_function("document.querySelector('.clips small')?.textContent == 'sgg/C'")
    assert shown() == ["sgg/C"] and window.errors == []
    assert page.locator(".warning").all_inner_texts() == [
        "No clip of the list has correct prompt \u2068no such prompt\u2069, as in the address."
    ]


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


def test_report_of_some_clips_says_so(
    window: Window, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(view_module, "CLIPS", 3)
    clips = [ShownClip(f"clip {n}") for n in range(5)]
    show(window, tmp_path, answers([0, 0, 1, 1, 1], [0, 1, 1, 1, 0], ["A", "B"]), clips)
    count = window.page.locator(".count")
    assert count.inner_text() == "2 clips of the 2 that are listed"
    window.page.get_by_role("button", name="B taken for B: 2 clips").click()
    assert count.inner_text() == "0 clips of the 2 that are listed"


def test_report_of_right_to_left_prompts_reads_from_right_to_wrong(window: Window, tmp_path: Path) -> None:
    show(window, tmp_path, answers([0], [1], ["\u05d0\u05d0", "\u0628\u0628"]), [ShownClip("clip")])
    places = """() => {
        const text = document.querySelector(".clips span").firstChild;
        const range = document.createRange();
        return ["\u05d0", "\u2192", "\u0628"].map((letter) => {
            range.setStart(text, text.data.indexOf(letter));
            range.setEnd(text, text.data.indexOf(letter) + 1);
            return range.getBoundingClientRect().x;
        });
    }"""
    truth, arrow, given = window.page.evaluate(places)
    assert truth < arrow < given


@pytest.mark.parametrize("window", [(1280, "light"), (1280, "dark")], indirect=True)
def test_report_numbers_of_the_matrix_have_contrast(window: Window, report: Path) -> None:
    window.page.goto(report.as_uri())
    colours = """(buttons) => buttons.map((button) => {
        const style = getComputedStyle(button);
        return [style.color, style.backgroundColor];
    })"""
    found = window.page.locator(".matrix button").evaluate_all(colours)
    assert len(found) > 4
    for pair in found:
        low, high = sorted(map(luminance, pair))
        assert (high + 0.05) / (low + 0.05) >= 4.5  # WCAG 2, level AA


def luminance(colour: str) -> float:
    """The relative luminance (WCAG 2) of "rgb(...)" or "color(srgb ...)"."""
    numbers = [float(number) for number in re.findall(r"[\d.]+", colour)][:3]
    parts = numbers if colour.startswith("color") else [number / 255 for number in numbers]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_report_prints_all_clips(window: Window, report: Path) -> None:
    window.page.goto(report.as_uri())
    window.page.get_by_label("Show correct clips").check()
    window.page.emulate_media(media="print")
    cut = "(list) => list.scrollHeight > list.clientHeight"
    assert not window.page.locator(".clips").evaluate(cut)
    window.page.emulate_media(media="screen")
    assert window.page.locator(".clips").evaluate(cut)


def test_report_says_that_a_pose_cannot_be_read(window: Window, tmp_path: Path) -> None:
    pose = {"frames": 2, "fps": 25, "width": 10, "height": 10, "data": "AAAA"}
    view = make_view("a", {"facts": [], "warnings": []}, [], [answers([0], [1])], [ShownClip("clip")])
    view["clips"][0]["pose"] = pose
    path = tmp_path / "report.html"
    path.write_text(report_html(view), encoding="utf-8")
    window.page.goto(path.as_uri())
    window.page.get_by_text("This clip: this browser cannot read its pose.").wait_for()
    assert window.errors == []


def show(window: Window, folder: Path, answer: Answers, clips: list[ShownClip]) -> None:
    """Open a report."""
    view = make_view("a", {"facts": [], "warnings": []}, [], [answer], clips)
    (folder / "report.html").write_text(report_html(view), encoding="utf-8")
    window.page.goto((folder / "report.html").as_uri())
    window.page.locator(".count").wait_for()
