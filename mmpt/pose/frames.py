"""Frames of a `.pose` file or of a pose in memory -> PoseClip of one person."""

import functools
import logging
from collections.abc import Collection

import numpy as np
from pose_format import Pose

from mmpt.pose.clip import LARGEST, PoseClip, PoseLayout
from mmpt.pose.components import WORLD
from mmpt.pose.header import Body, Header
from mmpt.pose.people import RULES, choose_people
from mmpt.utils.errors import UserError

log = logging.getLogger(__name__)

_LEAST_CONFIDENCE = np.float32(1e-3)
_warned = {"people": 0}


def clip_of_arrays(
    people: tuple[np.ndarray, np.ndarray],
    header: Header,
    body: Body,
    components: Collection[str] | None,
    person: str,
) -> tuple[PoseClip, np.ndarray | None]:
    """The chosen person in frames of a file; the people of each frame, None if the file is of one person.

    people: data [T, people, stored, axes] and confidence [T, people, stored]. Raises UserError for NaN, or
    numbers that are no pixels, in points that are not missing.
    """
    values, trust, counts = _one_person(*people, header.stored, person)
    if not all(map(_all_fine, people)):
        _check_seen(values, trust, header)
    layout = header.layout
    if header.columns is not None or header.axes == 2:
        values, trust = header.mapped(values, trust)
    if components is None:
        values, trust = values.copy(), trust.copy()
    else:
        layout, columns = columns_of(layout, frozenset(components))
        values, trust = (np.concatenate([part[:, c] for c in columns], axis=1) for part in (values, trust))
    about = (body.fps, layout, float(body.width), header.axes == 3)
    return _clip(values, trust, trust == 0, about), counts


def clip_of_pose(pose: Pose, header: Header, width: float, person: str) -> tuple[PoseClip, np.ndarray | None]:
    """One person of a pose of pose-format; the people of each frame, None if it has one person."""
    body, axes, layout = pose.body, header.axes, header.stored
    data, confidence = body.data, np.asarray(body.confidence)
    if data.ndim != 4 or confidence.shape != data.shape[:3] or data.shape[3] != axes or 0 in data.shape:
        raise UserError(
            f"it holds data {data.shape} and confidences {confidence.shape}; expected [frames, people, "
            f"points, {axes}] and [frames, people, points] with at least one frame and one person"
        )
    if len(layout) != data.shape[2]:
        raise UserError(f"its header names {len(layout)} points, its frames hold {data.shape[2]}")
    mask = np.ma.getmask(data)
    if mask is not np.ma.nomask:
        hidden = mask[..., 0] | mask[..., 1] | mask[..., -1]  # any(axis=-1) takes ten times as long
        confidence = np.where(hidden, 0, confidence)
    warn_of_people(data.shape[1], person)
    values, trust, counts = _one_person(np.ma.getdata(data), confidence, layout, person)
    with np.errstate(over="ignore"):  # an overflow to inf is reported below
        values, trust = np.array(values, dtype=np.float32), np.array(trust, dtype=np.float32)
    missing = trust == 0
    _hide(values, missing)
    _check_finite(values, trust, layout)
    if header.columns is not None:
        missing = missing[:, header.columns]
    values, trust = header.mapped(values, trust)
    return _clip(values, trust, missing, (float(body.fps), header.layout, width, axes == 3)), counts


def _one_person(
    data: np.ndarray, confidence: np.ndarray, layout: PoseLayout, rule: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """The chosen person's data [T, P, 3] and confidence [T, P], and the people of each frame.

    data: [T, people, P, 3]. With the rule "first" the arrays are views. None: the file is of one person.
    """
    if data.shape[1] == 1:
        return data[:, 0], confidence[:, 0], None
    # world landmarks are in metres, the others in pixels
    seen = np.flatnonzero([component != WORLD for component, _ in layout.points])
    choice = choose_people(data[:, :, seen], confidence[:, :, seen], rule)
    if rule == "first":
        return data[:, 0], confidence[:, 0], choice.counts
    return choice.take(data), choice.take(confidence), choice.counts


@functools.lru_cache(maxsize=64)
def columns_of(layout: PoseLayout, components: frozenset[str]) -> tuple[PoseLayout, list[slice]]:
    """The columns of those components of a layout, and their layout. Raises UserError if it has none."""
    names = [name for name in layout.components if name in components]
    if not names:
        raise UserError(f"it has none of {', '.join(sorted(components))}")
    chosen = [layout.component_slice(name) for name in names]
    return PoseLayout.of([point for part in chosen for point in layout.points[part]]), chosen


def _clip(
    values: np.ndarray, trust: np.ndarray, missing: np.ndarray, about: tuple[float, PoseLayout, float, bool]
) -> PoseClip:
    """The clip of arrays of one person, changed in place. about: fps, layout, image width, with depth."""
    _hide(values, missing)
    clip_confidence(trust, missing)
    return PoseClip(values, trust, *about)


def clip_confidence(trust: np.ndarray, missing: np.ndarray) -> None:
    """Clip confidences to [0, 1], in place, as interpolation leaves them outside.

    Only missing points have confidence 0.
    """
    low = trust < _LEAST_CONFIDENCE
    if trust.max() > 1 or (low > missing).any():
        np.clip(trust, _LEAST_CONFIDENCE, 1, out=trust)
    trust[missing] = 0


def _hide(values: np.ndarray, missing: np.ndarray) -> None:
    """Set missing points to 0, in place."""
    points = values.reshape(-1, values.shape[-1])
    points[np.flatnonzero(missing)] = 0  # takes half the time of values[missing]


def _check_seen(values: np.ndarray, trust: np.ndarray, header: Header) -> None:
    """Raises UserError for numbers that are no coordinates in points that are not missing."""
    whole = values.copy()
    _hide(whole, trust == 0)
    _check_finite(whole, trust, header.stored)


def _check_finite(values: np.ndarray, confidence: np.ndarray, layout: PoseLayout) -> None:
    if _all_fine(values) and _all_fine(confidence):
        return
    for name, array in (("coordinates", values), ("confidences", confidence[..., None])):
        bad = np.argwhere(~(np.abs(array) <= LARGEST))
        if len(bad):
            frame, point = bad[0][:2]
            raise UserError(
                f"{len(bad)} {name} are NaN, infinite or larger than {LARGEST:g} (the first: frame {frame}, "
                f"{'/'.join(layout.points[point])}); missing points must have confidence 0"
            )


def _all_fine(numbers: np.ndarray) -> bool:
    # NaN makes both comparisons false; without the temporary array of abs
    return bool(numbers.min() >= -LARGEST and numbers.max() <= LARGEST)


def warn_of_people(count: int, rule: str) -> None:
    """Warn at the 1st, 10th, 100th ... file of this process with several people."""
    if count < 2:
        return
    _warned["people"] += 1
    files = _warned["people"]
    if str(files).strip("0") == "1":
        several = f"a pose holds {count} people" if files == 1 else f"{files} poses hold several people"
        others = " or ".join(name for name in RULES if name != rule)
        log.warning("%s: one is read, by dataset.person: %s (could be %s)", several, rule, others)
