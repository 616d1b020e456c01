"""Small videos made on the spot, whose pictures say which frame they are."""

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def grey(index: int) -> int:
    """The brightness of frame `index`: 12 levels apart, so that compression cannot mix neighbours up."""
    return 20 + 12 * (index % 18)


def number(picture: np.ndarray) -> int:
    """Which frame (modulo 18) a picture is, from the brightness of its middle."""
    height, width = picture.shape[:2]
    middle = picture[height // 3 : height * 2 // 3, width // 3 : width * 2 // 3]
    return round((float(middle.mean()) - 20) / 12) % 18


def write_video(
    path: Path,
    frames: int = 30,
    rate: int | Fraction = 25,
    size: tuple[int, int] = (64, 48),
    codec: str = "mpeg4",
    pixels: str = "yuv420p",
    times: list[Fraction] | None = None,
    rotation: int | None = None,
    matrix: Sequence[int] | None = None,
    corner: tuple[int, int, int] | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    """Grey frames (see `grey`); `corner` paints the top left quarter; `times` sets each frame's time in
    seconds.
    """
    width, height = size
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options={"qscale": "2", "g": "5", **(options or {})})
        stream.width, stream.height, stream.pix_fmt = width, height, pixels
        if rotation is not None:
            stream.set_display_rotation(rotation)
        if matrix is not None:
            stream.set_display_matrix([*matrix[:2], 0, *matrix[2:], 0, 0, 0, 1 << 30])
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for index in range(frames):
            picture = np.full((height, width, 3), grey(index), np.uint8)
            if corner is not None:
                picture[: height // 2, : width // 2] = corner
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = int(times[index] * 1000), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def with_edit_list(path: Path, target: Path, start: int, frames: int, rate: int = 25) -> Path:
    """The MP4 with an edit list that shows `frames` frames from number `start`."""
    content = bytearray(path.read_bytes())
    box = content.index(b"elst")  # version 0: flags, count, then duration (movie), media time, rate
    movie, media = (
        struct.unpack_from(">I", content, content.index(name) + 16)[0] for name in (b"mvhd", b"mdhd")
    )
    struct.pack_into(">Ii", content, box + 12, frames * movie // rate, start * media // rate)
    target.write_bytes(content)
    return target


def remux(path: Path, target: Path, options: dict[str, str] | None = None, later: int = 0) -> Path:
    """The same pictures in another file, every time `later` seconds later."""
    with av.open(str(path)) as source, av.open(str(target), "w", options=options or {}) as sink:
        stream = sink.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                shift = round(later / packet.time_base)
                packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, stream
                sink.mux(packet)
    return target


def write_audio(path: Path) -> Path:
    """A second of silence and no pictures."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        for index in range(16):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 16000, index * 1024
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path
