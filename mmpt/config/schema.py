"""Every key that a task config may hold: its type, default, bounds and meaning.

The names are those of MMPT and SignCLIP, so that published YAMLs load as they are. `None` means "not set".
The loader (mmpt/config/loader.py) builds these dataclasses and refuses anything that is not written here, or
in published.py: what published YAMLs set and mmpt does not have.
"""

from dataclasses import dataclass
from typing import Any

from mmpt.config.fields import opt, renamed, required, section
from mmpt.config.published import PublishedDataset, PublishedModel
from mmpt.pose.augmentation_options import PoseAugmentation


@dataclass
class DatasetConfig(PublishedDataset):
    """What an example is and where it comes from."""

    meta_processor: str = required(
        "which clips and prompts: RWTHFSMetaProcessor, FingerspellingMetaProcessor, TableMetaProcessor, ..."
    )
    video_processor: str = required(
        "how a clip becomes frames of numbers: RWTHFSPoseProcessor, RWTHFSVideoProcessor, ..."
    )
    max_video_len: int = required(
        "most frames (or video tokens) of a clip that the video tower sees", minimum=1
    )
    max_len: int = required("most token ids of a prompt, [CLS] and [SEP]s included", minimum=4)
    text_processor: str = opt("TextProcessor", "how a prompt becomes token ids")
    aligner: str = opt("DSAligner", "how frames and prompt are put together")
    bert_name: str = opt(
        "bert-base-uncased",
        "text model that initialises both towers: a hub name, a folder, or package:NAME",
        aliases=["tokenizer"],
    )
    split: str | None = opt(None, "split to evaluate", choices=["train", "valid", "test"])
    long_video: str = opt(
        "truncate",
        "a clip over max_video_len: cut, refuse, or thin out evenly",
        choices=["truncate", "error", "uniform"],
    )

    # ---- where files are
    train_path: str | None = opt(None, "text file of training clip ids, one a line")
    val_path: str | None = opt(None, "text file of validation clip ids", aliases=["valid_path"])
    test_path: str | None = opt(None, "text file of test clip ids")
    gesture_id_path: str | None = opt(None, "RWTH: file of lines like ' 1 = A'")
    vfeat_dir: str | None = opt(None, "folder of the clips' .pose or .npy files")
    cache_dir: str | None = opt(
        None, "folder for parsed poses; null: $SIGNCLIP_CACHE/poses, or ~/.cache/mmpt/poses"
    )
    store_dtype: str = opt(
        "float32",
        "numbers of the parsed poses that are kept; float16: half the disk, rounded to 1/2048",
        choices=["float32", "float16"],
    )

    # ---- a table of clips (see docs/your_data.md)
    table_path: str | None = opt(
        None, "table of clips: .csv, .tsv or .parquet with id, path, text, split, ..."
    )
    prompt_templates: list[str] = opt(
        ["{text}"], "prompts over the table's columns; the first makes the classes and is evaluated"
    )
    prompt_weights: list[float] | None = opt(
        None, "train: how often each of them is drawn; null: all alike", minimum=0
    )

    # ---- the embedded fingerspelling lexicon
    test_languages: list[str] = opt(["gsg", "ase", "sgg"], "sign languages (ISO 639-3) held out for the test")
    valid_languages: list[str] = opt(["asq", "bzs"], "sign languages held out for validation")
    train_languages: list[str] | None = opt(
        None, "sign languages to train on; null: all that are not held out"
    )
    letters: list[str] = opt(list("ABCDEFGHIJKLMNOPQRSTUVWXYZ"), "letters that are evaluated, and trained on")
    extra_letters: bool = opt(
        False, "train on the training languages' other letters too (Ä, SCH, Greek, Arabic, ...)"
    )
    prompt: str = opt(
        "Fingerspell the letter {letter}.",
        "prompt; {letter}, and the sign language's name {language} and {code}, are filled in",
    )
    left_handed: list[str] = opt(
        ["ise"], "sign languages recorded with the left hand: their clips are mirrored"
    )

    # ---- poses
    pose_components: str | list[str] | None = opt(
        None, "null: body, face and hands; 'reduced_face'; or a list such as [RIGHT_HAND_LANDMARKS]"
    )
    normalize_hand: bool = opt(False, "published 3-D hand normalisation (only with [RIGHT_HAND_LANDMARKS])")
    hand_frame: str | None = opt(
        None,
        "palm: joints in the palm's own frame and the palm's direction; palm_shape: and what the fingers do",
        choices=["palm", "palm_shape"],
    )
    scale_depth: bool = opt(False, "bring z to the unit of x and y first (always so with hand_frame)")
    velocity: bool = opt(False, "append the change of each number per 1/25 s")
    presence: bool = opt(False, "append a 0/1 number for each hand: is it there?")
    face_points: int | None = opt(
        None, "points of a whole face; null: what fits model.vfeat_dim", choices=[468, 478]
    )
    clip_window: list[float] | None = opt(
        None, "share of a clip that is used, as [from, to]; null: all", minimum=0, maximum=1
    )
    clip_frames: int | None = opt(None, "evenly spread moments of it; null: every frame", minimum=1)
    augment2d: bool = opt(False, "train: random rotation, shear and scale in the image plane (std 0.2 each)")
    augment_temporal: bool = opt(False, "train: random change of speed, ratio drawn from N(1, 0.2)")
    augment_temporal_chance: float | None = opt(
        None, "share of clips whose speed changes; null: all", minimum=0, maximum=1
    )
    gaussian_noise: bool = opt(
        False, "train: Gaussian noise on the landmarks, std 0.001 of the shoulder width"
    )
    flip_pose: str | float | None = opt(
        None, "'right': mirror so that the right hand dominates; a number: train, chance to mirror"
    )
    augment3d: PoseAugmentation = section(
        PoseAugmentation, "train: changes of the raw landmarks, in 3-D and in time"
    )
    anonym_pose: bool = opt(False, "remove the signer's appearance from the pose (needs pose-anonymization)")
    preprocess: str | None = opt(None, "another preprocessing of poses: sign-vq, sign-vq-original-scale")

    # ---- video features
    vfeat_custom: bool | int | None = opt(
        None, "keep features wider than 512 as they are; unset: average pairs down to 512"
    )

    allow_trial_features: bool = opt(
        False,
        "take features of a network with random weights too (made by --weights random:SEED, for trials)",
    )

    # ---- batches
    batch_sampler: str = opt(
        "unique_prompt",
        "unique_prompt: no two clips of one prompt in a batch; random: any clips; prompt_groups: several "
        "clips of each prompt",
        choices=["unique_prompt", "random", "prompt_groups"],
    )
    clips_per_prompt: int = opt(2, "with prompt_groups: clips of each prompt in a batch", minimum=1)
    oversample: bool | None = opt(
        None, "repeat clips of rare prompts so that every batch is full; null: the corpus's own habit"
    )
    unique_sampler_num: int | None = opt(
        None, "SignCLIP's name for a batch of that many different prompts", minimum=1
    )
    pad_to_max: bool = opt(
        False, "pad every batch to max_video_len and max_len, as the ancestor does: slower, same vectors"
    )
    on_bad_example: str = opt(
        "error", "an unreadable clip: stop, or leave it out and say so", choices=["error", "skip"]
    )


