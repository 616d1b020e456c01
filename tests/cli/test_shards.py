"""--shard and --merge, through the commands."""

import json
import shutil
from pathlib import Path

import pytest

from mmpt.cli.check import main as check
from mmpt.cli.embed import main as embed
from mmpt.cli.evaluate import main as evaluate
from mmpt.cli.extract import main as extract
from mmpt.embedding.embedder import SignCLIP
from mmpt.embedding.predictor import Predictor
from mmpt.extractors.manifest import JOURNAL, NAME, read_manifest
from mmpt.pose import reader
from mmpt.utils.errors import UserError
from mmpt.utils.lock import folder_lock
from mmpt.utils.shards import Shard, shard_progress
from tests.conftest import ROOT
from tests.extractors.test_runner import content, save
from tests.pose.pose_fakes import fake_clip, write_pose

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
    shutil.copytree(out / ".shards", tmp_path / "kept")
    for name, change, part in (
        (".shards/1-of-2/shard.json", "{}", "not the record of a shard"),
        (".shards/1-of-2/notes.txt", "x", "does not belong to shards"),
        (".shards/notes.txt", "x", "does not belong to shards"),
    ):
        (out / name).write_text(change)
        capsys.readouterr()
        assert npy(features, out, "--merge") == 2 and part in line(capsys), name
        shutil.rmtree(out / ".shards")
        shutil.copytree(tmp_path / "kept", out / ".shards")
    with folder_lock(out / ".shards" / "2-of-2", "me"):
        assert npy(features, out, "--merge") == 2 and "is in use by shard 2/2" in line(capsys)
        assert npy(features, out, "--shard", "2/2") == 2 and "is in use by shard 2/2" in line(capsys)
    record = json.loads((out / ".shards" / "2-of-2" / "shard.json").read_text())
    (out / ".shards" / "2-of-2" / "shard.json").write_text(json.dumps({**record, "finished": False}))
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


