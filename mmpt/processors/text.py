"""A prompt -> token ids."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from mmpt.processors.registry import TEXT_PROCESSORS
from mmpt.utils.errors import UserError


@TEXT_PROCESSORS.register("TextProcessor")
class TextProcessor:
    """`[CLS] [SEP] tokens [SEP]`, the layout of VideoCLIP's captions.

    At most max_len ids: a longer prompt loses its last tokens and keeps the closing [SEP]. Unpadded.

    tokenizer: a transformers tokenizer with [CLS] and [SEP].
    """

    def __init__(self, tokenizer: Any, max_len: int):
        if tokenizer.cls_token_id is None or tokenizer.sep_token_id is None:
            raise UserError(
                f"the tokenizer {type(tokenizer).__name__} has no [CLS] and [SEP]: give dataset.bert_name a "
                f"BERT-like model."
            )
        self.tokenizer = tokenizer
        self.max_len = max_len
        self._kept: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    @property
    def pad_id(self) -> int:
        """The id that batches are padded with."""
        return self.tokenizer.pad_token_id or 0

    def __call__(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        """Token ids int64 [L] and a mask bool [L] that is all true, 3 <= L <= max_len. Raises UserError."""
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
        """Refuse different prompts that become the same token ids: the model could not tell them apart.

        An uncased tokenizer strips accents, so 'the letter Ä' and 'the letter A' are one to it, and so are
        all words of characters that it does not know. Raises UserError.
        """
        seen: dict[bytes, str] = {}
        for prompt in dict.fromkeys(prompts):
            key = self(prompt)[0].tobytes()
            if key in seen:
                raise UserError(
                    f"the prompts {seen[key]!r} and {prompt!r} become the same token ids: an uncased "
                    "tokenizer strips accents, words of characters that it does not know are one to it, and "
                    f"prompts are cut to max_len={self.max_len}. Write them out (AE for Ä), or take another "
                    "dataset.bert_name."
                )
            seen[key] = prompt


def _check_characters(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:  # half a character, such as a byte that is no UTF-8
        raise UserError(
            f"the text {text!r} is no valid Unicode at character {error.start + 1}: was it read as UTF-8?"
        ) from None
