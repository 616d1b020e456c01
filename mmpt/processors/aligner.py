"""Combine features and token ids into a sample."""

import numpy as np

from mmpt.registry import Registry
from mmpt.utils.errors import UserError

ALIGNERS: Registry["type[DSAligner]"] = Registry("aligner")


@ALIGNERS.register("DSAligner")
class DSAligner:
    """Combines a clip with its prompt, and limits the clip to max_video_len frames.

    long_video: a longer clip is cut to its first frames (`truncate`), refused (`error`), subsampled to
    max_video_len evenly spaced frames (`uniform`), or kept, for a model that divides it (`windows`).
    """

    def __init__(self, max_video_len: int, long_video: str = "truncate"):
        assert long_video in ("truncate", "error", "uniform", "windows"), long_video
        self.max_video_len = max_video_len
        self.long_video = long_video

    def __call__(
        self, video_id: str, vfeats: np.ndarray, caps: np.ndarray, cmasks: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Return {"vfeats": float32 [T', D], "vmasks": bool [T'], "caps", "cmasks"} with T' <= T.

        vfeats: [T, D] of any float type. Raises UserError (see `cut`).
        """
        vfeats = self.cut(video_id, vfeats)
        return {"vfeats": vfeats, "vmasks": np.ones(len(vfeats), dtype=bool), "caps": caps, "cmasks": cmasks}

    def cut(self, video_id: str, vfeats: np.ndarray) -> np.ndarray:
        """A clip's features [T, D] as float32, at most max_video_len frames (except with `windows`).

        Raises UserError for a longer clip with long_video: error.
        """
        vfeats = np.ascontiguousarray(vfeats, dtype=np.float32)
        if len(vfeats) <= self.max_video_len or self.long_video == "windows":
            return vfeats
        if self.long_video == "error":
            raise UserError(
                f"clip {video_id} has {len(vfeats)} frames, more than "
                f"dataset.max_video_len={self.max_video_len}: increase that, or set "
                "dataset.long_video to truncate or uniform."
            )
        if self.long_video == "uniform":
            return vfeats[np.linspace(0, len(vfeats) - 1, self.max_video_len).round().astype(int)]
        return vfeats[: self.max_video_len]

    def kept(self, frames: np.ndarray) -> np.ndarray:
        """Frames that `cut` keeps of clips of int64 [N] frames."""
        return frames if self.long_video == "windows" else np.minimum(frames, self.max_video_len)
