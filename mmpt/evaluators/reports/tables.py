"""Tables of results with the paper's columns, for a terminal, in Markdown and in CSV."""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Results = Mapping[str, Any]
RETRIEVAL = "retrieval"
"""The protocol of results that name none."""

# The columns of the paper's table (SignCLIP / FingerCLIP), in its order: direction, metric, heading.
COLUMNS = (
    ("t2v", "P@1", "P@1"),
    ("t2v", "P@5", "P@5"),
    ("t2v", "P@10", "P@10"),
    ("t2v", "MedianR", "MedR"),
    ("v2t", "R@1", "R@1"),
    ("v2t", "R@5", "R@5"),
    ("v2t", "R@10", "R@10"),
    ("v2t", "MedianR", "MedR"),
)


def number(metric: str, value: float | None) -> str:
    """A metric as text: four decimals for a fraction, at most one for a rank, a dash for None."""
    if value is None:
        return "-"
    return f"{value:.4f}" if "@" in metric else f"{value:.1f}".removesuffix(".0")


def _interval(metric: str, bounds: Sequence[float] | None) -> str:
    if bounds is None:
        return "-"
    if "@" in metric:
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
    line = (
        f"{results['n_videos']} clips, {results['n_prompts']} prompts, {results['similarity']} similarity; "
        f"chance: T2V P@1 {results['chance']['t2v P@1']:.4f}, V2T R@1 {results['chance']['v2t R@1']:.4f}"
    )
    if results.get("protocol", RETRIEVAL) != RETRIEVAL:
        line = f"protocol {results['protocol']}: {line}"
    if results.get("intervals"):
        how = results["bootstrap"]
        line += f"; {how['level']:.0%} intervals: bootstrap over queries, {how['resamples']} resamples"
    return line


def _rows(results: Results) -> list[list[str]]:
    """The value, interval and chance rows, each with its name first."""
    intervals, chance = results.get("intervals") or {}, results["chance"]
    rows = [[name_of(results)] + [number(m, results[d].get(m)) for d, m, _ in COLUMNS]]
    if intervals:
        level = f"{results['bootstrap']['level']:.0%} interval"
        rows.append([level] + [_interval(m, intervals.get(d, {}).get(m)) for d, m, _ in COLUMNS])
    rows.append(["chance"] + [number(m, chance.get(f"{d} {m}")) for d, m, _ in COLUMNS])
    return rows


def format_table(results: Results) -> str:
    """The paper's columns for a terminal: values, intervals, chance, and a line of facts."""
    rows = _rows(results)
    first = max(len(row[0]) for row in rows)
    widths = [max(len(row[i + 1]) for row in rows) for i in range(len(COLUMNS))]
    widths = [max(width, len(heading)) for width, (_, _, heading) in zip(widths, COLUMNS)]
    half = len(COLUMNS) // 2
    groups = [sum(w + 2 for w in widths[:half]) - 2, sum(w + 2 for w in widths[half:]) - 2]
    lines = [
        f"{'':{first}}  {'text to video':^{groups[0]}}  {'video to text':^{groups[1]}}".rstrip(),
        f"{'':{first}}  " + "  ".join(f"{c[2]:>{w}}" for c, w in zip(COLUMNS, widths)),
    ]
    lines += [
        f"{row[0]:{first}}  " + "  ".join(f"{cell:>{w}}" for cell, w in zip(row[1:], widths)) for row in rows
    ]
    warnings = [f"warning: {line}" for line in results.get("warnings", ())]
    return "\n".join([*lines, facts(results), *warnings])


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
    """The paper's columns as a Markdown table, followed by a line of facts."""
    header = [""] + [f"{d.upper()} {heading}" for d, _, heading in COLUMNS]
    warnings = "".join(f"\nWarning: {escape_markdown(line)}.\n" for line in results.get("warnings", ()))
    return markdown_table(header, _rows(results)) + f"\n\n{facts(results)}.\n{warnings}"


METRICS_HEADER = ("metric", "value", "interval", "chance")


