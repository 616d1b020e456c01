"""SignCLIPScore: similarity of poses with their texts, a metric for generated signing."""

import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mmpt.embedding.embedder import SignCLIP, check_list
from mmpt.models.hub import find_model
from mmpt.models.loading import model_files
from mmpt.utils.errors import UserError
from mmpt.utils.files import file_stamp

if TYPE_CHECKING:
    from pose_format import Pose

MODEL = "SIGNCLIP_MODEL"


def score(
    poses: "Sequence[Pose | str | os.PathLike[str]]",
    texts: Sequence[str],
    model: "SignCLIP | str | os.PathLike[str] | None" = None,
) -> NDArray[np.float32]:
    """Cosine similarity of each pose with its text, float32 [N] (SignCLIPScore).

    poses: N pose-format objects or files. texts: N prompts, in the template that the model was trained on.
    model: a SignCLIP or a model folder, which is cached and reloaded when it changes, or the name of a hub
    model; None: that in the environment variable SIGNCLIP_MODEL. For all pairs see SignCLIP.score.
    """
    check_list(poses, "poses")
    check_list(texts, "texts")
    if len(poses) != len(texts):
        raise UserError(f"expected a text for each pose, got {len(poses)} poses and {len(texts)} texts.")
    if model is None:
        model = os.environ.get(MODEL) or None
        if model is None:
            raise UserError(f"no model is given: pass model=FOLDER, or set {MODEL} to a model folder.")
    if isinstance(model, SignCLIP):
        loaded = model
    else:
        folder = model if Path(model).exists() else _find(os.fspath(model))
        loaded = _load(os.path.realpath(folder), _stamp(folder))
    clips, prompts = loaded.embed_pose(poses, normalize=True), loaded.embed_text(texts, normalize=True)
    return np.einsum("nh,nh->n", clips, prompts)


_find = lru_cache(maxsize=8)(find_model)
"""The hub is asked once for each name."""


@lru_cache(maxsize=2)
def _load(folder: str, stamp: tuple[tuple[int, ...], ...]) -> SignCLIP:
    return SignCLIP.from_pretrained(folder)


def _stamp(folder: str | os.PathLike[str]) -> tuple[tuple[int, ...], ...]:
    """Stamps of a model's files: a model that changed is reloaded."""
    return tuple(file_stamp(file.stat()) for file in model_files(folder) if file.is_file())
