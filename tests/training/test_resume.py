"""What a run starts from: the table of mmpt/training/resume.py, row by row; and whether it may."""

import os
import shutil
from pathlib import Path

import pytest
import torch

from mmpt.config import load_config, save_config
from mmpt.config.run_folder import BEST, DATA, LAST, SAVED_CONFIG
from mmpt.training.resume import Start, StartKind, adopt_best, check_resume, find_start, training_data
from mmpt.utils.errors import MissingDataError, UserError
from mmpt.utils.files import read_json, write_json
from tests.processors.table_data import table_rows, write_table

STATE = dict.fromkeys(("model", "optimizer_history", "last_optimizer_state", "extra_state"))
FINETUNE = {"finetune_from_model": "other.pt"}
PUBLISHED_FINETUNE = {"restore_file": "other.pt", "reset_optimizer": True, "reset_dataloader": True}
RESTORE = {"restore_file": "other.pt", "reset_dataloader": True}


@pytest.mark.parametrize(
    "files, options, kind, checkpoint",
    [
        ([], {}, StartKind.SCRATCH, None),
        ([SAVED_CONFIG], {"reset_optimizer": True, "restore_file": LAST}, StartKind.SCRATCH, None),
        ([], FINETUNE, StartKind.FINETUNE, "other.pt"),
        ([], PUBLISHED_FINETUNE, StartKind.FINETUNE, "other.pt"),
        ([], RESTORE, StartKind.OTHER_RUN, "other.pt"),
        ([LAST], {}, StartKind.OWN_LAST, LAST),
        ([BEST, LAST], {}, StartKind.OWN_LAST, LAST),
        ([BEST, LAST, SAVED_CONFIG], FINETUNE, StartKind.OWN_LAST, LAST),
        ([LAST, SAVED_CONFIG], RESTORE, StartKind.OWN_LAST, LAST),
        ([BEST, SAVED_CONFIG], {}, StartKind.OWN_BEST, BEST),
        ([BEST, SAVED_CONFIG], PUBLISHED_FINETUNE, StartKind.OWN_BEST, BEST),
    ],
)
def test_find_start(tmp_path: Path, files: list[str], options: dict, kind: StartKind, checkpoint: str | None):
    for name in files:
        (tmp_path / name).write_bytes(name.encode())
    start = find_start({"checkpoint": {"save_dir": str(tmp_path), **options}})
    assert start.kind is kind
    if checkpoint is not None:
        checkpoint = Path(checkpoint) if checkpoint == "other.pt" else tmp_path / checkpoint
    assert start.checkpoint == checkpoint
    assert start.own == (kind in (StartKind.OWN_LAST, StartKind.OWN_BEST))
    assert start.resumes == (start.own or kind is StartKind.OTHER_RUN)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(files), "deciding writes nothing"
    adopt_best(start)
    if kind is StartKind.OWN_BEST:
        assert (tmp_path / LAST).read_bytes() == BEST.encode()
        assert find_start({"checkpoint": {"save_dir": str(tmp_path)}}).kind is StartKind.OWN_LAST


@pytest.mark.parametrize("options", [{}, FINETUNE, RESTORE])
def test_a_best_checkpoint_that_was_copied_in_is_never_overwritten(tmp_path: Path, options: dict):
    (tmp_path / BEST).write_bytes(b"somebody's")
    with pytest.raises(UserError, match=r"was copied in: .* Move it away, or name another"):
        find_start({"checkpoint": {"save_dir": str(tmp_path), **options}})
    assert [path.name for path in tmp_path.iterdir()] == [BEST]


@pytest.mark.parametrize(
    "kind, words", [(StartKind.OTHER_RUN, "to resume from"), (StartKind.FINETUNE, "start")]
)
def test_a_checkpoint_that_is_missing(tmp_path: Path, kind: StartKind, words: str):
    start = Start(kind, tmp_path / "no.pt")
    with pytest.raises(MissingDataError, match=words):
        start.check_exists()
    (tmp_path / "no.pt").touch()
    start.check_exists()


def test_fine_tuning_takes_the_weights_of_a_model_folder(tmp_path: Path):
    (tmp_path / "model.safetensors").touch()
    start = Start(StartKind.FINETUNE, tmp_path)
    assert start.weights == tmp_path / "model.safetensors"
    start.check_exists()
    assert Start(StartKind.OTHER_RUN, tmp_path / "last.pt").weights is None


def _check(config_file: Path, *overrides: str) -> None:
    config = load_config(config_file, overrides)
    check_resume(config, find_start(config.fairseq), training_data(config))


def test_settings_that_may_change_on_resume(tiny_yaml, tmp_path):
    (tmp_path / "run").mkdir()
    torch.save(STATE, tmp_path / "run" / LAST)
    save_config(load_config(tiny_yaml), tmp_path / "run" / SAVED_CONFIG)
    for override in (
        "fairseq.optimization.lr=[1.0]",
        "fairseq.optimization.max_epoch=9",
        "model.autocast=bf16",
        "loss.cached_chunk=2",
    ):
        _check(tiny_yaml, override)
    with pytest.raises(UserError, match=r"model\.pooling is max"):
        _check(tiny_yaml, "model.pooling=max")
    for override in ("model.dropout=0.2", "loss.gather=true", "dataset.augment2d=false"):
        with pytest.raises(UserError, match="this would be another experiment"):
            _check(tiny_yaml, override)


