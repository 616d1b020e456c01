"""Values against loops over pairs, gradients against finite differences, options against their
definitions."""

import dataclasses
import math
from typing import Any

import pytest
import torch

from mmpt.config.schema import LossConfig
from mmpt.losses import (
    EnsembleLoss,
    MMContraLoss,
    MMSigmoidLoss,
    build_loss,
    contrastive,
    needs_common_batches,
)
from mmpt.utils.errors import UserError

close = torch.testing.assert_close
LABELS = torch.tensor([4, 1, 4, 0, 1, 4])


def pairs(kind: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    video, text = torch.randn(2, 6, 5, generator=generator, dtype=torch.float64)
    return video.to(kind).requires_grad_(), text.to(kind).requires_grad_()


def similarities(video: torch.Tensor, text: torch.Tensor, cosine: bool) -> list[list[float]]:
    """Row: clip, column: prompt; by plain arithmetic."""
    rows = []
    for v in video.tolist():
        row = []
        for t in text.tolist():
            dot = sum(a * b for a, b in zip(v, t))
            row.append(dot / math.sqrt(sum(a * a for a in v) * sum(b * b for b in t)) if cosine else dot)
        rows.append(row)
    return rows


def info_nce(rows: list[list[float]], labels: list[int], smoothing: float) -> float:
    """Mean over rows of the cross-entropy against an even spread over the row's own label, smoothed."""
    total = 0.0
    for i, row in enumerate(rows):
        log_norm = math.log(sum(math.exp(x) for x in row))
        same = [j for j in range(len(row)) if labels[j] == labels[i]]
        for j, x in enumerate(row):
            target = (1 - smoothing) * (j in same) / len(same) + smoothing / len(row)
            total -= target * (x - log_norm)
    return total / len(rows)


@pytest.mark.parametrize("cosine", [False, True])
@pytest.mark.parametrize("temperature", [1.0, 0.3])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("label_aware", [False, True])
def test_contrastive_value(cosine: bool, temperature: float, smoothing: float, label_aware: bool) -> None:
    video, text = pairs()
    rows = [[x / temperature for x in row] for row in similarities(video, text, cosine)]
    labels = LABELS.tolist() if label_aware else list(range(6))
    expected = info_nce(rows, labels, smoothing) + info_nce(
        [list(row) for row in zip(*rows)], labels, smoothing
    )
    loss = MMContraLoss(
        similarity="cosine" if cosine else "dot",
        temperature=temperature,
        label_smoothing=smoothing,
        label_aware=label_aware,
    )
    assert loss(video, text, LABELS).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("cosine", [False, True])
@pytest.mark.parametrize("label_aware", [False, True])
def test_sigmoid_value(cosine: bool, label_aware: bool) -> None:
    video, text = pairs()
    labels = LABELS.tolist() if label_aware else list(range(6))
    expected = 0.0
    for i, row in enumerate(similarities(video, text, cosine)):
        for j, x in enumerate(row):
            sign = 1 if labels[i] == labels[j] else -1
            expected += math.log1p(math.exp(-sign * (x / 0.5 - 2.0))) / 6
    loss = MMSigmoidLoss("cosine" if cosine else "dot", temperature=0.5, label_aware=label_aware, bias=-2.0)
    assert loss(video, text, LABELS).item() == pytest.approx(expected, rel=1e-6)


def test_contrastive_default_is_videoclips() -> None:
    """Both directions added, raw dot products, labels not looked at."""
    video, text = pairs()
    logits = video @ text.T
    target = torch.arange(6)
    expected = torch.nn.functional.cross_entropy(logits, target) + torch.nn.functional.cross_entropy(
        logits.T, target
    )
    close(build_loss(LossConfig())(video, text, LABELS), expected)


@pytest.mark.parametrize(
    "loss",
    [
        MMContraLoss(),
        MMContraLoss(
            "cosine", temperature=0.2, learnable_temperature=True, label_smoothing=0.1, label_aware=True
        ),
        MMSigmoidLoss(learnable_temperature=True),
        MMSigmoidLoss("dot", temperature=1.0, label_aware=True, bias=0.5),
    ],
)
def test_loss_gradients(loss: torch.nn.Module) -> None:
    loss = loss.double()
    video, text = pairs()
    parameters = list(loss.parameters())
    assert torch.autograd.gradcheck(lambda v, t, *_: loss(v, t, LABELS), (video, text, *parameters))


def test_label_aware_without_repeated_prompts_changes_nothing() -> None:
    video, text = pairs()
    close(MMContraLoss(label_aware=True)(video, text, torch.arange(6)), MMContraLoss()(video, text))


def test_learnable_temperature_start_and_bound() -> None:
    video, text = pairs(torch.float32)
    loss = MMContraLoss("cosine", temperature=0.1, learnable_temperature=True, max_logit_scale=12.0)
    close(loss(video, text), MMContraLoss("cosine", temperature=0.1)(video, text))
    assert [name for name, _ in loss.named_parameters()] == ["logit_scale.log_scale"]
    optimizer = torch.optim.SGD(loss.parameters(), lr=100.0)
    same = torch.eye(6)  # perfect pairs: a lower temperature is always better
    for _ in range(50):
        optimizer.zero_grad()
        loss(same, same).backward()
        optimizer.step()
    loss(same, same)
    assert loss.logit_scale().item() == pytest.approx(12.0, rel=1e-6)  # type: ignore[union-attr]
    optimizer.zero_grad()
    (-loss(same, same)).backward()  # the bound is no trap: the other way there is a gradient
    assert loss.logit_scale.log_scale.grad.abs() > 0  # type: ignore[union-attr]
    assert list(MMContraLoss(temperature=0.1).parameters()) == []


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_loss_of_half_precision_is_computed_in_float32(kind: torch.dtype) -> None:
    video, text = (side.detach().to(kind) * 40 for side in pairs(torch.float32))
    loss = MMContraLoss()(video, text)
    assert loss.dtype == torch.float32
    close(loss, MMContraLoss()(video.float(), text.float()))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        close(MMContraLoss()(video.float(), text.float()), loss)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"similarity": "euclid"}, "euclid"),
        ({"temperature": 0.0}, "temperature"),
        ({"temperature": -1.0}, "temperature"),
        ({"temperature": 0.001, "learnable_temperature": True}, "max_logit_scale"),
        ({"label_smoothing": 1.0}, "label_smoothing"),
    ],
)
def test_loss_option_errors(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        MMContraLoss(**options)


def test_loss_batch_errors() -> None:
    video, text = pairs()
    for loss in (MMContraLoss, MMSigmoidLoss):
        with pytest.raises(UserError, match="shapes"):
            loss()(video, text[:5])
        with pytest.raises(UserError, match="labels"):
            loss(label_aware=True)(video, text)


def test_loss_from_config() -> None:
    config = LossConfig(similarity="cosine", temperature=0.5, label_aware=True, label_smoothing=0.1)
    video, text = pairs()
    expected = MMContraLoss("cosine", 0.5, label_smoothing=0.1, label_aware=True)(video, text, LABELS)
    close(build_loss(config)(video, text, LABELS), expected)
    with pytest.raises(UserError, match="label_smoothing"):
        build_loss(LossConfig(loss_cls="MMSigmoidLoss", label_smoothing=0.1))
    build_loss(LossConfig(loss_cls="MMSigmoidLoss", mixup=0.5, cached_chunk=2, max_nonfinite=1))
    sigmoid = build_loss(LossConfig(loss_cls="MMSigmoidLoss", similarity="cosine", temperature=0.1))
    close(sigmoid(video, text), MMSigmoidLoss()(video, text))
    with pytest.raises(UserError, match=r"^loss\.loss_cls: .*'MMContrastLoss'"):
        build_loss(LossConfig(loss_cls="MMContrastLoss"))


def test_load_scalar_loss_parameters_of_older_checkpoints() -> None:
    """As checkpoints of before have them."""
    for kind in (MMContraLoss, MMSigmoidLoss):
        loss = kind(learnable_temperature=True)
        older = {name: value.reshape(()) + 0.5 for name, value in loss.state_dict().items()}
        assert older
        loss.load_state_dict(dict(older))
        for name, value in loss.state_dict().items():
            assert value.shape == (1,) and value.item() == older[name].item()


@pytest.mark.parametrize("name", ["MMContraLoss", "MMSigmoidLoss"])
def test_loss_from_config_reads_every_option(name: str) -> None:
    """Each option differs from the class's own default."""
    smoothing = 0.1 if name == "MMContraLoss" else 0.0
    similarity = "cosine" if name == "MMContraLoss" else "dot"
    config = LossConfig(
        loss_cls=name,
        similarity=similarity,
        temperature=0.4,
        learnable_temperature=True,
        max_logit_scale=7.0,
        label_smoothing=smoothing,
        label_aware=True,
        gather=True,
    )
    loss: Any = build_loss(config)
    assert (loss.similarity, loss.label_aware, loss.gather) == (similarity, True, True)
    assert getattr(loss, "label_smoothing", 0.0) == smoothing
    assert loss.logit_scale().item() == pytest.approx(1 / 0.4)
    with torch.no_grad():
        loss.logit_scale.log_scale.fill_(9.0)
    assert loss.logit_scale().item() == pytest.approx(7.0)


@pytest.mark.parametrize("threads", [1, 2])  # two: all models in one call, if the loss can
@pytest.mark.parametrize("name", ["MMContraLoss", "MMSigmoidLoss", "one model at a time"])
def test_ensemble_loss_is_the_mean_over_its_models(
    name: str, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each model has its own columns of the embeddings; the labels are the same for all."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    video, text = (side.detach() for side in pairs())
    sides = [torch.cat([side, 0.5 * side.roll(1, 0)], dim=1) for side in (video, text.flip(0))]
    for options in ({}, {"label_aware": True, "learnable_temperature": True}):
        options |= {"label_smoothing": 0.1} if name == "MMContraLoss" else {}
        config = LossConfig(loss_cls=name if "MM" in name else "MMContraLoss", **options)
        loss = build_loss(config, ensemble_size=2)
        loss.at_once &= "MM" in name
        one = build_loss(config)
        assert isinstance(loss, EnsembleLoss) and not isinstance(one, EnsembleLoss)
        expected = sum(one(*both, LABELS) for both in zip(*(side.chunk(2, 1) for side in sides))) / 2
        given = [side.clone().requires_grad_() for side in sides]
        found = loss(*given, LABELS)
        close(found, expected)
        found.backward()
        alone = [side.clone().requires_grad_() for side in sides]
        (sum(one(*both, LABELS) for both in zip(*(side.chunk(2, 1) for side in alone))) / 2).backward()
        for ours, theirs in zip(given, alone):
            close(ours.grad, theirs.grad)


@pytest.mark.parametrize(
    ("takes_ensemble", "threads", "shapes"),
    [
        (True, 2, [(2, 3, 4)]),
        (True, 1, [(3, 4), (3, 4)]),
        (False, 2, [(3, 4), (3, 4)]),
        (None, 2, [(3, 4), (3, 4)]),  # a loss that does not say so
    ],
)
def test_ensemble_loss_is_one_call_where_the_loss_takes_it(
    takes_ensemble: bool | None, threads: int, shapes: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[tuple[int, ...]] = []

    class Distance(torch.nn.Module):
        def forward(self, video: torch.Tensor, text: torch.Tensor, _: object) -> torch.Tensor:
            called.append(tuple(video.shape))
            return (video - text).square().mean()

    if takes_ensemble is not None:
        Distance.takes_ensemble = takes_ensemble  # type: ignore[attr-defined]
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    EnsembleLoss(Distance(), 2)(torch.ones(3, 8), torch.zeros(3, 8))
    assert called == shapes


def test_a_loss_that_gathers_takes_one_model_at_a_time() -> None:
    assert not build_loss(LossConfig(gather=True, label_aware=True), ensemble_size=2).at_once
    with pytest.raises(UserError, match="shapes"):
        contrastive.similarity_block(*torch.ones(2, 3, 4, 5), None, "dot", gather=True)


@pytest.mark.parametrize(
    ("gather", "label_aware", "common"),
    [(True, False, True), (True, True, False), (False, False, False), (False, True, False)],
)
def test_gather_without_label_aware_needs_common_batches(
    gather: bool, label_aware: bool, common: bool
) -> None:
    assert needs_common_batches(LossConfig(gather=gather, label_aware=label_aware)) is common


def test_loss_parameters_may_be_missing_in_a_checkpoint() -> None:
    loss = MMSigmoidLoss(learnable_temperature=True)
    assert sorted(loss.load_state_dict({}, strict=False).missing_keys) == ["bias", "logit_scale.log_scale"]


@pytest.mark.parametrize("name", ["MMContraLoss", "MMSigmoidLoss"])
def test_loss_options_of_a_class_are_off_by_default(name: str) -> None:
    loss: Any = {"MMContraLoss": MMContraLoss, "MMSigmoidLoss": MMSigmoidLoss}[name]()
    assert (loss.label_aware, loss.gather, loss.logit_scale.log_scale) == (False, False, None)
    assert loss.logit_scale.max_log == pytest.approx(math.log(100))


@pytest.mark.parametrize("scale", [0.0, -1.0])
def test_loss_scale_bound_must_be_positive(scale: float) -> None:
    with pytest.raises(UserError, match="max_logit_scale"):
        MMContraLoss(max_logit_scale=scale)


def test_loss_scale_may_start_at_its_bound_and_below_one() -> None:
    loss: Any = MMContraLoss(temperature=2.0, learnable_temperature=True, max_logit_scale=0.5)
    assert loss.logit_scale().item() == pytest.approx(0.5)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_sigmoid_loss_in_float32_or_wider(kind: torch.dtype) -> None:
    video, text = (side.detach().to(kind) for side in pairs(torch.float64))
    loss = MMSigmoidLoss()(video, text)
    assert loss.dtype == torch.promote_types(kind, torch.float32)


COUNTS = [2, 0, 3, 1]
"""Rows of the six pairs on each of four processes."""


@pytest.mark.parametrize("process", [0, 2, 3])
@pytest.mark.parametrize("with_labels", [False, True])
def test_gather_similarities_of_one_process(
    process: int, with_labels: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its rows of the whole batch's matrices. The batch plays the other processes; test_gather.py has real
    ones."""
    video, text = pairs()
    start = sum(COUNTS[:process])
    mine = slice(start, start + COUNTS[process])

    def gathered(rows: torch.Tensor, counts: list[int]) -> torch.Tensor:
        assert counts == COUNTS
        return next(side for side in (video, text, LABELS) if torch.equal(side[mine], rows))

    monkeypatch.setattr(contrastive, "all_gather_counts", lambda rows: COUNTS)
    monkeypatch.setattr(contrastive, "all_gather_with_grad", gathered)
    monkeypatch.setattr(contrastive, "all_gather", gathered)
    monkeypatch.setattr(contrastive, "rank", lambda: process)
    labels = LABELS[mine] if with_labels else None
    block = contrastive.similarity_block(video[mine], text[mine], labels, "dot", gather=True)
    close(block.video_to_text, (video @ text.T)[mine])
    close(block.text_to_video, (text @ video.T)[mine])
    assert block.targets.tolist() == list(range(6))[mine]
    assert block.share == pytest.approx(3 / 6)  # three processes have rows
    if with_labels:
        expected = (LABELS[:, None] == LABELS)[mine]
        assert block.positives is not None and all(torch.equal(found, expected) for found in block.positives)
    else:
        assert block.positives is None
    for make in (MMContraLoss, MMSigmoidLoss):
        together, alone = (make("dot", gather=gather)(video[mine], text[mine]) for gather in (True, False))
        assert together != alone


def test_contrastive_loss_of_labels_on_a_rectangle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two rows of six columns: the targets of each row sum to one."""
    video, text = pairs()
    rows = {"video_to_text": (video @ text.T)[:2], "text_to_video": (text @ video.T)[:2]}
    same = (LABELS[:, None] == LABELS)[:2]
    block = contrastive.Block(**rows, positives=(same, same), start=0)
    monkeypatch.setattr("mmpt.losses.mm_contra.similarity_block", lambda *_: block)
    target = same.double() / same.sum(1, keepdim=True)
    expected = sum(torch.nn.functional.cross_entropy(side, target) * 2 / 6 for side in rows.values())
    close(MMContraLoss(label_aware=True)(video, text, LABELS), expected)
    monkeypatch.setattr(
        "mmpt.losses.sigmoid.similarity_block", lambda *_: dataclasses.replace(block, positives=None)
    )
    sign = 2 * torch.eye(6)[:2] - 1
    expected = -torch.nn.functional.logsigmoid(sign * (rows["video_to_text"] / 0.1 - 10)).sum() / 6
    close(MMSigmoidLoss()(video, text), expected)