@pytest.fixture(scope="module")
def poses(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """29 poses of different lengths, and one that cannot be read."""
    folder = tmp_path_factory.mktemp("poses")
    for number in range(29):
        write_pose(folder / f"{number:02d}.pose", fake_clip(frames=3 + number * 7 % 29, seed=number))
    (folder / "11b.pose").write_bytes(b"no pose")
    return folder


def clips(model: Path, source: Path, out: Path, *options: str, portion: int = 4) -> int:
    words = ["--model", str(model), "--in", str(source), "--out", str(out), "--portion", str(portion)]
    return embed([*words, "--workers", "0", "--quiet", *options])


@pytest.fixture(scope="module")
def embedded(model_folder: Path, poses: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one run writes."""
    folder = tmp_path_factory.mktemp("embedded") / "whole"
    assert clips(model_folder, poses, folder) == 1
    return folder


@pytest.mark.parametrize("count", [1, 7])
def test_embedding_in_shards_merges_to_the_bytes_of_one_run(model_folder, poses, embedded, tmp_path, count):
    out = tmp_path / "out"
    status = [clips(model_folder, poses, out, "--shard", f"{n}/{count}") for n in range(1, count + 1)]
    assert sorted(status) == [0] * (count - 1) + [1]
    assert sum(total for _, total in shard_progress(out).values()) == 30
    assert clips(model_folder, poses, out, "--merge") == 1
    assert content(out) == content(embedded)


def test_what_an_embedding_in_shards_refuses(model_folder, poses, tmp_path, capsys, monkeypatch):
    out = tmp_path / "out"
    clips(model_folder, poses, out, "--shard", "1/2")
    capsys.readouterr()
    for options, part in (
        (["--merge"], "shard 2/2"),
        (["--shard", "2/2", "--window", "200"], "window_ms: none there, 200.0 now"),
        (["--shard", "2/2", "--portion", "5"], "portion: 4 there, 5 now"),
        (["--shard", "1/3"], "holds shards of 2, not of 3"),
        (["--force"], "not merged"),
    ):
        assert clips(model_folder, poses, out, *options) == 2
        assert part in line(capsys), options
    with monkeypatch.context() as other_model:
        other_model.setattr(SignCLIP, "fingerprint", "f00")
        assert clips(model_folder, poses, out, "--shard", "2/2") == 2
        assert "model: " in (error := line(capsys)) and "f00 now" in error
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("A\n")
    assert clips(model_folder, prompts, out, "--shard", "1/2") == 2
    assert "--shard is for clips" in line(capsys)
    clips(model_folder, poses, out, "--shard", "2/2")
    lost = next((out / ".shards" / "2-of-2" / "parts").glob("*.npz"))
    lost.unlink()
    capsys.readouterr()
    assert clips(model_folder, poses, out, "--merge") == 2 and "shard 2/2 has no embeddings" in line(capsys)
    clips(model_folder, poses, out, "--shard", "2/2")
    assert clips(model_folder, poses, out, "--merge") == 1
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "embeddings.npy").write_text("theirs")
    before = content(tmp_path / "theirs")
    capsys.readouterr()
    assert clips(model_folder, poses, tmp_path / "theirs", "--shard", "1/2") == 2
    assert "does not belong to embeddings" in line(capsys) and content(tmp_path / "theirs") == before


def test_a_repeated_shard_reads_clips_again_that_the_system_did_not_open(
    model_folder, poses, tmp_path, monkeypatch
):
    out, read = tmp_path / "out", reader._read_bytes

    def fails(path: Path) -> bytes:
        if path.name == "05.pose":
            raise UserError("cannot be read (Input/output error)")
        return read(path)

    monkeypatch.setattr(reader, "_read_bytes", fails)
    assert clips(model_folder, poses, tmp_path / "out", "--shard", "1/1") == 1
    monkeypatch.setattr(reader, "_read_bytes", read)
    assert clips(model_folder, poses, tmp_path / "out", "--shard", "1/1") == 1
    assert clips(model_folder, poses, tmp_path / "out", "--merge") == 1
    assert list(json.loads((out / "provenance.json").read_text())["failed"]) == ["11b"]


@pytest.fixture
def table(poses, tmp_path) -> Path:
    """A table of the poses in three splits, with a leak and a file that is missing."""
    rows = ["id,path,text,split,signer"]
    names = [*sorted(path.name for path in poses.iterdir()), "missing.pose"]
    for number, name in enumerate(names):
        split = ("train", "valid", "test")[number % 3]
        rows.append(f"c{number},{poses / name},w{number % 5},{split},s{number % 4}")
    (tmp_path / "table.csv").write_text("\n".join(rows) + "\n")
    return tmp_path / "table.csv"


def test_a_check_in_shards_merges_to_the_bytes_of_one_run(table, tmp_path, capsys):
    count = 3
    words = [str(table), "--workers", "0", "--out", str(tmp_path / "out")]
    assert check([*words[:-1], str(tmp_path / "whole")]) == 1
    report = capsys.readouterr().out
    status = [check([*words, "--shard", f"{index}/{count}"]) for index in range(1, count + 1)]
    assert 1 <= sum(status) <= 2
    read = capsys.readouterr().out
    assert read.count("missing.pose") == 1 and read.count("clips read") == count
    assert sum(done for done, _ in shard_progress(tmp_path / "out").values()) == 31
    assert check(words) == 2 and "not merged" in line(capsys)
    assert check([*words, "--merge"]) == 1
    assert capsys.readouterr().out == report.replace(str(tmp_path / "whole"), str(tmp_path / "out"))
    assert content(tmp_path / "out") == content(tmp_path / "whole")


def test_a_repeated_shard_of_a_check_reads_what_is_missing_or_changed(table, poses, tmp_path, capsys):
    words = [str(table), "--workers", "0", "--out", str(tmp_path / "out")]
    check([*words, "--shard", "1/1"])
    facts = tmp_path / "out" / ".shards" / "1-of-1" / "facts.jsonl"
    whole = facts.read_text()
    facts.write_text(whole[: len(whole) // 2])
    capsys.readouterr()
    assert check([*words, "--merge"]) == 2 and "was not read: run the command with --shard 1/1" in line(
        capsys
    )
    (poses / "02.pose").touch()
    check([*words, "--shard", "1/1"])
    assert sorted(facts.read_text().split("\n")) != sorted(whole.split("\n"))  # another stamp
    (poses / "02.pose").touch()
    capsys.readouterr()
    assert check([*words, "--merge"]) == 2
    assert "02.pose changed after it was read" in line(capsys)
    check([*words, "--shard", "1/1"])
    assert check([*words, "--merge"]) == 1
    other = tmp_path / "other" / "table.csv"
    other.parent.mkdir()
    other.write_text(table.read_text() + f"new,{poses / '00.pose'},w0,train,s0\n")
    check([*words, "--shard", "1/2"])
    capsys.readouterr()
    assert check([str(other), *words[1:], "--shard", "2/2"]) == 2 and "sha256: " in line(capsys)


def test_an_evaluation_of_a_table_in_shards_gives_the_files_of_one_run(
    model_folder, small_table, tmp_path, monkeypatch, capsys
):
    words = ["--model", str(model_folder), "--table", str(small_table), "--protocol", "v2v", "--workers", "0"]
    words += ["--no-pictures", "--bootstrap", "20", "--out", "out"]
    for place, runs in (("whole", [[]]), ("parts", [["--shard", "2/2"], ["--shard", "1/2"], ["--merge"]])):
        (tmp_path / place).mkdir()
        monkeypatch.chdir(tmp_path / place)
        for options in runs:
            assert evaluate([*words, *options]) == 0
    assert "R@1" in capsys.readouterr().out
    made = content(tmp_path / "parts" / "out")
    assert made == content(tmp_path / "whole" / "out") and "protocols.json" in made
    assert evaluate([*words, "--merge"]) == 0  # as after a merge that was killed between two outputs


def test_an_evaluation_of_a_config_in_shards_gives_the_files_of_one_run(
    tiny_yaml, model_folder, tmp_path, monkeypatch, capsys
):
    init = Predictor.__init__

    def with_small_pools(self, *arguments, **options):
        init(self, *arguments, **options)
        self.pool = 2

    monkeypatch.setattr(Predictor, "__init__", with_small_pools)
    words = [str(tiny_yaml), f"fairseq.common_eval.path={model_folder}", "eval.save_path=eval"]
    for place, runs in (
        ("whole", [[]]),
        ("parts", [["--shard", "2/2"], ["--merge"], ["--shard", "1/2"], ["--merge"]]),
    ):
        (tmp_path / place).mkdir()
        monkeypatch.chdir(tmp_path / place)
        status = [evaluate([*words, *options]) for options in runs]
        assert status == ([0] if place == "whole" else [0, 2, 0, 0])
    assert "shard 1/2 of eval has not run" in capsys.readouterr().err
    made = content(tmp_path / "parts" / "eval")
    assert made == content(tmp_path / "whole" / "eval") and "results.json" in made


def test_a_killed_shard_leaves_the_others_alone_and_goes_on(features, tmp_path):
    """The state that SIGKILL leaves: a journal with a half written line, results, temporary files."""
    npy(features, tmp_path / "whole")
    out = tmp_path / "out"
    for index in (1, 2):
        npy(features, out, "--shard", f"{index}/2")
    folder = out / ".shards" / "2-of-2"
    content_of = read_manifest(folder)
    (folder / NAME).unlink()
    [(run, about)] = content_of["runs"].items()
    lines = [json.dumps({"extractor": "npy", "run": run, **about})]
    done = [key for key, record in content_of["files"].items() if record["status"] == "done"]
    lines += [json.dumps({"file": key, "record": content_of["files"][key]}) for key in done[:3]]
    interrupted = {"run": run, "status": "failed", "output": done[3], "error": "interrupted"}
    lines += [json.dumps({"file": done[3], "record": interrupted}), '{"file": "s0']
    (folder / JOURNAL).write_text("\n".join(lines))
    for key in done[4:]:
        (out / key).unlink()
    record = json.loads((folder / "shard.json").read_text())
    (folder / "shard.json").write_text(json.dumps({**record, "finished": False}))
    mine, others = out / done[5], out / next(iter(read_manifest(out / ".shards" / "1-of-2")["files"]))
    left = [path.with_name(f".{path.stem}.abcd_123.tmp.npy") for path in (mine, others)]
    for path in left:
        path.write_bytes(b"half")
    before = {key: (out / key).stat().st_mtime_ns for key in done[:3]}
    npy(features, out, "--shard", "2/2")
    assert [path.exists() for path in left] == [False, True]  # the other shard may be writing it
    assert before == {key: (out / key).stat().st_mtime_ns for key in before}
    assert npy(features, out, "--merge") == 1
    assert content(out) == content(tmp_path / "whole")


def test_a_folder_of_others_with_the_name_of_merged_shards_stays(features, tmp_path, capsys):
    theirs = tmp_path / "out" / ".shards.merged" / "1-of-2"
    theirs.mkdir(parents=True)
    (theirs / "notes.txt").write_text("mine")
    for options in ([], ["--shard", "1/2"], ["--merge"]):
        assert npy(features, tmp_path / "out", *options) == 2
        assert "does not belong to shards of this command" in line(capsys)
    assert (theirs / "notes.txt").read_text() == "mine"


def test_a_merge_that_was_killed_while_it_deleted_the_shards(features, tmp_path, capsys):
    out = tmp_path / "out"
    npy(features, out, "--shard", "1/1")
    shutil.copytree(out / ".shards", tmp_path / "kept")
    npy(features, out, "--merge")
    for options, status, words in (
        (["--merge"], 2, "merged already"),
        (["--shard", "1/1"], 1, ""),
        ([], 2, "not merged"),
    ):
        shutil.copytree(tmp_path / "kept", out / ".shards.merged")
        capsys.readouterr()
        assert npy(features, out, *options) == status
        assert words in capsys.readouterr().err and not (out / ".shards.merged").exists()


def test_a_source_folder_may_be_called_shards(tmp_path):
    save(tmp_path / "in" / "shards" / "1-of-2" / "a.npy")
    for options in ([], ["--again"], ["--shard", "1/1"], ["--merge"]):
        assert npy(tmp_path / "in", tmp_path / "out", *options) == 0
    assert (tmp_path / "out" / "shards" / "1-of-2" / "a.npy").is_file()


def test_the_shards_run_as_local_jobs(tmp_path, monkeypatch):
    pytest.importorskip("submitit")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("SIGNCLIP_RUNS", str(tmp_path / "runs"))
    for number in range(5):
        save(tmp_path / "in" / f"{number}.npy", value=number)
    assert npy(tmp_path / "in", tmp_path / "whole") == 0
    assert npy(tmp_path / "in", tmp_path / "out", "--cluster", "local", "--shards", "2") == 0
    assert content(tmp_path / "out") == content(tmp_path / "whole")