def test_resume_with_another_world_size_warns(tiny_yaml, tmp_path, caplog, monkeypatch):
    (tmp_path / "run").mkdir()
    torch.save(
        {**STATE, "cfg": {"distributed_training": {"distributed_world_size": 2}}}, tmp_path / "run" / LAST
    )
    for processes, warnings in (("2", 0), ("1", 1)):
        monkeypatch.setenv("WORLD_SIZE", processes)
        _check(tiny_yaml)
        assert caplog.text.count(f"resuming with world size {processes}, was 2") == warnings


@pytest.fixture
def two_tables(tiny_yaml, tmp_path):
    """A run on table.csv that was interrupted, as its folder; and its overrides."""
    rows = table_rows("AB")
    for row in rows:
        shutil.copy(row["path"], tmp_path / f"{row['id']}.pose")
        row["path"] = f"{row['id']}.pose"
    table = write_table(tmp_path / "table.csv", rows)
    overrides = ["dataset.meta_processor=TableMetaProcessor", f"dataset.table_path={table}"]
    (tmp_path / "run").mkdir()
    torch.save(STATE, tmp_path / "run" / LAST)
    config = load_config(tiny_yaml, overrides)
    save_config(config, tmp_path / "run" / SAVED_CONFIG)
    write_json(tmp_path / "run" / DATA, training_data(config))
    _check(tiny_yaml, *overrides)
    return rows, overrides


@pytest.mark.parametrize(
    "split, edit",
    [
        ("train", lambda row: row.update(text="Z")),
        ("train", lambda row: row.update(id="another")),
        ("train", lambda row: row.update(split="test")),
        ("valid", lambda row: row.update(path="psr-A.pose")),
    ],
)
def test_an_edited_table_is_another_experiment(tiny_yaml, tmp_path, two_tables, split, edit):
    rows, overrides = two_tables
    shutil.copy(tmp_path / "gsg-B.pose", tmp_path / "psr-A.pose")
    edit(next(row for row in rows if row["split"] == split))
    write_table(tmp_path / "table.csv", rows)
    words = (
        rf"the clips of {split} in .*table\.csv differ from those that the run in .*run began with in .*table"
    )
    with pytest.raises(UserError, match=words):
        _check(tiny_yaml, *overrides)


def test_another_table_or_file_is_another_experiment(tiny_yaml, tmp_path, two_tables):
    rows, overrides = two_tables
    other = write_table(tmp_path / "other.csv", [row for row in rows if row["id"] != "svk-A"])
    with pytest.raises(UserError, match=r"the clips of train in .*other\.csv differ .* with in .*table\.csv"):
        _check(tiny_yaml, *overrides, f"dataset.table_path={other}")
    shutil.copy(tmp_path / "svk-B.pose", tmp_path / "svk-A.pose")
    with pytest.raises(UserError, match="the clips of train in"):
        _check(tiny_yaml, *overrides)


def test_an_edit_of_a_few_bytes_is_another_experiment(tiny_yaml, tmp_path, two_tables):
    """Between the parts that "clips of train" reads, of the same size and time; found again by the hash."""
    _, overrides = two_tables
    file = tmp_path / "svk-A.pose"
    content, status = bytearray(file.read_bytes()), file.stat()
    place = len(content) // 4
    content[place] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(UserError, match="the clips of train in"):
        _check(tiny_yaml, *overrides)
    content[place] ^= 1
    file.write_bytes(content)
    _check(tiny_yaml, *overrides)
    record = tmp_path / "run" / DATA  # of a run of an older version
    write_json(record, {key: value for key, value in read_json(record).items() if "files of" not in key})
    content[place] ^= 1
    file.write_bytes(content)
    _check(tiny_yaml, *overrides)


def test_moved_data_and_other_test_clips_are_the_same_experiment(tiny_yaml, tmp_path, two_tables, caplog):
    rows, overrides = two_tables
    (tmp_path / "moved").mkdir()
    for file in tmp_path.glob("*.pose"):
        shutil.copyfile(file, tmp_path / "moved" / file.name)
    kept = [row for row in rows if row["id"] != "gsg-A"]  # a clip of test
    moved = write_table(tmp_path / "moved" / "b.csv", [{**row, "more": "x"} for row in kept])
    _check(tiny_yaml, *overrides, f"dataset.table_path={moved}")
    assert not caplog.records
    (tmp_path / "run" / DATA).unlink()  # as runs of older versions
    _check(tiny_yaml, *overrides, f"dataset.table_path={moved}")
    assert caplog.text.count("has no record of its data (data.json): not compared") == 1
