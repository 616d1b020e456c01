"""The classes of an evaluation as sets of prompts, and their embeddings (CLIP's prompt ensembles).

Radford et al. 2021, https://arxiv.org/abs/2103.00020, section 3.1.4.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mmpt.config.schema import EvalConfig
from mmpt.processors.example import Example
from mmpt.processors.templates import check_weights
from mmpt.signwriting import Sign, contains_sign, split_signs
from mmpt.utils.arrays import unit_rows
from mmpt.utils.errors import UserError

UNSEEN_ALPHABET = "unseen-alphabet"


@dataclass(frozen=True)
class PromptSets:
    """The prompts of each class, the class of each clip, and, for unseen-alphabet, the group of each clip.

    weights: of prompts in the mean of their class, by text; 1 for others.
    """

    prompts: list[tuple[str, ...]]
    labels: list[int]
    groups: list[str] | None = None
    weights: Mapping[str, float] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """One text for each class."""
        return [" + ".join(texts) for texts in self.prompts]

    def weights_of(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The weights of some prompts, [P]."""
        return np.array([self.weights.get(text, 1.0) for text in texts], dtype=np.float32)


def prompt_sets(examples: Sequence[Example], options: EvalConfig) -> PromptSets:
    """The classes of a split.

    With prompt_ensemble, a class has all prompts of its clips, else the first alone. With the protocol
    unseen-alphabet, clips with the same prompts are one class, else clips with the same first prompt. Raises
    UserError for unseen-alphabet without signs, and for weights that do not fit the templates.
    """
    weights = _prompt_weights(examples, options)
    texts = [evaluated_prompts(example, options) for example in examples]
    if options.protocol == UNSEEN_ALPHABET:
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
    return PromptSets(list(classes.values()), [number[key] for key in keys], groups, weights)


def evaluated_prompts(example: Example, options: EvalConfig) -> tuple[str, ...]:
    """The clip's prompts that are evaluated: all with prompt_ensemble, else the first."""
    return (example.text, *filter(None, example.other_texts)) if options.prompt_ensemble else (example.text,)


def ensemble_weights(options: EvalConfig, templates: int) -> list[float] | None:
    """The weights of the templates in a prompt ensemble; None: equal. Raises UserError if they do not fit."""
    given, key = options.prompt_ensemble_weights, "eval.prompt_ensemble_weights"
    if given is None:
        return None
    if not options.prompt_ensemble:
        raise UserError(f"{key} has no effect without eval.prompt_ensemble=true: set it, or leave {key} out.")
    weights = check_weights(given, templates, key)
    if not all(weights):
        raise UserError(f"{key}: {given} has a weight of 0: leave that template out of prompt_templates.")
    return weights


def _prompt_weights(examples: Sequence[Example], options: EvalConfig) -> dict[str, float]:
    """The weight of each prompt; of one that several templates make, the first one's."""
    weights = ensemble_weights(options, 1 + len(examples[0].other_texts))
    found: dict[str, float] = {}
    for example in examples:
        for text, weight in zip((example.text, *example.other_texts), weights or ()):
            found.setdefault(text, weight)
    return found


def embed_prompt_sets(
    sets: PromptSets, embed: Callable[[list[str]], NDArray[np.float32]]
) -> NDArray[np.float32]:
    """The embedding of each class, [P, H]: that of its prompt; of several, the mean of their unit vectors."""
    texts = list(dict.fromkeys(text for prompts in sets.prompts for text in prompts))
    row = {text: number for number, text in enumerate(texts)}
    vectors = embed(texts)
    units = unit_rows(vectors.copy())
    return np.stack(
        [
            vectors[row[prompts[0]]]
            if len(prompts) == 1
            else np.average(units[[row[text] for text in prompts]], 0, sets.weights_of(prompts))
            for prompts in sets.prompts
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
