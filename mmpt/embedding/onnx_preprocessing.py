"""Describe, as JSON, how the inputs of an exported model are made."""

from typing import TYPE_CHECKING, Any

from mmpt import __version__
from mmpt.pose import components, hands
from mmpt.pose.features import HAND_FRAMES, PER_HAND
from mmpt.pose.people import choose_people
from mmpt.pose.smoothing import SMOOTH_PARAMETERS, SMOOTHERS, Smoothing
from mmpt.signwriting import ids

if TYPE_CHECKING:
    from mmpt.embedding.embedder import SignCLIP

FORMAT_VERSION = 1
OUTPUT = "vector"
"""Name of the output of both towers."""
_SIGNS = {
    "layout": "[CLS] [SEP] tokens [SEP] symbols, the tokens without special tokens",
    "symbols": {
        "signs": "words in FSW or SWU have no tokens, but an id for each symbol, and are not cut; a sign is "
        "in the middle of its box (canonicalize of the package signwriting); spaces join the other words",
        "id": f"{ids.FORMULA}; sign: the number of the sign in the prompt, from 0",
        "implementation": "SignWritingTextProcessor in mmpt/processors/text.py",
    },
    "longer_prompts": "keep the first max_tokens - 3 - symbols tokens",
}


def describe(model: "SignCLIP", tokenizer_files: list[str]) -> dict[str, Any]:
    """The content of preprocessing.json."""
    return {
        "format_version": FORMAT_VERSION,
        "mmpt_version": __version__,
        "embedding_dim": model.dim,
        "similarity": "cosine: scale embeddings to unit length, then take dot products",
        "video": _video(model),
        "text": _text(model, tokenizer_files),
    }


def _video(model: "SignCLIP") -> dict[str, Any]:
    dataset, width = model.dataset_cfg, model.model_cfg.vfeat_dim
    return {
        "file": "video.onnx",
        "inputs": {
            "vfeats": {"dtype": "float32", "shape": ["batch", "frames", width]},
            "vmasks": {
                "dtype": "bool",
                "shape": ["batch", "frames"],
                "meaning": "true: a frame of the clip; false: padding behind it, whose values are not used",
            },
        },
        "output": {"name": OUTPUT, "dtype": "float32", "shape": ["batch", model.dim]},
        "max_frames": dataset.max_video_len,
        "longer_clips": {
            "truncate": "keep the first max_frames frames",
            "uniform": "keep max_frames evenly spaced frames, from the first to the last",
            "error": "refuse them",
        }[dataset.long_video],
        "features": _pose_features(model) if model.video_processor.suffix == ".pose" else _npy(model),
    }


def _npy(model: "SignCLIP") -> dict[str, Any]:
    return {
        "source": "frame features of a video network (`signclip extract`), one row per step, unchanged",
        "processor": model.dataset_cfg.video_processor,
        "dim": model.model_cfg.vfeat_dim,
    }


def _pose_features(model: "SignCLIP") -> dict[str, Any]:
    """How landmarks become features, in the order of the steps."""
    processor, options = model.video_processor, model.dataset_cfg
    settings = processor.prepare
    names = components.component_names(settings.pose_components)
    canonical = settings.pose_layout == components.CANONICAL
    face = settings.face_points or components.FACE_SIZES[0]
    points = {
        name: components.component_points(name, settings.pose_components, face, settings.pose_layout)
        for name in names
    }
    smoothing = settings.smoothing
    steps = {
        "person": None
        if settings.person == "first"
        else f"of several people, the {settings.person} one: {_description(choose_people)}",
        "mirror": "mirror clips whose right hand is idle" if settings.flip_to_right else None,
        "scale_depth": "multiply z by the image width if it is a fraction of it"
        if settings.scale_depth and not canonical
        else None,
        "shoulders": "subtract the clip's mean midpoint of the shoulders and divide by their mean distance"
        f"{' in x and y' if canonical else ''}; frames without both shoulders do not count",
        "legs": f"set {', '.join(components.LEG_POINTS)} to 0",
        "select": "the components in the order of `components`, the points in the order of `points`",
        "fill_gaps": f"interpolate a hand's gaps of up to {smoothing.fill_gaps} frames linearly"
        if smoothing.fill_gaps
        else None,
        "smooth": _smooth(smoothing) if smoothing.smooth else None,
        "normalize_hand": _description(hands.normalize_hand) if settings.normalize_hand else None,
        "missing": "set points that were not found to 0",
        "frames": None
        if options.clip_window is None and options.clip_frames is None
        else "interpolate linearly at clip_frames evenly spaced times within clip_window",
        "hand_frame": _description(HAND_FRAMES[options.hand_frame][0]) if options.hand_frame else None,
        "velocity": "append the change since the previous frame, per 1/25 s; 0 where either value is missing"
        if options.velocity
        else None,
        **{
            name: _description(numbers.function) if getattr(options, name) else None
            for name, numbers in PER_HAND.items()
        },
    }
    return {
        "source": "landmarks of any estimator, named as those of MediaPipe Holistic: x, y in pixels (y down)"
        if canonical
        else "landmarks of MediaPipe Holistic: x and y in pixels (y down), z as pose-format stores it",
        "dim": processor.feature_dim,
        "components": list(names),
        "points": {name: list(points[name]) for name in names},
        "coordinates": ["x", "y"] if canonical else ["x", "y", "z"],
        "frame_rate": "that of the recording; frames are not resampled to another rate",
        "clip_window": options.clip_window,
        "clip_frames": options.clip_frames,
        "hand_frame": options.hand_frame,
        "steps": {name: text for name, text in steps.items() if text is not None},
        "implementation": "mmpt/pose/preparation.py and mmpt/pose/features.py",
    }


def _smooth(smoothing: Smoothing) -> str:
    """How landmarks are smoothed, with the filter's parameters."""
    assert smoothing.smooth is not None
    names = SMOOTH_PARAMETERS[smoothing.smooth]
    given = ", ".join(f"{name} {value:g}" for name, value in zip(names, smoothing.parameters))
    return f"{given}. {_description(SMOOTHERS[smoothing.smooth])}"


def _text(model: "SignCLIP", files: list[str]) -> dict[str, Any]:
    tokenizer = model.tokenizer
    return {
        "file": "text.onnx",
        "inputs": {
            "caps": {"dtype": "int64", "shape": ["batch", "tokens"]},
            "cmasks": {
                "dtype": "bool",
                "shape": ["batch", "tokens"],
                "meaning": "true: a token; false: padding behind the last [SEP]",
            },
        },
        "output": {"name": OUTPUT, "dtype": "float32", "shape": ["batch", model.dim]},
        "layout": "[CLS] [SEP] tokens [SEP], the tokens without special tokens",
        "longer_prompts": "keep the first max_tokens - 3 tokens",
        **(_SIGNS if model.text_processor.reads_signs else {}),
        "ids": {
            "[CLS]": tokenizer.cls_token_id,
            "[SEP]": tokenizer.sep_token_id,
            "padding": model.text_processor.pad_id,
        },
        "min_tokens": 3,
        "max_tokens": model.text_processor.max_len,
        "unicode": "NFC",
        "tokenizer": files,
        "prompt_templates": model.table_templates,
    }


def _description(function: Any) -> str:
    """Its docstring after the summary, or the summary if there is nothing else."""
    summary, _, rest = function.__doc__.partition("\n\n")
    return " ".join((rest or summary).split())
