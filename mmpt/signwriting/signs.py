"""Read signs in SignWriting, alone or within a prompt.

A sign in FSW is a box and its symbols with their places: `M508x507S1f720488x492`. B, L, M and R are the
kinds of box (L and R: the left and right lane). An `A` with symbols before the box is a key for sorting a
dictionary and does not change the sign. A symbol `S1f720` has the base `S1f7`, the fill 2 and the rotation 0.
See Slevinski, https://datatracker.ietf.org/doc/draft-slevinski-formal-signwriting/.
"""

import functools
import re
from dataclasses import dataclass
from pathlib import Path

from signwriting.formats.swu import re_swu
from signwriting.formats.swu_to_fsw import swu2fsw

from mmpt.utils.errors import UserError

FIRST_BASE, LAST_BASE = 0x100, 0x38B
_STARTS = """100 10e 11e 144 14c 186 1a4 1ba 1cd 1f5
    205 216 22a 255 265 288 2a6 2b7 2d5 2e3 2f7 2ff 30a 32a 33b 359 36d 376 37f 387"""
GROUPS = tuple(int(start, 16) for start in _STARTS.split())
"""First base of each group: ten of hands, then contact, movement, dynamics, head, body, location, ..."""
HANDS = 10
"""Number of groups of hands, which come first."""
FILLS, ROTATIONS = 6, 16
LOWEST, HIGHEST = 250, 749
"""The coordinates of FSW; 500 is the middle."""
EXAMPLE = "M508x507S1f720488x492"

_BOX = re.compile(r"[BLMR](?=\d)")
_COORDINATES = re.compile(r"([0-9]{3})x([0-9]{3})(?!\d)")
_SYMBOL = re.compile(r"S[123][0-9a-f]{2}[0-5][0-9a-f]")
_SORTING = re.compile(rf"A(?:{_SYMBOL.pattern})+(?=[BLMR])")
_PUNCTUATION = re.compile(r"S38[7-9ab][0-5][0-9a-f]\d{3}x\d{3}\Z")
_LIKE_FSW = re.compile(
    r"^A?S(?=\d*[a-fA-F])[123][0-9a-fA-F]{2}[0-5][0-9a-fA-F]"  # one symbol: S1f720, but S10000 is a word
    r"|S[0-9a-fA-F]{3}\w{0,3}\d{2,4}x\d"  # a symbol and its place
    r"|^(?i:A?(?:S[0-9a-f]{5}){2}|S[0-9a-f]{5}\d{2,4}x\d)"
    r"|^[BLMR]\d{3}x\d{3}"  # a box; M5x8 is a word, M5x8S1f7 is not
    r"|^(?i:[a-z]\d+x\d+S\d[0-9a-f])|^[A-Za-z]\d{3}x\d{3}S"
)
_LIKE_SWU = re.compile("[\U0001d800-\U0001dfff\U00040001-\U0004ffff]")


@dataclass(frozen=True)
class Symbol:
    """A symbol of the ISWA 2010 and the place of its top left corner, in FSW coordinates."""

    base: int
    fill: int
    rotation: int
    x: int
    y: int

    @property
    def key(self) -> str:
        """As in FSW: `S1f720`."""
        return f"S{self.base:03x}{self.fill:x}{self.rotation:x}"

    @property
    def number(self) -> int:
        """Base, fill and rotation as one number from 0: the symbol's id in the ISWA 2010, less 1."""
        return ((self.base - FIRST_BASE) * FILLS + self.fill) * ROTATIONS + self.rotation


@dataclass(frozen=True)
class Sign:
    """A sign: kind and lower right corner of its box, and at least one symbol.

    Punctuation is a sign of one symbol without a box (box: "").
    """

    box: str
    corner: tuple[int, int]
    symbols: tuple[Symbol, ...]

    @property
    def fsw(self) -> str:
        """The sign in FSW, without a key for sorting."""
        places = "".join(f"{symbol.key}{symbol.x}x{symbol.y}" for symbol in self.symbols)
        return f"{self.box}{self.corner[0]}x{self.corner[1]}{places}" if self.box else places


def split_signs(text: str) -> list[str | Sign]:
    """The parts of a prompt: signs, and the words between them.

    Words are joined by single spaces. Raises UserError for a word that begins like a sign but is not one.
    """
    parts: list[str | Sign] = []
    for word in text.split():
        if looks_like_a_sign(word):
            parts.append(read_sign(word))
        elif parts and isinstance(parts[-1], str):
            parts[-1] += f" {word}"
        else:
            parts.append(word)
    return parts


def looks_like_a_sign(word: str) -> bool:
    """Whether a word is meant as FSW or SWU, valid or not."""
    return bool(_LIKE_FSW.search(word) or _LIKE_SWU.search(word))


def contains_sign(text: str) -> bool:
    """Whether a prompt has a word that is meant as a sign, valid or not."""
    return any(map(looks_like_a_sign, text.split()))


