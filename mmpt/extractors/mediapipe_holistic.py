"""Videos -> poses with MediaPipe Holistic through pose-format, as for the published fingerspelling lexicon.

Landmarks: 33 of the body, 478 of the face (468 without the irises), 21 of each hand, and 33 of the body in
metres. A part that is not detected in a frame has zeros and confidence 0.
"""

import argparse
import os
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self
from urllib.error import URLError

import numpy as np

from mmpt.extractors.base import Extractor, FileReader, Outcome
from mmpt.utils.errors import UserError
from mmpt.utils.packages import VIDEO, need_packages

if TYPE_CHECKING:
    from pose_format import Pose

NoHand = Literal["keep", "skip", "error"]


@dataclass(frozen=True)
class HolisticReader(FileReader):
    """Runs in a worker process; MediaPipe is imported with the first video.

    Attributes: `complexity` of the body model, 0 to 2; `refine_face` adds the irises; `fps` resamples (None:
    every frame of the file); `no_hand` what to do with a clip in which no hand is detected.
    """

    complexity: int
    refine_face: bool
    fps: Fraction | None
    no_hand: NoHand

    def convert(self, source: Path, target: Path) -> Outcome:
        pose, outcome = self.pose(source)
        facts = outcome.facts
        if not facts["left_hand"] and not facts["right_hand"]:
            seen = "no hand" if facts["person"] else "no person"
            if self.no_hand == "error":
                raise UserError(f"{source}: {seen} is detected in any of {facts['frames']} frames.")
            outcome.notes.append(f"{seen} is detected in any frame")
            if self.no_hand == "skip":
                outcome.status = "skipped"
                return outcome
        with open(target, "wb") as file:
            pose.write(file)
        return outcome

    def pose(self, source: Path) -> "tuple[Pose, Outcome]":
        """The pose of a video, and the shares of frames with `left_hand`, `right_hand` and `person`."""
        load_holistic = _import_holistic()
        from mmpt.extractors.video import Video, cached_pictures

        with Video(source) as video:
            frames: Iterator[Any] = (frame for _, frame in video.frames())
            if self.fps is not None:
                frames = video.sampled(self.fps)
            try:
                pose = load_holistic(
                    cached_pictures(video, frames, video.width, video.height, "bicubic"),
                    fps=float(self.fps or video.rate),
                    width=video.width,
                    height=video.height,
                    # a reused model would keep the tracking state of the previous video
                    reuse=False,
                    additional_holistic_config={
                        "model_complexity": self.complexity,
                        "refine_face_landmarks": self.refine_face,
                    },
                )
            except URLError as error:
                raise UserError(
                    f"MediaPipe ships the model of complexity 1 only; downloading that of complexity "
                    f"{self.complexity} failed ({error.reason}). Use --complexity 1, or run it once with "
                    f"internet access."
                ) from error
            pose.body.fps = float(self.fps or video.rate)  # reading may have corrected the declared rate
            facts, notes = video.facts(), list(video.decoded.notes)
            if self.fps is None and video.decoded.variable_rate:
                notes.append(
                    f"the frame rate varies ({float(video.decoded.shortest_gap or 0):.4f} to "
                    f"{float(video.decoded.longest_gap):.4f} s per frame), but a pose file has one rate: "
                    f"use --fps"
                )
        parts = {
            "person": "POSE_LANDMARKS",
            "left_hand": "LEFT_HAND_LANDMARKS",
            "right_hand": "RIGHT_HAND_LANDMARKS",
        }
        facts |= {"pose_frames": len(pose.body.data), "points": pose.body.data.shape[2]}
        facts |= {part: round(seen_share(pose, component), 4) for part, component in parts.items()}
        return pose, Outcome(facts, notes)


def seen_share(pose: "Pose", component: str) -> float:
    """The share of frames in which any landmark of a component was detected."""
    start = 0
    for part in pose.header.components:
        if part.name == component:
            seen = np.asarray(pose.body.confidence)[:, :, start : start + len(part.points)] > 0
            return float(seen.any(axis=(1, 2)).mean())
        start += len(part.points)
    raise KeyError(component)


def _import_holistic() -> Any:
    # MediaPipe's C++ code logs every graph that it builds
    os.environ.setdefault("GLOG_minloglevel", "2")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    need_packages("the pose of a video", VIDEO)
    from pose_format.utils.holistic import load_holistic

    return load_holistic


class HolisticExtractor(Extractor):
    """See HolisticReader for the arguments."""

    name = "pose"
    suffix = ".pose"

    def __init__(
        self,
        complexity: int = 1,
        refine_face: bool = True,
        fps: Fraction | None = None,
        no_hand: NoHand = "keep",
    ):
        if complexity not in (0, 1, 2):
            raise UserError(f"--complexity {complexity}: expected 0, 1 or 2.")
        if fps is not None and fps <= 0:
            raise UserError(f"--fps {fps}: expected more than 0.")
        self.settings = HolisticReader(complexity, refine_face, fps, no_hand)

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--complexity",
            type=int,
            default=1,
            help="complexity of the body model: 0, 1 (default) or 2; MediaPipe downloads 0 and 2",
        )
        parser.add_argument(
            "--no-refine-face", action="store_true", help="468 face landmarks, without the irises"
        )
        parser.add_argument("--fps", help="resample to this frame rate (default: keep every frame)")
        parser.add_argument(
            "--no-hand",
            choices=["keep", "skip", "error"],
            default="keep",
            help="a clip in which no hand (or no person) is detected: keep its pose and warn, skip it (the "
            "manifest records it), or count it as failed",
        )

    @classmethod
    def from_args(cls, args: argparse.Namespace) -> Self:
        try:
            fps = Fraction(args.fps) if args.fps else None
        except (ValueError, ZeroDivisionError):
            raise UserError(f"--fps {args.fps}: expected a number such as 25 or 30000/1001.") from None
        return cls(args.complexity, not args.no_refine_face, fps, args.no_hand)

    def reader(self) -> HolisticReader:
        return self.settings

    def options(self) -> dict[str, Any]:
        settings = self.settings
        return {
            "version": self.version,
            "complexity": settings.complexity,
            "refine_face": settings.refine_face,
            "fps": None if settings.fps is None else str(settings.fps),
            "no_hand": settings.no_hand,
        }

    def tools(self) -> dict[str, str]:
        from importlib.metadata import version

        return {package: version(package) for package in ("mediapipe", "pose-format", "av", "numpy")}
