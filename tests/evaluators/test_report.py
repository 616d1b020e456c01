"""Results of an evaluation, their tables and the report folder."""

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmpt.evaluators import rank_metrics, similarity
from mmpt.evaluators.pictures.labels import short_labels
from mmpt.evaluators.reports import results as results_module
from mmpt.evaluators.reports.results import EmbeddedSplit, make_results, read_results, save_report
from mmpt.evaluators.reports.tables import (
    csv_text,
    format_markdown,
    format_table,
    markdown_table,
)
from mmpt.utils.errors import UserError

PROMPTS = [f"Fingerspell the letter {letter}." for letter in "ABCDE"] + ["random text"]
IDS = np.repeat(np.arange(5), 4)
VIDEO_IDS = [f"clip{i}" for i in range(20)]


def embedded(text: Any, video: Any, ids: Any = IDS, prompts: Any = None, names: Any = None) -> EmbeddedSplit:
    """A split with made-up names where none are given."""
    prompts = [f"prompt {i}" for i in range(len(text))] if prompts is None else prompts
    names = [str(i) for i in range(len(video))] if names is None else names
    return EmbeddedSplit(text, video, ids, prompts, names)


def embeddings() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    text = random.standard_normal((6, 8)).astype(np.float32)
    return text, text[IDS] + random.standard_normal((20, 8)).astype(np.float32)


@pytest.fixture
def results() -> dict[str, Any]:
    origin = {
        "checkpoint": "runs/a/best.pt",
        "config": "projects/signclip/test_a.yaml",
        "command": "python x",
    }
    return make_results(embedded(*embeddings())) | {**origin, "seed": 3}


def test_make_results_content(results: dict[str, Any]) -> None:
    text, video = embeddings()
    assert {key: results[key] for key in ("t2v", "v2t")} == rank_metrics(similarity(text, video), IDS)
    assert list(results["t2v"]) == ["P@1", "P@5", "P@10", "R@1", "R@5", "R@10", "MedianR", "MeanR"]
    assert list(results["v2t"]) == ["R@1", "R@5", "R@10", "MedianR", "MeanR"]
    assert results["intervals"]["v2t"].keys() == results["v2t"].keys()
    assert results["intervals"]["t2v"].keys() == results["t2v"].keys()
    assert (results["n_videos"], results["n_prompts"], results["similarity"]) == (20, 6, "cosine")
    assert (results["checkpoint"], results["seed"], results["command"]) == ("runs/a/best.pt", 3, "python x")
    assert results["config"] == "projects/signclip/test_a.yaml"
    assert make_results(embedded(text, video), resamples=0)["intervals"] == {}
    dot = make_results(embedded(text, video), "dot", resamples=0)
    assert dot["v2t"] == rank_metrics(similarity(text, video, "dot"), IDS)["v2t"] != results["v2t"]


def test_chance_equals_random_scores(results: dict[str, Any]) -> None:
    chance = results["chance"]
    assert chance["v2t R@1"] == 1 / 6 and chance["v2t R@10"] == 1
    assert chance["t2v P@1"] == pytest.approx(4 / 20)
    few = make_results(embedded(np.eye(3), np.eye(3), [0, 1, 2]), resamples=0)
    assert few["chance"]["t2v P@10"] == pytest.approx(few["t2v"]["P@10"]) == pytest.approx(1 / 10)
    random = np.random.default_rng(0)
    ids = random.integers(0, 12, size=40)
    expected = make_results(embedded(np.eye(12), np.ones((40, 12)), ids), resamples=0)["chance"]
    drawn = [rank_metrics(random.random((12, 40)), ids) for _ in range(400)]
    for name, value in expected.items():
        direction, metric = name.split()
        assert np.mean([metrics[direction][metric] for metrics in drawn]) == pytest.approx(value, abs=0.02), (
            name
        )


