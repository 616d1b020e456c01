"""Prompts from templates over the columns of a table: `<{spoken_language}> <{signed_language}> {text}`."""

from collections.abc import Mapping, Sequence
from string import Formatter

from mmpt.processors.table_file import Table, TableRow
from mmpt.signwriting import Sign, canonical, read_sign
from mmpt.utils.errors import UserError
from mmpt.utils.text import nfc

KEY = "dataset.prompt_templates"
SIGNS = "signwriting"
"""Column of a table with the sign in SignWriting."""


class PromptTemplates:
    """Templates that make the prompts of each row of a table; the first prompt is the row's class.

    A column `signwriting` holds signs in FSW or SWU, one or several separated by spaces; prompts have them in
    canonical FSW. key: names the templates in errors. Raises UserError for a template with an unknown column.
    """

    def __init__(self, templates: Sequence[str], table: Table, key: str = KEY):
        self._key = key
        if not templates:
            raise UserError(f"{key}: expected at least one template, such as '{{text}}'.")
        self.templates = list(templates)
        self._fields = [_fields(template, key) for template in templates]
        self._table = table
        columns = {*table.columns, "text", "gloss"}
        for template, names in zip(self.templates, self._fields):
            unknown = [name for name in names if name not in columns]
            if unknown:
                raise UserError(
                    f"{key}: {template!r} names the column {unknown[0]!r}, which {table.path} does not "
                    f"have; it has {', '.join(table.columns)}."
                )

    def prompts(self, row: TableRow) -> list[str]:
        """The row's prompt from each template; "" where a template needs a sign that the row does not have.

        Raises UserError if another column of a template is empty, and for an invalid sign.
        """
        values, filled = self._with_signs(row), []
        for template, names in zip(self.templates, self._fields):
            if SIGNS in names and not values[SIGNS]:
                filled.append("")
                continue
            for name in names:
                if not values[name]:
                    raise UserError(
                        f"{self._table.path}, line {row.line}, column {name!r}: it is empty, and the prompt "
                        f"{template!r} needs it."
                    )
            filled.append(nfc(template.format_map(values)))
        return filled

    def _with_signs(self, row: TableRow) -> Mapping[str, str]:
        """The row's values, with its signs in FSW."""
        cell = row.values.get(SIGNS)
        if not cell or not any(SIGNS in names for names in self._fields):
            return row.values
        signs = signs_of_row(self._table, row)
        return {**row.values, SIGNS: " ".join(canonical(sign).fsw for sign in signs)}

    def of_rows(self, rows: Sequence[TableRow]) -> list[list[str]]:
        """`prompts` of each row. Raises UserError if two classes get the same prompt from a template."""
        prompts = [self.prompts(row) for row in rows]
        for number in range(1, len(self.templates)):
            if SIGNS in self._fields[number]:  # signs may be equal: each is a label of its own
                continue
            owner: dict[str, tuple[str, int]] = {}
            for row, texts in zip(rows, prompts):
                label, line = owner.setdefault(texts[number], (texts[0], row.line))
                if label != texts[0]:
                    raise UserError(
                        f"{self._key}: {self.templates[number]!r} gives the same prompt, {texts[number]!r}, "
                        f"to the classes {label!r} ({self._table.path}, line {line}) and {texts[0]!r} (line "
                        f"{row.line}): each template must keep the classes of the first apart."
                    )
        return prompts


def signs_of_row(table: Table, row: TableRow) -> list[Sign]:
    """The signs of a row, as they are in the table. Raises UserError that names the cell."""
    try:
        return [read_sign(word) for word in row.values.get(SIGNS, "").split()]
    except UserError as error:
        raise UserError(f"{table.path}, line {row.line}, column {SIGNS!r}: {error}") from error


def check_weights(
    weights: Sequence[float] | None, count: int, key: str = "dataset.prompt_weights"
) -> list[float]:
    """The weights of `count` templates, normalised to sum 1; None: equal weights. Raises UserError."""
    given = [1.0] * count if weights is None else list(weights)
    if len(given) != count or min(given) < 0 or not sum(given):
        raise UserError(
            f"{key}: expected a weight >= 0 for each of the {count} prompt_templates, "
            f"not all 0, got {weights}."
        )
    return [weight / sum(given) for weight in given]


def _fields(template: str, key: str) -> list[str]:
    """The columns that a template names. Raises UserError if it is invalid or names none."""
    try:
        parts = list(Formatter().parse(template))
    except ValueError as error:
        raise UserError(f"{key}: {template!r}: {error}.") from error
    names = []
    for _, name, spec, conversion in parts:
        if name is None:
            continue
        if not name.isidentifier() or spec or conversion:
            raise UserError(f"{key}: {template!r}: expected only column names in braces, such as {{text}}.")
        names.append(name)
    if not names:
        raise UserError(f"{key}: {template!r} names no column: all prompts would be the same.")
    return names
