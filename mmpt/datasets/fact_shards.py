"""Facts of the clips of a table, read in shards (see mmpt/utils/shards.py)."""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmpt.config.schema import Config
from mmpt.datasets.clip_facts import ClipFacts, FactsJob, read_facts
from mmpt.processors.table_file import Table
from mmpt.utils.errors import UserError
from mmpt.utils.files import file_stamp, parse_json, sha256, write_text
from mmpt.utils.parallel import ordered_map
from mmpt.utils.progress import Progress
from mmpt.utils.shards import ShardFolder

FACTS = "facts.jsonl"
"""A line for each clip that was read: id, stamp of its file, facts."""


def shards_of(table: Table, folder: str | Path | None, config: Config | None) -> dict[str, Any]:
    """What the facts of a table depend on, besides the files of its clips."""
    reads = None if config is None else f"{config.dataset} {config.model.vfeat_dim}"
    return {
        "table": table.path.name,
        "sha256": sha256(table.path),
        "vfeat_dir": None if folder is None else str(folder),
        "config": None if reads is None else hashlib.sha256(reads.encode()).hexdigest()[:16],
    }


def read_shard(
    table: Table, jobs: Sequence[FactsJob], shard: ShardFolder, workers: int
) -> dict[str, ClipFacts]:
    """Read the clips of a shard, chosen by their ids; a repeated shard reads what is missing or changed.

    jobs: of each row of the table (clip_jobs). Returns the facts by id.
    """
    mine = {row.id: job for row, job in zip(table.rows, jobs) if shard.shard.has(row.id)}
    known = _read(shard.path)
    kept = {
        name: known[name] for name, job in mine.items() if name in known and known[name][0] == _stamp(job)
    }
    write_text(shard.path / FACTS, "".join(_line(name, *kept[name]) for name in kept))
    facts = {name: clip for name, (_, clip) in kept.items()}
    todo = [(name, job, _stamp(job)) for name, job in mine.items() if name not in kept]
    progress = Progress(len(todo), record=shard.record_progress, before=len(kept))
    with progress, open(shard.path / FACTS, "a", encoding="utf-8") as file:
        found = ordered_map(read_facts, [job for _, job, _ in todo], workers, chunk=32)
        for (name, _, stamp), clip in zip(todo, found):
            facts[name] = clip
            file.write(_line(name, stamp, clip))
            file.flush()
            progress.advance()
            progress.show(0)
    return facts


def merged_facts(table: Table, jobs: Sequence[FactsJob], shards: Sequence[ShardFolder]) -> list[ClipFacts]:
    """The facts of each row. Raises UserError if a shard lacks a clip, or if its file changed since."""
    known = {name: entry for shard in shards for name, entry in _read(shard.path).items()}
    for row, job in zip(table.rows, jobs):
        if row.id not in known or known[row.id][0] != _stamp(job):
            [shard] = [folder.shard for folder in shards if folder.shard.has(row.id)]
            why = "changed after it was read" if row.id in known else "was not read"
            raise UserError(f"--merge: {job[0]} {why}: run the command with --shard {shard}.")
    return [known[row.id][1] for row in table.rows]


def _stamp(job: FactsJob) -> list[int] | None:
    path = Path(job[0])
    return list(file_stamp(path.stat())) if path.is_file() else None


def _line(name: str, stamp: list[int] | None, clip: ClipFacts) -> str:
    entry = {"id": name, "stamp": stamp, "facts": dataclasses.asdict(clip)}
    return json.dumps(entry, default=lambda number: number.item()) + "\n"


def _read(folder: Path) -> dict[str, tuple[list[int] | None, ClipFacts]]:
    """Stamp and facts of each clip; the last line of a killed shard may be half written."""
    found: dict[str, tuple[list[int] | None, ClipFacts]] = {}
    if (folder / FACTS).is_file():
        for line in (folder / FACTS).read_text(encoding="utf-8").split("\n"):
            try:
                entry = parse_json(line)
            except ValueError:
                break
            found[entry["id"]] = (entry["stamp"], ClipFacts(**entry["facts"]))
    return found
