"""scripts/ablate.py: errors before training, and the figure."""

import warnings

import pytest

from mmpt.cli.experiment import ablate
from mmpt.experiments.ablations import about, picture


def test_ablate_refuses_other_clips(tiny_yaml, tmp_path, capsys):
    other = tmp_path / "other.yaml"
    other.write_text(f"includes: [{tiny_yaml.name}]\ndataset:\n  test_languages: [ase]\n")
    assert ablate.main([str(tiny_yaml), str(other), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "other.yaml: the 6 clips of its test split are not the 6 of" in error and "tiny.yaml" in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("comment", ["short", "a long comment of many words " * 12, "x" * 300])
def test_ablate_figure_with_long_comments(tmp_path, comment, rendered):
    row = {"about": comment, "config": "c", "v2t R@1": 0.5, "v2t R@1 low": 0.4, "v2t R@1 high": 0.6}
    row["v2t R@1 of each seed"] = [0.45, 0.55]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib warns where labels leave no room
        assert picture(tmp_path / "a.png", [row, row], "title").stat().st_size > 5000


def test_ablate_seeds_and_overrides(tiny_yaml, tmp_path, capsys, monkeypatch):
    started = []
    monkeypatch.setattr("mmpt.experiments.runs.run_all", lambda runs, *_: started.extend(runs) or runs)
    command = [str(tiny_yaml), "--out", str(tmp_path / "out"), "--seeds", "1"]
    assert ablate.main([*command, "1"]) == 2
    assert "--seeds 1 1: expected whole numbers, each once" in capsys.readouterr().err and not started
    ablate.main([*command, "2", "loss.temperature=0.5"])
    assert [run.name for run in started] == ["tiny/seed1", "tiny/seed2"]
    assert all("loss.temperature=0.5" in run.overrides for run in started)


def test_ablate_describes_a_config_without_a_comment(tiny_yaml, tmp_path):
    other = tmp_path / "other.yaml"
    changes = "loss: {label_smoothing: 0.3}\ndataset: {letters: [A, Ä], hand_frame: null}\n"
    folder = f"fairseq: {{checkpoint: {{save_dir: {tmp_path}/other}}}}\n"
    other.write_text(f"includes: [{tiny_yaml.name}]\n{changes}{folder}")
    assert about(other, tiny_yaml) == 'dataset.letters=["A", "Ä"], loss.label_smoothing=0.3'
    other.write_text("# What it says\n# itself.\n# And more.\n" + other.read_text())
    assert about(other, tiny_yaml) == "What it says itself."
