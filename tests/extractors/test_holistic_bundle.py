"""holistic.task: the bundle of MediaPipe's models, and the script that builds it."""

import io
import itertools
import zipfile
from pathlib import Path

import numpy as np
import pytest

from mmpt.cli.extract import main as extract
from mmpt.extractors.holistic_bundle import (
    BODY,
    BUNDLE_SHA256,
    FACE,
    MODELS,
    NORMALISED,
    WHEEL,
    WHEEL_SHA256,
    build_bundle,
    has_irises,
    installed_models,
    model_hashes,
    wheel_models,
)
from mmpt.extractors.video import Video
from mmpt.utils import wheels
from mmpt.utils.errors import UserError
from mmpt.utils.files import sha256
from scripts import fetch_holistic as script
from tests.extractors.videos import write_video


@pytest.fixture(scope="module")
def models() -> dict[str, bytes]:
    """The models in the wheel of mediapipe 0.10.21."""
    models = installed_models()
    if models is None:
        pytest.skip("mediapipe 0.10.21, which has the models, is not installed")
    return models


@pytest.fixture(scope="module")
def bundle(models: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bundle") / "holistic.task"
    path.write_bytes(build_bundle(models))
    return path


def write_zip(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def fake_bundle(path: Path, **changed: bytes) -> Path:
    """A file with the members of a bundle, which are no models."""
    members = {name: name.encode() for name in MODELS}
    return write_zip(path, members | {f"{name}.tflite": content for name, content in changed.items()})


def model_members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_bundle_has_the_models_with_normalization_and_a_longer_face(
    bundle: Path, models: dict[str, bytes]
) -> None:
    """That they give the landmarks of the legacy Holistic is shown in test_holistic_tasks.py."""
    from mediapipe.tasks.metadata import metadata_schema_py_generated as metadata
    from mediapipe.tasks.metadata import schema_py_generated as schema

    with zipfile.ZipFile(bundle) as archive:
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
    found = model_members(bundle)
    assert found.keys() == MODELS.keys() and not has_irises(bundle)
    for name, model in found.items():
        assert model[4:8] == b"TFL3"
        tree = schema.ModelT.InitFromObj(schema.Model.GetRootAs(model))
        graph = tree.subgraphs[0]
        if name == FACE:
            assert [list(graph.tensors[n].shape)[-1] for n in graph.outputs] == [1434, 1]
        if name == BODY:
            outputs = [list(graph.tensors[n].shape) for n in graph.outputs]
            assert outputs == [[1, 195], [1, 1], [1, 256, 256, 1], [1, 64, 64, 39], [1, 117]]
        if name not in (FACE, *NORMALISED):
            assert model == models[name]
        buffer = next(entry.buffer for entry in tree.metadata if entry.name == b"TFLITE_METADATA")
        about = metadata.ModelMetadataT.InitFromObj(
            metadata.ModelMetadata.GetRootAs(bytes(tree.buffers[buffer].data))
        )
        options = about.subgraphMetadata[0].inputTensorMetadata[0].processUnits[0].options
        detector = name in ("face_detector.tflite", "pose_detector.tflite")
        expected = ({127.5}, {127.5}) if detector else ({0}, {255})  # as in the legacy graphs
        assert ({*options.mean}, {*options.std}) == expected


def test_bundle_gives_the_body_and_the_hands_of_the_legacy_holistic(bundle, shared_videos, legacy) -> None:
    """With mediapipe 0.10.21, whose HolisticLandmarker works while both hands are seen, as they are here.

    Without the refinement of the body model, the body is over 1 pixel away in the sixth frame.
    """
    from mmpt.extractors.holistic_legacy import LegacyReader
    from mmpt.extractors.holistic_tasks import TasksReader

    found = []
    for reader in (LegacyReader(refine_face=False), TasksReader(refine_face=False, bundle=bundle)):
        with Video(shared_videos / "asl_book.mp4") as video:
            found.append(
                reader.estimate(video, itertools.islice(video.frames(), 6), 25.0).body.data[:, 0, :, :2]
            )
    apart = np.linalg.norm(found[0] - found[1], axis=-1)
    assert np.median(apart[-1, :33]) < 0.1 and np.median(apart[:, 33 + 468 :][:, :42]) < 0.3


def test_bundle_is_the_same_bytes_with_every_mediapipe(bundle: Path) -> None:
    """The hash was computed with 0.10.21 on Python 3.11 and with 1.2.3 on Python 3.13."""
    assert sha256(bundle) == BUNDLE_SHA256


def test_bundle_of_a_wheel(models: dict[str, bytes], bundle: Path, tmp_path: Path, capsys) -> None:
    wheel = write_zip(
        tmp_path / WHEEL, {f"mediapipe/modules/{file}": models[n] for n, file in MODELS.items()}
    )
    assert wheel_models(wheel) == models
    out = tmp_path / "new" / "holistic.task"
    assert script.main(["--wheel", str(wheel), "--out", str(out)]) == 0
    assert out.read_bytes() == bundle.read_bytes()
    assert capsys.readouterr().out.count(".tflite") == 6
    members = model_members(out)
    old = members | {BODY: members[BODY].replace(b"refined_landmarks", b"landmarks_as_were")}
    write_zip(out, old)  # as an earlier version built it
    assert script.main(["--wheel", str(wheel), "--out", str(out)]) == 0
    assert out.read_bytes() == bundle.read_bytes()
    assert "was built by an earlier version" in capsys.readouterr().out
    out.write_bytes(b"mine")  # it is there: not replaced, and said to be wrong
    assert script.main(["--out", str(out)]) == 2
    assert out.read_bytes() == b"mine" and "expected a bundle" in capsys.readouterr().err
    fake_bundle(wheel)
    assert script.main(["--wheel", str(wheel), "--out", str(tmp_path / "other")]) == 2
    assert "expected mediapipe-0.10.21" in capsys.readouterr().err and not (tmp_path / "other").exists()


def test_bundle_that_pip_cannot_download_is_one_line(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(script, "installed_models", lambda: None)
    monkeypatch.setattr(wheels.sys, "executable", "/bin/false")
    assert script.main(["--out", str(tmp_path / "holistic.task")]) == 2
    said = capsys.readouterr().err
    assert "pip could not download mediapipe==0.10.21" in said and said.count("\n") == 1
    pip = tmp_path / "pip"  # sends another file of that name
    pip.write_text(f'#!/bin/sh\nwhile [ "$1" != --dest ]; do shift; done\necho x > "$2/{WHEEL}"\n')
    pip.chmod(0o755)
    monkeypatch.setattr(wheels.sys, "executable", str(pip))
    assert script.main(["--out", str(tmp_path / "holistic.task")]) == 2
    assert "expected " + WHEEL_SHA256 in capsys.readouterr().err
    assert not (tmp_path / "holistic.task").exists()


def test_bundle_hashes_name_every_member(tmp_path: Path) -> None:
    path = fake_bundle(tmp_path / "a.task")
    google = fake_bundle(tmp_path / "b.task", face_blendshapes=b"x", pose_detector=b"other")
    assert model_hashes(path).keys() == MODELS.keys() and has_irises(path)
    differ = {k for k, v in model_hashes(google).items() if model_hashes(path).get(k) != v}
    assert differ == {"face_blendshapes.tflite", "pose_detector.tflite"}


def test_bundle_that_is_damaged_or_something_else_is_named(tmp_path: Path) -> None:
    path = fake_bundle(tmp_path / "a.task")
    whole = path.read_bytes()
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("face_detector.tflite", "x")
    wrong_crc = whole.replace(b"face_detector.tflitePK", b"face_detectoR.tflitePK")
    for content in (b"", b"x", whole[:100], whole[: len(whole) // 2], stream.getvalue(), wrong_crc):
        assert content != whole
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"a\.task .*expected a bundle of HolisticLandmarker"):
            model_hashes(path)
    for wrong in (tmp_path, tmp_path / "no.task"):
        with pytest.raises(UserError, match="expected a bundle of HolisticLandmarker"):
            model_hashes(wrong)


def test_extract_with_a_missing_bundle_or_options_of_the_other_backend(tmp_path: Path, monkeypatch, capsys):
    from mmpt.extractors import holistic

    monkeypatch.setattr(holistic, "version", lambda _: "1.2.3")
    monkeypatch.setenv("SIGNCLIP_CACHE", str(tmp_path / "cache"))
    write_video(tmp_path / "in" / "a.mp4", 2)
    command = ["pose", "--in", str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--backend"]
    monkeypatch.setattr(holistic, "has_legacy", lambda: True)
    for options, expected in (
        (
            ["tasks"],
            f"there is no {tmp_path}/cache/holistic.task: build it in a checkout with `python",
        ),
        (["tasks", "--complexity", "1"], "--complexity 1: --backend tasks has the body model of its bundle"),
        (["legacy", "--bundle", "b.task"], "--bundle b.task: --backend legacy uses its own models"),
        (["legacy", "--complexity", "3"], "--complexity 3: expected 0, 1 or 2"),
    ):
        assert extract([*command, *options]) == 2
        said = capsys.readouterr().err
        assert expected in said and said.count("\n") == 1
    monkeypatch.setattr(holistic, "has_legacy", lambda: False)
    assert extract([*command, "legacy"]) == 2
    assert "needs mediapipe 0.10.21, and 1.2.3 is installed" in capsys.readouterr().err
    monkeypatch.setattr(holistic, "version", lambda _: "0.10.21")
    assert extract([*command, "tasks"]) == 2
    assert "needs MediaPipe 1.x, and 0.10.21 is installed" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
