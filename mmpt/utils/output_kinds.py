"""The kinds of folders and reports that the commands write (see outputs.py)."""

from mmpt.utils.outputs import OutputKind

INDEX = OutputKind(
    "an index",
    "signclip-index",
    "index.json",
    ("vectors.npy", "names.bin", "offsets.npy", "approximate.faiss"),
    alone=True,
)
MODEL_FOLDER = OutputKind(
    "a model",
    "signclip-model",
    "config.json",
    ("model.safetensors", "README.md", "tokenizer/*"),
    alone=True,
    edited=("README.md",),
)
ONNX_EXPORT = OutputKind(
    "an ONNX export",
    "signclip-onnx",
    "preprocessing.json",
    ("video.onnx", "text.onnx", "*.onnx.data", "tokenizer/*"),
    alone=True,
)
EMBEDDINGS = OutputKind(
    "embeddings",
    "signclip-embeddings",
    "provenance.json",
    ("embeddings.npy", "embeddings.parquet", "ids.csv"),
    old_keys=("mmpt_version", "count", "dim"),
)
EMBEDDING_FORMATS = ("npy", "parquet")
EVALUATION = OutputKind(
    "an evaluation",
    "signclip-evaluation",
    "results.json",
    (
        *("results.md", "text_embeddings.npy", "video_embeddings.npy", "ids.json"),
        *("confusion_matrix.png", "per_class.png", "report.html"),
    ),
    old_keys=("t2v", "v2t", "n_videos", "n_prompts"),
    option="eval.save_path=DIR",
)
PROTOCOL_REPORT = OutputKind(
    "a report of protocols",
    "signclip-protocols",
    "protocols.json",
    (
        *("protocols.md", "protocols.csv", "per_class.csv", "per_signer.csv", "predictions.csv", "map.png"),
        *("*_confusions.png", "*_per_class.png", "report.html"),
    ),
    old_keys=("model", "table", "outcomes"),
)
PROTOCOLS = ("zero_shot", "v2v", "knn", "prototypes", "linear_probe")
"""Protocols of isolated sign recognition (mmpt/evaluators/recognition/protocols.py)."""
SEARCHES = ("sentences", "one-shot")
"""Other protocols that such a report may hold."""
TABLE_CHECK = OutputKind(
    "a check of a table",
    "signclip-check",
    "check.json",
    ("check.md", "lengths.png", "clips.png"),
    old_keys=("table", "splits", "errors", "warnings"),
)
COMPARISON = OutputKind(
    "a comparison of experiments",
    "signclip-comparison",
    ".results.files.json",
    ("results.md", "results.csv", "results.png"),
)
ABLATIONS = OutputKind(
    "a table of ablations",
    "signclip-ablations",
    ".ablations.files.json",
    ("ablations.md", "ablations.csv", "ablations.json", "ablations.png"),
)
FOLDS = OutputKind(
    "a table of folds",
    "signclip-folds",
    ".folds.files.json",
    ("table.md", "table.csv", "folds.json", "folds.png"),
)
SPOTTING = OutputKind(
    "a spotting",
    "signclip-spotting",
    "spotting.json",
    ("thresholds.json",),
)
