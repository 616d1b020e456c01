"""Read named embeddings, as written by `signclip evaluate` and `embed`."""

import csv
import io
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from mmpt.utils import arrays
from mmpt.utils.errors import MissingDataError, UserError
from mmpt.utils.files import read_json, read_text
from mmpt.utils.output_kinds import EMBEDDINGS, EVALUATION
from mmpt.utils.outputs import check_files

_EXPECTED = "expected one vector a row, numbers [N, D]"
SIDES = {"video": ("video_embeddings.npy", "videos"), "text": ("text_embeddings.npy", "prompts")}


@dataclass
class Embeddings:
    """Vectors [N, D] (memory-mapped), their names, and the model they come from, if known."""

    vectors: NDArray
    names: list[str]
    model: str | None = None
    """Fingerprint of the model that made them (mmpt.models.fingerprint)."""
    similarity: str | None = None
    """The similarity that the model is evaluated with, cosine or dot."""
    blank: list[int] = field(default_factory=list)
    """Rows whose clips show no hand (or other landmarks) that the model reads."""


def read_embeddings(
    source: str | os.PathLike[str], side: str = "video", ids: str | None = None
) -> Embeddings:
    """Read embeddings with their names, from a folder or a .npy file.

    source: a folder of an evaluation (`side`: "video" or "text"), a folder with `embeddings.npy` and
    `ids.json` or `ids.csv` (of `signclip embed`), or a .npy file. ids: the file of names; default: the one
    beside the vectors. ids.json is a list of names, or an object with the list as "ids", "videos" or
    "prompts"; ids.csv has one row per vector with a column id, and windows get their milliseconds appended.
    Raises MissingDataError, and UserError if the files do not match.
    """
    path = Path(source)
    if not path.exists():
        raise MissingDataError(f"{path}: there is no such file or folder of embeddings.")
    array = path
    key = next((key for name, key in SIDES.values() if name == path.name), "ids")
    if path.is_dir():
        array = path / "embeddings.npy"
        if (path / SIDES[side][0]).is_file() or not array.is_file():
            array, key = path / SIDES[side][0], SIDES[side][1]
        if not array.is_file() and (path / "embeddings.parquet").is_file():
            raise UserError(
                f"{path} holds embeddings.parquet, which search does not read: embed with --format npy."
            )
        if not array.is_file():
            raise MissingDataError(
                f"{path} holds neither {SIDES[side][0]}, which evaluation writes, nor embeddings.npy: "
                "evaluate first (signclip evaluate), or name the .npy file itself."
            )
    names_file = array.parent / "ids.json"
    if ids is not None:
        names_file = Path(ids)
    elif not names_file.is_file() and (array.parent / "ids.csv").is_file():
        names_file = array.parent / "ids.csv"
    files = [array.name] if ids else [array.name, names_file.name]
    for kind in (EMBEDDINGS, EVALUATION):
        check_files(array.parent, kind, files)
    vectors = open_array(array)
    names = _names(names_file, key)
    if len(names) != len(vectors):
        raise UserError(f"{names_file} has {len(names)} names, {array} {len(vectors)} vectors.")
    model, blank = origin_of(array, len(vectors))
    return Embeddings(vectors, names, model, _text_of(_record(array), "similarity"), blank)


def open_array(path: Path) -> NDArray:
    """A .npy file of vectors [N, D], mapped. Raises UserError if it is something else."""
    array = arrays.open_array(path, _EXPECTED)
    if array.ndim != 2 or not array.shape[1]:
        raise UserError(f"{path}: it holds {array.dtype} of shape {list(array.shape)}; {_EXPECTED}.")
    return array


def _names(path: Path, key: str) -> list[str]:
    if path.suffix.lower() == ".csv":
        return _names_of_rows(path)
    tree = _json(path)
    if isinstance(tree, dict):
        tree = next((tree[name] for name in (key, "ids", "videos") if name in tree), None)
    if not isinstance(tree, list):
        raise UserError(f'{path}: expected a list of names, or an object with such a list as "{key}".')
    for row, name in enumerate(tree):
        if not isinstance(name, str) and type(name) is not int:
            raise UserError(f"{path}: the name of row {row} is {name!r}; expected a text or a whole number.")
    return [str(name) for name in tree]


def _names_of_rows(path: Path) -> list[str]:
    try:
        rows = list(csv.DictReader(io.StringIO(read_text(path), newline=""), strict=True))
        for number, row in enumerate(rows):
            if None in row or None in row.values():
                raise UserError(f"{path}: row {number} has more or fewer cells than the header.")
        return [
            f"{row['id']} {row['start_ms']}-{row['end_ms']} ms" if row.get("start_ms") else row["id"]
            for row in rows
        ]
    except FileNotFoundError as error:
        raise MissingDataError(f"{path}: there is no such file; it must hold one name per vector.") from error
    except UserError:
        raise
    except (OSError, ValueError, KeyError, csv.Error) as error:
        raise UserError(f"{path}: not readable as a table with a column id ({error!r}).") from error


def _record(array: Path) -> dict[str, Any]:
    """What provenance.json or results.json beside a .npy file says of it; {} if there is neither."""
    of_evaluation = array.name in [name for name, _ in SIDES.values()]
    for name in ("results.json",) if of_evaluation else ("provenance.json", "results.json"):
        if (path := array.with_name(name)).is_file():
            tree = _json(path)
            return tree if isinstance(tree, dict) else {}
    return {}


def _text_of(record: dict[str, Any], key: str) -> str | None:
    value = record.get(key)
    return value if isinstance(value, str) else None


def _blank_rows(array: Path, record: dict[str, Any]) -> list[int]:
    """Rows of the blank vectors: provenance.json has rows, results.json the names of clips."""
    blank = record.get("blank")
    if isinstance(blank, dict):
        rows = blank.get("rows")
        return [row for row in rows if type(row) is int] if isinstance(rows, list) else []
    if not isinstance(blank, list) or array.name != SIDES["video"][0] or not blank:
        return []
    names = _names(array.with_name("ids.json"), SIDES["video"][1])
    clips = {name for name in blank if isinstance(name, str)}
    return [row for row, name in enumerate(names) if name in clips]


def _json(path: Path) -> Any:
    try:
        return read_json(path)
    except FileNotFoundError as error:
        raise MissingDataError(f"{path}: there is no such file; it must hold one name per vector.") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not readable as JSON ({error}).") from error


def same_model(one: str, other: str) -> bool:
    """Whether two fingerprints (mmpt.models.fingerprint) can be of one model.

    Those of older versions have no part for settings and tokenizer: then only the weights are compared.
    """
    parts = list(zip(one.split("-"), other.split("-")))
    return all(first == second for first, second in parts)


def origin_of(array: Path, count: int) -> tuple[str | None, list[int]]:
    """Fingerprint of the model of a .npy file of `count` vectors, if it is recorded, and its blank rows."""
    record = _record(array)
    model = _text_of(record, "model_fingerprint") or _text_of(record, "model")
    return model, [row for row in _blank_rows(array, record) if 0 <= row < count]
