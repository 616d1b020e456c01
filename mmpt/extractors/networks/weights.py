"""Load weights of the frozen networks: published files (strict), or seeded random weights for trials."""

import logging
import math
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmpt.utils.checkpoint import load_state_dict_file
from mmpt.utils.errors import MissingDataError, UserError
from mmpt.utils.files import sha256
from mmpt.utils.logging import some_of

log = logging.getLogger(__name__)


def read_weights(
    spec: str, origin: str, trust: bool = False
) -> tuple[dict[str, Tensor] | int, dict[str, Any]]:
    """The state dict, or the seed of `random:SEED`, that `--weights` names, and its record for the manifest.

    origin: where the official file comes from, for the error when it is missing. trust: see
    load_state_dict_file. Raises MissingDataError when the file is not there, UserError when it or the seed
    cannot be read.
    """
    if spec.startswith("random:"):
        seed = spec.removeprefix("random:")
        if not re.fullmatch(r"[0-9]{1,9}", seed):
            raise UserError(f"--weights {spec}: expected random:SEED with a whole number of 0 or more.")
        log.warning("%s: the network is random; its features are good for trials of the pipeline only", spec)
        return int(seed), {"weights": f"random:{int(seed)}"}
    path = Path(spec)
    if not path.is_file():
        raise MissingDataError(
            f"there is no weights file {path}. {origin} Give its path with --weights, or try the pipeline "
            f"with --weights random:0."
        )
    state = load_state_dict_file(path, trust)
    return state, {"weights": path.name, "weights_sha256": sha256(path)}


def load_strictly(
    network: nn.Module, state: Mapping[str, Tensor], where: str, skip: str | None = None
) -> None:
    """Copy weights into a network. Every key of the network must be there, in its shape, and no other.

    skip: keys that begin so are left out. Raises UserError that names what differs; then nothing is changed.
    """
    given = {key: tensor for key, tensor in state.items() if skip is None or not key.startswith(skip)}
    wanted = network.state_dict()
    problems = {
        "missing": [key for key in wanted if key not in given],
        "unexpected": [key for key in given if key not in wanted],
        "of another shape": [
            f"{key} ({list(given[key].shape)}, expected {list(wanted[key].shape)})"
            for key in wanted
            if key in given and given[key].shape != wanted[key].shape
        ],
    }
    told = [f"{len(keys)} {kind}: {some_of(keys)}" for kind, keys in problems.items() if keys]
    if told:
        raise UserError(f"{where} does not hold the weights of {type(network).__name__}: {'; '.join(told)}.")
    network.load_state_dict(given)


def fill_randomly(network: nn.Module, seed: int, gain: float) -> None:
    """Give a network random weights that depend on the seed and on each parameter's name only.

    Convolutions and linear layers are normal with variance gain / fan-in, batch norm scales are near 1,
    running means near 0, running variances between 0.5 and 1.5: signals keep their size from layer to layer.
    """
    with torch.no_grad():
        for key, tensor in network.state_dict().items():
            if not tensor.is_floating_point():
                continue
            generator = torch.Generator().manual_seed(zlib.crc32(key.encode()) + seed)
            if tensor.dim() >= 2:
                values = torch.randn(tensor.shape, generator=generator) * math.sqrt(gain / tensor[0].numel())
            elif key.endswith("running_var"):
                values = torch.rand(tensor.shape, generator=generator) + 0.5
            elif key.endswith("running_mean"):
                values = torch.randn(tensor.shape, generator=generator) * 0.1
            elif key.endswith(".weight"):
                values = torch.rand(tensor.shape, generator=generator) * 0.5 + 0.75
            else:
                values = torch.randn(tensor.shape, generator=generator) * 0.05
            tensor.copy_(values)
