"""Rows of unit length."""

import numpy as np
import pytest

from mmpt.utils.arrays import unit_rows


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
