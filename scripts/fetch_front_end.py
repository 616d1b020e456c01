"""Fetch what the page needs to compute landmarks in the browser, into mmpt/page/static/vendor.

    python scripts/fetch_front_end.py

Takes @mediapipe/tasks-vision of a fixed version from npm (`npm pack`; its checksum is compared), and builds
holistic.task from the models in the installed package mediapipe (requirements-extract.txt). Both are left out
of the repository: 13 and 18 MB. Does nothing if they are there, of these versions and unchanged.
"""

import argparse
import base64
import hashlib
import io
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Mapping
from importlib.metadata import distribution
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mmpt.cli import run_cli
from mmpt.page import VENDOR
from mmpt.utils.errors import MissingDataError, UserError
from mmpt.utils.files import read_json, sha256, write_text
from mmpt.utils.outputs import OutputKind, check_files, replace_output

PACKAGE, VERSION = "@mediapipe/tasks-vision", "1.1.0"
INTEGRITY = "ZJqh0wMKOINorfSffvDAxzyO1//c+FiG3IkzOdNDnLqvBB3DbMfj0bB/tys2SNf9S914sgoIbIpF4HTOi336cg=="
"""Base64 of the SHA-512 of the package's archive, as npm publishes it."""
FILES = {
    "package/vision_bundle.mjs": "vision_bundle.mjs",
    "package/wasm/vision_wasm_internal.js": "vision_wasm_internal.js",
    "package/wasm/vision_wasm_internal.wasm": "vision_wasm_internal.wasm",
}
FRONT_END = OutputKind(
    "the browser's part of MediaPipe",
    "signclip-front-end",
    "files.json",
    (*FILES.values(), "holistic.task", "LICENSE.txt"),
)
ORIGIN = """MediaPipe is Copyright The MediaPipe Authors, under the Apache License, Version 2.0 (below).

{package} {version}, from npm, without changes. holistic.task: models of the Python package
mediapipe {models}, with metadata added by scripts/fetch_front_end.py (and, in the face model, 30 constant
outputs).

"""

MODELS = {
    "face_detector.tflite": "face_detection/face_detection_short_range.tflite",
    "face_landmarks_detector.tflite": "face_landmark/face_landmark.tflite",
    "hand_landmarks_detector.tflite": "hand_landmark/hand_landmark_full.tflite",
    "hand_roi_refinement.tflite": "holistic_landmark/hand_recrop.tflite",
    "pose_detector.tflite": "pose_detection/pose_detection.tflite",
    "pose_landmarks_detector.tflite": "pose_landmark/pose_landmark_full.tflite",
}
"""Member of the bundle -> file below mediapipe/modules."""
# Images are scaled to 0..1 for these; without the metadata the landmarks are wrong, without a message.
NORMALISED = ("face_detector", "face_landmarks_detector", "hand_roi_refinement", "pose_landmarks_detector")
FACE_OUTPUTS, IRIS_OUTPUTS = 1404, 30


