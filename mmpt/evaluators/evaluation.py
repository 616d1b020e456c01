"""Evaluate a task: load the checkpoint, embed a split, compute the metrics, write the report."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mmpt import __version__
from mmpt.evaluators.prompt_sets import embed_prompt_sets, prompt_sets
from mmpt.evaluators.protocols import PROTOCOLS, Evaluated
from mmpt.evaluators.protocols.one_shot import ONE_SHOT, trials_of
from mmpt.evaluators.provenance import clips_digest, evaluation_facts
from mmpt.evaluators.reports.results import EmbeddedSplit, evaluated, save_report
from mmpt.evaluators.reports.tables import format_table
from mmpt.evaluators.reports.view import ShownClip
from mmpt.models.fingerprint import model_fingerprint
from mmpt.models.loading import load_model, weights_file
from mmpt.processors.example import blank_warning
from mmpt.utils.arrays import non_finite, save_npz, why_non_finite
from mmpt.utils.device import choose_device
from mmpt.utils.errors import MissingDataError, UserError
from mmpt.utils.files import sha256
from mmpt.utils.missing_data_hints import where_checkpoint_comes_from
from mmpt.utils.output_kinds import EVALUATION
from mmpt.utils.outputs import check_output
from mmpt.utils.progress import Progress
from mmpt.utils.shards import ShardFolder, Sharding


def evaluate_task(
    task: Any,
    config_name: str | None = None,
    command: str | None = None,
    force: bool = False,
    sharding: Sharding | None = None,
) -> str:
    """Evaluate the checkpoint of a task (mmpt.tasks.Task) on dataset.split (default: test).

    Writes the report into task.results_path() and returns the table to print. sharding: embed a part of the
    clips only, or evaluate the embeddings of all parts. Raises MissingDataError if there is no checkpoint,
    UserError if it does not fit the config, or if the folder holds results of another checkpoint or split
    (unless `force`) or other files of these names.
    """
    path = task.checkpoint_path()
    if not weights_file(path).is_file():
        train = "Train first: `signclip train` with the config without test_ in its name."
        raise MissingDataError(
            f"there is no checkpoint {path}. {where_checkpoint_comes_from(path) or train} "
            "Or name another checkpoint: fairseq.common_eval.path=FILE."
        )
    device = choose_device(task.config.eval.device)
    # before the folder is created, so that errors in the data leave no empty folder
    task.dataset(task.config.dataset.split or "test", training=False)
    check_results(task, force)
    sharding = sharding or Sharding()
    # seed: of the training; the bootstrap's is fixed
    origin = {"checkpoint": str(path), "config": config_name, "command": command, "seed": task.seed}
    of = {} if sharding == Sharding() else _shards_of(task)
    with sharding.locked(task.results_path(), of, "another evaluation") as shards:
        return _evaluate(task, origin, device, force, sharding, shards)


def _shards_of(task: Any) -> dict[str, Any]:
    """What the embeddings of a split depend on, which all shards must share."""
    config, split = task.config, task.config.dataset.split or "test"
    settings = f"{config.dataset} {config.model} {config.eval.batch_size}"
    return {
        "split": split,
        "checkpoint": sha256(weights_file(task.checkpoint_path())),
        "config": hashlib.sha256(settings.encode()).hexdigest()[:16],
        "clips": clips_digest(config.dataset, split)[:16],
    }


def check_results(task: Any, force: bool = False) -> None:
    """Raises UserError if the evaluation of a task may not be written (see check_output)."""
    folder, split = task.results_path(), task.config.dataset.split or "test"
    check_output(folder, EVALUATION, evaluated(folder, task.checkpoint_path(), split), force)


def _evaluate(
    task: Any,
    origin: dict[str, Any],
    device: torch.device,
    force: bool,
    sharding: Sharding,
    shards: Sequence[ShardFolder],
) -> str:
    config = task.config
    split = config.dataset.split or "test"
    facts = evaluation_facts(config)
    loaded = load_model(origin["checkpoint"], config, trust=config.eval.trust_checkpoint)
    dataset = task.dataset(split, training=False)
    evaluate = PROTOCOLS.get(config.eval.protocol, "eval.protocol")
    if config.eval.protocol == ONE_SHOT:
        trials_of(dataset.examples, config.eval)  # its errors are reported before the clips are embedded
    sets = prompt_sets(dataset.examples, config.eval)
    predictor = task.predictor(loaded.model, device, config.eval.batch_size)
    video_ids = [example.video_id for example in dataset.examples]
    processor = task.video_processor(training=False)
    made = SplitEmbedding(dataset, predictor, processor.blank).embed(sharding, shards)
    if made is None:
        return f"shard {sharding.shard} of the {split} split is embedded"
    videos, blank = made
    for row in non_finite(videos):
        raise UserError(why_non_finite(f"the clip {video_ids[row]}", dataset[row]["vfeats"]))
    texts = embed_prompt_sets(
        sets, lambda prompts: predictor.embed_texts(map(dataset.text_processor, prompts))
    )
    embedded = EmbeddedSplit(texts, videos, np.array(sets.labels), sets.names, video_ids, sets.groups)
    train = partial(task.examples, "train")
    results, answers = evaluate(Evaluated(embedded, sets, dataset.examples, train, config.eval))
    results |= origin
    results |= {"split": split, "model": model_fingerprint(loaded), "evaluated": facts, "blank": blank}
    results["mmpt_version"] = __version__
    warnings = [*dataset.warnings]
    if blank:
        warnings.append(blank_warning(blank, len(video_ids), processor.blank_means))
    if warnings:
        results["warnings"] = [*warnings, *results.get("warnings", ())]
    results["protocol"] = config.eval.protocol
    shown = [ShownClip(e.video_id, e.path, e.span, e.signer, e.language, e.text) for e in dataset.examples]
    files = save_report(task.results_path(), results, embedded, force=force, clips=shown, answers=answers)
    listing = "\n".join(f"  {Path(file)}" for file in files)
    return f"{format_table(results)}\n\nresults of the {split} split are in\n{listing}"


class SplitEmbedding:
    """The clips of a split and what embeds them.

    dataset: of Task. predictor: embeds pools of clips, which are computed together; a shard gets every N-th.
    blank: whether features show no hand.
    """

    def __init__(self, dataset: Any, predictor: Any, blank: Any):
        self.dataset, self.predictor, self.blank = dataset, predictor, blank
        self.starts = range(0, len(dataset.examples), predictor.pool)

    def embed(
        self, sharding: Sharding, shards: Sequence[ShardFolder]
    ) -> tuple[NDArray[np.float32], list[str]] | None:
        """The embedding of each clip and the ids of blank ones; None for a shard, which only saves them.

        shards: see Sharding.locked. Raises UserError if a shard lacks embeddings.
        """
        if sharding.shard is not None:
            self._embed_shard(shards[0])
            return None
        if sharding.merge:
            return self._merged(shards)
        return self._embed(range(len(self.dataset.examples)))

    def _embed(self, indices: Iterable[int]) -> tuple[NDArray[np.float32], list[str]]:
        blank: list[str] = []

        def clips() -> Iterator[NDArray[np.float32]]:
            for index in indices:
                frames = self.dataset[index]["vfeats"]
                if self.blank(frames):
                    blank.append(self.dataset.examples[index].video_id)
                yield frames

        return self.predictor.embed_videos(clips()), blank

    def _embed_shard(self, shard: ShardFolder) -> None:
        mine = [start for number, start in enumerate(self.starts) if shard.shard.has_number(number)]
        todo = [start for start in mine if not _file(shard, start).is_file()]
        pools = {start: self._pool(start) for start in mine}
        total = sum(len(pools[start]) for start in todo)
        before = sum(map(len, pools.values())) - total
        with Progress(total, record=shard.record_progress, before=before) as progress:
            for start in todo:
                vectors, blank = self._embed(pools[start])
                names = np.frombuffer(json.dumps(blank).encode(), np.uint8)
                save_npz(_file(shard, start), vectors=vectors, blank=names)
                for _ in pools[start]:
                    progress.advance()
                progress.show(0)

    def _merged(self, shards: Sequence[ShardFolder]) -> tuple[NDArray[np.float32], list[str]]:
        vectors, blank = [], list[str]()
        for number, start in enumerate(self.starts):
            shard = shards[number % len(shards)]
            if not _file(shard, start).is_file():
                raise UserError(
                    f"--merge: shard {shard.shard} has no embeddings of "
                    f"{self.dataset.examples[start].video_id} and the clips after it: run the command with "
                    f"--shard {shard.shard}."
                )
            with np.load(_file(shard, start), allow_pickle=False) as part:
                vectors.append(part["vectors"])
                blank += json.loads(part["blank"].tobytes())
        return np.concatenate(vectors), blank

    def _pool(self, start: int) -> range:
        return range(start, min(start + self.predictor.pool, len(self.dataset.examples)))


def _file(shard: ShardFolder, start: int) -> Path:
    return shard.path / "parts" / f"{start:09d}.npz"
