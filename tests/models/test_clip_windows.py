"""Clips longer than the tower: windows, pooled into one vector."""

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest
import torch

from mmpt.config.schema import DatasetConfig, LossConfig, ModelConfig
from mmpt.embedding.predictor import Predictor
from mmpt.losses import build_loss, cached_loss_backward
from mmpt.models import build_model, clip_windows
from mmpt.models.clip_windows import WindowOptions
from mmpt.models.finetuning import freeze
from mmpt.models.packing import set_packed
from mmpt.utils.errors import UserError

close = torch.testing.assert_close
LENGTH, WIDTH = 8, 63
FRAMES = [1, 7, 8, 9, 11, 16, 23, 40]


@pytest.fixture(scope="module")
def make(dataset_cfg: DatasetConfig) -> Any:
    """make(step=, over=, options of the model) -> a model that embeds long clips as windows."""

    def made(step: int | None = 3, over: str = "mean", long_video: str = "windows", **options: Any) -> Any:
        torch.manual_seed(0)
        dataset = dataclasses.replace(
            dataset_cfg, max_video_len=LENGTH, long_video=long_video, window_step=step
        )
        model_cfg = ModelConfig(num_hidden_video_layers=1, vfeat_dim=WIDTH, window_pooling=over, **options)
        model = build_model(model_cfg, dataset).eval()
        for name, parameter in model.named_parameters():
            if "score" in name:
                torch.nn.init.normal_(parameter)
        return model

    return made


def clips(frames: list[int] = FRAMES) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.normal(size=(n, WIDTH)).astype(np.float32) for n in frames]


