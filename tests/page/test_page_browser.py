"""The page in a browser, on a real server: try a clip, search, browse results, the check of a table."""

import base64
import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from signwriting.formats.fsw_to_swu import fsw2swu

from mmpt.embedding.embedder import SignCLIP
from mmpt.evaluators.reports.results import EmbeddedSplit, make_results, save_report
from mmpt.evaluators.reports.view import ShownClip
from mmpt.processors.table_file import read_table
from mmpt.search import Embeddings, Index, build_index
from mmpt.signwriting.alphabets import signs_of_letter
from tests.conftest import untrained, write_tiny
from tests.page.conftest import Window

pytest.importorskip("starlette", reason="the extra `serve` is not installed")
from tests.serving.servers import Server, serving

PROMPTS = [f"Fingerspell the letter {letter}." for letter in "ABCDEF"]
HOSTILE = '<img src=x onerror="window.hacked=1">'
CHECK = rf"""# table.csv: {HOSTILE.replace("<", chr(92) + "<")}

| split | clips | classes |
|---|---:|---:|
| train | 12 | 6 |

## Warnings

- the clip a \| b is <script>window.hacked=1</script> short

![lengths](lengths.png)

![other](../../secret.png)
"""
ANSWERS = {"run a": [0, 1, 2, 3, 4, 0], "run b": [0, 1, 2, 3, 0, 5]}


def evaluation(folder: Path, given: list[int], clips: list[ShownClip]) -> None:
    """Results of six clips of six prompts, with these answers."""
    texts = np.eye(6, dtype=np.float32)
    split = EmbeddedSplit(texts, texts[given], np.arange(6), PROMPTS, [clip.id for clip in clips])
    results = make_results(split, resamples=10) | {"split": "test"}
    save_report(folder / "eval", results, split, plots=False, clips=clips)


@pytest.fixture(scope="module")
def rows(small_table: Path) -> list[tuple[str, Path]]:
    """Id and file of each clip of the index."""
    return [(row.id, row.path) for row in read_table(small_table).rows]


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory, data_dir: Path, pose_cache: Path) -> Path:
    """A model that reads SignWriting too."""
    folder = tmp_path_factory.mktemp("model")
    config = write_tiny(folder, data_dir, pose_cache)
    config.write_text(f"includes: [package:signwriting]\n{config.read_text()}")
    return untrained(config, folder / "model")


@pytest.fixture(scope="module")
def model(model_folder: Path) -> SignCLIP:
    return SignCLIP.from_pretrained(model_folder, "cpu")


@pytest.fixture(scope="module")
def index(model: SignCLIP, rows: list[tuple[str, Path]], tmp_path_factory: pytest.TempPathFactory) -> Index:
    vectors = model.embed_pose([path for _, path in rows])
    embeddings = Embeddings(vectors, [name for name, _ in rows], model.fingerprint)
    return build_index([embeddings], tmp_path_factory.mktemp("search") / "index")


