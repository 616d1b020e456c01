"""Names of letters and of sign languages in prompts."""

import unicodedata

from mmpt.utils.text import nfc

#: ISO 639-3 codes of the sign languages in the fingerspelling lexicon
SIGN_LANGUAGES = {
    "ase": "American Sign Language",
    "asq": "Austrian Sign Language",
    "bzs": "Brazilian Sign Language",
    "cse": "Czech Sign Language",
    "csq": "Croatian Sign Language",
    "eso": "Estonian Sign Language",
    "fsl": "French Sign Language",
    "gsg": "German Sign Language",
    "gss": "Greek Sign Language",
    "ise": "Italian Sign Language",
    "jos": "Jordanian Sign Language",
    "lls": "Lithuanian Sign Language",
    "mfs": "Mexican Sign Language",
    "psr": "Portuguese Sign Language",
    "sgg": "Swiss-German Sign Language",
    "ssp": "Spanish Sign Language",
    "svk": "Slovakian Sign Language",
    "swl": "Swedish Sign Language",
    "tsm": "Turkish Sign Language",
    "ukl": "Ukrainian Sign Language",
}

_WRITTEN_OUT = {"Ä": "AE", "Ö": "OE", "Ü": "UE", "ß": "ESZETT", "ẞ": "ESZETT"}


def write_out(letter: str) -> str:
    """Write a letter in plain A-Z, so that a tokenizer which strips accents keeps letters apart.

    German umlauts as in the RWTH ids (Ä -> AE); others by their Unicode name (Š -> S WITH CARON, Ω -> GREEK
    OMEGA); groups of letters (Sch, LL) in capitals. Upper and lower case give the same result.
    """
    if letter.isascii():
        return letter.upper()
    return " ".join(_name(character) for character in nfc(letter))


def _name(character: str) -> str:
    upper = character if character == "ß" else character.upper()
    if upper in _WRITTEN_OUT:
        return _WRITTEN_OUT[upper]
    if upper.isascii():
        return upper
    one = upper if len(upper) == 1 else character  # the capital of some (ǰ) is two characters
    words = unicodedata.name(one, f"U+{ord(one):04X}")
    for word in (" CAPITAL", " SMALL", " LETTER"):
        words = words.replace(word, "")
    return words.removeprefix("LATIN ")
