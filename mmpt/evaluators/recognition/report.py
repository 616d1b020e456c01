"""Write the outcomes of recognition protocols as JSON, Markdown, CSV and figures."""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mmpt.evaluators.metrics.ranks import ABSENT
from mmpt.evaluators.recognition.outcome import Outcome, Split
from mmpt.evaluators.reports.tables import code_span, csv_text, escape_markdown, markdown_table
from mmpt.evaluators.reports.view import REPORT, Answers, ShownClip, make_view
from mmpt.page.report import report_html
from mmpt.utils.files import write_json, write_text
from mmpt.utils.output_kinds import PROTOCOL_REPORT
from mmpt.utils.outputs import replace_output

COLUMNS = ("R@1", "R@5", "R@10", "P@1", "MRR", "DCG", "MedianR")
_MEAN_RANK = "MeanR"
"""A column if a protocol reports it."""
_HEADER = ("protocol", "setting", "N", "classes", "coverage")
_LISTED = 100
_MAP, _PICTURES = "map.png", ("confusions.png", "per_class.png")


def save_recognition(
    folder: Path,
    about: dict[str, Any],
    outcomes: Sequence[Outcome],
    queries: Split,
    pictures: bool = True,
    force: bool = False,
    clips: Sequence[ShownClip] = (),
) -> list[Path]:
    """Write a report into `folder` and return its files. An earlier report of the same is replaced.

    The files are protocols.json, .md and .csv, per_class.csv, per_signer.csv, predictions.csv, report.html
    and figures. about: facts about model, table and split; its "warnings" are printed first. force: see
    replace_output. clips: the files of the queries, whose poses report.html shows.
    """
    by_clips = [outcome for outcome in outcomes if outcome.predicted is not None]
    classes, signers = _breakdown(by_clips, queries, "class"), _breakdown(by_clips, queries, "signer")
    tables = {
        "protocols.csv": results_rows(outcomes),
        "per_class.csv": classes,
        "per_signer.csv": signers,
        "predictions.csv": _predictions(by_clips, queries),
    }
    drawings = _drawings(by_clips, queries) if pictures else {}
    written = [name for name, rows in tables.items() if rows]
    of = report_of(about["split"], about["model"], about["table"])
    with replace_output(folder, PROTOCOL_REPORT, of, force) as fresh:
        for name in written:
            write_text(fresh / name, csv_text(tables[name]))
        write_text(fresh / "protocols.md", _page(about, outcomes, classes, signers, list(drawings)))
        write_text(fresh / REPORT, report_html(_view(about, outcomes, queries, clips)))
        content = {**about, "outcomes": [outcome.as_json() for outcome in outcomes]}
        write_json(fresh / "protocols.json", content)
        failure = None
        try:
            for name, draw in drawings.items():
                draw(fresh / name)
        except Exception as error:
            failure = error  # raised when the numbers are saved
    if failure is not None:
        raise failure
    return [folder / name for name in ("protocols.md", "protocols.json", REPORT, *written, *drawings)]


def report_of(split: str, model: dict[str, str], table: dict[str, str]) -> dict[str, str]:
    """What a report is of. model, table: their provenance, with the keys fingerprint and file."""
    return {"model": model["fingerprint"], "table": table["file"], "split": split}


def results_table(outcomes: Sequence[Outcome]) -> str:
    """All outcomes as a Markdown table: values with intervals, and chance below."""
    return markdown_table(_header(outcomes), _table_rows(outcomes))


def notes_of(outcomes: Sequence[Outcome]) -> list[str]:
    """What to know of the outcomes that have notes, a line each."""
    return [f"{o.protocol} {o.setting}: {'; '.join(o.notes)}" for o in outcomes if o.notes]


def _header(outcomes: Sequence[Outcome]) -> list[str]:
    return [*_HEADER, *_columns(outcomes)]


def _columns(outcomes: Sequence[Outcome]) -> list[str]:
    return [*COLUMNS, *[_MEAN_RANK] * any(_MEAN_RANK in outcome.metrics for outcome in outcomes)]


def _table_rows(outcomes: Sequence[Outcome]) -> list[list[str]]:
    rows, columns = [], _columns(outcomes)
    for outcome in outcomes:
        facts = [str(outcome.n), str(len(outcome.classes)), f"{outcome.coverage:.3f}"]
        rows.append([outcome.protocol, outcome.setting, *facts, *(_cell(outcome, name) for name in columns)])
        chance = [_number(name, outcome.chance.get(name)) for name in columns]
        rows.append(["", "chance", "", "", "", *chance])
    return rows


