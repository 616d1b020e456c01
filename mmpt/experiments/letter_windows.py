"""The windows of joined letters (scripts/join_letters.py) as models of the lexicon see them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmpt.embedding.embedder import SignCLIP
from mmpt.experiments.spelled_words import Embedded
from mmpt.processors.example import Example
from mmpt.processors.fingerspelling import FingerspellingMetaProcessor, LetterTemplates
from mmpt.processors.table_file import TableRow, read_table
from mmpt.spotting.windows import Recording, WindowGrid
from mmpt.utils.arrays import unit_rows
from mmpt.utils.errors import UserError
from mmpt.utils.progress import Progress

Floats = NDArray[np.float64]
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class Clips:
    """Some clips: their mean features [N, D], and what each model sees of them."""

    features: Floats
    embedded: list[Embedded]


@dataclass(frozen=True)
class LetterRecording:
    """A recording, its windows, and its letters as if their true times were known.

    text: of recordings.csv. spans: int64 [N, 2], the frames of the windows. letters: numbers in LETTERS [L],
    in order, and `times` int64 [L, 2], their frames.
    """

    id: str
    text: str
    language: str
    fps: float
    spans: NDArray[np.int64]
    windows: Clips
    letters: NDArray[np.int64]
    times: NDArray[np.int64]
    truth: Clips

    def of_length(self, seconds: Sequence[float]) -> NDArray[np.intp]:
        """The numbers of the windows of these lengths."""
        frames = [max(1, round(length * self.fps)) for length in seconds]
        return np.flatnonzero(np.isin(self.spans[:, 1] - self.spans[:, 0], frames))


class LetterModels:
    """Models of the fingerspelling lexicon that differ in their seed, and the prompts of the letters.

    Raises UserError for other models, models of different features or prompts, and prompts that depend on the
    sign language.
    """

    def __init__(self, models: Sequence[SignCLIP]):
        self.models = list(models)
        for model in self.models:
            if model.dataset_cfg.meta_processor != FingerspellingMetaProcessor.__name__:
                raise UserError(f"{model.path} was not trained on the fingerspelling lexicon.")
        first = self.models[0]
        own = [(repr(model.video_processor), self._prompts(model, "ase")) for model in self.models]
        if any(facts != own[0] for facts in own):
            raise UserError(f"the models have other features or prompts than {first.path}.")
        self.prompts = own[0][1]
        if self.prompts != self._prompts(first, "gsg"):
            raise UserError(f"{first.path}: its prompts name the sign language, or its signs.")
        self.vectors = [unit_rows(m.embed_text(self.prompts).astype(np.float64)) for m in self.models]
        """The letters' prompts by each model, [26, H]."""

    @staticmethod
    def _prompts(model: SignCLIP, language: str) -> list[str]:
        templates = LetterTemplates(model.dataset_cfg.prompt, model.dataset_cfg.prompt_templates)
        return [templates.prompts(letter, language)[0] for letter in LETTERS]

    def check_unseen(self, languages: Sequence[str]) -> None:
        """Raises UserError if a model was trained on one of the sign languages."""
        for model in self.models:
            known = {example.language for example in self._training(model)}
            if both := sorted(known & set(languages)):
                raise UserError(f"{model.path} was trained on {', '.join(both)}: its letters are not unseen.")

    def training_clips(self) -> tuple[Floats, list[str]]:
        """Mean features [N, D] of the letters that the first model was trained on, and their prompts."""
        model = self.models[0]
        chosen = [example for example in self._training(model) if example.text in self.prompts]
        read = model.video_processor
        features = [read(example.path, mirror=example.mirror).mean(axis=0) for example in chosen]
        return np.array(features, np.float64), [example.text for example in chosen]

    @staticmethod
    def _training(model: SignCLIP) -> list[Example]:
        return FingerspellingMetaProcessor.from_config(model.dataset_cfg, "train", ".pose").examples

    def read(self, folder: Path, grid: WindowGrid) -> list[LetterRecording]:
        """The recordings of a folder that scripts/join_letters.py wrote. Raises UserError."""
        letters: dict[Path, list[TableRow]] = {}
        for row in read_table(folder / "table.csv").rows:
            letters.setdefault(row.path, []).append(row)
        rows = read_table(folder / "recordings.csv").rows
        self.check_unseen([row.signed_language for row in rows])
        found = []
        with Progress(len(rows)) as progress:
            for row in rows:
                found.append(self._read(row, letters[row.path], grid))
                progress.advance()
        return found

    def _read(self, row: TableRow, letters: Sequence[TableRow], grid: WindowGrid) -> LetterRecording:
        recording = Recording(self.models[0], row.path)
        spans = grid.spans(recording.count, recording.fps)
        parts = [letter.span.frames(recording.count, recording.fps) for letter in letters if letter.span]
        times = np.array([(part.start, part.stop) for part in parts], np.int64)
        windows, truth = self._seen(recording, spans), self._seen(recording, times)
        numbers = np.array([LETTERS.index(letter.text) for letter in letters])
        about = (row.id, row.text, row.signed_language, recording.fps)
        return LetterRecording(*about, spans, windows, numbers, times, truth)

    def _seen(self, recording: Recording, spans: NDArray[np.int64]) -> Clips:
        features: list[NDArray[np.float32]] = []
        for one in recording.features(spans):
            if isinstance(one, UserError):
                raise one
            features.append(one)
        embedded = []
        for model, prompts in zip(self.models, self.vectors):
            vectors = unit_rows(model.embed_prepared(features).astype(np.float64))
            embedded.append(Embedded(vectors.mean(axis=0), vectors @ prompts.T))
        return Clips(np.array([one.mean(axis=0) for one in features], np.float64), embedded)
