"""Write and read a folder of embeddings.

embeddings.npy    float32 [N, D], or embeddings.parquet with ids and vectors
ids.csv           one row per vector: id, path, and start_ms, end_ms of windows
provenance.json   model and its hash, options, source, the clips that failed, and the blank ones
"""

import csv
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmpt import __version__
from mmpt.utils import output_kinds
from mmpt.utils.arrays import open_array
from mmpt.utils.errors import UserError
from mmpt.utils.files import read_json, write_json
from mmpt.utils.output_kinds import EMBEDDING_FORMATS
from mmpt.utils.outputs import check_files, replace_output

EMBEDDINGS, IDS, PROVENANCE = "embeddings", "ids.csv", output_kinds.EMBEDDINGS.record
FINGERPRINT = "model_fingerprint"
"""Provenance key of the model's fingerprint, which a search index compares."""
_NO_IDENTITY = ("sha256", "batch_size")
"""Provenance that may differ: the source may have been extended, and batches do not change vectors."""


@dataclass
class EmbeddingSet:
    """Embeddings float32 [N, D] with the id row of each vector.

    failed: id -> reason why a clip has no embedding. reused: clips embedded by an earlier run. cut: vectors
    whose clip, window or prompt is longer than the model reads. blank: rows of the vectors whose clip or
    window shows no hand that the model reads.
    """

    vectors: NDArray[np.float32]
    ids: list[dict[str, str]]
    failed: dict[str, str] = field(default_factory=dict)
    reused: int = 0
    cut: int = 0
    blank: list[int] = field(default_factory=list)

    def blank_names(self) -> list[str]:
        """The id of each blank vector, with the start of a window."""
        rows = [self.ids[row] for row in self.blank]
        return [f"{row['id']} {row['start_ms']} ms" if row.get("start_ms") else row["id"] for row in rows]


def made_of(about: dict[str, Any], fingerprint: str | None) -> dict[str, Any]:
    """What a set of embeddings is identified by: model, source and the options that change vectors."""
    parts = {**about.get("source", {}), **about.get("table", {}), **about.get("options", {})}
    of = {key: value for key, value in parts.items() if value is not None and key not in _NO_IDENTITY}
    return {"model": fingerprint, **of}


def save_embedding_set(
    out: Path, made: EmbeddingSet, about: dict[str, Any], file_format: str, force: bool = False
) -> None:
    """Write vectors, ids and provenance, which holds the hashes of both files.

    about: provenance, with the key FINGERPRINT. force: see replace_output. Older embeddings of the same
    source, model and options are replaced. Raises UserError if `out` holds others.
    """
    of = made_of(about, about.get(FINGERPRINT))
    with replace_output(out, output_kinds.EMBEDDINGS, of, force) as fresh:
        vectors = fresh / f"{EMBEDDINGS}.{file_format}"
        if file_format == "parquet":
            import pyarrow

            dim = made.vectors.shape[1]
            columns: dict[str, Any] = {name: [row[name] for row in made.ids] for name in made.ids[0]}
            columns["embedding"] = pyarrow.FixedSizeListArray.from_arrays(made.vectors.ravel(), dim)
            from mmpt.processors.table_lines import parquet_module

            parquet_module().write_table(pyarrow.table(columns), vectors)
        else:
            np.save(vectors, made.vectors)
        with open(fresh / IDS, "w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(made.ids[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(made.ids)
        counts = {
            "count": len(made.ids),
            "dim": int(made.vectors.shape[1]),
            "cut": made.cut,
            "blank": {"count": len(made.blank), "rows": made.blank},
            "failed": made.failed,
        }
        write_json(fresh / PROVENANCE, {"mmpt_version": __version__, **about, **counts})


def read_embedding_set(folder: Path) -> EmbeddingSet:
    """Read a folder of save_embedding_set. Raises UserError if it is missing or incomplete."""
    check_files(folder, output_kinds.EMBEDDINGS)
    try:
        about = read_json(folder / PROVENANCE)
        with open(folder / IDS, encoding="utf-8", newline="") as file:
            ids = list(csv.DictReader(file))
        formats = [name for name in EMBEDDING_FORMATS if f"{EMBEDDINGS}.{name}" in about.get("files", {})]
        if "npy" in formats or (not formats and (folder / f"{EMBEDDINGS}.npy").is_file()):
            vectors = np.array(open_array(folder / f"{EMBEDDINGS}.npy", "expected embeddings"))
        else:
            from mmpt.processors.table_lines import parquet_module

            column = parquet_module().read_table(folder / f"{EMBEDDINGS}.parquet")["embedding"]
            flat = column.combine_chunks().flatten().to_numpy()
            vectors = flat.reshape(len(ids), about["dim"]).astype(np.float32)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"{folder}: not a folder of embeddings ({error}); create it with `signclip embed`."
        ) from error
    if vectors.shape != (len(ids), about.get("dim")):
        raise UserError(f"{folder}: {len(ids)} ids, but embeddings of shape {list(vectors.shape)}.")
    blank = about.get("blank", {}).get("rows", [])
    return EmbeddingSet(vectors, ids, about.get("failed", {}), cut=about.get("cut", 0), blank=blank)


def read_if_current(folder: Path, key: str, file_format: str) -> EmbeddingSet | None:
    """The embeddings in `folder` if they are complete and were made with the same key and format, else None.

    Checks the hashes: a killed run on other clips may have left its vectors with an old provenance.
    """
    try:
        about = read_json(folder / PROVENANCE)
        files = about["files"]
        if about["key"] != key or f"{EMBEDDINGS}.{file_format}" not in files:
            return None
        return read_embedding_set(folder)
    except (OSError, ValueError, KeyError, TypeError):
        return None
