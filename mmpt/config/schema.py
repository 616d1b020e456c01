"""Every key of a task config: its type, default, bounds and meaning.

The names are those of MMPT and SignCLIP, so that published YAMLs load unchanged. `None` means "not set". The
loader (mmpt/config/loader.py) builds these dataclasses and refuses keys that are neither here nor in
published.py.
"""

from dataclasses import dataclass
from typing import Any

from mmpt.config.cluster_options import ClusterConfig
from mmpt.config.dataset_options import (
    BatchOptions,
    ClipLength,
    ClipStorage,
    LexiconOptions,
    PoseOptions,
    SpanSampling,
    SplitFiles,
    TableOptions,
    TextModelOptions,
    VideoFeatureOptions,
)
from mmpt.config.fields import LARGE, opt, required, section
from mmpt.config.published import PublishedDataset, PublishedModel


@dataclass(frozen=True, kw_only=True)
class DatasetConfig(
    BatchOptions,
    SpanSampling,
    VideoFeatureOptions,
    PoseOptions,
    ClipStorage,
    LexiconOptions,
    TableOptions,
    SplitFiles,
    ClipLength,
    TextModelOptions,
    PublishedDataset,
):
    """The clips and prompts, and how they are read; the groups of keys are in dataset_options.py."""

    meta_processor: str = required(
        "which clips and prompts: RWTHFSMetaProcessor, FingerspellingMetaProcessor, TableMetaProcessor, ..."
    )
    video_processor: str = required(
        "how a clip becomes feature vectors: RWTHFSPoseProcessor, RWTHFSVideoProcessor, ..."
    )
    max_video_len: int = required(
        "maximum number of frames (or video tokens) of a clip", minimum=1, maximum=LARGE
    )
    max_len: int = required(
        "maximum number of token ids of a prompt, including [CLS] and [SEP]s", minimum=4, maximum=LARGE
    )


@dataclass
class ModelConfig(PublishedModel):
    """The two towers."""

    model_cls: str = opt("MMFusionSeparate", "MMFusionSeparate (two towers) or MMFusionShare (one for both)")
    video_encoder_cls: str = opt("MMBertForEncoder", "the video tower")
    text_encoder_cls: str = opt("BertModel", "the text tower")
    mm_encoder_cls: str | None = opt(None, "the shared tower of MMFusionShare")
    num_hidden_video_layers: int = opt(
        6,
        "BERT layers of the video tower; MMFusionShare has all those of the text model",
        minimum=1,
        maximum=1000,
    )
    video_hidden_size: int | None = opt(
        None,
        "width of a video tower that starts from random weights; null: the text model's width and weights",
        minimum=1,
        maximum=LARGE,
    )
    ensemble_size: int = opt(
        1,
        "models trained together on one text tower and used as one; their embeddings are concatenated",
        minimum=1,
        maximum=100,
        aliases=["members"],
        saved_name="members",
    )
    vfeat_dim: int = opt(512, "feature dimension per frame", minimum=1, maximum=LARGE)
    conv1d: int = opt(
        0, "1-D convolutions (kernel 17) over time before the frame MLP", minimum=0, maximum=100
    )
    dropout: float | None = opt(
        None, "dropout of the video tower; null: the text model's own", minimum=0, maximum=0.999
    )
    multimodal_projection: bool | str = opt(
        False, "true: a linear projection after each tower; l2_norm: also normalise to unit length"
    )
    pooling: str = opt("mean", "pooling of frames into one vector", choices=["mean", "max", "attention"])
    window_pooling: str = opt(
        "mean",
        "with dataset.long_video: windows: pooling of the vectors of a clip's windows; attention: weighted "
        "by a learnt score, starts as the mean",
        choices=["mean", "attention"],
    )
    freeze_text: bool = opt(False, "train the video tower only")
    train_last_layers: int | None = opt(
        None,
        "fine-tuning: train only this many last layers of each tower, and projections; null: all",
        minimum=1,
    )
    train_projections_only: bool = opt(False, "fine-tuning: train only the projections after the towers")
    lora_rank: int = opt(
        0,
        "fine-tuning: train adapters (LoRA) of this rank instead of the towers' BERT layers; 0: none",
        minimum=0,
        maximum=LARGE,
    )
    autocast: str | None = opt(
        None,
        "autocast to half precision where the hardware supports it; embeddings stay float32",
        choices=["bf16", "fp16"],
    )
    compile: bool = opt(
        False,
        "torch.compile the feed-forward blocks: takes minutes at the start, then fewer passes over memory",
    )
    matmul_precision: str = opt(
        "highest",
        "float32 matrix products of a training; high: in TF32 on a GPU that has it, with 10 bits of mantissa",
        choices=["highest", "high"],
    )
    nested_attention: bool = opt(
        False,
        "attention over the sequences of a batch in one call, without padding (torch's nested tensors); for "
        "GPUs, but not yet run on one",
    )
    activation_checkpointing: bool = opt(
        False, "recompute layers in the backward pass: less memory, more time"
    )
    init_ignore: list[str] = opt(
        [], "fine-tuning: patterns of parameter names that may be missing or differ in the checkpoint"
    )


