"""Rank letters by their similarity to a clip of fingerspelling.

    signclip demo [CLIP] [--text PROMPT ...] [--out PICTURE.png]

CLIP is a video or a .pose file. The default is a lexicon clip of a sign language that was
held out of training. Without a trained model, the demo's model is trained first (about two minutes).
"""

import argparse
import json
import logging
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmpt.cli.command import Command
from mmpt.utils.errors import MissingDataError, UserError
from mmpt.utils.files import check_regular
from mmpt.utils.logging import setup_logging
from mmpt.utils.packages import DRAWING, VIDEO, need_packages
from mmpt.utils.text import nfc

if TYPE_CHECKING:
    from pose_format import Pose

    from mmpt.config import Config
    from mmpt.embedding.embedder import SignCLIP
    from mmpt.tasks import Task

log = logging.getLogger(__name__)

DEFAULT_CONFIG = "package:test_fslex_demo"
ODD_ONE_OUT = "random text"
LETTER, LANGUAGE = "L", "gsg"


@dataclass
class Clip:
    """The clip to rank prompts for. pose: extracted from a video; None if the file is a pose.

    mirrored: whether the model reads its mirror image. hands: those that the model reads, as in the file.
    """

    path: Path
    title: str
    mirror: bool = False
    pose: "Pose | None" = None
    mirrored: bool = False
    hands: tuple[str, ...] = ()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("clip", nargs="?", help="video, or .pose file; default: a clip of the test split")
    parser.add_argument(
        "--config",
        default=DEFAULT_CONFIG,
        help="task config of the model (default: %(default)s)",
    )
    parser.add_argument("--checkpoint", help="checkpoint (default: the one of the config)")
    parser.add_argument(
        "--text", action="append", type=nfc, default=[], help="one more prompt to rank (may be repeated)"
    )
    parser.add_argument(
        "--left-handed",
        action="store_true",
        help="the signer spells with the left hand: mirror the clip (in a table: column left_handed; in "
        "Python: mirror=True)",
    )
    parser.add_argument("--letter", type=nfc, help=f"without a clip: the letter to take (default: {LETTER})")
    parser.add_argument("--language", help=f"without a clip: its sign language (default: {LANGUAGE}, German)")
    parser.add_argument(
        "--top", type=int, default=12, help="number of prompts to show (default: %(default)s)"
    )
    parser.add_argument(
        "--out", type=Path, help="write an image of the signer, the landmarks and the top prompts"
    )
    parser.add_argument("--no-train", action="store_true", help="do not train the model if it is missing")


def run(args: argparse.Namespace) -> int:
    """Embed the clip and the prompts, print the ranking, and draw it with --out."""
    setup_logging(logging.INFO)
    if args.top < 1:
        raise UserError(f"--top {args.top}: expected 1 or more.")
    if args.out is not None:
        from mmpt.evaluators.pictures.answer import check_picture_name

        check_picture_name(args.out)
    video = args.clip is not None and Path(args.clip).suffix.lower() != ".pose"
    needed = (VIDEO if video else ()) + (DRAWING if args.out is not None else ())
    need_packages("a video" if video else "--out", tuple(dict.fromkeys(needed)))
    from mmpt.config import load_config
    from mmpt.tasks import Task

    overrides = []
    if args.checkpoint:
        if not Path(args.checkpoint).exists():
            raise MissingDataError(f"--checkpoint: there is no trained model {args.checkpoint}.")
        overrides.append(f"fairseq.common_eval.path={json.dumps(args.checkpoint, ensure_ascii=False)}")
    config = load_config(args.config, overrides)
    _refuse_unused_options(args, config)
    task, chosen = Task(config), None
    to_train = None if args.no_train or args.checkpoint else _to_train(args.config, task)
    if to_train is not None:
        from mmpt.cli import train

        chosen = choose_clip(args, config)  # mistakes are reported before minutes of training
        log.info("%s, about two minutes on two cores", to_train)
        if status := train.main([DEFAULT_CONFIG.replace("test_", ""), "eval.after_training=false"]):
            return status
    model = load_model(task, args.config)
    clip, letters = chosen or choose_clip(args, config)
    clip.title += f" ({look(model, clip)})"
    scores = rank(model, clip, list(dict.fromkeys([*letters, ODD_ONE_OUT, *args.text])))
    print(f"clip: {clip.title}")
    order = sorted(scores, key=lambda prompt: -scores[prompt])
    low, high = scores[order[-1]], scores[order[0]]
    width = max(len(prompt) for prompt in order)
    for position, prompt in enumerate(order, start=1):
        if position <= args.top or prompt == ODD_ONE_OUT or prompt in args.text:
            bar = "#" * round(30 * (scores[prompt] - low) / max(high - low, 1e-9))
            print(f"{position:3d}. {scores[prompt]:+.3f}  {prompt:<{width}} {bar}")
    if args.out is not None:
        draw(args.out, clip, {prompt: scores[prompt] for prompt in order[: args.top]})
        print(f"picture: {args.out}")
    return 0


