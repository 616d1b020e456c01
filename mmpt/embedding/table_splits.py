"""The splits of a table as embeddings, for the protocols: leaks are refused before anything is computed."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmpt.datasets.leaks import find_leaks
from mmpt.embedding.clip_reader import ClipReader, table_jobs
from mmpt.embedding.run import embed_clips, model_hash
from mmpt.evaluators.metrics.retrieval import distinct
from mmpt.evaluators.recognition.protocols import Split
from mmpt.processors.table_file import Table, TableRow
from mmpt.processors.templates import PromptTemplates
from mmpt.utils.errors import UserError
from mmpt.utils.files import sha256

log = logging.getLogger(__name__)


def embed_table(
    model: Any,
    model_folder: Path,
    table: Table,
    needed: Sequence[str],
    out: Path,
    allowed_leaks: Sequence[str] = (),
    folder: Path | None = None,
    workers: int = 0,
) -> tuple[dict[str, Split], dict[str, Any]]:
    """Splits by name, those of `needed` that the table has, and what a report says of them.

    model: a SignCLIP, of model_folder. The first of `needed` must be there. out: where the embeddings are
    kept and found again. folder: of the clips' features, as dataset.vfeat_dir. Raises UserError for leaks
    that are not allowed.
    """
    table.of_split(needed[0])
    suffix = model.video_processor.suffix
    files = [Path(job.path) for job in table_jobs(table, table.rows, suffix, folder)]
    allowed = find_leaks(table.rows, files).refuse(table.path, allowed_leaks)
    rows = [row for row in table.rows if row.split in needed]
    reader = ClipReader(model.video_processor, model.aligner, model.model_cfg.vfeat_dim)
    about: dict[str, Any] = {"model": {"folder": model_folder.name, "sha256": model_hash(model_folder)}}
    about["table"] = {"file": table.path.name, "sha256": sha256(table.path)}
    made = embed_clips(model, table_jobs(table, rows, suffix, folder), reader, out, about, workers=workers)
    number = {row["id"]: n for n, row in enumerate(made.ids)}
    splits = {}
    for name in dict.fromkeys(needed):
        chosen = [row for row in rows if row.split == name and row.id in number]
        vectors = made.vectors[[number[row.id] for row in chosen]]
        splits[name] = Split(
            name, vectors, [r.id for r in chosen], [r.text for r in chosen], [r.signer for r in chosen]
        )
    if not len(splits[needed[0]]):
        raise UserError(f"{table.path}: no clip of {needed[0]} could be read.")
    warnings = [f"Leak, allowed: {line}" for line in allowed]
    if made.failed:
        first = next(iter(made.failed.values()))
        warnings.append(f"{len(made.failed)} of {len(rows)} clips could not be read; the first: {first}")
    if made.cut:
        limits = model.dataset_cfg
        warnings.append(
            f"{made.cut} of {len(made.ids)} clips are longer than max_video_len={limits.max_video_len} "
            f"(long_video: {limits.long_video})."
        )
    return splits, {**about, "warnings": warnings, "clips": {n: len(s) for n, s in splits.items()}}


def prompt_texts(
    model: Any, table: Table, rows: Sequence[TableRow], template: str | None = None
) -> list[str]:
    """The prompt of each row.

    template: None takes the first that the model was trained with. Raises UserError for a template that does
    not fit the table, and where the text model cannot tell two prompts apart.
    """
    chosen = template or model.dataset_cfg.prompt_templates[0]
    texts = [prompts[0] for prompts in PromptTemplates([chosen], table).of_rows(rows)]
    model.text_processor.check_distinct(texts)
    return texts


def prompts_of(
    model: Any, table: Table, queries: Split, template: str | None = None
) -> tuple[list[str], NDArray[np.float32], NDArray[np.int64]]:
    """Distinct prompts of the queries, their embeddings [P, H], and each query's prompt [N] (see
    prompt_texts)."""
    by_id = {row.id: row for row in table.rows}
    texts = prompt_texts(model, table, [by_id[name] for name in queries.ids], template)
    prompts, numbers, _ = distinct(texts)
    return prompts, model.embed_text(prompts), numbers
