"""The deterministic steps from a `.pose` file to a prepared clip, which mmpt/pose/store.py caches."""

import dataclasses
import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import numpy as np

from mmpt.pose import hands
from mmpt.pose.clip import PoseClip, PoseLayout
from mmpt.pose.components import (
    CANONICAL,
    HANDS,
    HOLISTIC_LAYOUT,
    POSE,
    PoseComponents,
    component_names,
    select_components,
    visible_hands,
)
from mmpt.pose.mirror import mirror as mirror_clip
from mmpt.pose.mirror import right_hand_is_idle
from mmpt.pose.normalization import apply_frame, hide_legs, scale_depth, shoulder_frame
from mmpt.pose.reader import parse_pose, read_clip, read_pose
from mmpt.pose.smoothing import Smoothing
from mmpt.pose.span import Span
from mmpt.utils.errors import UserError

_VERSION = 1
"""Increase when the result of `PosePreparation.clip` changes, to rebuild all caches."""
_PEOPLE_VERSION = 2
"""The same, for the choice among several people."""
_LATER = {"pose_layout": HOLISTIC_LAYOUT, "person": "first", "smoothing": Smoothing()}
"""Fields that are in the key only if they have another value, so that older caches stay valid."""


@dataclass(frozen=True)
class PosePreparation:
    """File -> prepared clip. The fields are the settings that the result depends on.

    flip_to_right: mirror clips whose right hand is idle. The others: see PoseOptions.
    """

    pose_components: PoseComponents = None
    normalize_hand: bool = False
    scale_depth: bool = False
    face_points: int | None = None
    flip_to_right: bool = False
    pose_layout: str = HOLISTIC_LAYOUT
    person: str = "first"
    smoothing: Smoothing = field(default_factory=Smoothing)

    def __call__(
        self, path: str | os.PathLike[str], mirror: bool = False, span: Span | None = None
    ) -> PoseClip:
        """Read and prepare a file, or the part `span` of it. Raises UserError, which names the file."""
        if span is None and not mirror:
            clip = self._of_needed_components(lambda components: self.read(path, components))
            if clip is not None:
                return clip
        clip = read_clip(path, span, self.person, warn=True)
        try:
            return self.clip(clip, mirror)
        except UserError as error:
            raise UserError(f"{path}: {error}") from None

    def parse(self, content: bytes, most_frames: int, mirror: bool = False) -> PoseClip:
        """Prepare the content of a file of a stranger (see parse_pose). Raises UserError."""
        read = partial(parse_pose, content, most_frames=most_frames, person=self.person)
        clip = None if mirror else self._of_needed_components(read)
        return self.clip(read(), mirror) if clip is None else clip

    def read(self, path: str | os.PathLike[str], components: Collection[str] | None = None) -> PoseClip:
        """read_pose of the person that `person` chooses."""
        return read_pose(path, components, self.person)

    def clip(self, clip: PoseClip, mirror: bool = False) -> PoseClip:
        """Prepare a clip in memory (see mmpt.pose.reader.from_pose). Raises UserError.

        In this order: mirror and scale z (both if requested), measure the shoulders, hide the legs, select
        the components, centre and scale them by the shoulders, fill gaps, smooth, and normalise the hand (if
        requested).

        With pose_layout: canonical, the shoulders are measured in x and y, and z is kept where the clip has
        it: augmentation may rotate by it, features do not have it.
        """
        canonical = self.pose_layout == CANONICAL
        if not (clip.depth or canonical):
            raise UserError(
                "the pose is 2-D, without the depth (z) that pose_layout: holistic needs: use a config (and "
                "a model) with pose_layout: canonical, or estimate the pose with MediaPipe Holistic"
            )
        if self.mirrors(clip, mirror):
            clip = mirror_clip(clip)
        if self.scale_depth and clip.depth and not (canonical and clip.width <= 0):
            clip = scale_depth(clip)
        centre, scale = shoulder_frame(clip, axes=2 if canonical else 3)
        clip = select_components(clip, self.pose_components, self.face_points, self.pose_layout)
        clip = self.smoothing(apply_frame(hide_legs(clip), centre, scale))
        return hands.normalize_hand(clip) if self.normalize_hand else clip

    def windows(
        self, clip: PoseClip, parts: Sequence[slice], mirror: bool = False
    ) -> list[PoseClip | UserError]:
        """clip(part) of each of `parts` (frames) of a recording, or the error of a part.

        Components without influence are not copied, as they are most of a clip.
        """
        names = [name for name in clip.layout.components if name in self.needed]
        columns = np.concatenate(
            [clip.layout.columns(name) for name in names] or [np.arange(len(clip.layout))]
        )
        slim = clip.select(columns, PoseLayout.of([clip.points[column] for column in columns]))
        shown = np.zeros(len(clip), bool)
        for name in set(names) & set(HANDS):
            shown |= slim.component(name)[1].any(axis=1)
        found: list[PoseClip | UserError] = []
        for part in parts:
            try:
                # without a hand, the depth is measured by all points
                whole = self.scale_depth and not shown[part].any()
                found.append(self.clip((clip if whole else slim).frames(part), mirror))
            except UserError:
                found.append(self._error(clip.frames(part), mirror))
        return found

    def _error(self, clip: PoseClip, mirror: bool) -> UserError:
        """The error of the whole clip, whose message may list its components."""
        try:
            self.clip(clip, mirror)
        except UserError as error:
            return error
        raise AssertionError("a component without influence has one")

    def _of_needed_components(self, read: Callable[[frozenset[str]], PoseClip]) -> PoseClip | None:
        """The prepared clip, without copying components that have no influence. read: of these components.

        None if all have one (a clip that is mirrored, or that shows no hand), or after any error: its message
        may list the components.
        """
        try:
            clip = read(self.needed)
            return self.clip(clip) if visible_hands(clip) and not self.mirrors(clip) else None
        except UserError:
            return None

    @cached_property
    def needed(self) -> frozenset[str]:
        """The selected components, the hands (to scale z and to mirror) and the body (the shoulders)."""
        return frozenset((*component_names(self.pose_components), *HANDS, POSE))

    def mirrors(self, clip: PoseClip, mirror: bool = False) -> bool:
        """Whether `clip` mirrors this one: on request, or because its right hand is idle."""
        return mirror or (self.flip_to_right and right_hand_is_idle(clip))

    def key(self) -> dict[str, Any]:
        """The settings as JSON values, for the key of the cache."""
        settings = dataclasses.asdict(self)
        for name, default in _LATER.items():
            if getattr(self, name) == default:
                del settings[name]
        if self.person != "first":
            settings["people"] = _PEOPLE_VERSION
        return {"processor": "PoseProcessor", "version": _VERSION, **settings}
