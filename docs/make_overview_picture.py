#!/usr/bin/env python
"""Write docs/signclip.svg: `python docs/make_overview_picture.py MODEL_FOLDER`.

The picture of README.md: clips of the lexicon's test languages, and their cosine similarity with prompts.
"""

import sys
from pathlib import Path

import numpy as np

import mmpt
from mmpt.config import load_config
from mmpt.pose.reader import read_pose
from mmpt.processors import Example, FingerspellingMetaProcessor

SHOWN = (("gsg", "L"), ("sgg", "B"), ("ase", "Y"))
SIGNED = {"gsg": "German", "sgg": "Swiss-German", "ase": "American"}
FINGERS = [(0, 4 * f + 1, 4 * f + 2, 4 * f + 3, 4 * f + 4) for f in range(5)] + [(1, 5, 9, 13, 17, 0)]
WIDTH, HEIGHT, CELL, LEFT, TOP = 880, 440, 100, 540, 100
INK, MUTED, VIDEO, TEXT = "#1f2933", "#52606d", "#3b76c4", "#3a9b74"
FONT = "-apple-system, 'Segoe UI', Helvetica, Arial, 'DejaVu Sans', sans-serif"


def clip_of(examples: list[Example], language: str, letter: str) -> Example:
    """The lexicon's clip of a letter."""
    wanted = f"Fingerspell the letter {letter}."
    return next(e for e in examples if e.text == wanted and e.video_id.startswith(f"{language}/"))


def text(x: float, y: float, words: str, size: int = 14, colour: str = INK) -> str:
    """Centred text, its baseline at y."""
    return f'<text x="{x}" y="{y}" font-size="{size}" fill="{colour}" text-anchor="middle">{words}</text>'


def box(x: float, y: float, width: float, height: float, colour: str, words: str) -> str:
    """A tower."""
    shape = f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="8" fill="{colour}"/>'
    return shape + text(x + width / 2, y + height / 2 + 5, words, 14, "#ffffff")


def arrow(x1: float, y1: float, x2: float, y2: float) -> str:
    """A line with a head at its end."""
    ends = f'x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"'
    return f'<line {ends} stroke="#7b8794" stroke-width="1.6" marker-end="url(#head)"/>'


def hand(path: Path, x: float, y: float, size: float) -> str:
    """The right hand in the middle frame of a clip, as a skeleton."""
    points, confidence = read_pose(path).component("RIGHT_HAND_LANDMARKS")
    seen = np.flatnonzero((confidence > 0).all(axis=1))
    xy = points[seen[len(seen) // 2], :, :2]
    xy = (xy - (xy.min(axis=0) + xy.max(axis=0)) / 2) / (xy.max(axis=0) - xy.min(axis=0)).max() * size + (
        x,
        y,
    )
    lines = [" ".join(f"{a:.1f},{b:.1f}" for a, b in xy[list(chain)]) for chain in FINGERS]
    drawn = [f'<polyline points="{line}" fill="none" stroke="{VIDEO}" stroke-width="2.5"/>' for line in lines]
    return "".join(drawn + [f'<circle cx="{a:.1f}" cy="{b:.1f}" r="2.6" fill="{INK}"/>' for a, b in xy])


def picture(model: mmpt.SignCLIP) -> str:
    """The whole SVG."""
    config = load_config("package:fslex_demo").dataset
    examples = FingerspellingMetaProcessor.from_config(config, "test", ".pose").examples
    clips = [clip_of(examples, language, letter) for language, letter in SHOWN]
    scores = model.score([clip.path for clip in clips], [clip.text for clip in clips]).T
    parts = [
        box(300, TOP, 110, 3 * CELL - 3, VIDEO, "video tower"),
        box(LEFT, 54, 3 * CELL - 3, 30, TEXT, "text tower"),
    ]
    for row, (language, _) in enumerate(SHOWN):
        middle = TOP + CELL * (row + 0.5)
        parts += [hand(clips[row].path, 210, middle, 78), arrow(262, middle, 294, middle)]
        parts += [text(80, middle, SIGNED[language]), text(80, middle + 18, "Sign Language", 14)]
        parts += [arrow(416, middle, LEFT - 8, middle)]
        for column in range(len(SHOWN)):
            value = scores[row, column]
            shape = (
                f'x="{LEFT + CELL * column}" y="{TOP + CELL * row}" width="{CELL - 3}" height="{CELL - 3}"'
            )
            parts.append(f'<rect {shape} rx="4" fill="{VIDEO}" fill-opacity="{max(value, 0.02) * 1.4:.2f}"/>')
            parts.append(text(LEFT + CELL * (column + 0.5), middle + 6, f"{value:+.2f}", 17))
    for column, (_, letter) in enumerate(SHOWN):
        middle = LEFT + CELL * (column + 0.5)
        parts.append(arrow(middle, 86, middle, TOP - 2))
        parts.append(text(middle, 44, f"“… letter {letter}.”", 14))
    parts += [text(LEFT + 1.5 * CELL, 20, "prompts: “Fingerspell the letter …”", 14, MUTED)]
    parts += [
        text(145, 75, "clips, in languages not seen in training", 14, MUTED),
        text(LEFT + 1.5 * CELL, 424, "cosine similarity", 14, MUTED),
    ]
    head = '<defs><marker id="head" markerWidth="9" markerHeight="8" refX="8" refY="4" orient="auto">'
    head += '<path d="M0,0 L9,4 L0,8 z" fill="#7b8794"/></marker></defs>'
    back = f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>'
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
    opening = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="{FONT}">'
    return "\n".join([opening, head, back, *parts, "</svg>\n"])


if __name__ == "__main__":
    target = Path(__file__).with_name("signclip.svg")
    target.write_text(picture(mmpt.from_pretrained(sys.argv[1])), encoding="utf-8")
