"""Videos -> poses with MediaPipe Holistic, as for the published fingerspelling lexicon.

Landmarks: 33 of the body, 478 of the face (468 without the irises), 21 of each hand, and the body's 33 world
landmarks (metres, with x and y multiplied by the image's width and height, as pose-format writes them). A
part that is not detected in a frame has zeros and confidence 0.

Two backends: `legacy` is the Holistic of mediapipe 0.10.21 through pose-format; `tasks` is HolisticLandmarker
with the models of a file (see holistic_bundle.py), which needs MediaPipe 1.x on Python 3.13.
"""

import abc
import argparse
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from mmpt.extractors.base import Extractor, FileReader, Outcome
from mmpt.extractors.holistic_bundle import default_bundle, has_irises, is_outdated, model_hashes
from mmpt.pose.components import LEFT_HAND, POSE, RIGHT_HAND
from mmpt.utils.errors import MissingDataError, UserError
from mmpt.utils.packages import VIDEO, need_packages, package_folder

if TYPE_CHECKING:
    from pose_format import Pose

    from mmpt.extractors.video import Video

log = logging.getLogger(__name__)

NoHand = Literal["keep", "skip", "error"]
BACKENDS = ("tasks", "legacy")


@dataclass(frozen=True, kw_only=True)
class HolisticReader(FileReader):
    """Runs in a worker process; MediaPipe is imported with the first video.

    Attributes: `refine_face` adds the irises; `fps` resamples (None: every frame of the file); `no_hand` what
    to do with a clip in which no hand is detected.
    """

    refine_face: bool = True
    fps: Fraction | None = None
    no_hand: NoHand = "keep"

    @abc.abstractmethod
    def estimate(self, video: "Video", frames: Iterator[tuple[Fraction, Any]], fps: float) -> "Pose":
        """The pose of (seconds, av.VideoFrame) of a video. Raises UserError."""

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
        need_packages("the pose of a video", VIDEO)
        from mmpt.extractors.video import Video

        # MediaPipe's C++ code logs every graph that it builds
        os.environ.setdefault("GLOG_minloglevel", "2")
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        with Video(source) as video:
            frames = video.frames()
            if (fps := self.fps) is not None:
                frames = ((index / fps, frame) for index, frame in enumerate(video.sampled(fps)))
            pose = self.estimate(video, frames, float(fps or video.rate))
            pose.body.fps = float(fps or video.rate)  # reading may have corrected the declared rate
            facts, notes = video.facts(), list(video.decoded.notes)
            if fps is None and video.decoded.variable_rate:
                notes.append(
                    f"the frame rate varies ({float(video.decoded.shortest_gap or 0):.4f} to "
                    f"{float(video.decoded.longest_gap):.4f} s per frame), but a pose file has one rate: "
                    f"use --fps"
                )
        parts = {"person": POSE, "left_hand": LEFT_HAND, "right_hand": RIGHT_HAND}
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


def has_legacy() -> bool:
    """Whether the installed mediapipe, which is not imported, has the legacy Holistic."""
    folder = package_folder("mediapipe")
    return folder is not None and (folder / "python" / "solutions" / "holistic.py").is_file()


def _complexity(complexity: int | None, bundle: Path | None) -> int:
    """The complexity for `legacy`. Raises UserError if that backend is not there, or for a wrong option."""
    if not has_legacy():
        raise MissingDataError(
            f"--backend legacy needs mediapipe 0.10.21, and {version('mediapipe')} is installed: give "
            "--backend tasks, or install mediapipe==0.10.21 (Python 3.11 or 3.12)."
        )
    if bundle is not None:
        raise UserError(f"--bundle {bundle}: --backend legacy uses its own models; use --backend tasks.")
    if complexity not in (None, 0, 1, 2):
        raise UserError(f"--complexity {complexity}: expected 0, 1 or 2.")
    return 1 if complexity is None else complexity


