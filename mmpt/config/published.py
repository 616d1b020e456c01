"""Keys of published YAMLs that mmpt does not support: refused when set, or ignored with a message.

Keys that change a model or its data are fields (PublishedDataset, PublishedModel); a task that sets one is
refused (refuse_unsupported). Keys of data sets that mmpt does not support are removed and reported (IGNORED).
"""

from dataclasses import dataclass, fields
from typing import Any

from mmpt.config.fields import opt
from mmpt.utils.errors import UserError

_SIGNCLIP_READERS = ("pre_compute_vfeat", "lip_feature_dir", "vfeat_dir_test", "vfeat_example_dir")
_VIDEOCLIP_READERS = (
    "annotation_path",
    "clip_per_video",
    "dup",
    "full_test_path",
    "jsfusion_path",
    "json_path",
    "lazy_vfeat_mask",
    "mfm_probability",
    "mlm_probability",
    "mm_prob",
    "n_train",
    "num_iso_layer",
    "num_video_per_batch",
    "primary_path",
    "related_path",
    "sampled_max_len",
    "sampled_min_len",
    "sampled_video_max_len",
    "sampled_video_min_len",
    "sliding_window",
    "sliding_window_size",
    "subsampling",
    "tfeat_dir",
    "train_csv_path",
    "trainval_annotation",
    "use_annotation_text",
    "val_csv_path",
)
_VIDEOCLIP_SAMPLING = ("task", "retri_epoch", "vectorpool_cls", "retriever_cls", "num_cands")
IGNORED = frozenset(
    [*_VIDEOCLIP_SAMPLING, *(f"dataset.{name}" for name in _SIGNCLIP_READERS + _VIDEOCLIP_READERS)]
)
"""Dotted keys of data sets that mmpt does not support."""


def remove_ignored(tree: dict[str, Any]) -> list[str]:
    """Remove the keys of IGNORED from a config tree; returns their names, in order."""
    sections = [("", tree), *((f"{key}.", item) for key, item in tree.items() if isinstance(item, dict))]
    found = [(part, prefix, key) for prefix, part in sections for key in part if f"{prefix}{key}" in IGNORED]
    for part, _, key in found:
        del part[key]
    return [f"{prefix}{key}" for _, prefix, key in found]


@dataclass(frozen=True, kw_only=True)
class PublishedDataset:
    """Unsupported options of SignCLIP's data sets, which would change examples or prompts."""

    augment_magic: bool = opt(False, "SignCLIP-BSL's own augmentation", supported=False)
    config_name: str | None = opt(None, "builder config of the corpora, such as holistic", supported=False)
    data_dir: str | None = opt(
        None, "folder of corpora in the layout of sign-language-datasets", supported=False
    )
    debug: bool = opt(False, "a few examples only", supported=False)
    include_lip_reading: bool = opt(False, "lip features in addition to the pose", supported=False)
    only_lip_reading: bool = opt(False, "lip features instead of the pose", supported=False)
    metadata_path: str | None = opt(None, "in published YAMLs for RWTH; has no effect")
    preprocess_gloss: bool = opt(False, "glosses as words in the prompts", supported=False)
    sp_universal_tagging: bool = opt(
        False, "prompts as '<en> <ase> text' instead of '<American Sign Language> text'", supported=False
    )
    task: str | None = opt(
        None,
        "variant of the prompts: identification, identification_oracle, conceptualization",
        supported=False,
    )
    test_datasets: list[list[str]] | None = opt(None, "corpora to test on", supported=False)
    test_in_vocab: bool = opt(False, "test only on texts seen in pretraining", supported=False)
    test_separately: bool = opt(False, "report each test corpus on its own", supported=False)
    train_datasets: list[list[str]] | None = opt(
        None, "corpora to train on: [name, version] or [name, version, split version]", supported=False
    )
    train_for_test: bool = opt(False, "evaluate on training data", supported=False)
    use_valid_for_pretraining: bool = opt(False, "train on unused validation data too", supported=False)
    valid_datasets: list[list[str]] | None = opt(None, "corpora to validate on", supported=False)


@dataclass(kw_only=True)
class PublishedModel:
    """Unsupported options of other video towers: I3D trained end to end (MMFusionWithI3D), graph networks."""

    checkpoint_path: str | None = opt(None, "weights of the I3D", supported=False)
    freeze_feature_extractor: bool = opt(False, "freeze the I3D", supported=False)
    i3d_batch_size: int | None = opt(None, "batch size of the I3D, in windows", supported=False)
    num_classes: int | None = opt(None, "classes of the I3D", supported=False)
    num_in_frames: int | None = opt(None, "frames per window of the I3D", supported=False)
    path_to_i3d_repo: str | None = opt(None, "folder with the code of the I3D", supported=False)
    use_agcn: bool = opt(False, "a graph network in front of the video tower", supported=False)
    use_conformer: bool = opt(False, "a conformer after the graph network", supported=False)
    use_cosign: bool = opt(False, "CoSign features in front of the video tower", supported=False)
    use_cosign_training: bool = opt(False, "train the CoSign features", supported=False)


def refuse_unsupported(config: Any) -> None:
    """Raises UserError if a Config sets an unsupported field."""
    for name in ("dataset", "model"):
        section = getattr(config, name)
        for field in fields(section):
            if not field.metadata.get("supported", True) and getattr(section, field.name):
                raise UserError(
                    f"{name}.{field.name}: a published option that mmpt does not support "
                    f"({field.metadata['doc']}): leave it out."
                )
