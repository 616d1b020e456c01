"""signclip spot: from recordings to CSV, ELAN, pictures, metrics and thresholds."""

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from pose_format import Pose

import mmpt
from mmpt.cli.main import main
from mmpt.config.schema import Config, DatasetConfig, ModelConfig
from mmpt.embedding.embedder import SignCLIP
from mmpt.search import Embeddings, build_index
from mmpt.spotting import (
    Recording,
    SpotOptions,
    Targets,
    Thresholds,
    WindowGrid,
    embed_windows,
    targets_of_index,
)
from mmpt.spotting.metrics import Segments
from mmpt.spotting.run import check_references
from mmpt.timed_text import read_captions, write_elan
from mmpt.utils.errors import UserError
from tests.spotting.conftest import join

GRID = ["--lengths", "0.4,0.8", "--step", "0.2"]
OPTIONS = SpotOptions(WindowGrid((0.4, 0.8), 0.2))


@pytest.fixture
def work(tmp_path: Path, poses: list[Path]) -> Path:
    """Recordings a and b with references of two texts, and a list of texts."""
    for name, clips in (("a", poses), ("b", poses[::-1])):
        spans = join(clips, tmp_path / f"{name}.pose")
        with open(tmp_path / f"{name}.csv", "w", newline="") as file:
            rows = [(start * 40, end * 40, "xy"[n % 2]) for n, (start, end) in enumerate(spans)]
            csv.writer(file).writerows([("start_ms", "end_ms", "text"), *rows, (0, 90, "unknown")])
    (tmp_path / "texts.txt").write_text("x\ny\nz\ny\n")
    return tmp_path


def spot(work: Path, model: Path, *words: object, names: str = "ab") -> int:
    recordings = [str(work / f"{name}.pose") for name in names]
    texts = [] if {"--index", "--texts"} & {*map(str, words)} else ["--texts", str(work / "texts.txt")]
    return main(["spot", *recordings, "--model", str(model), *texts, *GRID, *map(str, words)])


def rows_of(path: Path) -> list[tuple[int, int, str, str]]:
    with open(path, newline="") as file:
        return [(int(r["start_ms"]), int(r["end_ms"]), r["text"], r["score"]) for r in csv.DictReader(file)]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_thresholds_are_chosen_written_and_used_again(work, model, model_folder, capsys, caplog):
    chosen, out = work / "chosen", work / "out"
    reference = ["--reference", work]
    assert spot(work, model_folder, *reference, "--choose-threshold", "--out", chosen) == 0
    text = capsys.readouterr().out
    assert "threshold chosen by global F1 at IoU 0.3" in text and "IoU 0.5      mAP" in text
    assert "2 segments of the reference have texts that are not searched for" in caplog.text
    assert "1 of 4 lines repeat another one" in caplog.text and "cannot be read (the first" in caplog.text
    limit = json.loads((chosen / "thresholds.json").read_text())["common"]
    report = json.loads((chosen / "spotting.json").read_text())
    assert report["metrics"]["IoU 0.3"]["F1"]["value"] == report["thresholds"]["F1"] > 0

    given = ["--thresholds", chosen / "thresholds.json"]
    assert spot(work, model_folder, *given, "--out", out) == 0
    for name in "ab":
        expected = mmpt.spot(model, work / f"{name}.pose", ["x", "y", "z"], limit, OPTIONS)
        expected = [(round(1000 * d.start), round(1000 * d.end), d.text, f"{d.score:.4f}") for d in expected]
        rows = rows_of(out / f"{name}.csv")
        assert rows == expected == rows_of(chosen / f"{name}.csv") and rows
        captions = read_captions(out / f"{name}.eaf")
        assert sorted((c.start_ms, c.end_ms, c.text) for c in captions) == [row[:3] for row in rows]
        assert {caption.tier.split("-")[0] for caption in captions} == {"spotting"}
        assert (out / f"{name}.png").is_file()
    file = re.escape(str(chosen / "thresholds.json"))
    shown = capsys.readouterr().out
    assert re.search(
        rf"thresholds of {file}, chosen on 2 recordings by global F1 at IoU 0.3 \(F1 there", shown
    )
    assert "threshold chosen" not in shown
    assert spot(work, model_folder, *given, "--overlap", 0.5, "--out", work / "other") == 2
    assert "chosen with other settings (overlap: 0.2 there, 0.5 now)" in capsys.readouterr().err


