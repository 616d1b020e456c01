"""Names of the embeddings that evaluation and mmpt.cli.embed write."""

import json
from pathlib import Path

import numpy as np
import pytest

from mmpt.embedding.storage import FINGERPRINT, EmbeddingSet, save_embedding_set
from mmpt.search import read_embeddings
from mmpt.utils.errors import MissingDataError, UserError


def test_read_embeddings_of_the_embed_command(tmp_path: Path) -> None:
    vectors = np.eye(2, 4, dtype=np.float32)
    save_embedding_set(
        tmp_path, EmbeddingSet(vectors, [{"id": "a"}, {"id": "b, ü"}]), {FINGERPRINT: "x"}, "npy"
    )
    assert read_embeddings(tmp_path).names == ["a", "b, ü"]
    assert read_embeddings(tmp_path / "embeddings.npy").names == ["a", "b, ü"]
    rows = [
        {"id": "a", "start_ms": "0.0", "end_ms": "800.0"},
        {"id": "a", "start_ms": "400.0", "end_ms": "1200.0"},
    ]
    save_embedding_set(tmp_path, EmbeddingSet(vectors, rows), {FINGERPRINT: "x"}, "npy")
    assert read_embeddings(tmp_path).names == ["a 0.0-800.0 ms", "a 400.0-1200.0 ms"]
    (tmp_path / "ids.csv").write_text("name\nx\ny\n")
    with pytest.raises(UserError, match=r"ids\.csv was changed after provenance\.json was written"):
        read_embeddings(tmp_path)
    (tmp_path / "provenance.json").unlink()
    with pytest.raises(UserError, match="column id"):
        read_embeddings(tmp_path)
    with pytest.raises(MissingDataError):
        read_embeddings(tmp_path, ids=str(tmp_path / "gone.csv"))


def test_read_embeddings_refuses_parquet(tmp_path: Path) -> None:
    made = EmbeddingSet(np.eye(2, dtype=np.float32), [{"id": "a"}, {"id": "b"}])
    save_embedding_set(tmp_path, made, {FINGERPRINT: "x"}, "parquet")
    with pytest.raises(UserError, match="embed with --format npy"):
        read_embeddings(tmp_path)


def test_read_embeddings_names_prompts(tmp_path: Path) -> None:
    """As many prompts as clips, and the file named by itself."""
    for side in ("text", "video"):
        np.save(tmp_path / f"{side}_embeddings.npy", np.eye(2, dtype=np.float32))
    (tmp_path / "ids.json").write_text(json.dumps({"prompts": ["House", "Tree"], "videos": ["1", "2"]}))
    assert read_embeddings(tmp_path / "text_embeddings.npy").names == ["House", "Tree"]
    assert read_embeddings(tmp_path / "video_embeddings.npy").names == ["1", "2"]
