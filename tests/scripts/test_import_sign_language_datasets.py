"""The importer of sign-language-datasets, on examples as tensorflow_datasets gives them as NumPy."""

import sys

import numpy as np
import pytest

from mmpt.cli.check import main as check
from mmpt.pose.components import FACE, LEFT_HAND, POSE, RIGHT_HAND
from mmpt.pose.reader import read_pose
from mmpt.processors.table_file import read_table
from scripts import import_sign_language_datasets as importer
from tests.pose.pose_fakes import fake_clip, write_pose


def pose_of(seed, frames=6, points=543, axes=3):
    """A pose as PoseFeature encodes it; the right hand of frame 1 is missing."""
    rng = np.random.default_rng(seed)
    data = rng.uniform(10, 400, (frames, 1, points, axes)).astype(np.float32)
    conf = rng.uniform(0.3, 1, (frames, 1, points)).astype(np.float32)
    if frames:
        hand = 33 + (478 if points in (553, 586) else 468) + 21
        conf[1, 0, hand : hand + 21], data[1, 0, hand : hand + 21] = 0, np.nan
        data[2, 0, 5] = np.nan  # although it is said to be seen
    return {"data": data, "conf": conf, "fps": np.int32(25 if frames else 0)}


def example(number, **more):
    return {
        "id": str(number).encode(),
        "text": f"last,  year {number} ä".encode(),
        "signer_id": f"P{number % 4}".encode(),
        "pose": pose_of(number),
        **more,
    }


@pytest.fixture
def run(monkeypatch, tmp_path):
    """run(splits, *options) -> exit status; the table is read by table()."""

    def start(splits, *options, size=(640, 480)):
        corpus = importer.Corpus({name: (len(made), iter(made)) for name, made in splits.items()}, size)
        monkeypatch.setattr(importer, "load", lambda *_: corpus)
        return importer.main(["fake", "--out", str(tmp_path / "out"), *options])

    return start


@pytest.fixture
def table(tmp_path):
    return lambda: read_table(tmp_path / "out" / "table.csv").rows


def test_import_datasets_splits_columns_and_poses(run, table, tmp_path, capsys):
    made = {name: [example(n) for n in range(3)] for name in ("train", "validation", "test", "unlabelled")}
    made["train"][1]["pose"] = pose_of(1, frames=0)  # how the package says that there is none
    for number, name in enumerate(("validation", "test"), start=1):
        for n, one in enumerate(made[name]):
            one |= {"signer_id": f"{name}{n}", "pose": pose_of(10 * number + n)}
    options = ("--signed-language", "ase", "--spoken-language", "en")
    assert run(made, *options) == 0
    rows = table()
    assert " ".join(f"{row.id}:{row.split}" for row in rows) == (
        "0:train 2:train 0-2:valid 1:valid 2-2:valid 0-3:test 1-2:test 2-3:test"
    )
    assert rows[0].text == "last, year 0 ä" and rows[0].signer == "P0"
    assert (rows[0].signed_language, rows[0].spoken_language) == ("ase", "en")
    theirs, clip = made["train"][0]["pose"], read_pose(rows[0].path)
    assert len(clip) == 6 and clip.fps == 25 and clip.width == 640
    starts = dict(zip((POSE, FACE, LEFT_HAND, RIGHT_HAND), (0, 33, 501, 522)))
    for part, start in starts.items():
        values, confidence = clip.component(part)
        where, seen = slice(start, start + values.shape[1]), confidence > 0
        finite = np.isfinite(theirs["data"][:, 0, where]).all(axis=2)
        np.testing.assert_array_equal(confidence, np.where(finite, theirs["conf"][:, 0, where], 0))
        np.testing.assert_array_equal(values[seen], theirs["data"][:, 0, where][seen])
    assert clip.component(RIGHT_HAND)[1].any(axis=1).tolist() == [True, False, True, True, True, True]
    assert check([str(tmp_path / "out" / "table.csv"), "--workers", "0"]) == 0


