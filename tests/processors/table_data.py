"""A small table of real poses: six letters of the embedded lexicon in four sign languages."""

import csv
from pathlib import Path

from mmpt.processors.fingerspelling import find_lexicon, read_index

SPLITS = {"svk": "train", "swl": "train", "asq": "valid", "gsg": "test"}


def table_rows(letters: str = "ABCDEF", splits: dict[str, str] | None = None) -> list[dict[str, str]]:
    """Rows with absolute paths; the signers are the sign languages'."""
    splits = splits or SPLITS
    wanted = [row for row in read_index(find_lexicon(None)) if row.language in splits]
    return [
        {
            "id": f"{row.language}-{row.letter}",
            "path": str(row.path),
            "text": row.letter,
            "split": splits[row.language],
            "signed_language": row.language,
            "spoken_language": "en",
            "signer": f"{row.language}1",
        }
        for row in wanted
        if row.letter in set(letters)
    ]


def write_table(path: Path, rows: list[dict[str, str]]) -> Path:
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path
