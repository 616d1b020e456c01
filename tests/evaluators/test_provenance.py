"""Hashes of the clips of a split."""

from pathlib import Path

import pytest

from mmpt.config import load_config
from mmpt.config.schema import DatasetConfig
from mmpt.evaluators import provenance
from mmpt.evaluators.provenance import content_digest


def config_of(tiny_yaml: Path, cache: Path) -> DatasetConfig:
    return load_config(tiny_yaml, [f"dataset.cache_dir={cache}"]).dataset


def test_content_digest_reads_a_file_once(
    tiny_yaml: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    sha256 = provenance.sha256
    monkeypatch.setattr(provenance, "sha256", lambda path: read.append(path) or sha256(path))
    config = config_of(tiny_yaml, tmp_path / "cache")
    digest = content_digest(config, "train")
    count = len(read)
    assert count and content_digest(config, "train") == digest and len(read) == count
    (kept,) = (tmp_path / "cache" / "hashes").iterdir()
    for damaged in ("{", "[]", '{"x": 1}'):
        kept.write_text(damaged)
        assert content_digest(config, "train") == digest
    assert len(read) == 4 * count
    config = config_of(tiny_yaml, kept / "no folder")
    assert content_digest(config, "train") == digest != content_digest(config, "valid")