def test_resume_import_datasets(run, table, tmp_path, monkeypatch):
    def interrupted():
        yield example(0)
        raise KeyboardInterrupt

    made = [example(n) for n in range(3)]
    corpus = importer.Corpus({"train": (3, interrupted())}, (640, 480))
    monkeypatch.setattr(importer, "load", lambda *_: corpus)
    assert importer.main(["fake", "--out", str(tmp_path / "out")]) == 130
    first = tmp_path / "out" / "poses" / "train" / "0.pose"
    before = first.stat().st_mtime_ns
    assert not (tmp_path / "out" / "table.csv").exists()
    assert run({"train": made}) == 0
    assert first.stat().st_mtime_ns == before and [r.id for r in table()] == ["0", "1", "2"]


@pytest.mark.parametrize("points, face, axes", [(543, 468, 4), (553, 478, 3), (576, 468, 3), (586, 478, 3)])
def test_import_datasets_kinds_of_holistic_poses(run, table, points, face, axes):
    assert run({"train": [example(0, pose=pose_of(0, points=points, axes=axes))]}) == 0
    assert read_pose(table()[0].path).component(FACE)[0].shape == (6, face, 3)


def test_import_datasets_with_one_split(run, table):
    assert run({"train": [example(n) for n in range(12)]}) == 0
    of_signer = {}
    for row in table():
        of_signer.setdefault(row.signer, set()).add(row.split)
    assert all(len(splits) == 1 for splits in of_signer.values()) and len(of_signer) == 4
    assert set.union(*of_signer.values()) == {"train", "valid", "test"}
    unknown = [{key: v for key, v in example(n).items() if key != "signer_id"} for n in range(12)]
    assert run({"train": unknown}) == 0
    assert {row.split for row in table()} == {"train", "valid", "test"} and table()[0].signer == ""


def test_import_datasets_views_as_files(run, table, tmp_path):
    """dgs_types: several views of a sign, each the path of a file; names that no file may have; glosses."""
    clips = [write_pose(tmp_path / f"{n}.pose", fake_clip(seed=n)) for n in range(3)]
    download = (tmp_path / "0.pose").rename(
        tmp_path / "galex0abc"
    )  # a download of which the name says nothing
    views = {"name": np.array([b"front", b"left"], object)}
    made = [
        {
            "glosses": np.array([b"HAUS^", b"HOUSE"], object),
            "id": b"galex/HAUS^",
            "views": {**views, "pose": paths},
        }
        for paths in ([str(download).encode(), str(clips[1]).encode()], [b"", str(clips[2]).encode()])
    ]
    made[1]["id"] = b"g2"
    assert run({"train": made}) == 0
    rows = table()
    assert [(r.id, r.text) for r in rows] == [
        ("galex/HAUS^-front", "HAUS^"),
        ("galex/HAUS^-left", "HAUS^"),
        ("g2-left", "HAUS^"),
    ]
    assert rows[0].path.parent.name == "train" and rows[0].path.read_bytes() == download.read_bytes()
    assert rows[1].path.resolve() == clips[1] and len({r.split for r in rows[:2]}) == 1


def test_import_datasets_text_key(run, table, capsys):
    """autsl: nested texts, and numbers as signers; dicta_sign: text, gloss and languages of each example."""
    nested = {**example(0, meaning={"english": b"sister"}, signer=np.int32(7)), "gloss_id": np.int32(3)}
    del nested["text"]
    assert run({"test": [nested]}) == 2
    error = capsys.readouterr().err
    assert "--text" in error and "meaning" in error and "Traceback" not in error
    assert run({"test": [nested]}, "--text", "meaning.english") == 0
    assert (table()[0].text, table()[0].signer) == ("sister", "7")
    both = example(1, gloss=b"HOUSE1", signed_language=b"BSL", spoken_language=b"en")
    assert run({"train": [both]}) == 0
    (row,) = table()
    assert (row.values["gloss"], row.signed_language, row.spoken_language) == ("HOUSE1", "BSL", "en")


@pytest.mark.parametrize(
    "change, words",
    [
        ({"pose": pose_of(0, points=137, axes=2)}, "were not expected"),
        ({"pose": pose_of(0, points=137)}, "137 points are no MediaPipe Holistic pose"),
        ({"pose": {"front": pose_of(0, points=137)}}, "0-front: 137 points"),
        ({"pose": None}, "has no pose"),
        ({"text": b" "}, "--text"),
    ],
)
def test_import_datasets_errors_are_one_line(run, capsys, change, words):
    assert run({"train": [example(0, **change)]}) == 2
    error = capsys.readouterr().err
    assert words in error and len([line for line in error.splitlines() if line.startswith("error:")]) == 1


