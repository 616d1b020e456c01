"""Suffixes of video files, and what to do with a video where features are expected."""

import os
from pathlib import Path

_SUFFIXES = """
3gp asf avi flv gif h264 m1v m2ts m2v m4v mj2 mkv mov mp4 mpeg mpg mts mxf ogg ogv ts vob webm wmv y4m
"""
VIDEO_SUFFIXES = frozenset(f".{suffix}" for suffix in _SUFFIXES.split())
"""Suffixes of video files."""
CLIP_SUFFIXES = VIDEO_SUFFIXES | {".pose", ".npy"}
"""Suffixes of clips and recordings: videos, poses and features."""


def is_video(path: str | os.PathLike[str]) -> bool:
    """Whether the path has the suffix of a video."""
    return Path(path).suffix.lower() in VIDEO_SUFFIXES


def how_to_extract(folder: str | Path, suffix: str) -> str:
    """The command that makes the features of the videos in `folder`. suffix: .pose or .npy."""
    kind = "pose" if suffix == ".pose" else "s3d --weights FILE"
    return f"extract first: `signclip extract {kind} --in {folder} --out FOLDER`"
