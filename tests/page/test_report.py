"""The report that opens from disk: its content, its limits, and hostile names."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmpt.evaluators.reports import view as view_module
from mmpt.evaluators.reports.results import ClipAnswers, EmbeddedSplit, make_results, read_view, save_report
from mmpt.evaluators.reports.view import Answers, ShownClip, drawn_clip, make_view
from mmpt.page.report import report_html, view_of_report
from mmpt.pose.span import Span
from mmpt.utils.errors import UserError
from tests.pose.pose_fakes import fake_clip, write_pose

HOSTILE = [
    "</script><script>window.hacked=1</script>",
    "\"><img src=x onerror='window.hacked=1'>",
    "<!--<script>",
    "{view} %s \u2028 & 'é'",
]


def answers(truth: list[int], given: list[int], classes: list[str] | None = None) -> Answers:
    names = classes or [f"sign {n}" for n in range(max([*truth, *given, -1]) + 1)]
    return Answers("V2T", "prompt", names, np.array(truth), np.array(given))


def saved(view: dict[str, Any], folder: Path) -> Path:
    path = folder / "report.html"
    path.write_text(report_html(view), encoding="utf-8")
    return path


def test_report_of_hostile_names_has_no_markup_of_theirs(tmp_path: Path) -> None:
    clips = [ShownClip(name, None, None, name, name, name) for name in HOSTILE]
    lines = {"facts": HOSTILE, "warnings": HOSTILE}
    table = {"title": HOSTILE[0], "header": HOSTILE, "rows": [HOSTILE]}
    view = make_view(HOSTILE[0], lines, [table], [answers([0, 1, 2, 3], [1, 1, 0, 3], HOSTILE)], clips)
    path = saved(view, tmp_path)
    text = path.read_text(encoding="utf-8")
    assert view_of_report(path) == view
    assert len(re.findall("<script", text)) == len(re.findall("</script", text)) == 2
    assert "<img" not in text and "<!--" not in text and "\u2028" not in text
    assert text.count("<title>&lt;/script&gt;") == 1


def test_report_allows_only_its_own_script_and_no_connection(tmp_path: Path) -> None:
    view = make_view("a", {"facts": [], "warnings": []}, [], [answers([0], [0])], [ShownClip("x")])
    text = report_html(view)
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)
    assert (
        policy and "default-src 'none'" in policy[1] and "unsafe" not in policy[1] and "http" not in policy[1]
    )
    assert not re.search(r'(?:src|href)="', text) and "import " not in text.partition("<script>")[2]


def test_report_holds_the_poses_of_spans_and_says_which_are_missing(tmp_path: Path) -> None:
    pose = write_pose(tmp_path / "a.pose", fake_clip(20))
    (tmp_path / "b.pose").write_bytes(b"no pose")
    np.save(tmp_path / "c.npy", np.zeros((3, 4)))
    clips = [
        ShownClip("a", pose),
        ShownClip("part", pose, Span(5, 12, "frames")),
        ShownClip("b", tmp_path / "b.pose"),
        ShownClip("c", tmp_path / "c.npy"),
        ShownClip("d"),
    ]
    view = make_view("t", {"facts": [], "warnings": []}, [], [answers([0] * 5, [1] * 5)], clips)
    frames = [clip["pose"] and clip["pose"]["frames"] for clip in view["clips"]]
    assert frames == [20, 7, None, None, None]
    assert view["note"].startswith("3 of 5 clips have no pose to show; the first: b: ")
    with pytest.raises(UserError, match=r"c\.npy holds features"):
        drawn_clip(clips[3])


def test_report_limits_poses_then_clips(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    monkeypatch.setattr(view_module, "POSES", 4)
    monkeypatch.setattr(view_module, "CLIPS", 9)
    monkeypatch.setattr(view_module, "drawn_clip", lambda clip: read.append(clip.id) or {})

    def of(count: int, wrong: int) -> dict[str, Any]:
        read.clear()
        given = [1] * wrong + [0] * (count - wrong)
        lines: dict[str, list[str]] = {"facts": [], "warnings": []}
        clips = [ShownClip(str(n)) for n in range(count)]
        return make_view("t", lines, [], [answers([0] * count, given)], clips)

    assert of(4, 2)["note"] == "" and read == ["0", "1", "2", "3"]
    assert "Only wrong clips have poses" in of(9, 3)["note"] and read == ["0", "1", "2"]
    assert "Without poses: 5 clips" in of(9, 5)["note"] and read == []
    many = of(30, 12)
    assert "Lists 9 of the 12 clips with a wrong answer, of 30 clips." in many["note"] and read == []
    assert len(many["clips"]) == len(many["answers"][0]["truth"]) == 9
    assert many["answers"][0]["pairs"] == [[0, 0, 18], [0, 1, 12]]
    assert of(0, 0)["clips"] == []


def test_read_view_of_a_new_and_of_an_old_folder(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    texts = rng.standard_normal((3, 4)).astype(np.float32)
    labels = np.array([0, 0, 1, 2, 2])
    videos = texts[labels] + rng.standard_normal((5, 4)).astype(np.float32)
    split = EmbeddedSplit(texts, videos, labels, ["a", "b", "c"], [f"clip {n}" for n in range(5)])
    results = make_results(split, resamples=20)
    pose = write_pose(tmp_path / "a.pose", fake_clip(3))
    clips = [ShownClip(name, pose, signer="eva") for name in split.video_ids]
    files = save_report(tmp_path / "eval", results, split, plots=False, clips=clips)
    assert tmp_path / "eval" / "report.html" in files
    new = read_view(tmp_path / "eval")
    answer = new["answers"][0]
    ids = json.loads((tmp_path / "eval" / "ids.json").read_text())
    assert answer["truth"] == ids["prompt_of_video"] and answer["given"] == ids["nearest_prompt"]
    assert answer["ranks"] == split.ranks("cosine").v2t.tolist() and answer["candidates"] == 3
    assert [clip["signer"] for clip in new["clips"]] == ["eva"] * 5 and new["clips"][0]["pose"]["frames"] == 3
    assert new["tables"][0]["rows"][0][:2] == ["T2V P@1", f"{results['t2v']['P@1']:.4f}"]
    (tmp_path / "eval" / "report.html").unlink()
    old = read_view(tmp_path / "eval")
    assert old["tables"] == new["tables"] and old["answers"][0]["pairs"] == answer["pairs"]
    assert [clip["pose"] for clip in old["clips"]] == [None] * 5
    (tmp_path / "eval" / "ids.json").write_text('{"videos": 3}')
    with pytest.raises(UserError, match=r"ids\.json"):
        read_view(tmp_path / "eval")
    with pytest.raises(UserError, match="evaluate the model first"):
        read_view(tmp_path)


def test_read_view_without_a_report_leaves_out_clips_that_were_no_query(tmp_path: Path) -> None:
    texts = np.eye(2, dtype=np.float32)
    labels = np.array([0, 1, 1])
    split = EmbeddedSplit(texts, texts[labels], labels, ["a", "b"], ["clip 0", "clip 1", "clip 2"])
    given = ClipAnswers("nearest gallery clip", "sign", np.array([-1, 1, 0]), None, np.array([np.nan, 1, 0]))
    save_report(tmp_path / "eval", make_results(split, resamples=0), split, answers=given)
    new = read_view(tmp_path / "eval")
    (tmp_path / "eval" / "report.html").unlink()
    old = read_view(tmp_path / "eval")
    assert [clip["id"] for clip in old["clips"]] == ["clip 1", "clip 2"]
    assert old["answers"][0]["given"] == new["answers"][0]["given"] == [1, 0]


def test_ranks_among_different_candidates_are_of_no_number(tmp_path: Path) -> None:
    """Clips of two groups, each ranked among the prompts of its group."""
    texts = np.eye(4, dtype=np.float32)
    groups = ["x", "x", "y", "y"]
    split = EmbeddedSplit(texts, texts, np.arange(4), list("abcd"), list("wxyz"), groups)
    save_report(tmp_path / "eval", make_results(split, resamples=0), split, plots=False)
    answer = read_view(tmp_path / "eval")["answers"][0]
    assert answer["ranks"] == [1] * 4 and answer["candidates"] is None


def test_read_view_of_a_foreign_report(tmp_path: Path) -> None:
    for text in ("", "<html>", '<script type="application/json" id="view">{"format": 2}</script>',
                 '<script type="application/json" id="view">[</script>'):  # fmt: skip
        (tmp_path / "report.html").write_text(text)
        with pytest.raises(UserError, match="not a report of signclip evaluate"):
            read_view(tmp_path)
