"""mmpt.cli.embed: folders, tables and lists of prompts."""

import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import mmpt
from mmpt.cli.embed import main
from mmpt.embedding.clip_loader import Windows
from mmpt.embedding.storage import read_embedding_set
from mmpt.models.loading import model_hash
from mmpt.pose import reader
from mmpt.processors.table_file import read_table
from mmpt.utils.errors import UserError
from tests.commands import run, start
from tests.pose.pose_fakes import fake_clip, write_pose
from tests.waiting import wait_until


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Poses of very different lengths, at two depths."""
    made = tmp_path_factory.mktemp("poses")
    (made / "deep").mkdir()
    for number in range(40):
        name = f"deep/{number:02d}.pose" if number % 2 else f"{number:02d}.pose"
        write_pose(made / name, fake_clip(frames=3 + (number * 7) % 29, seed=number))
    return made


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Equal up to rounding: workers change torch's number of threads, and with it the order of sums."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def embed(model_folder, source, out, *options):
    return main(
        [
            "--model",
            str(model_folder),
            "--in",
            str(source),
            "--out",
            str(out),
            "--workers",
            "0",
            "--quiet",
            *options,
        ]
    )


def test_embed_folder_equals_one_clip_at_a_time(model_folder, folder, tmp_path):
    assert embed(model_folder, folder, tmp_path / "out", "--portion", "16") == 0
    made = read_embedding_set(tmp_path / "out")
    assert made.ids[0] == {"id": "00", "path": "00.pose"} and made.ids[-1]["id"] == "deep/39"
    model = mmpt.from_pretrained(model_folder)
    alone = np.concatenate([model.embed_pose([folder / row["path"]]) for row in made.ids])
    np.testing.assert_allclose(made.vectors, alone, atol=1e-5)
    about = json.loads((tmp_path / "out" / "provenance.json").read_text())
    facts = {"folder": "model", "sha256": model_hash(model_folder)}
    assert about["model"] == facts | {"fingerprint": model.fingerprint}
    assert about["count"] == 40 and about["dim"] == 32 and about["failed"] == {}
    assert not (tmp_path / "out" / "parts").exists()


def test_embed_workers_and_formats(model_folder, folder, tmp_path, one_thread):
    embed(model_folder, folder, tmp_path / "a", "--portion", "16")
    embed(model_folder, folder, tmp_path / "b", "--portion", "16", "--workers", "2", "--format", "parquet")
    one, two = read_embedding_set(tmp_path / "a"), read_embedding_set(tmp_path / "b")
    assert one.ids == two.ids
    np.testing.assert_array_equal(one.vectors, two.vectors)
    assert not (tmp_path / "b" / "embeddings.npy").exists()


def test_embed_lists_unreadable_files(model_folder, folder, tmp_path):
    source = tmp_path / "poses"
    source.mkdir()
    for number in range(
        33
    ):  # in two reads: the last clip of the first read and the last clip of all are unreadable
        file = source / f"{number:02d}.pose"
        if number in (3, 15, 32):
            file.write_bytes(b"no pose")
        else:
            write_pose(file, fake_clip(frames=3 + number, seed=number))
    assert embed(model_folder, source, tmp_path / "out") == 1
    made = read_embedding_set(tmp_path / "out")
    assert sorted(made.failed) == ["03", "15", "32"]
    assert [row["id"] for row in made.ids] == [f"{n:02d}" for n in range(33) if n not in (3, 15, 32)]
    alone = mmpt.from_pretrained(model_folder).embed_pose([source / row["path"] for row in made.ids])
    np.testing.assert_allclose(made.vectors, alone, atol=1e-5)


def test_embed_skips_a_finished_folder(model_folder, folder, tmp_path):
    embed(model_folder, folder, tmp_path / "out")
    before = (tmp_path / "out" / "embeddings.npy").stat().st_mtime_ns
    embed(model_folder, folder, tmp_path / "out")
    assert (tmp_path / "out" / "embeddings.npy").stat().st_mtime_ns == before
    embed(model_folder, folder, tmp_path / "out", "--batch-size", "8")
    assert (tmp_path / "out" / "embeddings.npy").stat().st_mtime_ns != before


def test_embed_ignores_the_leftovers_of_another_run(model_folder, folder, tmp_path):
    """Vectors in another format, or of a run that was killed before it wrote its provenance."""
    few = tmp_path / "few"
    few.mkdir()
    one, two, three = sorted(folder.glob("*.pose"))[:3]
    (few / "a.pose").write_bytes(one.read_bytes())
    (few / "b.pose").write_bytes(two.read_bytes())
    out = tmp_path / "out"
    embed(model_folder, few, out)
    first = (out / "embeddings.npy").read_bytes()
    (few / "a.pose").write_bytes(three.read_bytes())
    embed(model_folder, few, out, "--format", "parquet")
    assert sorted(path.name for path in out.glob("embeddings.*")) == ["embeddings.parquet"]
    second = read_embedding_set(out).vectors
    embed(model_folder, few, out)
    np.testing.assert_array_equal(read_embedding_set(out).vectors, second)
    (out / "embeddings.npy").write_bytes(first)
    embed(model_folder, few, out, "--force")
    np.testing.assert_array_equal(read_embedding_set(out).vectors, second)


def test_embed_counts_long_clips_and_windows(model_folder, tmp_path, caplog):
    limit = mmpt.from_pretrained(model_folder).aligner.max_video_len
    source = tmp_path / "poses"
    source.mkdir()
    for name, frames in (("fits", limit), ("longer", limit + 1)):
        write_pose(source / f"{name}.pose", fake_clip(frames=frames, seed=1))
    assert embed(model_folder, source, tmp_path / "out") == 0
    assert f"1 of 2 clips are longer than the {limit} frames" in caplog.text
    assert json.loads((tmp_path / "out" / "provenance.json").read_text())["cut"] == 1
    caplog.clear()
    assert (
        embed(model_folder, source, tmp_path / "windows", "--window", f"{40 * limit}", "--stride", "40") == 0
    )
    assert "longer" not in caplog.text  # windows of max_video_len frames
    assert embed(model_folder, source, tmp_path / "wide", "--window", "99999") == 0
    assert "1 of 2 windows are longer" in caplog.text
    caplog.clear()
    mmpt.from_pretrained(model_folder).embed_pose([source / "fits.pose", source / "longer.pose"])
    assert f"1 of 2 clips are longer than max_video_len={limit}" in caplog.text


def test_embed_follows_links_and_skips_its_output(model_folder, folder, tmp_path):
    source = tmp_path / "poses"
    (source / "deep").mkdir(parents=True)
    (source / "one.POSE").write_bytes((folder / "00.pose").read_bytes())
    (source / "linked").symlink_to(folder / "deep", target_is_directory=True)
    out = source / "embedded"
    assert embed(model_folder, source, out) == 0
    made = read_embedding_set(out)
    assert {"one", "linked/39"} <= {row["id"] for row in made.ids}
    (out / "late.pose").write_bytes((folder / "00.pose").read_bytes())
    before = (out / "embeddings.npy").stat().st_mtime_ns
    assert embed(model_folder, source, out) == 0
    assert (out / "embeddings.npy").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    "source, options",
    [
        ("folder", ["--split", "test"]),
        ("folder", ["--vfeat-dir", "nowhere"]),
        ("folder", ["--prompt", "{text}"]),
        ("table", ["--prompt", "{text}"]),
        ("table", ["--prompts", "--window", "500"]),
        ("list", ["--split", "test"]),
        ("list", ["--stride", "500"]),
    ],
)
def test_embed_refuses_unused_options(model_folder, folder, small_table, tmp_path, source, options, capsys):
    assert embed(model_folder, small_table, tmp_path / "default", "--prompts") == 0
    ids = [row["id"] for row in read_embedding_set(tmp_path / "default").ids]
    assert ids == [f"Fingerspell the letter {letter}." for letter in "ABCDEF"], "as in training"
    (tmp_path / "list.txt").write_text("a prompt\n")
    where = {"folder": folder, "table": small_table, "list": tmp_path / "list.txt"}[source]
    assert embed(model_folder, where, tmp_path / "out", *options) == 2
    message = capsys.readouterr().err
    named = next(word for word in options if word.startswith("--") and word != "--prompts")
    assert f"{named} is for" in message and not (tmp_path / "out").exists()


def test_resume_embed_after_kill_gives_the_same_bytes(model_folder, folder, tmp_path):
    command = ["embed", "--model", model_folder, "--in", folder, "--portion", "2", "--workers", "0", "--out"]
    assert run(*command, tmp_path / "whole").returncode == 0
    parts = tmp_path / "killed" / "parts"
    started = start(*command, parts.parent, hold=("mmpt.embedding.parts:Parts.save", 15))
    wait_until(lambda: len(list(parts.glob("[0-9]*.npz"))) >= 3, "three portions are saved")
    started.send(signal.SIGKILL)
    assert started.end().returncode == -signal.SIGKILL
    saved = len(list(parts.glob("[0-9]*.npz")))
    assert 3 <= saved < 20, "killed in the middle"
    again = run(*command, parts.parent)
    assert again.returncode == 0 and f"{2 * saved} clips already embedded" in again.stderr
    for name in ("embeddings.npy", "ids.csv", "provenance.json"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_embed_tables_prompts_and_lists(model_folder, small_table, tmp_path):
    assert embed(model_folder, small_table, tmp_path / "test", "--split", "test") == 0
    made = read_embedding_set(tmp_path / "test")
    assert [row["id"] for row in made.ids] == [row.id for row in read_table(small_table).of_split("test")]
    options = ("--prompts", "--prompt", "<{spoken_language}> <{signed_language}> {text}")
    assert embed(model_folder, small_table, tmp_path / "prompts", *options) == 0
    prompts = read_embedding_set(tmp_path / "prompts")
    assert len(prompts.ids) == 24 and {"id": "<en> <gsg> A"} in prompts.ids
    (tmp_path / "list.txt").write_text("".join(f"{row['id']}\n" for row in prompts.ids) + "\n")
    assert embed(model_folder, tmp_path / "list.txt", tmp_path / "list") == 0
    np.testing.assert_array_equal(read_embedding_set(tmp_path / "list").vectors, prompts.vectors)


def test_embed_windows(model_folder, tmp_path):
    whole = fake_clip(frames=50, seed=1)
    write_pose(tmp_path / "long.pose", whole)
    write_pose(tmp_path / "part.pose", whole.frames(slice(10, 30)))
    (tmp_path / "t.csv").write_text("id,path,text\na,long.pose,x\nb,part.pose,x\n")
    options = ("--window", "800", "--stride", "400")
    assert embed(model_folder, tmp_path / "t.csv", tmp_path / "out", *options) == 0
    made = read_embedding_set(tmp_path / "out")
    spans = [(row["id"], row["start_ms"], row["end_ms"]) for row in made.ids]
    assert spans == [
        ("a", "0.0", "800.0"),
        ("a", "400.0", "1200.0"),
        ("a", "800.0", "1600.0"),
        ("a", "1200.0", "2000.0"),
        ("b", "0.0", "800.0"),
    ]
    np.testing.assert_allclose(made.vectors[1], made.vectors[4], atol=1e-5)
    assert Windows(1000, 300).spans(40, 25.0) == [slice(0, 25), slice(8, 33), slice(15, 40)]
    assert Windows(1000, 300).spans(4, 25.0) == [slice(0, 4)]


def test_embed_unreadable_clips(model_folder, folder, tmp_path, caplog):
    (tmp_path / "t.csv").write_text(f"id,path,text\na,{folder}/00.pose,x\nb,broken.pose,x\nc,gone.pose,x\n")
    (tmp_path / "broken.pose").write_bytes(b"no pose")
    assert embed(model_folder, tmp_path / "t.csv", tmp_path / "out") == 1
    made = read_embedding_set(tmp_path / "out")
    assert [row["id"] for row in made.ids] == ["a"] and set(made.failed) == {"b", "c"}
    assert "broken.pose" in caplog.text and "gone.pose" in caplog.text


@pytest.mark.parametrize(
    "source, options, words",
    [
        ("gone", [], "there is no"),
        ("empty", [], "no .pose files"),
        ("poses", ["--stride", "5"], "give --window too"),
        ("poses", ["--window", "0"], "milliseconds above 0"),
        ("poses", ["--window", "nan"], "milliseconds above 0"),
        ("poses", ["--window", "9", "--stride", "inf"], "milliseconds above 0"),
        ("latin.txt", [], "not UTF-8 text (byte 1)"),
        ("poses", ["--portion", "0"], "at least 1 clip"),
        ("poses", ["--workers", "-1"], "--workers -1: expected 0 to "),
        ("poses", ["--prompts"], "is a folder"),
    ],
)
def test_embed_errors_are_one_line_and_status_2(
    model_folder, folder, tmp_path, capsys, source, options, words
):
    (tmp_path / "empty").mkdir()
    (tmp_path / "latin.txt").write_bytes("Fünf".encode("latin-1"))
    source = folder if source == "poses" else tmp_path / source
    assert embed(model_folder, source, tmp_path / "out", *options) == 2
    assert words in capsys.readouterr().err


def test_score_of_pairs(model_folder, folder, monkeypatch):
    model = mmpt.from_pretrained(model_folder)
    poses, texts = [folder / "00.pose", folder / "02.pose"], ["a", "b"]
    expected = np.diag(model.score(poses, texts))
    np.testing.assert_allclose(mmpt.score(poses, texts, model), expected, atol=1e-6)
    monkeypatch.setenv("SIGNCLIP_MODEL", str(model_folder))
    np.testing.assert_allclose(mmpt.score(poses, texts), expected, atol=1e-6)
    with pytest.raises(UserError, match="2 poses and 1 texts"):
        mmpt.score(poses, ["a"], model)
    with pytest.raises(UserError, match="poses must be a list, got str"):
        mmpt.score("a", "b", model)
    monkeypatch.delenv("SIGNCLIP_MODEL")
    with pytest.raises(UserError, match="set SIGNCLIP_MODEL"):
        mmpt.score(poses, texts)


def test_score_reloads_a_replaced_model(model_folder, folder, tmp_path):
    place, poses = tmp_path / "model", [folder / "00.pose"]
    shutil.copytree(model_folder, place)
    before = mmpt.score(poses, ["a"], place)
    model = mmpt.from_pretrained(model_folder)
    for parameter in model.model.parameters():
        parameter.data.mul_(-0.5)
    model.save_pretrained(place, force=True)
    after = mmpt.score(poses, ["a"], place)
    assert after == pytest.approx(mmpt.score(poses, ["a"], model)) and after != pytest.approx(before)


def test_embed_refuses_names_that_are_not_utf_8(model_folder, folder, tmp_path, capsys):
    source = tmp_path / "poses"
    source.mkdir()
    pose = (folder / "00.pose").read_bytes()
    (source / "a.pose").write_bytes(pose)
    (source / os.fsdecode("Fünf.pose".encode("latin-1"))).write_bytes(pose)
    assert embed(model_folder, source, tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert "the file name is not UTF-8" in error and "Traceback" not in error
    assert not (tmp_path / "out").exists()


def test_embed_refuses_two_clips_of_one_id(model_folder, folder, tmp_path, capsys):
    source = tmp_path / "poses"
    source.mkdir()
    for name in ("a.pose", "a.POSE"):
        (source / name).write_bytes((folder / "00.pose").read_bytes())
    assert embed(model_folder, source, tmp_path / "out") == 2
    assert "would both have the id 'a'" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_embed_counts_prompts_with_equal_token_ids(model_folder, tmp_path, caplog):
    long = "word " * mmpt.from_pretrained(model_folder).dataset_cfg.max_len
    (tmp_path / "list.txt").write_text(f"{long} a\n{long} b\n{long} c\nhouse\n")
    assert embed(model_folder, tmp_path / "list.txt", tmp_path / "out") == 0
    assert "2 of 4 prompts have the same token ids as another" in caplog.text
    assert "3 of 4 prompts have more than 21 tokens and are cut" in caplog.text
    assert json.loads((tmp_path / "out" / "provenance.json").read_text())["cut"] == 3


def test_embed_says_what_a_list_repeats_and_which_prompts_hold_signs(model_folder, tmp_path, caplog):
    (tmp_path / "list.txt").write_text("A\nM525x535S2e748483x510\nA\n")
    assert embed(model_folder, tmp_path / "list.txt", tmp_path / "out") == 0
    assert "list.txt: 1 of 3 lines repeat another one" in caplog.text
    assert "1 of 2 prompts hold SignWriting, which this model reads as letters" in caplog.text


def test_prompts_of_a_list_end_with_the_line_and_are_normalised(model_folder, tmp_path):
    odd = "one\u2028two\x85three\x0cfour"
    (tmp_path / "list.txt").write_bytes(f"{odd}\r\ne\u0301\n\u00e9\n".encode())
    assert embed(model_folder, tmp_path / "list.txt", tmp_path / "out") == 0
    assert [row["id"] for row in read_embedding_set(tmp_path / "out").ids] == [odd, "\u00e9"]


def test_a_passing_error_is_not_remembered(model_folder, folder, tmp_path, monkeypatch, capsys):
    source, out = tmp_path / "poses", tmp_path / "out"
    source.mkdir()
    for name in "abc":
        shutil.copy(folder / "00.pose", source / f"{name}.pose")
    read = reader._read_bytes

    def fails(path: Path) -> bytes:
        if path.name == "b.pose":
            raise UserError("cannot be read (Input/output error)")
        return read(path)

    monkeypatch.setattr(reader, "_read_bytes", fails)
    assert embed(model_folder, source, out, "--portion", "1") == 1
    assert "b" in json.loads((out / "provenance.json").read_text())["failed"]
    monkeypatch.setattr(reader, "_read_bytes", read)
    assert embed(model_folder, source, out, "--portion", "1") == 0
    assert [row["id"] for row in read_embedding_set(out).ids] == ["a", "b", "c"]
    assert not (out / "parts").exists()


def test_a_clip_replaced_under_the_same_size_and_time_is_embedded_again(model_folder, tmp_path):
    source, out = tmp_path / "poses", tmp_path / "out"
    source.mkdir()
    path = write_pose(source / "a.pose", fake_clip(frames=9, seed=1))
    assert embed(model_folder, source, out) == 0
    before, status = read_embedding_set(out).vectors, path.stat()
    new = write_pose(tmp_path / "new.pose", fake_clip(frames=9, seed=2))
    os.utime(new, ns=(status.st_atime_ns, status.st_mtime_ns))
    new.replace(path)
    assert embed(model_folder, source, out) == 0
    assert not np.allclose(read_embedding_set(out).vectors, before)


def test_videos_are_to_be_extracted_first(model_folder, tmp_path, capsys):
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a.mp4").write_bytes(b"")
    command = f"extract first: `signclip extract pose --in {tmp_path}/videos --out FOLDER`"
    for source in (tmp_path / "videos", tmp_path / "videos" / "a.mp4"):
        assert embed(model_folder, source, tmp_path / "out") == 2
        assert command in capsys.readouterr().err
