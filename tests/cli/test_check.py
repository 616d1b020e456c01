"""mmpt.cli.check."""

import json
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import yaml
from pose_format.pose_header import PoseHeader
from pose_format.utils.reader import BufferReader

from mmpt.cli.check import main
from mmpt.datasets.table_check import MAX_LEN, TEXT_MODEL
from mmpt.pose.clip import PoseClip
from mmpt.pose.components import POSE, RIGHT_HAND
from tests.conftest import ROOT
from tests.pose.pose_fakes import as_pose, fake_clip, write_pose
from tests.processors.table_data import table_rows, write_table


def report(table: Path) -> dict:
    return json.loads((table.parent / f"{table.stem}_check" / "check.json").read_text())


def test_check_table_without_errors(tmp_path, capsys, rendered):
    table = write_table(tmp_path / "t.csv", table_rows())
    assert main([str(table)]) == 0
    found = report(table)
    (rates,) = found["warnings"]  # one of the four languages was recorded at 30 frames per second
    assert found["errors"] == [] and found["classes"] == 6
    assert rates.startswith("the clips have different frame rates: 25 (18 clips), 30 (6 clips) frames")
    assert found["splits"]["train"]["clips"] == 12 and found["splits"]["test"]["clips_a_class"] == [1, 1]
    assert found["splits"]["train"]["signers"] == 2 and found["splits"]["test"]["without_left_hand"] == 6
    page = (tmp_path / "t_check" / "check.md").read_text()
    for picture in ("lengths.png", "clips.png"):
        assert f"({picture})" in page and (tmp_path / "t_check" / picture).stat().st_size > 10_000
    assert "| train | 12 | 6 | 2-2 | 2 |" in capsys.readouterr().out


def test_texts_that_the_model_does_not_see_whole_are_named(tmp_path, capsys):
    rows = table_rows()
    for row in rows:
        long = "word " * 80
        row["text"] = {"A": f"{long}a", "B": f"{long}b", "C": "ሰላም", "D": "D ሰላም"}.get(
            row["text"], row["text"]
        )
    assert main([str(write_table(tmp_path / "t.csv", rows))]) == 0
    warnings = "\n".join(report(tmp_path / "t.csv")["warnings"])
    assert "2 of 6 prompts have more than 61 tokens and are cut" in warnings
    assert "1 of 6 prompts have the same token ids as another one" in warnings
    assert "1 of 6 prompts hold no word that the tokenizer knows" in warnings and "'ሰላም'" in warnings
    assert "1 of 6 prompts hold words that the tokenizer does not know" in warnings


def test_texts_are_checked_as_table_yaml_reads_them():
    dataset = yaml.safe_load((ROOT / "configs" / "table.yaml").read_text())["dataset"]
    assert (dataset["bert_name"], dataset["max_len"]) == (TEXT_MODEL, MAX_LEN)


def test_everything_that_is_wrong_is_found(tmp_path, capsys):
    rows = table_rows()
    train = [row for row in rows if row["split"] == "train"]
    test = [row for row in rows if row["split"] == "test"]
    shutil.copy(train[0]["path"], tmp_path / "copy.pose")
    test[0]["path"] = "copy.pose"  # a training clip under another name
    test[1]["signer"] = train[0]["signer"]
    test[2]["text"] = "Omega"
    (tmp_path / "broken.pose").write_bytes(b"no pose")
    train[1]["path"] = "broken.pose"
    train[2]["path"] = "gone.pose"
    train[3]["text"] = "ä"
    train[4]["text"] = "a"
    write_pose(tmp_path / "handless.pose", fake_clip(frames=2, missing=1.0))
    train[5]["path"] = "handless.pose"
    table = write_table(tmp_path / "t.csv", rows)
    out = tmp_path / "page"
    assert main([str(table), "--out", str(out)]) == 1
    found = json.loads((out / "check.json").read_text())
    errors, warnings = "\n".join(found["errors"]), "\n".join(found["warnings"])
    lines = {row["id"]: number + 2 for number, row in enumerate(rows)}
    assert f"line {lines[train[1]['id']]}, column 'path': {tmp_path}/broken.pose: " in errors
    assert f"line {lines[train[2]['id']]}, column 'path': {tmp_path}/gone.pose: " in errors
    assert f"same clip is in two splits: {test[0]['id']} (test" in errors and train[0]["id"] in errors
    assert f"column 'signer': '{train[0]['signer']}' is in" in errors
    assert "Results would be too good for new signers: " in errors and "--allow-leak signers" in errors
    assert len(found["errors"]) == 4
    assert "1 of 6 classes of test have no clip in train: Omega." in warnings
    assert "2 of 9 prompts have the same token ids as another one" in warnings
    assert "'ä' as 'A', 'a' as 'A'" in warnings
    assert f"1 clip shows no hand at all: {train[5]['id']}" in warnings
    assert f"1 clip has fewer than 3 frames: {train[5]['id']}" in warnings
    assert found["splits"]["train"]["unreadable"] == 2
    assert "error: " in capsys.readouterr().out


