"""The protocols of `eval.protocol`: what an evaluation ranks, and what it reports.

retrieval         clips and prompts; the clips of a prompt are all right
unseen_alphabet   clips among the signs of their own sign language, in SignWriting
sentences         clips and texts, one text a clip, as CLIP4Clip and CiCo report it
one_shot          clips by an example clip, among one clip of each sign

(The protocols of `signclip evaluate --model` on a table are in mmpt/evaluators/recognition.)
"""

from mmpt.evaluators.protocols import one_shot, sentences, unseen_alphabet  # noqa: F401
from mmpt.evaluators.protocols.base import PROTOCOLS, Evaluated

__all__ = ["PROTOCOLS", "Evaluated"]
