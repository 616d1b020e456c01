"""The legacy MediaPipe Holistic (mediapipe 0.10.21) through pose-format."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any
from urllib.error import URLError

from mmpt.extractors.holistic import HolisticReader
from mmpt.utils.errors import UserError

if TYPE_CHECKING:
    from pose_format import Pose

    from mmpt.extractors.video import Video


@dataclass(frozen=True, kw_only=True)
class LegacyReader(HolisticReader):
    """`complexity`: of the body model, 0 to 2."""

    complexity: int = 1

    def estimate(self, video: "Video", frames: Iterator[tuple[Fraction, Any]], fps: float) -> "Pose":
        load_holistic = _import_holistic()
        from mmpt.extractors.video import cached_pictures

        pictures = (frame for _, frame in frames)
        try:
            return load_holistic(
                cached_pictures(video, pictures, video.width, video.height, "bicubic"),
                fps=fps,
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


def _import_holistic() -> Any:
    from pose_format.utils.holistic import load_holistic

    return load_holistic
