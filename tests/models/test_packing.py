"""Packing gives the same outputs and gradients as padding, for batches of every shape."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mmpt.losses import MMContraLoss
from mmpt.models.layers import Dropout
from mmpt.models.packing import PackedModule, Packing, _split, pick, set_packed, spread
from mmpt.models.prompts import distinct_prompts

close = torch.testing.assert_close

CLIPS = {
    "mixed": (3, 68, 12, 12, 1, 30, 67, 12),
    "equal": (9, 9, 9),
    "one": (5,),
    "long_tail": (258, 6, 7, 8, 9, 10),
    "beyond the position table": (600, 20, 515),
}


def batch(lengths: tuple[int, ...], width: int = 63, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Clips of these lengths and as many prompts, of which some are the same."""
    torch.manual_seed(seed)
    vmasks = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    vfeats = torch.randn(*vmasks.shape, width)
    vfeats[~vmasks] = float("nan")  # padding is never looked at
    caps = torch.zeros(len(lengths), 14, dtype=torch.int64)
    cmasks = torch.zeros(len(lengths), 14, dtype=torch.bool)
    for i in range(len(lengths)):
        torch.manual_seed(i % 3)
        tokens = torch.randint(5, 300, (3 + 4 * (i % 3),))
        row = torch.tensor([2, 3, *tokens.tolist(), 3])
        caps[i, : len(row)] = row
        cmasks[i, : len(row)] = True
    return vfeats, vmasks, caps, cmasks


# ---- the padded path, written out: nothing below calls mmpt's forward code
def plain_layers(bert: Any, embedded: Tensor, mask: Tensor) -> Tensor:
    """BERT layers over a padded batch [B, L, H]."""
    eps = bert.settings.layer_norm_eps
    norm = bert.embeddings.LayerNorm
    hidden = F.layer_norm(embedded, embedded.shape[-1:], norm.weight, norm.bias, eps)
    heads = bert.settings.num_attention_heads
    for layer in bert.encoder.layer:
        parts = layer.attention.self
        q, k, v = (
            F.linear(hidden, part.weight, part.bias).unflatten(-1, (heads, -1)).transpose(1, 2)
            for part in (parts.query, parts.key, parts.value)
        )
        scores = q @ k.transpose(2, 3) / math.sqrt(q.shape[-1])
        mixed = scores.masked_fill(~mask[:, None, None], float("-inf")).softmax(-1) @ v
        for block, inner in (
            (layer.attention.output, mixed.transpose(1, 2).flatten(2)),
            (layer.output, None),
        ):
            if inner is None:
                wide = layer.intermediate.dense
                inner = F.gelu(F.linear(hidden, wide.weight, wide.bias))
            summed = F.linear(inner, block.dense.weight, block.dense.bias) + hidden
            hidden = F.layer_norm(
                summed, summed.shape[-1:], block.LayerNorm.weight, block.LayerNorm.bias, eps
            )
    return hidden


def plain_video(tower: Any, vfeats: Tensor, vmasks: Tensor) -> Tensor:
    clips = []
    for frames, mask in zip(vfeats, vmasks):  # one by one where convolutions and positions depend on the clip
        frames = frames[mask]
        counted = max(len(frames), tower.max_video_len)
        if tower.videoconv is not None:
            padded = F.pad(frames, (0, 0, 0, counted - len(frames))).T[None]
            for i in range(tower.videoconv.num_layers):
                conv = getattr(tower.videoconv, f"conv1d_{i}")
                padded = F.conv1d(padded, conv.weight, conv.bias, padding=8)
            frames = padded[0].T[: len(frames)]
        mlp = tower.videomlp
        inner = F.gelu(F.linear(frames, mlp.linear1.weight, mlp.linear1.bias))
        inner = F.layer_norm(inner, inner.shape[-1:], mlp.LayerNorm.weight, mlp.LayerNorm.bias, 1e-5)
        tokens = F.linear(inner, mlp.linear2.weight, mlp.linear2.bias)
        embeddings = tower.bert.embeddings
        words, table = embeddings.word_embeddings.weight, embeddings.position_embeddings.weight
        if counted + 2 > len(table):
            table = F.interpolate(table.T[None], size=counted + 2, mode="linear")[0].T
        where = [*range(len(frames) + 1), counted + 1]
        ends = words[tower.cls_id][None], words[tower.sep_id][None]
        clips.append(
            torch.cat([ends[0], tokens, ends[1]]) + table[where] + embeddings.token_type_embeddings.weight[0]
        )
    lengths = torch.tensor([len(clip) for clip in clips])
    mask = torch.arange(int(lengths.max())) < lengths[:, None]
    hidden = plain_layers(tower.bert, torch.nn.utils.rnn.pad_sequence(clips, batch_first=True), mask)
    return torch.stack([row[1:length].mean(0) for row, length in zip(hidden, lengths)])


