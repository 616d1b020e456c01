"""A pose in memory: plain arrays, and a layout that names the point of each column."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from mmpt.utils.errors import UserError

Point = tuple[str, str]
"""(component, point), e.g. ("RIGHT_HAND_LANDMARKS", "WRIST")."""
LARGEST = 1e9
"""Larger coordinates, in pixels, are refused: their squares would not fit into a float32."""


class PoseLayout:
    """The names of a clip's points, in order. Create it by `PoseLayout.of`: equal names give the same object.

    As an object per header, it can be a cache key without hashing 586 names each time.
    """

    _known: dict[tuple[Point, ...], "PoseLayout"] = {}

    def __init__(self, points: tuple[Point, ...]):
        self.points = points
        self._index = {point: i for i, point in enumerate(points)}
        if len(self._index) != len(points):
            twice = next(point for i, point in enumerate(points) if self._index[point] != i)
            raise UserError(f"the point {twice[1]!r} of {twice[0]!r} occurs twice; names must be unique")

    @classmethod
    def of(cls, points: Sequence[Point]) -> "PoseLayout":
        """The layout with these points. Raises UserError if a point occurs twice."""
        points = tuple(points)
        layout = cls._known.get(points)
        if layout is None:
            layout = cls(points)
            if len(cls._known) < 256:  # untrusted files must not make this grow without limit
                cls._known[points] = layout
        return layout

    def __len__(self) -> int:
        return len(self.points)

    def __contains__(self, point: Point) -> bool:
        return point in self._index

    def __reduce__(self) -> tuple[Any, ...]:  # in a worker process too, equal names give the same object
        return PoseLayout.of, (self.points,)

    @cached_property
    def components(self) -> tuple[str, ...]:
        """Names of the components, each once, in order."""
        return tuple(dict.fromkeys(component for component, _ in self.points))

    @cached_property
    def _columns(self) -> dict[str, np.ndarray]:
        columns: dict[str, list[int]] = {}
        for i, (component, _) in enumerate(self.points):
            columns.setdefault(component, []).append(i)
        return {component: np.array(indices, dtype=np.intp) for component, indices in columns.items()}

    def index(self, component: str, point: str) -> int:
        """The column of one point. Raises KeyError."""
        return self._index[component, point]

    def columns(self, component: str) -> np.ndarray:
        """The columns of a component, intp [n]. Raises KeyError."""
        return self._columns[component]

    def component_slice(self, component: str) -> slice:
        """The columns of a component as a slice (components are contiguous). Raises KeyError."""
        columns = self._columns[component]
        assert columns[-1] - columns[0] + 1 == len(columns), f"{component} is not contiguous"
        return slice(int(columns[0]), int(columns[-1]) + 1)


@dataclass(frozen=True, slots=True, eq=False)
class PoseClip:
    """One person's landmarks over time. Nothing in mmpt changes a clip's arrays in place.

    data: float32 [T, P, 3]: x, y, z; exactly 0 where the point is missing, never NaN.
    confidence: float32 [T, P] in [0, 1]; 0 = missing.
    fps: frames per second.
    layout: the names of the P points.
    width: image width in pixels, 0 if unknown. pose-format stores MediaPipe's x and y in pixels, but z as a
        fraction of the width; normalization.scale_depth needs it to bring z to the same unit.
    depth: whether the estimator measured z; without, z is 0.
    """

    data: np.ndarray
    confidence: np.ndarray
    fps: float
    layout: PoseLayout
    width: float = 0.0
    depth: bool = True

    def __post_init__(self) -> None:
        assert self.data.ndim == 3 and self.data.shape[1:] == (len(self.layout), 3), self.data.shape
        assert self.confidence.shape == self.data.shape[:2], (self.confidence.shape, self.data.shape)

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.data)

    @property
    def points(self) -> tuple[Point, ...]:
        """(component, point) names of the columns."""
        return self.layout.points

    @property
    def present(self) -> np.ndarray:
        """Whether each point is present, bool [T, P]."""
        return self.confidence != 0

    def index(self, component: str, point: str) -> int:
        """The column of one point. Raises KeyError."""
        return self.layout.index(component, point)

    def component_slice(self, component: str) -> slice:
        """The columns of a component. Raises KeyError."""
        return self.layout.component_slice(component)

    def component(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """(data [T, n, 3], confidence [T, n]) of a component, as views. Raises KeyError."""
        columns = self.component_slice(name)
        return self.data[:, columns], self.confidence[:, columns]

    def select(self, columns: np.ndarray, layout: PoseLayout) -> "PoseClip":
        """A copy with these columns (intp [len(layout)]) only, in this order."""
        assert len(columns) == len(layout)
        data, confidence = self.data.take(columns, axis=1), self.confidence.take(columns, axis=1)
        return PoseClip(data, confidence, self.fps, layout, self.width, self.depth)

    def with_data(self, data: np.ndarray, confidence: np.ndarray | None = None) -> "PoseClip":
        """The clip with other coordinates, and with another confidence if it is given."""
        confidence = self.confidence if confidence is None else confidence
        return PoseClip(data, confidence, self.fps, self.layout, self.width, self.depth)

    def without(self, columns: Sequence[int] | np.ndarray) -> "PoseClip":
        """The clip with the points of these columns missing; the clip itself if there are none."""
        if not len(columns):
            return self
        data, confidence = self.data.copy(), self.confidence.copy()
        data[:, columns] = 0
        confidence[:, columns] = 0
        return self.with_data(data, confidence)

    def frames(self, selection: slice | np.ndarray) -> "PoseClip":
        """The clip with the selected frames only."""
        return self.with_data(self.data[selection], self.confidence[selection])