def test_check_table_clips_that_training_refuses(tmp_path):
    """The body is missing, in a clip that is drawn and in one that is not."""
    rows = table_rows()
    clip = fake_clip(frames=4)
    shoulders = [clip.index(POSE, name) for name in ("LEFT_SHOULDER", "RIGHT_SHOULDER")]
    clip.confidence[:, shoulders] = 0
    clip.data[:, shoulders] = 0
    write_pose(tmp_path / "hidden.pose", clip)
    train = [number for number, row in enumerate(rows) if row["split"] == "train"]
    rows[train[0]]["path"] = rows[train[-1]]["path"] = "hidden.pose"
    table = write_table(tmp_path / "t.csv", rows)
    assert main([str(table)]) == 1
    errors = report(table)["errors"]
    assert len(errors) == 2 and f"line {train[-1] + 2}, column 'path': {tmp_path}/hidden.pose: " in errors[1]
    assert "none of the 4 frames has both shoulders" in errors[0]
    assert (tmp_path / "t_check" / "clips.png").is_file()


def test_check_table_glosses_with_dollars(tmp_path):
    rows = table_rows()
    for row in rows:
        row["text"] = f"$INDEX1^{row['text']}^$GEST"
    assert main([str(write_table(tmp_path / "t.csv", rows))]) == 0


def test_check_table_parses_a_recording_once(tmp_path, monkeypatch):
    from mmpt.pose import reader

    write_pose(tmp_path / "long.pose", fake_clip(frames=60))
    fields = "id,path,text,split,start_frame,end_frame\n"
    rows = [f"{n},long.pose,{n % 2},train,{5 * n},{5 * n + 5}\n" for n in range(10)]
    (tmp_path / "t.csv").write_text(fields + "".join(rows))
    read, real = [], reader.read_pose
    monkeypatch.setattr(reader, "read_pose", lambda path, **more: read.append(path) or real(path, **more))
    main([str(tmp_path / "t.csv")])
    assert read == [str(tmp_path / "long.pose")]


def test_parts_in_seconds_instead_of_milliseconds(tmp_path):
    write_pose(tmp_path / "long.pose", fake_clip(frames=60))
    splits = ("train", "train", "valid", "test")
    rows = [f"c{n},long.pose,{n % 2},{split},{0.3 * n},{0.3 * n + 0.3}\n" for n, split in enumerate(splits)]
    table = tmp_path / "t.csv"
    table.write_text("id,path,text,split,start,end\n" + "".join(rows))
    assert main([str(table)]) == 1
    (leak,), (short,) = report(table)["errors"], [w for w in report(table)["warnings"] if "fewer than" in w]
    assert leak.startswith(f"{table}: the same clip is in two splits: c0 (train, line 2), c1 (train, line 3)")
    hint = "(start and end are in milliseconds: 1.2 seconds are 1200)"
    assert short == f"4 clips have fewer than 3 frames {hint}: c0, c1, c2, c3."
    long = [f"c{n},long.pose,{n % 2},{split},{400 * n},{400 * n + 400}\n" for n, split in enumerate(splits)]
    table.write_text("id,path,text,split,start,end\n" + "".join(long[1:3] + rows[:1]))
    main([str(table), "--force"])
    assert "1 clip has fewer than 3 frames: c0." in report(table)["warnings"]


