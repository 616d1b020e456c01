"""The keys of `dataset:` in groups: frozen dataclasses, which the schema and the processors share.

YAML stays flat: DatasetConfig (schema.py) inherits every group, so a config can be passed wherever a group is
expected.
"""

from dataclasses import dataclass
from typing import Any

from mmpt.config.fields import LARGE, opt, section


@dataclass(frozen=True, kw_only=True)
class TextModelOptions:
    """How a prompt becomes token ids."""

    text_processor: str = opt("TextProcessor", "how a prompt becomes token ids")
    bert_name: str = opt(
        "bert-base-uncased",
        "text model that initialises both towers: a hub name, a folder, or package:NAME",
        aliases=["tokenizer"],
    )


@dataclass(frozen=True, kw_only=True)
class ClipLength:
    """What happens to a clip longer than max_video_len."""

    long_video: str = opt(
        "truncate",
        "a clip over max_video_len: truncate it, stop with an error, subsample it uniformly, or embed it as "
        "overlapping windows of max_video_len frames, pooled by model.window_pooling",
        choices=["truncate", "error", "uniform", "windows"],
    )
    window_step: int | None = opt(
        None,
        "with long_video: windows: frames from the start of a window to that of the next; null: half of "
        "max_video_len. The last window ends at the last frame",
        minimum=1,
        maximum=LARGE,
    )
    aligner: str = opt("DSAligner", "how frames and prompt are combined into a sample")


@dataclass(frozen=True, kw_only=True)
class SplitFiles:
    """Which split is evaluated, and the files that list the clips of each split."""

    split: str | None = opt(None, "split to evaluate", choices=["train", "valid", "test"])
    train_path: str | None = opt(None, "text file of training clip ids, one per line")
    val_path: str | None = opt(None, "text file of validation clip ids", aliases=["valid_path"])
    test_path: str | None = opt(None, "text file of test clip ids")
    gesture_id_path: str | None = opt(None, "RWTH: file of lines like ' 1 = A'")
    vfeat_dir: str | None = opt(None, "folder of the clips' .pose or .npy files")


@dataclass(frozen=True, kw_only=True)
class TableOptions:
    """A corpus that is a table of clips (see docs/your_data.md)."""

    table_path: str | None = opt(
        None, "table of clips: .csv, .tsv or .parquet with id, path, text, split, ..."
    )
    prompt_templates: list[str] = opt(
        ["{text}"],
        "prompts over the table's columns; the first defines the classes and is evaluated. Of the lexicon: "
        "{text} is dataset.prompt",
    )
    prompt_weights: list[float] | None = opt(
        None, "train: how often each template is drawn; null: all equally often", minimum=0
    )


@dataclass(frozen=True, kw_only=True)
class LexiconOptions:
    """The fingerspelling lexicon of the package spoken-to-signed."""

    test_languages: list[str] = opt(["gsg", "ase", "sgg"], "sign languages (ISO 639-3) held out for the test")
    valid_languages: list[str] = opt(["asq", "bzs"], "sign languages held out for validation")
    train_languages: list[str] | None = opt(
        None, "sign languages to train on; null: all that are not held out"
    )
    letters: list[str] = opt(list("ABCDEFGHIJKLMNOPQRSTUVWXYZ"), "letters that are trained and evaluated on")
    extra_letters: bool = opt(
        False,
        "train on the training languages' other letters too (Ä, SCH, Greek, Arabic, ...); with {signwriting} "
        "in a prompt: those whose sign is known",
    )
    prompt: str = opt(
        "Fingerspell the letter {letter}.",
        "prompt; {letter}, the sign language's name {language} and {code}, and the letter's sign in "
        "SignWriting {signwriting} are filled in",
    )
    left_handed: list[str] = opt(
        ["ise"], "sign languages recorded with the left hand: their clips are mirrored"
    )


@dataclass(frozen=True, kw_only=True)
class ClipStorage:
    """Where prepared poses are cached, and what happens to clips that cannot be read."""

    cache_dir: str | None = opt(
        None, "folder of the pose cache; null: $SIGNCLIP_CACHE/poses, or ~/.cache/mmpt/poses"
    )
    store_dtype: str = opt(
        "float32",
        "precision of cached poses; float16: half the disk space, rounded to 1/2048",
        choices=["float32", "float16"],
    )
    store_shards: int = opt(
        1,
        "files of the pose cache; several can be built at the same time (`signclip prepare --shard`)",
        minimum=1,
        maximum=10_000,
    )
    check_sources: bool = opt(
        True,
        "compare the clips' files with the pose cache at each start; false: use the cache as it is (looking "
        "at a million files of a network file system takes minutes)",
    )
    on_bad_example: str = opt(
        "error",
        "an unreadable clip: stop with an error, or skip it with a warning",
        choices=["error", "skip"],
    )


