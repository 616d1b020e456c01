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
        with pytest.raises(UserError, match="expected auto, cpu, cuda") as raised:
            choose_device(name)
        assert ("CUDA device" in str(raised.value)) == name.startswith("cuda")
    assert torch.cuda.is_available() or "PyTorch sees no CUDA device." in _refusal("cuda:99")


def _refusal(name: str) -> str:
    with pytest.raises(UserError) as raised:
        choose_device(name)
    return str(raised.value)
