"""The lexicon inside the package `spoken-to-signed`: 600 MediaPipe poses of letters in 20 sign languages.

Whole sign languages are held out: a test clip shows a signer and an alphabet that training never saw.
"""

import importlib.util
import logging
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from mmpt.config.schema import DatasetConfig
from mmpt.processors.example import Example, MetaProcessor
from mmpt.processors.letters import SIGN_LANGUAGES, write_out
from mmpt.processors.registry import META_PROCESSORS
from mmpt.processors.table_writer import read_csv
from mmpt.utils.errors import MissingDataError, UserError
from mmpt.utils.files import sha256

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Row:
    """A row of the lexicon's index."""

    path: Path
    language: str
    letter: str


@META_PROCESSORS.register("FingerspellingMetaProcessor")
class FingerspellingMetaProcessor(MetaProcessor):
    """One split of the lexicon.

    A clip whose file is, byte for byte, in a split that is judged (test before valid before train) is left
    out of the others, so that nothing leaks; a file listed twice within a split counts once.
    """

    def __init__(self, rows: list[Row], prompt: str, left_handed: list[str]):
        self.examples = []
        for row in rows:
            text = prompt_of(prompt, row.letter, row.language)
            video_id = f"{row.language}/{row.path.stem}"
            self.examples.append(Example(video_id, text, row.path, row.language in left_handed, row.language))

    @classmethod
    def from_config(cls, config: DatasetConfig, split: str, suffix: str) -> "FingerspellingMetaProcessor":
        if suffix != ".pose":
            raise UserError(
                "dataset.video_processor: the fingerspelling lexicon holds poses: take a pose processor."
            )
        rows = read_index(find_lexicon(config.vfeat_dir))
        languages = _languages(config, rows)
        chosen = split_rows(rows, languages, config.letters, config.extra_letters)[split]
        if not chosen:
            raise UserError(
                f"the {split} split is empty: dataset.{split}_languages is {languages[split]} and "
                f"dataset.letters has "
                f"{len(config.letters)} letters. Sign languages with clips: "
                f"{', '.join(sorted({r.language for r in rows}))}."
            )
        if "{letter}" not in config.prompt:
            raise UserError(
                f"dataset.prompt: {config.prompt!r} has no {{letter}} in it: all prompts would be the same."
            )
        try:
            return cls(chosen, config.prompt, config.left_handed)
        except (KeyError, IndexError, ValueError, AttributeError, TypeError, MemoryError) as error:
            raise UserError(
                f"dataset.prompt: {config.prompt!r}: only {{letter}}, {{language}} and {{code}} can be "
                f"filled in "
                f"({error})."
            ) from error

    def describe(self) -> str:
        counts = Counter(example.group for example in self.examples)
        return (
            super().describe() + ": " + " ".join(f"{name}:{count}" for name, count in sorted(counts.items()))
        )


def prompt_of(template: str, letter: str, language: str) -> str:
    """The prompt of a letter in a sign language (ISO 639-3), by a template as in dataset.prompt."""
    name = SIGN_LANGUAGES.get(language, language)
    return template.format(letter=write_out(letter), language=name, code=language)


def find_lexicon(folder: str | None) -> Path:
    """The lexicon's folder: `folder` if given, else the one inside the installed package (which is not
    imported)."""
    if folder is not None:
        found = Path(folder)
    else:
        spec = importlib.util.find_spec("spoken_to_signed")
        if spec is None or not spec.submodule_search_locations:
            raise MissingDataError(
                "the fingerspelling lexicon comes with the package spoken-to-signed, which is not installed: "
                "`pip install --no-deps spoken-to-signed==0.4.0`, or `make install`."
            )
        found = Path(spec.submodule_search_locations[0]) / "assets" / "fingerspelling_lexicon"
    if not (found / "index.csv").is_file():
        raise MissingDataError(
            f"there is no index.csv in {found}: expected the lexicon's folder (index.csv and .pose files)."
        )
    return found


def read_index(folder: Path) -> list[Row]:
    """The rows of index.csv, in its order. Raises UserError where columns are missing or a path leaves the
    folder."""
    lines = read_csv(folder / "index.csv", ("path", "signed_language", "words"))
    rows = [Row(folder / r["path"], r["signed_language"], r["words"]) for r in lines]
    for row in rows:
        if not row.path.resolve().is_relative_to(folder.resolve()):
            raise UserError(f"{folder / 'index.csv'}: {row.path} is outside the lexicon's folder.")
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
                f"dataset.{one}_languages and dataset.{other}_languages share {', '.join(both)}: a split "
                f"must be unseen."
            )
    return languages


def split_rows(
    rows: list[Row], languages: dict[str, list[str]], letters: list[str], extra_letters: bool
) -> dict[str, list[Row]]:
    """Rows of each split. Only training gets the extra letters. No file, by content, is in two splits or
    twice in one."""
    wanted = {write_out(letter) for letter in letters}
    digests = _digests(rows, {name for names in languages.values() for name in names})
    taken: set[str] = set()
    splits: dict[str, list[Row]] = {}
    for split in ("test", "valid", "train"):
        splits[split] = []
        repeats: Counter[str] = Counter()
        for row in rows:
            extra = write_out(row.letter) not in wanted
            if row.language not in languages[split] or (extra and not (extra_letters and split == "train")):
                continue
            digest = digests[row.path]
            if digest in taken:
                repeats[row.language] += 1
                continue
            taken.add(digest)
            splits[split].append(row)
        for language, count in repeats.items():
            log.info("%s: %d clips of %s left out: the same files are already in use", split, count, language)
    return splits


_KNOWN_DIGESTS: dict[tuple[str, int, int], str] = {}


def _digests(rows: list[Row], languages: set[str]) -> dict[Path, str]:
    """Content hashes of the files of some languages; files of a size that nothing else has need no hash."""
    sizes: dict[Path, int] = {}
    for row in rows:
        if row.language in languages and row.path not in sizes:
            if not row.path.is_file():
                raise MissingDataError(
                    f"{row.path}: listed in index.csv, but not there: install spoken-to-signed again."
                )
            sizes[row.path] = row.path.stat().st_size
    shared = {size for size, count in Counter(sizes.values()).items() if count > 1}
    digests = {}
    for path, size in sizes.items():
        if size not in shared:
            digests[path] = f"only file of {size} bytes"
            continue
        key = (str(path), size, path.stat().st_mtime_ns)
        if key not in _KNOWN_DIGESTS:
            _KNOWN_DIGESTS[key] = sha256(path)
        digests[path] = _KNOWN_DIGESTS[key]
    return digests