@dataclass
class ModelConfig(PublishedModel):
    """The two towers."""

    model_cls: str = opt("MMFusionSeparate", "MMFusionSeparate (two towers) or MMFusionShare (one for both)")
    video_encoder_cls: str = opt("MMBertForEncoder", "the video tower")
    text_encoder_cls: str = opt("BertModel", "the text tower")
    mm_encoder_cls: str | None = opt(None, "the shared tower of MMFusionShare")
    num_hidden_video_layers: int = opt(
        6, "BERT layers of the video tower; MMFusionShare has all those of the text model", minimum=1
    )
    video_hidden_size: int | None = opt(
        None,
        "width of a video tower that starts from random weights; null: the text model's width and weights",
        minimum=1,
    )
    ensemble_size: int = renamed(
        "members",
        opt(
            1,
            "models trained together on one text tower and used as one; their embeddings are concatenated",
            minimum=1,
        ),
    )
    vfeat_dim: int = opt(512, "numbers in a frame", minimum=1)
    conv1d: int = opt(0, "1-D convolutions (kernel 17) over time before the frame MLP", minimum=0)
    dropout: float | None = opt(
        None, "dropout of the video tower; null: the text model's own", minimum=0, maximum=1
    )
    multimodal_projection: bool | str = opt(
        False, "true: a projection after each tower; l2_norm: and unit length"
    )
    pooling: str = opt("mean", "frames -> one vector", choices=["mean", "max", "attention"])
    freeze_text: bool = opt(False, "train the video tower only")
    train_last_layers: int | None = opt(
        None,
        "fine-tuning: train only so many last layers of each tower, and projections; null: all",
        minimum=1,
    )
    train_projections_only: bool = opt(False, "fine-tuning: train the projections behind the towers only")
    lora_rank: int = opt(
        0,
        "fine-tuning: train adapters (LoRA) of this rank instead of the towers' BERT layers; 0: none",
        minimum=0,
    )
    autocast: str | None = opt(
        None, "half precision where the hardware has it; embeddings stay float32", choices=["bf16", "fp16"]
    )
    compile: bool = opt(
        False,
        "torch.compile the layers' feed-forward blocks: a start of minutes, then fewer passes over memory",
    )
    activation_checkpointing: bool = opt(
        False, "compute layers again in the backward pass: less memory, more time"
    )
    init_ignore: list[str] = opt(
        [], "fine-tuning: patterns of parameter names that may differ from the checkpoint's"
    )