@pytest.fixture(scope="module")
def server(
    model_folder: Path,
    index: Index,
    small_table: Path,
    rows: list[tuple[str, Path]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Server]:
    """A server with everything."""
    folder = tmp_path_factory.mktemp("served")
    (folder / "prompts.txt").write_text("\n".join(PROMPTS))
    clips = [ShownClip(name, path, signer="eva", language=name[:3]) for name, path in rows[-6:]]
    for name, given in ANSWERS.items():
        evaluation(folder / "runs" / name, given, clips)
    check = folder / "check"
    check.mkdir()
    (check / "check.md").write_text(CHECK)
    from matplotlib.figure import Figure

    Figure(figsize=(2, 1)).savefig(check / "lengths.png")
    words = ["--model", model_folder, "--index", index.folder, "--clips", small_table, "--data", check]
    words += ["--prompts", folder / "prompts.txt", "--results", folder / "runs"]
    with serving(*words) as running:
        yield running


@contextlib.contextmanager
def quiet(window: Window, server: Server) -> Iterator[None]:
    """No error is logged, nothing asks another host, and nothing is wider than the window."""
    yield
    assert window.errors == []
    assert all(url.startswith((server.address, "blob:", "data:")) for url in window.requests)
    assert window.fits()
    texts = window.page.locator("textarea, input[type=search]").evaluate_all(
        "(texts) => texts.map((text) => text.form?.action)"
    )
    assert all(action == f"{server.address}/search" for action in texts)  # Chrome asks Google about others


@pytest.mark.parametrize("window", [(390, "dark")], indirect=True)  # the other tests: 1280, light
def test_page_ranks_a_dropped_pose_as_the_api_does(
    window: Window, server: Server, rows: list[tuple[str, Path]]
) -> None:
    page, path = window.page, rows[2][1]
    _, answer = server.post("/api/rank", ("clip", path.read_bytes()))
    expected = [one["prompt"] for one in answer["clips"][0]["ranked"]]
    with quiet(window, server):
        page.goto(server.address)
        drop = """([zone, content, name]) => {
            const data = new DataTransfer();
            const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
            data.items.add(new File([bytes], name));
            zone.dispatchEvent(new DragEvent("drop", {dataTransfer: data, bubbles: true, cancelable: true}));
        }"""
        content = base64.b64encode(path.read_bytes()).decode()
        page.evaluate(drop, [page.locator(".drop").element_handle(), content, "a.pose"])
        page.locator(".ranked .prompt").first.wait_for()
        assert page.locator(".ranked .prompt").all_inner_texts() == expected
        assert window.plays(page.locator("canvas"))
        page.get_by_label("Prompts, one per line").fill("a house\n\n a tree ")
        page.get_by_role("button", name="Rank the prompts").click()
        page.locator(".ranked li:nth-child(2):last-child").wait_for()
        assert set(page.locator(".ranked .prompt").all_inner_texts()) == {"a house", "a tree"}


def test_page_says_why_a_file_is_refused(window: Window, server: Server, tmp_path: Path) -> None:
    page = window.page
    page.goto(server.address)
    (tmp_path / "broken.pose").write_bytes(b"no pose")
    page.set_input_files("input[type=file]", tmp_path / "broken.pose")
    page.locator(".status.warning").wait_for()
    refusal = page.locator(".status.warning").inner_text()
    assert refusal.startswith("broken.pose: the header cannot be parsed")
    assert page.locator("canvas").is_hidden()


def test_page_ranks_from_one_beside_warnings(
    window: Window, server: Server, rows: list[tuple[str, Path]]
) -> None:
    page = window.page
    page.goto(server.address)
    page.get_by_label("Prompts, one per line").fill("a house\n\U0001f600")
    page.set_input_files("input[type=file]", rows[2][1])
    warning = page.get_by_role("form", name="Prompts").locator(".warning")
    warning.wait_for()
    assert "1 of 2 prompts" in warning.inner_text()
    assert page.locator("ol.ranked > li").count() == page.locator("ol.ranked .prompt").count() == 2


def hold_first(page: Any, path: str) -> list[Any]:
    """The first request of a path waits until the returned one is continued."""
    held: list[Any] = []
    page.route(path, lambda route: route.continue_() if held else held.append(route))
    return held


def late(page: Any, path: str, held: list[Any]) -> None:
    """Answer the request that waits, until the page has the answer."""
    with page.expect_response(path):
        held[0].continue_()
    page.unroute(path)
    page.wait_for_timeout(200)


def test_page_shows_what_was_asked_last(window: Window, server: Server, rows: list[tuple[str, Path]]) -> None:
    """An answer that arrives late does not replace that of a later request."""
    page, asked = window.page, lambda path: f"{server.address}{path}"
    page.goto(server.address)
    page.locator(".drop").wait_for()
    held = hold_first(page, asked("/api/pose"))
    for number in (0, 1):
        page.set_input_files("input[type=file]", rows[number][1])
        page.wait_for_timeout(200)
    page.locator(".ranked .prompt").first.wait_for()
    late(page, asked("/api/pose"), held)
    assert page.locator("figcaption").inner_text() == rows[1][1].name

    page.goto(f"{server.address}/#search")
    held = hold_first(page, asked("/api/search"))
    for text in (PROMPTS[0], PROMPTS[1]):
        page.get_by_label("Words").fill(text)
        page.keyboard.press("Enter")
        page.wait_for_timeout(200)
    page.locator(".hits canvas").nth(11).wait_for()
    expected = page.locator(".hits figcaption").all_inner_texts()
    late(page, asked("/api/search"), held)
    assert page.locator(".hits figcaption").all_inner_texts() == expected

    page.goto(f"{server.address}/#results")
    page.locator("h2").first.wait_for()
    held = hold_first(page, "**/api/results/*")
    for run in ("run b", "run a"):
        page.locator("select").first.select_option(run)
        page.wait_for_timeout(200)
    page.get_by_role("button", name="F taken for A: 1 clip").wait_for()
    late(page, "**/api/results/*", held)
    assert page.get_by_role("button", name="F taken for A: 1 clip").count() == 1


def test_page_says_that_an_answer_is_cut_and_shows_no_other_run(window: Window, server: Server) -> None:
    page = window.page
    page.goto(f"{server.address}/#results")
    page.locator("h2").first.wait_for()
    page.route("**/api/results/*", lambda route: route.fulfill(status=200, body='{"answers": ['))
    page.locator("select").first.select_option("run b")
    page.locator(".status.warning").wait_for()
    page.unroute("**/api/results/*")
    assert page.locator(".status").inner_text().startswith("The server does not answer, or not to the end")
    assert page.locator("h2").count() == 0


def test_page_takes_one_file_and_the_same_file_again(window: Window, server: Server, tmp_path: Path) -> None:
    page = window.page
    page.goto(server.address)
    drop = """(zone) => {
        const data = new DataTransfer();
        for (const name of ["a.pose", "b.pose"]) data.items.add(new File(["a"], name));
        zone.dispatchEvent(new DragEvent("drop", {dataTransfer: data, bubbles: true, cancelable: true}));
    }"""
    page.locator(".drop").evaluate(drop)
    page.locator(".status.warning").wait_for()
    assert page.locator(".status.warning").inner_text() == "Got 2 files; expected one."
    (tmp_path / "broken.pose").write_bytes(b"no pose")
    page.set_input_files("input[type=file]", tmp_path / "broken.pose")
    assert page.locator("input[type=file]").input_value()
    with page.expect_file_chooser():
        page.locator("input[type=file]").click()
    assert page.locator("input[type=file]").input_value() == ""  # so that choosing it is a change


def test_page_compares_runs_that_differ(window: Window, server: Server) -> None:
    """Rows and chance of both runs, answers of one name, right-to-left prompts, and what is not listed."""
    first, second = (server.json("GET", f"/api/results/run%20{name}")[1] for name in "ab")
    names = ["x" * 60, "two words " * 10]
    second["tables"][0]["rows"][0][3] = "0.9999"
    second["tables"][0]["rows"].append(["V2T other", "0.5", "0-1", "-"])
    second["answers"].insert(0, {**second["answers"][0], "name": "other", "given": [0] * 6})
    second["clips"], second["note"] = second["clips"][:5], "Lists 5 clips."
    second["warnings"] = [HOSTILE]
    first["answers"][0]["labels"][:2] = ["\u05d0\u05d0", "\u05d1\u05d1"]
    page = window.page
    with quiet(window, server):
        page.goto(server.address)
        page.locator(".drop").wait_for()
        show = """async ([first, second, names]) => {
            const { compareView } = await import("/page/results.js");
            document.getElementById("main").replaceChildren(compareView(first, second, names));
        }"""
        page.evaluate(show, [first, second, names])
        cells = [line.split("\t") for line in page.locator("tbody tr").all_inner_texts()]
        assert cells[0][-2:] == [first["tables"][0]["rows"][0][3], "0.9999"]
        assert cells[-1] == ["V2T other", "-", "0.5", "-", "0-1", "-", "-"]
        assert [text.startswith("chance, ") for text in page.locator("thead th").all_inner_texts()][-2:] == [
            True, True]  # fmt: skip
        warnings = page.locator(".warning").all_inner_texts()
        assert warnings[:2] == [f"\u2068{names[1]}\u2069: {line}" for line in (HOSTILE, "Lists 5 clips.")]
        assert "does not list are not compared" in warnings[2]
        groups = page.get_by_role("combobox", name="Clips", exact=True).locator("option").all_inner_texts()
        assert [group.rpartition(" ")[2] for group in groups] == ["(0)", "(1)", "(0)", "(4)"]
        assert "(nearest prompt)" in page.locator(".results > p").all_inner_texts()[-2]
        page.set_viewport_size({"width": 360, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        page.evaluate(show, [first | {"answers": []}, second, names])
        assert page.locator("tbody tr").count() == len(cells) and page.locator(".clips").count() == 0


def test_page_draws_a_matrix_of_very_many_pairs(window: Window, server: Server) -> None:
    page = window.page
    page.goto(server.address)
    page.locator(".drop").wait_for()
    most = """async () => {
        const { confusionMatrix } = await import("/page/matrix.js");
        const pairs = Array.from({ length: 200_000 }, (_, n) => [n % 500, Math.floor(n / 500), 1]);
        const classes = Array.from({ length: 500 }, (_, n) => `sign ${n}`);
        return confusionMatrix({ noun: "sign", classes, labels: classes, pairs }, () => {}).innerText;
    }"""
    assert "The 40 of 500 with most errors." in page.evaluate(most)


def test_page_search_shows_clips_that_play(window: Window, server: Server) -> None:
    page = window.page
    _, answer = server.post("/api/search", ("prompt", PROMPTS[1]), ("k", "12"))
    with quiet(window, server):
        page.goto(f"{server.address}/#search")
        page.get_by_label("Words").fill(PROMPTS[1])
        page.keyboard.press("Enter")
        page.locator(".hits canvas").nth(11).wait_for()
        assert page.locator(".hits figcaption").all_inner_texts() == [hit["id"] for hit in answer["hits"]]
        name = f"Pose: {answer['hits'][3]['id']}"
        page.get_by_role("img", name=name, exact=True).wait_for()
        for number in (0, 11):
            assert window.plays(page.locator(".hits canvas").nth(number))


def test_page_search_with_a_clip_finds_it(
    window: Window, server: Server, rows: list[tuple[str, Path]]
) -> None:
    page = window.page
    with quiet(window, server):
        page.goto(f"{server.address}/#search")
        page.get_by_text("Search with a clip").click()
        page.set_input_files("input[type=file]", rows[7][1])
        page.locator(".hits figcaption").first.wait_for()
        assert page.locator(".hits figcaption").first.inner_text() == rows[7][0]
        assert page.locator(".hits .score").first.inner_text() == "1.000"


def test_page_results_alone_and_side_by_side(window: Window, server: Server) -> None:
    page = window.page
    with quiet(window, server):
        page.goto(f"{server.address}/#results")
        page.get_by_role("button", name="F taken for A: 1 clip").click()
        assert window.plays(page.locator(".detail canvas").first)
        page.get_by_label("Compare with").select_option("run b")
        groups = page.get_by_role("combobox", name="Clips", exact=True)
        groups.wait_for()
        texts = groups.locator("option").all_inner_texts()
        assert texts == [
            "Only \u2068run b\u2069 is right (1)",
            "Only \u2068run a\u2069 is right (1)",
            "Both are wrong (0)",
            "Both are right (4)",
        ]
        groups.select_option(texts[1])
        detail = page.locator(".detail dd").all_inner_texts()
        assert detail[:3] == [PROMPTS[4], PROMPTS[4], PROMPTS[0]]
        assert window.plays(page.locator(".detail canvas"))


def test_page_link_shows_the_same_run_and_clips(window: Window, server: Server) -> None:
    page = window.page
    address = lambda: page.evaluate("location.href")  # noqa: E731
    shown = lambda: page.locator(".clips small").all_inner_texts()  # noqa: E731
    with quiet(window, server):
        page.goto(f"{server.address}/#results")
        page.get_by_role("combobox", name="Run", exact=True).select_option("run b")
        page.get_by_role("button", name="E taken for A: 1 clip").click()
        link, seen = address(), shown()
        assert "#results?run=run+b&" in link and len(seen) == 1
        page.get_by_role("link", name="Try").click()
        page.locator(".drop").wait_for()
        assert address().endswith("#try")
        page.get_by_role("link", name="Results").click()
        page.wait_for_function("link => location.href == link", arg=link)  # as it was left
        assert shown() == seen
        page.get_by_label("Compare with").select_option("run a")
        page.get_by_role("combobox", name="Clips", exact=True).wait_for()
        assert address().endswith("#results?run=run+b&with=run+a")
        page.evaluate("link => location.assign(link)", link)
        page.get_by_role("button", name="E taken for A: 1 clip").wait_for()
        assert shown() == seen and page.get_by_label("Compare with").input_value() == ""
        page.goto("about:blank")
        page.goto(f"{server.address}/#results?run=run+b&with=run+a")
        page.get_by_role("combobox", name="Clips", exact=True).wait_for()
        assert page.locator("h2").inner_text() == "\u2068run b\u2069 and \u2068run a\u2069"
        page.goto("about:blank")
        page.goto(f"{server.address}/#results?run=run+c")
        page.get_by_role("button", name="F taken for A: 1 clip").wait_for()
        gone = page.get_by_text("The address names the run \u2068run c\u2069, which is not here.")
        assert gone.count() == 1
        page.get_by_label("Compare with").select_option("run b")
        assert gone.count() == 0


def test_page_data_shows_the_check_as_text(window: Window, server: Server) -> None:
    page = window.page
    with quiet(window, server):
        page.goto(f"{server.address}/#data")
        page.locator("img.picture[src^=blob]").wait_for()
        assert page.locator("h2").inner_text() == f"table.csv: {HOSTILE}"
        assert page.locator("tbody tr").inner_text().split() == ["train", "12", "6"]
        assert page.locator("li").inner_text() == "the clip a | b is <script>window.hacked=1</script> short"
        assert page.evaluate("window.hacked") is None and page.locator(".data img").count() == 1


def test_page_by_keyboard_alone(window: Window, server: Server, rows: list[tuple[str, Path]]) -> None:
    page = window.page
    page.goto(server.address)
    page.get_by_role("link", name="Search").wait_for()
    for _ in range(2):
        page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Search"
    page.keyboard.press("Enter")
    page.get_by_label("Words").wait_for()
    page.keyboard.press("Tab")
    page.keyboard.type("A")
    page.keyboard.press("Enter")
    page.locator(".hits canvas").first.wait_for()
    assert window.errors == []


def test_page_takes_the_token_of_its_address(window: Window, model_folder: Path) -> None:
    with serving("--model", model_folder, token="s3c+r&t%41") as server:
        window.page.goto(server.address)
        window.page.get_by_text("Open the address that the server's log shows").wait_for()
        shown = re.search(r"at (http\S+)", server.log)
        assert shown and shown[1].startswith(f"{server.address}/#token=")
        window.page.goto(shown[1])  # in the same tab
        window.page.get_by_role("link", name="Try").wait_for()
        assert "token" not in window.page.url
        window.page.reload()
        window.page.get_by_role("link", name="Try").wait_for()


def test_page_search_with_a_sign(window: Window, server: Server, model: SignCLIP, index: Index) -> None:
    """A sign in SignWriting finds clips and is drawn; an invalid one is refused in our words."""
    sign = signs_of_letter("gsg", "B")[0]
    expected = [index.name(row) for row in index.search(model.embed_text([sign]), 12).rows[0]]
    page = window.page
    with quiet(window, server):
        page.goto(f"{server.address}/#search")
        field = page.get_by_label("Words, or signs in SignWriting (FSW or SWU)")
        for written in (sign, fsw2swu(sign)):
            field.fill(written)
            page.keyboard.press("Enter")
            picture = page.get_by_role("img", name=sign)
            picture.wait_for()
            assert picture.evaluate("image => image.decode().then(() => image.naturalHeight)") > 20
            assert page.locator(".hits figcaption").all_inner_texts() == expected
            assert window.plays(page.locator(".hits canvas").first)
            page.locator(".signs, .hits").evaluate_all(
                "(parts) => parts.map((part) => part.replaceChildren())"
            )
    field.fill(sign[:-1])
    page.keyboard.press("Enter")
    page.locator(".status.warning").wait_for()
    assert f"the sign '{sign[:-1]}' is not valid SignWriting" in page.locator(".status").inner_text()