def _refuse_unused_options(args: argparse.Namespace, config: "Config") -> None:
    """Raises UserError for options without effect, and if the corpus requires a clip."""
    given, rwth = args.clip is not None, _is_rwth(config)
    for option, value, ignored in (
        ("--letter", args.letter, "a clip is given" if given else ""),
        ("--language", args.language, "a clip is given" if given else "all are German" if rwth else ""),
        ("--left-handed", args.left_handed or None, "" if given else "no clip is given"),
    ):
        if value is not None and ignored:
            raise UserError(f"{option} has no effect here: {ignored}.")
    if not (given or rwth or config.dataset.meta_processor == "FingerspellingMetaProcessor"):
        raise UserError(
            f"{args.config}: clips of this corpus cannot be chosen by letter: name a .pose file or a video."
        )


# ---- the clip and the prompts
def choose_clip(args: argparse.Namespace, config: "Config") -> tuple[Clip, list[str]]:
    """The clip, with its pose if it is a video, and the prompts of the model's letters."""
    rwth = _is_rwth(config)
    if args.clip is None:
        return _clip_of_the_corpus(args.letter or LETTER, args.language or LANGUAGE, config, rwth)
    path = Path(args.clip)
    check_regular(path)
    if not path.is_file():
        raise UserError(f"there is no file {path}: expected a video, or a .pose file.")
    shown = path.name.encode(errors="replace").decode()  # the name may not be UTF-8
    clip = Clip(path, shown, args.left_handed)
    if path.suffix.lower() != ".pose":
        clip.pose = extract(path)
    if rwth:  # does not need the database
        from mmpt.processors.rwthfs import PROMPT
        from mmpt.processors.rwthfs_names import GESTURES

        return clip, [PROMPT.format(letter=letter) for letter in GESTURES]
    return clip, list(dict.fromkeys(example.text for example in _test_split(config).examples))


def _is_rwth(config: "Config") -> bool:
    return config.dataset.meta_processor == "RWTHFSMetaProcessor"


def _test_split(config: "Config") -> Any:
    from mmpt.processors import META_PROCESSORS

    return META_PROCESSORS.get(config.dataset.meta_processor).from_config(config.dataset, "test", ".pose")


def _clip_of_the_corpus(
    wanted_letter: str, language: str, config: "Config", rwth: bool
) -> tuple[Clip, list[str]]:
    """A clip of a letter (in a sign language, if there are several) from the test split."""
    from mmpt.processors.fingerspelling import LetterTemplates
    from mmpt.processors.rwthfs import PROMPT

    corpus = _test_split(config)
    letter = wanted_letter.upper()
    wanted = (
        PROMPT.format(letter=letter)
        if rwth
        else LetterTemplates(config.dataset.prompt).prompts(wanted_letter, language)[0]
    )
    prompts = list(dict.fromkeys(example.text for example in corpus.examples))
    for example in corpus.examples:
        if example.text == wanted and (rwth or example.group == language):
            title = f"{example.video_id} ({letter}, held out of training)"
            return Clip(example.path, title, example.mirror), prompts
    groups = "" if rwth else f", a language among {sorted({example.group for example in corpus.examples})}"
    where = "" if rwth else f" in {language!r}"
    raise UserError(
        f"no held-out clip of the letter {wanted_letter!r}{where}: expected a letter from A to Z{groups}."
    )


def extract(path: Path) -> "Pose":
    """The pose of a video. Raises UserError if it cannot be read."""
    from mmpt.extractors.holistic import HolisticExtractor

    log.info("extracting the pose of %s", path)
    return HolisticExtractor().reader().pose(path)[0]