@dataclass
class LossConfig:
    """The training objective. Defaults are the ancestor's: InfoNCE both ways on raw dot products."""

    loss_cls: str = opt("MMContraLoss", "MMContraLoss (InfoNCE) or MMSigmoidLoss")
    similarity: str = opt("dot", "what the logits are", choices=["dot", "cosine"])
    temperature: float = opt(1.0, "logits are divided by it", minimum=1e-4)
    learnable_temperature: bool = opt(False, "learn the temperature, starting from `temperature`")
    max_logit_scale: float = opt(100.0, "bound of the learnt 1/temperature", minimum=1.0)
    label_aware: bool = opt(False, "clips of the same prompt are positives of each other, not negatives")
    label_smoothing: float = opt(
        0.0, "share of the target spread over all candidates", minimum=0, maximum=0.999
    )
    mixup: float = opt(
        0.0,
        "train: mix clips and targets by a share from Beta(mixup, mixup); needs dataset.clip_frames",
        minimum=0,
    )
    max_nonfinite: int = opt(
        10,
        "batches with a loss or gradients that are not finite to leave out before the run stops",
        minimum=0,
    )
    gather: bool = opt(False, "several processes: contrast over the global batch")
    cached_chunk: int | None = opt(
        None,
        "clips embedded at a time: a batch of any size trains in the memory of that many, with the same "
        "gradients, for a second forward pass; null: all at once",
        minimum=1,
    )


@dataclass
class EvalConfig:
    """How a trained model is judged, and where the results go."""

    save_path: str | None = opt(None, "folder of results; null: `eval` beside the checkpoint")
    similarity: str = opt(
        "cosine", "what ranks the candidates (the ancestor: dot)", choices=["cosine", "dot"]
    )
    after_training: bool = opt(False, "evaluate the best checkpoint when training ends")
    batch_size: int = opt(64, "clips embedded at a time", minimum=1)
    bootstrap: int = opt(1000, "bootstrap samples for the 95 % intervals; 0: none", minimum=0)
    device: str = opt("auto", "auto, cpu, cuda, cuda:1, ...")
    trust_checkpoint: bool = opt(
        False, "load a checkpoint that needs code of its own: only if you trust its maker"
    )


@dataclass
class Config:
    """A whole task config."""

    dataset: DatasetConfig
    model: ModelConfig = section(ModelConfig, "the two towers")
    loss: LossConfig = section(LossConfig, "the training objective")
    eval: EvalConfig = section(EvalConfig, "evaluation")
    fairseq: dict[str, Any] = opt(
        {}, "groups of fairseq's own options: common, dataset, optimization, checkpoint, ..."
    )
    task_type: str = opt(
        "local_single",
        "local_single, local_small, local_big (1, 2, 4 processes), local_predict; others run as local_single",
    )
    metric: str = opt("RetrievalMetric", "what is reported")
    predictor: str = opt("RetrievalPredictor", "what embeds")
    slurm_config: str | None = opt(None, "cluster only: ignored")
    input_dim: int | None = opt(None, "older name of model.vfeat_dim", minimum=1)
