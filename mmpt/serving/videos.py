"""The pose of a video that a client sent, extracted in a process of its own, which may crash or take long."""

import asyncio
import sys
import tempfile
from pathlib import Path

from mmpt.serving.engine import Upload
from mmpt.utils.errors import UserError


async def extract_pose(video: Upload, seconds: float) -> bytes:
    """The `.pose` file of a video, by `signclip extract pose`. Raises UserError, also after `seconds`."""
    with tempfile.TemporaryDirectory(prefix="signclip-video-") as folder:
        source, target = Path(folder, "in"), Path(folder, "out")
        source.mkdir()
        Path(source, "video.mp4").write_bytes(video.content)
        words = ["-m", "mmpt", "extract", "pose", "--in", source, "--out", target, "--workers", "0"]
        quiet = asyncio.subprocess.DEVNULL
        process = await asyncio.create_subprocess_exec(
            sys.executable, *map(str, words), stdin=quiet, stdout=quiet, stderr=quiet
        )
        try:
            async with asyncio.timeout(seconds):
                await process.wait()
        except TimeoutError:
            raise UserError(
                f"extracting the pose of the video takes over {seconds:g} seconds: send a shorter video."
            ) from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        try:
            return Path(target, "video.pose").read_bytes()
        except OSError:
            raise UserError(f"video {video.name}: it cannot be read as a video of a person.") from None
