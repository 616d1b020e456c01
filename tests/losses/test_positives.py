"""Positives of clips that several prompts describe."""

import pytest
import torch
import torch.nn.functional as F

from mmpt.losses import MMContraLoss, MMSigmoidLoss
from mmpt.losses.contrastive import describes
from mmpt.losses.mixup import Mixup

# the label of the drawn prompt, then of all prompts of the clip: class, sign
LABELS = torch.tensor([[0, 0, 7], [7, 0, 7], [8, 0, 8], [1, 1, 7], [8, 2, 8]])
# prompt j describes clip i
EXPECTED = [[int(int(p[0]) in {int(x) for x in c[1:]}) for p in LABELS] for c in LABELS]


def test_a_prompt_describes_the_clips_that_have_it():
    found = describes(LABELS, LABELS).T
    assert found.int().tolist() == EXPECTED
    assert found[0, 1] and found[2, 0] and not found[3, 0] and found[3, 1]  # by the sign, by the class
    assert describes(LABELS[:, 0], LABELS[:, 0]).tolist() == (LABELS[:, :1] == LABELS[:, 0]).tolist()


@pytest.mark.parametrize("mixed", [False, True])
def test_info_nce_spreads_its_target_over_all_prompts_that_describe_a_clip(mixed):
    torch.manual_seed(0)
    video, text = torch.randn(5, 4, dtype=torch.float64), torch.randn(5, 4, dtype=torch.float64)
    loss = MMContraLoss(label_aware=True, label_smoothing=0.1)

    def by_hand(labels, text):
        same = describes(labels, labels).T.double()  # clips x prompts
        logits = video @ text.T
        total = 0.0
        for matrix, target in ((logits, same), (logits.T, same.T)):
            target = 0.9 * target / target.sum(1, keepdim=True) + 0.1 / 5
            total = total - (target * F.log_softmax(matrix, 1)).sum(1).mean()
        return total

    if not mixed:
        assert torch.allclose(loss(video, text, LABELS), by_hand(LABELS, text))
        return
    order = torch.tensor([3, 4, 0, 1, 2])
    expected = 0.7 * by_hand(LABELS, text) + 0.3 * by_hand(LABELS[order], text[order])
    assert torch.allclose(Mixup(order, 0.7).loss(loss, video, text, LABELS), expected)


def test_rows_of_one_label_are_the_labels():
    torch.manual_seed(0)
    video, text, labels = torch.randn(6, 4), torch.randn(6, 4), torch.tensor([0, 1, 0, 2, 1, 3])
    for loss in (MMContraLoss(label_aware=True), MMSigmoidLoss(label_aware=True)):
        assert torch.equal(loss(video, text, labels), loss(video, text, labels[:, None].repeat(1, 3)))
