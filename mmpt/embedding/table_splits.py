"""Embed the splits of a table for the recognition protocols, after checking for leaks."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmpt.datasets.leaks import find_leaks
from mmpt.embedding.clip_loader import table_jobs
from mmpt.embedding.embedder import SignCLIP
from mmpt.embedding.run import EmbedOptions, embed_clips
from mmpt.evaluators.metrics.retrieval import distinct
from mmpt.evaluators.recognition.outcome import Split
from mmpt.evaluators.reports.view import ShownClip
from mmpt.processors.example import blank_warning
from mmpt.processors.table_file import Table, TableRow
from mmpt.processors.templates import PromptTemplates
from mmpt.utils.errors import UserError
from mmpt.utils.files import sha256
from mmpt.utils.logging import some_of

log = logging.getLogger(__name__)


def embed_table(
    model: SignCLIP,
    table: Table,
    needed: Sequence[str],
    out: Path,
    allowed_leaks: Sequence[str] = (),
    folder: Path | None = None,
    options: EmbedOptions | None = None,
) -> tuple[dict[str, Split], dict[str, Any]]:
    """Embed the splits in `needed` that the table has; returns them by name, and provenance with warnings.

    The first of `needed` must exist. out: folder of the embeddings, reused by later calls. folder: of the
    features (dataset.vfeat_dir). options: see EmbedOptions; a shard gives no splits. Raises UserError for
    leaks that are not allowed.
    """
    table.of_split(needed[0])
    suffix = model.video_processor.suffix
    files = [Path(job.path) for job in table_jobs(table, table.rows, suffix, folder)]
    allowed = find_leaks(table.rows, files).refuse(table.path, allowed_leaks)
    rows = [row for row in table.rows if row.split in needed]
    about: dict[str, Any] = {"model": model.provenance()}
    about["table"] = {"file": table.path.name, "sha256": sha256(table.path)}
    jobs = table_jobs(table, rows, suffix, folder)
    made = embed_clips(model, jobs, out, about, options=options)
    if options is not None and options.sharding.shard is not None:
        log.info(
            "%s: shard %s: %d clips embedded, %d failed",
            *(out, options.sharding.shard, len(made.ids), len(made.failed)),
        )
        return {}, about
    number = {row["id"]: n for n, row in enumerate(made.ids)}
    splits = {}
    for name in dict.fromkeys(needed):
        chosen = [row for row in rows if row.split == name and row.id in number]
        vectors = made.vectors[[number[row.id] for row in chosen]]
        splits[name] = Split(
            name,
            vectors,
            [r.id for r in chosen],
            [r.text for r in chosen],
            [r.signer for r in chosen],
            [r.signed_language for r in chosen],
        )
    if not len(splits[needed[0]]):
        raise UserError(f"{table.path}: no clip of {needed[0]} could be embedded.")
    warnings = [f"Leak, allowed: {line}" for line in allowed]
    if made.failed:
        first = next(iter(made.failed.values()))
        warnings.append(f"{len(made.failed)} of {len(rows)} clips could not be embedded; the first: {first}")
    if made.blank:
        means = model.video_processor.blank_means
        warnings.append(blank_warning(made.blank_names(), len(made.ids), means) + ".")
    if made.cut:
        limits = model.dataset_cfg
        warnings.append(
            f"{made.cut} of {len(made.ids)} clips are longer than max_video_len={limits.max_video_len} "
            f"(long_video: {limits.long_video})."
        )
    return splits, {**about, "warnings": warnings, "clips": {n: len(s) for n, s in splits.items()}}


def prompt_texts(
    model: SignCLIP, table: Table, rows: Sequence[TableRow], template: str | None = None
) -> list[str]:
    """The prompt of each row.

    template: None: the first template of the model's training. Raises UserError for a template that does not
    fit the table, and for different prompts with the same token ids.
    """
    chosen = template or model.table_templates[0]
    texts = [prompts[0] for prompts in PromptTemplates([chosen], table, "--prompt").of_rows(rows)]
    without = [row.id for row, text in zip(rows, texts) if not text]
    if without:
        raise UserError(
            f"{table.path}: {len(without)} of {len(rows)} clips have no sign in column 'signwriting', which "
            f"the prompt {chosen!r} needs: {some_of(without)}. Use another --prompt, or a split without them."
        )
    model.text_processor.check_classes(texts)
    return texts


def prompts_of(
    model: SignCLIP, table: Table, queries: Split, template: str | None = None
) -> tuple[list[str], NDArray[np.float32], NDArray[np.int64]]:
    """Distinct prompts of the queries, their embeddings [P, H], and the prompt index of each query [N].

    See prompt_texts.
    """
    by_id = {row.id: row for row in table.rows}
    texts = prompt_texts(model, table, [by_id[name] for name in queries.ids], template)
    prompts, numbers, _ = distinct(texts)
    return prompts, model.embed_text(prompts), numbers


def shown_clips(table: Table, ids: Sequence[str], suffix: str, folder: Path | None = None) -> list[ShownClip]:
    """The clips of a report by their ids. suffix, folder: of the features (see clip_files)."""
    by_id = {row.id: row for row in table.rows}
    rows = [by_id[name] for name in ids]
    files = [Path(job.path) for job in table_jobs(table, rows, suffix, folder)]
    return [
        ShownClip(row.id, file, row.span, row.signer, row.signed_language, row.text)
        for row, file in zip(rows, files)
    ]
