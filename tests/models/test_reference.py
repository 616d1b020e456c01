"""Embeddings equal those of the reference implementation and depend only on their own example."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from mmpt.losses import MMContraLoss
from mmpt.models import MMFusionSeparate
from mmpt.utils.checkpoint import load_into, load_state_dict_file
from mmpt.utils.errors import UserError

IO = dict[str, torch.Tensor]
TOLERANCE = {"rtol": 0, "atol": 1e-5}
close = torch.testing.assert_close


def pad(batch: torch.Tensor, length: int, value: Any = 0) -> torch.Tensor:
    padding = torch.full((len(batch), length - batch.shape[1], *batch.shape[2:]), value, dtype=batch.dtype)
    return torch.cat([batch, padding], 1)


def test_reference_parameter_names(make_model: Any, mmfusion_dir: Path) -> None:
    listed = json.loads((mmfusion_dir / "state_dict.json").read_text())
    expected = {key.removeprefix("mmmodel."): shape for key, shape, _ in listed}
    assert {key: list(tensor.shape) for key, tensor in make_model().state_dict().items()} == expected


@pytest.mark.parametrize(("frames", "tokens"), [(68, 21), (128, 32), (100, 22)])
def test_reference_embeddings_with_any_padding(
    reference_model: MMFusionSeparate, io: IO, frames: int, tokens: int
) -> None:
    with torch.no_grad():
        # what stands behind a clip or a prompt is not looked at, not even if it is no number
        out = reference_model(
            pad(io["vfeats"], frames, float("nan")),
            pad(io["vmasks"], frames, False),
            pad(io["caps"], tokens, 77),
            pad(io["cmasks"], tokens, False),
        )
    close(out["pooled_video"], io["pooled_video_pad128"], **TOLERANCE)
    close(out["pooled_text"], io["pooled_text_pad32"], **TOLERANCE)
    loss = MMContraLoss()(out["pooled_video"], out["pooled_text"])
    close(loss, io["loss_pad128"], rtol=1e-5, atol=1e-4)


def test_reference_embeddings_alone_and_reordered(reference_model: MMFusionSeparate, io: IO) -> None:
    with torch.no_grad():
        for i, (frames, tokens) in enumerate(zip(io["vmasks"].sum(1), io["cmasks"].sum(1))):
            video = reference_model.encode_video(
                io["vfeats"][i : i + 1, :frames], io["vmasks"][i : i + 1, :frames]
            )
            text = reference_model.encode_text(
                io["caps"][i : i + 1, :tokens], io["cmasks"][i : i + 1, :tokens]
            )
            close(video[0], io["pooled_video_pad128"][i], **TOLERANCE)
            close(text[0], io["pooled_text_unpadded"][i], **TOLERANCE)
        order = [3, 0, 4, 2, 1]
        shuffled = reference_model(*(io[key][order] for key in ("vfeats", "vmasks", "caps", "cmasks")))
    close(shuffled["pooled_video"], io["pooled_video_pad128"][order], **TOLERANCE)
    close(shuffled["pooled_text"], io["pooled_text_pad32"][order], **TOLERANCE)


def test_reference_padded_to_the_longest_clip(io: IO) -> None:
    """Guards the fixture: were the two equal, the tests above could not tell where [SEP] stands."""
    assert (io["pooled_video_longest"] - io["pooled_video_pad128"]).abs().max() > 0.5


@pytest.mark.parametrize("frames", [510, 600])
def test_long_clips_do_not_change_the_position_table(
    reference_model: MMFusionSeparate, io: IO, frames: int
) -> None:
    table = reference_model.video_encoder.bert.embeddings.position_embeddings.weight.clone()
    with torch.no_grad():
        video = reference_model.encode_video(
            io["long_vfeats"][:, :frames], torch.ones(1, frames, dtype=torch.bool)
        )
        after = reference_model.encode_video(io["vfeats"], io["vmasks"])
    close(video, io[f"long_pooled_video_{frames}"], **TOLERANCE)
    close(after, io["pooled_video_pad128"], **TOLERANCE)
    assert torch.equal(table, reference_model.video_encoder.bert.embeddings.position_embeddings.weight)


def test_long_clip_batched_with_short_ones(reference_model: MMFusionSeparate, io: IO) -> None:
    """Each clip has its own length, so the stretched table of the long one does not reach the short ones."""
    frames = io["long_vfeats"].shape[1]
    vfeats = torch.cat([pad(io["vfeats"], frames), io["long_vfeats"]])
    vmasks = torch.cat([pad(io["vmasks"], frames, False), torch.ones(1, frames, dtype=torch.bool)])
    with torch.no_grad():
        video = reference_model.encode_video(vfeats, vmasks)
    close(video[:-1], io["pooled_video_pad128"], **TOLERANCE)
    close(video[-1:], io["long_pooled_video_600"], **TOLERANCE)


def test_load_checkpoint_with_an_enlarged_position_table(make_model: Any, mmfusion_dir: Path, io: IO) -> None:
    """The reference keeps the table that it stretched for a long clip, and what it saves has that table."""
    state = load_state_dict_file(mmfusion_dir / "weights.safetensors")
    name = "video_encoder.bert.embeddings.position_embeddings.weight"
    state[name] = F.interpolate(state[name].T[None], size=602, mode="linear")[0].T.contiguous()
    model = make_model(max_video_len=68)  # to which that batch was padded
    load_into(model, state)
    with torch.no_grad():
        video = model.encode_video(io["vfeats"], io["vmasks"])
        long = model.encode_video(io["long_vfeats"], torch.ones(1, 600, dtype=torch.bool))
    close(video, io["after_long_pooled_video"], **TOLERANCE)
    close(long, io["long_pooled_video_600"], **TOLERANCE)
    state[name] = state[name][:300]
    with pytest.raises(UserError, match=r"of another shape: video_encoder.*\[300, 32\] in the file"):
        load_into(make_model(), state)
