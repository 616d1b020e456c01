"""SignCLIP: a trained model that embeds clips and prompts, and scores their similarity."""

import dataclasses
import logging
import os
import tempfile
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from mmpt.config.schema import Config, DatasetConfig, ModelConfig
from mmpt.embedding.clip_loader import ClipLoader, Windows
from mmpt.embedding.predictor import Predictor
from mmpt.evaluators.metrics.similarity import similarity
from mmpt.models import DualEncoder
from mmpt.models.fingerprint import model_fingerprint
from mmpt.models.folder import LoadedModel, save_model_folder
from mmpt.models.hub import find_model, push_folder
from mmpt.models.loading import load_model, model_hash
from mmpt.processors.aligner import ALIGNERS
from mmpt.processors.example import META_PROCESSORS, VIDEO_PROCESSORS, MetaProcessor, blank_warning
from mmpt.processors.text import TEXT_PROCESSORS
from mmpt.utils.arrays import non_finite, unit_rows, why_non_finite
from mmpt.utils.device import choose_device
from mmpt.utils.errors import UserError

if TYPE_CHECKING:
    from pose_format import Pose

    from mmpt.embedding.model_card import ModelCard

log = logging.getLogger(__name__)


class SignCLIP:
    """Embeds clips and prompts in length-sorted batches; results keep the input order.

    Examples:
        >>> model = mmpt.from_pretrained("runs/fslex/model")
        >>> model.score(["clip.pose"], ["Fingerspell the letter A.", "Fingerspell the letter B."])  # [2, 1]

    Args:
        loaded: model, configs and tokenizer (mmpt.models.loading.load_model).
        device: "auto" (or None), "cpu", "cuda", "cuda:1", ...
        batch_size: clips or prompts per batch.
    """

    def __init__(self, loaded: LoadedModel, device: str | None = None, batch_size: int = 64):
        self.path = loaded.path
        self.model_cfg: ModelConfig = loaded.model_cfg
        self.dataset_cfg: DatasetConfig = loaded.dataset_cfg
        self.tokenizer = loaded.tokenizer
        self.model: DualEncoder = loaded.model.eval()
        self.device = choose_device(device)
        self._predictor = Predictor(self.model, self.device, batch_size, progress=False)
        dataset = self.dataset_cfg
        text_class = TEXT_PROCESSORS.get(dataset.text_processor, "dataset.text_processor")
        self.text_processor = text_class(self.tokenizer, dataset.max_len)
        self.aligner = ALIGNERS.get(dataset.aligner, "dataset.aligner")(
            dataset.max_video_len, dataset.long_video
        )

    @classmethod
    def from_pretrained(
        cls,
        path: str | os.PathLike[str],
        device: str | None = None,
        batch_size: int = 64,
        revision: str | None = None,
    ) -> "SignCLIP":
        """Load a model folder, a checkpoint with the config.yaml of training beside it, or a hub model.

        path: if it does not exist and has the form "org/name", that model of the Hugging Face hub is
        downloaded, or taken from the cache. revision: branch, tag or commit of it. A model folder is loaded
        offline, and no code in it is run. Raises MissingDataError if it does not exist, UserError if it is
        damaged.
        """
        if not isinstance(path, str | os.PathLike):
            raise UserError(f"expected the path of a model folder, got {path!r} ({type(path).__name__}).")
        return cls(load_model(find_model(path, revision)), device, batch_size)

    @classmethod
    def from_checkpoint(
        cls,
        checkpoint: str | os.PathLike[str],
        config: Config,
        trust: bool = False,
        device: str | None = None,
        batch_size: int = 64,
    ) -> "SignCLIP":
        """Load a checkpoint, of mmpt or published, with the config it was trained with.

        Reads the sizes and the vocabulary of the text model `dataset.bert_name`, not its weights. trust: see
        load_state_dict_file. Raises UserError if checkpoint and config do not fit.
        """
        return cls(load_model(checkpoint, config, trust), device, batch_size)

    def save_pretrained(
        self,
        folder: str | os.PathLike[str],
        force: bool = False,
        licence: str | None = None,
        intended_use: str | None = None,
    ) -> None:
        """Write a model folder for from_pretrained, with a model card. force: replace another model there.

        licence ("cc-by-4.0") and intended_use go into the card. Raises UserError (see save_model_folder).
        """
        card = self.card
        if licence is not None or intended_use is not None:
            licence, intended_use = licence or card.licence, intended_use or card.intended_use
            card = dataclasses.replace(card, licence=licence, intended_use=intended_use, text=None)
        text = card.text or card.render(Path(folder).name)
        save_model_folder(folder, self.model, self.model_cfg, self.dataset_cfg, self.tokenizer, text, force)

    def push_to_hub(self, repo_id: str, private: bool = False, token: str | None = None) -> str:
        """Upload the model as the hub model `repo_id` ("org/name"); returns its address. See push_folder."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / Path(repo_id).name  # the card's title is the name of the folder
            self.save_pretrained(path)
            return push_folder(path, repo_id, private, token)

    @cached_property
    def fingerprint(self) -> str:
        """Identifies the model: weights, settings and tokenizer (see model_fingerprint)."""
        return model_fingerprint(self._loaded)

    @property
    def card(self) -> "ModelCard":
        """The model card: of the model folder, or made of the files beside the checkpoint."""
        from mmpt.embedding.card_facts import collect_card  # imports huggingface_hub

        return collect_card(self._loaded, model_fingerprint(self._loaded))

    @property
    def _loaded(self) -> LoadedModel:
        return LoadedModel(self.model, self.model_cfg, self.dataset_cfg, self.tokenizer, self.path)

    def provenance(self) -> dict[str, str]:
        """Fingerprint of the model; name and hash of its folder or checkpoint."""
        assert self.path is not None, "this model was not loaded from a file"
        return {
            "fingerprint": self.fingerprint,
            "folder": self.path.name,
            "sha256": model_hash(self.path),
        }

    @property
    def dim(self) -> int:
        """Embedding dimension, D."""
        return self.model.hidden_size

    def embed_text(self, texts: Sequence[str], normalize: bool = False) -> NDArray[np.float32]:
        """Prompts -> float32 [N, D]. Warns of prompts that are cut, alike or unknown to the tokenizer."""
        check_list(texts, "texts")
        for text in texts:
            if not isinstance(text, str):
                raise UserError(f"texts must be strings, got {text!r} ({type(text).__name__}).")
        if not len(texts):
            return self._none()
        for lost in self.text_processor.what_is_lost(texts):
            log.warning("%s", lost)
        vectors = self._predictor.embed_texts([self.text_processor(text) for text in texts])
        for row in non_finite(vectors):
            raise UserError(
                f"the embedding of the prompt {texts[row]!r} is NaN or infinite: check the model's weights "
                "and --autocast."
            )
        return _finish(vectors, normalize)

    def embed_video_features(
        self, arrays: Sequence[ArrayLike], normalize: bool = False
    ) -> NDArray[np.float32]:
        """Features [T, vfeat_dim] of clips, arrays or torch tensors -> float32 [N, D].

        Clips over `dataset.max_video_len` frames are handled as `dataset.long_video` says. Raises UserError
        for features that are empty, not finite or of another dimension.
        """
        check_list(arrays, "arrays")
        return _finish(self._embed(arrays, [f"number {i}" for i in range(len(arrays))]), normalize)

    def embed_prepared(self, clips: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Features of `clip_loader` -> float32 [N, D], unchecked: an overflow gives a row of NaN."""
        return self._predictor.embed_videos(clips) if len(clips) else self._none()

    def is_blank(self, name: str, frames: NDArray[np.float32]) -> bool:
        """Whether features [T, vfeat_dim] show no hand in the frames that the model reads."""
        return bool(self.video_processor.blank(self.aligner.cut(name, frames)))

    def _embed(self, arrays: Sequence[ArrayLike], names: Sequence[str]) -> NDArray[np.float32]:
        """Embed clips; warn of those that are cut or blank. Raises UserError, which names the clip."""
        whole = [self._frames(name, array) for name, array in zip(names, arrays)]
        clips = [self._clip(name, frames) for name, frames in zip(names, whole)]
        cut = sum(len(clip) < len(frames) for clip, frames in zip(clips, whole))
        if cut:
            log.warning(
                "%d of %d clips are longer than max_video_len=%d (long_video: %s)",
                *(cut, len(clips), self.aligner.max_video_len, self.aligner.long_video),
            )
        if blank := [name for name, clip in zip(names, clips) if self.is_blank(name, clip)]:
            log.warning("%s", blank_warning(blank, len(clips), self.video_processor.blank_means))
        vectors = self.embed_prepared(clips)
        for row in non_finite(vectors):
            raise UserError(why_non_finite(f"clip {names[row]}", clips[row]))
        return vectors

    def embed_pose(
        self, poses: "Sequence[Pose | str | os.PathLike[str]]", normalize: bool = False, mirror: bool = False
    ) -> NDArray[np.float32]:
        """Poses (pose-format objects or .pose files) -> float32 [N, D], prepared without augmentation.

        mirror: they were signed with the left hand. Warns of clips without a hand that the model reads.
        Raises UserError for poses that lack what the model reads (see dataset.pose_layout).
        """
        check_list(poses, "poses")
        clips = [self._pose(i, pose, mirror) for i, pose in enumerate(poses)]
        files = [
            str(pose) if isinstance(pose, str | os.PathLike) else f"number {i}"
            for i, pose in enumerate(poses)
        ]
        return _finish(self._embed(clips, files), normalize)

    def score(
        self,
        poses: "Sequence[Pose | str | os.PathLike[str]]",
        texts: Sequence[str],
        measure: str = "cosine",
        mirror: bool = False,
    ) -> NDArray[np.float32]:
        """Similarity of each prompt with each pose, float32 [n_texts, n_poses]. measure: cosine or dot."""
        return similarity(self.embed_text(texts), self.embed_pose(poses, mirror=mirror), measure)

    @cached_property
    def video_processor(self) -> Any:
        """Turns the file of a clip into features, without augmentation."""
        processor = VIDEO_PROCESSORS.get(self.dataset_cfg.video_processor, "dataset.video_processor")
        return processor.from_config(self.dataset_cfg, training=False, vfeat_dim=self.model_cfg.vfeat_dim)

    @property
    def table_templates(self) -> list[str]:
        """Templates of its training prompts, with the names of a table's columns."""
        name = self.dataset_cfg.meta_processor
        corpus = META_PROCESSORS.get(name) if name in META_PROCESSORS else MetaProcessor
        return corpus.table_templates(self.dataset_cfg)

    def clip_loader(self, windows: Windows | None = None) -> ClipLoader:
        """A picklable loader that prepares clips for this model."""
        return ClipLoader(self.video_processor, self.aligner, self.model_cfg.vfeat_dim, windows)

    def _pose(self, number: int, pose: Any, mirror: bool) -> NDArray[np.float32]:
        processor = self.video_processor
        if processor.suffix != ".pose":
            raise UserError(
                f"this model was trained on video features ({self.dataset_cfg.video_processor}), not on "
                "poses: use embed_video_features."
            )
        if isinstance(pose, str | os.PathLike):
            return processor(pose, mirror=mirror)
        from mmpt.pose.reader import from_pose

        if not hasattr(pose, "body") or not hasattr(pose, "header"):
            raise UserError(
                f"pose number {number} must be a pose_format.Pose or the path of one, got "
                f"{type(pose).__name__}."
            )
        try:
            return processor.features(
                processor.prepare.clip(from_pose(pose, processor.prepare.person), mirror)
            )
        except UserError as error:  # it does not name the pose
            raise UserError(f"pose number {number}: {error}") from error

    def _frames(self, name: str, array: ArrayLike) -> NDArray:
        """Check the features of a clip: [T, vfeat_dim]."""
        if isinstance(array, torch.Tensor):  # NumPy cannot read every device and dtype
            array = array.detach().to("cpu", torch.float32)
        try:
            frames = np.asarray(array)
        except (TypeError, ValueError) as error:
            raise UserError(f"clip {name} is not an array: {error}.") from error
        width = self.model_cfg.vfeat_dim
        if frames.ndim != 2 or not len(frames) or frames.shape[1] != width or frames.dtype.kind not in "fiu":
            raise UserError(
                f"clip {name} has dtype {frames.dtype} and shape {list(frames.shape)}; expected numbers [T, "
                f"{width}] with at least one frame."
            )
        return frames

    def _clip(self, name: str, frames: NDArray) -> NDArray[np.float32]:
        frames = self.aligner.cut(name, frames)
        if not np.isfinite(frames).all():
            raise UserError(f"clip {name} contains NaN or infinite values.")
        return frames

    def _none(self) -> NDArray[np.float32]:
        return np.zeros((0, self.dim), np.float32)


def check_list(values: Any, what: str) -> None:
    """Raises UserError unless `values` is a list (and not a single string or path)."""
    if isinstance(values, str | bytes | os.PathLike) or not hasattr(values, "__len__"):
        raise UserError(f"{what} must be a list, got {type(values).__name__}.")


def _finish(embeddings: NDArray[np.float32], normalize: bool) -> NDArray[np.float32]:
    return unit_rows(embeddings) if normalize else embeddings
