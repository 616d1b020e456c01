"""The dataset: examples -> samples of features and token ids -> batches."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mmpt.datasets.samplers import BatchSampler
from mmpt.datasets.span_sampling import DrawnSpan, SpanSampler
from mmpt.models.prompts import BatchLayout
from mmpt.processors.aligner import DSAligner
from mmpt.processors.example import ClipSource, Example
from mmpt.processors.text import TextProcessor
from mmpt.signwriting import contains_sign
from mmpt.utils.arrays import padded
from mmpt.utils.errors import UserError


@dataclass(frozen=True)
class TrainingDraws:
    """What training draws anew for each clip in each epoch, besides augmentation.

    prompt_weights: the probabilities of an example's text and each of its other_texts. spans: draws parts of
    the recordings; a sample keeps the label of the clip's own prompt.
    """

    prompt_weights: Sequence[float] = (1.0,)
    spans: SpanSampler | None = None


class MMDataset(torch.utils.data.Dataset[dict[str, Any]]):
    """A split as samples and batches.

    Randomness (augmentation, batches) depends only on (seed, epoch, index), so a resumed run sees the same
    data as an uninterrupted one, with any number of workers.

    draws: those of training; None in evaluation. sampler: draws the batches. Raises UserError for an empty
    split, for prompts with the same token ids and, in training, for prompts of which the tokenizer knows no
    word.
    """

    def __init__(
        self,
        clips: ClipSource,
        text_processor: TextProcessor,
        aligner: DSAligner,
        *,
        draws: TrainingDraws | None = None,
        seed: int = 1,
        sampler: BatchSampler | None = None,
    ):
        examples = clips.examples
        if not examples:
            raise UserError("the split is empty: there is nothing to train on or to evaluate.")
        self.examples = examples
        self.clips = clips
        self.text_processor = text_processor
        self.aligner = aligner
        self.training = training = draws is not None
        self.seed = seed
        self.sampler = sampler or BatchSampler()
        self._draws = draws or TrainingDraws()
        self._fixed: tuple[int, list[list[int]]] | None = None
        self._prompt_shares = np.cumsum(self._draws.prompt_weights)
        self.epoch = 1
        self.warnings: Sequence[str] = ()
        """What weakens results with this split, for their report."""
        self.prompts = list(dict.fromkeys(example.text for example in examples))
        number = {prompt: label for label, prompt in enumerate(self.prompts)}
        self.labels = [number[example.text] for example in examples]
        others = (text for example in examples for text in example.other_texts if text) if training else ()
        self._all_prompts = [*self.prompts, *others]
        self._label_of_sign = self._number_signs() if training else {}
        text_processor.check_classes(self._all_prompts)
        if training:
            text_processor.check_known(self._all_prompts)

    def __len__(self) -> int:
        return len(self.examples)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch that augmentation is drawn for."""
        self.epoch = epoch

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """The samples of a batch; torch's DataLoader asks for all of them at once."""
        rngs = [generator(self.seed, self.epoch, index) if self.training else None for index in indices]
        spans = self._draws.spans
        if spans is None:
            clips = zip(indices, self.clips.features_of(indices, rngs))
            return [self._sample(index, features) for index, features in clips]
        drawn = [spans.draw(index, self._generators(index)[1]) for index in indices]
        features = spans.features(indices, drawn, rngs)
        return [self._sample(*parts) for parts in zip(indices, features, drawn)]

    def _sample(self, index: int, features: np.ndarray, drawn: DrawnSpan | None = None) -> dict[str, Any]:
        example = self.examples[index]
        joined = None if drawn is None else drawn.text
        text = joined or self._draw_prompt(example, index)
        caps, cmasks = self.text_processor(text)
        sample: dict[str, Any] = self.aligner(example.video_id, features, caps, cmasks)
        sample |= {
            "video_id": example.video_id,
            "text": text,
            "label": self._label(index, text),
            "index": index,
        }
        return sample

    def _draw_prompt(self, example: Example, index: int) -> str:
        """In training one of the example's prompts, by weight; else the first."""
        if not self.training or not example.other_texts:
            return example.text
        texts = (example.text, *example.other_texts)
        shares = self._prompt_shares
        if "" in texts:
            weights = np.diff(shares, prepend=0.0) * [bool(text) for text in texts]
            shares = np.cumsum(weights / weights.sum()) if weights.any() else np.ones(1)
        drawn = self._generators(index)[0].random()
        return texts[min(int(np.searchsorted(shares, drawn, side="right")), len(texts) - 1)]

    def _generators(self, index: int) -> list[np.random.Generator]:
        """Generators of the prompt and of the part of the recording.

        They are separate, so that clips are augmented the same way with one prompt or several.
        """
        return generator(self.seed, self.epoch, index).spawn(2)

    def _number_signs(self) -> dict[str, int]:
        """A label for each further prompt that contains SignWriting.

        It describes a clip by its shape: clips of other classes may have it too, and others of its class not.
        """
        label_of = {prompt: label for label, prompt in enumerate(self.prompts)}
        signs = (text for example in self.examples for text in example.other_texts if contains_sign(text))
        return {text: label_of.setdefault(text, len(label_of)) for text in signs}

    def _label(self, index: int, text: str) -> int | list[int]:
        """The clip's class; with further prompts in SignWriting a row of labels (see losses.describes)."""
        label = self.labels[index]
        if not self._label_of_sign:
            return label
        example = self.examples[index]
        signs = [self._label_of_sign.get(other, label) for other in example.other_texts]
        return [self._label_of_sign.get(text, label) if text != example.text else label, label, *signs]

    def lengths(self) -> np.ndarray:
        """Frames of each clip for the model (before augmentation, after cutting): int64 [N]."""
        return self.aligner.kept(self.clips.lengths())

    def n_long(self) -> int:
        """Number of clips longer than the model's max_video_len (see dataset.long_video)."""
        return int((self.clips.lengths() > self.aligner.max_video_len).sum())

    def lost_of_prompts(self) -> list[str]:
        """What the model does not see of the prompts, one line for each kind (TextProcessor.what_is_lost)."""
        return self.text_processor.what_is_lost(self._all_prompts)

    def token_ids(self) -> set[int]:
        """The token ids of all prompts."""
        return {int(i) for prompt in set(self._all_prompts) for i in self.text_processor(prompt)[0]}

    def fix_batches(self, epoch: int, batches: list[list[int]]) -> None:
        """Use these batches in an epoch instead of drawing them."""
        self._fixed = epoch, batches

    def batches(self, batch_size: int, epoch: int, processes: int = 1) -> list[list[int]]:
        """The batches of an epoch, as indices; evaluation has the same batches in every epoch.

        processes: number of processes with common batches (see BatchSampler.common_batches). Raises UserError
        if the prompts cannot fill a batch.
        """
        if self._fixed is not None and self._fixed[0] == epoch:
            return self._fixed[1]
        rng = generator(self.seed, epoch if self.training else 0, len(self))
        if processes > 1:
            return self.sampler.common_batches(self.labels, batch_size, processes, rng, self.training)
        return self.sampler.batches(self.labels, batch_size, rng, self.training)


