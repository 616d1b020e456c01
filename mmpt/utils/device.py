"""Choose the torch device by name."""

import torch

from mmpt.utils.errors import UserError


def choose_device(name: str | None = "auto") -> torch.device:
    """The torch device `name`; "auto" or None: a GPU if available, else the CPU. Raises UserError."""
    if name in (None, "auto"):
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device).cpu()  # refuses "meta", whose tensors have no values
    except (RuntimeError, AssertionError) as error:
        seen = torch.cuda.device_count()
        why = (
            f" PyTorch sees {seen or 'no'} CUDA device{'s' if seen > 1 else ''}."
            if "cuda" in str(name)
            else ""
        )
        raise UserError(
            f"device {name!r} cannot be used here: expected auto, cpu, cuda or cuda:N.{why}"
        ) from error
    return device


def put(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A tensor of the CPU, on a device. The CPU does not wait until a GPU has it."""
    pinned = tensor.pin_memory() if device.type == "cuda" else tensor
    return pinned.to(device, non_blocking=True)
