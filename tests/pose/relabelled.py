"""Holistic clips as another estimator would have named their points, in 2-D: the inverse of its table."""

import copy

import numpy as np
from pose_format import Pose
from pose_format.numpy import NumPyPoseBody
from pose_format.pose_header import PoseHeader, PoseHeaderDimensions

from mmpt.pose.clip import PoseClip
from mmpt.pose.estimators import ESTIMATORS


def relabelled(clip: PoseClip, name: str, height: int = 400) -> Pose:
    """x, y and confidence of each point under the estimator's name; its other points are missing."""
    estimator = ESTIMATORS[name]
    data = np.zeros((len(clip), 1, len(estimator.points), 2), np.float32)
    confidence = np.zeros(data.shape[:3], np.float32)
    columns = {point: i for i, point in enumerate(estimator.points)}
    for target, source in estimator.sources.items():
        if target in clip.layout:
            column = clip.index(*target)
            data[:, 0, columns[source]] = clip.data[:, column, :2]
            confidence[:, 0, columns[source]] = clip.confidence[:, column]
    header = PoseHeader(
        0.2, PoseHeaderDimensions(int(clip.width), height, 0), copy.deepcopy(list(estimator.parts))
    )
    return Pose(header, NumPyPoseBody(clip.fps, data, confidence))
