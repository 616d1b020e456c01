"""Which of several people in a frame is read.

pose-format and most estimators number the people of each frame anew: the second person of one frame may be
the first of the next.
"""

from typing import NamedTuple

import numpy as np

RULES = ("first", "largest", "tracked")
LOST_FRAMES = 25
"""After so many frames without the tracked person, the largest person is tracked."""


_THIN = 1e-3
"""Width of the box of a point or a line, which overlaps with itself."""


class Choice(NamedTuple):
    """One person for each frame.

    person: intp [T], the index of the chosen person, -1 for nobody. counts: intp [T], the people with at
    least one point.
    """

    person: np.ndarray
    counts: np.ndarray

    def take(self, values: np.ndarray) -> np.ndarray:
        """A copy of the chosen person of `values` [T, people, ...]: [T, ...]; 0 in frames with nobody."""
        chosen: np.ndarray = values[np.arange(len(values)), self.person]
        chosen[self.person < 0] = 0
        return chosen


def choose_people(data: np.ndarray, confidence: np.ndarray, rule: str = "first") -> Choice:
    """Choose a person in each frame.

    data: float [T, people, P, 2 or 3]; x and y of all points in the same unit. confidence: [T, people, P], 0
    for a missing point. rule:

    - first: the first person of the frame, even if all of its points are missing.
    - largest: the person with the largest box of present points in that frame.
    - tracked: the largest person of the first frame that shows one, then in each frame the person whose box
      overlaps most (intersection over union) with the last box of the tracked person. Nobody, if none
      overlaps; after LOST_FRAMES such frames, the largest person is tracked.

    Of equals the first is chosen. Where there is one person only, it is chosen by every rule.
    """
    assert rule in RULES and data.shape[:-1] == confidence.shape, (rule, data.shape, confidence.shape)
    here = (confidence != 0) & np.isfinite(data[..., :2]).all(axis=-1)
    counts = here.any(axis=2).sum(axis=1)
    if rule == "first" or data.shape[1] == 1:
        return Choice(np.zeros(len(data), dtype=np.intp), counts)
    boxes = _boxes(data, here)
    largest = np.where(counts > 0, _area(boxes).argmax(axis=1), -1)
    return Choice(largest if rule == "largest" else _track(boxes, largest), counts)


def _boxes(data: np.ndarray, here: np.ndarray) -> np.ndarray:
    """float64 [T, people, 4]: left, top, right, bottom; inf, inf, -inf, -inf for a person without points."""
    low = data[..., :2].min(axis=2, initial=np.inf, where=here[..., None])
    high = data[..., :2].max(axis=2, initial=-np.inf, where=here[..., None])
    boxes = np.concatenate([low, high], axis=-1, dtype=np.float64)
    boxes[..., 2:] = np.where(high == low, boxes[..., 2:] + _THIN, boxes[..., 2:])
    return boxes


def _area(boxes: np.ndarray) -> np.ndarray:
    """Of boxes [..., 4]; -1 for an empty one."""
    size = boxes[..., 2:] - boxes[..., :2]
    return np.where((size >= 0).all(axis=-1), size.prod(axis=-1), -1)


def _overlap(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Intersection over union of a box [4] with boxes [people, 4]."""
    common = np.concatenate([np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])], axis=1)
    shared = np.maximum(_area(common), 0)
    union = _area(box) + _area(boxes) - shared
    return shared / np.where(union > 0, union, 1)


def _track(boxes: np.ndarray, largest: np.ndarray) -> np.ndarray:
    person = np.full(len(boxes), -1, dtype=np.intp)
    last, lost = None, 0
    for frame, there in enumerate(boxes):
        if last is None:
            person[frame] = largest[frame]
        else:
            overlap = _overlap(last, there)
            best = int(overlap.argmax())
            if overlap[best] > 0:
                person[frame] = best
        if person[frame] >= 0:
            last, lost = there[person[frame]], 0
        else:
            lost += 1
            last = last if lost < LOST_FRAMES else None
    return person
