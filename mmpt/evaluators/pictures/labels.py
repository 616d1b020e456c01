"""Short labels for prompts: the words that distinguish them."""

from collections.abc import Sequence


def short_labels(prompts: Sequence[str], longest: int = 18) -> list[str]:
    """The prompts without their common first and last words, shortened to `longest` characters.

    >>> short_labels(["Fingerspell the letter A.", "Fingerspell the letter SCH."])
    ['A', 'SCH']

    Words that most prompts share are removed where they occur; a prompt of another form ("random text")
    keeps its words. If labels would be equal or empty, all are whole prompts. If shortened labels would be
    equal, the middle is shortened instead of the end; if still equal, the prompt's number is appended.
    """
    words = [prompt.split() for prompt in prompts]
    front = _shared(words)
    back = _shared([list(reversed(row[front_length(row, front) :])) for row in words])
    labels = []
    for row in words:
        start = front_length(row, front)
        rest = row[start:]
        end = len(back) if list(reversed(rest))[: len(back)] == back and len(rest) > len(back) else 0
        text = " ".join(rest[: len(rest) - end])
        labels.append(text.rstrip(".") or text)
    if len(set(labels)) < len(labels) or not all(labels):
        labels = list(prompts)
    half = (longest - 1) // 2
    for kept, tail in ((longest - 1, 0), (longest - 1 - half, half)):
        short = [_cut(label, longest, kept, label[len(label) - tail :]) for label in labels]
        if len(set(short)) == len(set(labels)):
            return short
    numbers = [str(number) for number in range(1, len(labels) + 1)]
    return [_cut(label, longest, longest - 1 - len(no), no) for label, no in zip(labels, numbers)]


def _cut(label: str, longest: int, start: int, end: str) -> str:
    return label if len(label) <= longest else f"{label[:start]}…{end}"


def front_length(row: list[str], front: list[str]) -> int:
    """Number of words of `row` in the shared beginning: all of `front` or none, and never the whole row."""
    return len(front) if row[: len(front)] == front and len(row) > len(front) else 0


def _shared(rows: list[list[str]]) -> list[str]:
    """The longest proper beginning of more than half of the rows."""
    shared: list[str] = []
    while True:
        counts: dict[str, int] = {}
        for row in rows:
            if len(row) > len(shared) + 1 and row[: len(shared)] == shared:
                counts[row[len(shared)]] = counts.get(row[len(shared)], 0) + 1
        word = max(counts, key=lambda w: counts[w], default=None)
        if word is None or counts[word] * 2 <= len(rows):
            return shared
        shared.append(word)
