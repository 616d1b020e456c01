"""Names of the embeddings that evaluation and mmpt.cli.embed write."""

import json
import os
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


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("ids.json", '["a", null]', "the name of row 1 is None; expected a text or a whole number"),
        ("ids.json", '[["a"], "b"]', "the name of row 0 is"),
        ("ids.csv", "id,start_ms,end_ms\na,0.0,5.0\nb\n", "row 1 has more or fewer cells than the header"),
        ("ids.csv", "id\na\nb,c\n", "row 1 has more or fewer cells"),
        ("ids.csv", 'id\na\n"b\n', "not readable as a table"),
    ],
)
def test_names_that_are_no_names_are_refused(tmp_path: Path, file: str, content: str, said: str) -> None:
    np.save(tmp_path / "embeddings.npy", np.eye(2, dtype=np.float32))
    (tmp_path / file).write_text(content)
    with pytest.raises(UserError, match=said):
        read_embeddings(tmp_path, ids=str(tmp_path / file))
    (tmp_path / file).unlink()
    os.mkfifo(tmp_path / file)
    with pytest.raises(UserError, match="is a pipe"):
        read_embeddings(tmp_path, ids=str(tmp_path / file))
    (tmp_path / "ids.json").unlink(missing_ok=True)
    (tmp_path / "ids.json").write_text("[1, 2]")
    assert read_embeddings(tmp_path, ids=str(tmp_path / "ids.json")).names == ["1", "2"]


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