def _bundle(complexity: int | None, bundle: Path | None) -> Path:
    """The bundle for `tasks`. Raises UserError if it is missing, or for a wrong option."""
    if complexity is not None:
        raise UserError(
            f"--complexity {complexity}: --backend tasks has the body model of its bundle; leave it out."
        )
    if int(version("mediapipe").partition(".")[0]) < 1:
        raise MissingDataError(
            f"--backend tasks needs MediaPipe 1.x, and {version('mediapipe')} is installed, whose "
            "HolisticLandmarker aborts if a hand is missing: give --backend legacy, or install mediapipe 1.2."
        )
    path = (bundle or default_bundle()).absolute()
    if not path.exists():
        raise MissingDataError(
            f"--backend tasks: there is no {path}: build it in a checkout with `python "
            f"scripts/fetch_holistic.py --out {path}`, or give another bundle of HolisticLandmarker with "
            "--bundle."
        )
    return path


class HolisticExtractor(Extractor):
    """Options of both backends; see HolisticReader.

    Args:
        backend: None takes what is installed: `legacy` where there is one.
        bundle: of `tasks`; None is the file that scripts/fetch_holistic.py writes.
        complexity: of the body model of `legacy`, 0 to 2; None is 1.
    """

    name = "pose"
    suffix = ".pose"
    same_in_folder = ("backend", "models")

    def __init__(
        self,
        complexity: int | None = None,
        refine_face: bool = True,
        fps: Fraction | None = None,
        no_hand: NoHand = "keep",
        backend: str | None = None,
        bundle: Path | None = None,
    ):
        if fps is not None and fps <= 0:
            raise UserError(f"--fps {fps}: expected more than 0.")
        need_packages("the pose of a video", VIDEO)
        self.backend = backend or ("legacy" if has_legacy() else "tasks")
        self.models: dict[str, str] = {}
        self.settings: HolisticReader
        if self.backend == "legacy":
            complexity = _complexity(complexity, bundle)
            from mmpt.extractors.holistic_legacy import LegacyReader

            self.settings = LegacyReader(
                refine_face=refine_face, fps=fps, no_hand=no_hand, complexity=complexity
            )
            log.info("backend legacy: Holistic of mediapipe %s", version("mediapipe"))
        else:
            bundle = _bundle(complexity, bundle)
            from mmpt.extractors.holistic_tasks import TasksReader

            self.models, irises = model_hashes(bundle), has_irises(bundle)
            self.settings = TasksReader(
                refine_face=refine_face and irises, fps=fps, no_hand=no_hand, bundle=bundle
            )
            log.info("backend tasks: mediapipe %s with the models of %s", version("mediapipe"), bundle)
            if is_outdated(bundle):
                log.warning(
                    "%s was built by an earlier version: its landmarks differ more from those of --backend "
                    "legacy: build it again in a checkout with `python scripts/fetch_holistic.py --out %s`",
                    bundle,
                    bundle,
                )
            if refine_face and not irises:
                log.info("%s has no irises: poses have 468 face points (dataset.face_points: 468)", bundle)

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--backend",
            choices=BACKENDS,
            help="tasks: HolisticLandmarker of MediaPipe 1.x; legacy: Holistic of mediapipe 0.10.21, as for "
            "the published poses (default: legacy if it is installed)",
        )
        parser.add_argument(
            "--bundle",
            type=Path,
            help="models of --backend tasks (default: holistic.task of scripts/fetch_holistic.py)",
        )
        parser.add_argument(
            "--complexity",
            type=int,
            help="complexity of the body model of --backend legacy: 0, 1 (default) or 2; MediaPipe downloads "
            "0 and 2",
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
        return cls(args.complexity, not args.no_refine_face, fps, args.no_hand, args.backend, args.bundle)

    def reader(self) -> HolisticReader:
        return self.settings

    def options(self) -> dict[str, Any]:
        settings = self.settings
        # those of `legacy` are as they were before there were backends: finished files stay finished
        backend = {"complexity": getattr(settings, "complexity", None)}
        if self.backend != "legacy":
            # time_stamps: frames per second; earlier versions had those of the video
            backend = {"backend": self.backend, "models": self.models, "time_stamps": 30}
        return {
            "version": self.version,
            **backend,
            "refine_face": settings.refine_face,
            "fps": None if settings.fps is None else str(settings.fps),
            "no_hand": settings.no_hand,
        }

    def tools(self) -> dict[str, str]:
        packages = ("mediapipe", "pose-format", "av", "numpy")
        return {"backend": self.backend} | {package: version(package) for package in packages}
