"""A trained model as users hold it: clips and prompts in, vectors and similarities out."""

import logging
import os
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from mmpt.config.schema import Config, DatasetConfig, ModelConfig
from mmpt.embedding.predictor import Predictor
from mmpt.evaluators.metrics.similarity import similarity
from mmpt.models import MODELS, DualEncoder, load_bert, load_tokenizer
from mmpt.models.folder import ModelFolder, load_model_folder, save_model_folder
from mmpt.processors.registry import ALIGNERS, TEXT_PROCESSORS, VIDEO_PROCESSORS
from mmpt.utils.checkpoint import load_into, load_state_dict_file
from mmpt.utils.device import choose_device
from mmpt.utils.errors import UserError

if TYPE_CHECKING:
    from pose_format import Pose

Embeddings = NDArray[np.float32]

log = logging.getLogger(__name__)


class SignCLIP:
    """Embeds clips and prompts, each side alone, in batches of like lengths; results in the order given.

    >>> model = mmpt.from_pretrained("runs/fslex/model")
    >>> model.score(["clip.pose"], ["Fingerspell the letter A.", "Fingerspell the letter B."])  # [2, 1]

    Args:
        parts: model, configs and tokenizer, as load_model_folder gives them.
        device: "auto" (or None), "cpu", "cuda", "cuda:1", ...
        batch_size: clips or prompts at a time.
    """

    def __init__(self, parts: ModelFolder, device: str | None = None, batch_size: int = 64):
        self.model_cfg: ModelConfig = parts.model_cfg
        self.dataset_cfg: DatasetConfig = parts.dataset_cfg
        self.tokenizer = parts.tokenizer
        self.model: DualEncoder = parts.model.eval()
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
        cls, folder: str | os.PathLike[str], device: str | None = None, batch_size: int = 64
    ) -> "SignCLIP":
        """Load a model folder (save_pretrained, mmpt.cli.convert). No network, no code from the folder.

        Raises MissingDataError if there is none, UserError if it is damaged.
        """
        if not isinstance(folder, str | os.PathLike):
            raise UserError(f"expected the path of a model folder, got {folder!r} ({type(folder).__name__}).")
        return cls(load_model_folder(folder), device, batch_size)

    @classmethod
    def from_checkpoint(
        cls,
        checkpoint: str | os.PathLike[str],
        config: Config,
        trust: bool = False,
        device: str | None = None,
        batch_size: int = 64,
    ) -> "SignCLIP":
        """Load a training checkpoint, ours or the ancestors', with the config it was trained with.

        The weights of the text model are not needed, its sizes and vocabulary are (`dataset.bert_name`).
        trust: see load_state_dict_file. Raises UserError if the two do not fit together.
        """
        bert = load_bert(config.dataset.bert_name, weights=False)
        model = MODELS.get(config.model.model_cls, "model.model_cls").from_config(
            config.model, config.dataset, bert
        )
        load_into(model, load_state_dict_file(checkpoint, trust), where=str(checkpoint))
        tokenizer = load_tokenizer(config.dataset.bert_name)
        return cls(ModelFolder(model, config.model, config.dataset, tokenizer), device, batch_size)

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write a model folder that from_pretrained reads anywhere. Raises UserError (see
        save_model_folder)."""
        save_model_folder(folder, self.model, self.model_cfg, self.dataset_cfg, self.tokenizer)

    @property
    def dim(self) -> int:
        """Numbers in an embedding, D."""
        return self.model.hidden_size

    def embed_text(self, texts: Sequence[str], normalize: bool = False) -> Embeddings:
        """Prompts -> float32 [N, D]. A prompt over `dataset.max_len` token ids loses its last ones."""
        check_list(texts, "texts")
        for text in texts:
            if not isinstance(text, str):
                raise UserError(f"texts must be strings, got {text!r} ({type(text).__name__}).")
        if not len(texts):
            return self._none()
        return _finish(self._predictor.embed_texts([self.text_processor(text) for text in texts]), normalize)

    def embed_video_features(self, arrays: Sequence[ArrayLike], normalize: bool = False) -> Embeddings:
        """Clips as features [T, vfeat_dim], ready for the tower -> float32 [N, D]; arrays or torch tensors.

        A clip over `dataset.max_video_len` is treated as `dataset.long_video` says. Raises UserError for
        features of another width, empty or not finite.
        """
        check_list(arrays, "arrays")
        if not len(arrays):
            return self._none()
        whole = [self._frames(f"number {i}", array) for i, array in enumerate(arrays)]
        clips = [self._clip(f"number {i}", frames) for i, frames in enumerate(whole)]
        cut = sum(len(clip) < len(frames) for clip, frames in zip(clips, whole))
        if cut:
            log.warning(
                "%d of %d clips are longer than max_video_len=%d (long_video: %s)",
                *(cut, len(clips), self.aligner.max_video_len, self.aligner.long_video),
            )
        return _finish(self._predictor.embed_videos(clips), normalize)

    def embed_pose(
        self, poses: "Sequence[Pose | str | os.PathLike[str]]", normalize: bool = False, mirror: bool = False
    ) -> Embeddings:
        """Poses (pose-format objects, or files of them) -> float32 [N, D], prepared as in training, not
        augmented.

        mirror: they were signed with the left hand. Raises UserError for what is no MediaPipe Holistic pose.
        """
        check_list(poses, "poses")
        clips = [self._pose(i, pose, mirror) for i, pose in enumerate(poses)]
        return self.embed_video_features(clips, normalize)

    def score(
        self,
        poses: "Sequence[Pose | str | os.PathLike[str]]",
        texts: Sequence[str],
        measure: str = "cosine",
        mirror: bool = False,
    ) -> Embeddings:
        """Similarity of each prompt with each pose, float32 [n_texts, n_poses]; measure: cosine or dot."""
        return similarity(self.embed_text(texts), self.embed_pose(poses, mirror=mirror), measure)

    @cached_property
    def video_processor(self) -> Any:
        """File of a clip -> features, not augmented."""
        processor = VIDEO_PROCESSORS.get(self.dataset_cfg.video_processor, "dataset.video_processor")
        return processor.from_config(self.dataset_cfg, training=False, vfeat_dim=self.model_cfg.vfeat_dim)

    def _pose(self, number: int, pose: Any, mirror: bool) -> NDArray[np.float32]:
        processor = self.video_processor
        if not hasattr(processor, "prepare_clip"):
            raise UserError(
                f"this model was trained on video features ({self.dataset_cfg.video_processor}), not on "
                "poses: "
                "use embed_video_features."
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
            return processor.features(processor.prepare_clip(from_pose(pose), mirror))
        except UserError as error:  # which names no file here
            raise UserError(f"pose number {number}: {error}") from error

    def _frames(self, name: str, array: ArrayLike) -> NDArray:
        """What was given for a clip, as numbers [T, vfeat_dim]."""
        if isinstance(array, torch.Tensor):  # of any device and precision, NumPy takes few of them
            array = array.detach().to("cpu", torch.float32)
        try:
            frames = np.asarray(array)
        except (TypeError, ValueError) as error:
            raise UserError(f"clip {name} is no array: {error}.") from error
        width = self.model_cfg.vfeat_dim
        if frames.ndim != 2 or not len(frames) or frames.shape[1] != width or frames.dtype.kind not in "fiu":
            raise UserError(
                f"clip {name} is an array of {frames.dtype} of shape {list(frames.shape)}; numbers [T, "
                f"{width}] with "
                "at least one frame were expected."
            )
        return frames

    def _clip(self, name: str, frames: NDArray) -> NDArray[np.float32]:
        """The frames that the tower reads."""
        frames = self.aligner.cut(name, frames)
        if not np.isfinite(frames).all():
            raise UserError(f"clip {name} holds NaN or infinite values.")
        return frames

    def _none(self) -> Embeddings:
        return np.zeros((0, self.dim), np.float32)


def check_list(values: Any, what: str) -> None:
    """Raise UserError unless `values` is a sequence of things, not one string or path."""
    if isinstance(values, str | bytes | os.PathLike) or not hasattr(values, "__len__"):
        raise UserError(f"{what} must be a list, got {type(values).__name__}.")


def _finish(embeddings: Embeddings, normalize: bool) -> Embeddings:
    if not normalize:
        return embeddings
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    return embeddings / np.maximum(lengths, np.finfo(np.float32).tiny)
