"""Frames and prompt -> one sample."""

import numpy as np

from mmpt.processors.registry import ALIGNERS
from mmpt.utils.errors import UserError


@ALIGNERS.register("DSAligner")
class DSAligner:
    """One clip, one prompt: the whole of both, as far as they fit.

    A clip over max_video_len is cut to its first frames (`truncate`), refused (`error`), or thinned out to
    max_video_len frames that are evenly spread (`uniform`).
    """

    def __init__(self, max_video_len: int, long_video: str = "truncate"):
        assert long_video in ("truncate", "error", "uniform"), long_video
        self.max_video_len = max_video_len
        self.long_video = long_video

    def __call__(
        self, video_id: str, vfeats: np.ndarray, caps: np.ndarray, cmasks: np.ndarray
    ) -> dict[str, np.ndarray]:
        """vfeats [T, D] of any float type -> {"vfeats" float32 [T', D], "vmasks" bool [T'], "caps",
        "cmasks"}, T' <= T."""
        vfeats = self.cut(video_id, vfeats)
        return {"vfeats": vfeats, "vmasks": np.ones(len(vfeats), dtype=bool), "caps": caps, "cmasks": cmasks}

    def cut(self, video_id: str, vfeats: np.ndarray) -> np.ndarray:
        """A clip's frames [T, D] as the model may see them: float32, at most max_video_len. Raises
        UserError."""
        vfeats = np.ascontiguousarray(vfeats, dtype=np.float32)
        if len(vfeats) <= self.max_video_len:
            return vfeats
        if self.long_video == "error":
            raise UserError(
                f"clip {video_id} has {len(vfeats)} frames, over "
                f"dataset.max_video_len={self.max_video_len}: raise that, or set "
                "dataset.long_video to truncate or uniform."
            )
        if self.long_video == "uniform":
            return vfeats[np.linspace(0, len(vfeats) - 1, self.max_video_len).round().astype(int)]
        return vfeats[: self.max_video_len]