def test_import_datasets_without_image_size(run, table, capsys):
    assert run({"train": [example(0)]}, size=None) == 2
    assert "give --size WIDTH HEIGHT" in capsys.readouterr().err
    for size in (("0", "0"), ("640", "65536"), ("-5", "480")):
        assert run({"train": [example(0)]}, "--size", *size, size=None) == 2
        assert f"--size {' '.join(size)}: expected a size in pixels" in capsys.readouterr().err
    assert run({"train": [example(0)]}, "--size", "320", "240", size=None) == 0
    assert read_pose(table()[0].path).width == 320


def test_import_datasets_numbers_duplicate_names(run, table):
    ids = ("a", "a", "a-2", "a")
    assert run({"train": [example(n, id=name.encode()) for n, name in enumerate(ids)]}) == 0
    for number, row in enumerate(table()):
        assert row.text == f"last, year {number} ä"
        theirs = pose_of(number)["data"][0, 0, 0]
        np.testing.assert_array_equal(read_pose(row.path).component(POSE)[0][0, 0], theirs)


@pytest.mark.parametrize("change", ["another data set", "another size"])
def test_import_datasets_refuses_poses_of_another_run(run, table, tmp_path, capsys, monkeypatch, change):
    assert run({"train": [example(0)]}) == 0
    before = (tmp_path / "out" / "table.csv").read_bytes()
    if change == "another size":
        assert run({"train": [example(0)]}, size=(1920, 1080)) == 2
        words = "size [640, 480] (now [1920, 1080])"
    else:
        corpus = importer.Corpus({"train": (1, [example(5, id=b"0")])}, (640, 480))
        monkeypatch.setattr(importer, "load", lambda *_: corpus)
        assert importer.main(["other", "--out", str(tmp_path / "out")]) == 2
        words = "data set fake (now other)"
    assert words in capsys.readouterr().err and (tmp_path / "out" / "table.csv").read_bytes() == before
    assert run({"train": [example(0), example(1)]}) == 0 and len(table()) == 2


@pytest.mark.parametrize("kind", ["arrays", "file"])
def test_import_datasets_refuses_poses_of_others(run, tmp_path, capsys, kind):
    theirs = write_pose(tmp_path / "a.pose", fake_clip()).rename(tmp_path / "download")
    one = example(0) if kind == "arrays" else example(0, pose=str(theirs).encode())
    target = tmp_path / "out" / "poses" / "train" / "0.pose"
    target.parent.mkdir(parents=True)
    target.write_bytes(b"mine")
    assert run({"train": [one]}) == 2
    assert f"{target} exists and differs" in capsys.readouterr().err and target.read_bytes() == b"mine"
    target.unlink()
    assert run({"train": [one]}) == 0 and run({"train": [one]}) == 0
    assert run({"train": [example(0, pose=pose_of(5))]}) == 2, "a pose that has changed"
    assert "exists and differs" in capsys.readouterr().err


def test_import_datasets_counts_poses_without_points(run, table, caplog):
    empty = pose_of(1)
    empty["conf"][:] = 0
    assert run({"train": [example(0), example(1, pose=empty)]}) == 0
    assert [row.id for row in table()] == ["0"] and "1 clips have no pose" in caplog.text
    far = pose_of(2)
    far["data"][0] = 1e30
    assert run({"train": [example(2, pose=far)]}) == 2


def test_import_datasets_without_the_package(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "sign_language_datasets", None)
    monkeypatch.setitem(sys.modules, "sign_language_datasets.datasets", None)
    assert importer.main(["dicta_sign", "--out", str(tmp_path / "out")]) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert "pip install sign-language-datasets" in error and not (tmp_path / "out").exists()


def test_import_datasets_help_names_the_data(capsys):
    with pytest.raises(SystemExit):
        importer.main(["--help"])
    shown = capsys.readouterr().out
    assert "Get the data:" in shown and "https://" in shown and "pip install sign-language-datasets" in shown


@pytest.mark.parametrize("content", ['{"mine": 1}', "[1]", "mine"])
def test_import_datasets_replaces_no_foreign_record(run, tmp_path, capsys, content):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "import.json").write_text(content)
    assert run({"train": [example(0)]}) == 2
    assert "import.json was not written by this script" in capsys.readouterr().err
    assert (tmp_path / "out" / "import.json").read_text() == content