def main() -> None:
    """Fetch what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, default=VENDOR, help="default: %(default)s")
    out = parser.parse_args().out
    modules, models = _modules(), distribution("mediapipe")
    of = {"package": f"{PACKAGE} {VERSION}", "models": models.version}
    if not is_current(out, of):
        with replace_output(out, FRONT_END, of, force=True) as fresh:
            fetch_package(fresh)
            (fresh / "holistic.task").write_bytes(holistic_bundle(modules))
            origin = ORIGIN.format(package=PACKAGE, version=VERSION, models=models.version)
            write_text(fresh / "LICENSE.txt", origin + (models.read_text("LICENSE") or ""))
    for path in sorted(filter(Path.is_file, out.iterdir())):
        print(f"{sha256(path)[:16]}  {path.stat().st_size:>9}  {path}")


def is_current(out: Path, of: Mapping[str, str]) -> bool:
    """Whether `out` holds files of these versions, as they were written."""
    try:
        check_files(out, FRONT_END)
        return read_json(out / FRONT_END.record)["of"] == of
    except (OSError, ValueError, KeyError):
        return False


def fetch_package(out: Path) -> None:
    """Write FILES into `out`. Raises UserError if npm fails or sends another archive."""
    npm = shutil.which("npm")
    if npm is None:
        raise MissingDataError("npm is not installed: it is needed to fetch the browser's part of MediaPipe.")
    with tempfile.TemporaryDirectory() as folder:
        command = [npm, "pack", "--silent", f"{PACKAGE}@{VERSION}"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        archives = list(Path(folder).glob("*.tgz"))
        if done.returncode or len(archives) != 1:
            raise UserError(f"npm could not fetch {PACKAGE}@{VERSION}: {done.stderr.strip()[-300:]}")
        write_package(archives[0].read_bytes(), out)


def write_package(archive: bytes, out: Path, integrity: str = INTEGRITY) -> None:
    """Check the archive, and write FILES into `out`."""
    found = base64.b64encode(hashlib.sha512(archive).digest()).decode()
    if found != integrity:
        raise UserError(f"{PACKAGE}@{VERSION}: its archive has the SHA-512 {found}, expected {integrity}.")
    out.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=io.BytesIO(archive)) as members:
        for member, name in FILES.items():
            file = members.extractfile(member)
            assert file is not None, member
            (out / name).write_bytes(file.read())


def _modules() -> Path:
    """The folder of the models in the installed mediapipe, which is not imported."""
    found = find_spec("mediapipe")
    places = list(found.submodule_search_locations or []) if found else []
    if not places or not (Path(places[0]) / "modules" / MODELS["pose_detector.tflite"]).is_file():
        raise MissingDataError(
            "the package mediapipe is not installed, or has no models: "
            "pip install -r requirements-extract.txt (mediapipe 0.10.21)."
        )
    return Path(places[0]) / "modules"


def holistic_bundle(modules: Path) -> bytes:
    """The bundle of HolisticLandmarker: a zip of models, which are stored as they are.

    modules: folder of MODELS. The same models give the same bytes.
    """
    models = {name: (modules / file).read_bytes() for name, file in MODELS.items()}
    models["face_landmarks_detector.tflite"] = with_irises(models["face_landmarks_detector.tflite"])
    for name in NORMALISED:
        models[f"{name}.tflite"] = with_normalization(models[f"{name}.tflite"])
    return _stored(models)


def _stored(members: Mapping[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(members):
            archive.writestr(zipfile.ZipInfo(name), members[name])
    return stream.getvalue()


def with_irises(model: bytes) -> bytes:
    """The face model with 30 zeros (10 iris points) after its landmarks, which HolisticLandmarker reads."""
    from mediapipe.tasks.metadata import schema_py_generated as schema

    tree = schema.ModelT.InitFromObj(schema.Model.GetRootAs(model))
    graph = tree.subgraphs[0]
    place = next(
        n for n, tensor in enumerate(graph.outputs) if graph.tensors[tensor].shape[-1] == FACE_OUTPUTS
    )
    landmarks = graph.tensors[graph.outputs[place]]
    shape = list(landmarks.shape)

    def tensor(name: str, size: int, content: bytes | None) -> int:
        buffer = schema.BufferT()
        buffer.data = None if content is None else list(content)
        tree.buffers.append(buffer)
        made = schema.TensorT()
        made.name, made.type, made.shape = name, landmarks.type, [*shape[:-1], size]
        made.buffer = len(tree.buffers) - 1
        graph.tensors.append(made)
        return len(graph.tensors) - 1

    irises = tensor("irises", IRIS_OUTPUTS, bytes(4 * IRIS_OUTPUTS))
    whole = tensor("landmarks_with_irises", FACE_OUTPUTS + IRIS_OUTPUTS, None)
    graph.operators.append(
        _concatenation(schema, tree, [graph.outputs[place], irises], whole, len(shape) - 1)
    )
    graph.outputs = [whole if n == place else old for n, old in enumerate(graph.outputs)]
    return _packed(tree)


def _concatenation(schema: Any, tree: Any, inputs: list[int], output: int, axis: int) -> Any:
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CONCATENATION
    code.version = 1
    tree.operatorCodes.append(code)
    operator = schema.OperatorT()
    operator.opcodeIndex = len(tree.operatorCodes) - 1
    operator.inputs, operator.outputs = inputs, [output]
    operator.builtinOptionsType = schema.BuiltinOptions.ConcatenationOptions
    operator.builtinOptions = schema.ConcatenationOptionsT()
    operator.builtinOptions.axis = axis
    return operator


def _packed(tree: Any) -> bytes:
    import flatbuffers

    builder = flatbuffers.Builder(1 << 22)
    builder.Finish(tree.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def with_normalization(model: bytes, mean: float = 0.0, std: float = 255.0) -> bytes:
    """The model with metadata: (value - mean) / std for each value of the input image."""
    import flatbuffers
    from mediapipe.tasks.metadata import metadata_schema_py_generated as schema
    from mediapipe.tasks.python.metadata.metadata import MetadataPopulator

    unit = schema.ProcessUnitT()
    unit.optionsType = schema.ProcessUnitOptions.NormalizationOptions
    unit.options = schema.NormalizationOptionsT()
    unit.options.mean, unit.options.std = [mean], [std]
    image = schema.TensorMetadataT()
    image.name = "image"
    image.processUnits = [unit]
    image.content = schema.ContentT()
    image.content.contentPropertiesType = schema.ContentProperties.ImageProperties
    image.content.contentProperties = schema.ImagePropertiesT()
    image.content.contentProperties.colorSpace = schema.ColorSpaceType.RGB
    populator = MetadataPopulator.with_model_buffer(model)
    outputs = _count_outputs(model)
    graph = schema.SubGraphMetadataT()
    graph.inputTensorMetadata = [image]
    graph.outputTensorMetadata = [schema.TensorMetadataT() for _ in range(outputs)]
    whole = schema.ModelMetadataT()
    whole.subgraphMetadata = [graph]
    builder = flatbuffers.Builder(0)
    builder.Finish(whole.Pack(builder), b"M001")
    populator.load_metadata_buffer(bytes(builder.Output()))
    populator.populate()
    return bytes(populator.get_model_buffer())


def _count_outputs(model: bytes) -> int:
    from mediapipe.tasks.metadata import schema_py_generated as schema

    return schema.Model.GetRootAs(model).Subgraphs(0).OutputsLength()


if __name__ == "__main__":
    sys.exit(run_cli(main))
