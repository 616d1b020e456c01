"""The finger alphabets of the package `signwriting`: the signs of letters in 24 sign languages."""

import functools

from mmpt.signwriting.signs import canonical, read_sign
from mmpt.utils.text import nfc


def signs_of_letter(language: str, letter: str) -> list[str]:
    """The signs of a letter in a sign language (ISO 639-3) in FSW, the usual one first; [] if unknown."""
    return list(_alphabet(language).get(nfc(letter).lower(), ()))


def has_alphabet(language: str) -> bool:
    """Whether the signs of a language's letters are known."""
    return bool(_alphabet(language))


@functools.cache
def _alphabet(language: str) -> dict[str, tuple[str, ...]]:
    from signwriting.fingerspelling.fingerspelling import FINGERSPELLING_DIR, get_chars, variant_signs

    if not (language.isalpha() and (FINGERSPELLING_DIR / f"{language}.json").is_file()):
        return {}
    signs = {letter: variant_signs(variants) for letter, variants in get_chars(language).items()}
    return {
        letter: tuple(dict.fromkeys(canonical(read_sign(fsw)).fsw for fsw in found))
        for letter, found in signs.items()
    }