def test_save_report_folder(tmp_path: Path, results: dict[str, Any], rendered: None) -> None:
    text, video = embeddings()
    files = save_report(tmp_path / "out", results, embedded(text, video, IDS, PROMPTS, VIDEO_IDS))
    names = {
        "confusion_matrix.png",
        "ids.json",
        "per_class.png",
        "report.html",
        "results.json",
        "results.md",
        "text_embeddings.npy",
        "video_embeddings.npy",
    }
    assert {path.name for path in (tmp_path / "out").iterdir()} == {path.name for path in files} == names
    found = read_results(tmp_path / "out")
    assert found == read_results(tmp_path / "out" / "results.json") and results.items() <= found.items()
    assert set(found["files"]) == names - {"results.json"}
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "video_embeddings.npy"), video)
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "text_embeddings.npy"), text)
    ids = json.loads((tmp_path / "out" / "ids.json").read_text(encoding="utf-8"))
    assert ids["prompts"] == PROMPTS and ids["videos"] == VIDEO_IDS and ids["prompt_of_video"] == IDS.tolist()
    assert ids["nearest_prompt"] == similarity(text, video).argmax(axis=0).tolist()
    right = np.mean(np.array(ids["nearest_prompt"]) == IDS)
    assert right == results["v2t"]["R@1"]
    for picture in ("confusion_matrix.png", "per_class.png"):
        assert (tmp_path / "out" / picture).read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "out" / "results.md").read_text(encoding="utf-8")
    assert page.startswith("# test_a\n")
    for expected in ("20 clips, 6 prompts", "V2T MeanR", "`python x`", "(confusion_matrix.png)", "| A | 4 |"):
        assert expected in page


def test_save_report_without_figures_and_with_many_prompts(tmp_path: Path, rendered: None) -> None:
    """Hundreds of prompts still give pictures of a readable size and a page of a hundred lines."""
    random = np.random.default_rng(1)
    prompts = [f"sign {i}" for i in range(300)]
    ids = np.repeat(np.arange(300), 2)
    text = random.standard_normal((300, 16))
    video = text[ids] + 1.5 * random.standard_normal((600, 16))
    split = embedded(text, video, ids, prompts)
    results = make_results(split, resamples=10)
    assert 0.1 < results["v2t"]["R@1"] < 0.9
    save_report(tmp_path / "with", results, split)
    assert "The 100 prompts with the most errors, of 300." in (tmp_path / "with/results.md").read_text()
    from PIL import Image

    for picture in ("confusion_matrix.png", "per_class.png"):
        with Image.open(tmp_path / "with" / picture) as image:
            assert max(image.size) < 3000
    save_report(tmp_path / "no", results, split, plots=False)
    assert not list((tmp_path / "no").glob("*.png"))
    assert ".png" not in (tmp_path / "no" / "results.md").read_text()


