"""A prompt -> token ids."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmpt.registry import Registry
from mmpt.signwriting.ids import MOST_SIGNS, pack
from mmpt.signwriting.signs import Sign, canonical, contains_sign, split_signs
from mmpt.utils.errors import UserError
from mmpt.utils.logging import some_of
from mmpt.utils.text import nfc

TEXT_PROCESSORS: Registry["type[TextProcessor]"] = Registry("text processor")
_KEPT = 1 << 16
"""Prompts whose token ids are kept."""
_SHOWN = 30
"""Characters of a long prompt's start, and of its end, in a message."""


@dataclass(frozen=True)
class _Tokens:
    """A prompt as the model reads it. length: its tokens before cutting. known: how many have an id."""

    caps: np.ndarray
    mask: np.ndarray
    length: int
    known: int


@TEXT_PROCESSORS.register("TextProcessor")
class TextProcessor:
    """Prompt -> `[CLS] [SEP] tokens [SEP]`, the layout of VideoCLIP's captions, without padding.

    Prompts are normalised to NFC. tokenizer: a transformers tokenizer with [CLS] and [SEP]; UserError if it
    has none. max_len: the most ids; a longer prompt is truncated before the final [SEP], which `what_is_lost`
    reports.
    """

    #: whether signs in SignWriting become ids of symbols
    reads_signs = False

    def __init__(self, tokenizer: Any, max_len: int):
        if tokenizer.cls_token_id is None or tokenizer.sep_token_id is None:
            raise UserError(
                f"the tokenizer {type(tokenizer).__name__} has no [CLS] and [SEP]: set dataset.bert_name to "
                "a BERT-like model."
            )
        self.tokenizer = tokenizer
        self.max_len = max_len
        self._kept: dict[str, _Tokens] = {}

    @property
    def pad_id(self) -> int:
        """The id for padding."""
        return self.tokenizer.pad_token_id or 0

    def __call__(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        """Token ids int64 [L] and an all-true mask bool [L], 3 <= L <= max_len. Raises UserError."""
        tokens = self._read(text)
        return tokens.caps, tokens.mask

    def is_cut(self, prompt: str) -> bool:
        """Whether the model reads only the first tokens of a prompt."""
        return self._read(prompt).length > self.max_len - 3

    def what_is_lost(self, prompts: Iterable[str]) -> list[str]:
        """What the model does not see of these prompts, one line for each kind of loss."""
        texts = list(dict.fromkeys(map(nfc, prompts)))
        read = {text: self._read(text) for text in texts}
        most = self.max_len - 3
        cut = [_short(text) for text in texts if self.is_cut(text)]
        nothing = [_short(text) for text in texts if not read[text].known]
        in_part = [_short(text) for text in texts if 0 < read[text].known < read[text].length]
        signs = [] if self.reads_signs else [_short(text) for text in texts if contains_sign(text)]
        alike = [f"{_short(text)} as {_short(first)}" for first, text in self._alike(texts)]
        kinds = {
            f"have more than {most} tokens and are cut (dataset.max_len={self.max_len})": cut,
            "hold no word that the tokenizer knows, only [UNK] (training refuses them)": nothing,
            "hold words that the tokenizer does not know, which become [UNK]": in_part,
            "hold SignWriting, which this model reads as letters": signs,
            "have the same token ids as another one, and so the same vector (training refuses them)": alike,
        }
        return [
            f"{len(found)} of {len(texts)} prompts {kind}: {some_of(found)}"
            for kind, found in kinds.items()
            if found
        ]

    def check_classes(self, prompts: Iterable[str]) -> None:
        """Raises UserError for different prompts with the same token ids, which no model can tell apart.

        An uncased tokenizer strips accents, so that 'the letter Ä' equals 'the letter A', and maps all words
        with unknown characters to one id.
        """
        for first, text in self._alike(dict.fromkeys(map(nfc, prompts))):
            raise UserError(
                f"the prompts {first!r} and {text!r} have the same token ids: an uncased "
                "tokenizer strips accents and maps words with unknown characters to one id, and "
                f"prompts are cut to max_len={self.max_len}. Write them out (AE for Ä), or set another "
                "dataset.bert_name."
            )

    def check_known(self, texts: Iterable[str]) -> None:
        """Raises UserError for texts of which the tokenizer knows no word: nothing is learnt from them."""
        distinct = list(dict.fromkeys(map(nfc, texts)))
        unknown = [text for text in distinct if not self._read(text).known]
        if unknown:
            raise UserError(
                f"the tokenizer knows no word of {len(unknown)} of {len(distinct)} texts ([UNK] only): "
                f"{some_of([_short(text) for text in unknown])}. Write them in characters that "
                "dataset.bert_name knows, or set another dataset.bert_name."
            )

    def _read(self, text: str) -> _Tokens:
        if text not in self._kept:
            _check_characters(text)
            if len(self._kept) >= _KEPT:  # a server sees any number of prompts
                self._kept.clear()
            self._kept[text] = self._tokens(nfc(text))
        return self._kept[text]

    def _tokens(self, text: str) -> _Tokens:
        return self._layout(self._word_ids(text), [])

    def _word_ids(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]

    def _layout(self, words: list[int], symbols: list[int]) -> _Tokens:
        cls, sep = self.tokenizer.cls_token_id, self.tokenizer.sep_token_id
        room = max(self.max_len - 3 - len(symbols), 0)
        caps = np.array([cls, sep, *words[:room], sep, *symbols], dtype=np.int64)
        known = sum(number != self.tokenizer.unk_token_id for number in words) + len(symbols)
        return _Tokens(caps, np.ones(len(caps), dtype=bool), len(words) + len(symbols), known)

    def _alike(self, texts: Iterable[str]) -> Iterable[tuple[str, str]]:
        """The prompts with the token ids of an earlier one: (the earlier one, prompt)."""
        seen: dict[bytes, str] = {}
        for text in texts:
            first = seen.setdefault(self._read(text).caps.tobytes(), text)
            if first != text:
                yield first, text


@TEXT_PROCESSORS.register("SignWritingTextProcessor")
class SignWritingTextProcessor(TextProcessor):
    """Prompts that may contain signs in SignWriting: `[CLS] [SEP] words [SEP] symbols`.

    A sign is a word of the prompt in FSW or SWU; each symbol becomes one id (signwriting.ids). The order of
    words and the order of signs are kept, but not where in the words a sign stands. Raises UserError for an
    invalid sign, and for more symbols than max_len has room for: a sign is not cut.
    """

    reads_signs = True

    def _tokens(self, text: str) -> _Tokens:
        parts = split_signs(text)
        signs = [canonical(part) for part in parts if isinstance(part, Sign)]
        symbols = pack(signs)
        if len(symbols) > self.max_len - 3 or len(signs) > MOST_SIGNS:
            raise UserError(
                f"the prompt {_short(text)} has {len(signs)} signs with {len(symbols)} symbols: expected at "
                f"most {MOST_SIGNS} signs and {self.max_len - 3} symbols (dataset.max_len={self.max_len})."
            )
        words = " ".join(part for part in parts if isinstance(part, str))
        return self._layout(self._word_ids(words), symbols)


def _short(text: str) -> str:
    return repr(text) if len(text) <= 2 * _SHOWN else f"{text[:_SHOWN]!r}...{text[-_SHOWN:]!r}"


def _check_characters(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:  # a lone surrogate, such as a byte that is not UTF-8
        raise UserError(
            f"the text {text!r} is not valid Unicode at character {error.start + 1}: was it read as UTF-8?"
        ) from None
