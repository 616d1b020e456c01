"""Augmentation of raw landmarks in space, in the proportions of the hands, and in time.

Each step takes a clip (a time step: frame positions), a strength and a Generator, and returns a new clip;
missing points stay missing and 0. Spatial steps expect the same unit on all axes (`dataset.scale_depth`,
which hand_frame implies). `augment3d` applies the steps that are switched on.
"""

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np

from mmpt.config.dataset_options import PoseAugmentation
from mmpt.pose.clip import PoseClip, PoseLayout
from mmpt.pose.components import HAND_POINTS, HANDS, visible_hands
from mmpt.pose.hands import PALM, palm_axes


def augment3d(clip: PoseClip, options: PoseAugmentation, rng: np.random.Generator) -> PoseClip:
    """Apply all steps whose option is above 0, to a fraction `options.probability` of the clips."""
    if not options.active() or rng.random() >= options.probability:
        return clip
    positions = np.arange(len(clip), dtype=np.float64)
    for name, time_step in TIME_STEPS.items():
        if getattr(options, name) > 0:
            positions = time_step(positions, getattr(options, name), rng)
    clip = resample(clip, positions)
    for name, step in STEPS.items():
        if getattr(options, name) > 0:
            clip = step(clip, getattr(options, name), rng)
    return _linear(clip, options, rng)


def rotation_matrix(std: float, rng: np.random.Generator) -> np.ndarray:
    """[3, 3] for row vectors: rotation about x, y and z, angles N(0, std) in radians."""
    a, b, c = rng.normal(0, std, 3).tolist()
    ca, cb, cc, sa, sb, sc = *map(math.cos, (a, b, c)), *map(math.sin, (a, b, c))
    return np.array(
        [
            [cb * cc, cb * sc, -sb],
            [sa * sb * cc - ca * sc, sa * sb * sc + ca * cc, sa * cb],
            [ca * sb * cc + sa * sc, ca * sb * sc - sa * cc, ca * cb],
        ]
    )


def linear_matrix(options: PoseAugmentation, rng: np.random.Generator) -> np.ndarray:
    """[3, 3] for row vectors: shear, then stretch of each axis, then one scale, then rotation."""
    matrix = np.eye(3)
    if options.shear > 0:
        matrix = matrix + rng.normal(0, options.shear, (3, 3)) * (1 - matrix)
    if options.stretch > 0:
        matrix = matrix * np.exp(rng.normal(0, options.stretch, 3))
    if options.scale > 0:
        matrix = matrix * math.exp(rng.normal(0, options.scale))
    if options.rotation > 0:
        matrix = matrix @ rotation_matrix(options.rotation, rng)
    return matrix


