"""The text tower that reads SignWriting."""

import dataclasses

import numpy as np
import pytest
import torch
from signwriting.formats.fsw_to_swu import fsw2swu

from mmpt.config.schema import ModelConfig
from mmpt.embedding.predictor import Predictor
from mmpt.models import build_model, load_tokenizer
from mmpt.models.folder import save_model_folder
from mmpt.models.loading import load_model
from mmpt.models.packing import set_packed
from mmpt.models.prompts import text_inputs
from mmpt.processors.text import SignWritingTextProcessor, TextProcessor
from mmpt.signwriting.ids import END_ID, FIRST_ID, unpack
from mmpt.utils.errors import UserError

SIGN = "M508x507S1f720488x492"
MOVING = "M513x507S19220492x488S2a20c472x468"
PROMPTS = [
    "a letter of a hand",
    SIGN,
    f"a letter {SIGN}",
    MOVING,
    f"{MOVING} {SIGN}",
    f"{SIGN} {MOVING}",
    f"a letter of {SIGN} a hand",
]


@pytest.fixture(params=["SignWritingBert", "SignWritingHamNoSysBert"])
def model(make_model, request):
    model = make_model(text_encoder_cls=request.param, multimodal_projection=True)
    torch.manual_seed(1)
    symbols = model.text_encoder.symbols
    for part in (symbols.base, symbols.place, symbols.order):  # as after training
        torch.nn.init.normal_(part.weight, std=0.05)
    return model


@pytest.fixture(scope="module")
def processor(tiny_bert):
    return SignWritingTextProcessor(load_tokenizer(tiny_bert), 32)


def embed(model, processor, prompts, **options):
    return Predictor(model, progress=False, **options).embed_texts([processor(text) for text in prompts])


def test_a_vector_does_not_depend_on_its_batch_or_padding(model, processor):
    together = embed(model, processor, PROMPTS)
    alone = np.concatenate([embed(model, processor, [text]) for text in PROMPTS])
    backwards = embed(model, processor, PROMPTS[::-1])[::-1]
    set_packed(model, False)
    padded = embed(model, processor, PROMPTS)
    for other in (alone, backwards, padded):
        assert np.abs(together - other).max() < 1e-5
    assert len(np.unique(together.round(4), axis=0)) == len(PROMPTS)


def test_fsw_and_swu_and_a_moved_sign_have_one_vector(model, processor):
    moved = "M515x502S1f720495x487"
    vectors = embed(model, processor, [SIGN, fsw2swu(SIGN), moved, f"AS1f720{SIGN}", MOVING])
    assert np.abs(vectors[:4] - vectors[0]).max() < 1e-5 < np.abs(vectors[4] - vectors[0]).max()


def test_words_have_the_vector_of_the_bert(model, make_model, processor, tiny_bert):
    plain = make_model(multimodal_projection=True)
    plain.text_encoder.load_state_dict(model.text_encoder.bert.state_dict())
    plain.text_projection.load_state_dict(model.text_projection.state_dict())
    words = [PROMPTS[0], "hand"]
    expected = embed(plain, TextProcessor(load_tokenizer(tiny_bert), 32), words)
    assert np.abs(embed(model, processor, [*words, *PROMPTS])[:2] - expected).max() < 1e-6


@pytest.mark.parametrize(
    "other",
    [
        "M508x507S1f520488x492",  # base
        "M508x507S1f710488x492",  # fill
        "M508x507S1f721488x492",  # rotation
        "M508x507S1f728488x492",  # mirrored
        f"{SIGN} {SIGN}",
        "M513x507S19220492x488S2a20c472x478",  # place of one of two symbols
    ],
)
def test_each_part_of_a_symbol_matters(model, processor, other):
    first = MOVING if "S192" in other else SIGN
    vectors = embed(model, processor, [first, other])
    assert np.abs(vectors[0] - vectors[1]).max() > 1e-3


def test_an_unseen_base_is_described_by_its_other_parts(make_model, processor):
    """Before training, the row of each base is zero: the rest says what the symbol looks like."""
    symbols = make_model(text_encoder_cls="SignWritingBert").text_encoder.symbols
    assert not symbols.base.weight.any() and symbols.shape.weight.any()
    model = make_model(text_encoder_cls="SignWritingBert")
    fist, thumb_out, arrow = embed(
        model, processor, [f"M508x507S{base}20488x492" for base in ("203", "1f5", "22a")]
    )
    assert np.linalg.norm(fist - thumb_out) < np.linalg.norm(fist - arrow)


