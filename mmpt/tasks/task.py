"""Build the data, model and loss of a config, for training and evaluation. Does not import fairseq."""

import logging
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmpt.config import Config, DatasetConfig
from mmpt.config.fairseq_options import option
from mmpt.config.published import refuse_unsupported
from mmpt.config.run_folder import BEST, LAST, save_dir
from mmpt.datasets.leaks import shared_with_training
from mmpt.datasets.mmdataset import MMDataset, TrainingDraws
from mmpt.datasets.samplers import BatchSampler
from mmpt.datasets.span_sampling import SpanLengths, SpanSampler, check_spans
from mmpt.embedding.predictor import PREDICTORS
from mmpt.evaluators.metrics.retrieval import METRICS
from mmpt.evaluators.prompt_sets import ensemble_weights
from mmpt.extractors.manifest import trial_weights
from mmpt.losses import LOSSES, build_loss, needs_common_batches
from mmpt.models import MODELS, build_model, load_bert, load_tokenizer
from mmpt.models.building import check_reads_signs
from mmpt.models.clip_windows import WindowOptions
from mmpt.models.dual_encoder import DualEncoder
from mmpt.processors import ALIGNERS, META_PROCESSORS, TEXT_PROCESSORS, VIDEO_PROCESSORS
from mmpt.processors.example import ClipSource, Example, MetaProcessor
from mmpt.processors.recordings import Recordings, open_recordings
from mmpt.processors.table_file import SPLITS
from mmpt.utils.errors import UserError

log = logging.getLogger(__name__)