@dataclass(frozen=True, kw_only=True)
class PoseSelection:
    """Which landmarks are read."""

    pose_components: str | list[str] | None = opt(
        None, "null: body, face and hands; 'reduced_face'; or a list such as [RIGHT_HAND_LANDMARKS]"
    )
    pose_layout: str = opt(
        "holistic",
        "holistic: the points of MediaPipe Holistic in 3-D; canonical: those that other estimators have too, "
        "features in 2-D",
        choices=["holistic", "canonical"],
    )
    face_points: int | None = opt(
        None, "points of a whole face; null: what fits model.vfeat_dim", choices=[468, 478]
    )
    person: str = opt(
        "first",
        "which of several people is read: the first or the largest of each frame, or tracked: the largest at "
        "first, then by overlap from frame to frame",
        choices=["first", "largest", "tracked"],
    )


@dataclass(frozen=True, kw_only=True)
class PoseNormalization:
    """How a pose is normalised, beyond the shoulders' position and distance."""

    normalize_hand: bool = opt(False, "published 3-D hand normalisation (only with [RIGHT_HAND_LANDMARKS])")
    scale_depth: bool = opt(False, "scale z to the unit of x and y first (always done with hand_frame)")
    flip_pose: str | float | None = opt(
        None, "'right': mirror a clip whose right hand is idle; a number: train, probability of mirroring"
    )
    anonym_pose: bool = opt(
        False, "remove the signer's appearance from the pose (unsupported: needs pose-anonymization)"
    )
    preprocess: str | None = opt(
        None, "another preprocessing of poses: sign-vq, sign-vq-original-scale (unsupported: needs sign-vq)"
    )


@dataclass(frozen=True, kw_only=True)
class PoseSmoothing:
    """Short gaps that are filled, and smoothing over time, before features are computed (off by default)."""

    fill_gaps: int = opt(
        0, "fill a hand's gaps of up to this many frames by linear interpolation", minimum=0, maximum=LARGE
    )
    smooth: str | None = opt(
        None,
        "smooth landmarks over time: savgol (Savitzky-Golay) or one_euro (1€ filter, causal)",
        choices=["savgol", "one_euro"],
    )
    smooth_window: float = opt(200.0, "savgol: length of the window in ms", minimum=1.0, maximum=60_000.0)
    smooth_order: int = opt(2, "savgol: degree of the polynomial", minimum=0, maximum=9)
    smooth_cutoff: float = opt(2.0, "one_euro: cut-off frequency at rest, in Hz", minimum=1e-3, maximum=1e4)
    smooth_beta: float = opt(
        2.0, "one_euro: Hz by which it rises per shoulder width per second", minimum=0.0, maximum=1e6
    )


@dataclass(frozen=True, kw_only=True)
class FrameFeatures:
    """What each frame's feature vector holds."""

    hand_frame: str | None = opt(
        None,
        "palm: joints in palm coordinates and the palm's direction; palm_shape: distances and bends too",
        choices=["palm", "palm_shape"],
    )
    velocity: bool = opt(False, "append the change of each feature per 1/25 s")
    presence: bool = opt(False, "append a 0/1 feature for each hand: whether it is visible")


@dataclass(frozen=True, kw_only=True)
class SpanSampling:
    """Training clips drawn around the captions of a recording: the rows of a table with the same path."""

    span_sampling: str | None = opt(
        None,
        "videoclip: train on a random part of the recording around a random time in the caption, drawn for "
        "each clip in each epoch; null: on the caption's own part. Evaluation uses its own part",
        choices=["videoclip"],
    )
    span_seconds: list[float] | None = opt(
        None,
        "with span_sampling: shortest and longest drawn part in seconds, [min, max]",
        minimum=0.04,
        maximum=3600,
    )
    span_frames: list[int] | None = opt(
        None,
        "the same in frames (rows) of the file: for features, which have no frame rate",
        minimum=1,
        maximum=LARGE,
    )
    span_texts: int = opt(
        1,
        "with span_sampling: a random number of neighbouring captions, at most this many, are joined into "
        "the text, as far as max_len allows",
        minimum=1,
        maximum=1000,
    )


@dataclass(frozen=True, kw_only=True)
class FrameSampling:
    """Which part of a clip is used, and how many frames of it."""

    clip_window: list[float] | None = opt(
        None, "part of a clip that is used, as fractions [from, to]; null: all", minimum=0, maximum=1
    )
    clip_frames: int | None = opt(
        None, "number of evenly spaced frames in that part; null: every frame", minimum=1, maximum=LARGE
    )