def collate(
    samples: Sequence[dict[str, Any]],
    pad_id: int = 0,
    video_len: int | None = None,
    text_len: int | None = None,
) -> dict[str, Any]:
    """Pad samples of MMDataset into one batch of B clips.

    Returns `vfeats` float32 [B, T, D] and `caps` int64 [B, L], `vmasks` and `cmasks` bool (false on padding),
    `label` and `index` int64 [B], lists `video_id` and `text`, and the `layout` of the batch. T and L are the
    batch's longest, or video_len and text_len if given (SignCLIP's fixed padding) and not
    exceeded (dataset.long_video: windows).
    """
    assert samples, "a batch needs at least one sample"
    arrays = {
        "vfeats": padded([s["vfeats"] for s in samples], 0.0, np.float32, video_len),
        "vmasks": padded([s["vmasks"] for s in samples], False, bool, video_len),
        "caps": padded([s["caps"] for s in samples], pad_id, np.int64, text_len),
        "cmasks": padded([s["cmasks"] for s in samples], False, bool, text_len),
    }
    batch: dict[str, Any] = {name: torch.from_numpy(array) for name, array in arrays.items()}
    batch["layout"] = BatchLayout.of(batch["vmasks"], batch["caps"], batch["cmasks"])
    for key in ("label", "index"):
        if key in samples[0]:
            batch[key] = torch.tensor([s[key] for s in samples], dtype=torch.long)
    for key in ("video_id", "text"):
        if key in samples[0]:
            batch[key] = [s[key] for s in samples]
    return batch


def generator(seed: int, epoch: int, index: int) -> np.random.Generator:
    """The random generator of one example in one epoch.

    It depends only on the three numbers, so an example is augmented the same way in any process, order or
    batch, and after a resume. Different numbers give independent generators (NumPy's SeedSequence).
    """
    sequence = np.random.SeedSequence((seed & 0xFFFFFFFFFFFFFFFF, epoch, index))  # negative seeds too
    return np.random.Generator(np.random.PCG64(sequence))
