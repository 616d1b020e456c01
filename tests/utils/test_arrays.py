"""Rows of unit length."""

import resource
import sys
from pathlib import Path

import numpy as np
import pytest

from mmpt.utils.arrays import save_npz, unit_rows


@pytest.mark.parametrize(
    ("dtype", "scale"),
    [(np.float32, 1e30), (np.float32, 1e-30), (np.float32, 1e-40), (np.float64, 1e230), (np.float64, 1e-230)],
)
def test_unit_rows_of_very_large_and_small_numbers(dtype: type, scale: float) -> None:
    rows = np.array([[3, 4], [0, 0], [-3, 4]]).astype(dtype) * dtype(scale)
    expected = np.array([[0.6, 0.8], [0, 0], [-0.6, 0.8]])
    found = unit_rows(rows)
    assert found.dtype == dtype
    np.testing.assert_allclose(found, expected, rtol=1e-4 if scale == 1e-40 else 1e-6)


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
def test_a_full_disk_while_an_archive_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One error, and none from Python when it deletes the archive."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # Python 3.11 would keep half a .pyc file
    vectors = np.arange(50_000.0)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(OSError):
            save_npz(tmp_path / "a.npz", vectors=vectors)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.iterdir())
    save_npz(tmp_path / "a.npz", vectors=vectors)
    with np.load(tmp_path / "a.npz") as arrays:
        np.testing.assert_array_equal(arrays["vectors"], vectors)