def _step(doc: str, maximum: float, default: float = 0.0) -> Any:
    """A field of PoseAugmentation, from 0 to `maximum`."""
    return opt(default, doc, minimum=0.0, maximum=maximum)


@dataclass(frozen=True)
class PoseAugmentation:
    """Augmentation of raw landmarks (`augment3d` in YAML, see mmpt/pose/augmentation3d.py); 0: step off."""

    probability: float = _step("fraction of the clips that are augmented", 1.0, default=1.0)
    rotation: float = _step("3-D rotation: std in radians of the angle about each axis", 3.2)
    scale: float = _step("size: std of the logarithm of one factor", 2.0)
    stretch: float = _step("size along each axis: std of the logarithm of three factors", 2.0)
    shear: float = _step("3-D shear: std of each entry off the diagonal", 2.0)
    bone_length: float = _step("finger bones: std of the logarithm of each bone's factor, hands only", 2.0)
    finger_bend: float = _step(
        "fingers rotated at their base: std in radians about each axis, hands only", 3.2
    )
    joint_offset: float = _step("each hand joint shifted for the whole clip: std in palm lengths", 2.0)
    joint_noise: float = _step("each point shifted in each frame: std in shoulder widths", 2.0)
    joint_dropout: float = _step(
        "probability that a hand joint (not of the palm) is missing for the clip", 0.999
    )
    hand_dropout: float = _step("probability that one of two hands is missing for the clip", 1.0)
    frame_dropout: float = _step("probability that a frame is dropped", 0.999)
    time_crop: float = _step("largest fraction of the frames cropped, both ends together", 0.999)
    window_jitter: float = _step(
        "with clip_window or clip_frames: largest shift of either end, and uneven speed", 0.5
    )
    time_speed: float = _step("speed: std of the logarithm of its factor", 2.0)
    time_warp: float = _step("uneven speed: largest shift of a frame, as a fraction of the clip", 0.5)

    def active(self) -> bool:
        """Whether any step is switched on."""
        return self.probability > 0 and any(v > 0 for k, v in vars(self).items() if k != "probability")


@dataclass(frozen=True, kw_only=True)
class PoseAugmentations:
    """Augmentation of training clips."""

    augment2d: bool = opt(False, "train: random rotation, shear and scale in the image plane (std 0.2 each)")
    augment_temporal: bool = opt(False, "train: random change of speed, ratio drawn from N(1, 0.2)")
    augment_temporal_chance: float | None = opt(
        None, "fraction of the clips whose speed changes; null: all", minimum=0, maximum=1
    )
    gaussian_noise: bool = opt(
        False, "train: Gaussian noise on the landmarks, std 0.001 of the shoulder width"
    )
    augment3d: PoseAugmentation = section(
        PoseAugmentation, "train: augmentation of raw landmarks, in 3-D and in time"
    )


@dataclass(frozen=True, kw_only=True)
class PoseOptions(
    PoseSelection, PoseNormalization, PoseSmoothing, FrameFeatures, FrameSampling, PoseAugmentations
):
    """All options of poses, which have no effect on video features."""


@dataclass(frozen=True, kw_only=True)
class VideoFeatureOptions:
    """Features that an extractor computed from videos."""

    vfeat_custom: bool | int | None = opt(
        None, "keep features of more than 512 dimensions unchanged; unset: average neighbours to 512"
    )
    allow_trial_features: bool = opt(
        False,
        "accept features of a network with random weights (extracted with --weights random:SEED, for tests)",
    )


@dataclass(frozen=True, kw_only=True)
class BatchOptions:
    """Which clips make a batch, and how it is padded."""

    batch_sampler: str = opt(
        "unique_prompt",
        "unique_prompt: at most one clip per prompt in a batch; random: any clips; prompt_groups: several "
        "clips of each prompt; neighbours: clips whose embeddings are near each other, at most one per "
        "prompt (with loss.label_aware: any)",
        choices=["unique_prompt", "random", "prompt_groups", "neighbours"],
    )
    neighbours_from: int = opt(
        2,
        "with neighbours: first epoch with such batches; those before have the batches of unique_prompt "
        "(with loss.label_aware: random)",
        minimum=1,
        maximum=LARGE,
    )
    clips_per_prompt: int = opt(2, "with prompt_groups: clips of each prompt in a batch", minimum=1)
    oversample: bool | None = opt(
        None, "repeat clips of rare prompts so that every batch is full; null: the corpus's default"
    )
    unique_sampler_num: int | None = opt(
        None, "SignCLIP's option for a batch of this many different prompts", minimum=1
    )
    pad_to_max: bool = opt(
        False, "pad every batch to max_video_len and max_len, as SignCLIP does: slower, same embeddings"
    )
