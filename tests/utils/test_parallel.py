"""Mapping a function over items in several processes."""

import math

import pytest

from mmpt.utils.errors import UserError
from mmpt.utils.parallel import check_workers, ordered_map


def test_ordered_map_order():
    numbers = list(range(100))
    expected = [math.sqrt(n) for n in numbers]
    assert list(ordered_map(math.sqrt, numbers)) == expected
    assert list(ordered_map(math.sqrt, iter(numbers), workers=2, chunk=7)) == expected
    assert list(ordered_map(math.sqrt, [], workers=2)) == []


def test_ordered_map_errors():
    with pytest.raises(ValueError, match="math domain"):
        list(ordered_map(math.sqrt, [1, -1, 2], workers=2, chunk=1))
    with pytest.raises(UserError, match="--workers -1"):
        check_workers(-1, 2)
    assert check_workers(None, 2) == 2 and check_workers(0, 2) == 0
