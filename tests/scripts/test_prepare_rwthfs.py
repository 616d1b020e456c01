"""scripts/prepare_rwthfs.py: names, the published split, and the written files."""

import hashlib
import random

import pytest

from mmpt.processors.rwthfs import read_gesture_ids
from mmpt.processors.rwthfs_names import GESTURES, parse_name, published_split, signer_split, take_inventory
from mmpt.utils.errors import UserError
from scripts import prepare_rwthfs

# SHA-256 of the published test.txt and val.txt, one name a line
PUBLISHED = {
    "test": "b129970f3939bf9121c3ea1c66e405a0043b6e3935d0d9893c4170fd7c83d31b",
    "val": "715f0d014a2f41544a665a31964fea5b14da12c89dccd65106f5691e4c44d4ab",
}


def real_names() -> list[str]:
    """The database: 20 signers sign all gestures twice, three once, and signer 24 thirteen of them."""
    names = []
    for signer in [*range(1, 21), 23, 24, 25, 26]:
        for letter in range(1, 14 if signer == 24 else 36):
            for sequence in (1, 2) if signer <= 20 else (1,):
                names += [f"{signer}_{letter}_{sequence}_cam{camera}" for camera in (1, 2)]
    return names


def issue_names() -> list[str]:
    """1400 names: 20 signers, 35 letters, 2 cameras, the sequence ids as they come."""
    return [
        f"{s}_{le}_{1 + (s + le) % 2}_cam{c}" for s in range(1, 21) for le in range(1, 36) for c in (1, 2)
    ]


def test_rwthfs_published_split():
    split = published_split(real_names())
    for part, digest in PUBLISHED.items():
        assert hashlib.sha256("".join(f"{name}\n" for name in split[part]).encode()).hexdigest() == digest
    assert split["test"][:3] == ["20_18_2_cam1", "13_34_2_cam1", "8_32_1_cam2"]
    # the published pose rows are multiples of 1/153, the video rows of 1/303
    assert len(split["test"]) == 303
    assert sum(name.endswith("cam2") for name in split["test"]) == 153


@pytest.mark.parametrize("names", [real_names(), issue_names()], ids=["real", "1400"])
def test_rwthfs_split_is_deterministic_and_disjoint(names):
    shuffled = names[:]
    random.Random(1).shuffle(shuffled)
    split = published_split(shuffled)
    assert split == published_split(names)
    parts = [set(split[part]) for part in ("train", "val", "test")]
    assert sum(map(len, parts)) == len(names) == len(set.union(*parts))
    assert len(split["val"]) == len(split["test"]) == int(0.1 * len(names))


def test_rwthfs_split_by_signer():
    split = signer_split(real_names())
    signers = {part: {parse_name(name).signer for name in names} for part, names in split.items()}
    assert not signers["train"] & signers["test"] and not signers["val"] & (
        signers["train"] | signers["test"]
    )
    assert sum(map(len, split.values())) == len(real_names())
    assert all(0.08 < len(split[part]) / len(real_names()) < 0.2 for part in ("val", "test"))
    assert split == signer_split(reversed(real_names()))
    few = [name for name in real_names() if name.startswith(("1_", "2_", "3_"))]
    assert [len(part) for part in signer_split(few).values()] == [140, 140, 140]
    with pytest.raises(UserError, match="3 signers"):
        signer_split(["1_1_1_cam1", "2_1_1_cam1"])


@pytest.mark.parametrize(
    "stem", ["1_1_1", "1_1_1_cam3", "01_1_1_cam1", "1_36_1_cam1", "1_0_1_cam1", "x_1_1_cam1", "1_1_1_cam1_b"]
)
def test_rwthfs_invalid_names(stem):
    with pytest.raises(UserError, match="expected"):
        parse_name(stem)


def test_rwthfs_names():
    name = parse_name("3_30_1_cam2")
    assert (name.signer, name.gesture, name.sequence, name.camera) == (3, "SCH", 1, "cam2")
    assert str(name) == "3_30_1_cam2"
    assert (len(GESTURES), GESTURES[0], GESTURES[26], GESTURES[34]) == (35, "A", "AE", "Five")


# ---- the script
@pytest.fixture
def videos(tmp_path):
    """30 files of 10 signers, each with content of its own."""
    folder = tmp_path / "videos"
    folder.mkdir()
    for signer in range(1, 11):
        for letter in range(1, 4):
            name = f"{signer}_{letter}_1_cam{1 + signer % 2}"
            (folder / f"{name}.mpg").write_bytes(name.encode())
    return folder


def run(videos, out, *options):
    return prepare_rwthfs.main(["--videos", str(videos), "--out", str(out), *options])


