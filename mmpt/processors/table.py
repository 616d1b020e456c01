"""A corpus that is a table: one row per clip, prompts by templates over its columns.

See mmpt/processors/table_file.py for the columns, docs/your_data.md for a walkthrough.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from mmpt.config.schema import DatasetConfig
from mmpt.extractors.base import VIDEO_SUFFIXES
from mmpt.processors.example import Example, MetaProcessor
from mmpt.processors.registry import META_PROCESSORS
from mmpt.processors.table_file import Table, TableRow, read_table
from mmpt.processors.templates import PromptTemplates, check_weights
from mmpt.utils.errors import MissingDataError, UserError


@META_PROCESSORS.register("TableMetaProcessor")
class TableMetaProcessor(MetaProcessor):
    """The rows of one split. A clip's class is its prompt by the first template.

    rows: rows of `table`. files: each row's file (see clip_file). prompt_templates, prompt_weights: training
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
            )
            for row, file, texts in zip(rows, files, prompts)
        ]

    @classmethod
    def from_config(cls, config: DatasetConfig, split: str, suffix: str) -> "TableMetaProcessor":
        """See MetaProcessor."""
        if config.table_path is None:
            raise UserError("dataset.table_path is not set: TableMetaProcessor needs a table of clips.")
        table = read_table(config.table_path)
        rows = table.of_split(split)
        files = [clip_file(table, row, suffix, config.vfeat_dir) for row in rows]
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
        return super().describe() + (f": {groups}{more}" if groups else "")


def clip_file(table: Table, row: TableRow, suffix: str, folder: str | Path | None = None) -> Path:
    """The file of a row's clip.

    folder: its features, as `mmpt.cli.extract` writes them: the same relative path with `suffix`. None: the
    row's path. Raises UserError, naming line and column, for a file with another suffix.
    """
    path = row.path
    if folder is not None:
        path = file_in(folder, row, suffix)
    if path.suffix.lower() == suffix:
        return path
    where = f"{table.path}, line {row.line}, column 'path': {row.values['path']!r}"
    if path.suffix.lower() in VIDEO_SUFFIXES:
        kind = "pose" if suffix == ".pose" else "s3d"
        raise UserError(
            f"{where} is a video; extract first: `python -m mmpt.cli.extract {kind} --in {table.path.parent} "
            f"--out FOLDER`, then set dataset.vfeat_dir=FOLDER (--vfeat-dir FOLDER of the commands)."
        )
    raise UserError(f"{where}: expected a {suffix} file, as dataset.video_processor reads, or a video.")


def file_in(folder: str | Path, row: TableRow, suffix: str) -> Path:
    """The row's path in another folder, with `suffix` instead of that of a video, pose or array.

    To a name without such a suffix it is added (sign.1 -> sign.1.pose).
    """
    path = Path(folder) / row.values["path"]
    known = path.suffix.lower() in {*VIDEO_SUFFIXES, ".pose", ".npy"}
    return path.with_suffix(suffix) if known else Path(f"{path}{suffix}")
