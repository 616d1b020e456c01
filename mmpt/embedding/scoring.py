"""How well a pose says a text, for those who evaluate generated signing."""

import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mmpt.embedding.embedder import SignCLIP, check_list
from mmpt.models.folder import CONFIG_FILE, WEIGHTS_FILE
from mmpt.utils.errors import UserError

if TYPE_CHECKING:
    from pose_format import Pose

MODEL = "SIGNCLIP_MODEL"


def score(
    poses: "Sequence[Pose | str | os.PathLike[str]]",
    texts: Sequence[str],
    model: "SignCLIP | str | os.PathLike[str] | None" = None,
) -> NDArray[np.float32]:
    """Cosine similarity of each pose with its own text, float32 [N] (SignCLIPScore).

    poses: N pose-format objects or files. texts: N prompts, in the form that the model was trained on.
    model: a SignCLIP or a model folder (loaded once, and again when it changes); None takes the folder that
    SIGNCLIP_MODEL names. For all texts with all poses see SignCLIP.score. Raises UserError.
    """
    check_list(poses, "poses")
    check_list(texts, "texts")
    if len(poses) != len(texts):
        raise UserError(f"expected a text for each pose, got {len(poses)} poses and {len(texts)} texts.")
    if model is None:
        model = os.environ.get(MODEL) or None
        if model is None:
            raise UserError(
                f"there is no model to score with: give model=FOLDER, or set {MODEL} to a folder."
            )
    loaded = model if isinstance(model, SignCLIP) else _load(os.path.realpath(model), _stamp(model))
    clips, prompts = loaded.embed_pose(poses, normalize=True), loaded.embed_text(texts, normalize=True)
    return np.einsum("nh,nh->n", clips, prompts)


@lru_cache(maxsize=2)
def _load(folder: str, stamp: tuple[tuple[int, int], ...]) -> SignCLIP:
    return SignCLIP.from_pretrained(folder)


def _stamp(folder: str | os.PathLike[str]) -> tuple[tuple[int, int], ...]:
    """Time of change and size of the files of a model: another model under the same name is loaded anew."""
    files = [Path(folder, name) for name in (WEIGHTS_FILE, CONFIG_FILE)]
    return tuple((file.stat().st_mtime_ns, file.stat().st_size) for file in files if file.is_file())
