"""The classes of an evaluation as sets of prompts, and their embeddings (CLIP's prompt ensembles).

Radford et al. 2021, https://arxiv.org/abs/2103.00020, section 3.1.4.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmpt.processors.example import Example
from mmpt.signwriting import Sign, contains_sign, split_signs
from mmpt.utils.arrays import unit_rows
from mmpt.utils.errors import UserError

UNSEEN_ALPHABET = "unseen-alphabet"


@dataclass(frozen=True)
class PromptSets:
    """The prompts of each class, the class of each clip, and, for unseen-alphabet, the group of each clip."""

    prompts: list[tuple[str, ...]]
    labels: list[int]
    groups: list[str] | None = None

    @property
    def names(self) -> list[str]:
        """One text for each class."""
        return [" + ".join(texts) for texts in self.prompts]


def prompt_sets(examples: Sequence[Example], ensemble: bool, protocol: str) -> PromptSets:
    """The classes of a split.

    ensemble: all prompts of a class, not the first alone. protocol: with unseen-alphabet, clips with the same
    prompts are one class; else clips with the same first prompt. Raises UserError for unseen-alphabet without
    signs.
    """
    texts = [(e.text, *filter(None, e.other_texts)) if ensemble else (e.text,) for e in examples]
    if protocol == UNSEEN_ALPHABET:
        if not all(any(map(contains_sign, each)) for each in texts):
            bare = next(e.video_id for e, each in zip(examples, texts) if not any(map(contains_sign, each)))
            raise UserError(
                f"eval.protocol is {UNSEEN_ALPHABET}, but the prompt of the clip {bare} has no sign: "
                "put {signwriting} into dataset.prompt, or into dataset.prompt_templates with "
                "eval.prompt_ensemble=true, and evaluate languages whose signs are known."
            )
        classes: dict[tuple[str, ...], tuple[str, ...]] = {each: each for each in texts}
        keys, groups = texts, [example.group for example in examples]
    else:
        keys, groups = [(example.text,) for example in examples], None
        classes = {}
        for key, each in zip(keys, texts):
            classes[key] = tuple(dict.fromkeys((*classes.get(key, ()), *each)))
    number = {key: label for label, key in enumerate(classes)}
    return PromptSets(list(classes.values()), [number[key] for key in keys], groups)


def embed_prompt_sets(
    sets: Sequence[Sequence[str]], embed: Callable[[list[str]], NDArray[np.float32]]
) -> NDArray[np.float32]:
    """The embedding of each set, [P, H]: of a single prompt as it is, else the mean of the unit vectors."""
    texts = list(dict.fromkeys(text for prompts in sets for text in prompts))
    row = {text: number for number, text in enumerate(texts)}
    vectors = embed(texts)
    units = unit_rows(vectors.copy())
    return np.stack(
        [
            vectors[row[prompts[0]]] if len(prompts) == 1 else units[[row[text] for text in prompts]].mean(0)
            for prompts in sets
        ]
    )


def symbol_coverage(train: Sequence[Example], sets: PromptSets) -> tuple[dict[str, int], list[bool]]:
    """Number of symbols of the evaluated prompts that training lacks; which clips have an unseen base."""
    seen = {key for e in train for text in (e.text, *e.other_texts) for key in _symbols(text)}
    of_class = [{key for text in texts for key in _symbols(text)} for texts in sets.prompts]
    found = set().union(*of_class)
    bases = {key[:4] for key in seen}
    counts = {
        "symbols": len(found),
        "not_in_training": len(found - seen),
        "bases": len({key[:4] for key in found}),
        "bases_not_in_training": len({key[:4] for key in found} - bases),
    }
    unseen = [any(key[:4] not in bases for key in keys) for keys in of_class]
    return counts, [unseen[label] for label in sets.labels]


def _symbols(text: str) -> list[str]:
    signs = [part for part in split_signs(text) if isinstance(part, Sign)]
    return [symbol.key for sign in signs for symbol in sign.symbols]
