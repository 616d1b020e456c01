"""The section `cluster:` and the options --cluster."""

import argparse
import logging

import pytest

from mmpt.cli.command import without_cluster_arguments
from mmpt.cli.main import main
from mmpt.cli.train import _groups, _steps
from mmpt.cluster.shards import _with_options
from mmpt.config import ClusterConfig, load_cluster_config, load_config
from mmpt.config.cluster_options import minutes
from mmpt.utils.errors import UserError
from mmpt.utils.parallel import most_processes


@pytest.mark.parametrize(
    "text, expected",
    [
        ("90", 90),
        ("1:30", 1.5),
        ("04:00:00", 240),
        ("2-12", 3600),
        ("1-02:30", 1590),
        ("1-00:00:30", 1440.5),
        *[(wrong, None) for wrong in ("", "4h", "1:2:3:4", "-5", "1-", "a-1")],
    ],
)
def test_time_limits_are_read_as_sbatch_reads_them(text, expected):
    assert minutes(text) == expected


@pytest.mark.parametrize(
    "text, message",
    [
        ("time: 4h", r"cluster\.time: expected minutes, .* got '4h'"),
        ("time: 12:00:00", r"cluster\.time: expected text or null, got 43200 .* put a text in quotes"),
        ("time: '1'\n  stop_seconds: 60", r"asked to stop 60 s before a limit of 60 s"),
        ("partiton: gpu", r"unknown key cluster\.partiton\. Did you mean cluster\.partition\?"),
        ("sbatch: {array: 1-9}", r"cluster\.sbatch: 'array' is set by the command itself: leave it out"),
        ("sbatch: {gpus-per-node: 8}", r"'gpus-per-node' is .* itself: set cluster\.gpus_per_node\."),
        ("nodes: 0", r"cluster\.nodes: expected from 1 to 10000, got 0"),
    ],
)
def test_a_wrong_section_is_one_line(tmp_path, text, message):
    path = tmp_path / "c.yaml"
    path.write_text(f"cluster:\n  {text}\n")
    with pytest.raises(UserError, match=message):
        load_cluster_config(path)


def test_a_file_without_the_section_is_refused_and_others_are_not_read(tmp_path, tiny_yaml):
    with pytest.raises(UserError, match="expected a section cluster:"):
        load_cluster_config(tiny_yaml)
    tiny_yaml.write_text(tiny_yaml.read_text() + "cluster: {partition: gpu}\n")
    assert load_cluster_config(tiny_yaml) == ClusterConfig(partition="gpu")
    assert load_config(tiny_yaml, ["cluster.nodes=2"]).cluster == ClusterConfig(partition="gpu", nodes=2)


@pytest.mark.parametrize(
    "published, expected, said",
    [
        ("big", {}, "'big' names settings of MMPT's own cluster: ignored, set cluster: instead"),
        (
            "{slurm_partition: learn, timeout_min: 240, mem_gb: 64, nodes: 2, exclude: n7, qos: x}",
            {"partition": "learn", "time": "240", "mem": "64G", "nodes": 2},
            "ignored exclude, qos",
        ),
        ("{gpus-per-node: 8, nodes: many}", {"gpus_per_node": 8}, "ignored nodes"),
        ("{setup: [a, b], signal_delay_s: 30}", {"setup": ["a", "b"], "stop_seconds": 30}, None),
    ],
)
def test_published_slurm_config_becomes_keys_of_cluster(tiny_yaml, caplog, published, expected, said):
    caplog.set_level(logging.INFO)
    text = tiny_yaml.read_text()
    tiny_yaml.write_text(f"{text}slurm_config: {published}\n")
    assert load_config(tiny_yaml).cluster == ClusterConfig(**expected)
    assert [r.getMessage().partition("slurm_config: ")[2] for r in caplog.records] == [said] * bool(said)
    own = load_config(tiny_yaml, ["cluster.nodes=5"]).cluster
    assert own == ClusterConfig(**{**expected, "nodes": 5})  # the section's own keys win


def test_jobs_get_the_words_without_the_options_of_the_cluster():
    words = ["extract", "--in=a", "--cluster=local", "b", "--shards", "3", "--c", "2", "--out", "--x"]
    words += ["--cluster-config", "c.yaml", "--cancel-on-interrupt", "model.x=1"]
    assert without_cluster_arguments(words) == [
        *("extract", "--in=a", "b", "--c", "2", "--out", "--x", "model.x=1")
    ]
    with pytest.raises(UserError, match="write the option in full"):
        without_cluster_arguments(["--clust", "local"])


@pytest.mark.parametrize("words", [["check", "t.csv"], ["check", "--out", "o", "--", "-t.csv"]])
def test_options_of_a_shard_stand_before_names_that_begin_with_a_dash(words):
    end = words.index("--") if "--" in words else len(words)
    command = list(_with_options(words, "--shard", "1/2"))
    assert command[-len(words) - 2 :] == [*words[:end], "--shard", "1/2", *words[end:]]


@pytest.mark.parametrize(
    "words, message",
    [
        (["--shards", "2"], "--shards is for jobs of a cluster"),
        (["--cancel-on-interrupt"], "--cancel-on-interrupt is for jobs of a cluster"),
        (["--cluster", "local"], "the number of shards is not set: give --shards N"),
        (["--cluster", "slurm", "--shards", "0"], "--shards, or cluster.shards: got 0; expected 1 to 10000."),
        (["--cluster", "local", "--shards", "0"], f"got 0; expected 1 to {most_processes()}, because"),
        (["--cluster", "local", "--shards", "2", "--shard", "1/2"], "leave out --shard and --merge"),
    ],
)
def test_wrong_options_are_one_line(tmp_path, capsys, words, message):
    pytest.importorskip("submitit")
    assert main(["embed", "--model", str(tmp_path), "--in", str(tmp_path), "--out", "o", *words]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def train_args(**given):
    defaults = {"overrides": [], "jobtype": None, "force": False, "verbose": False}
    return argparse.Namespace(**{**defaults, **given})


@pytest.mark.parametrize(
    "cluster, torchrun",
    [
        (ClusterConfig(), []),
        (ClusterConfig(gpus_per_node=4), ["--standalone", "--nproc-per-node=4"]),
        (ClusterConfig(nodes=2), ["--nproc-per-node=1"]),
        (ClusterConfig(nodes=2, gpus_per_node=8), ["--nproc-per-node=8"]),
    ],
)
def test_each_gpu_of_each_node_is_a_process(tiny_yaml, cluster, torchrun):
    args = train_args(overrides=["eval.after_training=true"])
    train, evaluate = _steps(str(tiny_yaml), args, cluster)
    found = [
        word for word in train.command if word in torchrun or word.startswith(("--standalone", "--nproc"))
    ]
    assert found == torchrun and ("mmpt.training.torchrun" in train.command) == bool(torchrun)
    assert train.everywhere and not evaluate.everywhere and "evaluate" in evaluate.command


def test_an_evaluation_is_part_of_the_job_of_the_training_before_it(tiny_yaml):
    paths = []
    for name in ("a.yaml", "test_a.yaml", "b.yaml"):
        path = tiny_yaml.with_name(name)
        path.write_text(tiny_yaml.read_text())
        paths.append(str(path))
    assert _groups(paths, train_args()) == [paths[:2], paths[2:]]
    assert _groups(paths[1:2], train_args()) == [paths[1:2]]
