"""Low-rank adapters (LoRA: Hu et al. 2021, https://arxiv.org/abs/2106.09685), with `peft`.

A linear map W in a tower's BERT layers becomes W + B A, and only A [rank, in] and B [out, rank] are trained.
Only training needs peft: saving a model folder and reading a checkpoint merge B A into W
(mmpt/utils/adapters.py).
"""

import importlib.util
from typing import Any

from torch import nn

from mmpt.models.bert import BertModel
from mmpt.utils.errors import MissingDataError, UserError

TARGETS = r"encoder\.layer\.\d+\..+\.(query|key|value|dense)"
"""Modules of a BertModel that get an adapter: every linear layer except the unused pooler."""


def need_peft() -> None:
    """Raises MissingDataError if peft is not installed."""
    if importlib.util.find_spec("peft") is None:
        raise MissingDataError(
            "model.lora_rank needs peft, which is not installed: `pip install -r requirements-train.txt`, or "
            "`pip install peft`. Only training needs it, not evaluation or embedding."
        )


def add_adapters(model: nn.Module, rank: int) -> None:
    """Add adapters of this rank (model.lora_rank) to the BERT of every tower that is not frozen, in place.

    Call it after the pretrained weights are loaded: it renames adapted weights (`query.weight` ->
    `query.base_layer.weight`). B starts at zero, so embeddings do not change. From then on only the adapters
    of a BERT are trained. Frame MLP, convolutions, projections and learnt pooling are trained as before: they
    are small, depend on the features, and may not have been pretrained (model.init_ignore).

    Raises MissingDataError without peft, UserError if the rank is larger than a tower is wide, or if every
    tower is frozen.
    """
    need_peft()
    towers = [module for module in model.modules() if isinstance(module, BertModel)]
    towers = [bert for bert in towers if any(p.requires_grad for p in bert.parameters())]
    if not towers:
        raise UserError("model.lora_rank: every tower is frozen, so no adapter can be added.")
    for bert in towers:
        width = bert.settings.hidden_size
        if rank > width:
            raise UserError(
                f"model.lora_rank is {rank}, but a tower has width {width}: expected at most {width}; 4 to "
                "64 is usual."
            )
        _inject(bert, rank)


def _inject(bert: BertModel, rank: int) -> None:
    from peft import LoraConfig, inject_adapter_in_model  # imports half of transformers

    # lora_alpha = rank makes it W + B A without a factor, so merging needs no option
    config: Any = LoraConfig(r=rank, lora_alpha=rank, lora_dropout=0.0, bias="none", target_modules=TARGETS)
    inject_adapter_in_model(config, bert)
