"""An ensemble gives the concatenated embeddings of its models, trained as if each were alone."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mmpt.config.compare import without_defaults
from mmpt.config.schema import DatasetConfig, LossConfig, ModelConfig
from mmpt.evaluators.metrics.similarity import similarity
from mmpt.losses import build_loss
from mmpt.models import MMFusionEnsemble, load_tokenizer
from mmpt.models.finetuning import freeze
from mmpt.models.folder import save_model_folder
from mmpt.models.loading import load_model
from mmpt.utils.errors import UserError

IO = dict[str, torch.Tensor]
close = torch.testing.assert_close
WIDTH = 32


def single(model: Any, number: int, make_model: Any, **options: Any) -> Any:
    """An MMFusionSeparate with the weights of one model of the ensemble."""
    alone = make_model(**options)
    prefix = f"members.{number}."
    state = {k.removeprefix(prefix): v for k, v in model.state_dict().items() if k.startswith(prefix)}
    text = {k: v for k, v in model.state_dict().items() if k.startswith("text_encoder.")}
    alone.load_state_dict({**state, **text})
    return alone


def embed(model: Any, io: IO) -> tuple[torch.Tensor, torch.Tensor]:
    with torch.no_grad():
        return model.encode_video(io["vfeats"], io["vmasks"]), model.encode_text(io["caps"], io["cmasks"])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"multimodal_projection": True, "video_hidden_size": 64, "pooling": "attention"},
        {"multimodal_projection": "l2_norm", "freeze_text": True, "conv1d": 1},
    ],
)
def test_ensemble_embeddings_are_concatenated(make_model: Any, io: IO, options: dict[str, Any]) -> None:
    model = make_model(ensemble_size=3, **options)
    assert isinstance(model, MMFusionEnsemble) and model.hidden_size == 3 * WIDTH
    whole = embed(model, io)
    alone = [embed(single(model, i, make_model, **options), io) for i in range(3)]
    for side in (0, 1):
        close(whole[side], torch.cat([parts[side] for parts in alone], -1), rtol=0, atol=1e-6)
    assert (alone[0][0] - alone[1][0]).abs().max() > 1e-3, "the models of an ensemble must differ"


def test_ensemble_cosine_is_the_mean_of_the_models_cosines(make_model: Any, io: IO) -> None:
    options = {"multimodal_projection": "l2_norm"}
    model = make_model(ensemble_size=3, **options)
    video, text = (side.numpy() for side in embed(model, io))
    each = []
    for i in range(3):
        clips, prompts = (F.normalize(side) for side in embed(single(model, i, make_model, **options), io))
        each.append((prompts @ clips.T).numpy())
    np.testing.assert_allclose(similarity(text, video, "cosine"), np.mean(each, 0), atol=1e-6)


@pytest.mark.parametrize("label_aware", [False, True])
@pytest.mark.parametrize("loss_cls", ["MMContraLoss", "MMSigmoidLoss"])
def test_ensemble_trains_each_model_as_if_alone(
    make_model: Any, io: IO, loss_cls: str, label_aware: bool
) -> None:
    """The loss is the mean of the models' losses; gradients are divided by the ensemble size."""
    options = {"multimodal_projection": True, "video_hidden_size": 64, "freeze_text": True}
    config = LossConfig(loss_cls=loss_cls, similarity="cosine", temperature=0.1, learnable_temperature=True)
    config.label_aware = label_aware
    labels = torch.arange(len(io["vfeats"])) // 2
    model = make_model(ensemble_size=2, **options)
    together = build_loss(config, ensemble_size=2)
    out = model(io["vfeats"], io["vmasks"], io["caps"], io["cmasks"])
    value = together(out["pooled_video"], out["pooled_text"], labels)
    value.backward()
    values = []
    for i in range(2):
        alone, loss = single(model, i, make_model, **options), build_loss(config)
        out = alone(io["vfeats"], io["vmasks"], io["caps"], io["cmasks"])
        values.append(loss(out["pooled_video"], out["pooled_text"], labels))
        values[-1].backward()
        got = dict(model.members[i].named_parameters())
        wanted = {n: p.grad for n, p in alone.named_parameters() if p.grad is not None}
        assert len(wanted) > 10
        for name, gradient in wanted.items():
            close(got[name].grad, gradient / 2, rtol=1e-4, atol=1e-6)
    close(value, torch.stack(values).mean())
    learnt = [p.grad for p in together.parameters()]
    assert learnt and all(g is not None and g.abs().sum() > 0 for g in learnt)


def test_ensemble_embedding_does_not_depend_on_its_batch(make_model: Any, io: IO) -> None:
    model = make_model(ensemble_size=2)
    video, text = embed(model, io)
    for i in range(len(video)):
        one = {name: values[i : i + 1] for name, values in io.items() if name in ("vfeats", "vmasks")}
        with torch.no_grad():
            close(model.encode_video(**one)[0], video[i], rtol=0, atol=1e-5)
            close(
                model.encode_text(io["caps"][i : i + 1], io["cmasks"][i : i + 1])[0],
                text[i],
                atol=1e-5,
                rtol=0,
            )


def test_ensemble_freezes_the_same_layers_in_every_model(make_model: Any) -> None:
    model = make_model(ensemble_size=2, multimodal_projection=True, train_last_layers=1)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    for i in range(2):
        assert f"members.{i}.video_projection.linear.weight" in trained
        own = {name for name in trained if name.startswith(f"members.{i}.video_encoder")}
        assert own and all(".layer.1." in name for name in own)
    model = make_model(ensemble_size=2, multimodal_projection=True, train_projections_only=True)
    assert {name.split(".")[2] for name, p in model.named_parameters() if p.requires_grad} == {
        "video_projection",
        "text_projection",
    }
    with pytest.raises(UserError, match="no projection to train"):
        freeze(make_model(ensemble_size=2), None, True)


def test_ensemble_of_shared_towers_is_refused(make_model: Any) -> None:
    with pytest.raises(UserError, match=r"model\.ensemble_size belongs to MMFusionSeparate"):
        make_model(model_cls="MMFusionShare", ensemble_size=2)


def test_ensemble_parameter_names_are_those_of_older_checkpoints(make_model: Any) -> None:
    names = {name.split(".")[0] for name in make_model(ensemble_size=2).state_dict()}
    assert names == {"members", "text_encoder"}


def test_model_folder_of_an_ensemble_written_before_the_rename(
    tmp_path: Path, make_model: Any, dataset_cfg: DatasetConfig, tiny_bert: str, io: IO
) -> None:
    """Folders still say `members`: older ones load, and older readers load new ones."""
    model = make_model(ensemble_size=2)
    config = ModelConfig(num_hidden_video_layers=2, vfeat_dim=63, ensemble_size=2)
    save_model_folder(tmp_path / "model", model, config, dataset_cfg, load_tokenizer(tiny_bert))
    saved = json.loads((tmp_path / "model" / "config.json").read_text())["model"]
    assert saved["members"] == 2 and "ensemble_size" not in saved
    again = load_model(tmp_path / "model")
    assert again.model_cfg.ensemble_size == 2
    for before, after in zip(embed(model, io), embed(again.model, io)):
        assert torch.equal(before, after)


def test_digest_of_ensemble_settings_keeps_the_old_key() -> None:
    """Finished runs and evaluations of ensembles must not look like other settings."""
    assert without_defaults(ModelConfig(ensemble_size=2)) == {"members": 2}
