"""Fixtures that many tests share."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["HF_HUB_OFFLINE"] = "1"  # no test may reach for a hub

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Small numeric fixtures that travel with the project."""
    return ROOT / "tests" / "data"


def _shared(folder: str) -> Path:
    path = ROOT.parent / "shared" / folder
    if not path.is_dir():
        pytest.skip(f"the folder shared/{folder} beside the checkout is not there")
    return path


@pytest.fixture(scope="session")
def shared_reference() -> Path:
    """Numbers of the reference implementations, where they are at hand."""
    return _shared("reference")


@pytest.fixture(scope="session")
def shared_videos() -> Path:
    """A few real videos, where they are at hand."""
    return _shared("data")
