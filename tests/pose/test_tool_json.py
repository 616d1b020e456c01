"""JSON of pose estimators: what is read, what is refused, random damage."""

import json
import os

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmpt.pose import tool_json
from mmpt.pose.estimators import ESTIMATORS
from mmpt.pose.tool_json import People, read_clip_file, read_frame_folder
from mmpt.utils.errors import UserError

FUZZ_EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "150"))  # more by hand, or by `make fuzz`


def people(count: int, frames: int = 3, points: int = 133) -> np.ndarray:
    """[T, people, P, 3]: x, y, confidence."""
    values = np.random.default_rng(0).uniform(5, 300, (frames, count, points, 3))
    values[..., 2] /= 300
    return values.astype(np.float32)


def mmpose(values: np.ndarray, first: int = 1) -> dict:
    """As demo/topdown_demo_with_mmdet.py --save-predictions writes a video."""

    def instance(person: np.ndarray) -> dict:
        return {
            "keypoints": person[:, :2].tolist(),
            "keypoint_scores": person[:, 2].tolist(),
            "bbox": [[0, 0, 300, 300]],
            "bbox_score": 0.9,
        }

    return {
        "meta_info": {"dataset_name": "coco_wholebody", "num_keypoints": values.shape[2]},
        "instance_info": [
            {"frame_id": first + i, "instances": [instance(person) for person in frame]}
            for i, frame in enumerate(values)
        ],
    }


def coco(values: np.ndarray, name="{}.jpg") -> list[dict]:
    """As AlphaPose writes a video, and the results of COCO."""
    return [
        {"image_id": name.format(i), "category_id": 1, "keypoints": person.ravel().tolist(), "score": 2.9}
        for i, frame in enumerate(values)
        for person in frame
    ]


def openpose_frame(frame: np.ndarray, empty: tuple[str, ...] = ()) -> dict:
    """As OpenPose writes one frame; `empty`: networks that did not run."""
    ends = np.cumsum([25, 70, 21, 21])[:-1]
    return {
        "version": 1.3,
        "people": [
            {
                "person_id": [-1],
                **{
                    name: [] if name in empty else part.ravel().tolist()
                    for name, part in zip(tool_json._OPENPOSE_PARTS, np.split(person, ends))
                },
            }
            for person in frame
        ],
    }


def openpose_folder(folder, values: np.ndarray, first: int = 0, **kwargs):
    folder.mkdir()
    for i, frame in enumerate(values):
        path = folder / f"clip_{first + i:012d}_keypoints.json"
        path.write_text(json.dumps(openpose_frame(frame, **kwargs)))
    return folder


def save(path, tree):
    path.write_text(json.dumps(tree))
    return path


def assert_people(found: People, values: np.ndarray, name: str):
    assert found.estimator is ESTIMATORS[name]
    np.testing.assert_allclose(found.data, values[..., :2], rtol=1e-6)
    np.testing.assert_allclose(found.confidence, values[..., 2], rtol=1e-6)


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("points, name", [(133, "coco_wholebody_133"), (308, "sapiens_308")])
def test_mmpose_video_demo_and_inferencer(tmp_path, first, points, name):
    values = people(2, points=points)
    tree = mmpose(values, first)
    assert_people(read_clip_file(save(tmp_path / "a.json", tree)), values, name)
    assert_people(read_clip_file(save(tmp_path / "b.json", tree["instance_info"])), values, name)


def test_image_of_mmpose_and_folder_of_frame_files(tmp_path):
    values = people(1, frames=4)
    frames = [frame["instances"] for frame in mmpose(values)["instance_info"]]
    assert_people(read_clip_file(save(tmp_path / "a.json", frames[2])), values[2:3], "coco_wholebody_133")
    folder = tmp_path / "clip"
    folder.mkdir()
    for i, instances in enumerate(frames):
        save(folder / f"{i + 7:06d}.json", {"meta_info": {}, "instance_info": instances})
    assert_people(read_frame_folder(folder, of_openpose=False), values, "coco_wholebody_133")


