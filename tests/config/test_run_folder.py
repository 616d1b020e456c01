"""What the files of a run say about it."""

import os

import pytest

from mmpt.config.run_folder import unfinished, warn_if_moved

SIXTY = "fairseq: {{optimization: {{max_epoch: 60, max_update: 0{}}}}}"


@pytest.mark.parametrize(
    ("metrics", "config", "reached"),
    [
        ('{"epoch": 1}\n{"epoch": 19}\n', SIXTY.format(""), "epoch 19 of 60"),
        ('{"epoch": 60}\n', SIXTY.format(""), None),
        ('{"epoch": 19}\n', SIXTY.format(", stop_min_lr: 0.1"), None),  # it may have ended at that rate
        ('{"epoch": 19}\n', SIXTY.format("}, checkpoint: {patience: 3"), None),
        ('{"epoch": 19}\n', SIXTY.format("}, checkpoint: {patience: -1"), "epoch 19 of 60"),
        ('{"epoch": 19}\n', "fairseq: {}", None),
        ('{"epoch": 19}\n', SIXTY.format(", stop_min_lr: 0.0"), None),
        ('{"epoch": Infinity}\n', SIXTY.format(""), None),
        ('{"epo', SIXTY.format(""), None),
        ("", SIXTY.format(""), None),
        ('{"epoch": 19}\n', "a: [", None),
        ('{"epoch": 19}\n', None, None),
    ],
)
def test_unfinished_training(tmp_path, metrics, config, reached):
    (tmp_path / "metrics.jsonl").write_text(metrics)
    if config is not None:
        (tmp_path / "config.yaml").write_text(config)
    assert unfinished(tmp_path / "checkpoint_best.pt") == reached


def test_unfinished_does_not_wait_for_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "metrics.jsonl")
    assert unfinished(tmp_path / "checkpoint_best.pt") is None


@pytest.mark.parametrize(
    ("name", "checkpoint", "named", "warned"),
    [
        ("config.yaml", "checkpoint_last.pt", "old", True),
        ("config.yaml", "checkpoint_best.pt", "old", True),
        ("config.yaml", "checkpoint_last.pt", "link", False),
        ("config.yaml", "model.pt", "old", False),
        ("other.yaml", "checkpoint_last.pt", "old", False),
    ],
)
def test_moved_run_is_a_warning(tmp_path, caplog, name, checkpoint, named, warned):
    new = tmp_path / "new"
    new.mkdir()
    (new / checkpoint).touch()
    (tmp_path / "link").symlink_to(new)
    groups = {"checkpoint": {"save_dir": str(tmp_path / named)}}
    warn_if_moved(str(new / name), [], groups)
    assert (f"add fairseq.checkpoint.save_dir={new}" in caplog.text) == warned


def test_a_run_with_the_config_of_another_in_a_folder_of_its_own_is_no_moved_run(tmp_path, caplog):
    (tmp_path / "checkpoint_last.pt").touch()
    config, groups = str(tmp_path / "config.yaml"), {"checkpoint": {"save_dir": "runs/b"}}
    warn_if_moved(config, ["fairseq.checkpoint.save_dir=runs/b"], groups)
    assert not caplog.text
    warn_if_moved(config, ["fairseq.optimization.max_epoch=2"], groups)
    assert "names runs/b as their folder" in caplog.text