def metrics_rows(results: Results) -> list[list[str]]:
    """Every metric with interval and chance, one per row of METRICS_HEADER."""
    rows = []
    for direction in ("t2v", "v2t"):
        bounds = (results.get("intervals") or {}).get(direction, {})
        for metric, value in results[direction].items():
            name = f"{direction} {metric}"
            chance = number(metric, results["chance"].get(name))
            cells = [direction.upper() + " " + metric, number(metric, value)]
            rows.append([*cells, _interval(metric, bounds.get(metric)), chance])
    return rows


def all_metrics_markdown(results: Results) -> str:
    """The rows of metrics_rows as a Markdown table."""
    return markdown_table(METRICS_HEADER, metrics_rows(results)) + "\n"


def compare_table(
    results: Sequence[Results], published: Mapping[str, Mapping[str, Mapping[str, float]]] | None = None
) -> tuple[str, list[dict[str, Any]]]:
    """Several results in one table, in the order given.

    results: as in results.json. Several seeds of one config are grouped and followed by their mean.
    published: {config name: {"t2v": {...}, "v2t": {...}}}, listed below the results of that config.

    Returns the Markdown table and its rows for CSV: {"config", "protocol", "what" ("measured", "mean" or
    "published"), "seed", "n_videos", "n_prompts", "t2v P@1", ...}; missing numbers are None. Results of other
    protocols than retrieval follow in tables of their own.
    """
    protocols: dict[str, list[Results]] = {RETRIEVAL: []}
    for result in results:
        protocols.setdefault(result.get("protocol", RETRIEVAL), []).append(result)
    texts, rows = [], []
    for protocol, members in protocols.items():
        expected = (published or {}) if protocol == RETRIEVAL else {}
        if not members and not expected:
            continue
        text, part = _table_of(members, expected)
        texts.append(text if protocol == RETRIEVAL else f"Protocol {protocol}:\n\n{text}")
        rows += [{"config": row.pop("config"), "protocol": protocol, **row} for row in part]
    return "\n".join(texts), rows


def _table_of(
    results: Sequence[Results], published: Mapping[str, Mapping[str, Mapping[str, float]]]
) -> tuple[str, list[dict[str, Any]]]:
    """The table of results of one protocol, and its rows."""
    groups: dict[str, list[Results]] = {}
    for result in results:
        groups.setdefault(name_of(result), []).append(result)
    rows: list[dict[str, Any]] = []
    for name in [*groups, *(name for name in published if name not in groups)]:
        members = groups.get(name, [])
        rows += [_row(name, "measured", result) for result in members]
        if len(members) > 1:
            rows.append(_row(name, "mean", _mean(members)))
        if name in published:
            rows.append(_row(name, "published", published[name]))
    header = ["config", "", "seed", "N", "prompts", *(f"{d.upper()} {heading}" for d, _, heading in COLUMNS)]
    cells = [
        [row["config"], row["what"], *(_text(row[key]) for key in ("seed", "n_videos", "n_prompts"))]
        + [number(m, row[f"{d} {m}"]) for d, m, _ in COLUMNS]
        for row in rows
    ]
    return markdown_table(header, cells) + "\n", rows


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as CSV with a header line; missing values are empty."""
    file = io.StringIO()
    if rows:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return file.getvalue()


def _text(value: object) -> str:
    return "" if value is None else str(value)


def _row(name: str, what: str, result: Mapping[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {"config": name, "what": what}
    row |= {key: result.get(key) for key in ("seed", "n_videos", "n_prompts")}
    return row | {f"{d} {m}": result.get(d, {}).get(m) for d, m, _ in COLUMNS}


def _mean(members: Sequence[Results]) -> dict[str, Any]:
    """The mean of each metric, and the counts that are equal in all results."""
    mean: dict[str, Any] = {"seed": f"{len(members)} seeds"}
    for key in ("n_videos", "n_prompts"):
        if len({member[key] for member in members}) == 1:
            mean[key] = members[0][key]
    for direction in ("t2v", "v2t"):
        mean[direction] = {
            metric: sum(member[direction][metric] for member in members) / len(members)
            for metric in members[0][direction]
            if all(metric in member[direction] for member in members)
        }
    return mean