def test_a_frozen_bert_leaves_the_symbols_trained(make_model, processor):
    model = make_model(
        text_encoder_cls="SignWritingBert", freeze_text=True, multimodal_projection="l2_norm"
    ).train()
    trained = {name for name, p in model.text_encoder.named_parameters() if p.requires_grad}
    assert trained and all(name.startswith("symbols.") for name in trained)
    assert not model.text_encoder.bert.training
    caps, masks = (torch.from_numpy(a)[None] for a in processor(f"a letter {SIGN}"))
    before = model.encode_text(caps, masks)
    before.sum().backward()
    assert model.text_encoder.symbols.base.weight.grad.any()
    assert len(model.text_cache) == 1
    with torch.no_grad():
        model.text_encoder.symbols.base.weight += 0.1
    assert (model.encode_text(caps, masks) - before).abs().max() > 1e-3  # the cache holds the words only


def test_a_batch_without_signs_gives_the_symbols_a_gradient(make_model, processor):
    """Distributed training waits for the gradient of every parameter."""
    model = make_model(text_encoder_cls="SignWritingBert").train()
    caps, masks = (torch.from_numpy(a)[None] for a in processor("a letter"))
    model.encode_text(caps, masks).sum().backward()
    grads = [p.grad for p in model.text_encoder.symbols.parameters()]
    assert all(grad is not None and not grad.any() for grad in grads)


def test_a_model_folder_holds_the_tower(model, processor, dataset_cfg, tmp_path, tiny_bert):
    options = {"text_encoder_cls": type(model.text_encoder).__name__, "multimodal_projection": True}
    cfg = ModelConfig(num_hidden_video_layers=2, vfeat_dim=63, **options)
    save_model_folder(tmp_path / "model", model, cfg, dataset_cfg, load_tokenizer(tiny_bert))
    loaded = load_model(tmp_path / "model").model
    assert torch.equal(loaded.text_encoder.symbols.shapes, model.text_encoder.symbols.shapes)
    assert np.array_equal(embed(loaded, processor, PROMPTS), embed(model, processor, PROMPTS))


def test_a_sign_is_never_cut(tiny_bert):
    short = SignWritingTextProcessor(load_tokenizer(tiny_bert), 8)
    caps, _ = short(f"a letter of a hand {MOVING}")
    assert len(caps) == 8 and (caps > 1 << 31).sum() == 2  # the words are
    assert "cut" in short.what_is_lost([f"a letter of a hand {MOVING}"])[0]
    with pytest.raises(UserError, match="3 signs with 6 symbols"):
        short(" ".join([MOVING] * 3))


def test_a_prompt_has_at_most_64_signs(tiny_bert):
    """The number of a sign is a part of its id."""
    processor = SignWritingTextProcessor(load_tokenizer(tiny_bert), 128)
    caps, _ = processor(" ".join([SIGN] * 64))
    assert list(unpack(caps[caps > 1 << 31])["sign"]) == list(range(64)) and caps.max() < END_ID
    with pytest.raises(UserError, match="has 65 signs with 65 symbols: expected at most 64 signs"):
        processor(" ".join([SIGN] * 65))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"model_cls": "MMFusionShare"},
        {"model_cls": "MMFusionShare", "text_encoder_cls": "SignWritingBert"},
    ],
)
def test_a_tower_without_symbols_is_refused(dataset_cfg, options):
    """Symbols have ids beyond any word table: the first prompt would end in an IndexError."""
    dataset = dataclasses.replace(dataset_cfg, text_processor="SignWritingTextProcessor")
    with pytest.raises(
        UserError, match=r"reads SignWriting, but .* does not: include configs/signwriting.yaml"
    ):
        build_model(ModelConfig(num_hidden_video_layers=2, vfeat_dim=63, **options), dataset)


def test_a_prompt_of_signs_alone_is_the_sum_of_its_symbols(model, processor):
    """BERT's feature of [CLS] [SEP] is the same for all of them, and is left out."""
    caps, mask = (torch.from_numpy(part)[None] for part in processor(MOVING))
    ids = caps[caps >= FIRST_ID]
    with torch.no_grad():
        feature = model._pool_prompts(*text_inputs(caps, mask))
        expected = model.text_encoder.symbols(ids).sum(0)
    assert len(ids) == 2 and torch.allclose(feature[0], expected, atol=1e-6)
