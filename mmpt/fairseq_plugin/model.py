"""The dual encoder as a fairseq model; saved parameter names begin with `mmmodel.`, as in MMPT."""

from typing import Any

import torch
from fairseq.models import BaseFairseqModel, register_model, register_model_architecture


@register_model("mmmodel")
class FairseqMMModel(BaseFairseqModel):
    """A wrapper without parameters of its own."""

    def __init__(self, mmmodel: torch.nn.Module):
        super().__init__()
        self.mmmodel = mmmodel

    @classmethod
    def build_model(cls, args: Any, task: Any) -> "FairseqMMModel":
        """The model of the task's config; `args` is not used."""
        return cls(task.build_mmmodel())

    def forward(self, *batch: Any) -> dict[str, torch.Tensor]:
        """See DualEncoder.forward."""
        return self.mmmodel(*batch)


@register_model_architecture("mmmodel", "mmarch")
def mmarch(args: Any) -> None:
    """The one architecture: the task config describes it."""