@functools.lru_cache(maxsize=1 << 16)
def read_sign(text: str) -> Sign:
    """A sign in FSW or SWU. Raises UserError that shows the invalid part."""
    fsw = _from_swu(text) if _LIKE_SWU.search(text) else text
    if _PUNCTUATION.match(fsw):
        symbol = _symbol(text, fsw, 0)
        return Sign("", (symbol.x, symbol.y), (symbol,))
    sorting = _SORTING.match(fsw)
    if fsw.startswith("A") and not sorting:
        raise _invalid(text, fsw, "the key for sorting (A) needs symbols and a box after them")
    place = sorting.end() if sorting else 0
    if not _BOX.match(fsw, place):
        raise _invalid(
            text, fsw[place:], "expected a box: a capital B, L, M or R and its corner, such as M508x507"
        )
    corner = _corner(text, fsw, place + 1)
    symbols = tuple(_symbol(text, fsw, start) for start in range(place + 8, len(fsw), 13))
    if not symbols:
        raise _invalid(text, fsw, "the box holds no symbol")
    return Sign(fsw[place], corner, symbols)


def _symbol(text: str, fsw: str, place: int) -> Symbol:
    if not _SYMBOL.match(fsw, place):
        raise _invalid(
            text,
            fsw[place : place + 13],
            "expected a symbol: S, three hexadecimal digits from 100 to 38b, a fill from 0 to 5 and a "
            "rotation from 0 to f, in small letters",
        )
    key = fsw[place : place + 6]
    base, fill, rotation = int(key[1:4], 16), int(key[4]), int(key[5], 16)
    if not exists(base, fill, rotation):
        raise _invalid(text, key, "there is no such symbol in the ISWA 2010")
    return Symbol(base, fill, rotation, *_corner(text, fsw, place + 6, key))


@functools.lru_cache(maxsize=1 << 16)
def canonical(sign: Sign) -> Sign:
    """The sign in the middle of its box (its face, if it has one), its symbols in a fixed order.

    Symbols that overlap keep their order if the sign would look different in another one. Raises UserError
    for a sign that is too large to be in the middle.
    """
    from signwriting.utils.canonicalize import canonicalize

    if not sign.box:
        return sign
    fsw = canonicalize(sign.fsw)
    centred = read_sign(fsw[:8].replace(str(HIGHEST + 1), str(HIGHEST)) + fsw[8:])
    if _shape(centred) != _shape(sign):  # the package moves symbols that would be outside
        raise UserError(
            f"the sign {sign.fsw!r} is too large: expected symbols between {LOWEST} and {HIGHEST} when its "
            "middle, or that of its face, is at 500x500."
        )
    return centred


def _shape(sign: Sign) -> list[tuple[str, int, int]]:
    """The symbols and their places relative to the leftmost and the topmost one, sorted."""
    left, top = (min(place) for place in zip(*((symbol.x, symbol.y) for symbol in sign.symbols)))
    return sorted((symbol.key, symbol.x - left, symbol.y - top) for symbol in sign.symbols)


def exists(base: int, fill: int, rotation: int) -> bool:
    """Whether the ISWA 2010 has this symbol."""
    return Symbol(base, fill, rotation, 0, 0).number in _known_symbols()


@functools.cache
def _known_symbols() -> frozenset[int]:
    """The numbers of all symbols, which are the characters of the package's font."""
    from fontTools.ttLib import TTFont

    with TTFont(font_file("Line"), lazy=True) as font:
        return frozenset(code - 0xF0001 for code in font.getBestCmap() if code > 0xF0000)


def font_file(name: str) -> Path:
    """A font of the package `signwriting`: Line, or Fill for the white areas of the symbols."""
    import signwriting.visualizer

    return Path(signwriting.visualizer.__file__).parent / f"SuttonSignWriting{name}.ttf"


def _corner(text: str, fsw: str, place: int, of: str = "the box") -> tuple[int, int]:
    match = _COORDINATES.match(fsw, place)
    if not match:
        raise _invalid(
            text,
            fsw[place : place + 7],
            f"expected the place of {of}: two numbers of three digits with a small x, 508x507",
        )
    x, y = int(match[1]), int(match[2])
    if not (LOWEST <= x <= HIGHEST and LOWEST <= y <= HIGHEST):
        raise _invalid(text, match[0], f"coordinates are from {LOWEST} to {HIGHEST}")
    return x, y


def _from_swu(text: str) -> str:
    match = re.match(rf"{re_swu['sign']}|{re_swu['spatial']}", text)
    if match is None or match.end() < len(text):
        rest = text[match.end() :] if match else text
        raise _invalid(text, rest, "it is not a sign in Unicode SignWriting")
    return swu2fsw(text)


def _invalid(text: str, part: str, why: str) -> UserError:
    shown = "nothing" if not part else repr(part)
    return UserError(f"the sign {text!r} is not valid SignWriting at {shown}: {why}. Example: {EXAMPLE}.")