def test_the_reference_of_a_longer_recording_is_a_warning(work, model, caplog):
    reference = Segments(np.array([[1.0, 2.0], [3600.0, 3601.0]]), np.array([0, 0]))
    check_references([Recording(model, work / "a.pose")], [reference])
    assert "a.pose: 1 of 2 segments of its reference start after its end" in caplog.text


@pytest.mark.parametrize(
    "change, words",
    [
        ({"common": 10**400}, "a threshold must be a finite number"),
        ({"common": 1e39}, "a threshold must be a finite number"),
        ({"chosen": {"by": "me"}}, "'chosen' must have a text 'by' and a number 'F1'"),
    ],
)
def test_a_file_of_thresholds_changed_by_hand_is_checked(tmp_path, change, words):
    Thresholds(0.5).write(tmp_path / "t.json")
    assert Thresholds.read(tmp_path / "t.json") == Thresholds(0.5)
    (tmp_path / "t.json").write_text(json.dumps(json.loads((tmp_path / "t.json").read_text()) | change))
    with pytest.raises(UserError, match=words):
        Thresholds.read(tmp_path / "t.json")


def test_thresholds_of_each_text_and_tiers_of_each_text(work, model_folder):
    out = work / "out"
    words = ["--reference", work, "--choose-threshold", "per-text", "--choose-at", "1s", "--tier-per-text"]
    assert spot(work, model_folder, *words, "--out", out, names="a") == 0
    chosen = json.loads((out / "thresholds.json").read_text())
    assert set(chosen["texts"]) == {"x", "y"} and chosen["chosen"]["by"] == "per-text F1 at within 1 s"
    tiers = {caption.tier.split("-")[0] for caption in read_captions(out / "a.eaf")}
    assert tiers == {row[2] for row in rows_of(out / "a.csv")} <= {"x", "y", "z"}
    assert json.loads((out / "spotting.json").read_text())["metrics"]["within 1 s"]["mAP"]["interval"] is None


def test_the_tiers_of_a_reference_can_be_chosen(work, model_folder, caplog):
    captions = [caption for caption in read_captions(work / "a.csv") if caption.text != "unknown"]
    write_elan(work / "a.eaf", {"letters": captions, "cores": captions[:2]}, None)
    for tier, count in (([], 6), (["--tier", "cores"], 2)):
        caplog.clear()
        words = ["--reference", work / "a.eaf", *tier, "--choose-threshold", "--out", work / f"out{count}"]
        assert spot(work, model_folder, *words, names="a") == 0
        report = json.loads((work / f"out{count}" / "spotting.json").read_text())
        assert report["thresholds"]["segments"] == count
        assert ("all 2 tiers of the reference count (cores, letters)" in caplog.text) == (not tier)


def test_an_interrupted_run_is_resumed_and_a_finished_one_kept(work, model_folder, monkeypatch, capsys):
    out, read, seen = work / "out", Recording.features, []
    (work / "b.mp4").write_bytes(b"")  # ELAN shows it

    def features(self, spans):
        seen.append(self.path.stem)
        if seen[-1] == "b" and len(seen) == 2:
            raise KeyboardInterrupt
        return read(self, spans)

    monkeypatch.setattr(Recording, "features", features)
    words = ["--threshold", 0.1, "--out", out]
    assert spot(work, model_folder, *words) == 130
    assert [path.name for path in out.rglob("*") if path.name != ".lock"] == ["peaks", "a.npz"]
    assert spot(work, model_folder, *words) == 0 and seen == ["a", "b", "b"]
    done = contents(out)
    assert b'RELATIVE_MEDIA_URL="./../b.mp4"' in done["b.eaf"] and b"MEDIA_DESCRIPTOR" not in done["a.eaf"]
    assert spot(work, model_folder, *words) == 0 and len(seen) == 3 and contents(out) == done
    capsys.readouterr()
    assert spot(work, model_folder, "--threshold", 0.2, "--out", out) == 2
    assert "holds a spotting of something else (thresholds" in capsys.readouterr().err
    assert contents(out) == done
    (out / "spotting.json").unlink()  # as if it had been interrupted
    for name in done.keys() - {"spotting.json", ".lock"}:
        (out / name).unlink()
    assert spot(work, model_folder, "--threshold", 0.2, "--out", out) == 2
    assert "a.npz holds peaks of another run (floor" in capsys.readouterr().err
    assert spot(work, model_folder, "--threshold", 0.2, "--out", out, "--force") == 0


