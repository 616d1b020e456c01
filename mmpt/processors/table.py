"""A corpus that is a table: one row per clip, prompts by templates over its columns.

See mmpt/processors/table_file.py for the columns, docs/your_data.md for a walkthrough.
"""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from mmpt.config.schema import DatasetConfig
from mmpt.processors.example import META_PROCESSORS, Example, MetaProcessor
from mmpt.processors.table_file import Table, TableRow, read_table
from mmpt.processors.templates import PromptTemplates, check_weights
from mmpt.utils.errors import MissingDataError, UserError
from mmpt.utils.logging import some_of
from mmpt.utils.text import counted
from mmpt.utils.videos import CLIP_SUFFIXES, how_to_extract, is_video


@META_PROCESSORS.register("TableMetaProcessor")
class TableMetaProcessor(MetaProcessor):
    """The rows of one split. A clip's class is its prompt by the first template.

    rows: rows of `table`. files: each row's file (see clip_files). prompt_templates, prompt_weights: training
    draws a template for each clip in each epoch; evaluation uses the first.
    """

    def __init__(
        self,
        table: Table,
        rows: Sequence[TableRow],
        files: Sequence[Path],
        prompt_templates: Sequence[str],
        prompt_weights: Sequence[float] | None = None,
    ):
        self.table = table
        prompts = PromptTemplates(prompt_templates, table).of_rows(rows)
        self.prompt_weights = check_weights(prompt_weights, len(prompt_templates))
        self.examples = [
            Example(
                row.id,
                texts[0],
                file,
                row.left_handed,
                row.signer or row.signed_language,
                row.span,
                tuple(texts[1:]),
                row.signer,
                row.signed_language,
            )
            for row, file, texts in zip(rows, files, prompts)
            if texts[0]
        ]
        self.without_sign = [row.id for row, texts in zip(rows, prompts) if not texts[0]]
        if rows and not self.examples:
            raise UserError(
                f"{table.path}: no clip of the split has a sign in column 'signwriting', which the prompt "
                f"{prompt_templates[0]!r} needs."
            )

    @classmethod
    def from_config(cls, config: DatasetConfig, split: str, suffix: str) -> "TableMetaProcessor":
        """See MetaProcessor."""
        if config.table_path is None:
            raise UserError("dataset.table_path is not set: TableMetaProcessor needs a table of clips.")
        table = read_table(config.table_path)
        rows = table.of_split(split)
        files = clip_files(table, rows, suffix, config.vfeat_dir)
        missing = [n for n, file in enumerate(files) if not file.is_file()]
        if missing and (config.on_bad_example == "error" or len(missing) == len(files)):
            first = missing[0]
            raise MissingDataError(
                f"{table.path}, line {rows[first].line}, column 'path': there is no file {files[first]} "
                f"({len(missing)} of {len(rows)} clips of {split} are missing). Paths are relative to the "
                "table, or to dataset.vfeat_dir where that is set; dataset.on_bad_example=skip skips "
                "such clips."
            )
        return cls(table, rows, files, config.prompt_templates, config.prompt_weights)

    def describe(self) -> str:
        """See MetaProcessor; with the clips of each group."""
        counts = Counter(example.group for example in self.examples if example.group)
        groups = " ".join(f"{name}:{count}" for name, count in sorted(counts.items())[:20])
        more = f" and {len(counts) - 20} more" if len(counts) > 20 else ""
        line = super().describe() + (f": {groups}{more}" if groups else "")
        if self.without_sign:
            left_out = counted(len(self.without_sign), "clip")
            line += f"; {left_out} without SignWriting left out: {some_of(self.without_sign)}"
        without = sum("" in example.other_texts for example in self.examples)
        return line + (f"; {counted(without, 'clip has', 'clips have')} no SignWriting" if without else "")


def clip_files(
    table: Table, rows: Sequence[TableRow], suffix: str, folder: str | Path | None = None
) -> list[Path]:
    """The file of each row's clip, whether it exists or not.

    folder: that of the features (dataset.vfeat_dir; see places_in), or None to take each row's path. Raises
    UserError for a file with another suffix and for two clips with the same file of features, and
    MissingDataError if no row has one in `folder`.
    """
    if folder is None:
        for row in rows:
            _check_suffix(table, row, suffix)
        return [row.path for row in rows]
    files: list[Path] = []
    owners: dict[Path, TableRow] = {}
    found = False
    for row in rows:
        places = places_in(folder, row, suffix)
        if places[0].suffix.lower() != suffix:  # a path without a name
            _check_suffix(table, row, suffix)
        file = next((place for place in places if place.is_file()), None)
        found = found or file is not None
        files.append(file or places[0])
        owner = owners.setdefault(files[-1], row)
        if os.path.normpath(owner.path) != os.path.normpath(row.path):
            raise UserError(
                f"{table.path}: the clips of line {owner.line} ({owner.values['path']}) and line {row.line} "
                f"({row.values['path']}) would both be read from {files[-1]}: extract them from the folder "
                "that the paths are relative to."
            )
    if rows and not found:
        raise MissingDataError(
            f"{table.path}: none of the {len(rows)} clips is in the folder of features {folder}; for line "
            f"{rows[0].line}, looked for {', '.join(map(str, places_in(folder, rows[0], suffix)))}: give the "
            "folder that `extract --out` wrote (dataset.vfeat_dir, --vfeat-dir)."
        )
    return files


def _check_suffix(table: Table, row: TableRow, suffix: str) -> None:
    """Raises UserError, naming line and column, for a file with another suffix."""
    if row.path.suffix.lower() == suffix:
        return
    where = f"{table.path}, line {row.line}, column 'path': {row.values['path']!r}"
    if is_video(row.path):
        raise UserError(
            f"{where} is a video; {how_to_extract(table.path.parent, suffix)}, then set "
            "dataset.vfeat_dir=FOLDER (--vfeat-dir FOLDER of the commands)."
        )
    raise UserError(f"{where}: expected a {suffix} file, which dataset.video_processor reads, or a video.")


def places_in(folder: str | Path, row: TableRow, suffix: str) -> list[Path]:
    """Where `extract --in ANY_FOLDER_ABOVE --out folder` writes the row's features, the longest path first.

    The suffix of a video, pose or array is replaced; to a name without one it is added (sign.1 ->
    sign.1.pose).
    """
    listed = Path(row.values["path"])
    known = listed.suffix.lower() in CLIP_SUFFIXES
    renamed = listed.with_suffix(suffix) if known else Path(f"{listed}{suffix}")
    parts = renamed.parts[1:] if renamed.is_absolute() else renamed.parts
    return [Path(folder, *parts[start:]) for start in range(len(parts))]
