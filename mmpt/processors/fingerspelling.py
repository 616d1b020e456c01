"""The fingerspelling lexicon of `spoken-to-signed`: 600 MediaPipe poses of letters in 20 sign languages.

Whole sign languages are held out, so a test clip shows an unseen signer and alphabet.
"""

import functools
import logging
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmpt.config.schema import DatasetConfig
from mmpt.processors.example import META_PROCESSORS, Example, MetaProcessor
from mmpt.processors.table_writer import read_csv
from mmpt.processors.templates import check_weights
from mmpt.signwriting.alphabets import has_alphabet, signs_of_letter
from mmpt.utils.errors import MissingDataError, UserError
from mmpt.utils.files import content_ids, file_stamp
from mmpt.utils.packages import package_folder
from mmpt.utils.text import counted, nfc

log = logging.getLogger(__name__)

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


@dataclass(frozen=True)
class Row:
    """A row of the lexicon's index."""

    path: Path
    language: str
    letter: str


class LetterTemplates:
    """Makes the prompts of a letter in a sign language.

    prompt: as dataset.prompt. templates: as dataset.prompt_templates; {text} is `prompt`. Both may contain
    {letter}, {language}, {code} and {signwriting}, the sign of the letter (signwriting.alphabets). Raises
    UserError for other fields, and for a template in which no letter occurs.
    """

    def __init__(self, prompt: str, templates: Sequence[str] = ("{text}",)):
        self.templates = [template.replace("{text}", prompt) for template in templates]
        self.with_signs = any("{signwriting}" in template for template in self.templates)
        for template in self.templates:
            if not any(name in template for name in ("{letter}", "{signwriting}")):
                raise UserError(
                    f"dataset.prompt: {template!r} contains neither {{letter}} nor {{signwriting}}: all "
                    "prompts would be equal."
                )
            self._fill(template, "A", "ase", "")

    def prompts(self, letter: str, language: str) -> list[str]:
        """The prompt of each template; "" for one that needs a sign that is not known."""
        sign = next(iter(signs_of_letter(language, letter)), "") if self.with_signs else ""
        return [
            "" if "{signwriting}" in template and not sign else self._fill(template, letter, language, sign)
            for template in self.templates
        ]

    def _fill(self, template: str, letter: str, language: str, sign: str) -> str:
        name = SIGN_LANGUAGES.get(language, language)
        try:
            return template.format(letter=write_out(letter), language=name, code=language, signwriting=sign)
        except (KeyError, IndexError, ValueError, AttributeError, TypeError, MemoryError) as error:
            raise UserError(
                f"dataset.prompt: {template!r}: only {{letter}}, {{language}}, {{code}} and {{signwriting}} "
                f"can be filled in ({error})."
            ) from error


@META_PROCESSORS.register("FingerspellingMetaProcessor")
class FingerspellingMetaProcessor(MetaProcessor):
    """One split of the lexicon.

    To prevent leaks, files with equal content are kept in one split only (test before valid before train),
    and only once.

    rows: clips; those without a prompt by the first template are left out, and counted in `without_sign`.
    prompt_weights: as dataset.prompt_weights.
    """

    def __init__(
        self,
        rows: list[Row],
        templates: LetterTemplates,
        left_handed: list[str],
        prompt_weights: Sequence[float] | None = None,
    ):
        self.prompt_weights = check_weights(prompt_weights, len(templates.templates))
        self.examples = []
        self.without_sign: Counter[str] = Counter()
        for row in rows:
            text, *others = templates.prompts(row.letter, row.language)
            video_id = f"{row.language}/{row.path.stem}"
            mirror = row.language in left_handed
            if not text:
                self.without_sign[row.language] += 1
                continue
            language = row.language
            self.examples.append(
                Example(
                    video_id, text, row.path, mirror, language, other_texts=tuple(others), language=language
                )
            )

    @classmethod
    def from_config(cls, config: DatasetConfig, split: str, suffix: str) -> "FingerspellingMetaProcessor":
        """See MetaProcessor."""
        if suffix != ".pose":
            raise UserError(
                "dataset.video_processor: the fingerspelling lexicon holds poses: use PoseProcessor."
            )
        rows = read_index(find_lexicon(config.vfeat_dir))
        languages = _languages(config, rows)
        chosen = split_rows(rows, languages, config.letters, config.extra_letters)[split]
        if not chosen:
            raise UserError(
                f"the {split} split is empty: dataset.{split}_languages is {languages[split]} and "
                f"dataset.letters has {len(config.letters)} letters. Sign languages with clips: "
                f"{', '.join(sorted({r.language for r in rows}))}."
            )
        templates = LetterTemplates(config.prompt, config.prompt_templates)
        if templates.with_signs:  # the other letters teach by their signs
            wanted = {write_out(letter) for letter in config.letters}
            chosen = [
                r for r in chosen if write_out(r.letter) in wanted or signs_of_letter(r.language, r.letter)
            ]
        corpus = cls(chosen, templates, config.left_handed, config.prompt_weights)
        if not corpus.examples:
            raise UserError(
                f"the {split} split is empty: no letter of {', '.join(languages[split])} has a known sign in "
                f"SignWriting, which the prompt {templates.templates[0]!r} needs. Sign languages with "
                f"SignWriting: {', '.join(sorted({r.language for r in rows if has_alphabet(r.language)}))}."
            )
        return corpus

    @classmethod
    def table_templates(cls, config: DatasetConfig) -> list[str]:
        """See MetaProcessor. A table's `text` is the letter, `signed_language` the language's code."""
        return [
            template.replace("{letter}", "{text}").replace("{code}", "{signed_language}")
            for template in LetterTemplates(config.prompt, config.prompt_templates).templates
        ]

    def describe(self) -> str:
        """See MetaProcessor; with the clips of each sign language."""
        counts = Counter(example.group for example in self.examples)
        line = super().describe() + ": " + " ".join(f"{name}:{n}" for name, n in sorted(counts.items()))
        if self.without_sign:
            left = " ".join(f"{name}:{n}" for name, n in sorted(self.without_sign.items()))
            line += (
                f"; {counted(sum(self.without_sign.values()), 'clip')} without SignWriting left out: {left}"
            )
        letters_only = sum("" in example.other_texts for example in self.examples)
        if letters_only:
            line += (
                f"; {counted(letters_only, 'clip has', 'clips have')} no SignWriting, only a letter prompt"
            )
        return line


