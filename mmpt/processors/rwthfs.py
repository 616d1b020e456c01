"""The RWTH German Fingerspelling Database: 35 gestures, 20 signers, two cameras.

https://www-i6.informatik.rwth-aachen.de/aslr/fingerspelling.php
Clips are named <signer>_<letter>_<sequence>_<camera>; cam1 films the hand, cam2 the upper body.
"""

import re
from pathlib import Path

from mmpt.config.schema import DatasetConfig
from mmpt.processors.example import META_PROCESSORS, Example, MetaProcessor
from mmpt.utils.errors import MissingDataError, UserError
from mmpt.utils.logging import some_of
from mmpt.utils.missing_data_hints import RWTH, how_to_get_features
from mmpt.utils.text import counted, read_lines

PROMPT = "Fingerspell the letter {letter} in German Sign Language."
_NAME = re.compile(r"(?P<signer>\d+)_(?P<letter>\d+)_(?P<sequence>\d+)_(?P<camera>cam\d+)")
_SPLITS = (
    f"{RWTH} Then `python scripts/prepare_rwthfs.py --videos DIR --out data/rwthfs` writes the split files."
)
_ELSEWHERE = (
    "Set SIGNCLIP_DATA if the data is elsewhere. To try the framework without the data, run "
    "`make mini-rwthfs` or projects/signclip/fslex_scratch_pose.yaml, whose data is installed."
)


@META_PROCESSORS.register("RWTHFSMetaProcessor")
class RWTHFSMetaProcessor(MetaProcessor):
    """One split: the ids of a split file, with the prompt of their gesture.

    With poses, clips of cam1 are skipped: it shows the hand only, and pose estimation needs the body.
    """

    oversample = True  # SignCLIP repeats clips until every batch contains all gestures

    def __init__(self, ids: list[str], letters: dict[str, str], folder: Path, suffix: str):
        self.examples = []
        self.skipped = 0
        for video_id in ids:
            name = _NAME.fullmatch(video_id)
            assert name is not None, "_read_ids checks them"
            if name["letter"] not in letters:
                raise UserError(
                    f"clip id {video_id!r}: there is no gesture {name['letter']} in the gesture ids file."
                )
            if suffix == ".pose" and name["camera"] == "cam1":
                self.skipped += 1
                continue
            prompt = PROMPT.format(letter=letters[name["letter"]])
            self.examples.append(
                Example(
                    video_id,
                    prompt,
                    folder / f"{video_id}{suffix}",
                    group=name["signer"],
                    signer=name["signer"],
                )
            )

    @classmethod
    def from_config(cls, config: DatasetConfig, split: str, suffix: str) -> "RWTHFSMetaProcessor":
        """See MetaProcessor."""
        key = {"train": "train_path", "valid": "val_path", "test": "test_path"}[split]
        split_path = _need(getattr(config, key), f"dataset.{key}", "the split file")
        letters = read_gesture_ids(
            _need(config.gesture_id_path, "dataset.gesture_id_path", "the gesture ids file")
        )
        if config.vfeat_dir is None or not Path(config.vfeat_dir).is_dir():
            raise MissingDataError(
                f"dataset.vfeat_dir: there is no folder {config.vfeat_dir}. {_how_to_get(config, suffix)}"
            )
        ids = _read_ids(split_path)
        made = cls(ids, letters, Path(config.vfeat_dir), suffix)
        missing = [example.path for example in made.examples if not example.path.is_file()]
        some = len(missing) < len(made.examples)
        if missing and not (some and config.on_bad_example == "skip"):  # else the video processor skips them
            raise MissingDataError(
                f"{split_path}: {len(missing)} of {len(made.examples)} clips have no {suffix} file in "
                f"{config.vfeat_dir}, the first is {missing[0].name}. "
                f"{_how_to_get(config, suffix)}"
                + (" Or skip them: dataset.on_bad_example=skip." if some else "")
            )
        if not made.examples:
            raise UserError(f"{split_path}: no clips for the {split} split ({made.skipped} of cam1 skipped).")
        if split != "train" and config.train_path is not None and Path(config.train_path).is_file():
            both = sorted(set(ids) & set(_read_ids(Path(config.train_path))))
            if both:
                others = Path(config.train_path).name
                made.leaks = [
                    f"{counted(len(both), 'clip is', 'clips are')} in {others} too: {some_of(both)}."
                ]
        return made

    @classmethod
    def table_templates(cls, config: DatasetConfig) -> list[str]:
        """See MetaProcessor."""
        return [PROMPT.replace("{letter}", "{text}")]

    def describe(self) -> str:
        """See MetaProcessor; with the number of skipped clips."""
        note = f", {self.skipped} of cam1 skipped" if self.skipped else ""
        return super().describe() + note


def read_gesture_ids(path: Path) -> dict[str, str]:
    """Read lines such as ` 1 = A` as {"1": "A"}. Raises UserError for an invalid line or duplicate number."""
    letters: dict[str, str] = {}
    for number, line in enumerate(read_lines(path), start=1):
        if not line.strip():
            continue
        found = re.fullmatch(r"\s*(\d+)\s*=\s*(\S+)\s*", line)
        if found is None or found[1] in letters:
            raise UserError(f"{path}, line {number}: expected an unused number and a letter, as ' 1 = A'.")
        letters[found[1]] = found[2]
    return letters


def _read_ids(path: Path) -> list[str]:
    """The clip ids of a split file. The error shows no content: a stranger's YAML may name any file."""
    lines = read_lines(path)
    for number, line in enumerate(lines, start=1):
        if line and not _NAME.fullmatch(line):
            raise UserError(
                f"{path}, line {number}: expected a clip id, <signer>_<letter>_<sequence>_<camera>, such as "
                "3_10_1_cam2."
            )
    return [line for line in lines if line]


def _how_to_get(config: DatasetConfig, suffix: str) -> str:
    return f"{how_to_get_features(config.vfeat_dir, suffix)} {_ELSEWHERE}"


def _need(path: str | None, key: str, what: str) -> Path:
    if path is None:
        raise UserError(f"{key} is not set: RWTHFSMetaProcessor needs {what}.")
    if not Path(path).is_file():
        raise MissingDataError(f"{key}: there is no file {path} ({what}). {_SPLITS} {_ELSEWHERE}")
    return Path(path)
