"""The page of `signclip serve` and the report that opens from disk: HTML, CSS and JavaScript in static/.

Nothing is built: the server sends the files as they are, and report.py puts them into one file.
"""

from pathlib import Path

STATIC = Path(__file__).parent / "static"
"""Folder of the files that the browser loads."""
