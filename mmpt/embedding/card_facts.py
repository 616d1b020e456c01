"""Collect the facts of a model card from the files beside a checkpoint."""

import logging
from pathlib import Path
from typing import Any

from mmpt import __version__
from mmpt.config.compare import trained_with
from mmpt.config.fairseq_options import option
from mmpt.config.run_folder import DATA, TOKENIZER, VERSION
from mmpt.config.schema import Config
from mmpt.embedding.model_card import ModelCard
from mmpt.evaluators.reports.results import read_results
from mmpt.evaluators.reports.tables import RETRIEVAL, directions
from mmpt.models.folder import CARD_FILE, LoadedModel
from mmpt.pose.components import CANONICAL
from mmpt.processors.example import VIDEO_PROCESSORS
from mmpt.search.sources import same_model
from mmpt.utils.errors import UserError
from mmpt.utils.files import read_json
from mmpt.utils.stand_in import stand_in_note

log = logging.getLogger(__name__)

_LANGUAGES = ("train_languages", "valid_languages", "test_languages")


def collect_card(loaded: LoadedModel, fingerprint: str) -> ModelCard:
    """The card of a model: that of its folder, or the facts in the files beside its checkpoint.

    Evaluations of other weights or settings are left out, with a warning.
    """
    path = loaded.path
    if path is not None and (path / CARD_FILE).is_file():
        card = ModelCard.read(path / CARD_FILE)
        if card.model.get("fingerprint") not in (None, fingerprint):
            log.warning("%s is of other weights or settings: its evaluations are left out", path / CARD_FILE)
            card.evaluations, card.text = [], None
            card.model = _model(loaded, fingerprint)
        return card
    card = ModelCard(model=_model(loaded, fingerprint), limits=_limits(loaded))
    if path is not None and path.is_file():
        config = trained_with(path)
        card.training = _training(path, config)
        card.evaluations = _evaluations(path, config, fingerprint)
    return card


def _model(loaded: LoadedModel, fingerprint: str) -> dict[str, Any]:
    model_cfg, sizes = loaded.model_cfg, loaded.model.text_settings
    return {
        "fingerprint": fingerprint,
        "mmpt_version": __version__,
        "class": model_cfg.model_cls,
        "ensemble_size": model_cfg.ensemble_size,
        "embedding_dim": loaded.model.hidden_size,
        "parameters": sum(parameter.numel() for parameter in loaded.model.parameters()),
        "text_layers": sizes.num_hidden_layers,
        "video_layers": model_cfg.num_hidden_video_layers,
        "feature_dim": model_cfg.vfeat_dim,
    }


def _training(checkpoint: Path, config: Config | None) -> dict[str, Any]:
    """Facts about the training, from config.yaml and data.json beside the checkpoint; no paths."""
    if config is None:
        return {}
    dataset = config.dataset
    record = _json(checkpoint.parent / DATA)
    version = record.pop(VERSION, None)
    record.pop(TOKENIZER, None)
    facts: dict[str, Any] = {"corpus": dataset.meta_processor.removesuffix("MetaProcessor")}
    if dataset.table_path:
        facts["corpus"] = Path(dataset.table_path).name
        facts["splits"], facts["prompt"] = "those of the table", dataset.prompt_templates
    elif dataset.meta_processor == "FingerspellingMetaProcessor":
        facts["splits"] = {key: getattr(dataset, key) for key in _LANGUAGES}
        facts["letters"], facts["prompt"] = dataset.letters, dataset.prompt
    facts |= {
        "data": record,
        "seed": option(config.fairseq, "seed", 1),
        "text_model": Path(dataset.bert_name).name,
        "mmpt_version": version,
        "loss": config.loss.loss_cls,
    }
    if note := stand_in_note(dataset.vfeat_dir) if dataset.vfeat_dir else None:
        facts["stand_in_data"] = note
    return facts


def _evaluations(checkpoint: Path, config: Config | None, fingerprint: str) -> list[dict[str, Any]]:
    """The evaluation beside a checkpoint, if there is one of this model."""
    folder = checkpoint.parent / "eval"
    if config is not None and config.eval.save_path:
        folder = Path(config.eval.save_path)
    if not (folder / "results.json").is_file():
        return []
    try:
        results = read_results(folder)
    except UserError as error:
        log.warning("%s: the model card has no evaluation", error)
        return []
    if not isinstance(results.get("model"), str) or not same_model(results["model"], fingerprint):
        log.warning("%s is of another model: it is not part of the model card", folder / "results.json")
        return []
    evaluated = results.get("evaluated") or {}
    return [
        {
            "split": results.get("split"),
            "protocol": f"{results.get('protocol', RETRIEVAL)}, {results['similarity']} similarity",
            "clips": results["n_videos"],
            "prompts": results["n_prompts"],
            "metrics": {side: results[side] for side in directions(results)},
            "chance": results["chance"],
            "intervals": results.get("intervals") or {},
            "interval_level": (results.get("bootstrap") or {}).get("level"),
            "seed": results.get("seed"),
            "data": evaluated.get("files") or {},
            "mmpt_version": results.get("mmpt_version"),
            "warnings": results.get("warnings") or [],
        }
    ]


def _limits(loaded: LoadedModel) -> list[str]:
    """What follows from the model's settings."""
    dataset = loaded.dataset_cfg
    poses = VIDEO_PROCESSORS.get(dataset.video_processor, "dataset.video_processor").suffix == ".pose"
    window, frames = (dataset.clip_window, dataset.clip_frames) if poses else (None, None)
    limits, what = [], "Clips"
    if window is not None or frames is not None:
        start, end = window or (0, 1)
        what = "Parts" if frames is None else "Samples"
        read = "Reads every frame" if frames is None else f"Reads {frames} evenly spaced frames"
        limits.append(f"{read} from {start:.0%} to {end:.0%} of a clip.")
    fate = {
        "truncate": "cut",
        "uniform": "subsampled",
        "error": "refused",
        "windows": f"embedded as overlapping windows of {dataset.max_video_len} frames, which are pooled",
    }[dataset.long_video]
    if frames is None or frames > dataset.max_video_len:
        limits.append(f"{what} over {dataset.max_video_len} frames are {fate}.")
    limits.append(f"Prompts over {dataset.max_len} token ids are cut.")
    if poses:
        parts = dataset.pose_components
        named = ", ".join(parts) if isinstance(parts, list) else parts or "the full body"
        if dataset.pose_layout == CANONICAL:
            limits.append(f"Reads, in 2-D, the landmarks that all pose estimators have: {named}.")
        else:
            limits.append(f"Reads landmarks of MediaPipe Holistic only: {named}.")
    else:
        limits.append(f"Reads features of a video network only ({loaded.model_cfg.vfeat_dim} per frame).")
    limits.append(
        "The numbers hold for the split that was evaluated; other signers and languages may differ."
    )
    return limits


def _json(path: Path) -> dict[str, Any]:
    try:
        content = read_json(path)
    except (OSError, ValueError):
        return {}
    return dict(content) if isinstance(content, dict) else {}
