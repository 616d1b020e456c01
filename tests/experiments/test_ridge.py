"""Kernel ridge from poses to SignWriting."""

import numpy as np
import pytest

from mmpt.config import load_config
from mmpt.experiments.folds import RIDGE, SVM, Fold, run_baseline
from mmpt.experiments.ridge import describe_signs

FOLD = Fold(("gsg",), ("mfs", "psr", "svk"))
SIGNS = "dataset.prompt='{signwriting}'"
OPTIONS = [
    "dataset.text_processor=SignWritingTextProcessor",
    "model.text_encoder_cls=SignWritingBert",
    "dataset.max_len=32",
]
OPTIONS += ["eval.protocol=unseen-alphabet", "dataset.hand_frame=palm", "model.vfeat_dim=69"]


@pytest.mark.parametrize(
    "prompts",
    [[SIGNS], ["dataset.prompt_templates=['{text}', '{signwriting}']", "eval.prompt_ensemble=true"]],
)
def test_ridge_is_far_above_chance_on_an_unseen_alphabet(tiny_yaml, prompts):
    config = load_config(tiny_yaml, [*OPTIONS, *prompts])
    assert run_baseline(load_config(tiny_yaml), FOLD)[0] == SVM
    name, correct = run_baseline(config, FOLD)
    assert name == RIDGE and correct.shape == (6,) and correct.sum() >= 4  # by chance one of six


def test_a_sign_is_described_by_the_parts_of_its_symbols():
    one, other = "M510x508S1f720490x493", "M510x508S1f710490x493"  # another fill
    both = describe_signs((f"{one} {other}",))
    assert np.allclose(both, describe_signs((one,)) + describe_signs((other,)))
    assert np.allclose(both, describe_signs((f"letter {one}", other)))
    assert 0 < np.abs(describe_signs((one,)) - describe_signs((other,))).max() <= 1
    assert not describe_signs(("letter",)).any()
