"""Prompts in SignWriting, of the lexicon and of tables."""

import dataclasses
import re
from collections import Counter

import pytest
from signwriting.formats.fsw_to_swu import fsw2swu

from mmpt.config import DatasetConfig, load_config
from mmpt.processors.fingerspelling import FingerspellingMetaProcessor
from mmpt.processors.table import TableMetaProcessor
from mmpt.processors.table_file import read_table
from mmpt.signwriting.alphabets import signs_of_letter
from mmpt.tasks import Task
from mmpt.utils.errors import UserError

CONFIG = DatasetConfig(
    meta_processor="FingerspellingMetaProcessor",
    video_processor="PoseProcessor",
    max_video_len=256,
    max_len=96,
    train_languages=["eso", "gss", "psr", "swl"],
    extra_letters=True,
)
SIGN = "M510x508S1f720490x493"
MOVED = "M513x503S1f720493x488"


def corpus(split, **changes):
    return FingerspellingMetaProcessor.from_config(dataclasses.replace(CONFIG, **changes), split, ".pose")


def test_letters_without_a_sign_are_left_out_and_counted():
    train = corpus("train", prompt="{signwriting}")
    assert Counter(e.group for e in train.examples) == {"gss": 24, "psr": 26, "swl": 29}  # Å Ä Ö, and Greek
    assert "26 clips without SignWriting left out: eso:26" in train.describe()
    assert {e.text for e in train.examples if e.group == "psr"} >= {*signs_of_letter("psr", "A")}
    test = corpus("test", prompt="{signwriting}")
    assert len(test.examples) == 78 and {e.text[0] for e in test.examples} == {"M"}
    with pytest.raises(UserError, match=r"no letter of asq has a known sign.*ase, bzs"):
        corpus("valid", prompt="{signwriting}", valid_languages=["asq"])


def test_letters_without_a_sign_keep_the_letter_prompt():
    train = corpus("train", prompt_templates=["{text}", "{signwriting}", "{language}: {letter}"])
    counts = Counter((e.group, bool(e.other_texts[0])) for e in train.examples)
    assert counts == {("eso", False): 26, ("gss", True): 24, ("psr", True): 26, ("swl", True): 29}
    assert "26 clips have no SignWriting, only a letter prompt" in train.describe()
    one = next(e for e in train.examples if e.group == "swl" and e.text.endswith(" A."))
    assert one.other_texts == (signs_of_letter("swl", "A")[0], "Swedish Sign Language: A")


def test_without_signs_the_lexicon_is_as_before():
    plain = corpus("train").examples
    assert plain == corpus("train", prompt_templates=["{text}"]).examples
    assert len([e for e in plain if e.group == "eso"]) == 32 and not any(e.other_texts for e in plain)


def write(path, *rows, columns="id,path,text,split,signwriting"):
    path.write_text("\n".join([columns, *rows]) + "\n", encoding="utf-8")
    return read_table(path)


def table_corpus(table, *templates):
    files = [row.path for row in table.rows]
    return TableMetaProcessor(table, table.rows, files, templates)


def test_a_table_has_signs_in_a_column(tmp_path):
    table = write(
        tmp_path / "t.csv",
        f"1,1.pose,house,train,{SIGN}",
        f"2,2.pose,home,train,{fsw2swu(MOVED)}",
        "3,3.pose,tree,train,",
        f"4,4.pose,two,train,{SIGN} {SIGN}",
    )
    signs = table_corpus(table, "{signwriting}")
    assert [e.text for e in signs.examples] == [
        SIGN,
        SIGN,
        f"{SIGN} {SIGN}",
    ]  # one sign, however it is written
    assert "1 clip without SignWriting left out: 3" in signs.describe()
    both = table_corpus(table, "{text}", "a {signwriting}")
    assert [e.other_texts for e in both.examples] == [
        (f"a {SIGN}",),
        (f"a {SIGN}",),
        ("",),
        (f"a {SIGN} {SIGN}",),
    ]
    assert "1 clip has no SignWriting" in both.describe()


@pytest.mark.parametrize("bad, part", [(SIGN[:-1], "490x49"), (SIGN + " M5", "M5"), ("S1f7", "S1f7")])
def test_a_bad_sign_names_line_column_and_part(tmp_path, bad, part):
    table = write(tmp_path / "t.csv", f"1,1.pose,house,train,{SIGN}", f"2,2.pose,tree,train,{bad}")
    with pytest.raises(UserError, match=rf"t.csv, line 3, column 'signwriting': .*{re.escape(part)}"):
        table_corpus(table, "{text}", "{signwriting}")


def test_a_table_without_any_sign_is_refused(tmp_path):
    with pytest.raises(UserError, match="no clip of the split has a sign in column 'signwriting'"):
        table_corpus(write(tmp_path / "t.csv", "1,1.pose,house,train,"), "{signwriting}")


def task(tiny_yaml, *overrides):
    return Task(
        load_config(
            tiny_yaml,
            [
                "dataset.text_processor=SignWritingTextProcessor",
                "model.text_encoder_cls=SignWritingBert",
                "dataset.max_len=32",
                *overrides,
            ],
        )
    )


def test_training_draws_letter_or_sign_with_its_own_label(tiny_yaml):
    """svk has no signs: its clips are drawn with their letters only."""
    data = task(tiny_yaml, "dataset.prompt_templates=['{text}', '{signwriting}']").dataset("train")
    texts: dict[str, Counter[str]] = {}
    for epoch in range(1, 41):
        data.set_epoch(epoch)
        for index, example in enumerate(data.examples):
            sample = data[index]
            texts.setdefault(example.group, Counter())[sample["text"][0]] += 1
            drawn, own, sign = sample["label"]
            assert own == data.labels[index] and drawn == (sign if sample["text"][0] == "M" else own)
            assert (sign == own) == (not example.other_texts[0])
    assert set(texts["svk"]) == {"F"} and 0.35 < texts["psr"]["M"] / sum(texts["psr"].values()) < 0.65
    same = [label for e, label in zip(data.examples, [data[i]["label"][2] for i in range(len(data))])]
    for one, label in zip(data.examples, same):
        for other, other_label in zip(data.examples, same):
            if one.other_texts[0] and other.other_texts[0]:
                assert (label == other_label) == (one.other_texts == other.other_texts)


def test_weights_of_templates_hold_where_all_prompts_exist(tiny_yaml):
    options = ["dataset.prompt_templates=['{text}', '{signwriting}']", "dataset.prompt_weights=[0, 1]"]
    data = task(tiny_yaml, *options).dataset("train")
    assert {(e.group == "svk", data[i]["text"][0]) for i, e in enumerate(data.examples)} == {
        (True, "F"),
        (False, "M"),
    }