def linear_map(data: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Return data @ matrix, float32 [T, P, 3], as one matrix product instead of T."""
    return (data.reshape(-1, 3) @ matrix.astype(np.float32, copy=False)).reshape(data.shape)


def _linear(clip: PoseClip, options: PoseAugmentation, rng: np.random.Generator) -> PoseClip:
    """One random linear map for the whole clip, about the origin (the midpoint of the shoulders)."""
    if not (options.shear or options.stretch or options.scale or options.rotation):
        return clip
    return clip.with_data(linear_map(clip.data, linear_matrix(options, rng)))


def jitter_bones(clip: PoseClip, std: float, rng: np.random.Generator) -> PoseClip:
    """Scale each finger bone by exp(N(0, std)), the same for the whole clip.

    A bone runs from a joint to the next one towards the fingertip; the bones of the palm (wrist to the base
    of the fingers) keep their length.
    """
    factors = np.exp(rng.normal(0, std, (5, 3))).astype(np.float32)[..., None]

    def jitter(hand: np.ndarray) -> np.ndarray:
        fingers = _fingers(hand)
        bones = (fingers[:, :, 1:] - fingers[:, :, :-1]) * factors
        out = hand.copy()
        _fingers(out)[:, :, 1:] = fingers[:, :, :1] + np.cumsum(bones, axis=2)
        return out

    return _each_hand(clip, jitter)


def bend_fingers(clip: PoseClip, std: float, rng: np.random.Generator) -> PoseClip:
    """Rotate each finger rigidly about its base, the same for the whole clip, in palm coordinates.

    The angles about each axis of the palm are N(0, std) in radians.
    """
    turns = np.stack([rotation_matrix(std, rng) for _ in range(5)]).astype(np.float32)

    def bend(hand: np.ndarray) -> np.ndarray:
        axes = palm_axes(hand)[0][:, None]  # [F, 1, 3, 3]
        fingers = _fingers(hand)
        root = fingers[:, :, :1]
        out = hand.copy()
        _fingers(out)[:, :, 1:] = root + (fingers[:, :, 1:] - root) @ (axes @ turns @ axes.swapaxes(2, 3))
        return out

    return _each_hand(clip, bend)


def offset_joints(clip: PoseClip, std: float, rng: np.random.Generator) -> PoseClip:
    """Shift each hand joint by N(0, std) palm lengths along each palm axis, the same in all frames."""

    def offset(hand: np.ndarray) -> np.ndarray:
        axes, length = palm_axes(hand)
        shift = rng.normal(0, std, (len(HAND_POINTS), 3)).astype(np.float32)
        return hand + length[:, None, None] * (shift @ axes.transpose(0, 2, 1))

    return _each_hand(clip, offset)


def joint_noise(clip: PoseClip, std: float, rng: np.random.Generator) -> PoseClip:
    """Shift each point of each frame by N(0, std) shoulder widths along each axis."""
    noise = rng.standard_normal(clip.data.shape, dtype=np.float32)
    noise *= np.float32(std)
    noise += clip.data
    return clip.with_data(_masked(noise, clip.confidence))


def drop_joints(clip: PoseClip, chance: float, rng: np.random.Generator) -> PoseClip:
    """Remove each hand joint, except those of the palm, from the whole clip with this probability."""
    loose = _loose_joints(clip.layout)
    return clip.without(loose[rng.random(len(loose)) < chance])


def drop_hand(clip: PoseClip, chance: float, rng: np.random.Generator) -> PoseClip:
    """With this probability, remove one of two visible hands from the whole clip."""
    hands = visible_hands(clip)
    if rng.random() >= chance or len(hands) < 2:
        return clip
    return clip.without(clip.layout.columns(hands[rng.integers(2)]))


def crop_time(positions: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Crop a random fraction of the frames, uniform up to `share`, divided at random between both ends."""
    cut = int(rng.uniform(0, share) * len(positions))
    start = int(rng.integers(cut + 1))
    return positions[start : len(positions) - (cut - start)]


def drop_frames(positions: np.ndarray, chance: float, rng: np.random.Generator) -> np.ndarray:
    """Drop each frame with this probability; at least one is kept."""
    kept = np.flatnonzero(rng.random(len(positions)) >= chance)
    return positions[kept] if len(kept) else positions[rng.integers(len(positions), size=1)]


def change_speed(positions: np.ndarray, std: float, rng: np.random.Generator) -> np.ndarray:
    """Change the speed by exp(N(0, std)), at most 4 times, at the same frame rate."""
    factor = math.exp(min(max(rng.normal(0, std), -math.log(4)), math.log(4)))
    frames = max(round(len(positions) / factor), 1)
    return _at(positions, np.linspace(0, len(positions) - 1, frames))


def warp_time(positions: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Make the speed uneven: shift the middle by up to `share` of the length; the ends stay."""
    last = len(positions) - 1
    middle = 0.5 + rng.uniform(-share, share) * 0.98
    return _at(positions, last * np.interp(np.linspace(0, 1, last + 1), [0, 0.5, 1], [0, middle, 1]))


def resample(clip: PoseClip, positions: np.ndarray) -> PoseClip:
    """The clip at these positions, float [S] in frames, by linear interpolation.

    Gaps stay: a point is present if the nearest frame has it. If only that frame has it, its coordinates are
    taken from that frame.
    """
    low = positions.astype(np.intp)
    weight = (positions - low).astype(np.float32)
    if not weight.any():  # whole frames
        return clip if len(low) == len(clip) and (np.diff(low) == 1).all() else clip.frames(low)
    high = np.minimum(low + 1, len(clip) - 1)
    w = weight[:, None]
    data = clip.data[low] * (1 - w[..., None]) + clip.data[high] * w[..., None]
    confidence = clip.confidence[np.where(weight < 0.5, low, high)]
    here_low, here_high = clip.confidence[low] != 0, clip.confidence[high] != 0
    if not (gaps := here_low != here_high).any():
        return clip.with_data(data, confidence)
    # one neighbour is missing, hence 0: undo the weight of the other
    share = np.where(here_high, w, 1 - w)[gaps]
    data[gaps] *= (1 / np.maximum(share, np.float32(1e-6)))[:, None]
    return clip.with_data(_masked(data, confidence), confidence)


TIME_STEPS: dict[str, Callable[[np.ndarray, float, np.random.Generator], np.ndarray]] = {
    "time_crop": crop_time,
    "time_speed": change_speed,
    "time_warp": warp_time,
    "frame_dropout": drop_frames,
}
"""Option -> step on frame positions, float [S]; the clip is resampled once, after all of them."""

STEPS: dict[str, Callable[[PoseClip, float, np.random.Generator], PoseClip]] = {
    "hand_dropout": drop_hand,
    "bone_length": jitter_bones,
    "finger_bend": bend_fingers,
    "joint_offset": offset_joints,
    "joint_noise": joint_noise,
    "joint_dropout": drop_joints,  # after the steps that need whole fingers
}
"""Option -> step on clips, in this order; then rotation, scale, stretch and shear as one linear map."""


def _at(positions: np.ndarray, where: np.ndarray) -> np.ndarray:
    return np.interp(where, np.arange(len(positions)), positions)


def _each_hand(clip: PoseClip, change: Callable[[np.ndarray], np.ndarray]) -> PoseClip:
    """Apply change(hand [F, 21, 3]) to the frames in which a hand's palm is seen."""
    data = None
    for name in HANDS:
        if name not in clip.layout.components:
            continue
        columns = clip.component_slice(name)
        here = clip.confidence[:, columns] != 0
        frames = np.flatnonzero(here[:, PALM].all(axis=1))
        if not len(frames):
            continue
        data = clip.data.copy() if data is None else data
        changed = change(data[frames, columns])
        data[frames, columns] = changed * here[frames][..., None]
    return clip if data is None else clip.with_data(data)


def _fingers(hand: np.ndarray) -> np.ndarray:
    """[F, 21, 3] -> [F, 5, 4, 3], a view: thumb to little finger, each from its base to its tip."""
    return hand[:, 1:].reshape(len(hand), 5, 4, 3)


@lru_cache(maxsize=64)
def _loose_joints(layout: PoseLayout) -> np.ndarray:
    """Columns of the hand points that are not part of the palm."""
    spanning = {HAND_POINTS[i] for i in PALM}
    columns = [
        i for i, (component, name) in enumerate(layout.points) if component in HANDS and name not in spanning
    ]
    return np.array(columns, dtype=np.intp)


def _masked(data: np.ndarray, confidence: np.ndarray) -> np.ndarray:
    data[confidence == 0] = 0
    return data