def batch(arrays: list[np.ndarray], padding: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    longest = max(map(len, arrays)) + padding
    vfeats = torch.full((len(arrays), longest, WIDTH), torch.nan)
    for row, array in zip(vfeats, arrays):
        row[: len(array)] = torch.from_numpy(array)
    return vfeats, torch.arange(longest) < torch.tensor([len(array) for array in arrays])[:, None]


def test_windows_cover_every_frame_and_the_last_one_ends_with_the_clip() -> None:
    for step, frames in itertools.product([1, 3, 7, 8], range(1, 42)):
        options = WindowOptions(LENGTH, step)
        owners, first = options.of_clips(torch.tensor([frames, 5, frames]))
        starts = first[owners == 0].tolist()
        assert starts[:-1] == [step * i for i in range(len(starts) - 1)]
        assert starts[-1] == max(0, frames - LENGTH), "the last window ends with the clip"
        seen = {start + i for start in starts for i in range(min(LENGTH, frames))}
        assert seen == set(range(frames)) and starts == sorted(set(starts))
        assert first[owners == 2].tolist() == starts and (owners == 1).sum() == 1
        assert options.counts(np.array([frames]))[0] == len(starts)


MODELS = [
    {},
    {"model_cls": "MMFusionShare", "mm_encoder_cls": "MMBertForEncoder"},
    {"multimodal_projection": "l2_norm", "video_hidden_size": 64, "pooling": "attention"},
    {"multimodal_projection": True, "ensemble_size": 3, "video_hidden_size": 32},
    {"conv1d": 2, "pooling": "max"},
]


def by_hand(model: Any, clip: np.ndarray, step: int) -> torch.Tensor:
    """The vector of one clip: each window embedded alone by the tower, pooled, projected."""
    last = max(0, len(clip) - LENGTH)
    starts = [*range(0, last, step), last]
    parts = []
    for space in getattr(model, "members", [model]):
        tower = getattr(space, "video_encoder", None) or model.mm_encoder
        vectors = []
        for start in starts:
            hidden, packing, counted = tower.encode(*batch([clip[start : start + LENGTH]]))
            vectors.append(space.video_pooling(hidden, packing.sequences, counted, 1)[0])
        found = torch.stack(vectors)
        score = getattr(space.clip_windows.pooling, "score", None)
        weights = torch.ones(len(found)) if score is None else score(found)[:, 0].exp()
        pooled = (weights[:, None] * found).sum(0) / weights.sum()
        parts.append(space.video_projection(pooled) if hasattr(space, "video_projection") else pooled)
    return torch.cat(parts, -1)


@pytest.mark.parametrize("over", ["mean", "attention"])
@pytest.mark.parametrize("options", MODELS)
def test_vectors_of_long_clips_by_hand_alone_and_in_any_batch(
    make: Any, options: dict[str, Any], over: str
) -> None:
    model, arrays = make(over=over, **options), clips()
    with torch.no_grad():
        expected = torch.stack([by_hand(model, clip, 3) for clip in arrays])
        together = model.encode_video(*batch(arrays))
        close(together, expected, rtol=0, atol=1e-5)
        close(model.encode_video(*batch(arrays[::-1], padding=5)).flip(0), expected, rtol=0, atol=1e-5)
        close(torch.cat([model.encode_video(*batch([c])) for c in arrays]), expected, rtol=0, atol=1e-5)
        model.prepare_for_short_batches()  # a stacked copy of an ensemble
        close(model.encode_video(*batch(arrays[-1:])), expected[-1:], rtol=0, atol=1e-5)
        set_packed(model, False)
        close(model.encode_video(*batch(arrays, padding=2)), expected, rtol=0, atol=1e-5)
    if options.get("multimodal_projection") == "l2_norm":
        close(together.norm(dim=1), torch.ones(len(arrays)))


@pytest.mark.parametrize("options", MODELS)
def test_clips_that_fit_have_exactly_the_vectors_of_a_model_without_windows(
    make: Any, options: dict[str, Any]
) -> None:
    fitting = [clip for clip in clips() if len(clip) <= LENGTH]
    with torch.no_grad():
        one, other = (
            make(step=None, long_video=how, **options).encode_video(*batch(fitting))
            for how in ("windows", "truncate")
        )
    assert torch.equal(one, other)


@pytest.mark.parametrize("options", MODELS)
def test_clips_that_fit_give_the_score_of_windows_a_gradient_of_zero(
    make: Any, options: dict[str, Any]
) -> None:
    """Without one, distributed training stops."""
    model, fitting = make(over="attention", **options), batch([c for c in clips() if len(c) <= LENGTH])
    vectors = model.encode_video(*fitting)
    vectors.square().sum().backward()
    gradients = [p.grad for name, p in model.named_parameters() if "clip_windows" in name]
    assert gradients and all(each is not None and each.abs().max() < 1e-5 for each in gradients)
    for module in model.modules():
        if getattr(module, "clip_windows", None) is not None:
            module.clip_windows = None
    assert torch.equal(model.encode_video(*fitting), vectors)


@pytest.mark.parametrize("options", MODELS)
def test_predictor_embeds_few_windows_at_once(
    make: Any, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, arrays = make(**options), clips([*FRAMES, 200])
    with torch.no_grad():
        expected = torch.cat([model.encode_video(*batch([clip])) for clip in arrays])
    monkeypatch.setattr(clip_windows, "_AT_ONCE", 4)
    monkeypatch.setattr("mmpt.embedding.predictor._VALUES_AT_ONCE", 100 * WIDTH)
    encode, asked, sizes = model.encode_video, [], []
    model.encode_video = lambda vfeats, vmasks: asked.append(vmasks.sum(1)) or encode(vfeats, vmasks)
    tower = next(module for module in model.modules() if type(module).__name__ == "MMBertForEncoder")
    inner = tower.encode
    tower.encode = lambda vfeats, vmasks: sizes.append(vfeats.shape) or inner(vfeats, vmasks)
    found = Predictor(model, batch_size=6, progress=False).embed_videos(iter(arrays))
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)
    assert all(model.windows.counts(frames.numpy()).sum() <= 6 for frames in asked if len(frames) > 1)
    assert len(sizes) >= 65 / 4 and all(rows <= 6 and frames <= LENGTH for rows, frames, _ in sizes)


@pytest.mark.parametrize("options", [{}, {"multimodal_projection": True, "ensemble_size": 2}])
def test_cached_loss_has_the_gradients_of_the_whole_batch(make: Any, options: dict[str, Any]) -> None:
    caps = torch.tensor([[101 + i, 102, 103 + i, 102] for i in range(4)]) % 300
    inputs = [*batch(clips([5, 23, 9, 30])), caps, torch.ones_like(caps, dtype=torch.bool)]
    inputs[0] = inputs[0].nan_to_num()
    gradients = []
    for cached in (False, True):
        model = make(over="attention", **options)  # in evaluation mode: without dropout
        loss = build_loss(LossConfig(), options.get("ensemble_size", 1))
        if cached:
            whole = dict(zip(("vfeats", "vmasks", "caps", "cmasks", "labels"), [*inputs, torch.arange(4)]))
            parts = [{name: value[i : i + 3] for name, value in whole.items()} for i in (0, 3)]
            cached_loss_backward(model, loss, parts, torch.Tensor.backward)
        else:
            out = model(*inputs)
            loss(out["pooled_video"], out["pooled_text"], torch.arange(4)).backward()
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    scores = [name for name in gradients[0] if name.endswith("clip_windows.pooling.score.weight")]
    assert len(scores) == options.get("ensemble_size", 1) and gradients[0][scores[0]].abs().max() > 0
    for name, gradient in gradients[0].items():
        close(gradients[1][name], gradient, rtol=1e-4, atol=1e-6)


def test_options_that_contradict_are_one_line(make: Any) -> None:
    with pytest.raises(UserError, match=r"window_step is 9, but a window has 8 frames"):
        make(step=9)
    with pytest.raises(UserError, match=r"window_step is 3, which has no effect with .* truncate"):
        make(long_video="truncate")
    with pytest.raises(UserError, match=r"window_pooling is attention, which has no effect"):
        make(step=None, long_video="uniform", over="attention")
    assert make(step=None).windows == WindowOptions(LENGTH, LENGTH // 2)


def test_projections_only_trains_the_score_of_windows(make: Any) -> None:
    model = make(over="attention", multimodal_projection=True)
    freeze(model, None, True)
    trained = {name.partition(".")[0] for name, p in model.named_parameters() if p.requires_grad}
    assert trained == {"clip_windows", "video_projection", "text_projection"}