@pytest.mark.parametrize("points, name", [(133, "coco_wholebody_133"), (136, "alphapose_136")])
def test_lists_of_coco_and_alphapose(tmp_path, points, name):
    values = people(2, points=points)
    listed = coco(values)[::-1]  # in any order of frames
    found = read_clip_file(save(tmp_path / "a.json", listed))
    assert_people(People(found.estimator, found.data[:, ::-1], found.confidence[:, ::-1]), values, name)
    about = {"fps": 29.97, "width": 640, "height": 480}
    found = read_clip_file(save(tmp_path / "b.json", {"frames": coco(values), "metadata": about}))
    assert_people(found, values, name)
    assert (found.fps, found.width, found.height) == (29.97, 640, 480)


def test_coco_wholebody_annotations_in_parts(tmp_path):
    values = people(1)
    entries = []
    for i, (person,) in enumerate(values):
        parts = np.split(person, [17, 23, 91, 112])
        entries.append(
            {"image_id": 900 + i} | {n: p.ravel().tolist() for n, p in zip(tool_json._COCO_PARTS, parts)}
        )
    assert_people(read_clip_file(save(tmp_path / "a.json", entries)), values, "coco_wholebody_133")
    images = [
        {"id": 900 + i, "file_name": f"f_{i:03d}.png", "width": 64, "height": 48} for i in range(len(values))
    ]
    tree = {"images": images, "annotations": entries[::-1]}
    found = read_clip_file(save(tmp_path / "b.json", tree))
    assert_people(found, values, "coco_wholebody_133")
    assert (found.width, found.height, found.fps) == (64, 48, None)


def test_images_of_coco_without_people_are_frames(tmp_path, caplog):
    values = people(1)
    images = [{"id": 900 + i, "file_name": f"f_{i:03d}.png"} for i in range(9)]
    annotations = coco(values)
    for entry, image in zip(annotations, (902, 903, 906)):
        entry["image_id"] = image
    found = read_clip_file(save(tmp_path / "a.json", {"images": images, "annotations": annotations}))
    assert found.confidence.any(axis=(1, 2)).nonzero()[0].tolist() == [2, 3, 6] and len(found.data) == 9
    others = [{"id": n, "file_name": name} for n, name in enumerate(("cover.jpg", "g_400.png", "f_10.jpg"))]
    more = {"images": [*images, *others, {"file_name": "f"}], "annotations": annotations}
    assert len(read_clip_file(save(tmp_path / "c.json", more)).data) == 9
    assert not caplog.text
    found = read_clip_file(save(tmp_path / "b.json", annotations))
    assert len(found.data) == 5
    assert "begins with frame 902: the pose has no frames before it" in caplog.text


def test_openpose_folder_in_the_order_of_numbers_with_gaps(tmp_path, caplog):
    values = people(2, frames=12, points=137)
    folder = openpose_folder(tmp_path / "a", values, first=5)
    (folder / "notes.txt").write_text("")
    assert_people(read_frame_folder(folder), values, "openpose_137")
    next(folder.glob("*_000000000009_keypoints.json")).unlink()
    found = read_frame_folder(folder)
    assert len(found.data) == 12 and not found.confidence[4].any() and found.confidence[5].all()
    assert "1 of 12 frames are not in the JSON" in caplog.text


def test_openpose_without_hands_or_face_and_frames_without_people(tmp_path):
    values = people(1, frames=4, points=137)
    empty = ("face_keypoints_2d", "hand_left_keypoints_2d")
    folder = openpose_folder(tmp_path / "a", values, empty=empty)
    save(folder / "clip_000000000002_keypoints.json", {"people": []})
    found = read_frame_folder(folder)
    assert not found.confidence[:, :, 25:116].any() and not found.confidence[2].any()
    np.testing.assert_allclose(found.data[[0, 1, 3], :, 116:], values[[0, 1, 3], :, 116:, :2])


def in_parts(**counts: int) -> dict:
    """A person of COCO-WholeBody; `counts`: other numbers of points."""
    return {name: [1] * 3 * count for name, count in (tool_json._COCO_PARTS | counts).items()}


