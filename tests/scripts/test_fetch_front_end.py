"""The script that fetches the browser's part of MediaPipe: checksums, and the bundle of models."""

import base64
import hashlib
import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from mmpt.utils.errors import UserError
from scripts import fetch_front_end as script

pytest.importorskip("mediapipe.tasks.metadata", reason="mediapipe is not installed")


def archive(tmp_path: Path) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as members:
        for name in (*script.FILES, "package/other"):
            (tmp_path / "file").write_text(name)
            members.add(tmp_path / "file", name)
    return stream.getvalue()


def test_front_end_package_is_written_only_with_the_right_checksum(tmp_path: Path) -> None:
    content, out = archive(tmp_path), tmp_path / "out"
    with pytest.raises(UserError, match="expected ZJqh0"):
        script.write_package(content, out)
    assert not out.exists()
    script.write_package(content, out, base64.b64encode(hashlib.sha512(content).digest()).decode())
    assert {path.name: path.read_text() for path in out.iterdir()} == {n: m for m, n in script.FILES.items()}


def test_front_end_without_npm_or_with_an_npm_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="npm is not installed"):
        script.fetch_package(tmp_path / "out")
    (tmp_path / "npm").write_text("#!/bin/sh\necho no network >&2\nexit 1\n")
    (tmp_path / "npm").chmod(0o755)
    with pytest.raises(UserError, match=r"npm could not fetch .*: no network"):
        script.fetch_package(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_front_end_bundle_of_models() -> None:
    """That the models still work is shown by the landmarks in tests/page/test_extract_browser.py."""
    from mediapipe.tasks.metadata import metadata_schema_py_generated as metadata
    from mediapipe.tasks.metadata import schema_py_generated as schema

    modules = script._modules()
    bundle = script.holistic_bundle(modules)
    assert bundle == script.holistic_bundle(modules)
    with zipfile.ZipFile(io.BytesIO(bundle)) as members:
        assert {info.compress_type for info in members.infolist()} == {zipfile.ZIP_STORED}
        models = {name: members.read(name) for name in members.namelist()}
    assert models.keys() == script.MODELS.keys()
    for name, model in models.items():
        assert model[4:8] == b"TFL3"
        tree = schema.ModelT.InitFromObj(schema.Model.GetRootAs(model))
        graph = tree.subgraphs[0]
        if name == "face_landmarks_detector.tflite":
            assert [list(graph.tensors[n].shape)[-1] for n in graph.outputs] == [1434, 1]
        if name.removesuffix(".tflite") in script.NORMALISED:
            buffer = next(entry.buffer for entry in tree.metadata if entry.name == b"TFLITE_METADATA")
            found = metadata.ModelMetadataT.InitFromObj(
                metadata.ModelMetadata.GetRootAs(bytes(tree.buffers[buffer].data))
            )
            options = found.subgraphMetadata[0].inputTensorMetadata[0].processUnits[0].options
            assert (list(options.mean), list(options.std)) == ([0], [255])
        else:
            assert model == (modules / script.MODELS[name]).read_bytes()
