"""Compare a model's embeddings of two extractions of the same videos."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmpt.embedding.embedder import SignCLIP
from mmpt.utils.errors import UserError
from mmpt.utils.text import counted

COSINE_MEDIAN, COSINE_LEAST, SAME_PROMPT = 0.99, 0.9, 0.95
"""Poses can be mixed from these on: median and minimum cosine, share of clips whose first prompt stays."""


def compare_embeddings(
    model: SignCLIP, pairs: Sequence[tuple[str, Path, Path]], prompts: Sequence[str] = ()
) -> dict[str, Any]:
    """The cosine of the embeddings of each pair (name, A, B), and whether the first prompt is the same.

    Pairs of which the model cannot read one are named under "refused".
    """
    texts = model.embed_text(prompts, normalize=True)
    cosines: dict[str, float] = {}
    refused: list[str] = []
    changed: list[str] = []
    for name, a, b in pairs:
        try:
            one, other = model.embed_pose([a, b], normalize=True)
        except UserError as error:
            refused.append(str(error))
            continue
        cosines[name] = float(one @ other)
        if len(texts) and (texts @ one).argmax() != (texts @ other).argmax():
            changed.append(name)
    values = np.array(list(cosines.values()))
    return {
        "clips": len(cosines),
        "refused": refused,
        "median": float(np.median(values)) if len(values) else None,
        "least": float(values.min()) if len(values) else None,
        "least of": min(cosines, key=lambda name: cosines[name]) if cosines else None,
        "prompts": len(prompts),
        "same prompt": 1 - len(changed) / len(cosines) if prompts and cosines else None,
        "other prompt": changed,
    }


def why_not_mixed(found: dict[str, Any]) -> list[str]:
    """Why poses of A and B should not be mixed for this model; empty if they can be."""
    if not found["clips"]:
        return ["the model cannot read both of any clip"]
    reasons = []
    if found["refused"]:
        reasons.append(f"the model refuses {counted(len(found['refused']), 'clip')}")
    for key, what, limit in (("median", "median", COSINE_MEDIAN), ("least", "minimum", COSINE_LEAST)):
        if not found[key] >= limit:
            reasons.append(f"{what} cosine {found[key]:.4f} (at least {limit:g})")
    if found["same prompt"] is not None and found["same prompt"] < SAME_PROMPT:
        reasons.append(
            f"the first prompt stays in {found['same prompt']:.1%} of clips (at least {SAME_PROMPT:.0%})"
        )
    return reasons


def text(found: dict[str, Any]) -> str:
    """The comparison of the embeddings as text."""
    if not found["clips"]:
        return "embeddings: none could be compared"
    line = (
        f"embeddings of {found['clips']} clips: cosine median {found['median']:.4f}, minimum "
        f"{found['least']:.4f} ({found['least of']})"
    )
    if found["same prompt"] is not None:
        line += f"; the first of {found['prompts']} prompts stays in {found['same prompt']:.1%}"
    return line
