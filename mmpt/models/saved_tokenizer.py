"""The tokenizer of a model folder, read without importing transformers, which takes a second."""

from functools import cached_property
from pathlib import Path
from typing import Any

from mmpt.models.text_model import check_capitals, read_object, read_tokenizer
from mmpt.utils.errors import UserError

FILES = "tokenizer.json", "tokenizer_config.json"


def read_saved_tokenizer(folder: Path) -> Any:
    """The tokenizer that `save_pretrained` of transformers wrote into a folder. Raises as read_tokenizer."""
    if not all((folder / name).is_file() for name in FILES):
        return read_tokenizer(folder)
    tokenizer = SavedTokenizer(folder)
    check_capitals(tokenizer, folder)
    return tokenizer


class SavedTokenizer:
    """Token ids of texts by the library tokenizers, as transformers' tokenizer gives them.

    Whatever else is asked of it (`decode`, `save_pretrained`, ...) is done by the tokenizer of transformers,
    which is read from the folder then. Raises UserError if the files cannot be read.
    """

    def __init__(self, folder: Path):
        from tokenizers import Tokenizer

        self._folder = folder
        config = read_object(folder / FILES[1])
        try:
            self.backend_tokenizer = Tokenizer.from_file(str(folder / FILES[0]))
        except Exception as error:  # the Rust tokenizers raise plain Exception
            raise UserError(f"the tokenizer in {folder} cannot be read: {error}") from error
        self.backend_tokenizer.no_padding()
        self.backend_tokenizer.no_truncation()
        self._special = {name: _content(config.get(name)) for name in _SPECIAL}

    def __call__(self, text: str, **options: Any) -> Any:
        """{"input_ids": [...]} of a text; with other options than the usual ones, see transformers."""
        if not isinstance(text, str) or options != {"add_special_tokens": False, "verbose": False}:
            return self._whole(text, **options)
        return {"input_ids": self.backend_tokenizer.encode(text, add_special_tokens=False).ids}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or "_special" not in self.__dict__:  # while it is unpickled
            raise AttributeError(name)
        found = self._special.get(name.removesuffix("_id"))
        if found is not None:
            return self.backend_tokenizer.token_to_id(found) if name.endswith("_id") else found
        return getattr(self._whole, name)

    def get_vocab(self) -> dict[str, int]:
        """Token -> id."""
        return self.backend_tokenizer.get_vocab()

    def get_added_vocab(self) -> dict[str, int]:
        """Token -> id of the special and other added tokens."""
        added = self.backend_tokenizer.get_added_tokens_decoder()
        return {token.content: number for number, token in added.items()}

    @property
    def all_special_tokens(self) -> list[str]:
        """The special tokens that the folder names."""
        return [token for token in self._special.values() if token is not None]

    @cached_property
    def _whole(self) -> Any:
        return read_tokenizer(self._folder)


_SPECIAL = ("cls_token", "sep_token", "pad_token", "unk_token", "mask_token")


def _content(token: Any) -> str | None:
    """The text of a token, which older files describe by a dictionary."""
    return token.get("content") if isinstance(token, dict) else token
