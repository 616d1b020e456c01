"""What to search for, from a file of texts or an index."""

import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mmpt.embedding.embedder import SignCLIP
from mmpt.processors.table_file import read_table
from mmpt.processors.templates import PromptTemplates
from mmpt.search import Index
from mmpt.spotting.scores import Targets
from mmpt.utils.errors import UserError
from mmpt.utils.logging import some_of
from mmpt.utils.text import counted, nfc, read_lines

log = logging.getLogger(__name__)


def targets_of_file(model: SignCLIP, path: Path, template: str | None = None) -> Targets:
    """The texts of a .txt file, one a line, or of the column `text` of a table, each once.

    template: that of the prompts, such as "Fingerspell the letter {text}." (default: for lines the line
    itself, for a table the model's). Raises UserError for a file without texts or an invalid template.
    """
    if path.suffix.lower() == ".txt":
        lines = [line for line in read_lines(path) if line]
        labels = list(dict.fromkeys(lines))
        if len(labels) < len(lines):
            log.warning("%s: %d of %d lines repeat another one", path, len(lines) - len(labels), len(lines))
        if template is not None and "{text}" not in template:
            raise UserError(f"--prompt {template!r}: expected {{text}} in it, where the text goes.")
        pairs = [(label, (template or "{text}").replace("{text}", label)) for label in labels]
    else:
        table = read_table(path)
        prompts = PromptTemplates([template or model.table_templates[0]], table, "--prompt").of_rows(
            table.rows
        )
        pairs = list(dict.fromkeys((row.text, made[0]) for row, made in zip(table.rows, prompts)))
        if without := [label for label, prompt in pairs if not prompt]:
            log.warning(
                "%s: %s no sign, hence no prompt: %s",
                *(path, counted(len(without), "text has", "texts have"), some_of(without)),
            )
        pairs = [(label, prompt) for label, prompt in pairs if prompt]
    if not pairs:
        raise UserError(f"{path}: there is no text to search for.")
    return Targets.of_texts(model, [prompt for _, prompt in pairs], [label for label, _ in pairs])


def targets_of_index(model: SignCLIP, folder: Path, table: Path | None = None) -> Targets:
    """The entries of an index of example clips or prompts; entries of one name are one target.

    table: gives each entry, whose name is the id of a row, the text of that row. Entries without the hand
    that the model reads are left out, with a warning. Raises UserError for an index of another model.
    """
    index = Index(folder)
    index.check_model(model.fingerprint, "the model")
    if index.dim != model.dim:
        raise UserError(
            f"the vectors of the index {folder} have dimension {index.dim}, those of the model "
            f"{model.dim}: they come from different models."
        )
    names = [index.name(row) for row in range(len(index))]
    if table is not None:
        texts: Mapping[str, str] = {row.id: row.text for row in read_table(table).rows}
        if missing := [name for name in names if name not in texts]:
            raise UserError(
                f"{table} has no row for {len(missing)} of {len(names)} entries of {folder}: "
                f"{some_of(missing)}."
            )
        names = [texts[name] for name in names]
    rows = [row for row in range(len(index)) if row not in index.blank]
    if len(rows) < len(index):
        blank = sorted(index.blank)
        log.warning("%s; they are left out", index.blank_warning(blank, len(index), "examples"))
    if not rows:
        raise UserError(f"{folder}: there is no example to search for.")
    return Targets.of([nfc(names[row]) for row in rows], np.array(index.vectors[rows]), index.measure)
