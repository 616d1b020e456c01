"""Facts about one clip of a table, for its check before training."""

from dataclasses import dataclass

from mmpt.config.schema import Config
from mmpt.pose.clip import PoseClip
from mmpt.pose.components import HANDS
from mmpt.pose.normalization import normalize_shoulders
from mmpt.pose.reader import read_clip, read_recording, stores_whole_fps
from mmpt.pose.span import Span
from mmpt.processors import VIDEO_PROCESSORS
from mmpt.processors.aligner import DSAligner
from mmpt.processors.npy_video import VideoProcessor
from mmpt.utils.errors import UserError


@dataclass(frozen=True)
class ClipFacts:
    """Facts about one clip, or why it cannot be read.

    width: feature dimension, for features only. fps, left, right: for poses only; left and right are the
    fractions of frames that show the hand, after mirroring a left-handed signer. whole_fps: whether the file
    stores the frame rate as an integer (pose-format before 0.2). blank: it shows nothing that the model reads
    (with a config), or all its features are 0. sampled: frames after the config's clip_window or clip_frames.
    recording: length of the file in the unit of the span, if the span ends after it and is cut there.
    """

    frames: int = 0
    width: int | None = None
    fps: float | None = None
    left: float | None = None
    right: float | None = None
    whole_fps: bool = False
    blank: bool = False
    sampled: int | None = None
    recording: float | None = None
    error: str | None = None


class ClipReader:
    """Reads clips as the model of a config does."""

    def __init__(self, config: Config):
        dataset = config.dataset
        processor = VIDEO_PROCESSORS.get(dataset.video_processor, "dataset.video_processor")
        self.processor = processor.from_config(dataset, training=False, vfeat_dim=config.model.vfeat_dim)
        self._aligner = DSAligner(dataset.max_video_len, dataset.long_video)

    @property
    def person(self) -> str:
        """The rule that chooses one of several people."""
        return self.processor.prepare.person if self.processor.suffix == ".pose" else "first"

    def read(self, path: str, clip: PoseClip, mirror: bool) -> tuple[bool, int]:
        """Whether the frames that are read show nothing; their number before cutting. Raises UserError."""
        frames = self.processor.features(self.processor.prepare.clip(clip, mirror))
        return self.processor.blank(self._aligner.cut(path, frames)), len(frames)


FactsJob = tuple[str, Span | None, bool, ClipReader | None]
"""A clip to read: file, span, whether the signer is left-handed, how its model reads it."""


def read_facts(job: FactsJob) -> ClipFacts:
    """Facts of one clip."""
    path, span, mirror, reader = job
    try:
        if path.lower().endswith(".npy"):
            features = VideoProcessor()(path, None, mirror, span)
            cut_at = None if span is None else span.cut_at(VideoProcessor().shape(path)[0], None)
            return ClipFacts(len(features), features.shape[1], blank=not features.any(), recording=cut_at)
        person = "first" if reader is None else reader.person
        clip = read_clip(path, span, person)
        recording = clip if span is None else read_recording(path, person)
        cut_at = None if span is None else span.cut_at(len(recording), recording.fps)
        normalize_shoulders(clip)  # training refuses poses that cannot be normalised
        blank, sampled = (False, None) if reader is None else reader.read(path, clip, mirror)
    except UserError as error:
        message = str(error)
        return ClipFacts(error=message if message.startswith(path) else f"{path}: {message}")
    left, right = (
        float(clip.component(hand)[1].any(axis=1).mean()) if hand in clip.layout.components else 0.0
        for hand in HANDS
    )
    if mirror:
        left, right = right, left
    whole_fps = stores_whole_fps(path)
    return ClipFacts(len(clip), None, clip.fps, left, right, whole_fps, blank, sampled, cut_at)
