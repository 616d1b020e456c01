"""Low-rank adapters (LoRA: Hu et al. 2021, https://arxiv.org/abs/2106.09685), put in place by `peft`.

A linear map W of a tower's BERT layers becomes W + B A, of which only A [rank, in] and B [out, rank] are
trained. Nothing else here needs peft: weights are read, and saved, with B A added to W
(mmpt/utils/adapters.py).
"""

import importlib.util
from typing import Any

from torch import nn

from mmpt.models.bert import BertModel
from mmpt.utils.errors import MissingDataError, UserError

TARGETS = r"encoder\.layer\.\d+\..+\.(query|key|value|dense)"
"""Within a BertModel: every linear map of every layer; not the pooler, which nothing uses."""


def need_peft() -> None:
    """Raises MissingDataError, which says what to install, where there is no peft."""
    if importlib.util.find_spec("peft") is None:
        raise MissingDataError(
            "model.lora_rank needs peft, which is not installed: `pip install -r requirements-train.txt`, or "
            "`pip install peft`. Only training needs it: a trained model is evaluated and embeds without it."
        )


def add_adapters(model: nn.Module, rank: int) -> None:
    """Put adapters of this rank (model.lora_rank) into the BERT of every tower that is not frozen, in place.

    To be called when the weights that they start from are loaded: the names of adapted weights change
    (`query.weight` -> `query.base_layer.weight`). B starts at zero, so embeddings stay what they were. Of a
    BERT nothing but adapters is trained from then on. What stands around it (frame MLP, convolutions,
    projections, learnt pooling) is trained as ever: it is small, it depends on the features, and it need not
    have been trained before (model.init_ignore).

    Raises MissingDataError without peft, UserError if the rank is larger than a tower is wide, or if every
    tower is frozen.
    """
    need_peft()
    towers = [module for module in model.modules() if isinstance(module, BertModel)]
    towers = [bert for bert in towers if any(p.requires_grad for p in bert.parameters())]
    if not towers:
        raise UserError("model.lora_rank: every tower is frozen, so there is nothing to adapt.")
    for bert in towers:
        width = bert.settings.hidden_size
        if rank > width:
            raise UserError(
                f"model.lora_rank is {rank}, but a tower is {width} wide: expected at most {width}, as a "
                "rule 4 to 64."
            )
        _inject(bert, rank)


def _inject(bert: BertModel, rank: int) -> None:
    from peft import LoraConfig, inject_adapter_in_model  # imports half of transformers

    # lora_alpha = rank: the sum is W + B A as it stands, so a checkpoint says by itself what it means
    config: Any = LoraConfig(r=rank, lora_alpha=rank, lora_dropout=0.0, bias="none", target_modules=TARGETS)
    inject_adapter_in_model(config, bert)
