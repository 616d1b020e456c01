"""SignCLIP: text and sign-language video in one latent space, by contrastive learning."""

import sys

__version__ = "0.1.0"

__all__ = ["__version__"]

if "fairseq.tasks" in sys.modules and "mmpt.fairseq_plugin" not in sys.modules:
    # `fairseq-train --user-dir mmpt` imports this package so that it can register its task, model and criterion.
    # Nobody else pays: without fairseq already loaded, this line imports nothing.
    import mmpt.fairseq_plugin  # noqa: F401