REFUSED = {
    "empty": ("", "not JSON"),
    "text": ("no json", "not JSON"),
    "deep": ("[" * 100_000, "nested too deeply|not JSON"),
    "number": ("3", "no list of frames"),
    "null": ("null", "no list of frames"),
    "empty list": ("[]", "no list of frames"),
    "other dict": ({"poses": []}, "no list of frames"),
    "list of numbers": ([1, 2], "no list of frames"),
    "entries without points": ([{"bbox": [1]}], "neither instances, image_id nor keypoints"),
    "instances": ([{"instances": 3}], "instances of a frame are not a list"),
    "person": ([{"instances": [3]}], "frame 0: a person is int"),
    "no points": (
        [{"instances": [{}]}],
        "frame 0: a person has no key; expected keypoints, or pose",
    ),
    "3-D of OpenPose": ([{"instances": [{"pose_keypoints_3d": [1]}]}], "has pose_keypoints_3d; expected"),
    "words": ([{"instances": [{"keypoints": ["a"]}]}], "not a list of numbers"),
    "numbers as words": ([{"image_id": 1, "keypoints": ["1"] * 399}], "not a list of numbers"),
    "ragged": ([{"instances": [{"keypoints": [[1, 2], [3]]}]}], "not a list of numbers"),
    "scores": (
        [{"instances": [{"keypoints": [[1, 2]], "keypoint_scores": [1, 2]}]}],
        r"keypoints \[1, 2\] and keypoint_scores \[2\]",
    ),
    "3-D": ([{"instances": [{"keypoints": [[1, 2, 3]], "keypoint_scores": [1]}]}], r"keypoints \[1, 3\]"),
    "not triples": ([{"image_id": 1, "keypoints": [1, 2]}], "expected x, y, confidence"),
    "17 points": ([{"image_id": 1, "keypoints": [1] * 51}], "frame 1: a person has 17 points; expected 137"),
    "20 hand points": (
        [{"image_id": 7} | in_parts(), {"image_id": 8} | in_parts(righthand_kpts=20)],
        "frame 8: righthand_kpts has 20 points; expected 21",
    ),
    "no face": ([{"image_id": 7, "keypoints": [1] * 51, "foot_kpts": [1] * 18}], "face_kpts is missing"),
    "frame name": ([{"image_id": "a.jpg", "keypoints": [1] * 399}], "got 'a.jpg' for a frame's number"),
    "negative frame": ([{"frame_id": -1, "instances": []}], "got '-1' for a frame's number"),
    "true frame": ([{"frame_id": True, "instances": []}], "got 'True' for a frame's number"),
    "nobody": ([{"frame_id": 1, "instances": []}], "no frame shows a person"),
    "one frame of OpenPose": ({"people": []}, "one frame of OpenPose: give the folder"),
    "huge": (coco(people(1, 1)) + coco(people(1, 1), "{}99999999.jpg"), "are too many"),
    "scaled": (coco(people(1) / 400), "within 0 and 1; expected pixels"),
    "width": ({"frames": coco(people(1)), "metadata": {"width": 1e5}}, "its width is 100000.0; expected"),
    "fps": ({"frames": coco(people(1)), "metadata": {"fps": float("nan")}}, "its fps is nan; expected"),
    "metadata": (
        {"frames": coco(people(1)), "metadata": {"fps": "25"}},
        "its fps is 25; expected",
    ),
}


@pytest.mark.parametrize("tree, said", REFUSED.values(), ids=list(REFUSED))
def test_bad_files_are_one_line(tmp_path, tree, said):
    path = tmp_path / "a.json"
    path.write_text(tree if isinstance(tree, str) else json.dumps(tree))
    with pytest.raises(UserError, match=said) as caught:
        read_clip_file(path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "place, value, said",
    [
        (0, float("nan"), "frame 1: keypoints: point 7, counted from 0, is NaN, infinite or too large"),
        (1, float("inf"), "point 7, counted from 0, is NaN, infinite or too large"),
        (1, 10**60, "point 7, counted from 0, is NaN, infinite or too large|not a list of numbers"),
        (0, 1e10, "point 7, counted from 0, is NaN, infinite or too large"),
        (2, float("nan"), "frame 1: keypoints: the confidence of point 7, counted from 0, is NaN"),
        (2, float("inf"), "the confidence of point 7, counted from 0, is NaN, infinite or too large"),
    ],
)
def test_numbers_that_are_none(tmp_path, place, value, said):
    listed = coco(people(1))
    listed[1]["keypoints"][3 * 7 + place] = value
    with pytest.raises(UserError, match=said):
        read_clip_file(save(tmp_path / "a.json", listed))
    listed[1]["keypoints"][3 * 7 : 3 * 8] = [float("nan"), 3, 0]  # a missing point may be anything
    assert not read_clip_file(save(tmp_path / "a.json", listed)).data[1, 0, 7].any()


