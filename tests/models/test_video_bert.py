"""The video tower: convolutions, position tables, dropout, dimensions."""

import dataclasses
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmpt.models import BertSettings, MMBertForEncoder
from mmpt.models.video_bert import VideoTowerOptions, position_vectors
from mmpt.utils.errors import UserError

close = torch.testing.assert_close
SETTINGS = BertSettings(
    vocab_size=20, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32
)


def tower(**options: Any) -> MMBertForEncoder:
    torch.manual_seed(options.pop("seed", 0))
    settings = options.pop("settings", SETTINGS)
    given = {"vfeat_dim": 6, "max_video_len": 40, "num_layers": 2, "cls_id": 2, "sep_id": 3, **options}
    model = MMBertForEncoder(settings, VideoTowerOptions(**given)).eval()
    for parameter in model.parameters():  # BERT's small initial weights would hide mistakes
        nn.init.normal_(parameter, std=0.3)
    return model


def clips(*lengths: int, width: int = 6, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(seed)
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return torch.randn(*mask.shape, width) * mask[..., None], mask


def embed(model: MMBertForEncoder, vfeats: torch.Tensor, vmasks: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        hidden, mask = model(vfeats, vmasks)
    return (hidden * mask[..., None]).sum(1)


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("lengths", [(27, 1, 33), (40, 5), (50, 12)])
def test_convolutions_as_if_padded_to_max_video_len(layers: int, lengths: tuple[int, ...]) -> None:
    model = tower(conv1d=layers)
    vfeats, vmasks = clips(*lengths)
    got = embed(model, vfeats, vmasks)
    assert model.videoconv is not None
    for i, length in enumerate(lengths):
        padded = F.pad(vfeats[i : i + 1, :length], (0, 0, 0, max(40 - length, 0)))
        frames = padded.transpose(1, 2)
        with torch.no_grad():
            for j in range(layers):
                conv = getattr(model.videoconv, f"conv1d_{j}")
                frames = F.conv1d(frames, conv.weight, conv.bias, padding=8)
        plain = tower(conv1d=layers)
        plain.load_state_dict(model.state_dict())
        plain.videoconv = None
        expected = embed(plain, frames.transpose(1, 2)[:, :length], torch.ones(1, length, dtype=torch.bool))
        close(got[i], expected[0], rtol=1e-5, atol=1e-4)
        close(
            embed(model, vfeats[i : i + 1, :length], vmasks[i : i + 1, :length])[0],
            got[i],
            rtol=1e-5,
            atol=1e-4,
        )


def test_parameter_names_of_convolutions() -> None:
    names = {name for name in tower(conv1d=2).state_dict() if name.startswith("videoconv")}
    assert names == {f"videoconv.conv1d_{i}.{kind}" for i in (0, 1) for kind in ("weight", "bias")}


@pytest.mark.parametrize("length", [7, 64, 600])
def test_position_vectors_stretch_as_interpolate_does(length: int) -> None:
    torch.manual_seed(0)
    table = torch.randn(48, 5)
    expected = table if length <= 48 else F.interpolate(table.T[None], size=length, mode="linear")[0].T
    index = torch.arange(min(length, 600))
    got = position_vectors(table, index[None], torch.tensor([length]))
    close(got[0], expected[:length], rtol=0, atol=5e-6)


def test_table_shorter_than_max_video_len_is_stretched_for_every_clip() -> None:
    """Where max_video_len itself does not fit the table, the ancestor pads every clip beyond it, so all of
    its clips read one stretched table."""
    short = tower(max_video_len=700)
    long = tower(max_video_len=700, settings=dataclasses.replace(SETTINGS, max_position_embeddings=702))
    state = short.state_dict()
    name = "bert.embeddings.position_embeddings.weight"
    state[name] = F.interpolate(state[name].T[None], size=702, mode="linear")[0].T
    long.load_state_dict(state)
    close(embed(short, *clips(30, 4)), embed(long, *clips(30, 4)), rtol=1e-5, atol=1e-4)


def test_separator_position_moves_only_for_clips_beyond_max_video_len() -> None:
    model = tower(max_video_len=10)
    table = model.bert.embeddings.position_embeddings.weight
    vfeats, vmasks = clips(30, 10, 3)
    before = embed(model, vfeats, vmasks)
    with torch.no_grad():
        table[31, 0] += 1.0  # the [SEP] of the first clip
    first = embed(model, vfeats, vmasks)
    assert [bool((first[i] - before[i]).abs().max() > 1e-3) for i in range(3)] == [True, False, False]
    with torch.no_grad():
        table[11, 0] += 1.0  # the [SEP] of the other two, and frame 10 of the first
    second = embed(model, vfeats, vmasks)
    assert all((second[i] - first[i]).abs().max() > 1e-3 for i in range(3))


def test_masked_frame_within_a_clip_keeps_the_others_where_they_are() -> None:
    model = tower()
    vfeats, vmasks = clips(12)
    vmasks[0, 5] = False
    changed = vfeats.clone()
    changed[0, 5] = float("nan")
    got = embed(model, changed, vmasks)
    close(got, embed(model, vfeats, vmasks))
    moved = torch.cat([vfeats[:, :5], vfeats[:, 6:]], 1)
    assert (got - embed(model, moved, torch.ones(1, 11, dtype=torch.bool))).abs().max() > 1e-3


def test_clip_without_frames_and_empty_batch() -> None:
    model = tower()
    vfeats, vmasks = clips(9, 4)
    vmasks[1] = False
    got = embed(model, vfeats, vmasks)
    assert torch.isfinite(got).all()
    close(got[1:], embed(model, vfeats[1:, :0], vmasks[1:, :0]))
    hidden, mask = model(vfeats[:0], vmasks[:0])
    assert hidden.shape == (0, 1, 16)
    assert mask.shape == (0, 1)


def test_dropout_option_rules_all_rates_and_only_in_training() -> None:
    vfeats, vmasks = clips(9, 4)
    model = tower(dropout=0.5)
    assert {m.p for m in model.modules() if isinstance(m, nn.Dropout)} == {0.5}
    assert {m.dropout for m in model.modules() if hasattr(m, "heads")} == {0.5}
    close(embed(model, vfeats, vmasks), embed(model, vfeats, vmasks))
    model.train()
    assert (embed(model, vfeats, vmasks) - embed(model, vfeats, vmasks)).abs().max() > 1e-3
    default = tower()
    assert default.videomlp.dropout.p == 0.0
    assert default.bert.embeddings.dropout.p == 0.1


def test_attention_drops_out_in_training_only() -> None:
    settings = dataclasses.replace(SETTINGS, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.5)
    model = tower(settings=settings)
    vfeats, vmasks = clips(9, 4)
    close(embed(model, vfeats, vmasks), embed(model, vfeats, vmasks))
    model.train()
    assert (embed(model, vfeats, vmasks) - embed(model, vfeats, vmasks)).abs().max() > 1e-3


def test_mistakes_are_named() -> None:
    with pytest.raises(UserError, match=r"num_hidden_video_layers is 3.*has 2 layers"):
        tower(num_layers=3)
    model = tower()
    with pytest.raises(UserError, match=r"6 \(model.vfeat_dim\)|frames of 7 numbers"):
        model(*clips(4, width=7))
    vfeats, _ = clips(4)
    with pytest.raises(UserError, match="vmasks"):
        model(vfeats, torch.ones(1, 5, dtype=torch.bool))


def test_half_precision_features_are_accepted() -> None:
    model = tower()
    vfeats, vmasks = clips(9, 4)
    close(embed(model, vfeats.half(), vmasks), embed(model, vfeats.half().float(), vmasks))