def results_rows(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """All outcomes as rows for CSV."""
    names = list(dict.fromkeys(name for outcome in outcomes for name in outcome.metrics))
    rows = []
    for outcome in outcomes:
        row: dict[str, Any] = {"protocol": outcome.protocol, "setting": outcome.setting, "n": outcome.n}
        row |= {"classes": len(outcome.classes), "coverage": outcome.coverage}
        for name in names:
            low, high = outcome.intervals.get(name, [None, None])
            row |= {name: outcome.metrics.get(name), f"{name} low": low, f"{name} high": high}
            row[f"{name} chance"] = outcome.chance.get(name)
        rows.append(row)
    return rows


def _cell(outcome: Outcome, name: str) -> str:
    if name not in outcome.metrics:
        return "-"
    text = _number(name, outcome.metrics[name])
    bounds = outcome.intervals.get(name)
    return text if bounds is None else f"{text} [{', '.join(_number(name, bound) for bound in bounds)}]"


def _number(name: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.1f}" if name in ("MedianR", _MEAN_RANK) else f"{value:.3f}"


def _breakdown(outcomes: Sequence[Outcome], queries: Split, by: str) -> list[dict[str, Any]]:
    """R@1 of each class or signer with each protocol's last setting, as rows for CSV."""
    rows = []
    for outcome in _last(outcomes):
        assert outcome.truth is not None and outcome.predicted is not None
        names = _class_names(outcome, queries) if by == "class" else queries.signers
        groups: dict[str, list[int]] = defaultdict(list)
        for number, name in enumerate(names):
            groups[name].append(number)
        for name in sorted(groups) if by == "class" or set(groups) != {""} else []:
            chosen = np.array(groups[name])
            wrong = chosen[outcome.predicted[chosen] != outcome.truth[chosen]]
            confused = Counter(outcome.classes[n] for n in outcome.predicted[wrong]).most_common(3)
            rows.append(
                {
                    "protocol": outcome.protocol,
                    "setting": outcome.setting,
                    by: name,
                    "clips": len(chosen),
                    "R@1": 1 - len(wrong) / len(chosen),
                    "taken for": ", ".join(f"{other} ({count})" for other, count in confused),
                }
            )
    return rows


def _class_names(outcome: Outcome, queries: Split) -> list[str]:
    """The true class of each query: its prompt in zero_shot, else its text."""
    assert outcome.truth is not None
    if outcome.protocol == "zero_shot":
        return [outcome.classes[n] for n in outcome.truth]
    return queries.classes


def _last(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """The last setting of each protocol, such as prototypes of all clips."""
    return list({outcome.protocol: outcome for outcome in outcomes}.values())


def _predictions(outcomes: Sequence[Outcome], queries: Split) -> list[dict[str, Any]]:
    rows = [
        {"id": clip, "class": name, "signer": signer}
        for clip, name, signer in zip(queries.ids, queries.classes, queries.signers)
    ]
    for outcome in _last(outcomes):
        assert outcome.predicted is not None
        for row, predicted in zip(rows, outcome.predicted):
            row[outcome.protocol] = outcome.classes[predicted]
    return rows


def _view(
    about: dict[str, Any], outcomes: Sequence[Outcome], queries: Split, clips: Sequence[ShownClip]
) -> dict[str, Any]:
    """What report.html shows."""
    shown = clips or [
        ShownClip(clip, signer=signer, text=name)
        for clip, name, signer in zip(queries.ids, queries.classes, queries.signers)
    ]
    answers = []
    for outcome in _last([outcome for outcome in outcomes if outcome.predicted is not None]):
        assert outcome.truth is not None and outcome.predicted is not None
        noun = "prompt" if outcome.protocol == "zero_shot" else "class"
        name = f"{outcome.protocol} {outcome.setting}"
        answers.append(Answers(name, noun, outcome.classes, outcome.truth, outcome.predicted))
    facts = [f"{name}: {about[name]}" for name in ("prompt", "command") if about.get(name)]
    lines = {
        "facts": [f"{len(queries)} clips", *facts, *notes_of(outcomes)],
        "warnings": about["warnings"],
    }
    table = {"title": "Protocols", "header": _header(outcomes), "rows": _table_rows(outcomes)}
    return make_view(_title(about), lines, [table], answers, shown)


def _title(about: dict[str, Any]) -> str:
    return f"{about['model']['folder']} on {about['table']['file']}, split {about['split']}"


def _page(
    about: dict[str, Any],
    outcomes: Sequence[Outcome],
    classes: Sequence[dict[str, Any]],
    signers: Sequence[dict[str, Any]],
    drawn: Sequence[str],
) -> str:
    parts = [f"# {escape_markdown(_title(about))}\n"]
    parts += [f"**{escape_markdown(line)}**\n" for line in about["warnings"]]
    parts += [results_table(outcomes) + "\n"]
    over = "clips (t2v: prompts; sentences: texts; one-shot: signs)"
    parts.append(f"Intervals: 95 % bootstrap over {over}. Chance: random scores.\n")
    notes = [f"- {escape_markdown(line)}" for line in notes_of(outcomes)]
    parts.append("\n".join(notes) + "\n" if notes else "")
    facts = {
        "model": about["model"]["fingerprint"],
        "table": about["table"]["sha256"],
        "prompt": about.get("prompt"),
        "command": about["command"],
    }
    parts.append("\n".join(f"- {name}: {code_span(value)}" for name, value in facts.items() if value) + "\n")
    parts += [f"![{name.removesuffix('.png')}]({name})\n" for name in drawn]
    of_prompts = [row for row in classes if row["protocol"] == "zero_shot"]  # its classes are the prompts
    of_texts = [row for row in classes if row["protocol"] != "zero_shot"]
    for name, rows, by in (
        ("signer", signers, "signer"),
        ("class", of_texts, "class"),
        ("prompt", of_prompts, "class"),
    ):
        if rows:
            parts += [f"## By {name} (R@1)\n", _wide(rows, by, name)]
    return "\n".join(parts)


def _wide(rows: Sequence[dict[str, Any]], by: str, heading: str) -> str:
    """A Markdown table of R@1 with a column for each protocol; at most the 100 lowest rows.

    by: the key of the names in `rows`. heading: of their column.
    """
    protocols = list(dict.fromkeys(row["protocol"] for row in rows))
    values: dict[str, dict[str, float]] = defaultdict(dict)
    clips = {}
    for row in rows:
        values[row[by]][row["protocol"]] = row["R@1"]
        clips[row[by]] = row["clips"]
    names, note = list(values), ""
    if len(names) > _LISTED:
        note = f"The {_LISTED} lowest of {len(names)}; all are in per_{by}.csv.\n\n"
        names = sorted(names, key=lambda name: sum(values[name].values()))[:_LISTED]
    lines = [
        [name or "(unknown)", str(clips[name])]
        + [f"{values[name][p]:.3f}" if p in values[name] else "-" for p in protocols]
        for name in names
    ]
    return note + markdown_table([heading, "clips", *protocols], lines) + "\n"


def _drawings(outcomes: Sequence[Outcome], queries: Split) -> dict[str, Callable[[Path], Path]]:
    """File name -> the function that draws it."""
    from mmpt.evaluators.pictures import confusions  # matplotlib is slow to import
    from mmpt.evaluators.pictures.embedding_map import embedding_map

    drawings: dict[str, Callable[[Path], Path]] = {}
    for outcome in _last(outcomes):
        assert outcome.truth is not None and outcome.predicted is not None
        known = outcome.truth != ABSENT
        if not known.any():
            continue
        title = {
            "config": f"{outcome.protocol} {outcome.setting}",
            "n_videos": outcome.n,
            "n_prompts": len(outcome.classes),
            "v2t": {"R@1": outcome.metrics["R@1"]},
            "chance": {"v2t R@1": outcome.chance["R@1"]},
            "noun": "prompt" if outcome.protocol == "zero_shot" else "class",
        }
        clips = {"truth": outcome.truth[known], "predicted": outcome.predicted[known]}
        for name, draw in zip(_PICTURES, (confusions.confusion_matrix, confusions.per_class)):
            drawings[f"{outcome.protocol}_{name}"] = partial(
                draw, **clips, prompts=outcome.classes, results=title
            )
    clips_on_map = (queries.vectors, queries.classes, queries.signers)
    return drawings | {_MAP: lambda path: embedding_map(path, *clips_on_map)}
