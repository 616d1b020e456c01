"""Importers of published corpora, on tiny files in the corpora's own layouts."""

import dataclasses
import io
import json
import re

import numpy as np
import pytest

from mmpt.cli.check import main as check
from mmpt.extractors import conversion
from mmpt.pose.components import FACE, LEFT_HAND, POSE, RIGHT_HAND
from mmpt.pose.reader import read_pose
from mmpt.pose.span import Span
from mmpt.processors.table_file import read_table
from mmpt.processors.table_writer import read_csv, split_by, unique_ids, write_table
from mmpt.utils.errors import UserError
from scripts import import_asl_citizen, import_asl_signs, import_sem_lex, import_signsuisse, import_wlasl
from tests.pose.pose_fakes import fake_clip, write_pose

KINDS = {"face": 468, "left_hand": 21, "pose": 33, "right_hand": 21}
"""ASL Signs: kinds of landmarks in the order of its files."""


def test_unique_ids():
    assert unique_ids(["a", "a", "a-2", "a", "b"]) == ["a", "a-3", "a-2", "a-4", "b"]


@pytest.mark.parametrize(
    "content, words",
    [
        (b"Video file,Gloss\nx.mp4,gr\xfcn\n", "not UTF-8 text"),
        (b"Video file,Gloss\nx.mp4,DOG\ny.mp4\n", "line 3: expected 2 cells"),
        (b"Video file,Gloss\nx.mp4,DOG,3\n", "line 2: expected 2 cells"),
        (b'Video file,Gloss\nx.mp4,"DO', "is the file truncated"),
        (b'Video file,Gloss\nx.mp4,"DOG\ny.mp4,CAT"\n', "line 2: .* its quote is not closed"),
        (b'Video file,Gloss\n"x.mp4,DOG\ny.mp4",CAT\n', "line 2: .* its quote is not closed"),
    ],
)
def test_read_csv_of_a_truncated_file(tmp_path, content, words):
    (tmp_path / "x.csv").write_bytes(content)
    with pytest.raises(UserError, match=words):
        read_csv(tmp_path / "x.csv", ["Video file", "Gloss"])


def test_write_table_refuses_an_unreadable_table(tmp_path):
    path = tmp_path / "table.csv"
    write_table(path, [{"id": "a", "path": "a.pose", "text": "tree"}])
    before = path.read_text()
    with pytest.raises(UserError, match=r"table.csv \(not written\), line 3, column 'id'"):
        write_table(path, [{"id": "a", "path": "a.pose", "text": "tree"}] * 2)
    assert path.read_text() == before
    assert sorted(file.name for file in tmp_path.iterdir()) == [".table.files.json", "table.csv"]
    assert write_table(path, [{"id": "b", "path": "b.pose", "text": "tree"}]).path == path


def test_write_table_refuses_what_is_no_unicode(tmp_path):
    row = {"id": "a", "path": "a.pose", "text": "a \ud800"}
    with pytest.raises(
        UserError, match=r"t\.csv \(not written\): 'a,a\.pose,a \\ud800' is not valid Unicode"
    ):
        write_table(tmp_path / "t.csv", [row])
    assert not list(tmp_path.iterdir())


def test_write_table_keeps_a_table_of_others(tmp_path):
    path, rows = tmp_path / "table.csv", [{"id": "a", "path": "a.pose", "text": "tree"}]
    path.write_text("mine")
    with pytest.raises(UserError, match=r"holds 'table.csv', which does not belong to a table written by"):
        write_table(path, rows)
    assert path.read_text() == "mine"
    path.unlink()
    write_table(path, rows)
    path.write_text(path.read_text() + "b,b.pose,house\n")
    with pytest.raises(UserError, match=r"table\.csv was changed after it was written"):
        write_table(path, rows)
    assert "house" in path.read_text()


