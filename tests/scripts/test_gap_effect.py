"""scripts/gap_effect.py: which frames are hidden, and how gaps are counted."""

from unittest.mock import Mock

import numpy as np
import pytest

from mmpt.pose.components import HANDS, POSE
from mmpt.pose.preparation import PosePreparation
from mmpt.pose.reader import read_pose
from scripts import gap_effect
from scripts.gap_effect import gaps, hide, main
from tests.letters import ROOT, save_letter_model
from tests.pose.pose_fakes import fake_clip, write_pose


@pytest.mark.parametrize("frames", [1, 2, 3, 30])
@pytest.mark.parametrize("share", [0.01, 0.4, 0.99])
def test_the_share_is_hidden_but_never_the_ends(frames, share):
    clip = fake_clip(frames, missing=0)
    hidden = hide(clip, share, 3, [1, 2])
    for name in HANDS:
        there = hidden.component(name)[1].all(axis=1)
        assert there[0] and there[-1]
        wanted = min(share * frames, max(frames - 2, 0))
        assert wanted <= (~there).sum() <= min(wanted + 3, max(frames - 2, 0))
    np.testing.assert_array_equal(hidden.component(POSE)[0], clip.component(POSE)[0])
    assert (gaps(hidden) > 0) == (frames > 2) and gaps(clip) == 0


def test_wrong_shares_are_refused(capsys):
    assert main(["model", "--config", "x.yaml", "--shares", "1.5"]) == 2
    assert "--shares [1.5]" in capsys.readouterr().err
    assert main(["model", "--shares", "0.5"]) == 2
    assert "give a model folder and --config" in capsys.readouterr().err


def test_the_lexicon_is_written_with_hidden_hands(tmp_path, monkeypatch, capsys):
    clip = fake_clip(20, missing=0)
    write_pose(tmp_path / "a.pose", clip)
    (tmp_path / "index.csv").write_text("path,signed_language,words\na.pose,gsg,A\n")
    monkeypatch.setattr(gap_effect, "find_lexicon", lambda _: tmp_path)
    arguments = ["--write", str(tmp_path / "out"), "--shares", "0.4", "--seeds", "1"]
    assert main(arguments) == 0 and "1 clips" in capsys.readouterr().out
    found, expected = read_pose(tmp_path / "out" / "a.pose"), hide(clip, 0.4, 5, [1, 0])
    np.testing.assert_array_equal(found.data, expected.data)
    np.testing.assert_array_equal(found.confidence, expected.confidence)
    assert (tmp_path / "out" / "index.csv").is_file()
    written = {path: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert main(arguments) == 0, "the same command can be repeated"
    assert {path: path.read_bytes() for path in (tmp_path / "out").iterdir()} == written and len(written) == 3
    capsys.readouterr()
    assert main([*arguments, "--longest", "4"]) == 2
    assert "longest: 5 there, 4 now" in capsys.readouterr().err
    assert main([*arguments, "--longest", "4", "--force"]) == 0
    assert main([*arguments, "--seeds", "-1"]) == 2 and "--seeds -1: expected" in capsys.readouterr().err


def test_an_interrupted_write_leaves_nothing(tmp_path, monkeypatch):
    (tmp_path / "lexicon").mkdir()
    for name in "ab":
        write_pose(tmp_path / "lexicon" / f"{name}.pose", fake_clip(20))
    (tmp_path / "lexicon" / "index.csv").write_text(
        "path,signed_language,words\na.pose,gsg,A\nb.pose,gsg,B\n"
    )
    monkeypatch.setattr(gap_effect, "find_lexicon", lambda _: tmp_path / "lexicon")
    monkeypatch.setattr(
        gap_effect, "hidden_frames", Mock(side_effect=[np.zeros(20, bool), KeyboardInterrupt])
    )
    assert main(["--write", str(tmp_path / "out")]) == 130 and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--write", "out", "--shares", "0.1", "0.2"], "--write takes one of --shares"),
        (["--write", "out", "--seeds", "1", "2"], "--write takes one of --shares and one of --seeds"),
        (["model", "--write", "out"], "no model"),
        (["--write", "out", "--fill", "5"], "--write fills no gaps: leave out --fill"),
        (["model", "--config", "x.yaml", "--seeds", "1", "1"], "--seeds 1 1: expected each value once"),
        (["model", "--config", "x.yaml", "--fill", "-1"], "--fill -1: expected 1 or more frames"),
    ],
)
def test_options_without_effect_are_refused(tmp_path, monkeypatch, capsys, options, said):
    monkeypatch.chdir(tmp_path)
    assert main(options) == 2 and said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_parts_of_recordings_are_measured_as_clips_of_their_own(tmp_path, data_dir, monkeypatch, capsys):
    """Times of a table are read, and the model's own smoothing is kept."""
    model = save_letter_model(tmp_path / "model", data_dir, "dataset.smooth=one_euro")
    whole, used = fake_clip(60, missing=0), set()
    write_pose(tmp_path / "long.pose", hide(whole, 0.3, 3, [1]))
    for number in range(2):
        part = read_pose(tmp_path / "long.pose").frames(slice(30 * number, 30 * number + 30))
        write_pose(tmp_path / f"{number}.pose", part)
    start = PosePreparation.clip

    def clip(self, *arguments):
        used.add((self.smoothing.fill_gaps, self.smoothing.smooth))
        return start(self, *arguments)

    monkeypatch.setattr(PosePreparation, "clip", clip)
    said = []
    for rows in (
        ["a,long.pose,A,test,0,30", "b,long.pose,B,test,30,60"],
        ["a,0.pose,A,test,,", "b,1.pose,B,test,,"],
    ):
        table = tmp_path / "t.csv"
        table.write_text("\n".join(["id,path,text,split,start_frame,end_frame", *rows]) + "\n")
        (tmp_path / "c.yaml").write_text(
            f"includes: [{ROOT}/configs/table.yaml, {ROOT}/configs/palm_hand_pose.yaml]\n"
            f"dataset: {{table_path: {table}, bert_name: {data_dir}/mmfusion/bert}}\n"
        )
        words = [str(model), "--config", str(tmp_path / "c.yaml"), "--shares", "0.3", "--seeds", "1", "4"]
        assert main(words) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1] and "2 clips, 2 prompts" in said[0]
    assert "V2T R@1 (that of the seeds 1, 4); chance: 0.500" in said[0]
    assert used == {(fill, "one_euro") for fill in (0, 5, 25)}
