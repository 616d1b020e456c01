"""The page in a browser, on a real server: try a clip, search, browse results, the check of a table."""

import base64
import contextlib
from collections.abc import Iterator
from pathlib import Path

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
    assert page.locator(".status").inner_text().startswith("broken.pose: the header cannot be parsed")
    assert page.locator("canvas").is_hidden()


def test_page_search_shows_clips_that_play(window: Window, server: Server) -> None:
    page = window.page
    _, answer = server.post("/api/search", ("prompt", PROMPTS[1]), ("k", "12"))
    with quiet(window, server):
        page.goto(f"{server.address}/#search")
        page.get_by_label("Words").fill(PROMPTS[1])
        page.keyboard.press("Enter")
        page.locator(".hits canvas").nth(11).wait_for()
        assert page.locator(".hits small").all_inner_texts() == [hit["id"] for hit in answer["hits"]]
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
        page.locator(".hits small").first.wait_for()
        assert page.locator(".hits small").first.inner_text() == rows[7][0]
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
            "Only run b is right (1)",
            "Only run a is right (1)",
            "Both are wrong (0)",
            "Both are right (4)",
        ]
        groups.select_option(texts[1])
        detail = page.locator(".detail dd").all_inner_texts()
        assert detail[:3] == [PROMPTS[4], PROMPTS[4], PROMPTS[0]]
        assert window.plays(page.locator(".detail canvas"))


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
    with serving("--model", model_folder, token="s3cret") as server:
        window.page.goto(server.address)
        window.page.get_by_text("Open the address that the server's log shows").wait_for()
        window.page.goto("about:blank")
        window.page.goto(f"{server.address}/#token=s3cret")
        window.page.get_by_role("link", name="Try").wait_for()
        assert "s3cret" not in window.page.url
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
            assert page.locator(".hits small").all_inner_texts() == expected
            assert window.plays(page.locator(".hits canvas").first)
            page.locator(".signs, .hits").evaluate_all(
                "(parts) => parts.map((part) => part.replaceChildren())"
            )
    field.fill(sign[:-1])
    page.keyboard.press("Enter")
    page.locator(".status.warning").wait_for()
    assert f"the sign '{sign[:-1]}' is not valid SignWriting" in page.locator(".status").inner_text()
