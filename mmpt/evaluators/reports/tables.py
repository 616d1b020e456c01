"""Tables of results with the paper's columns, for a terminal, in Markdown and in CSV."""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmpt.utils.errors import UserError

Results = Mapping[str, Any]
Columns = tuple[tuple[str, str, str], ...]
RETRIEVAL = "retrieval"

# The columns of the paper's table (SignCLIP / FingerCLIP), in its order: direction, metric, heading.
COLUMNS: Columns = (
    ("t2v", "P@1", "P@1"),
    ("t2v", "P@5", "P@5"),
    ("t2v", "P@10", "P@10"),
    ("t2v", "MedianR", "MedR"),
    ("v2t", "R@1", "R@1"),
    ("v2t", "R@5", "R@5"),
    ("v2t", "R@10", "R@10"),
    ("v2t", "MedianR", "MedR"),
)

_PAIRS = (("R@1", "R@1"), ("R@5", "R@5"), ("R@10", "R@10"), ("MedianR", "MedR"), ("MeanR", "MeanR"))
# Of the other protocols; see also compared_by.
_COLUMNS_OF: dict[str, Columns] = {
    "sentences": tuple((side, *column) for side in ("t2v", "v2t") for column in _PAIRS),
    "one-shot": (
        ("v2v", "MRR", "MRR"),
        *(("v2v", metric, heading) for metric, heading in _PAIRS[:3]),
        ("v2v", "DCG", "DCG"),
        ("v2v", "MedianR", "MedR"),
    ),
}
_TITLES = {"t2v": "text to video", "v2t": "video to text", "v2v": "video to video"}


def protocol_of(results: Results) -> str:
    """The protocol of results; those of older versions name none."""
    return str(results.get("protocol", RETRIEVAL))


def columns_of(results: Results) -> Columns:
    """The columns of a table of results: direction, metric, heading."""
    return _COLUMNS_OF.get(protocol_of(results), COLUMNS)


def check_prompts_ranked(protocol: str, what: str) -> None:
    """Raises UserError if results of a protocol lack what tables of retrieval show; what: such a table."""
    if protocol in _COLUMNS_OF:
        raise UserError(
            f"eval.protocol is {protocol}, but {what} shows V2T R@1 and T2V P@1 of prompts: use `signclip "
            "experiment compare` for its finished runs, or another eval.protocol."
        )


def compared_by(results: Results) -> tuple[tuple[str, str], tuple[str, str]]:
    """Direction and metric by which finished runs are compared: R@1 of each clip, and another one."""
    columns = columns_of(results)
    return (columns[-1][0], "R@1"), columns[0][:2]


def directions(results: Results) -> list[str]:
    """The directions that results have metrics of."""
    return [side for side in _TITLES if side in results]


def number(metric: str, value: float | None) -> str:
    """A metric as text: four decimals for a fraction, at most one for a rank, a dash for None."""
    if value is None:
        return "-"
    return f"{value:.4f}" if _is_share(metric) else f"{value:.1f}".removesuffix(".0")


def _is_share(metric: str) -> bool:
    return "@" in metric or metric in ("MRR", "DCG")


def _interval(metric: str, bounds: Sequence[float] | None) -> str:
    if bounds is None:
        return "-"
    if _is_share(metric):
        return f"{bounds[0]:.3f}-{bounds[1]:.3f}"
    return "-".join(number(metric, bound) for bound in bounds)


def name_of(results: Results) -> str:
    """The name of a row: the stem of the config file, else of the checkpoint, else "model"."""
    for key in ("config", "checkpoint"):
        if results.get(key):
            return Path(str(results[key])).stem
    return "model"


def facts(results: Results) -> str:
    """One line with the number of clips and prompts, the similarity, and the kind of intervals."""
    first = {side: metric for side, metric, _ in reversed(columns_of(results))}
    chance = ", ".join(
        f"{side.upper()} {first[side]} {results['chance'][f'{side} {first[side]}']:.4f}"
        for side in directions(results)
    )
    line = (
        f"{results['n_videos']} clips, {results['n_prompts']} prompts, {results['similarity']} similarity; "
        f"chance: {chance}"
    )
    protocol = protocol_of(results)
    if protocol != RETRIEVAL:
        line = f"protocol {protocol}: {line}"
    if results.get("intervals"):
        how = results["bootstrap"]
        over = set(how["over"].values()) if protocol in _COLUMNS_OF else {"queries"}
        line += f"; {how['level']:.0%} intervals: bootstrap over {over.pop()}, {how['resamples']} resamples"
    return line


