"""Signs in FSW and SWU: what is read, and the errors that name the invalid part."""

import random
import re

import pytest
from signwriting.fingerspelling.fingerspelling import FINGERSPELLING_DIR, get_chars, variant_signs
from signwriting.formats.fsw_to_swu import fsw2swu
from signwriting.utils.canonicalize import canonicalize
from signwriting.visualizer.visualize import signwriting_to_image

from mmpt.signwriting import Sign, canonical, contains_sign, read_sign, split_signs
from mmpt.signwriting.alphabets import has_alphabet, signs_of_letter
from mmpt.signwriting.ids import FIRST_ID, pack, unpack
from mmpt.signwriting.signs import exists
from mmpt.utils.errors import UserError

ALPHABETS = sorted(file.stem for file in FINGERSPELLING_DIR.glob("*.json"))
SIGNS = sorted(
    {fsw for name in ALPHABETS for each in get_chars(name).values() for fsw in variant_signs(each)}
)


def random_fsw(rng: random.Random) -> str:
    """A valid sign of one to four symbols of the ISWA."""

    def place() -> str:
        return f"{rng.randint(250, 749)}x{rng.randint(250, 749)}"

    symbols: list[str] = []
    while len(symbols) < rng.randint(1, 4):
        base, fill, rotation = rng.randint(0x100, 0x38B), rng.randint(0, 5), rng.randint(0, 15)
        if exists(base, fill, rotation):
            symbols.append(f"S{base:x}{fill}{rotation:x}{place()}")
    return rng.choice("BLMR") + place() + "".join(symbols)


