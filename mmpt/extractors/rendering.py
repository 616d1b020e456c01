"""Draw poses with pose-format, on white or over video frames; write images and MPEG-1 videos."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from pose_format import Pose
from pose_format.numpy import NumPyPoseBody
from pose_format.pose_header import PoseHeader, PoseHeaderComponent, PoseHeaderDimensions
from pose_format.pose_visualizer import PoseVisualizer

from mmpt.extractors.video import Video
from mmpt.pose.components import FACE, FULL_BODY, HANDS, LEFT_HAND, POSE, RIGHT_HAND
from mmpt.pose.reader import from_pose
from mmpt.pose.writer import as_pose
from mmpt.utils.errors import UserError
from mmpt.utils.files import atomic_write

_COLOURS = {
    POSE: (110, 110, 110),
    FACE: (128, 0, 0),
    LEFT_HAND: (208, 138, 46),
    RIGHT_HAND: (47, 109, 179),
}

_MIN_CONFIDENCE = 0.5  # landmarks that the estimator guessed (legs outside the frame) are not framed
_MARGIN = 0.12


# ---- poses
def read_drawable(path: Path) -> Pose:
    """Read a `.pose` file; see `drawable`."""
    try:
        return drawable(Pose.read(path.read_bytes()))
    except Exception as error:  # pose-format raises errors of many types on invalid bytes
        raise UserError(f"{path}: cannot be read as a pose ({type(error).__name__}: {error}).") from error


def drawable(pose: Pose) -> Pose:
    """Body, face and hands of the first person, without the world coordinates.

    The face keeps only its points: its 2,600 lines would hide it and take most of the time.
    """
    found = {component.name for component in pose.header.components}
    if not found & set(FULL_BODY):  # of another estimator
        pose = as_pose(from_pose(pose), pose.header.dimensions.height)
        found = {component.name for component in pose.header.components}
    kept = pose.get_components([name for name in FULL_BODY if name in found])
    components = [
        PoseHeaderComponent(
            part.name,
            part.points,
            [] if part.name == FACE else part.limbs,
            part.colors if len(part.colors) else [_COLOURS[part.name]],  # pose_of_landmarks stores none
            part.format,
        )
        for part in kept.header.components
    ]
    header = PoseHeader(kept.header.version, kept.header.dimensions, components)
    return _with_frames(Pose(header, kept.body), slice(None), kept.body.fps)


def sample_middle(pose: Pose, fps: float, frames: int) -> Pose:
    """At most `frames` frames from the middle of a pose, resampled to `fps` by nearest frame."""
    count = len(pose.body.data)
    total = max(1, round(count * fps / pose.body.fps))
    start = max(0, (total - frames) // 2)
    times = np.arange(start, min(start + frames, total)) * pose.body.fps / fps
    return _with_frames(pose, np.minimum(np.round(times).astype(int), count - 1), fps)


def _with_frames(pose: Pose, kept: "slice | NDArray[np.int64]", fps: float) -> Pose:
    body = pose.body
    return Pose(pose.header, NumPyPoseBody(fps, body.data[kept, :1], body.confidence[kept, :1]))


def _points(pose: Pose) -> Iterator[tuple[str, slice]]:
    """(name, slice of landmarks) of each component."""
    start = 0
    for component in pose.header.components:
        yield component.name, slice(start, start + len(component.points))
        start += len(component.points)


def box_of(pose: Pose, component: str) -> tuple[float, float, float, float]:
    """Left, top, right, bottom of a component's confident landmarks in the middle half of the clip.

    At the ends of a clip the hands move up or down. Raises UserError if there are none.
    """
    frames = len(pose.body.data)
    middle = slice(frames // 4, frames - frames // 4)
    for name, columns in _points(pose):
        seen = np.asarray(pose.body.confidence)[middle, :, columns] > _MIN_CONFIDENCE
        if name == component and seen.any():
            points = np.asarray(pose.body.data.data)[middle, :, columns, :2][seen]
            (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
            return float(left), float(top), float(right), float(bottom)
    raise UserError(f"the pose has no visible {component}.")


def fit(pose: Pose, box: tuple[float, float, float, float], width: int, height: int) -> Pose:
    """Scale and move a pose so that `box` fills a picture of that size, with a margin."""
    left, top, right, bottom = box
    scale = (1 - 2 * _MARGIN) * min(width / max(right - left, 1e-6), height / max(bottom - top, 1e-6))
    data = pose.body.data * scale
    data[..., 0] += width / 2 - scale * (left + right) / 2
    data[..., 1] += height / 2 - scale * (top + bottom) / 2
    body = NumPyPoseBody(pose.body.fps, data.astype(np.float32), pose.body.confidence)
    return Pose(_header(pose, width, height), body)


def _header(pose: Pose, width: int, height: int) -> PoseHeader:
    size = PoseHeaderDimensions(width, height, width)
    return PoseHeader(pose.header.version, size, pose.header.components)


def representative_frame(pose: Pose, hands: Sequence[str] = HANDS) -> int:
    """The frame to show: the middle one of those in which one of `hands` is seen, of all where none is."""
    confidence = np.asarray(pose.body.confidence)
    seen = np.zeros(len(confidence), bool)
    for name, columns in _points(pose):
        if name in hands:
            seen |= (confidence[:, :, columns] > 0).any(axis=(1, 2))
    frames = np.flatnonzero(seen) if seen.any() else np.arange(len(seen))
    return int(frames[len(frames) // 2])


# ---- pictures, uint8 RGB [H, W, 3]
def pictures(pose: Pose, thickness: int | None = None) -> Iterator[NDArray[np.uint8]]:
    """Draw each frame of a pose on white, in the size that its header gives."""
    for picture in PoseVisualizer(pose, thickness).draw():
        yield np.ascontiguousarray(picture[..., ::-1])


def draw_on(pose: Pose, index: int, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Draw frame `index` of a pose, in pixel coordinates, on a picture. The face is drawn as small dots."""
    height, width = picture.shape[:2]
    frame = _with_frames(pose, slice(index, index + 1), pose.body.fps)
    frame = Pose(_header(pose, width, height), frame.body)
    face = [name for name, _ in _points(pose) if name == FACE]
    rest = [name for name, _ in _points(pose) if name != FACE]
    canvas = np.ascontiguousarray(picture[..., ::-1])
    for names, thickness in ((face, 1), (rest, None)):
        if names:
            visualizer = PoseVisualizer(frame.get_components(names), thickness)
            canvas = next(visualizer.draw_on_video(iter([canvas])))
    return np.ascontiguousarray(canvas[..., ::-1])


def blank(width: int, height: int) -> NDArray[np.uint8]:
    """A white picture."""
    return np.full((height, width, 3), 255, np.uint8)


def picture_of(path: Path, index: int) -> NDArray[np.uint8]:
    """Frame `index` of a video, or its last frame if it is shorter."""
    with Video(path) as video:
        frame = None
        for _, frame in itertools.islice(video.frames(), index + 1):  # noqa: B007  uses the last one
            pass
        assert frame is not None  # a video that opens has a frame
        return video.picture(frame, video.width, video.height)


def write_mpg(path: Path, frames: Iterable[NDArray[np.uint8]], fps: int = 25) -> None:
    """Write pictures of even height and width as an MPEG-1 video, atomically."""
    with atomic_write(path) as temporary, av.open(str(temporary), "w", format="mpeg") as container:
        stream = container.add_stream("mpeg1video", rate=fps)
        stream.pix_fmt = "yuv420p"
        stream.bit_rate = 1_150_000
        for index, picture in enumerate(frames):
            if index == 0:
                stream.height, stream.width = picture.shape[:2]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
