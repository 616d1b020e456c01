"""A prompt -> token ids."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from mmpt.processors.registry import TEXT_PROCESSORS
from mmpt.utils.errors import UserError


@TEXT_PROCESSORS.register("TextProcessor")
class TextProcessor:
    """Prompt -> `[CLS] [SEP] tokens [SEP]`, the layout of VideoCLIP's captions, without padding.

    tokenizer: a transformers tokenizer with [CLS] and [SEP]; UserError if it has none. max_len: the most ids;
    a longer prompt is truncated before the final [SEP].
    """

    def __init__(self, tokenizer: Any, max_len: int):
        if tokenizer.cls_token_id is None or tokenizer.sep_token_id is None:
            raise UserError(
                f"the tokenizer {type(tokenizer).__name__} has no [CLS] and [SEP]: set dataset.bert_name to "
                "a BERT-like model."
            )
        self.tokenizer = tokenizer
        self.max_len = max_len
        self._kept: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    @property
    def pad_id(self) -> int:
        """The id for padding."""
        return self.tokenizer.pad_token_id or 0

    def __call__(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        """Token ids int64 [L] and an all-true mask bool [L], 3 <= L <= max_len. Raises UserError."""
        if text not in self._kept:
            _check_characters(text)
            ids = self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"][
                : self.max_len - 3
            ]
            cls, sep = self.tokenizer.cls_token_id, self.tokenizer.sep_token_id
            caps = np.array([cls, sep, *ids, sep], dtype=np.int64)
            self._kept[text] = (caps, np.ones(len(caps), dtype=bool))
        return self._kept[text]

    def check_distinct(self, prompts: Iterable[str]) -> None:
        """Raises UserError for different prompts with the same token ids, which no model can tell apart.

        An uncased tokenizer strips accents, so that 'the letter Ä' equals 'the letter A', and maps all words
        with unknown characters to one id.
        """
        seen: dict[bytes, str] = {}
        for prompt in dict.fromkeys(prompts):
            key = self(prompt)[0].tobytes()
            if key in seen:
                raise UserError(
                    f"the prompts {seen[key]!r} and {prompt!r} have the same token ids: an uncased "
                    "tokenizer strips accents and maps words with unknown characters to one id, and "
                    f"prompts are cut to max_len={self.max_len}. Write them out (AE for Ä), or set another "
                    "dataset.bert_name."
                )
            seen[key] = prompt


def _check_characters(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:  # a lone surrogate, such as a byte that is not UTF-8
        raise UserError(
            f"the text {text!r} is not valid Unicode at character {error.start + 1}: was it read as UTF-8?"
        ) from None
