"""Pose files: what they hold, and how two extractions differ."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmpt.embedding.embedder import SignCLIP


def pose_model(folder: str, device: str | None = None) -> "SignCLIP":
    """The model of --model. Raises UserError if it reads no poses."""
    from mmpt.embedding.embedder import SignCLIP
    from mmpt.utils.errors import UserError

    model = SignCLIP.from_pretrained(folder, device)
    suffix = model.video_processor.suffix
    if suffix != ".pose":
        raise UserError(f"{folder} reads {suffix} files, not poses: leave out --model.")
    return model
