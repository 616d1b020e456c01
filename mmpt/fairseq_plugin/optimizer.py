"""fairseq's `adam` in one pass over the parameters.

fairseq has a fused Adam with apex on GPUs only; elsewhere it walks over the parameters some ten times, which
in a small model takes as long as a packed forward pass. torch's fused AdamW does the same step on CPUs and
GPUs.
"""

import inspect
from collections.abc import Iterable
from typing import Any

import torch
from fairseq.optim import adam

from mmpt.models.word_rows import ROWS, fit_rows


class FusedAdam(torch.optim.AdamW):
    """torch's fused AdamW, with the interface and the state of fairseq's Adam.

    The two differ by rounding and by the place of `eps`: here it is added to the root of the bias-corrected
    second moment (Kingma and Ba 2015, https://arxiv.org/abs/1412.6980, algorithm 1), in fairseq to the
    uncorrected one.
    """

    supports_memory_efficient_fp16 = False
    supports_flat_params = True
    # torch's wrapper around the step imports its compiler, which takes seconds
    step = torch.no_grad()(inspect.unwrap(torch.optim.AdamW.step))

    def __init__(self, params: Iterable[torch.nn.Parameter], **options: Any):
        super().__init__(params, fused=True, **options)

    def state_dict(self) -> dict[str, Any]:
        """torch's, with the numbers of the rows where a parameter holds rows of a table (TrainedRows)."""
        found = super().state_dict()
        rows = {i: getattr(tensor, ROWS) for i, tensor in enumerate(self._tensors()) if hasattr(tensor, ROWS)}
        found["state"] = {
            i: {**entry, ROWS: rows[i]} if i in rows else entry for i, entry in found["state"].items()
        }
        return found

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state, also of fairseq's own Adam, and of a run that trained other rows of a table."""
        groups = [{**group, "fused": True} for group in state_dict["param_groups"]]
        tensors = self._tensors()
        state = {i: _fitted(entry, tensors[i]) for i, entry in state_dict["state"].items()}
        super().load_state_dict({**state_dict, "state": state, "param_groups": groups})

    def _tensors(self) -> list[torch.Tensor]:
        return [tensor for group in self.param_groups for tensor in group["params"]]


def _fitted(entry: dict[str, Any], parameter: torch.Tensor) -> dict[str, Any]:
    """The state of one parameter, for the rows that it holds now."""
    saved = entry.get(ROWS)
    if saved is None and not hasattr(parameter, ROWS):
        return entry
    return {
        name: fit_rows(value, saved, parameter) if name.startswith("exp_avg") else value
        for name, value in entry.items()
        if name != ROWS
    }


class FairseqAdam(adam.FairseqAdam):
    """A FusedAdam if all parameters are float32, on a CPU or a GPU; fairseq's own Adam otherwise.

    `fairseq.optimizer.use_old_adam: true` asks for fairseq's own, and so does half precision, for which it
    keeps float32 states. The name of the class is saved in checkpoints and compared on resume.
    """

    def __init__(self, cfg: Any, params: Iterable[Any]):
        given = list(params)
        super().__init__(cfg, given)
        self._optimizer: Any
        if type(self._optimizer) is not adam.Adam or cfg.use_old_adam:
            return
        groups = (entry["params"] if isinstance(entry, dict) else [entry] for entry in given)
        tensors = [tensor for group in groups for tensor in group]
        if all(each.dtype == torch.float32 and each.device.type in ("cpu", "cuda") for each in tensors):
            self._optimizer = FusedAdam(given, **self.optimizer_config)

    def multiply_grads(self, c: float | torch.Tensor) -> None:
        """Multiply all gradients by c; fairseq calls this in every update, mostly with 1."""
        if isinstance(c, torch.Tensor) or c != 1:
            super().multiply_grads(c)


def has_fused_step(optimizer: Any) -> bool:
    """Whether a fairseq optimizer is FairseqAdam with a FusedAdam, of float32 parameters."""
    return isinstance(optimizer, FairseqAdam) and isinstance(optimizer.optimizer, FusedAdam)
