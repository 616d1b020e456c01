"""The embedded lexicon: what is in which split."""

import csv
import dataclasses
import shutil

import pytest

from mmpt.config import DatasetConfig
from mmpt.processors.fingerspelling import FingerspellingMetaProcessor, find_lexicon, read_index, write_out
from mmpt.processors.table_file import read_table
from mmpt.processors.templates import PromptTemplates
from mmpt.utils.errors import MissingDataError, UserError
from mmpt.utils.files import sha256

CONFIG = DatasetConfig(
    meta_processor="FingerspellingMetaProcessor",
    video_processor="PoseProcessor",
    max_video_len=256,
    max_len=96,
)
ONE_HANDED = ["eso", "ise", "lls", "mfs", "psr", "ssp", "svk", "swl"]


def split(name, **changes):
    return FingerspellingMetaProcessor.from_config(
        dataclasses.replace(CONFIG, **changes), name, ".pose"
    ).examples


def test_the_protocol_unseen_language():
    test, valid, train = split("test"), split("valid"), split("train", train_languages=ONE_HANDED)
    assert (len(test), len(valid), len(train)) == (78, 52, 205)
    assert {e.group for e in test} == {"gsg", "ase", "sgg"} and {e.group for e in valid} == {"asq", "bzs"}
    prompts = {f"Fingerspell the letter {letter}." for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}
    assert {e.text for e in test} == {e.text for e in valid} == {e.text for e in train} == prompts
    assert {e.group for e in train if e.mirror} == {"ise"}


@pytest.mark.parametrize(
    "test, valid", [(["gsg", "ase", "sgg"], ["asq", "bzs"]), (["fsl"], ["swl"]), (["swl"], ["fsl"])]
)
def test_no_file_content_is_in_two_splits(test, valid):
    """The clips of fsl are those of ase: whichever is held out, the other must not be trained on."""
    seen: dict[str, str] = {}
    for name in ("train", "valid", "test"):
        examples = split(name, test_languages=test, valid_languages=valid, extra_letters=True)
        for example in examples:
            digest = sha256(example.path)
            assert digest not in seen, f"{example.video_id} is in {seen.get(digest)} and in {name}"
            seen[digest] = f"{name} as {example.video_id}"


def test_extra_letters_are_for_training_only():
    train = split("train", extra_letters=True)
    assert len({e.text for e in train}) > 150
    assert len({e.text for e in split("test", extra_letters=True)}) == 26


def test_prompts_can_name_the_language():
    prompts = {e.text for e in split("test", prompt="Fingerspell {letter} in {language}.", letters=["A"])}
    assert prompts == {f"Fingerspell A in {n} Sign Language." for n in ("German", "American", "Swiss-German")}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"prompt": "The letter {letter} of {code}."},
        {"prompt": "Fingerspell {letter}.", "prompt_templates": ["{text} <{code}>", "{text}"]},
    ],
)
def test_a_table_of_the_same_clips_has_the_same_prompts(tmp_path, changes):
    config = dataclasses.replace(CONFIG, **changes)
    rows = [row for row in read_index(find_lexicon(None)) if row.language == "gsg"]
    lines = [f"{n},{r.path},{write_out(r.letter)},{r.language}" for n, r in enumerate(rows)]
    (tmp_path / "t.csv").write_text("\n".join(["id,path,text,signed_language", *lines]))
    table = read_table(tmp_path / "t.csv")
    templates = FingerspellingMetaProcessor.table_templates(config)
    made = {tuple(texts) for texts in PromptTemplates(templates, table).of_rows(table.rows)}
    examples = split("test", test_languages=["gsg"], **changes)
    assert made >= {(e.text, *e.other_texts) for e in examples} and len(examples) == 26


def test_written_out_letters_survive_an_uncased_tokenizer():
    letters = {row.letter for row in read_index(find_lexicon(None))}
    written = {write_out(letter) for letter in letters}
    assert all(text.isascii() for text in written)
    assert (
        write_out("Ä") == "AE"
        and write_out("ä") == "AE"
        and write_out("Š") == "S WITH CARON"
        and write_out("Ω") == "GREEK OMEGA"
    )


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"test_languages": ["gsgg"]}, "no sign language 'gsgg'"),
        ({"test_languages": ["asq"]}, "share asq"),
        ({"prompt": "Fingerspell it."}, "contains neither {letter} nor"),
        ({"prompt": "{letter} {lang}"}, "only {letter}, {language}, {code} and"),
        ({"letters": ["Q"], "test_languages": ["lls"]}, "the test split is empty"),
    ],
)
def test_contradicting_language_splits_are_refused(changes, words):
    with pytest.raises(UserError, match=words):
        split("test", **changes)


def test_missing_lexicon(tmp_path):
    with pytest.raises(MissingDataError, match=r"no index\.csv"):
        split("test", vfeat_dir=str(tmp_path))


def test_paths_cannot_leave_the_folder(tmp_path):
    source = find_lexicon(None)
    shutil.copy(source / "index.csv", tmp_path)
    with open(tmp_path / "index.csv", "a", newline="") as file:
        csv.writer(file).writerow(["../secret.pose", "en", "ase", 0, 1, "A", "A", 0])
    with pytest.raises(UserError, match="outside the lexicon"):
        read_index(tmp_path)


def test_a_left_handed_language_that_does_not_exist():
    with pytest.raises(UserError, match=r"left_handed: there is no sign language 'ISE'"):
        split("train", left_handed=["ISE"])


@pytest.mark.parametrize("prompt", ["{letter} {letter.foo}", "{letter[foo]}", "{letter:>9999999999999}"])
def test_prompts_that_cannot_be_filled_in(prompt):
    with pytest.raises(UserError, match=r"dataset\.prompt"):
        split("test", prompt=prompt)


def test_truncated_index_is_refused(tmp_path):
    (tmp_path / "index.csv").write_bytes(b"path,signed_language,words\na.pose,gsg,\xc4\n")
    with pytest.raises(UserError, match="UTF-8"):
        read_index(tmp_path)
    (tmp_path / "index.csv").write_text("path,signed_language,words\na.pose,gsg\n")
    with pytest.raises(UserError, match="line 2: expected 3 cells"):
        read_index(tmp_path)


@pytest.mark.parametrize("letter, name", [("ǰ", "J WITH CARON"), ("\x85", "U+0085"), ("Š", "S WITH CARON")])
def test_write_out_names_every_character(letter, name):
    assert write_out(letter) == name


def test_an_index_that_has_changed_is_read_again(tmp_path):
    index = tmp_path / "index.csv"
    for letters in ("A", "AB", "B"):
        index.write_text("path,signed_language,words\n" + "".join(f"x/{n}.pose,ase,{n}\n" for n in letters))
        for _ in range(2):
            rows = read_index(tmp_path)
            assert [row.letter for row in rows] == [*letters]
            rows.clear()  # a list of the caller