def find_lexicon(folder: str | None) -> Path:
    """The lexicon's folder: `folder`, or the one in the installed package, which is not imported.

    Raises MissingDataError if there is none.
    """
    if folder is not None:
        found = Path(folder)
    elif package := package_folder("spoken_to_signed"):
        found = package / "assets" / "fingerspelling_lexicon"
    else:
        raise MissingDataError(
            "the fingerspelling lexicon is part of the package spoken-to-signed, which is not installed: "
            "`pip install --no-deps spoken-to-signed==0.4.0`, or `make install`."
        )
    if not (found / "index.csv").is_file():
        raise MissingDataError(
            f"there is no index.csv in {found}: expected the lexicon's folder (index.csv and .pose files)."
        )
    return found


def read_index(folder: Path) -> list[Row]:
    """The rows of index.csv, in order.

    Raises UserError if columns are missing or a path points outside the folder.
    """
    index = folder / "index.csv"
    return list(_read_index(index, *file_stamp(index.stat())))


@functools.lru_cache(maxsize=4)
def _read_index(index: Path, *stamp: int) -> tuple[Row, ...]:
    """The rows of a file, which is read once as long as its stamp is the same."""
    folder = index.parent
    lines = read_csv(index, ("path", "signed_language", "words"))
    rows = tuple(Row(folder / r["path"], r["signed_language"], r["words"]) for r in lines)
    inside = folder.resolve()
    for row in rows:
        if not row.path.resolve().is_relative_to(inside):
            raise UserError(f"{index}: {row.path} is outside the lexicon's folder.")
    return rows


def _languages(config: DatasetConfig, rows: list[Row]) -> dict[str, list[str]]:
    known = sorted({row.language for row in rows})
    held_out = {*config.test_languages, *config.valid_languages}
    train = config.train_languages
    languages = {
        "test": config.test_languages,
        "valid": config.valid_languages,
        "train": [name for name in known if name not in held_out] if train is None else train,
    }
    for split, names in languages.items():
        for name in names:
            if name not in known:
                raise UserError(
                    f"dataset.{split}_languages: there is no sign language {name!r}. Known: "
                    f"{', '.join(known)}."
                )
    for name in config.left_handed:
        if name not in {*known, *SIGN_LANGUAGES}:
            raise UserError(
                f"dataset.left_handed: there is no sign language {name!r}. Known: {', '.join(known)}."
            )
    for one, other in (("test", "valid"), ("test", "train"), ("valid", "train")):
        both = sorted(set(languages[one]) & set(languages[other]))
        if both:
            raise UserError(
                f"dataset.{one}_languages and dataset.{other}_languages share {', '.join(both)}: name each "
                "sign language in one split only."
            )
    return languages


def split_rows(
    rows: list[Row], languages: dict[str, list[str]], letters: list[str], extra_letters: bool
) -> dict[str, list[Row]]:
    """The rows of each split; files with equal content are kept once. Only training has extra letters."""
    wanted = {write_out(letter) for letter in letters}
    known = {name for names in languages.values() for name in names}
    files = [row.path for row in rows if row.language in known]
    if missing := next((file for file in files if not file.is_file()), None):
        raise MissingDataError(f"{missing}: missing, but listed in index.csv: reinstall spoken-to-signed.")
    content = content_ids(files)
    taken: set[str] = set()
    splits: dict[str, list[Row]] = {}
    for split in ("test", "valid", "train"):
        splits[split] = []
        repeats: Counter[str] = Counter()
        for row in rows:
            extra = write_out(row.letter) not in wanted
            if row.language not in languages[split] or (extra and not (extra_letters and split == "train")):
                continue
            if content[row.path] in taken:
                repeats[row.language] += 1
                continue
            taken.add(content[row.path])
            splits[split].append(row)
        for language, count in repeats.items():
            log.info("%s: %d duplicate clips of %s skipped", split, count, language)
    return splits


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