def test_save_report_interrupted_leaves_the_old_results(
    tmp_path: Path, results: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never the earlier results beside new embeddings."""
    given = (results, embedded(*embeddings(), IDS, PROMPTS, VIDEO_IDS))
    save_report(tmp_path, *given)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with monkeypatch.context() as patch:
        patch.setattr(results_module, "write_json", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            save_report(tmp_path, *given)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    files = save_report(tmp_path, *given, plots=False)
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in files}, "no picture is left"


def test_embedded_split_needs_one_name_for_each_embedding() -> None:
    with pytest.raises(UserError, match="19 ids"):
        embedded(*embeddings(), IDS, PROMPTS, VIDEO_IDS[1:])
    with pytest.raises(UserError, match="5 prompts for 6"):
        embedded(*embeddings(), IDS, PROMPTS[1:], VIDEO_IDS)


def test_read_results_errors(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"results\.json: cannot be read"):
        read_results(tmp_path)
    for content, message in (
        ("{", "not the results"),
        ('{"t2v": {}}', "v2t.* missing"),
        ("[]", "t2v.* missing"),
    ):
        (tmp_path / "results.json").write_text(content)
        with pytest.raises(UserError, match=message):
            read_results(tmp_path)


def test_format_table() -> None:
    results = {
        "t2v": {"P@1": 0.5429, "P@5": 0.3543, "P@10": 0.2829, "MedianR": 1.0},
        "v2t": {"R@1": 0.2772, "R@5": 0.6898, "R@10": 0.868, "MedianR": 2.5},
        "intervals": {"t2v": {"P@1": [0.4, 0.7]}, "v2t": {"MedianR": [2.0, 3.5]}},
        "bootstrap": {"resamples": 1000, "level": 0.95},
        "chance": {"t2v P@1": 0.02857, "v2t R@1": 0.02857},
        "n_videos": 303,
        "n_prompts": 35,
        "similarity": "cosine",
        "config": "projects/signclip/test_rwthfs_scratch.yaml",
    }
    table = format_table(results).splitlines()
    assert [line.split() for line in table[:5]] == [
        ["text", "to", "video", "video", "to", "text"],
        ["P@1", "P@5", "P@10", "MedR", "R@1", "R@5", "R@10", "MedR"],
        ["test_rwthfs_scratch", "0.5429", "0.3543", "0.2829", "1", "0.2772", "0.6898", "0.8680", "2.5"],
        ["95%", "interval", "0.400-0.700", "-", "-", "-", "-", "-", "-", "2-3.5"],
        ["chance", "0.0286", "-", "-", "-", "0.0286", "-", "-", "-"],
    ]
    assert len({len(line) for line in table[1:5]}) == 1, "columns do not line up"
    assert "303 clips, 35 prompts, cosine" in table[5] and "V2T R@1 0.0286" in table[5]
    markdown = format_markdown(results).splitlines()
    assert markdown[0].startswith("|  | T2V P@1 |") and markdown[0].count("|") == markdown[2].count("|") == 10
    without = format_table(results | {"intervals": {}})
    assert "interval" not in without


def test_csv_text() -> None:
    rows = [{"config": "a, b", "v2t R@1": 0.1 + 0.2}, {"config": "c", "v2t R@1": None}]
    read = list(csv.DictReader(io.StringIO(csv_text(rows))))
    assert [row["config"] for row in read] == ["a, b", "c"]
    assert float(read[0]["v2t R@1"]) == 0.1 + 0.2 and read[1]["v2t R@1"] == ""
    assert csv_text([]) == ""


@pytest.mark.parametrize(
    ("prompts", "labels"),
    [
        (PROMPTS, ["A", "B", "C", "D", "E", "random text"]),
        (["Sign A in German Sign Language.", "Sign SCH in German Sign Language."], ["A", "SCH"]),
        (["hello", "good bye"], ["hello", "good bye"]),
        (["<en> <ase> a", "<en> <ase> b c"], ["a", "b c"]),
        (["the", "the cat", "the dog"], ["the", "cat", "dog"]),
        (["say x a", "say y a", "x a", "say z a"], ["say x a", "say y a", "x a", "say z a"]),
        (["one very long sentence indeed", "x"], ["one very long sen…", "x"]),
        ([f"{'x' * 20}{end}" for end in "AB"], ["xxxxxxxxx…xxxxxxxA", "xxxxxxxxx…xxxxxxxB"]),
        (["b", *("x" * 20 + middle + "x" * 20 for middle in "AB")], ["b", "x" * 16 + "…2", "x" * 16 + "…3"]),
        ([], []),
    ],
)
def test_short_labels(prompts: list[str], labels: list[str]) -> None:
    assert short_labels(prompts) == labels


def test_markdown_table_escapes_names() -> None:
    """SignCLIP's prompts look like HTML tags."""
    table = markdown_table(["prompt", "clips"], [["<en> <ase> a|b", "1"], ["two\nlines, *one* `x`", "2"]])
    assert table.splitlines()[2:] == ["| \\<en> \\<ase> a\\|b | 1 |", "| two lines, \\*one\\* \\`x\\` | 2 |"]


@pytest.mark.parametrize(
    "hostile",
    [
        "<img src=http://evil.example/x>",
        "![x](http://evil.example/x.png)",
        "![x][y] [y]: http://evil.example/x.png",
        "[click](http://evil.example)",
        "<script>alert(1)</script>",
        "a\n\n# heading",
        "`code` | cell",
    ],
)
def test_values_of_tables_are_no_markup(hostile: str) -> None:
    from mmpt.evaluators.reports.tables import code_span, escape_markdown

    escaped = escape_markdown(hostile)
    assert "\n" not in escaped
    assert not re.search(r"(?<!\\)<|!\[|\]\(|\]\[|\]:|(?<!\\)[`|]", escaped)
    assert escaped.replace("\\", "") == " ".join(hostile.split())
    assert code_span(hostile).count("`") == 2
    assert escape_markdown("0.5 [0.4, 0.6]") == "0.5 [0.4, 0.6]"