@dataclass
class LossConfig:
    """The training objective. The defaults are VideoCLIP's: InfoNCE in both directions on dot products."""

    loss_cls: str = opt("MMContraLoss", "MMContraLoss (InfoNCE) or MMSigmoidLoss")
    similarity: str = opt("dot", "similarity measure of the logits", choices=["dot", "cosine"])
    temperature: float = opt(1.0, "divides the logits", minimum=1e-4)
    learnable_temperature: bool = opt(False, "learn the temperature, starting from `temperature`")
    max_logit_scale: float = opt(100.0, "upper bound of the learnt 1/temperature", minimum=1.0)
    label_aware: bool = opt(False, "clips of the same prompt are positives of each other, not negatives")
    label_smoothing: float = opt(
        0.0, "share of the target that is spread over all candidates", minimum=0, maximum=0.999
    )
    mixup: float = opt(
        0.0,
        "train: mix clips and targets by a share from Beta(mixup, mixup); needs dataset.clip_frames",
        minimum=0,
    )
    max_nonfinite: int = opt(
        10,
        "skipped batches with a non-finite loss or gradients before the run stops",
        minimum=0,
    )
    gather: bool = opt(False, "contrast over the global batch of all processes")
    cached_chunk: int | None = opt(
        None,
        "GradCache: clips embedded at a time; gradients and loss of the whole batch in the memory of that "
        "many clips, for a second forward pass; null: all at once",
        minimum=1,
    )


@dataclass
class EvalConfig:
    """How a trained model is evaluated, and where the results are written."""

    save_path: str | None = opt(None, "folder of results; null: `eval` in the folder of the checkpoint")
    similarity: str = opt(
        "cosine", "similarity that ranks the candidates (SignCLIP: dot)", choices=["cosine", "dot"]
    )
    protocol: str = opt(
        "retrieval",
        "retrieval: a clip is ranked against all prompts; unseen-alphabet: against those of its sign "
        "language, in SignWriting (docs/signwriting.md); sentences: one text a clip, as CLIP4Clip and CiCo; "
        "one-shot: clips by an example clip",
        choices=["retrieval", "unseen-alphabet", "sentences", "one-shot"],
    )
    one_shot_queries: str = opt(
        "auto",
        "protocol one-shot; same-language: the other clips of a gallery's signs; other-language: clips of "
        "other sign languages; auto: same-language if a sign has two clips in a sign language",
        choices=["auto", "same-language", "other-language"],
    )
    one_shot_draws: int = opt(10, "draws of the galleries, where a sign has several clips", minimum=1)
    one_shot_other_signer: bool = opt(
        False, "no queries by the signer of the gallery's clip of the same sign"
    )
    prompt_ensemble: bool = opt(
        False, "a class is the mean of the unit embeddings of all its prompts, not of the first alone"
    )
    prompt_ensemble_weights: list[float] | None = opt(
        None, "prompt_ensemble: weight of each of dataset.prompt_templates in the mean; null: equal weights"
    )
    after_training: bool = opt(False, "evaluate the best checkpoint when training ends")
    batch_size: int = opt(64, "clips per batch", minimum=1)
    bootstrap: int = opt(1000, "bootstrap samples for the 95 % intervals; 0: none", minimum=0)
    device: str = opt("auto", "auto, cpu, cuda, cuda:1, ...")
    trust_checkpoint: bool = opt(
        False, "unpickle any class in a checkpoint, which can run code: only if you trust its source"
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
    metric: str = opt("RetrievalMetric", "metric of the evaluation")
    predictor: str = opt("RetrievalPredictor", "class that embeds")
    cluster: ClusterConfig = section(ClusterConfig, "jobs of --cluster slurm and --cluster local")
    slurm_config: str | dict[str, Any] | None = opt(
        None, "published YAMLs: its keys become those of `cluster`, with a message for the others"
    )
    input_dim: int | None = opt(None, "older name of model.vfeat_dim", minimum=1)
