"""Augmentation of training clips, as the config describes it."""

import dataclasses
from dataclasses import dataclass

import numpy as np

from mmpt.config.dataset_options import PoseAugmentation, PoseAugmentations
from mmpt.pose import augmentation
from mmpt.pose.augmentation3d import augment3d
from mmpt.pose.clip import PoseClip


@dataclass(frozen=True)
class Augmenter:
    """Clip -> augmented clip.

    flip_chance: probability of mirroring. max_video_len: a clip that augment_temporal would make this long or
    longer keeps its speed.
    """

    options: PoseAugmentations
    flip_chance: float
    max_video_len: int

    def draw(self, rng: np.random.Generator) -> PoseAugmentation:
        """augment3d for one clip: its `probability` is drawn once, for the frame sampling and the steps."""
        options = self.options.augment3d
        if options.probability < 1:
            options = dataclasses.replace(options, probability=float(rng.random() < options.probability))
        return options

    def __call__(self, clip: PoseClip, rng: np.random.Generator, drawn: PoseAugmentation) -> PoseClip:
        """Augment in SignCLIP's order: mirror, (augment3d,) 2-D, temporal, noise. drawn: see `draw`."""
        if self.flip_chance:
            clip = augmentation.flip(clip, rng, self.flip_chance)
        clip = augment3d(clip, drawn, rng)
        if self.options.augment2d:
            clip = augmentation.augment2d(clip, rng)
        if self.options.augment_temporal:
            chance = self.options.augment_temporal_chance
            if chance is None or rng.random() < chance:
                clip = augmentation.augment_temporal(clip, rng, self.max_video_len)
        if self.options.gaussian_noise:
            clip = augmentation.gaussian_noise(clip, rng)
        return clip
