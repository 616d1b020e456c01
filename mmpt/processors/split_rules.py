"""Who signs in a recording, and in which split it is: by a list, by its name, or by a hash."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmpt.processors.table_file import SPLIT_NAMES
from mmpt.processors.table_writer import read_csv, split_by
from mmpt.utils.errors import UserError
from mmpt.utils.logging import some_of
from mmpt.utils.text import counted
from mmpt.utils.videos import CLIP_SUFFIXES


def listed(file: Path, column: str, names: Iterable[str]) -> dict[str, str]:
    """Name of a recording -> its cell in a column of a CSV file with the columns `recording` and `column`.

    A recording is named by its path in the folder, with or without its suffix. Raises UserError for a
    recording that is not listed, or twice with different cells.
    """
    cells: dict[str, str] = {}
    for row in read_csv(file, ("recording", column)):
        path, cell = Path(row["recording"].strip()), row[column].strip()
        name = (path.with_suffix("") if path.suffix.lower() in CLIP_SUFFIXES else path).as_posix()
        if cells.setdefault(name, cell) != cell:
            raise UserError(f"{file}: {name} is listed with {cells[name]!r} and {cell!r} as its {column}.")
    if missing := [name for name in names if name not in cells]:
        raise UserError(
            f"{file}: {counted(len(missing), 'recording is', 'recordings are')} not listed: "
            f"{some_of(missing)}."
        )
    return {name: cells[name] for name in names}


def signers(rule: str, names: Sequence[str]) -> dict[str, str]:
    """Name of a recording -> its signer.

    rule: a CSV file with the columns recording and signer, or a regular expression, which is searched in the
    name: its first group, or all of it, is the signer. Raises UserError for a recording without a signer.
    """
    if rule.lower().endswith(".csv"):
        return listed(Path(rule), "signer", names)
    try:
        pattern = re.compile(rule)
    except re.error as error:
        raise UserError(f"--signer {rule!r} is no regular expression ({error}).") from error
    matches = {name: pattern.search(name) for name in names}
    found = {name: match[1 if pattern.groups else 0] or "" for name, match in matches.items() if match}
    if missing := [name for name in names if not found.get(name)]:
        raise UserError(
            f"--signer {rule!r} finds no signer in the names of {len(missing)} of {len(names)} recordings: "
            f"{some_of(missing)}."
        )
    return found


@dataclass(frozen=True)
class SplitRule:
    """How recordings are assigned to splits; never one to two.

    file: CSV with the columns recording and split. Else by a hash of the seed and the name: shares: of train,
    valid and test, in percent. by: "recording" or "signer". options: those of the command line that gave it.
    """

    shares: tuple[float, float, float] = (80, 10, 10)
    by: str = "recording"
    seed: int = 0
    file: Path | None = None
    options: tuple[str, ...] = ()

    def assign(self, signers_of: Mapping[str, Collection[str]]) -> dict[str, str]:
        """Name of a recording -> train, valid or test. signers_of: its name -> its signers.

        By signer, recordings that share a signer are in one split. Raises UserError.
        """
        if self.file is not None:
            cells = listed(self.file, "split", list(signers_of))
            for name, cell in cells.items():
                if cell.lower() not in SPLIT_NAMES:
                    raise UserError(
                        f"{self.file}: {name} has the split {cell!r}; expected {', '.join(SPLIT_NAMES)}."
                    )
            return {name: SPLIT_NAMES[cell.lower()] for name, cell in cells.items()}
        groups = {name: name for name in signers_of}
        if self.by == "signer":
            if missing := [name for name, those in signers_of.items() if not all(those) or not those]:
                raise UserError(
                    f"the signers of {counted(len(missing), 'recording')} are not known "
                    f"({some_of(missing)}): give --signer, or --split-by recording."
                )
            groups = _joined(signers_of)
        splits = split_by(groups.values(), (self.shares[2] / 100, self.shares[1] / 100), self.seed)
        return {name: splits[group] for name, group in groups.items()}


def _joined(signers_of: Mapping[str, Collection[str]]) -> dict[str, str]:
    """Name of a recording -> a group, the same for recordings that share a signer, also through others."""
    parents: dict[str, str] = {}

    def root(signer: str) -> str:
        while parents.setdefault(signer, signer) != signer:
            signer = parents[signer]
        return signer

    for those in signers_of.values():
        first, *others = sorted(those)
        for other in others:
            parents[max(root(first), root(other))] = min(root(first), root(other))
    return {name: root(min(those)) for name, those in signers_of.items()}


def parse_shares(text: str) -> tuple[float, float, float]:
    """80/10/10 -> the shares of train, valid and test. Raises UserError."""
    try:
        shares = tuple(float(part) for part in text.split("/"))
    except ValueError:
        shares = ()
    if len(shares) != 3 or not all(0 <= share <= 100 for share in shares) or abs(sum(shares) - 100) > 1e-6:
        raise UserError(
            f"--split {text}: expected the shares of train, valid and test, such as 80/10/10, of sum 100."
        )
    return shares[0], shares[1], shares[2]