def plain_text(bert: Any, caps: Tensor, cmasks: Tensor, type_behind: int) -> Tensor:
    ids, mask = (torch.cat([part[:, :1], part[:, 2:]], 1) for part in (caps, cmasks))
    types = torch.full_like(ids, type_behind)
    types[:, 0] = 0
    embeddings = bert.embeddings
    embedded = embeddings.word_embeddings.weight[ids] + embeddings.token_type_embeddings.weight[types]
    embedded = embedded + embeddings.position_embeddings.weight[: ids.shape[1]]
    hidden = plain_layers(bert, embedded, mask)
    return torch.stack([row[seen][1:].mean(0) for row, seen in zip(hidden, mask)])


def gradients(model: Any) -> dict[str, Tensor]:
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


@pytest.mark.parametrize("lengths", CLIPS.values(), ids=CLIPS)
@pytest.mark.parametrize("options", [{}, {"conv1d": 2}, {"model_cls": "MMFusionShare"}], ids=str)
def test_packing_equals_padding(make_model: Any, lengths: tuple[int, ...], options: dict[str, Any]) -> None:
    model = make_model(**options)
    inputs = batch(lengths)
    shared = getattr(model, "mm_encoder", None)
    video_tower, text_tower = (shared, shared.bert) if shared else (model.video_encoder, model.text_encoder)
    expected = (
        plain_video(video_tower, *inputs[:2]),
        plain_text(text_tower, *inputs[2:], type_behind=int(bool(shared))),
    )
    # small logits, so that the softmax leaves every clip and prompt a gradient
    expected_loss = MMContraLoss()(expected[0], expected[1] / 30)
    expected_loss.backward()
    wanted = gradients(model)
    out = model(*inputs)
    close(out["pooled_video"], expected[0], rtol=0, atol=1e-5)
    close(out["pooled_text"], expected[1], rtol=0, atol=1e-5)
    loss = MMContraLoss()(out["pooled_video"], out["pooled_text"] / 30)
    close(loss, expected_loss, rtol=0, atol=1e-5)
    loss.backward()
    got = gradients(model)
    assert set(got) >= set(wanted)
    assert max(gradient.abs().max() for gradient in wanted.values()) > 0 or len(lengths) == 1
    for name, gradient in got.items():
        close(gradient, wanted.get(name, torch.zeros_like(gradient)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pooling", ["mean", "max", "attention"])
def test_packing_can_be_switched_off(make_model: Any, pooling: str) -> None:
    """`packed` off is the same model on the same batch, padding and repeated prompts included."""
    model = make_model(pooling=pooling, conv1d=1)
    if pooling == "attention":
        torch.nn.init.normal_(model.video_pooling.score.weight)
    vfeats, vmasks, caps, cmasks = batch(CLIPS["mixed"])
    padded = (
        F.pad(vfeats, (0, 0, 0, 30), value=float("nan")),
        F.pad(vmasks, (0, 30)),
        F.pad(caps, (0, 9)),
        F.pad(cmasks, (0, 9)),
    )
    results = []
    for packed, inputs in ((True, (vfeats, vmasks, caps, cmasks)), (False, padded)):
        set_packed(model, packed)
        out = model(*inputs)
        MMContraLoss()(out["pooled_video"] / 30, out["pooled_text"]).backward()
        results.append((out, gradients(model)))
    (out, got), (expected, wanted) = results
    close(out, expected, rtol=0, atol=1e-5)
    close(got, wanted, rtol=1e-4, atol=1e-5)
    assert any(gradient.abs().max() > 1e-3 for gradient in got.values())


def test_packing_computes_only_real_tokens(make_model: Any) -> None:
    """Counted, not timed: rows that go through the first feed-forward layer of each tower."""
    model = make_model()
    vfeats, vmasks, caps, cmasks = batch(CLIPS["long_tail"])
    rows: dict[str, int] = {}
    for name in ("video_encoder.bert", "text_encoder"):
        dense = model.get_submodule(f"{name}.encoder.layer.0.intermediate.dense")
        dense.register_forward_hook(lambda _, args, __, name=name: rows.update({name: args[0].numel() // 32}))
    model(vfeats, vmasks, caps, cmasks)
    assert rows["video_encoder.bert"] == int(vmasks.sum()) + 2 * len(vmasks)
    assert rows["text_encoder"] == sum(3 + 4 * i + 2 for i in range(3))  # three different prompts, once each
    set_packed(model, False)
    model(vfeats, vmasks, caps, cmasks)
    assert rows == {"video_encoder.bert": 6 * 260, "text_encoder": 6 * 13}


def test_packing_groups_contain_every_token_once() -> None:
    torch.manual_seed(0)
    lengths = torch.randint(1, 200, (64,))
    packing = Packing.of(torch.arange(200) < lengths[:, None])
    assert sum(packing.sizes) == int(lengths.sum())
    assert packing.rows.unique().numel() == len(packing.rows)
    padded = sum(group.count * group.length**2 for group in packing.groups)
    assert padded < 1.3 * int((lengths**2).sum())
    assert len(packing.groups) < 20
    values = torch.randn(64, 200, 4)
    mask = torch.arange(200) < lengths[:, None]
    close(packing.unpack(packing.pack(values)), values * mask[..., None])


def test_distinct_prompts_are_found_whatever_the_padding_holds() -> None:
    ids = torch.tensor([[2, 7, 3, 0], [2, 9, 9, 3], [2, 7, 3, 8], [2, 7, 0, 3]])
    mask = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1], [1, 1, 1, 0], [1, 1, 1, 1]]).bool()
    rows, seen, which = distinct_prompts(ids, mask)
    assert len(rows) == 3
    assert which[0] == which[2]
    close(rows[which] * mask, ids * mask)
    assert torch.equal(seen[which], mask)


def test_equal_prompts_share_their_gradient(make_model: Any) -> None:
    model = make_model()
    caps = torch.tensor([[2, 3, 9, 8, 3]]).repeat(4, 1)
    weights = torch.tensor([1.0, -2.0, 0.5, 3.0])
    model.encode_text(caps, caps > 0).sum(1).mul(weights).sum().backward()
    together = gradients(model)
    model.encode_text(caps[:1], caps[:1] > 0).sum(1).mul(weights.sum()).sum().backward()
    close(together, gradients(model), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("packed", [True, False])
def test_packing_of_a_row_without_tokens_keeps_its_first_token(packed: bool) -> None:
    """Attention over no token is NaN."""
    mask = torch.tensor([[True, True, True], [False, False, False]])
    packing = Packing.of(mask, packed=packed)
    assert 3 in packing.rows.tolist()
    if packed:
        assert sorted(packing.rows.tolist()) == [0, 1, 2, 3]
    else:
        assert packing.groups[0].mask[:, 0, 0].tolist() == [[True, True, True], [True, False, False]]


def test_packing_by_hand() -> None:
    """Longest first, equal lengths in their order, a group for each length that padding does not pay for."""
    mask = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1], [1, 0, 0, 0], [1, 1, 0, 0]])
    packing = Packing.of(mask)
    assert (packing.batch, packing.width, packing.plain) == (4, 4, False)
    assert packing.rows.tolist() == [4, 5, 6, 7, 0, 1, 12, 13, 8]
    assert packing.sequences.tolist() == [1, 1, 1, 1, 0, 0, 3, 3, 2]
    assert packing.columns.tolist() == [0, 1, 2, 3, 0, 1, 0, 1, 0]
    [group] = packing.groups
    assert (group.count, group.length, packing.sizes) == (4, 4, (9,))
    assert group.index.tolist() == [0, 1, 2, 3, 4, 5, 8, 9, 12]
    assert group.mask.shape == (4, 1, 1, 4)
    assert group.mask[:, 0, 0].long().tolist() == [[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 0, 0], [1, 0, 0, 0]]
    plain = Packing.of(mask, packed=False)
    assert (plain.batch, plain.width, plain.plain, plain.sizes) == (4, 4, True, (16,))
    assert plain.rows.tolist() == list(range(16))
    assert plain.sequences.tolist() == [row for row in range(4) for _ in range(4)]
    assert plain.columns.tolist() == [0, 1, 2, 3] * 4
    [group] = plain.groups
    assert (group.count, group.length, group.index) == (4, 4, None)
    assert group.mask[:, 0, 0].tolist() == mask.bool().tolist()


