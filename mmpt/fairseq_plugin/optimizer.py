"""fairseq's `adam` in one pass over the parameters.

fairseq has a fused Adam with apex on GPUs only; elsewhere it walks over the parameters some ten times,
which in a small model takes as long as a packed forward pass. torch's fused AdamW does the same step on
CPUs and GPUs.
"""

import functools
from collections.abc import Callable, Iterable
from typing import Any

import torch
from fairseq.optim import adam


class FusedAdam(torch.optim.AdamW):
    """torch's fused AdamW, under the names and with the states of fairseq's Adam.

    The two differ by rounding, and in where `eps` stands: here it is added to the root of the
    bias-corrected second moment (Kingma and Ba 2015, https://arxiv.org/abs/1412.6980, algorithm 1), in
    fairseq to the uncorrected one.
    """

    supports_memory_efficient_fp16 = False
    supports_flat_params = True

    def __init__(self, params: Iterable[torch.nn.Parameter], **options: Any):
        super().__init__(params, fused=True, **options)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """States of a checkpoint, also of one that fairseq's own Adam wrote."""
        groups = [{**group, "fused": True} for group in state_dict["param_groups"]]
        super().load_state_dict({**state_dict, "param_groups": groups})


def install() -> None:
    """Make fairseq's `adam` a FusedAdam where all parameters are float32, on a CPU or a GPU.

    `fairseq.optimizer.use_old_adam: true` leaves it fairseq's own; so does half precision, for which that
    one keeps float32 states.
    """
    if not hasattr(adam.FairseqAdam.__init__, "__wrapped__"):
        adam.FairseqAdam.__init__ = _fused(adam.FairseqAdam.__init__)


def _fused(init: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(init)
    def build(self: adam.FairseqAdam, cfg: Any, params: Iterable[Any]) -> None:
        given = list(params)
        init(self, cfg, given)
        if type(self._optimizer) is adam.Adam and not cfg.use_old_adam:
            tensors = [
                tensor
                for entry in given
                for tensor in (entry["params"] if isinstance(entry, dict) else [entry])
            ]
            if all(
                tensor.dtype == torch.float32 and tensor.device.type in ("cpu", "cuda") for tensor in tensors
            ):
                self._optimizer = FusedAdam(given, **self.optimizer_config)

    return build