class Task:
    """Builds the parts of an experiment from its config, each on first use.

    seed: of augmentation and batches; None takes fairseq.common.seed, or 1. Raises UserError, before anything
    is loaded, for names that are not registered and for settings that contradict each other.
    """

    def __init__(self, config: Config, seed: int | None = None):
        self.config = config
        self.seed = int(option(config.fairseq, "seed", 1)) if seed is None else seed
        dataset = config.dataset
        self._meta = META_PROCESSORS.get(dataset.meta_processor, "dataset.meta_processor")
        self._video = VIDEO_PROCESSORS.get(dataset.video_processor, "dataset.video_processor")
        self._text = TEXT_PROCESSORS.get(dataset.text_processor, "dataset.text_processor")
        self._aligner = ALIGNERS.get(dataset.aligner, "dataset.aligner")
        self._model = MODELS.get(config.model.model_cls, "model.model_cls")
        LOSSES.get(config.loss.loss_cls, "loss.loss_cls")
        METRICS.get(config.metric, "metric")
        self.predictor = PREDICTORS.get(config.predictor, "predictor")
        self._datasets: dict[tuple[str, bool], MMDataset] = {}
        refuse_unsupported(config)
        self._check_batches()
        self._model.check(config.model)
        check_reads_signs(config.model, dataset)
        WindowOptions.of(config.model, dataset)
        check_spans(dataset, len(dataset.prompt_templates))
        ensemble_weights(config.eval, len(dataset.prompt_templates))
        self.video_processor(training=False)  # its own checks: components, width

    def _check_batches(self) -> None:
        if self.config.loss.mixup:
            self._check_mixup()
        dataset = self.config.dataset
        if dataset.batch_sampler in ("random", "neighbours"):
            for name in ("oversample", "unique_sampler_num"):
                if getattr(dataset, name):
                    raise UserError(
                        f"dataset.{name} is for batches of different prompts and has no effect with "
                        f"dataset.batch_sampler: {dataset.batch_sampler}: leave one of them out."
                    )
        for name, sampler in (("neighbours_from", "neighbours"), ("clips_per_prompt", "prompt_groups")):
            changed = getattr(dataset, name) != getattr(DatasetConfig, name)
            if changed and dataset.batch_sampler != sampler:
                raise UserError(
                    f"dataset.{name} is for dataset.batch_sampler: {sampler} and has no effect with "
                    f"{dataset.batch_sampler}: leave it out."
                )
        wanted, size = dataset.unique_sampler_num, option(self.config.fairseq, "batch_size")
        if wanted is not None and size is not None and wanted != size:
            raise UserError(
                f"dataset.unique_sampler_num is {wanted} and fairseq.dataset.batch_size {size}: both are the "
                "size of a batch of different prompts: set them equal or leave unique_sampler_num out."
            )

    def _check_mixup(self) -> None:
        dataset = self.config.dataset
        if self._video.suffix == ".npy":
            raise UserError(
                "loss.mixup mixes clips frame by frame, and video features differ in length: leave it "
                "out, or use poses (dataset.video_processor)."
            )
        if dataset.clip_frames is None:
            raise UserError(
                "loss.mixup mixes clips frame by frame, and clips differ in length: set dataset.clip_frames."
            )
        changed = ["augment_temporal"] if dataset.augment_temporal else []
        if dataset.augment3d.active():
            steps = ("time_crop", "time_speed", "frame_dropout")
            changed += [f"augment3d.{name}" for name in steps if getattr(dataset.augment3d, name) > 0]
        if changed:
            raise UserError(
                "loss.mixup mixes clips frame by frame, and after dataset.clip_frames their length is "
                f"changed again by dataset.{', dataset.'.join(changed)}: leave one or the other out."
            )

    def video_processor(self, training: bool) -> Any:
        """The video processor, with or without augmentation.

        Raises UserError if its feature dimension is not model.vfeat_dim.
        """
        width = self.config.model.vfeat_dim
        processor = self._video.from_config(self.config.dataset, training, width)
        found = processor.feature_dim
        if found is not None and found != width:
            raise UserError(
                f"model.vfeat_dim is {width}, but the feature dimension of "
                f"{self.config.dataset.video_processor} with "
                f"pose_components={self.config.dataset.pose_components} is {found}: set "
                f"model.vfeat_dim={found}."
            )
        return processor

    @cached_property
    def text_processor(self) -> Any:
        """Prompt -> token ids, with the tokenizer of dataset.bert_name."""
        return self._text(load_tokenizer(self.config.dataset.bert_name), self.config.dataset.max_len)

    @cached_property
    def aligner(self) -> Any:
        """Cuts clips to max_video_len."""
        return self._aligner(self.config.dataset.max_video_len, self.config.dataset.long_video)

    def dataset(self, split: str, training: bool | None = None) -> MMDataset:
        """A split, opened once and ready to be indexed.

        training: augment its clips; None: only those of the training split. Raises MissingDataError or
        UserError if its clips cannot be used.
        """
        assert split in SPLITS, split
        key = (split, split == "train" if training is None else training)
        if key not in self._datasets:
            self._datasets[key] = self._build(*key)
        return self._datasets[key]

    def check_corpus(self, split: str, processes: int = 1) -> None:
        """Raises UserError or MissingDataError for data that is missing or that training refuses.

        Opens no clip: reads the corpus and its prompts, and fills the batches of an epoch. processes: of the
        training.
        """
        corpus = self._corpus(split, self.video_processor(training=False).suffix)
        texts = [text for example in corpus.examples for text in (example.text, *example.other_texts) if text]
        if split == "train":
            self._check_known(corpus, texts)
        self.text_processor.check_classes(texts if split == "train" else [e.text for e in corpus.examples])
        if split == "train":
            self._fill_batches(corpus, processes)

    def check_batches(self) -> None:
        """Raises UserError if the training prompts cannot fill a batch. Opens no clip."""
        self._fill_batches(self._corpus("train", self.video_processor(training=False).suffix))

    def _fill_batches(self, corpus: MetaProcessor, processes: int = 1) -> None:
        size = option(self.config.fairseq, "batch_size")
        if size is not None:
            number = {example.text: label for label, example in enumerate(corpus.examples)}
            labels = [number[example.text] for example in corpus.examples]
            sampler, rng = self._sampler(corpus), np.random.default_rng(0)
            if processes > 1 and needs_common_batches(self.config.loss):
                sampler.common_batches(labels, size, processes, rng, training=True)
            else:
                sampler.batches(labels, size, rng, training=True)

    def examples(self, split: str) -> list[Example]:
        """The clips and prompts of a split; opens no clip."""
        return self._corpus(split, self.video_processor(training=False).suffix).examples

    def _corpus(self, split: str, suffix: str) -> MetaProcessor:
        config = self.config.dataset
        if suffix == ".npy" and config.vfeat_dir:
            _refuse_trial_features(Path(config.vfeat_dir), config.allow_trial_features)
        return self._meta.from_config(config, split, suffix)

    def _sampler(self, corpus: MetaProcessor) -> BatchSampler:
        config = self.config.dataset
        if config.batch_sampler == "neighbours":  # see mmpt/training/neighbours.py
            return BatchSampler("random" if self.config.loss.label_aware else "unique_prompt")
        return BatchSampler(
            config.batch_sampler,
            config.clips_per_prompt if config.batch_sampler == "prompt_groups" else 1,
            corpus.oversample if config.oversample is None else config.oversample,
        )

    def _build(self, split: str, training: bool) -> MMDataset:
        config = self.config.dataset
        processor = self.video_processor(training)
        corpus = self._corpus(split, processor.suffix)
        clips = processor.open(corpus.examples, config)
        spans = None
        if training and config.span_sampling is not None:
            spans = self._span_sampler(open_recordings(processor, clips, config))
        total, corpus.examples = len(corpus.examples), list(clips.examples)  # without the skipped ones
        if training:
            self._check_known(corpus)
        self._check_width(clips)
        dataset = MMDataset(
            clips,
            self.text_processor,
            self.aligner,
            draws=TrainingDraws(corpus.prompt_weights, spans) if training else None,
            seed=self.seed,
            sampler=self._sampler(corpus),
        )
        log.info("%s: %s", split, corpus.describe())
        shared = [] if corpus.table is None or split == "train" else shared_with_training(corpus.table, split)
        warnings = [
            f"results will be too optimistic: {leak.rstrip('.')}" for leak in [*corpus.leaks, *shared]
        ]
        if skipped := total - len(dataset):
            warnings.append(f"{skipped} of {total} clips are skipped (dataset.on_bad_example: skip)")
        warnings += dataset.lost_of_prompts()
        limit = f"longer than max_video_len={config.max_video_len} (long_video: {config.long_video})"
        long = []
        if spans is not None and config.clip_frames is None and spans.longest > config.max_video_len:
            long = [f"drawn parts have up to {spans.longest} frames, {limit}"]
        elif spans is None and dataset.n_long():
            long = [f"{dataset.n_long()} of {len(dataset)} clips are {limit}"]
        if config.long_video == "windows":  # reads all frames
            for line in long:
                log.info("%s: %s", split, line)
        else:
            warnings += long
        for line in warnings:
            log.warning("%s: %s", split, line)
        dataset.warnings = warnings
        return dataset

    def _span_sampler(self, recordings: Recordings) -> SpanSampler:
        config = self.config.dataset
        text = self.text_processor
        return SpanSampler(
            recordings, SpanLengths.of(config), config.span_texts, lambda joined: not text.is_cut(joined)
        )

    def _check_known(self, corpus: MetaProcessor, texts: Sequence[str] = ()) -> None:
        """Raises UserError for texts, of a table too, of which the tokenizer knows no word.

        A prompt of a table has words of its template that the tokenizer may know.
        """
        rows = corpus.table.of_split("train") if corpus.table is not None else []
        self.text_processor.check_known([*texts, *(row.text for row in rows)])

    def _check_width(self, clips: ClipSource) -> None:
        if not clips.examples:
            return
        width = clips.features(0, None).shape[1]
        if width != self.config.model.vfeat_dim:
            raise UserError(
                f"model.vfeat_dim is {self.config.model.vfeat_dim}, but the feature dimension of the clip "
                f"{clips.examples[0].video_id} is {width}: set model.vfeat_dim={width}, or use other "
                "features (dataset.video_processor, dataset.pose_components)."
            )

    def fixed_padding(self) -> tuple[int, int] | None:
        """(frames, token ids) that batches are padded to with dataset.pad_to_max; None: to their longest."""
        config = self.config.dataset
        return (config.max_video_len, config.max_len) if config.pad_to_max else None

    def build_model(self, pretrained: bool = True) -> DualEncoder:
        """The towers, initialised from dataset.bert_name. pretrained=False reads their shapes only."""
        bert = load_bert(self.config.dataset.bert_name, weights=pretrained)
        return build_model(self.config.model, self.config.dataset, bert)

    def build_loss(self) -> torch.nn.Module:
        """The training objective."""
        return build_loss(self.config.loss, self.config.model.ensemble_size)

    def checkpoint_path(self) -> Path:
        """The checkpoint to evaluate.

        That is fairseq.common_eval.path, or the best one in fairseq.checkpoint.save_dir, or the last one
        there if training does not validate (fairseq.dataset.disable_validation).
        """
        groups = self.config.fairseq
        if named := option(groups, "path"):
            return Path(named)
        return save_dir(groups) / (LAST if option(groups, "disable_validation", False) else BEST)

    def results_path(self) -> Path:
        """Folder of evaluation results: eval.save_path, or `eval` in the folder of the checkpoint."""
        named = self.config.eval.save_path
        return Path(named) if named else self.checkpoint_path().parent / "eval"


def _refuse_trial_features(folder: Path, allowed: bool) -> None:
    weights = trial_weights(folder) if folder.is_dir() else None
    if weights and not allowed:
        raise UserError(
            f"dataset.vfeat_dir: the features in {folder} come from a network with random weights "
            f"({weights}), so they are meaningless. Extract them with the real weights, or, for a test, set "
            "dataset.allow_trial_features=true."
        )
