"""`signclip prepare`: the pose cache of a config, in files that several processes build."""

import logging

from mmpt.cli.main import main
from mmpt.config import load_config
from mmpt.tasks import Task


def test_shards_of_the_pose_cache_are_what_training_opens(tiny_yaml, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    options = ["dataset.store_shards=3", f"dataset.cache_dir={tmp_path}/cache"]
    counts = []
    for words in (["--shard", "2/2"], ["--shard", "1/2"], ["--merge"]):
        caplog.clear()
        assert main(["prepare", str(tiny_yaml), *options, *words]) == 0
        counts.append(len(list((tmp_path / "cache").glob("*.poses"))))
    assert counts[0] < counts[1] == counts[2] and "preparing" not in caplog.text
    assert "train: 3 files of the pose cache with 18 clips (0 unreadable)" in caplog.text
    dataset = Task(load_config(tiny_yaml, options)).dataset("train")
    assert len(dataset) == 18 and "preparing" not in caplog.text
    whole = Task(load_config(tiny_yaml)).dataset("train")
    assert (dataset[7]["vfeats"] == whole[7]["vfeats"]).all()


def test_more_shards_than_files_are_refused(tiny_yaml, capsys):
    assert main(["prepare", str(tiny_yaml), "dataset.store_shards=2", "--shard", "3/3"]) == 2
    assert "dataset.store_shards is 2: set it to at least 3" in capsys.readouterr().err