def look(model: "SignCLIP", clip: Clip) -> str:
    """The share of frames with each hand. Raises UserError if the model would read no hand."""
    from mmpt.pose.components import LEFT_HAND, RIGHT_HAND
    from mmpt.pose.mirror import mirrored_point
    from mmpt.pose.reader import from_pose

    prepare = model.video_processor.prepare
    whole = prepare.read(clip.path) if clip.pose is None else from_pose(clip.pose, prepare.person)
    seen = {name: float(whole.component(name)[1].any(axis=1).mean()) for name in whole.layout.components}
    right, left = (seen.get(name, 0.0) for name in (RIGHT_HAND, LEFT_HAND))
    shares = f"right hand in {right:.0%}, left in {left:.0%} of {len(whole)} frames"
    if not right and not left:
        what = "no hand" if any(seen.values()) else "no person"
        raise UserError(f"{clip.path}: {what} is detected in {len(whole)} frames: expected a signer.")
    processor = model.video_processor
    clip.mirrored = prepare.mirrors(whole, clip.mirror)
    clip.hands = tuple(mirrored_point((name, ""))[0] if clip.mirrored else name for name in processor.hands)
    if model.is_blank(str(clip.path), processor.features(prepare.clip(whole, clip.mirror))):
        other = LEFT_HAND if clip.hands == (RIGHT_HAND,) else RIGHT_HAND
        option = "leave --left-handed out" if clip.mirror else "give --left-handed"
        hint = (
            f"if the signer spells with the other hand, {option}" if seen.get(other) else "take another clip"
        )
        raise UserError(
            f"{clip.path}: the model reads {' and '.join(clip.hands)}, and the frames that it reads show "
            f"nothing of it ({shares}): {hint}."
        )
    return f"{shares}, mirrored" if clip.mirrored else shares


# ---- the model
def load_model(task: "Task", config_name: str) -> "SignCLIP":
    """The trained model of a config. Raises MissingDataError if there is none."""
    from mmpt.embedding.embedder import SignCLIP

    if task.video_processor(training=False).suffix != ".pose":
        raise UserError(f"{config_name}: its model reads video features, not poses: use a pose model.")
    checkpoint, config = _checkpoint(task), task.config
    if checkpoint is None:
        folder, slash, name = config_name.rpartition("/")
        train = f"{folder}{slash}{name.replace('test_', '', 1)}"
        raise MissingDataError(
            f"there is no trained model {task.checkpoint_path()}: train one with `signclip train {train}`."
        )
    trust, device = config.eval.trust_checkpoint, config.eval.device
    return SignCLIP.from_checkpoint(checkpoint, config, trust, device)


def _to_train(config_name: str, task: "Task") -> str | None:
    """Why the model of the default config is to be trained, None if it is there."""
    from mmpt.config.run_folder import unfinished

    if config_name != DEFAULT_CONFIG:
        return None
    checkpoint = _checkpoint(task)
    if checkpoint is None:
        return "there is no trained model yet: training it first"
    # the model of the checkout is not that of this folder
    reached = unfinished(checkpoint) if checkpoint == task.checkpoint_path() else None
    return reached and f"the training of {checkpoint} was interrupted ({reached}): resuming it first"


def _checkpoint(task: "Task") -> Path | None:
    """The checkpoint of the config, below this folder or, where `make demo` trains it, the checkout."""
    from mmpt.config.package_files import package_root
    from mmpt.models.loading import weights_file

    named = task.checkpoint_path()
    return next((path for path in (named, package_root() / named) if weights_file(path).is_file()), None)


def rank(model: "SignCLIP", clip: Clip, prompts: list[str]) -> dict[str, float]:
    """Cosine similarity of the clip with each prompt."""
    scores = model.score([clip.path if clip.pose is None else clip.pose], prompts, mirror=clip.mirror)
    return dict(zip(prompts, scores[:, 0].tolist()))


# ---- the picture
def draw(path: Path, clip: Clip, scores: dict[str, float]) -> None:
    """Draw the signer as the model reads the clip, over the video frame if there is one, and the prompts."""
    from mmpt.evaluators.pictures.answer import answer_picture
    from mmpt.extractors import rendering
    from mmpt.pose.components import POSE

    if clip.pose is None:
        pose = rendering.read_drawable(clip.path)
        pose = rendering.fit(pose, rendering.box_of(pose, POSE), 480, 480)
        index = rendering.representative_frame(pose, clip.hands)
        background = rendering.blank(480, 480)
    else:
        pose = rendering.drawable(clip.pose)
        index = rendering.representative_frame(pose, clip.hands)
        background = rendering.picture_of(clip.path, index)
    signer = rendering.draw_on(pose, index, background)
    if clip.mirrored:
        signer = signer[:, ::-1]
    answer_picture(path, signer, list(scores), list(scores.values()), clip.title)


main = Command("demo", __doc__, add_arguments, run)

if __name__ == "__main__":
    sys.exit(main())