def test_bad_folders(tmp_path):
    folder = openpose_folder(tmp_path / "a", people(1, points=137))
    third = "x_000000000003_keypoints.json"
    for name, content, said in (
        ("x_000000000001_keypoints.json", {}, "are both frame 1"),
        (f"x_{9**40}_keypoints.json", {}, "frame is too large"),
        (
            third,
            {"people": [{"pose_keypoints_2d": [1, 2, 3]}]},
            "pose_keypoints_2d has 1 points; exp",
        ),
        (third, {"people": [{"pose_keypoints_2d": 0}]}, f"{third}: pose_keypoints_2d is missing"),
        (third, coco(people(1))[:1], f"{third}: a person has 133 points, and those before have 137"),
        (third, {"people": {}}, "no list of people"),
    ):
        save(folder / name, content)
        with pytest.raises(UserError, match=said):
            read_frame_folder(folder)
        (folder / name).unlink()
    (folder / third).write_text("{")
    with pytest.raises(UserError, match=f"{third}: this is not JSON"):
        read_frame_folder(folder)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(UserError, match="no file whose name ends with a frame number"):
        read_frame_folder(empty)


def test_large_files_and_devices_are_refused(tmp_path):
    path = tmp_path / "a.json"
    with open(path, "wb") as file:
        file.truncate(tool_json.MAX_BYTES + 1)
    with pytest.raises(UserError, match="at most"):
        read_clip_file(path)
    os.mkfifo(tmp_path / "fifo.json")
    with pytest.raises(UserError, match="a pipe"):
        read_clip_file(tmp_path / "fifo.json")
    with pytest.raises(UserError, match="No such file"):
        read_clip_file(tmp_path / "none.json")


VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=5),
        st.just([1.0, 2.0] * 200),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(
                [
                    "instances",
                    "image_id",
                    "frame_id",
                    "keypoints",
                    "keypoint_scores",
                    "images",
                    "annotations",
                    "frames",
                    "metadata",
                    "fps",
                    "instance_info",
                    "people",
                    "face_kpts",
                    "id",
                    "file_name",
                ]
            ),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=8,
)
GOOD = [mmpose(people(1, 2)), coco(people(1, 2)), mmpose(people(1, 2))["instance_info"]]


def changed(data, tree):
    """A copy of a tree in which a random place has a random value."""
    if not data.draw(st.integers(0, 3)) or not isinstance(tree, dict | list) or not tree:
        return data.draw(VALUES)
    if isinstance(tree, dict):
        key = data.draw(st.sampled_from(sorted(tree)))
        return tree | {key: changed(data, tree[key])}
    place = data.draw(st.integers(0, len(tree) - 1))
    return [*tree[:place], changed(data, tree[place]), *tree[place + 1 :]]


@settings(
    max_examples=FUZZ_EXAMPLES // 3,  # each takes as long as several of the others
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_fuzz_json_raises_only_user_errors(tmp_path, data):
    path = tmp_path / "fuzz.json"
    kind = data.draw(st.sampled_from(["bytes", "tree", "changed", "damaged"]))
    if kind == "bytes":
        path.write_bytes(data.draw(st.binary(max_size=200)))
    elif kind == "tree":
        path.write_text(json.dumps(data.draw(VALUES)))
    elif kind == "changed":
        path.write_text(json.dumps(changed(data, data.draw(st.sampled_from(GOOD)))))
    else:
        text = bytearray(json.dumps(data.draw(st.sampled_from(GOOD))).encode())
        start = data.draw(st.integers(0, len(text) - 1))
        text[start : start + 4] = data.draw(st.binary(max_size=8))
        path.write_bytes(text)
    folder = tmp_path / "frames"
    folder.mkdir(exist_ok=True)
    (folder / "0_keypoints.json").write_bytes(path.read_bytes())
    for read, source in ((read_clip_file, path), (read_frame_folder, folder)):
        try:
            found = read(source)
        except UserError as error:
            assert str(error) and "\n" not in str(error)
        else:
            assert isinstance(found, People) and np.isfinite(found.data).all()
            assert found.data.shape == (*found.confidence.shape, 2)