def test_shards_and_their_merge_write_the_files_of_one_run(work, model_folder, monkeypatch, capsys):
    words = ["--threshold", 0.1, "--reference", work, "--out"]
    assert spot(work, model_folder, *words, work / "whole") == 0
    whole = capsys.readouterr().out
    out, seen, read = work / "out", [], Recording.features
    monkeypatch.setattr(
        Recording, "features", lambda self, spans: (seen.append(self.path.stem), read(self, spans))[1]
    )
    assert spot(work, model_folder, *words, out, "--shard", "2/2") == 0
    assert re.fullmatch(r"shard 2/2: 1 recording, \d+ windows\n", capsys.readouterr().out)
    assert spot(work, model_folder, *words, out, "--merge") == 2
    assert spot(work, model_folder, *words, out) == 2  # without shards
    assert "--merge: shard 1 of" in (error := capsys.readouterr().err).replace("1/2", "1")
    assert "holds shards of 2 that are not merged" in error
    assert spot(work, model_folder, *words, out, "--shard", "1/2") == 0 and seen == ["b", "a"]
    capsys.readouterr()
    lost = out / ".shards" / "2-of-2" / "peaks" / "b.npz"
    lost.rename(work / "b.npz")
    assert spot(work, model_folder, *words, out, "--merge") == 2
    assert "shard 2/2 has no peaks of" in capsys.readouterr().err
    (work / "b.npz").rename(lost)
    exact = SignCLIP.embed_text  # another processor or number of threads rounds in another way
    monkeypatch.setattr(SignCLIP, "embed_text", lambda *of: exact(*of) + np.float32(1e-7))
    for _ in range(2):
        assert spot(work, model_folder, *words, out, "--merge") == 0 and seen == ["b", "a"]
        assert capsys.readouterr().out == whole.replace(str(work / "whole"), str(out))
    files, expected = contents(out), contents(work / "whole")
    assert {k: v for k, v in files.items() if k != ".lock"} == {
        k: v for k, v in expected.items() if k != ".lock"
    }
    assert not (out / ".shards").exists()


