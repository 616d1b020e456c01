"""SignCLIP: contrastive learning of a joint embedding space for text and sign-language video.

`mmpt.from_pretrained(folder)` loads a trained model that embeds clips and prompts; `mmpt.score(poses, texts)`
scores how well poses match texts; `mmpt.spot(model, recording, texts)` finds texts in a long recording.
Importing this package imports nothing else until they are used.
"""

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmpt.embedding.embedder import SignCLIP
    from mmpt.embedding.scoring import score
    from mmpt.spotting import spot

    from_pretrained = SignCLIP.from_pretrained

__version__ = "0.2.0"

__all__ = ["SignCLIP", "__version__", "from_pretrained", "score", "spot"]


def __getattr__(name: str) -> Any:
    if name == "from_pretrained":
        from mmpt.embedding.embedder import SignCLIP

        return SignCLIP.from_pretrained
    if name == "SignCLIP":
        from mmpt.embedding.embedder import SignCLIP

        return SignCLIP
    if name == "score":
        from mmpt.embedding.scoring import score

        return score
    if name == "spot":
        from mmpt.spotting import spot

        return spot
    raise AttributeError(f"module 'mmpt' has no attribute {name!r}")


if "fairseq.tasks" in sys.modules and "mmpt.fairseq_plugin" not in sys.modules:
    # `fairseq-train --user-dir mmpt` imports this package to register task, model and criterion
    import mmpt.fairseq_plugin  # noqa: F401
    from mmpt.utils.errors import show_user_errors_in_one_line

    show_user_errors_in_one_line()
