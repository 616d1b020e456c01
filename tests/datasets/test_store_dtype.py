"""`dataset.store_dtype`: half the disk, a bounded error, and a store of its own."""

from pathlib import Path

import numpy as np
import pytest

from mmpt.config import load_config
from mmpt.tasks import Task
from mmpt.utils.errors import UserError


def features(config: Path, cache: Path, dtype: str | None) -> list[np.ndarray]:
    """The validation clips' features, which are not augmented."""
    overrides = [f"dataset.cache_dir={cache}", *([f"dataset.store_dtype={dtype}"] if dtype else [])]
    dataset = Task(load_config(config, overrides)).dataset("valid")
    return [dataset[i]["vfeats"] for i in range(len(dataset))]


def test_float16_store_has_a_bounded_error_and_its_own_file(tiny_yaml: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    whole = features(tiny_yaml, cache, None)
    (first,) = cache.glob("*.poses")
    half = features(tiny_yaml, cache, "float16")
    second = next(path for path in cache.glob("*.poses") if path != first)
    assert second.stat().st_size < 0.65 * first.stat().st_size
    for one, other in zip(whole, half, strict=True):
        assert other.dtype == np.float32 and (one != other).any()
        # half of the last of eleven binary digits; the smallest normal number is 2^-14
        assert (np.abs(one - other) <= 2.0**-11 * np.maximum(np.abs(one), 2.0**-14)).all()
        assert ((one == 0) == (other == 0)).all()  # what is missing is missing
    made = [path.stat().st_mtime_ns for path in (first, second)]
    for dtype, expected in (("float32", whole), ("float16", half)):
        for got, wanted in zip(features(tiny_yaml, cache, dtype), expected, strict=True):
            np.testing.assert_array_equal(got, wanted)
    assert made == [path.stat().st_mtime_ns for path in (first, second)], "each is found again"
    assert len(list(cache.glob("*.poses"))) == 2


def test_unknown_store_dtype_is_refused(tiny_yaml: Path) -> None:
    with pytest.raises(UserError, match="store_dtype"):
        load_config(tiny_yaml, ["dataset.store_dtype=bfloat16"])
