"""Writing tables of clips; used by the importers of published corpora."""

import csv
import dataclasses
import hashlib
import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from mmpt.processors.table_file import Table, read_table
from mmpt.processors.table_lines import csv_rows
from mmpt.timed_text.caption import Findings
from mmpt.utils.cells import header_hint
from mmpt.utils.errors import UserError
from mmpt.utils.files import files_under
from mmpt.utils.logging import some_of
from mmpt.utils.outputs import OutputKind, replace_output

log = logging.getLogger(__name__)


def write_clips(out: Path, rows: Iterable[Mapping[str, str]], findings: Findings | None = None) -> Table:
    """Write the clips of a corpus to OUT/table.csv.

    Left out, and counted in warnings: clips without text, repeated rows, and clips whose file is missing.
    Other clips with the id of an earlier one get numbers, and are counted. Raises UserError for a clip in two
    splits, if no file exists, and as `write_table`.
    """
    findings = findings or Findings()
    kept: dict[tuple[str, ...], Mapping[str, str]] = {}
    splits: dict[tuple[str, str], dict[str, None]] = {}
    for row in rows:
        if not row["text"].strip():
            findings.add("clips without text, left out", row["id"])
            continue
        if (cells := tuple(row.values())) in kept:
            findings.add("repeated rows (same clip, text and split), left out", row["id"])
            continue
        kept[cells] = row
        splits.setdefault((row["id"], row["path"]), {})[row["split"]] = None
    if shared := [f"{name} is in {' and in '.join(s)}" for (name, _), s in splits.items() if len(s) > 1]:
        more = f" (and {len(shared) - 1} more)" if len(shared) > 1 else ""
        raise UserError(f"{shared[0]}{more}: correct the annotations, so that a clip is in one split.")
    names = unique_ids(row["id"] for row in kept.values())
    clips = [{**row, "id": name} for row, name in zip(kept.values(), names)]
    again = [name for row, name in zip(kept.values(), names) if name != row["id"]]
    findings.add("clips with the id of an earlier one, numbered", some_of(again, 3), len(again))
    findings.warn()
    return write_table(out / "table.csv", _existing(clips, out))


def write_table(path: Path, rows: Sequence[Mapping[str, str]]) -> Table:
    """Write rows with equal columns as CSV, and check the table by reading it back.

    A table there is replaced if it was written by this function and not changed since. Raises UserError for
    another one, and for an invalid table, which is not written.
    """
    if not rows:
        raise UserError(f"{path}: there are no clips to write.")
    kind = OutputKind("a table", "signclip-table", f".{path.stem}.files.json", (path.name,))
    with replace_output(path.parent, kind) as folder:
        temporary = folder / path.name
        with open(temporary, "w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            try:
                writer.writerows(rows)
            except UnicodeEncodeError as error:
                wrong = error.object[max(0, error.start - 40) : error.end + 40].strip()
                raise UserError(f"{path} (not written): {wrong!r} is not valid Unicode text.") from None
        try:
            table = dataclasses.replace(read_table(temporary), path=path)
        except UserError as error:
            raise UserError(str(error).replace(str(temporary), f"{path} (not written)")) from None
    if "split" in table.columns:
        counts = Counter(row.split for row in table.rows)
        log.info("%s: %s", path, ", ".join(f"{split} {counts[split]}" for split in sorted(counts)))
    return table


def csv_lines(path: Path, separator: str = ",") -> list[list[str]]:
    """The cells of each line of a CSV file; the first line holds the column names.

    Raises UserError if the file is missing or truncated, or if a quoted cell holds the end of a row.
    """
    if not path.is_file():
        raise UserError(f"there is no file {path}: see --help for what it should hold.")
    lines: list[list[str]] = []
    for number, cells in csv_rows(path, separator):
        if lines and len(cells) != len(lines[0]):
            raise UserError(
                f"{path}, line {number}: expected {len(lines[0])} cells, as in the first "
                f"line, got {len(cells)}; is the file truncated?"
            )
        if spanning := [cell for cell in cells if "\n" in cell and separator in cell]:
            raise UserError(
                f"{path}, line {number}: a cell that starts with {spanning[0][:20]!r} spans the next rows: "
                "its quote is not closed."
            )
        lines.append(cells)
    return lines


def read_csv(path: Path, columns: Iterable[str], separator: str = ",") -> list[dict[str, str]]:
    """The rows of a CSV file with these columns. Raises UserError for a missing or repeated one."""
    header, *lines = csv_lines(path, separator) or [[]]
    if repeated := [name for name in columns if header.count(name) > 1]:
        raise UserError(f"{path}: there are two columns {repeated[0]!r}: remove or rename one.")
    missing = [name for name in columns if name not in header]
    if missing:
        hint = header_hint(header, missing, separator)
        raise UserError(f"{path}: expected the columns {', '.join(missing)}, got {header}.{hint}")
    return [dict(zip(header, cells)) for cells in lines]


def unique_ids(names: Iterable[str]) -> list[str]:
    """Make names unique: append -2, -3, ... to repeated names, unless that is taken."""
    names = list(names)
    taken = set(names)
    seen: Counter[str] = Counter()
    ids = []
    for name in names:
        seen[name] += 1
        unique = name
        if seen[name] > 1:
            while (unique := f"{name}-{seen[name]}") in taken:
                seen[name] += 1
            taken.add(unique)
        ids.append(unique)
    return ids


def split_by(keys: Iterable[str], shares: tuple[float, float] = (0.1, 0.1), seed: int = 0) -> dict[str, str]:
    """Assign a split to each key (a signer, a class and its number), for corpora that publish no splits.

    Keys are ordered by a hash of the seed and their name, so the split is reproducible; the first `shares` of
    them are test and valid, at least one each if there are three or more and the share is not 0.
    """
    prefix = f"{seed}:" if seed else ""
    ordered = sorted(set(keys), key=lambda key: hashlib.sha256(f"{prefix}{key}".encode()).hexdigest())
    test, valid = (
        max(1 if len(ordered) >= 3 and share else 0, round(share * len(ordered))) for share in shares
    )
    names = ["test"] * test + ["valid"] * valid
    return {key: names[n] if n < len(names) else "train" for n, key in enumerate(ordered)}


def files_by_name(folder: Path) -> dict[str, Path]:
    """Name without suffix -> file, of all .pose files under a folder.

    Raises UserError for a missing folder, and for two files of one name.
    """
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}: see --help for what it should hold.")
    found: dict[str, Path] = {}
    for path in files_under(folder, skip=folder):
        if path.suffix.lower() == ".pose" and found.setdefault(path.stem, path) != path:
            raise UserError(f"{found[path.stem]} and {path} have the same name: keep one of them.")
    return found


def _existing(rows: Sequence[Mapping[str, str]], folder: Path) -> list[Mapping[str, str]]:
    """The rows whose file exists; warns of the others. Raises UserError if no file exists."""
    if not rows:
        return []
    folder.mkdir(parents=True, exist_ok=True)  # paths with .. need the folder to exist
    kept = [row for row in rows if (folder / row["path"]).is_file()]
    if not kept:
        raise UserError(f"none of {len(rows)} clips exists; the first would be {folder / rows[0]['path']}.")
    if len(kept) < len(rows):
        log.warning("%d of %d clips have no file and are skipped", len(rows) - len(kept), len(rows))
    return kept
