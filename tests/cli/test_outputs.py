"""What commands do to the folder of --out: foreign files, other models, full disks and signals."""

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import mmpt
from mmpt.cli.main import main
from mmpt.models.loading import load_model
from mmpt.search import approximate
from tests.commands import O, train
from tests.conftest import ENVIRONMENT, ROOT
from tests.pose.pose_fakes import fake_clip, write_pose


@pytest.fixture
def vectors(tmp_path: Path) -> Path:
    """A folder of 200 embeddings with names that are not ASCII."""
    folder = tmp_path / "vectors"
    folder.mkdir()
    np.save(folder / "embeddings.npy", np.random.default_rng(0).normal(size=(200, 16)).astype(np.float32))
    (folder / "ids.json").write_text(json.dumps([f"ä {i}" for i in range(200)]))
    return folder


@pytest.fixture
def poses(tmp_path: Path) -> Path:
    folder = tmp_path / "poses"
    folder.mkdir()
    for name in "ab":
        write_pose(folder / f"{name}.pose", fake_clip(frames=9, seed=ord(name)))
    return folder


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def refused(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The command ends with exit status 2 and one line that says `said`."""
    assert main(words) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(errors) == 1 and said in errors[0], errors


@pytest.mark.parametrize("telling", ["index.json", "model.safetensors", "config.json", "notes.txt"])
@pytest.mark.parametrize("command", ["search build", "convert"])
def test_a_thesis_survives(
    tmp_path: Path, vectors: Path, model_folder: Path, capsys: pytest.CaptureFixture[str], command: str,
    telling: str,
) -> None:  # fmt: skip
    thesis = tmp_path / "thesis"
    (thesis / "chapters").mkdir(parents=True)
    (thesis / "chapters" / "1.tex").write_text("years of work")
    (thesis / telling).write_text("{}")
    before = files_of(thesis)
    config = str(model_folder.parent / "tiny.yaml")
    words = [*command.split(), str(vectors)]
    if command == "convert":
        words = ["convert", str(model_folder / "model.safetensors"), "--config", config]
    refused([*words, "--out", str(thesis)], "which does not belong to", capsys)
    assert files_of(thesis) == before
    main([*words, "--out", str(thesis), "--force"])
    assert files_of(thesis).items() >= before.items()


def test_convert_again_keeps_notes_and_replaces_another_model_only_by_force(
    tmp_path: Path, model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, out = str(model_folder.parent / "tiny.yaml"), tmp_path / "model"
    words = ["convert", str(model_folder / "model.safetensors"), "--config", config, "--out", str(out)]
    assert main(words) == 0 and main(words) == 0
    refused([*words, "dataset.max_len=23"], "a model of something else", capsys)
    (out / "notes.txt").write_text("mine")
    refused(words, "holds 'notes.txt'", capsys)
    assert main([*words, "dataset.max_len=23", "--force"]) == 0
    assert (out / "notes.txt").read_text() == "mine" and load_model(out).dataset_cfg.max_len == 23


def test_embed_keeps_embeddings_of_other_windows_and_models(
    tmp_path: Path, poses: Path, model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = ["embed", "--in", str(poses), "--out", str(out), "--workers", "0", "--quiet", "--model"]
    assert main([*words, str(model_folder)]) == 0
    before = files_of(out)
    refused([*words, str(model_folder), "--window", "99"], "window_ms: none there, 99.0 now", capsys)
    longer = mmpt.from_pretrained(model_folder)
    longer.dataset_cfg = type(longer.dataset_cfg)(**{**vars(longer.dataset_cfg), "max_video_len": 31})
    longer.save_pretrained(tmp_path / "longer")  # the same weights
    refused([*words, str(tmp_path / "longer")], "embeddings of something else (model:", capsys)
    assert files_of(out) == before
    write_pose(poses / "c.pose", fake_clip(frames=9, seed=7))  # the same source with one more clip
    assert main([*words, str(model_folder)]) == 0
    (out / "embeddings.npy").write_bytes(before["embeddings.npy"])
    refused(["search", "build", str(out), "--out", str(tmp_path / "i")], "embeddings.npy was changed", capsys)
    assert main([*words, str(tmp_path / "longer"), "--force"]) == 0


def test_embed_deletes_no_foreign_folder_of_parts(
    tmp_path: Path, poses: Path, model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = tmp_path / "out" / "parts"
    parts.mkdir(parents=True)
    (parts / "engine.step").write_text("mine")
    words = ["embed", "--in", str(poses), "--out", str(parts.parent), "--model", str(model_folder)]
    refused([*words, "--workers", "0", "--force"], "which is not of an embedding run", capsys)
    assert (parts / "engine.step").read_text() == "mine"


def test_extract_replaces_no_foreign_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in").mkdir()
    np.save(tmp_path / "in" / "a.npy", np.ones((3, 4), np.float32))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.npy").write_text("mine")
    words = ["extract", "npy", "--in", str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--dim", "4"]
    refused([*words, "--workers", "0"], "a.npy exists, but not in ", capsys)
    assert (tmp_path / "out" / "a.npy").read_text() == "mine"


def test_check_replaces_no_foreign_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_pose(tmp_path / "a.pose", fake_clip())
    (tmp_path / "t.csv").write_text("id,path,text,split\na,a.pose,tree,train\n")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "check.md").write_text("mine")
    refused(["check", str(tmp_path / "t.csv"), "--out", str(tmp_path / "out")], "holds 'check.md'", capsys)
    assert (tmp_path / "out" / "check.md").read_text() == "mine"


@contextlib.contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Writes beyond `size` bytes fail, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    keep, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # Python 3.11 would keep half a .pyc file
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        sys.dont_write_bytecode = keep


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("command", ["flat", "hnsw", "convert", "embed", "spot"])
def test_a_full_disk_is_one_line_and_leaves_nothing(
    tmp_path: Path, vectors: Path, poses: Path, model_folder: Path, capsys: pytest.CaptureFixture[str],
    command: str,
) -> None:  # fmt: skip
    out = tmp_path / "new" / "out"
    size = 4096
    if command == "convert":
        config = str(model_folder.parent / "tiny.yaml")
        words = ["convert", str(model_folder / "model.safetensors"), "--config", config]
    elif command == "embed":
        words = ["embed", "--in", str(poses), "--model", str(model_folder), "--workers", "0", "--quiet"]
        size = 100
    elif command == "spot":
        (tmp_path / "texts.txt").write_text("A\nB\n")
        words = ["spot", str(poses / "a.pose"), "--texts", str(tmp_path / "texts.txt"), "--quiet"]
        words += ["--model", str(model_folder), "--lengths", "0.2"]
        size = 500
    else:
        size = 4096 if command == "flat" else 14_000  # the vectors fit
        words = ["search", "build", str(vectors), "--kind", command]
    with largest_file(size):
        refused([*words, "--out", str(out)], "the disk is full", capsys)
    left = [path for path in (tmp_path / "new").rglob("*") if path.is_file() and path.name != ".lock"]
    assert not [path for path in left if path.name != "key.txt"], left
    assert main([*words, "--out", str(out)]) == 0


def test_sigterm_in_search_build_leaves_nothing(
    tmp_path: Path, vectors: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(approximate, "build", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    words = ["search", "build", str(vectors), "--out", str(tmp_path / "new" / "index"), "--kind", "hnsw"]
    assert main(words) == 128 + signal.SIGTERM
    assert capsys.readouterr().err.endswith("terminated\n")
    assert not list((tmp_path / "new").iterdir())
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_an_ascii_terminal_gets_escapes(tmp_path: Path, vectors: Path) -> None:
    assert main(["search", "build", str(vectors), "--out", str(tmp_path / "index")]) == 0
    query = ["search", "query", str(tmp_path / "index"), "-k", "1", "--npy", str(vectors / "embeddings.npy")]
    code = "from mmpt.cli.main import main\n"
    code += f"assert main({query}) == 0\nprint('then')\nassert main({[*query, '--json']}) == 0"
    ascii_only = {**ENVIRONMENT, "PYTHONIOENCODING": "ascii", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=ascii_only)
    assert done.returncode == 0, done.stderr
    shown, _, answers = done.stdout.partition(b"then\n")
    assert rb"\xe4 7" in shown and json.loads(answers)[7]["hits"][0]["id"] == "ä 7"


def test_a_pipe_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from mmpt.extractors.video import Video
    from mmpt.utils.errors import UserError

    (tmp_path / "in").mkdir()
    os.mkfifo(tmp_path / "in" / "a.npy")
    words = ["extract", "npy", "--in", str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--dim", "4"]
    assert main([*words, "--workers", "0"]) == 1
    assert "is a pipe" in capsys.readouterr().err
    os.mkfifo(tmp_path / "a.mp4")
    with pytest.raises(UserError, match="is a pipe"):
        Video(tmp_path / "a.mp4")
    (tmp_path / "index").mkdir()
    os.mkfifo(tmp_path / "index" / "index.json")
    refused(["search", "info", str(tmp_path / "index")], "is a pipe", capsys)
    for name, words in (("a.yaml", ["config", "check"]), ("a.csv", ["check"]), ("a.pose", ["demo"])):
        os.mkfifo(tmp_path / name)
        refused([*words, str(tmp_path / name)], "is a pipe", capsys)


def test_answers_replace_only_answers(
    tmp_path: Path, vectors: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["search", "build", str(vectors), "--out", str(tmp_path / "index")]) == 0
    query = ["search", "query", str(tmp_path / "index"), "--npy", str(vectors / "embeddings.npy"), "--out"]
    assert main([*query, str(tmp_path / "a.json")]) == 0 and main([*query, str(tmp_path / "a.json")]) == 0
    before = (vectors / "ids.json").read_bytes()
    refused([*query, str(vectors / "ids.json")], "was not written by this command", capsys)
    assert (vectors / "ids.json").read_bytes() == before


def test_train_refuses_results_of_an_older_version_before_it_trains(
    tiny_yaml: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "run" / "eval"
    results.mkdir(parents=True)
    (results / "results.json").write_text(json.dumps(dict.fromkeys(("t2v", "v2t", "n_videos", "n_prompts"))))
    words = ["eval.after_training=true", "eval.bootstrap=0", f"{O}.max_update=1"]
    refused(["train", "--in-process", str(tiny_yaml), *words], "an evaluation of an older version", capsys)
    assert not list((tmp_path / "run").glob("*.pt"))
    dry = ["train", "--dryrun", str(tiny_yaml), *words]
    refused(dry, "give --force", capsys)
    capsys.readouterr()
    assert main([*dry, "--force"]) == 0
    trains, evaluates = capsys.readouterr().out.splitlines()
    assert trains.endswith("--force") and evaluates.endswith("--force")
    assert train(tiny_yaml, *words, "--force").returncode == 0
    assert main(["evaluate", str(tiny_yaml), *words, "--force"]) == 0
    assert "files" in json.loads((results / "results.json").read_text())