def pose(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_pose(path, fake_clip(frames=30, seed=seed))


def test_import_asl_citizen(tmp_path):
    (tmp_path / "ASL_Citizen" / "splits").mkdir(parents=True)
    for number, name in enumerate(("train", "val", "test")):
        lines = ["Participant ID,Video file,Gloss,ASL-LEX Code"]
        lines += [f"P{number},00{number}-DOG 1.mp4,DOG1,B_01_004", f"P{number},gone{number}.mp4,CAT,"]
        (tmp_path / "ASL_Citizen" / "splits" / f"{name}.csv").write_text("\n".join(lines) + "\n")
        pose(tmp_path / "poses" / f"00{number}-DOG 1.pose", number)
    arguments = ["--in", str(tmp_path / "ASL_Citizen"), "--poses", str(tmp_path / "poses")]
    assert import_asl_citizen.main([*arguments, "--out", str(tmp_path / "out")]) == 0
    rows = read_table(tmp_path / "out" / "table.csv").rows
    assert [(r.id, r.text, r.values["gloss"], r.split, r.signer) for r in rows] == [
        ("000-DOG 1", "dog1", "DOG1", "train", "P0"),
        ("001-DOG 1", "dog1", "DOG1", "valid", "P1"),
        ("002-DOG 1", "dog1", "DOG1", "test", "P2"),
    ]
    assert check([str(tmp_path / "out" / "table.csv")]) == 0


def test_import_wlasl(tmp_path):
    def instance(video, split, start, end):
        return {
            "bbox": [0, 0, 1, 1],
            "fps": 25,
            "frame_start": start,
            "frame_end": end,
            "instance_id": 0,
            "signer_id": 118,
            "source": "aslbrick",
            "split": split,
            "url": "http://x",
            "variation_id": 0,
            "video_id": video,
        }

    entries = [
        {"gloss": "book", "instances": [instance("69241", "train", 1, -1), instance("65225", "val", 11, 20)]},
        {"gloss": "drink", "instances": [instance("00335", "test", 1, -1)]},
    ]
    (tmp_path / "WLASL_v0.3.json").write_text(json.dumps(entries))
    for number, name in enumerate(("69241", "65225", "00335")):
        pose(tmp_path / "poses" / f"{name}.pose", number)
    arguments = ["--json", str(tmp_path / "WLASL_v0.3.json"), "--poses", str(tmp_path / "poses")]
    assert import_wlasl.main([*arguments, "--out", str(tmp_path / "cut"), "--classes", "1"]) == 0
    rows = read_table(tmp_path / "cut" / "table.csv").rows
    assert [(r.id, r.text, r.split, r.signer, r.span) for r in rows] == [
        ("69241", "book", "train", "118", None),
        ("65225", "book", "valid", "118", None),
    ]
    assert import_wlasl.main([*arguments, "--out", str(tmp_path / "raw"), "--raw"]) == 0
    rows = read_table(tmp_path / "raw" / "table.csv").rows
    assert rows[1].span == Span(400, 800, "ms") and rows[1].span.frames(30, 25.0) == slice(10, 20)
    assert rows[0].span.frames(30, 25.0) == slice(0, 30)
    urls = ("https://www.youtube.com/watch?v=8MbxFE_s-XQ", "https://youtu.be/8MbxFE_s-XQ")
    for video, url in zip(entries[0]["instances"], urls):  # one upload of several signs, named by YouTube
        video["url"] = url
    (tmp_path / "WLASL_v0.3.json").write_text(json.dumps(entries))
    pose(tmp_path / "poses" / "8MbxFE_s-XQ.pose", 3)
    assert import_wlasl.main([*arguments, "--out", str(tmp_path / "raw"), "--raw"]) == 0
    rows = read_table(tmp_path / "raw" / "table.csv").rows
    assert [r.path.name for r in rows] == ["8MbxFE_s-XQ.pose", "8MbxFE_s-XQ.pose", "00335.pose"]
    (tmp_path / "WLASL_v0.3.json").write_text('{"no": "list"}')
    assert import_wlasl.main([*arguments, "--out", str(tmp_path / "cut")]) == 2


def test_import_sem_lex(tmp_path):
    rng = np.random.default_rng(0)
    landmarks = rng.uniform(0.1, 0.9, (6, 553, 3))
    landmarks[2, 532:] = 0  # the right hand is not seen
    lines = ["id,video,signer,duration,split,label_type,label"]
    for split in ("train", "val", "test"):
        (tmp_path / "npy" / split).mkdir(parents=True)
        np.save(tmp_path / "npy" / split / f"{split}1.npy", landmarks)
        lines.append(f'a_{split},{split}1,s_{split},2.5,{split},asllex,"last, year "')
    lines.append("b,gone,s_test,2.5,test,asllex,dog")
    (tmp_path / "meta.csv").write_text("\n".join(lines) + "\n")
    arguments = ["--csv", str(tmp_path / "meta.csv"), "--npy", str(tmp_path / "npy")]
    assert import_sem_lex.main([*arguments, "--out", str(tmp_path / "out")]) == 0
    rows = read_table(tmp_path / "out" / "table.csv").rows
    assert [(r.id, r.text, r.split, r.signer) for r in rows] == [
        ("train1", "last, year", "train", "s_train"),
        ("val1", "last, year", "valid", "s_val"),
        ("test1", "last, year", "test", "s_test"),
    ]
    clip = read_pose(rows[0].path)
    right, seen = clip.component(RIGHT_HAND)
    assert seen.any(axis=1).tolist() == [True, True, False, True, True, True]
    np.testing.assert_allclose(right[0], landmarks[0, 532:] * [640, 480, 1], rtol=1e-5)
    np.testing.assert_allclose(clip.component(POSE)[0][1], landmarks[1, 478:511] * [640, 480, 1], rtol=1e-5)
    assert clip.component(FACE)[0].shape == (6, 478, 3) and clip.fps == 30


def landmarks_table(frames, rng):
    import pyarrow

    columns = {name: [] for name in ("frame", "row_id", "type", "landmark_index", "x", "y", "z")}
    for frame in frames:
        for kind, count in KINDS.items():
            for index in range(count):
                missing = kind == "left_hand"
                columns["frame"].append(frame)
                columns["row_id"].append(f"{frame}-{kind}-{index}")
                columns["type"].append(kind)
                columns["landmark_index"].append(index)
                for axis in "xyz":
                    columns[axis].append(None if missing else float(rng.uniform(0.1, 0.9)))
    types = {"frame": pyarrow.int16(), "landmark_index": pyarrow.int16()}
    return pyarrow.table({name: pyarrow.array(v, types.get(name)) for name, v in columns.items()}), columns


def test_import_asl_signs(tmp_path, capsys):
    from pyarrow import parquet

    rng = np.random.default_rng(0)
    source, out = tmp_path / "asl-signs", tmp_path / "out"
    lines = ["path,participant_id,sequence_id,sign"]
    for signer in (16069, 22343, 26734, 27610, 28656):
        path = source / "train_landmark_files" / str(signer) / "1000035562.parquet"
        path.parent.mkdir(parents=True)
        table, columns = landmarks_table([103, 104, 106], rng)
        parquet.write_table(table, path)
        lines.append(f"train_landmark_files/{signer}/1000035562.parquet,{signer},1000035562,blow")
    (source / "train.csv").write_text("\n".join(lines) + "\n")
    arguments = ["--in", str(source), "--out", str(out), "--workers", "0"]
    assert import_asl_signs.main(arguments) == 0
    rows = read_table(out / "table.csv").rows
    assert len(rows) == 5 and {r.split for r in rows} == {"train", "valid", "test"} and rows[0].text == "blow"
    clip = read_pose(rows[-1].path)
    assert len(clip) == 3 and clip.fps == 30
    assert not clip.component(LEFT_HAND)[1].any() and clip.component(RIGHT_HAND)[1].all()
    place = columns["row_id"].index("104-pose-7")
    expected = np.array([columns[axis][place] for axis in "xyz"]) * [720, 1280, 1]
    np.testing.assert_allclose(clip.component(POSE)[0][1, 7], expected, rtol=1e-5)
    before = rows[0].path.stat().st_mtime_ns
    assert import_asl_signs.main(arguments) == 0
    assert rows[0].path.stat().st_mtime_ns == before, "what is converted is left alone"
    table = (out / "table.csv").read_bytes()
    for option in ("--fps", "--width", "--height"):
        assert import_asl_signs.main([*arguments, option, "25"]) == 2
        assert f"{option} 25" in capsys.readouterr().err and (out / "table.csv").read_bytes() == table
    rows[2].path.unlink()
    assert import_asl_signs.main(arguments) == 0 and rows[2].path.is_file(), "the rest is still converted"
    assert check([str(out / "table.csv"), "--workers", "0"]) == 0


def test_import_signsuisse(tmp_path):
    entries = [
        {"uid": str(n), "name": f"Haus  {n}", "kategorie": "x", "sprache": "de", "link": "http://x"}
        for n in range(30)
    ]
    (tmp_path / "de.json").write_text(json.dumps(entries))
    (tmp_path / "it.json").write_text(
        json.dumps([{**entries[0], "uid": "99", "name": "casa", "sprache": "it"}])
    )
    for entry in [*entries, {"uid": "99"}]:
        pose(tmp_path / "poses" / f"{import_signsuisse.pose_name(entry['uid'])}.pose", int(entry["uid"]))
    arguments = ["--index", str(tmp_path / "de.json"), str(tmp_path / "it.json")]
    arguments += ["--poses", str(tmp_path / "poses"), "--out", str(tmp_path / "out")]
    assert import_signsuisse.main(arguments) == 0
    rows = read_table(tmp_path / "out" / "table.csv").rows
    assert len(rows) == 31 and rows[3].text == "Haus 3" and rows[3].signed_language == "sgg"
    assert (rows[-1].text, rows[-1].signed_language, rows[-1].spoken_language) == ("casa", "slf", "it")
    assert {r.split for r in rows} == {"train", "valid", "test"}


@pytest.mark.parametrize(
    "module", [import_asl_citizen, import_asl_signs, import_sem_lex, import_signsuisse, import_wlasl]
)
def test_import_scripts_help_names_the_data(module, capsys):
    with pytest.raises(SystemExit):
        module.main(["--help"])
    shown = capsys.readouterr().out
    assert "Get the data:" in shown and "https://" in shown and "--out" in shown


def test_import_scripts_missing_files_are_one_line(tmp_path, capsys):
    assert import_asl_signs.main(["--in", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "there is no file" in capsys.readouterr().err
    (tmp_path / "train.csv").write_text("path,sign\n")
    assert import_asl_signs.main(["--in", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "expected the columns participant_id, sequence_id" in capsys.readouterr().err


def test_split_by_hash():
    keys = [f"signer {n}" for n in range(21)]
    split = split_by(keys)
    assert split == split_by(keys[::-1]) and sorted(split.values()).count("test") == 2
    assert sorted(split_by(["a", "b", "c"]).values()) == ["test", "train", "valid"]
    assert set(split_by(["a", "b"]).values()) == {"train"}
    assert unique_ids(["a", "b", "a", "a"]) == ["a", "b", "a-2", "a-3"]


def npy(header):
    """A .npy file with this header and no data."""
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()


def saved(array, save=np.save):
    buffer = io.BytesIO()
    save(buffer, array)
    return buffer.getvalue()


LANDMARKS = np.full((2, 553, 3), 0.5)


@pytest.mark.parametrize(
    "content, words",
    [
        (b"", "no complete .npy file"),
        (npy("{'descr': '<f8', 'fortran_order': False, 'shape': (9999999999, 553, 3)}\n"), "no complete"),
        (npy("{'descr': '<f8', 'fortran_order': False, 'shape': (-1, 553, 3)}\n"), "no complete"),
        (npy("{'descr': '<f8', 'fortran_order': False, 'shape': (2, 553, 3\n"), "no complete"),
        (saved(LANDMARKS, np.savez), "archive of arrays"),
        (saved(LANDMARKS) + b"more", "4 bytes follow"),
        (saved(LANDMARKS + 1j), "complex128"),
        (saved(LANDMARKS.astype("M8[s]")), "datetime64"),
        (saved(LANDMARKS > 0), "bool"),
        (saved(np.zeros((2, 553, 3), [("a", "f8")])), "its dtype is"),
        (saved(LANDMARKS[:0]), r"expected landmarks \[frames, 553, 3\], got \[0, 553, 3\]"),
        (saved(LANDMARKS[:, :543]), r"got \[2, 543, 3\]"),
        (saved(np.where(np.arange(3), LANDMARKS, np.inf)), "coordinates are NaN, infinite or larger than"),
        (saved(np.where(np.arange(3), LANDMARKS, 1e300)), "coordinates are NaN, infinite or larger than"),
    ],
)
def test_import_sem_lex_of_damaged_arrays(tmp_path, capsys, content, words):
    arguments = sem_lex(tmp_path)
    source = tmp_path / "npy" / "train" / "1.npy"
    source.write_bytes(content)
    assert import_sem_lex.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {source}: ") and re.search(words, error) and error.count("\n") == 1
    assert not (tmp_path / "x").exists() or not list((tmp_path / "x").rglob("*.pose"))


def test_import_sem_lex_without_a_file_writes_nothing(tmp_path, capsys):
    arguments = sem_lex(tmp_path)
    (tmp_path / "npy" / "train" / "1.npy").unlink()
    assert import_sem_lex.main(arguments) == 2 and "there are no clips to write" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("nobody", [0.0, np.nan])
def test_import_sem_lex_counts_clips_that_show_nobody(tmp_path, caplog, nobody):
    arguments = sem_lex(tmp_path)
    np.save(tmp_path / "npy" / "train" / "2.npy", np.full((6, 553, 3), nobody))
    with open(tmp_path / "meta.csv", "a") as file:
        file.write("b,2,s,2.5,train,asllex,dog\n")
    for _ in range(2):
        assert import_sem_lex.main(arguments) == 0
        assert "1 clip shows nobody and is left out (train/2)" in caplog.text
        caplog.clear()
    poses = tmp_path / "x" / "y" / "out" / "poses"
    assert [row.id for row in read_table(poses.parent / "table.csv").rows] == ["1"]
    assert sorted(path.name for path in poses.rglob("*.pose")) == ["1.pose"]


def test_import_sem_lex_follows_a_source_that_is_corrected(tmp_path):
    arguments, source = sem_lex(tmp_path), tmp_path / "npy" / "train" / "1.npy"
    shown, pose = np.load(source), tmp_path / "x" / "y" / "out" / "poses" / "train" / "1.pose"
    np.save(tmp_path / "npy" / "train" / "2.npy", shown)
    with open(tmp_path / "meta.csv", "a") as file:
        file.write("b,2,s,2.5,train,asllex,dog\n")
    for content in (shown, np.zeros_like(shown), 0.5 * shown):
        np.save(source, content)
        assert import_sem_lex.main(arguments) == 0
        assert pose.is_file() == bool(content.any())


@pytest.mark.parametrize(
    "column, value, words",
    [
        ("frame", None, "1 cells of the column frame are empty"),
        ("frame", 1.5, "1.5"),
        ("landmark_index", -500, "got face -500 in row 4"),
        ("landmark_index", -1, "got face -1 in row 4"),
        ("landmark_index", 468, "got face 468 in row 4"),
        ("landmark_index", 4, "a landmark twice in the same frame"),
        ("landmark_index", None, "1 cells of the column landmark_index are empty"),
        ("type", "foot", "got foot 3 in row 4"),
        ("type", None, "1 cells of the column type are empty"),
        ("x", 1e30, "coordinates are NaN, infinite or larger than"),
        ("x", float("inf"), "coordinates are NaN, infinite or larger than"),
    ],
)
def test_import_asl_signs_of_damaged_landmarks(tmp_path, capsys, column, value, words):
    import pyarrow

    _, columns = landmarks_table([1, 2], np.random.default_rng(0))
    columns[column][3] = value
    assert import_asl_signs.main(asl_signs(tmp_path, table=pyarrow.table(columns))) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {tmp_path / 'a.parquet'}: ") and words in error
    assert error.count("\n") == 1 and not list(tmp_path.rglob("*.pose"))


def raw_wlasl(folder):
    return ["--json", str(folder / "w.json"), "--poses", str(folder), "--out", str(folder), "--raw"]


@pytest.mark.parametrize("numbers", ["1e400, 2", "1.9, 2", "1, 2.5", "true, 2", '"1", 2', "-1, 2", "1, -2"])
def test_import_wlasl_refuses_what_is_no_frame_number(tmp_path, capsys, numbers):
    start, end = numbers.split(", ")
    entry = f'{{"video_id": "7", "split": "train", "signer_id": 1, "url": "", "frame_start": {start}, '
    (tmp_path / "w.json").write_text(f'[{{"gloss": "dog", "instances": [{entry}"frame_end": {end}}}]}}]')
    pose(tmp_path / "7.pose", 0)
    assert import_wlasl.main(raw_wlasl(tmp_path)) == 2
    error = capsys.readouterr().err
    assert "w.json, video 7: expected frame numbers" in error and error.count("\n") == 1


def test_import_wlasl_writes_all_digits_of_a_time(tmp_path):
    instance = {"video_id": "7", "split": "train", "signer_id": 1, "url": ""}
    instance |= {"frame_start": 12345679, "frame_end": 12345689}
    (tmp_path / "w.json").write_text(json.dumps([{"gloss": "dog", "instances": [instance]}]))
    write_pose(tmp_path / "7.pose", dataclasses.replace(fake_clip(frames=30), fps=1e-5))
    assert import_wlasl.main(raw_wlasl(tmp_path)) == 0
    assert read_table(tmp_path / "table.csv").rows[0].span == Span(493827120, 493827560, "ms")


def test_import_wlasl_keeps_signs_within_their_videos(tmp_path, caplog):
    times = {"a": (1, 10), "b": (5, -1), "c": (26, 99), "d": (51, 60), "e": (9, 8), "f": (60, -1)}
    instances = [
        {"video_id": name, "split": "train", "signer_id": 1, "url": "https://youtu.be/8MbxFE_s-XQ"}
        | {"frame_start": start, "frame_end": end}
        for name, (start, end) in times.items()
    ]
    (tmp_path / "w.json").write_text(json.dumps([{"gloss": "dog", "instances": instances}]))
    write_pose(tmp_path / "8MbxFE_s-XQ.pose", fake_clip(frames=50))
    assert import_wlasl.main(raw_wlasl(tmp_path)) == 0
    rows = read_table(tmp_path / "table.csv").rows
    assert [(row.id, row.span.frames(50, 25.0)) for row in rows] == [
        ("a", slice(0, 10)),
        ("b", slice(4, 50)),
        ("c", slice(25, 50)),
    ]
    for words in (
        "cut there: 1 (first: {}/w.json, video c)",
        "after the recording's end, left out: 2 (first: {}/w.json, video d)",
        "end before they start, or start before 0, left out: 1 (first: {}/w.json, video e)",
    ):
        assert words.format(tmp_path) in caplog.text


def asl_signs(folder, participant="1", path="a.parquet", table=None):
    """A corpus of one clip. Returns the arguments of the importer."""
    from pyarrow import parquet

    folder.mkdir(exist_ok=True)
    parquet.write_table(table or landmarks_table([1, 2], np.random.default_rng(0))[0], folder / "a.parquet")
    lines = ["path,participant_id,sequence_id,sign", f"{path},{participant},2,blow"]
    (folder / "train.csv").write_text("\n".join(lines) + "\n")
    return ["--in", str(folder), "--out", str(folder / "x" / "y" / "out"), "--workers", "0"]


def sem_lex(folder, split="train", name="1", array=None):
    """A corpus of one clip. Returns the arguments of the importer."""
    (folder / "npy" / "train").mkdir(parents=True, exist_ok=True)
    if array is None:
        array = np.random.default_rng(0).uniform(0.1, 0.9, (6, 553, 3))
    np.save(folder / "npy" / "train" / "1.npy", array)
    lines = ["id,video,signer,duration,split,label_type,label", f"a,{name},s,2.5,{split},asllex,dog"]
    (folder / "meta.csv").write_text("\n".join(lines) + "\n")
    out = str(folder / "x" / "y" / "out")
    return ["--csv", str(folder / "meta.csv"), "--npy", str(folder / "npy"), "--out", out]


@pytest.mark.parametrize("name", ["../../../evil", "/evil", "a/../../b", "", "."])
def test_names_of_clips_stay_in_the_folder(tmp_path, capsys, name):
    """Importers write no file, and take none as a clip, outside their folders."""
    name = str(tmp_path / "evil") if name == "/evil" else name
    before = sorted(tmp_path.rglob("*.pose"))
    assert import_asl_signs.main(asl_signs(tmp_path / "asl", participant=name)) == 2
    assert "expected a path inside it" in capsys.readouterr().err
    assert import_asl_signs.main(asl_signs(tmp_path / "asl", path=name)) == 2
    assert "expected a path inside it" in capsys.readouterr().err
    assert import_sem_lex.main(sem_lex(tmp_path, split=name)) == 2
    assert "expected a path inside it" in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*.pose")) == before


def one_clip(corpus, folder):
    """A corpus of one clip: its importer with arguments, and the clip's source and pose."""
    if corpus == "asl_signs":
        module, arguments, source, name = import_asl_signs, asl_signs(folder), "a.parquet", "1/2"
    else:
        module, arguments, source, name = import_sem_lex, sem_lex(folder), "npy/train/1.npy", "train/1"
    target = folder / "x" / "y" / "out" / "poses" / f"{name}.pose"
    return lambda: module.main(arguments), folder / source, target


def correct(corpus, source, other=1):
    """Write other landmarks to the source of a clip."""
    from pyarrow import parquet

    rng = np.random.default_rng(other)
    if corpus == "asl_signs":
        parquet.write_table(landmarks_table([1, 2], rng)[0], source)
    else:
        np.save(source, rng.uniform(0.1, 0.9, (6, 553, 3)))


@pytest.mark.parametrize("corpus", ["asl_signs", "sem_lex"])
def test_poses_that_are_there_are_those_of_the_source(tmp_path, capsys, corpus):
    run, source, target = one_clip(corpus, tmp_path)
    target.parent.mkdir(parents=True)
    target.write_bytes(b"mine")
    assert run() == 2
    assert f"{target} exists and differs from what would be written" in capsys.readouterr().err
    assert target.read_bytes() == b"mine" and not target.parents[2].joinpath("table.csv").exists()
    target.unlink()
    assert run() == 0
    first, written = target.read_bytes(), target.stat().st_mtime_ns
    (target.parents[1] / "manifest.json").unlink()  # as of an earlier version
    assert run() == 0 and target.stat().st_mtime_ns == written, "the same content"
    correct(corpus, source)
    assert run() == 0 and target.read_bytes() != first, "the pose of a corrected source"
    target.write_bytes(first)
    assert run() == 2 and target.read_bytes() == first, "a pose that was changed by others"
    assert "exists and differs" in capsys.readouterr().err


@pytest.mark.parametrize("corpus", ["asl_signs", "sem_lex"])
def test_an_interrupted_conversion_resumes(tmp_path, monkeypatch, corpus):
    run, source, target = one_clip(corpus, tmp_path)
    convert = conversion.write_once

    def killed(*arguments):
        convert(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(conversion, "write_once", killed)
        assert run() == 130 and target.is_file()
    assert run() == 0 and read_table(target.parents[2] / "table.csv").rows[0].path == target
    module = import_asl_signs if corpus == "asl_signs" else import_sem_lex
    monkeypatch.setattr(module, "pose_of_landmarks", None)
    assert run() == 0, "what is converted is not converted again"
    source.unlink()
    assert run() == 2


def test_names_of_poses_stay_in_their_folder(tmp_path, capsys):
    pose(tmp_path / "mine.pose", 0)
    (tmp_path / "poses").mkdir()
    (tmp_path / "splits").mkdir()
    for split in ("train", "val", "test"):
        lines = "Participant ID,Video file,Gloss\nP1,../mine.mp4,DOG\n"
        (tmp_path / "splits" / f"{split}.csv").write_text(lines)
    paths = ["--poses", str(tmp_path / "poses"), "--out", str(tmp_path / "out")]
    assert import_asl_citizen.main(["--in", str(tmp_path), *paths]) == 2
    assert "the name '../mine.mp4' cannot be" in capsys.readouterr().err
    instance = {"video_id": "../mine", "split": "train", "signer_id": 1, "url": ""}
    (tmp_path / "w.json").write_text(json.dumps([{"gloss": "dog", "instances": [instance]}]))
    assert import_wlasl.main(["--json", str(tmp_path / "w.json"), *paths]) == 2
    assert capsys.readouterr().err.startswith("error: the name '../mine.pose' cannot be")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "options, words",
    [
        (["--fps", "0"], "frames per second"),
        (["--width", "100000"], "a size in pixels"),
        (["--limit", "-1"], "--limit -1: expected 1 or more"),
    ],
)
def test_import_asl_signs_option_errors(tmp_path, capsys, options, words):
    assert import_asl_signs.main(["--in", str(tmp_path), "--out", str(tmp_path / "out"), *options]) == 2
    assert words in capsys.readouterr().err and not (tmp_path / "out").exists()
    wlasl = ["--json", "x", "--poses", "x", "--out", str(tmp_path), "--classes", "0"]
    assert import_wlasl.main(wlasl) == 2 and "--classes 0" in capsys.readouterr().err


def test_import_asl_signs_without_landmarks(tmp_path, capsys):
    from pyarrow import parquet

    table, _ = landmarks_table([], np.random.default_rng(0))
    parquet.write_table(table, tmp_path / "a.parquet")
    (tmp_path / "train.csv").write_text("path,participant_id,sequence_id,sign\na.parquet,1,1,blow\n")
    assert import_asl_signs.main(["--in", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "a.parquet: no landmarks" in capsys.readouterr().err
    (tmp_path / "de.json").write_text(json.dumps([{"uid": "1", "name": None, "sprache": "de"}]))
    arguments = ["--index", str(tmp_path / "de.json"), "--poses", str(tmp_path), "--out", str(tmp_path)]
    assert import_signsuisse.main(arguments) == 2 and "not an index" in capsys.readouterr().err
