"""scripts/gap_effect.py: which frames are hidden, and how gaps are counted."""

import numpy as np
import pytest

from mmpt.pose.components import HANDS, POSE
from scripts.gap_effect import gaps, hide, main
from tests.pose.pose_fakes import fake_clip


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