@pytest.fixture
def damaged(work: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Recordings a as before, b that cannot be opened, and c that shows nobody; what b and c should be."""
    monkeypatch.setattr("mmpt.spotting.writing.draw_scores", lambda path, *rest: path.write_bytes(b""))
    monkeypatch.setattr("mmpt.spotting.metrics._CHANCE_RUNS", 1)
    whole = {name: (work / f"{name}.pose").read_bytes() for name in "ab"}
    shutil.copy(work / "a.csv", work / "c.csv")
    (work / "b.pose").write_bytes(whole["b"][:-1])
    pose = Pose.read(whole["a"])
    pose.body.data[:], pose.body.confidence[:] = 0, 0
    with open(work / "c.pose", "wb") as file:
        pose.write(file)
    return {"b": whole["b"], "c": whole["a"]}


def test_unreadable_recordings_are_left_out_and_tried_again(
    work, model_folder, damaged, monkeypatch, caplog, capsys
):
    words = ["--threshold", 0.1, "--reference", work, "--out"]
    assert spot(work, model_folder, *words, work / "a", names="a") == 0
    expected, out, seen, read = contents(work / "a"), work / "out", [], Recording.features
    monkeypatch.setattr(
        Recording, "features", lambda self, spans: (seen.append(self.path.stem), read(self, spans))[1]
    )
    for again in (["a", "c"], ["c"]):
        seen.clear()
        caplog.clear()
        assert spot(work, model_folder, *words, out, names="abc") == 1 and seen == again
        failures = [record.message for record in caplog.records if record.levelname == "ERROR"]
        assert [re.findall(r"failed: .*/(\w)\.pose: ", line) for line in failures] == [["b"], ["c"]]
        assert {f"a{suffix}" for suffix in (".csv", ".eaf", ".png")} <= contents(out).keys()
        assert not {"b.csv", "c.csv"} & contents(out).keys() and contents(out)["a.csv"] == expected["a.csv"]
        report = json.loads((out / "spotting.json").read_text())
        assert [row["recording"] for row in report["recordings"]] == ["a.pose"]
        assert [*report["failed"]] == ["b.pose", "c.pose"] and "b.pose: " in report["failed"]["b.pose"]
        alone = json.loads(expected["spotting.json"])
        assert report["metrics"] == alone["metrics"] and report["chance_texts"] == alone["chance_texts"]
    for name, content in damaged.items():
        (work / f"{name}.pose").write_bytes(content)
    seen.clear()
    capsys.readouterr()
    assert spot(work, model_folder, *words, out, names="abc") == 2
    assert "something else (recordings: b.pose, c.pose differ)" in capsys.readouterr().err
    assert spot(work, model_folder, *words, out, "--force", names="abc") == 0 and seen == ["b", "c"]
    assert {"b.csv", "c.csv"} <= contents(out).keys()


def test_unreadable_recordings_in_shards(work, model_folder, damaged, monkeypatch, capsys):
    words = ["--threshold", 0.1, "--out"]
    assert spot(work, model_folder, *words, work / "whole", names="abc") == 1
    out, seen, read = work / "out", [], Recording.features
    for _ in range(2):  # the second time they are tried again, and nothing else
        for shard, status in (("1/2", 1), ("2/2", 1)):
            capsys.readouterr()
            assert spot(work, model_folder, *words, out, "--shard", shard, names="abc") == status
        assert capsys.readouterr().out == "shard 2/2: 0 recordings, 0 windows\n"
        for _ in range(2):
            assert spot(work, model_folder, *words, out, "--merge", names="abc") == 1
        assert contents(out) == contents(work / "whole")
        monkeypatch.setattr(
            Recording, "features", lambda self, spans: (seen.append(self.path.stem), read(self, spans))[1]
        )
    assert set(seen) == {"c"}
    capsys.readouterr()
    assert spot(work, model_folder, *words, work / "none", names="bc") == 2
    assert "none of the 2 recordings can be read; the first: " in capsys.readouterr().err


def test_elan_has_the_best_detections_of_too_many(work, model_folder, monkeypatch, caplog, rendered):
    monkeypatch.setattr("mmpt.spotting.writing.ELAN_MOST", 3)
    assert spot(work, model_folder, "--threshold", -1, "--out", work / "out", names="a") == 0
    assert (work / "out" / "a.png").read_bytes()[:4] == b"\x89PNG"
    rows = rows_of(work / "out" / "a.csv")
    best = sorted(rows, key=lambda row: -float(row[3]))[:3]
    captions = read_captions(work / "out" / "a.eaf")
    assert {(c.start_ms, c.end_ms, c.text) for c in captions} == {row[:3] for row in best} and len(rows) > 3
    assert f"a.eaf has the 3 detections with the highest scores of {len(rows)}" in caplog.text
    report = json.loads((work / "out" / "spotting.json").read_text())["recordings"][0]
    assert (report["detections"], report["in_elan"]) == (len(rows), 3)


def test_other_peoples_files_are_kept(work, model_folder, capsys):
    (work / "mine").mkdir()
    shutil.copy(work / "a.csv", work / "mine" / "a.csv")
    before = (work / "a.csv").read_bytes()
    for out in (work / "mine", work):
        assert spot(work, model_folder, "--out", out, "--force", names="a") == 2
        assert "'a.csv', which does not belong to a spotting" in capsys.readouterr().err
        assert (out / "a.csv").read_bytes() == before and not (out / "peaks").exists()
    (work / "new" / "peaks").mkdir(parents=True)
    (work / "new" / "peaks" / "a.npz").write_bytes(b"mine")
    assert spot(work, model_folder, "--out", work / "new", "--force", names="a") == 2
    assert "was not written by this command" in capsys.readouterr().err


def test_examples_of_an_index_are_found_where_they_are(work, model, model_folder, poses, capsys):
    embeddings = work / "embeddings"
    (work / "examples").mkdir()
    for path in poses[:2]:
        shutil.copy(path, work / "examples")
    words = ["--model", str(model_folder), "--in", str(work / "examples"), "--workers", "0"]
    assert main(["embed", *words, "--out", str(embeddings)]) == 0
    index, table = work / "index", work / "names.csv"
    assert main(["search", "build", str(embeddings), "--out", str(index)]) == 0
    table.write_text("id,path,text\n" + "".join(f"{p.stem},{p.name},sign{n}\n" for n, p in enumerate(poses)))
    words = ["--index", index, "--table", table, "--one-at-a-time", "--out", work / "out"]
    assert spot(work, model_folder, *words, names="a") == 0
    targets = targets_of_index(model, index, table)
    assert targets.names == ["sign0", "sign1"]
    options = SpotOptions(OPTIONS.grid, one_at_a_time=True)
    found = mmpt.spot(model, work / "a.pose", targets, 0.5, options)
    assert [(d.text, f"{d.score:.4f}") for d in found] == [row[2:] for row in rows_of(work / "out" / "a.csv")]
    spans = join(poses, work / "again.pose")
    whole = SpotOptions(WindowGrid(((spans[0][1] - spans[0][0]) / 25,), 0.04))
    best = max(mmpt.spot(model, work / "a.pose", targets, 0.5, whole), key=lambda d: d.score)
    assert (best.text, best.start, best.score) == ("sign0", 0, pytest.approx(1, abs=1e-5))
    table.write_text("id,path,text\nother,a.pose,sign\n")
    capsys.readouterr()
    assert spot(work, model_folder, *words, names="a") == 2
    assert "has no row for 2 of 2 entries" in capsys.readouterr().err


def test_a_reference_changes_no_detection_of_texts_that_compete(work, model_folder):
    """The best text of each window is below its own threshold, which others are not."""
    scores: dict[str, list[float]] = {}
    assert spot(work, model_folder, "--threshold", -1, "--out", work / "all") == 0
    for *_, text, score in rows_of(work / "all" / "a.csv"):
        scores.setdefault(text, []).append(float(score))
    best = max(scores, key=lambda text: max(scores[text]))
    Thresholds(min(map(min, scores.values())), {best: max(scores[best]) + 0.1}).write(work / "t.json")
    words = ["--thresholds", work / "t.json", "--one-at-a-time"]
    assert spot(work, model_folder, *words, "--out", work / "without") == 0
    assert spot(work, model_folder, *words, "--reference", work, "--out", work / "with") == 0
    found = [rows_of(work / out / "a.csv") for out in ("with", "without")]
    assert found[0] == found[1] and best not in {row[2] for row in found[0]}


def test_features_of_video_models(data_dir, tmp_path, capsys):
    bert = str(data_dir / "mmfusion" / "bert")
    dataset = DatasetConfig(
        meta_processor="RWTHFSMetaProcessor",
        video_processor="VideoProcessor",
        bert_name=bert,
        max_len=32,
        max_video_len=128,
    )
    config = Config(dataset, ModelConfig(num_hidden_video_layers=2, vfeat_dim=63))
    model = SignCLIP.from_checkpoint(data_dir / "mmfusion" / "weights.safetensors", config, device="cpu")
    features = np.random.default_rng(0).normal(size=(41, 63)).astype(np.float32)
    features[20:25] = 0
    np.save(tmp_path / "a.npy", features)
    [block] = embed_windows(model, Recording(model, tmp_path / "a.npy", fps=10), OPTIONS.grid)
    for (start, stop), vector in zip(block.spans, block.vectors):
        part = features[start:stop]
        expected = model.embed_video_features([part])[0] if part.any() else np.full(model.dim, np.nan)
        np.testing.assert_allclose(vector, expected, rtol=0, atol=1e-5)
    targets = Targets.of_texts(model, ["A"])
    model.save_pretrained(tmp_path / "model")
    (tmp_path / "texts.txt").write_text("A\n")
    words = ["--model", str(tmp_path / "model"), "--texts", str(tmp_path / "texts.txt"), *GRID]
    words = ["spot", str(tmp_path / "a.npy"), *words, "--threshold", "-1", "--out", str(tmp_path / "out")]
    assert main(words) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.endswith("a.npy: features have no frame rate: give it (--fps).")
    assert main([*words, "--fps", "10"]) == 0
    found = mmpt.spot(model, tmp_path / "a.npy", targets, -1, SpotOptions(OPTIONS.grid, fps=10))
    expected = [(round(1000 * d.start), round(1000 * d.end), d.text, f"{d.score:.4f}") for d in found]
    assert rows_of(tmp_path / "out" / "a.csv") == expected and (tmp_path / "out" / "a.eaf").is_file()
    for fps in (None, 0.0, float("nan")):
        with pytest.raises(UserError, match="no frame rate"):
            Recording(model, tmp_path / "a.npy", fps=fps)


@pytest.mark.parametrize(
    "words, message",
    [
        (["--threshold", 1, "--thresholds", "x"], "--threshold and --thresholds exclude each other"),
        (["--choose-threshold"], "--choose-threshold needs --reference"),
        (["--threshold", "nan"], "--threshold nan: expected a number"),
        (["--texts", "{work}/control.txt"], r"error: the text 'a\\x0bb' to search for holds a character"),
        (["--index", "{work}/narrow"], r"of the index .*/narrow have dimension 3, those of the model "),
        (["--texts", "{work}/empty.txt"], "there is no text to search for"),
        (["--tier", "x"], "--tier needs --reference"),
        (["--lengths", "1,a"], "--lengths 1,a: expected seconds"),
        (["--lengths", "0"], "expected numbers of seconds above 0"),
        (["--step", "0"], "expected numbers of seconds above 0"),
        (["--overlap", "1"], "expected an intersection over union"),
        (["--fps", "25"], "its frame rate is in the file"),
        (["--prompt", "a sign"], "expected {text} in it"),
        (["--choose-at", "2"], "--choose-at 2: expected an IoU"),
        (["--thresholds", "no.json"], "there is no file no.json"),
        (["--thresholds", "{work}/a.csv"], "not readable as JSON"),
        (["--thresholds", "{work}/model.json"], "expected thresholds that"),
        (["--reference", "{work}/a.csv", "{work}/b.csv"], "got 2 files for 1 recordings"),
        (["--reference", "{work}/empty"], "has no reference a.eaf"),
        (["--reference", "{work}/wrong.csv"], "no text of .*wrong.csv is among those to search for"),
        (["--reference", "{work}/a.csv", "--choose-threshold", "per-text", "--one-at-a-time"], "compete"),
        (["{work}/sub/a.pose"], "would both write a.csv"),
        (["{work}/c.mp4"], "is a video; extract first"),
        (["{work}/no.pose"], "no.pose"),
    ],
)
def test_errors_are_one_line_and_status_2(work, model_folder, capsys, words, message):
    (work / "empty").mkdir()
    (work / "control.txt").write_text("a\x0bb\n")
    build_index([Embeddings(np.eye(3, dtype=np.float32), ["a", "b", "c"])], work / "narrow")
    (work / "empty.txt").write_text("\n \n")
    (work / "model.json").write_text("[]")
    (work / "wrong.csv").write_text("start_ms,end_ms,text\n0,90,elsewhere\n")
    words = [str(word).format(work=work, text="{text}") for word in words]
    assert spot(work, model_folder, *words, "--out", work / "out", names="a") == 2
    error = capsys.readouterr().err.splitlines()
    assert [line for line in error if line.startswith("error")] == error[-1:]
    assert re.search(message, error[-1]), error[-1]
    assert not (work / "out").exists()
