"""scripts/relabel_lexicon.py, and a table of its poses."""

from unittest.mock import Mock

import numpy as np
import pytest

from mmpt.config import load_config
from mmpt.datasets.clip_facts import ClipReader, read_facts
from mmpt.pose.components import RIGHT_HAND
from mmpt.pose.reader import read_pose
from mmpt.processors.fingerspelling import find_lexicon, read_index
from scripts import relabel_lexicon
from scripts.relabel_lexicon import main
from tests.conftest import ROOT


@pytest.fixture
def lexicon(tmp_path, monkeypatch):
    """Four clips of the lexicon."""
    rows = [row for row in read_index(find_lexicon(None)) if row.language in ("gsg", "svk")][::20][:4]
    folder = tmp_path / "lexicon"
    lines = ["path,signed_language,words"]
    for i, row in enumerate(rows):
        (folder / row.language).mkdir(parents=True, exist_ok=True)
        (folder / row.language / f"{i}.pose").write_bytes(row.path.read_bytes())
        lines.append(f"{row.language}/{i}.pose,{row.language},{row.letter}")
    (folder / "index.csv").write_text("\n".join(lines) + "\n")
    monkeypatch.setattr(relabel_lexicon, "find_lexicon", lambda _: folder)
    return folder


def test_points_are_those_of_the_lexicon(lexicon, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["--as", "openpose_137", "--out", str(out)]) == 0
    assert "4 clips as openpose_137" in capsys.readouterr().out
    assert (out / "index.csv").read_bytes() == (lexicon / "index.csv").read_bytes()
    for path in lexicon.rglob("*.pose"):
        clip, other = read_pose(path), read_pose(out / path.relative_to(lexicon))
        columns = [clip.index(*point) for point in other.points]
        np.testing.assert_array_equal(other.data[..., :2], clip.data[:, columns, :2])
        np.testing.assert_array_equal(other.confidence, clip.confidence[:, columns])
        assert not other.depth and (other.fps, other.width) == (clip.fps, clip.width)
    for option in ("--noise", "--seed"):
        assert main(["--as", "openpose_137", "--out", str(tmp_path / "x"), option, "-1"]) == 2
        assert f"{option} -1: expected" in capsys.readouterr().err and not (tmp_path / "x").exists()


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_same_command_after_an_interruption(lexicon, tmp_path, monkeypatch, error):
    command = ["--as", "holistic", "--out", str(tmp_path / "new" / "out")]
    with monkeypatch.context() as patch:
        patch.setattr(relabel_lexicon, "add_noise", Mock(side_effect=[None, error]))
        assert main(command) == (130 if error is KeyboardInterrupt else 2)
    assert not [*(tmp_path / "new").iterdir()]
    assert main(command) == 0
    written = {path: path.read_bytes() for path in (tmp_path / "new" / "out").rglob("*.*")}
    assert main(command) == 0 and len(written) == 6
    assert {path: path.read_bytes() for path in (tmp_path / "new" / "out").rglob("*.*")} == written


def test_other_files_in_the_folder_are_kept(lexicon, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    command = ["--as", "holistic", "--out", str(tmp_path / "out")]
    assert main(command) == 2
    assert "holds 'mine.txt', which does not belong to a lexicon" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]
    (tmp_path / "out" / "mine.txt").unlink()
    assert main(command) == 0 and main([*command, "--noise", "3"]) == 2
    assert "noise: 0.0 there, 3.0 now" in capsys.readouterr().err
    assert main([*command, "--noise", "3", "--force"]) == 0


@pytest.mark.parametrize("name", ["holistic", "coco_wholebody_133"])
def test_noise_has_the_size_that_was_asked_for(lexicon, tmp_path, name):
    for folder, words in (("a", ()), ("b", ("--noise", "3")), ("c", ("--noise", "3"))):
        assert main(["--as", name, "--out", str(tmp_path / folder), *words]) == 0
    for path in (tmp_path / "a").rglob("*.pose"):
        found = [read_pose(tmp_path / folder / path.relative_to(tmp_path / "a")) for folder in "abc"]
        clean, noisy, again = (clip.component(RIGHT_HAND)[0] for clip in found)
        here = found[0].component(RIGHT_HAND)[1] != 0
        np.testing.assert_array_equal(noisy, again)
        assert (noisy - clean)[here][:, :2].std() == pytest.approx(3, rel=0.2) and not noisy[~here].any()
        if name == "holistic":
            assert (noisy - clean)[here][:, 2].std() == pytest.approx(3 / 500, rel=0.2)


def test_constant_noise_shifts_a_point_alike_everywhere(lexicon, tmp_path):
    for folder, words in (("a", ()), ("b", ("--noise", "3", "--constant"))):
        assert main(["--as", "coco_wholebody_133", "--out", str(tmp_path / folder), *words]) == 0
    shifts = []
    for path in sorted((tmp_path / "a").rglob("*.pose")):
        clean, noisy = (read_pose(tmp_path / f / path.relative_to(tmp_path / "a")) for f in "ab")
        here = clean.component(RIGHT_HAND)[1].all(axis=1)
        shift = (noisy.component(RIGHT_HAND)[0] - clean.component(RIGHT_HAND)[0])[here][..., :2]
        np.testing.assert_allclose(shift, np.broadcast_to(shift[0], shift.shape), atol=1e-4)
        shifts.append(shift[0])
    np.testing.assert_allclose(shifts, np.broadcast_to(shifts[0], np.shape(shifts)), atol=1e-4)
    assert shifts[0].std() == pytest.approx(3, rel=0.4)


def test_check_reads_clips_of_another_estimator(lexicon, tmp_path):
    out = tmp_path / "out"
    assert main(["--as", "coco_wholebody_133", "--out", str(out)]) == 0
    name = f"{ROOT}/projects/signclip/fslex_canonical.yaml"
    canonical, holistic = (
        ClipReader(load_config(name, words))
        for words in ([], ["dataset.pose_layout=holistic", "model.vfeat_dim=173"])
    )
    for path in map(str, out.rglob("*.pose")):
        facts = read_facts((path, None, False, canonical))
        assert facts.error is None and facts.sampled == 10 and facts.right > 0.3
        error = read_facts((path, None, False, holistic)).error
        assert error.startswith(f"{path}: the pose is 2-D") and "pose_layout: canonical" in error
