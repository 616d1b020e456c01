"""The configs of sentences: they load, and train on a few clips that the importers of their corpora read."""

from pathlib import Path

import pytest

from mmpt.cli import train as train_cli
from mmpt.config import load_config
from mmpt.tasks import Task
from scripts import import_csl_daily, import_how2sign, import_phoenix2014t
from tests.pose.pose_fakes import fake_clip, write_pose
from tests.scripts.test_import_sentences import csl_daily_labels, how2sign_csv, phoenix_csv

PROJECT = Path("projects/signclip")
CORPORA = ["how2sign", "phoenix", "csl_daily"]
SENTENCES = ["rain in the north", "sun in the south", "snow", "a storm", "rain in the north"]


def poses(folder: Path, names: list[str]) -> None:
    """Clips of which the last is longer than the window of the configs, 256 frames."""
    folder.mkdir(parents=True)
    for seed, name in enumerate(names):
        frames = 300 if seed == len(names) - 1 else 20 + seed
        write_pose(folder / f"{name}.pose", fake_clip(frames=frames, seed=seed, n_face=468))


def make(corpus: str, raw: Path, out: Path) -> None:
    """Write the corpus's own files with five sentences a split, and import them."""
    raw.mkdir()
    if corpus == "how2sign":
        names, importer, words = how2sign_csv(raw, SENTENCES), import_how2sign, ["--csv", str(raw)]
    elif corpus == "phoenix":
        names, importer, words = phoenix_csv(raw, SENTENCES), import_phoenix2014t, ["--in", str(raw)]
    else:
        names, importer, words = csl_daily_labels(raw, SENTENCES), import_csl_daily, ["--in", str(raw)]
    poses(raw / "poses", names)
    assert importer.main([*words, "--poses", str(raw / "poses"), "--out", str(out)]) == 0


@pytest.mark.parametrize("corpus", CORPORA)
def test_sentence_configs_keep_long_clips_whole_and_agree_with_their_twins(corpus):
    config = load_config(PROJECT / f"{corpus}_retrieval.yaml")
    twin = load_config(PROJECT / f"test_{corpus}_retrieval.yaml")
    assert config.model == twin.model and config.eval == twin.eval and twin.dataset.split == "test"
    assert config.dataset.long_video == "windows" and config.eval.protocol == "sentences"
    assert Task(config).video_processor(training=True).feature_dim == config.model.vfeat_dim
    multilingual = config.dataset.bert_name == "bert-base-multilingual-cased"
    assert multilingual == (corpus != "how2sign"), "the text model reads German and Chinese"


@pytest.mark.parametrize("corpus", CORPORA)
def test_missing_table_names_the_import_script(corpus, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("SIGNCLIP_DATA", str(tmp_path))
    assert train_cli.main([str(PROJECT / f"{corpus}_retrieval.yaml"), "--in-process"]) == 2
    (error,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert f"{tmp_path}/{corpus}/table.csv" in error and "scripts/import_" in error


@pytest.mark.parametrize("corpus", CORPORA)
def test_sentence_configs_train_an_update(corpus, monkeypatch, tmp_path, data_dir, capsys):
    make(corpus, tmp_path / "raw", tmp_path / "data" / corpus)
    for name in ("data", "runs", "cache"):
        monkeypatch.setenv(f"SIGNCLIP_{name.upper()}", str(tmp_path / name))
    bert = data_dir / "mmfusion" / "bert"
    small = [f"dataset.bert_name={bert}", "model.num_hidden_video_layers=1", "fairseq.dataset.batch_size=4"]
    words = [str(PROJECT / f"{corpus}_retrieval.yaml"), "--in-process", *small]
    assert train_cli.main([*words, "fairseq.optimization.max_update=1"]) == 0, capsys.readouterr().err
    assert (tmp_path / "runs" / f"{corpus}_retrieval" / "checkpoint_last.pt").is_file()
    task = Task(load_config(PROJECT / f"test_{corpus}_retrieval.yaml", small))
    assert max(len(task.dataset("test")[n]["vfeats"]) for n in range(5)) == 300, "no frame is cut"