def test_packing_of_equal_lengths_needs_no_mask() -> None:
    [group] = Packing.of(torch.ones(3, 5)).groups
    assert (group.count, group.length, group.index, group.mask) == (3, 5, None, None)


def test_packing_splits_groups_where_padding_costs_more_than_a_call() -> None:
    """A sequence joins while the padding so far is at most the cost of a call, or 15 % of what is kept."""
    assert _split([], 10) == []
    assert _split([5, 5, 5], 0) == [(0, 3)]
    assert _split([5, 4], 9) == [(0, 2)]  # wastes 25 - 16 = 9
    assert _split([5, 4], 8) == [(0, 1), (1, 2)]
    assert _split([5, 4, 4], 17) == [(0, 2), (2, 3)]  # the waste adds up to 18
    assert _split([5, 4, 4], 18) == [(0, 3)]
    assert _split([10, 10, 9], 0) == [(0, 3)]  # 19 is below 15 % of 200
    assert _split([10, 9], 0) == [(0, 1), (1, 2)]  # and above 15 % of 100
    assert _split([10, 5, 5, 1, 1], 9) == [(0, 1), (1, 3), (3, 5)]


def test_packed_attention_by_hand() -> None:
    """In two groups and several heads: each sequence attends to its own tokens."""
    torch.manual_seed(0)
    lengths = torch.tensor([40, 2, 1, 39, 2])
    packing = Packing.of(torch.arange(40) < lengths[:, None])
    assert packing.attention_sizes(3) == [3 * 2 * 40 * 40, 3 * 3 * 2 * 2]
    qkv = torch.randn(int(lengths.sum()), 3 * 12, dtype=torch.float64)
    for dropout in (0.0, 1e-9):  # with dropout a CPU takes another path
        out = packing.attend(qkv, 3, dropout)
        for sequence in range(5):
            q, k, v = (part.unflatten(1, (3, 4)) for part in qkv[packing.sequences == sequence].chunk(3, 1))
            scores = torch.einsum("qhd,khd->hqk", q, k) / 2
            expected = torch.einsum("hqk,khd->qhd", scores.softmax(-1), v).flatten(1)
            close(out[packing.sequences == sequence], expected)
        close(packing.attend(qkv.expand(2, -1, -1), 3, dropout), out.expand(2, -1, -1))
    for shape in ((0, 4), (0, 0), (3, 0)):
        empty = Packing.of(torch.ones(shape))
        assert (empty.rows.shape, empty.rows.dtype) == ((0,), torch.int64)
    assert Packing.of(torch.ones(0, 4)).attend(torch.ones(0, 36), 3, 0.0).shape == (0, 12)