@pytest.mark.parametrize("suffix", [".pose", ".npy"])
def test_parts_that_end_after_their_recording(tmp_path, suffix):
    write_pose(tmp_path / "long.pose", fake_clip(frames=60))
    np.save(tmp_path / "long.npy", np.ones((60, 2)))
    unit, rows = (
        ("ms", "0,2440\nb,{0},x,2000,9500") if suffix == ".pose" else ("frames", "0,61\nb,{0},x,50,238")
    )
    columns = "start,end" if unit == "ms" else "start_frame,end_frame"
    (tmp_path / "t.csv").write_text(f"id,path,text,{columns}\na,{{0}},x,{rows}\n".format(f"long{suffix}"))
    assert main([str(tmp_path / "t.csv")]) == 0
    (warning,) = [line for line in report(tmp_path / "t.csv")["warnings"] if "ends later" in line]
    part = (
        "part 2000-9500 ms, recording 2400 ms" if unit == "ms" else "part 50-238 frames, recording 60 frames"
    )
    cut = "1 clip is cut where the recording ends, because the part ends later"
    assert warning == f"{cut}: b (line 3: {part})."


def test_parts_in_columns_of_other_names(tmp_path):
    write_pose(tmp_path / "long.pose", fake_clip(frames=60))
    for columns, hinted in (("begin,stop", True), ("start,end", False)):
        (tmp_path / "t.csv").write_text(f"id,path,text,{columns}\na,long.pose,x,0,400\nb,long.pose,x,0,400\n")
        main([str(tmp_path / "t.csv"), "--force"])
        warnings = "\n".join(report(tmp_path / "t.csv")["warnings"])
        assert "the same clip occurs 2 times in " in warnings
        hint = (
            "has none of the columns start, start_ms, start_frame, end, end_ms, end_frame: if they are parts"
        )
        assert (hint in warnings) == hinted


def test_check_table_allow_leak(tmp_path, capsys):
    rows = [{**row, "signer": "one"} for row in table_rows()]
    table = write_table(tmp_path / "t.csv", rows)
    assert main([str(table)]) == 1
    assert "\n1 error, 1 warning; " in capsys.readouterr().out
    assert main([str(table), "--allow-leak", "signers"]) == 0
    assert "\n0 errors, 2 warnings; " in capsys.readouterr().out
    assert any("'one' is in" in line for line in report(table)["warnings"])


def test_check_table_of_features(tmp_path):
    np.save(tmp_path / "a.npy", np.ones((5, 8), np.float32))
    np.save(tmp_path / "b.npy", np.ones((9, 8), np.float32))
    (tmp_path / "t.csv").write_text("id,path,text,split,start_frame\na,a.npy,x,train,\nb,b.npy,x,test,2\n")
    assert main([str(tmp_path / "t.csv")]) == 0
    found = report(tmp_path / "t.csv")
    assert found["splits"]["test"]["frames"] == [7, 7.0, 7]
    assert "no signer is given" in "\n".join(found["warnings"])
    assert not (tmp_path / "t_check" / "clips.png").exists()


@pytest.mark.parametrize(
    "table, words",
    [("id,path,text\na,a.mp4,x\n", "is a video; extract first"), ("id,path\n", "there is no column text")],
)
def test_check_table_errors_and_status_2(tmp_path, capsys, table, words):
    (tmp_path / "t.csv").write_text(table)
    assert main([str(tmp_path / "t.csv")]) == 2
    assert words in capsys.readouterr().err


def test_check_table_left_handed_signer(tmp_path):
    rows = [{**row, "left_handed": "false"} for row in table_rows()]
    write_pose(tmp_path / "left.pose", one_hand := fake_clip(frames=8, missing=0))
    right = one_hand.layout.columns(RIGHT_HAND)
    one_hand.confidence[:, right] = 0
    one_hand.data[:, right] = 0
    write_pose(tmp_path / "left.pose", one_hand)
    chosen = next(row for row in rows if row["split"] == "test")
    chosen["path"], chosen["left_handed"] = "left.pose", "true"
    assert main([str(write_table(tmp_path / "t.csv", rows))]) == 0
    assert report(tmp_path / "t.csv")["splits"]["test"]["without_right_hand"] == 0
    assert not any("left-handed" in line for line in report(tmp_path / "t.csv")["warnings"])
    other = next(row for row in rows if row["split"] == "valid")
    other["left_handed"] = "true"  # its left hand is never visible
    assert main([str(write_table(tmp_path / "t.csv", rows))]) == 0
    found = report(tmp_path / "t.csv")
    assert found["splits"]["valid"]["without_right_hand"] == 1
    told = f"marked as left-handed, but only the right hand is visible: {other['id']}"
    assert any(told in line for line in found["warnings"])


