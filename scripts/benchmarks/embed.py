"""Embedding thousands of pose files with `signclip embed`, against one at a time in a plain loop."""

import argparse
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.common import machine
from mmpt.config import load_config
from mmpt.embedding.clip_loader import folder_jobs
from mmpt.embedding.embedder import SignCLIP
from mmpt.embedding.run import EmbedOptions, embed_clips
from mmpt.models import load_tokenizer
from mmpt.models.folder import LoadedModel
from mmpt.processors.fingerspelling import find_lexicon
from mmpt.tasks import Task
from mmpt.utils.allocator import keep_freed_memory
from mmpt.utils.parallel import cores

AGAINST = {"plain": "one pose at a time, read and embedded in turn"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    parser.add_argument("--config", default="projects/signclip/fslex_demo.yaml", help="untrained model")
    parser.add_argument(
        "--clips", type=int, default=5000, help="number of pose files (the lexicon's, repeated)"
    )
    parser.add_argument("--plain", type=int, default=500, help="files in the plain loop (evenly spaced)")
    parser.add_argument("--workers", type=int, default=cores(), help="processes that read")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Time both variants and compare their embeddings."""
    keep_freed_memory()
    config = load_config(options.config)
    tokenizer = load_tokenizer(config.dataset.bert_name)
    torch.manual_seed(0)
    parts = LoadedModel(Task(config).build_model().eval(), config.model, config.dataset, tokenizer)
    model = SignCLIP(parts)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "poses"
        folder.mkdir()
        sources = sorted(find_lexicon(None).rglob("*.pose"))
        for number in range(options.clips):
            os.link(_copy(sources, number, Path(name)), folder / f"{number:06d}.pose")
        jobs = folder_jobs(folder, ".pose", folder / "embeddings")
        how = EmbedOptions(workers=options.workers, show_progress=False)
        started = time.perf_counter()
        made = embed_clips(model, jobs, Path(name) / "out", {}, options=how)
        ours = (time.perf_counter() - started) / len(jobs)
        chosen = np.linspace(0, len(jobs) - 1, min(options.plain, len(jobs))).astype(int)
        started = time.perf_counter()
        plain = np.concatenate([model.embed_pose([jobs[n].path]) for n in chosen])
        loop = (time.perf_counter() - started) / len(chosen)
    apart = float(np.abs(plain - made.vectors[chosen]).max())
    summary = (
        f"embedding {len(jobs)} files: {1 / ours:.0f} clips/s, a plain loop {1 / loop:.0f} clips/s: "
        f"{loop / ours:.1f}x; vectors differ by at most {apart:.1e}"
    )
    return {
        "summary": summary,
        "machine": machine(),
        "threads": torch.get_num_threads(),
        "clips": len(jobs),
        "plain_clips": len(chosen),
        "seconds_a_clip": {"ours": ours, "plain": loop},
        "ratio": loop / ours,
        "largest_difference": apart,
    }


def _copy(sources: list[Path], number: int, folder: Path) -> Path:
    """A copy of one of the lexicon's files, to link to."""
    target = folder / f"source_{number % len(sources)}.pose"
    if not target.exists():
        shutil.copyfile(sources[number % len(sources)], target)
    return target