@pytest.mark.parametrize("stack", [(), (2,)])
def test_nested_attention_equals_that_of_groups(stack: tuple[int, ...]) -> None:
    """Without dropout; in float64, because the order of sums depends on the processor."""
    torch.manual_seed(0)
    mask = torch.arange(40) < torch.tensor([40, 2, 1, 39, 2])[:, None]
    qkv = torch.randn(*stack, int(mask.sum()), 3 * 12, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(*stack, int(mask.sum()), 12, dtype=torch.float64)
    found = []
    for nested in (False, True):
        packed = Packing.of(mask, nested=nested)
        assert (packed.groups[0].offsets is not None) == nested
        out = packed.attend(qkv, 3, 0.0)
        found.append((out, *torch.autograd.grad((out * weights).sum(), qkv)))
    [group] = packed.groups
    assert (group.count, group.length, group.shortest) == (5, 40, 1)
    assert group.offsets.tolist() == [0, 40, 79, 81, 83, 84]
    for groups, lengths in zip(*found):
        assert groups.abs().max() > 0.1
        close(lengths, groups, rtol=0, atol=1e-12)
    assert Packing.of(torch.ones(3, 5), nested=True).groups[0].offsets is None  # of one length: no need


def test_attention_drops_out_without_packing_too() -> None:
    torch.manual_seed(0)
    packing = Packing.of(torch.ones(3, 5), packed=False)
    qkv = torch.randn(15, 24)
    expected = packing.attend(qkv, 2, 0.0)
    drawn = torch.stack([packing.attend(qkv, 2, 0.3) for _ in range(1000)])
    assert (drawn.std(0) > 0.05).all()
    close(drawn.mean(0), expected, rtol=0, atol=0.12)


def test_pick_and_spread_are_each_others_gradient() -> None:
    index = torch.tensor([3, 0, 2])
    rows = torch.arange(10.0, dtype=torch.float64).view(5, 2).requires_grad_()
    assert pick(rows, index).tolist() == [[6, 7], [0, 1], [4, 5]]
    few = rows[:3].detach().requires_grad_()
    assert spread(few, index, 5).tolist() == [[2, 3], [0, 0], [4, 5], [0, 1], [0, 0]]
    assert torch.autograd.gradcheck(lambda source: pick(source, index), rows)
    assert torch.autograd.gradcheck(lambda source: spread(source, index, 5), few)


def test_set_packed_reaches_every_module() -> None:
    model = torch.nn.Sequential(PackedModule(), torch.nn.Sequential(PackedModule(), Dropout(0.1)))
    for packed in (False, True):
        set_packed(model, packed)
        assert [model[0].packed, model[1][0].packed, model[1][1].plain] == [packed, packed, not packed]