def _rows(results: Results) -> list[list[str]]:
    """The value, interval and chance rows, each with its name first; again with duplicates as right."""
    columns = columns_of(results)
    rows = []
    for name, of in _parts(results):
        rows.append([name or name_of(results)] + [number(m, of[d].get(m)) for d, m, _ in columns])
        if intervals := of.get("intervals"):
            level = f"{results['bootstrap']['level']:.0%} interval"
            rows.append([level] + [_interval(m, intervals.get(d, {}).get(m)) for d, m, _ in columns])
        rows.append(["chance"] + [number(m, of["chance"].get(f"{d} {m}")) for d, m, _ in columns])
    return rows


def _parts(results: Results) -> list[tuple[str, Results]]:
    """The metrics, and those with duplicates as right if there are duplicates (protocol sentences)."""
    more = [("duplicates right", results["grouped"])] if "grouped" in results else []
    return [("", results), *more]


def format_table(results: Results) -> str:
    """The columns of the protocol for a terminal: values, intervals, chance, and a line of facts."""
    rows, columns = _rows(results), columns_of(results)
    first = max(len(row[0]) for row in rows)
    widths = [max(len(row[i + 1]) for row in rows) for i in range(len(columns))]
    widths = [max(width, len(heading)) for width, (_, _, heading) in zip(widths, columns)]
    titles = []
    for side in dict.fromkeys(d for d, _, _ in columns):
        group = sum(width + 2 for width, column in zip(widths, columns) if column[0] == side) - 2
        titles.append(f"{_TITLES[side]:^{group}}")
    lines = [
        (f"{'':{first}}  " + "  ".join(titles)).rstrip(),
        f"{'':{first}}  " + "  ".join(f"{c[2]:>{w}}" for c, w in zip(columns, widths)),
    ]
    lines += [
        f"{row[0]:{first}}  " + "  ".join(f"{cell:>{w}}" for cell, w in zip(row[1:], widths)) for row in rows
    ]
    warnings = [f"warning: {line}" for line in results.get("warnings", ())]
    return "\n".join([*lines, facts(results), *results.get("notes", ()), *warnings])


def with_interval(value: float, low: float, high: float) -> str:
    """A share with its interval."""
    return f"{value:.3f} ({low:.3f}-{high:.3f})"


def difference(value: float, low: float, high: float) -> str:
    """A difference of shares with its interval."""
    return f"{value:+.3f} ({low:+.3f} to {high:+.3f})"


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, the first column left-aligned, the others right-aligned.

    Cells are escaped: a prompt such as `<en> <ase> house` would be read as HTML.
    """
    lines = [" | ".join(header), " | ".join(["---"] + ["---:"] * (len(header) - 1))]
    lines += [" | ".join(escape_markdown(cell) for cell in row) for row in rows]
    return "\n".join(f"| {line} |" for line in lines)


def escape_markdown(text: str) -> str:
    """A value from a file in one line of Markdown, without markup: no HTML, images or links."""
    return re.sub(r"([\\|<*`]|(?<=!)\[|(?<=\])[\[(:])", r"\\\1", " ".join(text.split()))


def code_span(text: object) -> str:
    """A value as code in one line of Markdown."""
    return f"`{' '.join(str(text).split()).replace('`', chr(39))}`"


def format_markdown(results: Results) -> str:
    """The columns of the protocol as a Markdown table, followed by a line of facts."""
    header = [""] + [f"{d.upper()} {heading}" for d, _, heading in columns_of(results)]
    notes = "".join(f"\n- {escape_markdown(line)}" for line in results.get("notes", ()))
    warnings = "".join(f"\nWarning: {escape_markdown(line)}.\n" for line in results.get("warnings", ()))
    notes = f"{notes}\n" if notes else ""
    return markdown_table(header, _rows(results)) + f"\n\n{facts(results)}.\n{notes}{warnings}"


METRICS_HEADER = ("metric", "value", "interval", "chance")


def metrics_rows(results: Results) -> list[list[str]]:
    """Every metric with interval and chance, one per row of METRICS_HEADER."""
    rows = []
    for which, of in _parts(results):
        for direction in directions(of):
            bounds = (of.get("intervals") or {}).get(direction, {})
            for metric, value in of[direction].items():
                chance = number(metric, of["chance"].get(f"{direction} {metric}"))
                name = f"{direction.upper()} {metric}" + (f", {which}" if which else "")
                rows.append([name, number(metric, value), _interval(metric, bounds.get(metric)), chance])
    return rows


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as CSV with a header line; missing values are empty."""
    file = io.StringIO()
    if rows:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return file.getvalue()
