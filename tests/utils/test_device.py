"""The choice of a device."""

import pytest
import torch

from mmpt.utils.device import choose_device
from mmpt.utils.errors import UserError


def test_choose_device_auto(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == choose_device(None) == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto") == torch.device("cuda")


def test_choose_device_by_name() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    for name in ("abacus", "", "cuda:99", "meta"):
        with pytest.raises(UserError, match="expected auto, cpu, cuda"):
            choose_device(name)
