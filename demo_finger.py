#!/usr/bin/env python
"""Ask a trained model which letter a clip shows: `python demo_finger.py [clip.pose] [--text "..."]`.

Without a clip, one of a sign language that the model has never seen is taken from the embedded lexicon.
"""

import argparse
import sys
from pathlib import Path

from mmpt.config import load_config
from mmpt.config.schema import Config
from mmpt.utils.errors import MissingDataError, UserError, run_cli

DEFAULT_CONFIG = "projects/signclip/test_fslex_demo.yaml"
ODD_ONE_OUT = "random text"


def main(argv: list[str] | None = None) -> int:
    """Parse and run."""
    parser = argparse.ArgumentParser(description="Rank prompts by their similarity to a clip of fingerspelling.")
    parser.add_argument("clip", nargs="?", help="MediaPipe Holistic .pose file; default: a held-out clip of the lexicon")
    parser.add_argument("--config", default=DEFAULT_CONFIG, help="task config of the model (default: %(default)s)")
    parser.add_argument("--checkpoint", help="model to ask; default: the one that the config trains")
    parser.add_argument("--text", action="append", default=[], help="one more prompt to rank (may be repeated)")
    parser.add_argument("--letter", default="L", help="without a clip: the letter to take (default: %(default)s)")
    parser.add_argument("--language", default="gsg", help="without a clip: its sign language (default: %(default)s, German)")
    parser.add_argument("--top", type=int, default=12, help="how many prompts to show (default: %(default)s)")
    return run_cli(demo, parser.parse_args(argv))


def demo(args: argparse.Namespace) -> int:
    """Embed the clip and the prompts, print the ranking."""
    overrides = [f"fairseq.common_eval.path={args.checkpoint}"] if args.checkpoint else []
    config = load_config(args.config, overrides)
    path, mirror, shown, letters = choose_clip(args, config)
    scores = rank(config, path, mirror, [*letters, ODD_ONE_OUT, *args.text], args.config)
    print(f"clip: {shown}")
    order = sorted(scores, key=lambda prompt: -scores[prompt])
    low, high = scores[order[-1]], scores[order[0]]
    for place, prompt in enumerate(order, start=1):
        if place <= args.top or prompt == ODD_ONE_OUT or prompt in args.text:
            bar = "#" * round(30 * (scores[prompt] - low) / max(high - low, 1e-9))
            print(f"{place:3d}. {scores[prompt]:+.3f}  {prompt:<40} {bar}")
    return 0


def choose_clip(args: argparse.Namespace, config: Config) -> tuple[Path, bool, str, list[str]]:
    """(file, whether to mirror it, what to call it, the prompts to rank it against)."""
    from mmpt.processors import META_PROCESSORS

    corpus = META_PROCESSORS.get(config.dataset.meta_processor).from_config(config.dataset, "test", ".pose")
    prompts = list(dict.fromkeys(example.text for example in corpus.examples))
    if args.clip is not None:
        path = Path(args.clip)
        if not path.is_file():
            raise UserError(f"there is no file {path}: expected a MediaPipe Holistic .pose file.")
        if path.suffix != ".pose":
            raise UserError(f"{path}: expected a .pose file. `python -m mmpt.cli.extract pose --in DIR --out DIR` makes them of videos.")
        return path, False, str(path), prompts
    wanted = config.dataset.prompt.format(letter=args.letter.upper(), language="")
    for example in corpus.examples:
        if example.group == args.language and example.text == wanted:
            return example.path, example.mirror, f"{example.video_id} ({args.letter.upper()}, held out of training)", prompts
    groups = sorted({example.group for example in corpus.examples})
    raise UserError(
        f"no held-out clip of the letter {args.letter!r} in {args.language!r}: expected a letter from A to Z, a language among {groups}."
    )


def rank(config: Config, path: Path, mirror: bool, prompts: list[str], config_name: str) -> dict[str, float]:
    """Cosine similarity of the clip with each prompt."""
    from mmpt.evaluators import similarity
    from mmpt.evaluators.predictor import Predictor
    from mmpt.tasks import Task
    from mmpt.utils.checkpoint import load_into, load_state_dict_file
    from mmpt.utils.device import choose_device

    task = Task(config)
    checkpoint = task.checkpoint_path()
    if not checkpoint.is_file():
        train = Path(config_name).with_name(Path(config_name).name.removeprefix("test_"))
        raise MissingDataError(f"there is no trained model {checkpoint}: make one with `python locallaunch.py {train}` (or `make demo`).")
    model = task.build_model(pretrained=False)
    load_into(model, load_state_dict_file(checkpoint, trust=config.eval.trust_checkpoint))
    predictor = Predictor(model, choose_device(config.eval.device), progress=False)
    frames = task.video_processor(training=False)(path, mirror=mirror)
    video = predictor.embed_videos([task.aligner.cut(str(path), frames)])
    text = predictor.embed_texts([task.text_processor(prompt) for prompt in prompts])
    return dict(zip(prompts, similarity(text, video)[:, 0].tolist()))


if __name__ == "__main__":
    sys.exit(main())
