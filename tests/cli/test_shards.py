"""--shard and --merge, through the commands."""

import json
import shutil
from pathlib import Path

import pytest

from mmpt.cli.extract import main as extract
from mmpt.extractors.manifest import NAME, read_manifest
from mmpt.utils.errors import UserError
from mmpt.utils.lock import folder_lock
from mmpt.utils.shards import Shard, shard_progress
from tests.extractors.test_runner import content, save

PRIMES = (1, 2, 5)


@pytest.fixture
def features(tmp_path: Path) -> Path:
    """23 feature files at two depths, one of them with an accent, and one that cannot be read."""
    for number in range(22):
        save(tmp_path / "in" / f"s{number % 3}" / f"c{number}.npy", value=number)
    save(tmp_path / "in" / "cafe\N{COMBINING ACUTE ACCENT}.npy")
    (tmp_path / "in" / "bad.npy").write_bytes(b"no array")
    return tmp_path / "in"


def npy(source: Path, out: Path, *options: str) -> int:
    return extract(
        ["npy", "--in", str(source), "--out", str(out), "--dim", "4", "--workers", "0", "--quiet", *options]
    )


def line(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line of an error."""
    text = capsys.readouterr().err
    assert text.count("\n") == 1 and text.startswith("error: "), text
    return text


@pytest.mark.parametrize("count", PRIMES)
def test_every_name_is_in_one_shard_however_it_is_typed(count):
    names = [f"a/clip {number}.mp4" for number in range(500)] + ["caf\u00e9", ""]
    shards = [Shard(index, count) for index in range(1, count + 1)]
    of = {name: [shard for shard in shards if shard.has(name)] for name in names}
    assert all(len(found) == 1 for found in of.values())
    assert of["caf\u00e9"][0].has("cafe\N{COMBINING ACUTE ACCENT}")
    sizes = [sum(found == [shard] for found in of.values()) for shard in shards]
    assert min(sizes) > 500 / count / 2


@pytest.mark.parametrize(
    "text", ["5/4", "0/4", "a/b", "4", "1/0", "-1/4", "1/4/2", " 1/4", "1.0/4", "", "١/٤"]
)
def test_wrong_shards(text):
    with pytest.raises(UserError, match=r"expected I/N with 1 <= I <= N"):
        Shard.parse(text)


@pytest.mark.parametrize("count", PRIMES)
def test_extraction_in_shards_merges_to_the_bytes_of_one_run(features, tmp_path, capsys, count):
    assert npy(features, tmp_path / "whole") == 1
    out = tmp_path / "out"
    status = [npy(features, out, "--shard", f"{index}/{count}") for index in range(count, 0, -1)]
    assert sorted(status) == [0] * (count - 1) + [1]
    assert sum(total for _, total in shard_progress(out).values()) == 24
    assert all(done == total for done, total in shard_progress(out).values())
    assert not (out / NAME).exists()
    capsys.readouterr()
    assert npy(features, out, "--merge") == 1
    assert "failed: " in capsys.readouterr().err
    assert content(out) == content(tmp_path / "whole")
    assert npy(features, out, "--merge") == 2 and "holds no shards" in line(capsys)


def test_files_added_after_a_merge_are_all_that_shards_extract(features, tmp_path):
    out = tmp_path / "out"
    (features / "bad.npy").unlink()
    assert npy(features, out) == 0
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.npy")}
    save(features / "new.npy")
    for index in (1, 2, 3):
        assert npy(features, out, "--shard", f"{index}/3") == 0
    assert npy(features, out, "--merge") == 0
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob("*.npy") if path.name != "new.npy"}
    assert read_manifest(out)["files"].keys() == {
        p.relative_to(features).as_posix() for p in features.rglob("*.npy")
    }


def test_what_a_merge_refuses(features, tmp_path, capsys):
    out = tmp_path / "out"
    npy(features, out, "--shard", "1/2")
    capsys.readouterr()
    assert npy(features, out, "--merge") == 2
    assert "shard 2/2" in (error := line(capsys)) and "has not run" in error
    assert npy(features, out, "--shard", "1/3") == 2 and "holds shards of 2, not of 3" in line(capsys)
    assert npy(features, out) == 2 and "not merged" in line(capsys)
    assert npy(features, out, "--shard", "2/2", "--save-dtype", "float16") == 2
    assert "dtype: float32 there, float16 now" in line(capsys)
    assert npy(features, out, "--shard", "2/2", "--merge") == 2 and "exclude each other" in line(capsys)
    assert npy(features, out, "--merge", "--again") == 2 and "--again" in line(capsys)
    npy(features, out, "--shard", "2/2")
    save(features / "late.npy")
    capsys.readouterr()
    assert npy(features, out, "--merge") == 2
    shard = next(shard for shard in (Shard(1, 2), Shard(2, 2)) if shard.has("late.npy"))
    assert "late.npy" in (error := line(capsys)) and f"--shard {shard}" in error
    npy(features, out, "--shard", str(shard))
    shutil.copytree(out / "shards", tmp_path / "kept")
    for name, change, part in (
        ("shards/1-of-2/shard.json", "{}", "not the record of a shard"),
        ("shards/1-of-2/notes.txt", "x", "does not belong to shards"),
        ("shards/notes.txt", "x", "does not belong to shards"),
    ):
        (out / name).write_text(change)
        capsys.readouterr()
        assert npy(features, out, "--merge") == 2 and part in line(capsys), name
        shutil.rmtree(out / "shards")
        shutil.copytree(tmp_path / "kept", out / "shards")
    with folder_lock(out / "shards" / "2-of-2", "me"):
        assert npy(features, out, "--merge") == 2 and "is in use by shard 2/2" in line(capsys)
        assert npy(features, out, "--shard", "2/2") == 2 and "is in use by shard 2/2" in line(capsys)
    record = json.loads((out / "shards" / "2-of-2" / "shard.json").read_text())
    (out / "shards" / "2-of-2" / "shard.json").write_text(json.dumps({**record, "finished": False}))
    assert npy(features, out, "--merge") == 2 and "shard 2/2" in (error := line(capsys))
    assert "is not finished" in error
    assert npy(features, out, "--shard", "2/2") in (0, 1) and npy(features, out, "--merge") == 1


def test_a_shard_leaves_the_results_of_a_stranger_alone(features, tmp_path, capsys):
    out = tmp_path / "out"
    save(out / "s0" / "c0.npy", value=9)
    before = content(out)
    shard = next(index for index in (1, 2) if Shard(index, 2).has("s0/c0.npy"))
    assert npy(features, out, "--shard", f"{shard}/2") == 2
    assert "was not written by this command" in line(capsys)
    assert content(out) == before
