"""Options of the augmentation of raw landmarks (`dataset.augment3d` in YAML). All off by default."""

from dataclasses import dataclass, field
from typing import Any


def _off(doc: str, maximum: float | None = None, default: float = 0.0) -> Any:
    metadata = {"doc": doc, "min": 0.0, "max": maximum, "choices": None, "aliases": ()}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class PoseAugmentation:
    """How much each step of mmpt.pose.augmentation3d changes a training clip; 0 leaves it out."""

    probability: float = _off("share of the clips that are changed at all", 1.0, default=1.0)
    rotation: float = _off("3-D rotation: std in radians of the angle about each axis", 3.2)
    scale: float = _off("size: std of the logarithm of one factor", 2.0)
    stretch: float = _off("size along each axis: std of the logarithm of three factors", 2.0)
    shear: float = _off("3-D shear: std of each entry off the diagonal", 2.0)
    bone_length: float = _off("finger bones: std of the logarithm of each bone's factor, hands only", 2.0)
    finger_bend: float = _off("fingers turned at their root: std in radians about each axis, hands only", 3.2)
    joint_offset: float = _off("each hand joint moved for the whole clip: std in palm lengths", 2.0)
    joint_noise: float = _off("each point moved in each frame: std in shoulder widths", 2.0)
    joint_dropout: float = _off("chance that a hand joint (not of the palm) is missing for the clip", 0.999)
    hand_dropout: float = _off("chance that one of two hands is missing for the clip", 1.0)
    frame_dropout: float = _off("chance that a frame is left out", 0.999)
    time_crop: float = _off("largest share of the frames cut off at the two ends together", 0.999)
    window_jitter: float = _off(
        "with clip_window or clip_frames: largest shift of either end, and uneven speed", 0.5
    )
    time_speed: float = _off("speed: std of the logarithm of its factor", 2.0)
    time_warp: float = _off("uneven speed: largest shift of a frame, as a share of the clip's length", 0.5)

    def active(self) -> bool:
        """Whether any step does anything."""
        return self.probability > 0 and any(v > 0 for k, v in vars(self).items() if k != "probability")
