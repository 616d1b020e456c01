#!/usr/bin/env python
"""Write docs/architecture.svg: `python docs/make_architecture_picture.py`.

The picture of docs/architecture.md: the packages of mmpt and the data between them.
"""

import html
from pathlib import Path

WIDTH, HEIGHT = 1300, 660
FONT = "-apple-system, 'Segoe UI', Helvetica, Arial, 'DejaVu Sans', sans-serif"
INK, MUTED, LINE = "#1f2933", "#52606d", "#7b8794"
FILLS = {
    "file": ("#ffffff", "#9aa5b1"),
    "config": ("#fff3d6", "#d9a21b"),
    "data": ("#dff1ea", "#3a9b74"),
    "model": ("#dce9fb", "#3b76c4"),
    "train": ("#f8e1e4", "#c2525f"),
    "use": ("#ece4f7", "#7d59b3"),
}


def text(x: float, y: float, words: str, size: int = 13, colour: str = INK, style: str = "") -> str:
    """Centred text, its baseline at y."""
    place = f'x="{x}" y="{y}" font-size="{size}" fill="{colour}" text-anchor="middle"'
    return f"<text {place} {style}>{html.escape(words)}</text>"


def lane(y: float, height: float, title: str) -> str:
    """A row of the picture with its title."""
    frame = f'<rect x="16" y="{y}" width="{WIDTH - 32}" height="{height}" rx="12" fill="#f5f7fa"/>'
    heading = f'<text x="34" y="{y + 24}" font-size="13" fill="{MUTED}" font-weight="600">{title}</text>'
    return frame + heading


def box(
    x: float, y: float, width: float, height: float, kind: str, title: str, lines: tuple[str, ...] = ()
) -> str:
    """A package or a file: its name, and what it does."""
    fill, edge = FILLS[kind]
    middle, first = x + width / 2, y + height / 2 + 5 - 8.5 * len(lines)
    drawn = [
        f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="8" fill="{fill}" stroke="{edge}"'
        ' stroke-width="1.5"/>',
        text(middle, first, title, 15, style='font-weight="600"'),
    ]
    drawn += [text(middle, first + 18 + 16 * n, line, 12, MUTED) for n, line in enumerate(lines)]
    return "".join(drawn)


def arrow(points: str, label: tuple[float, float, str] | None = None, dashed: bool = False) -> str:
    """A line through the points, with a head at its end."""
    dash = ' stroke-dasharray="5 4"' if dashed else ""
    line = (
        f'<polyline points="{points}" fill="none" stroke="{LINE}" stroke-width="1.6"{dash}'
        ' marker-end="url(#head)"/>'
    )
    return line + (text(label[0], label[1], label[2], 12, INK) if label else "")


def picture() -> str:
    """The whole SVG."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="{FONT}">',
        f'<defs><marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" '
        f'orient="auto"><path d="M0 0L10 5L0 10z" fill="{LINE}"/></marker></defs>',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        lane(16, 124, "Preparation"),
        lane(156, 250, "Training"),
        lane(422, 222, "Evaluation, embedding, search"),
        # preparation
        box(100, 52, 150, 70, "file", "X.yaml", ("task config",)),
        arrow("250,87 330,87"),
        box(330, 52, 180, 70, "config", "config", ("includes, overrides,", "checks every key")),
        arrow("510,87 600,87", (555, 78, "Config")),
        box(600, 52, 180, 70, "config", "tasks", ("Task builds data,", "model and loss")),
        arrow("780,87 890,87", (835, 78, "Task")),
        box(890, 52, 250, 70, "train", "training", ("preflight checks, lock, signals,", "resume decision")),
        arrow("690,122 690,190", (722, 158, "builds"), dashed=True),
        # training
        text(56, 233, "videos", 13),
        arrow("80,228 100,228"),
        box(100, 190, 150, 76, "data", "extractors", ("MediaPipe, S3D, I3D",)),
        arrow("250,228 330,228", (290, 218, ".pose, .npy")),
        box(330, 190, 180, 76, "data", "processors", ("clips of a corpus,", "frames, token ids")),
        arrow("510,228 600,228", (555, 218, "[T, D], [L]")),
        box(600, 190, 180, 76, "data", "datasets", ("samples, samplers,", "batches")),
        arrow("780,228 890,228", (835, 212, "[B, T, D]")),
        text(835, 248, "[B, L]", 12),
        box(890, 184, 170, 40, "model", "video tower"),
        box(890, 232, 170, 40, "model", "text tower"),
        arrow("1060,228 1150,228", (1105, 218, "2 x [B, H]")),
        box(1150, 190, 118, 76, "model", "losses", ("InfoNCE, ...",)),
        box(100, 316, 150, 70, "data", "timed_text", ("captions of subtitles", "and ELAN files")),
        arrow("250,351 290,351 290,291 370,291 370,266"),
        arrow("420,316 420,266"),
        box(
            330,
            316,
            180,
            70,
            "data",
            "pose",
            ("read, normalise, augment,", "store of parsed poses"),
        ),
        box(
            600,
            316,
            668,
            70,
            "train",
            "fairseq_plugin",
            ("the training loop: epochs, optimizer, EMA weights, accumulation, validation, checkpoints",),
        ),
        arrow("690,316 690,266"),
        arrow("975,316 975,272"),
        arrow("1209,316 1209,266"),
        arrow("1140,87 1276,87 1276,351 1268,351", (1208, 78, "TrainingPlan")),
        # use
        box(100, 470, 150, 76, "file", "clips, prompts", ("of a split, a table,", "or any files")),
        arrow("250,508 330,508"),
        box(330, 470, 180, 76, "data", "processors", ("same steps,", "no augmentation")),
        arrow("510,508 600,508", (555, 498, "[T, D], [L]")),
        box(600, 470, 180, 76, "use", "embedding", ("both towers,", "length-sorted batches")),
        arrow("690,386 690,470", (735, 446, "checkpoint")),
        arrow("780,508 890,508", (835, 498, "[N, H]")),
        box(890, 470, 170, 76, "use", "evaluators", ("ranks, recall@k,", "protocols, intervals")),
        arrow("1060,508 1118,508"),
        box(1118, 470, 150, 76, "file", "results", ("results.json,", "tables, pictures")),
        arrow("835,508 835,597 890,597"),
        box(890, 564, 170, 62, "use", "search", ("index, nearest vectors",)),
        arrow("835,534 835,555 1183,555 1183,564"),
        box(1098, 564, 170, 62, "use", "spotting", ("windows of recordings",)),
        box(330, 564, 450, 62, "use", "experiments", ("many runs: seeds, folds, ablations, the RWTH table",)),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    Path(__file__).with_name("architecture.svg").write_text(picture(), encoding="utf-8")