def test_check_table_feature_dimensions_and_mirroring(tmp_path):
    for name, shape in (("a", (5, 8)), ("b", (9, 8)), ("c", (5, 6)), ("d", (5, 8))):
        np.save(tmp_path / f"{name}.NPY".lower(), np.ones(shape, np.float32))
    (tmp_path / "d.npy").rename(tmp_path / "d.NPY")
    lines = [
        "id,path,text,split,left_handed",
        *(f"{n},{n}.npy,x,train,{n == 'b'}" for n in "abc"),
        "d,d.NPY,x,train,false",
    ]
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    assert main([str(tmp_path / "t.csv")]) == 1
    first, second = report(tmp_path / "t.csv")["errors"]
    assert "line 3" in first and "cannot be mirrored" in first
    assert "line 4, column 'path': feature dimension 6, but 8 in most clips" in second


def test_frame_rates_are_shown_and_mixed_ones_are_a_warning(tmp_path, capsys):
    rows = [row for row in table_rows() if row["split"] != "test"]
    assert main([str(write_table(tmp_path / "t.csv", rows))]) == 0
    found = report(tmp_path / "t.csv")
    assert "| frames per second |" in (tmp_path / "t_check" / "check.md").read_text()
    assert not any("frame rates" in line for line in found["warnings"])
    slow = fake_clip(frames=8, missing=0)
    write_pose(tmp_path / "fast.pose", PoseClip(slow.data, slow.confidence, 59.94, slow.layout, slow.width))
    next(row for row in rows if row["split"] == "valid")["path"] = "fast.pose"
    assert main([str(write_table(tmp_path / "t.csv", rows))]) == 0
    assert report(tmp_path / "t.csv")["splits"]["valid"]["fps"] == {"25": 5, "59.94": 1}
    said = capsys.readouterr().out
    assert "the clips have different frame rates: 25 (17 clips), 59.94 (1 clip)" in said
    assert "25, 59.94 |" in said


def test_parts_in_milliseconds_of_poses_with_integer_rates_are_a_warning(tmp_path):
    pose = as_pose(fake_clip(frames=8, missing=0))
    for version in (0.1, 0.2):
        pose.header.version = version
        with open(tmp_path / f"{version}.pose", "wb") as file:
            pose.write(file)
        content = bytearray((tmp_path / f"{version}.pose").read_bytes())
        if version == 0.1:  # pose-format writes 0.2 only
            content = _as_version_0_1(content)
        (tmp_path / f"{version}.pose").write_bytes(content)
    (tmp_path / "t.csv").write_text(
        "id,path,text,start,end\na,0.1.pose,x,40,80\nb,0.2.pose,x,40,80\nc,0.1.pose,x,,\n"
    )
    main([str(tmp_path / "t.csv")])
    (warning,) = [line for line in report(tmp_path / "t.csv")["warnings"] if "cut in milliseconds" in line]
    assert warning.startswith("1 clip is cut in milliseconds from .pose files") and warning.endswith(": a.")


def _as_version_0_1(content: bytearray) -> bytes:
    """The bytes of a pose of version 0.2 as version 0.1 stores them: rate and frames are 16 bits each."""
    reader = BufferReader(bytes(content))
    PoseHeader.read(reader)
    start = reader.read_offset
    fps, frames, people = struct.unpack_from("<fIH", content, start)
    head = struct.pack("<f", 0.1) + content[4:start]
    return bytes(head + struct.pack("<HHH", int(fps), frames, people) + content[start + 10 :])


def test_a_table_that_training_refuses_is_a_warning(tmp_path):
    rows = table_rows()
    for kept, words in (
        (("train", "test"), "no clip is of split valid: training refuses the table unless"),
        (("valid",), "no clip is of split train: training refuses the table."),
    ):
        main([str(write_table(tmp_path / "t.csv", [row for row in rows if row["split"] in kept]))])
        assert any(line.startswith(words) for line in report(tmp_path / "t.csv")["warnings"])
    without = [{name: cell for name, cell in row.items() if name != "split"} for row in rows]
    main([str(write_table(tmp_path / "t.csv", without))])
    assert "there is no column 'split'" in "\n".join(report(tmp_path / "t.csv")["warnings"])
