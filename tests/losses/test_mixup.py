"""Mixup: the mixed loss is the cross-entropy against mixed targets, computed by hand."""

import pytest
import torch
import torch.nn.functional as F

from mmpt.losses import MMContraLoss, MMSigmoidLoss
from mmpt.losses.mixup import Mixup, draw_mixup
from mmpt.utils.errors import UserError


def test_mixup_loss_of_mixed_targets() -> None:
    torch.manual_seed(0)
    video, text = torch.randn(6, 8), torch.randn(6, 8)
    mixup = Mixup(torch.tensor([1, 2, 3, 4, 5, 0]), 0.7)
    targets = 0.7 * torch.eye(6) + 0.3 * torch.eye(6)[mixup.order]
    # a prompt's clips: its own by 0.7, and by 0.3 the one it was mixed into
    by_hand = F.cross_entropy(video @ text.T, targets) + F.cross_entropy(text @ video.T, targets.T)
    torch.testing.assert_close(mixup.loss(MMContraLoss(), video, text, None), by_hand)


@pytest.mark.parametrize("loss", [MMContraLoss(label_aware=True), MMSigmoidLoss()])
def test_mixup_share_of_one_is_the_plain_loss(loss) -> None:
    torch.manual_seed(1)
    video, text, labels = torch.randn(4, 8), torch.randn(4, 8), torch.tensor([0, 1, 0, 2])
    mixup = Mixup(torch.tensor([3, 0, 1, 2]), 1.0)
    mixed = mixup.loss(loss, video, text, labels)
    torch.testing.assert_close(mixed, loss(video, text, labels=labels))
    clips, masks = torch.randn(4, 5, 3), torch.ones(4, 5, dtype=torch.bool)
    torch.testing.assert_close(mixup.clips(clips, masks), clips)


def test_mixup_mixes_clips_frame_by_frame() -> None:
    clips, masks = torch.randn(3, 5, 2), torch.ones(3, 5, dtype=torch.bool)
    mixup = Mixup(torch.tensor([2, 0, 1]), 0.6)
    mixed = mixup.clips(clips, masks)
    torch.testing.assert_close(mixed[1, 4], 0.6 * clips[1, 4] + 0.4 * clips[0, 4])
    with pytest.raises(UserError, match=r"dataset\.clip_frames"):  # the numbers of frames, not the masks
        mixup.clips(clips, masks, [5, 4, 5])
    masks[1, 3:] = False
    torch.testing.assert_close(mixup.clips(clips, masks, [5, 5, 5]), mixed)
    with pytest.raises(UserError, match=r"dataset\.clip_frames"):
        mixup.clips(clips, masks)


def test_mixup_depends_on_torchs_seed() -> None:
    def draw(seed: int) -> Mixup:
        torch.manual_seed(seed)
        return draw_mixup(50, 0.2)

    one, same, other = draw(1), draw(1), draw(2)
    assert one.share == same.share and torch.equal(one.order, same.order)
    assert not torch.equal(one.order, other.order)
    assert sorted(one.order.tolist()) == list(range(50))
    assert all(0.5 <= draw(seed).share <= 1 for seed in range(50))


def test_mixup_loss_pairs_labels_with_the_prompts_that_are_mixed_in() -> None:
    """Clips 0 and 2 share a prompt: both are positives of it, also in the mixed-in half."""
    torch.manual_seed(2)
    video, text, labels = torch.randn(4, 8), torch.randn(4, 8), torch.tensor([0, 1, 0, 2])
    text[2] = text[0]
    order = torch.tensor([1, 2, 3, 0])
    by_hand = torch.zeros(())
    for share, columns in ((0.6, torch.arange(4)), (0.4, order)):
        same = (labels[columns][:, None] == labels[columns][None]).float()
        for scores in (video @ text[columns].T, text[columns] @ video.T):
            by_hand = by_hand + share * F.cross_entropy(scores, same / same.sum(1, keepdim=True))
    loss = Mixup(order, 0.6).loss(MMContraLoss(label_aware=True), video, text, labels)
    torch.testing.assert_close(loss, by_hand)