def planted(fsw: str, rng: random.Random) -> tuple[str, str]:
    """A sign with an error, and the part that the message must show."""
    start = 8 + 13 * rng.randrange((len(fsw) - 8) // 13)
    key, end = fsw[start : start + 6], fsw[start + 6 : start + 13]
    kinds = [
        (fsw[:start] + "T" + fsw[start + 1 :], "T" + key[1:]),
        (fsw[:start] + "S9" + fsw[start + 2 :], "S9" + key[2:]),
        (fsw[:start] + key[:4] + "6" + key[5] + fsw[start + 6 :], key[:4] + "6"),
        (fsw[:start] + "S38c00" + fsw[start + 6 :], "S38c00"),
        (fsw[:start] + key + "249" + fsw[start + 9 :], "249x" + end[4:]),
        (fsw[:start] + key + end[:4] + "750" + fsw[start + 13 :], end[:4] + "750"),
        (fsw[:start] + key + end.replace("x", "y") + fsw[start + 13 :], end.replace("x", "y")),
        ("X" + fsw[1:], "X" + fsw[1:8]),
        (fsw[:-1], fsw[-7:-1]),
        (fsw + "Q", "'Q'"),
        (fsw[:8], "holds no symbol"),
        ("A" + fsw, "key for sorting"),
    ]
    return rng.choice(kinds)


@pytest.mark.parametrize("seed", range(50))
def test_each_planted_error_is_shown(seed):
    rng = random.Random(seed)
    bad, part = planted(random_fsw(rng), rng)
    with pytest.raises(UserError, match=re.escape(part)) as raised:
        split_signs(f"a letter {bad} in words")
    assert bad in str(raised.value)


@pytest.mark.parametrize(
    "bad",
    [
        "M5x8S1f7",
        "m5x8s1f7",
        "M510X508S1F720490X493",
        "m510x508s1f720490x493",
        "M510x508s1f720490x493",
        "m510x508S1f720490x493",
        "M510x508",
        "M51x508S1f720490x493",
        "M5100x508S1f720490x493",
        "m510x508S",
        "AS1f720",
        "S1f720",
        "S10000S20500",
        "as1f720s20500",
        "S38800464X496",
        "s38800464x496",
        "S388004x496",
        "S1F720",
        "M51\u0660x508S1f720490x493",
        "M510x508S1f72049\u0660x493",
        "S3880046\u0664x496",
    ],
)
def test_attempts_at_a_sign_are_no_words(bad):
    """Nor in small or capital letters, as an editor may change them, or with other numbers."""
    assert contains_sign(f"the letter {bad}")
    with pytest.raises(UserError, match=f"the sign '{bad}' is not valid SignWriting"):
        split_signs(f"the letter {bad}")


@pytest.mark.parametrize("seed", range(20))
def test_fsw_and_swu_are_the_same_sign(seed):
    fsw = random_fsw(random.Random(seed))
    sign = read_sign(fsw)
    assert sign.fsw == fsw and read_sign(fsw2swu(fsw)) == sign
    symbols = "".join(symbol.key for symbol in sign.symbols)
    assert read_sign(f"A{symbols}{fsw}") == sign  # a key for sorting does not change the sign


def test_punctuation_in_swu_is_that_in_fsw():
    fsw = "S38800464x496"
    sign = read_sign(fsw)
    assert (sign.box, sign.fsw) == ("", fsw) and read_sign(fsw2swu(fsw)) == sign
    with pytest.raises(UserError, match="expected a box"):  # a hand needs one
        read_sign(fsw2swu("S1f720490x493"))


def test_signs_of_the_package_are_valid():
    assert len(SIGNS) > 500 and all(read_sign(fsw).fsw == fsw for fsw in SIGNS)


@pytest.mark.parametrize(
    "bad", ["𝠃𝤟𝤩𝣵𝤐", "𝠃𝤟𝤩", fsw2swu(SIGNS[0])[:-1], fsw2swu(SIGNS[0]) + "x", "𝠃" + fsw2swu(SIGNS[0])]
)
def test_invalid_swu_is_refused(bad):
    with pytest.raises(UserError, match="not valid SignWriting"):
        read_sign(bad)


def test_words_and_signs_of_a_prompt_keep_their_order():
    one, two = SIGNS[0], SIGNS[1]
    parts = split_signs(f"Fingerspell  the letter A. {one} and {two} S38800464x496")
    assert [part.fsw if isinstance(part, Sign) else part for part in parts] == [
        "Fingerspell the letter A.",
        one,
        "and",
        two,
        "S38800464x496",
    ]


@pytest.mark.parametrize(
    "word",
    [
        "M",
        "S",
        "S12",
        "Small",
        "A4",
        "B12",
        "M25",
        "L1080x720",
        "1920x1080",
        "R2D2",
        "M5",
        "M5x8",
        "m8x25S",
        "S10000",
        "AS10000",
        "S38800",
        "Saccade",
        "640X480",
        "m640x480",
        "s1920x1080",
        "4x4S1",
        "classes100x200",
    ],
)
def test_words_are_no_signs(word):
    assert not contains_sign(f"the {word} word") and split_signs(word) == [word]


@pytest.mark.parametrize("seed", range(10))
def test_canonical_signs_look_the_same_and_do_not_depend_on_place_and_order(seed):
    rng = random.Random(seed)
    sign = read_sign(rng.choice([fsw for fsw in SIGNS if fsw.count("S") > 1]))
    moved = "".join(f"{s.key}{s.x - 7}x{s.y + 5}" for s in sign.symbols)
    elsewhere = read_sign(f"M{sign.corner[0] - 7}x{sign.corner[1] + 5}{moved}")
    same = canonical(sign)
    assert canonical(elsewhere) == same == canonical(same)
    ink = [signwriting_to_image(s.fsw, trust_box=False).tobytes() for s in (sign, same)]
    assert ink[0] == ink[1]


@pytest.mark.parametrize(
    "fsw",
    [
        "M749x749S10000250x250S10000749x720",  # wider than the box
        "M749x749S2ff00250x500S10000600x500",  # the hand is too far from the face
    ],
)
def test_signs_that_do_not_fit_around_their_middle_are_refused(fsw):
    with pytest.raises(UserError, match=f"the sign '{fsw}' is too large"):
        canonical(read_sign(fsw))


def test_a_corner_at_the_end_of_the_box_is_kept_within_it():
    """The package writes 750, which FSW does not have."""
    wide = read_sign("M749x519S10000250x489S10000735x489")
    fsw = canonicalize(wide.fsw)
    assert fsw.startswith("M750x"), fsw
    assert canonical(wide) == read_sign(fsw.replace("M750", "M749"))


def test_the_signs_of_letters():
    # D of German Sign Language has two signs, the usual one first
    assert [fsw.count("S101") for fsw in signs_of_letter("gsg", "d")] == [1, 1]
    assert signs_of_letter("gss", "Ω") and signs_of_letter("sgg", "A\N{COMBINING DIAERESIS}")
    assert signs_of_letter("asq", "A") == [] == signs_of_letter("gsg", "Ж")
    assert not has_alphabet("../data/gsg") and has_alphabet("gsg")
    equal = [signs_of_letter(name, "J")[0] for name in ("gsg", "ase", "sgg")]
    assert all(canonical(read_sign(fsw)).fsw == fsw for fsw in equal)


@pytest.mark.parametrize("seed", range(10))
def test_ids_hold_all_parts_of_a_symbol(seed):
    rng = random.Random(seed)
    signs = [read_sign(random_fsw(rng)) for _ in range(rng.randint(1, 5))]
    ids = pack(signs)
    assert min(ids) >= FIRST_ID and max(ids) < 1 << 62
    found = [unpack(number) for number in ids]
    assert found == [
        {
            "sign": place,
            "base": symbol.base - 0x100,
            "fill": symbol.fill,
            "rotation": symbol.rotation,
            "x": symbol.x - 500,
            "y": symbol.y - 500,
        }
        for place, sign in enumerate(signs)
        for symbol in sign.symbols
    ]
