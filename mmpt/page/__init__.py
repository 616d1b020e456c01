"""The page of `signclip serve` and the report that opens from disk: HTML, CSS and JavaScript in static/.

Nothing is built: the server sends the files as they are, and report.py puts them into one file.
"""

from pathlib import Path

STATIC = Path(__file__).parent / "static"
"""Folder of the files that the browser loads."""

VENDOR = STATIC / "vendor"
"""Folder of what the browser needs to compute landmarks of a video (scripts/fetch_front_end.py)."""
VENDOR_FILES = ("vision_bundle.mjs", "vision_wasm_internal.js", "vision_wasm_internal.wasm", "holistic.task")


def missing_vendor_files() -> list[str]:
    """The VENDOR_FILES that are missing."""
    return [name for name in VENDOR_FILES if not (VENDOR / name).is_file()]