def test_prepare_rwthfs_writes_the_files(videos, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(videos, out) == 0
    lists = {path.stem: path.read_text().split() for path in out.glob("*.txt") if path.stem != "gesture_ids"}
    stems = sorted(path.stem for path in videos.iterdir())
    assert lists == {"all": stems, **published_split(stems)}
    ids = (out / "gesture_ids.txt").read_text()
    assert ids.startswith(" 1 = A\n 2 = B\n") and ids.endswith("\n35 = Five\n") and ids.count("\n") == 35
    assert list(read_gesture_ids(out / "gesture_ids.txt").values()) == list(GESTURES)
    assert "3 gestures" in capsys.readouterr().out
    assert not [path for path in out.iterdir() if path.name.startswith(".")]


def test_prepare_rwthfs_lists_problems(videos, tmp_path, capsys):
    (videos / "sub").mkdir()
    for name in ("1_1_1_cam2.mpg", "a_b.mpg", "99_36_1_cam1.mpg", "3_3_9_cam1.MPG", "3_3_7_cam1.mp4"):
        (videos / "sub" / name).write_bytes(b"another")
    (videos / "3_3_8_cam1.mpg").touch()
    (videos / "3_3_6_cam1.mpg").symlink_to("gone.mpg")
    (videos / "notes.txt").write_text("no video")
    assert run(videos, tmp_path / "out") == 0
    said = capsys.readouterr().err
    assert "bad name: sub/a_b.mpg" in said and "bad name: sub/99_36_1_cam1.mpg" in said
    assert "duplicate name: 1_1_1_cam2: 1_1_1_cam2.mpg, sub/1_1_1_cam2.mpg" in said
    assert "empty file: 3_3_8_cam1.mpg" in said and "broken link: 3_3_6_cam1.mpg" in said
    assert "bad name: sub/3_3_7_cam1.mp4: expected the suffix .mpg" in said
    assert "missing letters" in said and "35 (Five)" in said and "1 (A)" not in said
    assert "notes" not in said
    assert (
        len((tmp_path / "out" / "all.txt").read_text().split()) == 31
    )  # the .MPG counts, the bad ones do not


def test_prepare_rwthfs_duplicate_content(videos, tmp_path, capsys):
    (videos / "9_3_1_cam2.mpg").write_bytes((videos / "1_1_1_cam2.mpg").read_bytes())
    assert run(videos, tmp_path / "out") == 0
    assert "duplicate content: 1_1_1_cam2, 9_3_1_cam2" in capsys.readouterr().err


def test_prepare_rwthfs_strict(videos, tmp_path, capsys):
    assert run(videos, tmp_path / "out", "--strict") == 2  # 32 letters are missing
    assert "error: 1 problems" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_prepare_rwthfs_force(videos, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(videos, out) == 0
    assert run(videos, out) == 0  # the same again is fine
    (out / "test.txt").write_text("mine\n")
    (out / "all.txt").unlink()
    capsys.readouterr()
    assert run(videos, out) == 2
    assert "test.txt" in capsys.readouterr().err
    assert (out / "test.txt").read_text() == "mine\n" and not (out / "all.txt").exists()
    assert run(videos, out, "--force") == 0
    assert (out / "test.txt").read_text() != "mine\n"


def test_prepare_rwthfs_by_signer(videos, tmp_path):
    assert run(videos, tmp_path / "out", "--by-signer") == 0
    signers = [
        {n.split("_")[0] for n in (tmp_path / "out" / f"{p}.txt").read_text().split()}
        for p in ("train", "val", "test")
    ]
    assert not signers[0] & signers[1] and not signers[0] & signers[2] and not signers[1] & signers[2]


def test_prepare_rwthfs_links(videos, tmp_path):
    (videos / "deep").mkdir()
    (videos / "1_1_1_cam2.mpg").rename(videos / "deep" / "1_1_1_cam2.mpg")
    out = tmp_path / "out"
    assert run(videos, out, "--links") == 0
    assert {path.name for path in (out / "videos").iterdir()} == {path.name for path in videos.rglob("*.mpg")}
    assert (out / "videos" / "1_1_1_cam2.mpg").read_bytes() == b"1_1_1_cam2"
    assert {path.stem[-4:] for path in (out / "videos_cam2").iterdir()} == {"cam2"}
    (videos / "2_1_1_cam1.mpg").unlink()  # gone: its link goes too
    assert run(videos, out, "--links", "--force") == 0
    assert not (out / "videos" / "2_1_1_cam1.mpg").is_symlink()


def test_prepare_rwthfs_linked_folders(videos, tmp_path):
    whole = tmp_path / "whole"
    whole.mkdir()
    (whole / "cam").symlink_to(videos)
    for _ in range(2):  # the second time, the links that the first has made are not taken for videos
        assert run(whole, whole / "out", "--links") == 0
        assert len((whole / "out" / "all.txt").read_text().split()) == 30
    assert take_inventory(whole, whole / "out").problems == take_inventory(videos, tmp_path / "out").problems


def test_prepare_rwthfs_too_few_videos(videos, tmp_path, capsys):
    for path in sorted(videos.iterdir())[9:]:
        path.unlink()
    assert run(videos, tmp_path / "out") == 2
    assert "got 9 videos, expected at least 10" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("folder", ["no_such", "empty"])
def test_prepare_rwthfs_without_videos(tmp_path, folder, capsys):
    (tmp_path / "empty").mkdir()
    assert run(tmp_path / folder, tmp_path / "out") == 2
    assert "rwth-aachen.de" in capsys.readouterr().err
