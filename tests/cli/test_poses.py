"""signclip poses info and compare: what they print, by hand, and their exit status."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mmpt.cli.main import main
from mmpt.embedding.embedder import SignCLIP
from mmpt.pose.clip import PoseClip
from mmpt.pose.comparison import LIMITS, compare, match, summary, why_not_mixed
from mmpt.pose.components import FACE, LEFT_HAND, POSE, RIGHT_HAND
from mmpt.pose.reader import PoseFile
from mmpt.utils.errors import UserError
from tests.conftest import ROOT, mmfusion_config
from tests.pose.pose_fakes import fake_clip, layout, without, write_pose


def body(frames: int = 12, seed: int = 0, **kwargs) -> PoseClip:
    """Random points in an image of 500 pixels, the shoulders 100 pixels apart."""
    clip = fake_clip(frames, seed, missing=0, **kwargs)
    data = clip.data * 50 + 250
    for name, x in (("RIGHT_SHOULDER", 200), ("LEFT_SHOULDER", 300)):
        data[:, clip.index(POSE, name)] = [x, 250, 0]
    return clip.with_data(data)


def moved(clip: PoseClip, component: str, pixels: float) -> PoseClip:
    data = clip.data.copy()
    data[:, clip.component_slice(component), 0] += pixels
    return clip.with_data(data, clip.confidence.copy())


def as_file(clip: PoseClip, width: int = 500, height: int = 400) -> PoseFile:
    counts = np.ones(len(clip), np.intp)
    return PoseFile(clip, clip.layout, 0.2, width, height, counts)


def run(capsys, *words: object) -> tuple[int, str, str]:
    status = main(["poses", *map(str, words)])
    out = capsys.readouterr()
    return status, out.out, out.err


# ---- info
def test_info_of_a_folder_counts_what_is_mixed(tmp_path, capsys):
    clip = body(10)
    columns = clip.layout.columns(LEFT_HAND)
    data, trust = clip.data.copy(), clip.confidence.copy()
    data[2:, columns], trust[2:, columns] = 0, 0
    write_pose(tmp_path / "a.pose", clip.with_data(data, trust))
    fast = body(30, seed=1, n_face=468)
    write_pose(tmp_path / "b.pose", PoseClip(fast.data, fast.confidence, 50.0, fast.layout, 500.0))
    (tmp_path / "notes.txt").write_text("")
    status, out, err = run(capsys, "info", tmp_path)
    assert status == 0 and not err
    assert "2 files, 40 frames, 1.0 s" in out
    assert "mixed: 25 (1 file); 50 (1 file)" in out and out.count("mixed") == 2
    assert "FACE_LANDMARKS 468" in out and "500 x 400" in out
    rows = {line[2:12].strip(): line.split() for line in out.splitlines() if "%" in line}
    assert rows["left hand"][3] == "80.0%" and rows["face"][2] == "75.0%"
    assert rows["face"][-1] == "1" and rows["left hand"][-1] == "0"


def test_info_as_json_with_each_file(tmp_path, capsys):
    clip = without(body(8), RIGHT_HAND)
    path = write_pose(tmp_path / "a.pose", clip, people=3)
    status, out, _ = run(capsys, "info", path, "--json")
    (found,) = json.loads(out)
    assert status == 0 and found["people"] == {"3": 1} and found["frames with several people"] == 8
    assert found["files without"]["right hand"] == 1 and found["parts"]["right hand"]["confidence"] is None
    (each,) = found["each"]
    columns = clip.component_slice(POSE)
    assert each["parts"]["body"]["frames"] == 8 and each["seconds"] == pytest.approx(8 / 25)
    assert each["parts"]["body"]["confidence"] == pytest.approx(clip.confidence[:, columns].mean(), abs=1e-6)


def test_info_names_bad_files_and_goes_on(tmp_path, capsys):
    write_pose(tmp_path / "good.pose", body())
    (tmp_path / "bad.pose").write_bytes(b"no pose at all, but long enough")
    status, out, err = run(capsys, "info", tmp_path)
    assert status == 1 and "1 file, 12 frames" in out
    assert err.startswith(f"error: {tmp_path / 'bad.pose'}: ")
    status, out, err = run(capsys, "info", tmp_path / "none.pose")
    assert status == 2 and not out and "No such file" in err and err.count("\n") == 1
    (tmp_path / "empty").mkdir()
    assert run(capsys, "info", tmp_path / "empty")[0] == 2


def test_info_says_whether_z_is_in_pixels(tmp_path, capsys):
    deep = body()
    shallow = deep.with_data(deep.data * np.array([1, 1, 1e-4], np.float32))
    flat = PoseClip(deep.data * [1, 1, 0], deep.confidence, 25.0, deep.layout, 500.0, depth=False)
    for name, clip, said in (("deep", deep, "pixels"), ("shallow", shallow, "fraction of the width")):
        write_pose(tmp_path / f"{name}.pose", clip)
        assert f"z           {said}\n" in run(capsys, "info", tmp_path / f"{name}.pose")[1]
    assert why_not_mixed(summary([compare("a", as_file(deep), as_file(flat))])) == [
        "in 1 clip only one has z (pose_layout: canonical needs none)"
    ]


# ---- compare
def test_compare_names_what_is_missing(tmp_path):
    with pytest.raises(UserError, match=r"nope does not exist; expected two files or two folders"):
        match(tmp_path, tmp_path / "nope")


def test_distances_are_those_by_hand(tmp_path, capsys):
    a = body(20)
    b = moved(moved(a, RIGHT_HAND, 3), POSE, 0.5)
    b.data[:2, b.component_slice(LEFT_HAND)], b.confidence[:2, b.component_slice(LEFT_HAND)] = 0, 0
    found = summary([compare("a", as_file(a), as_file(b))])["parts"]
    assert found["right hand"]["px"] == pytest.approx(3, abs=1e-4)
    assert found["right hand"]["median"] == pytest.approx(0.03, abs=1e-5)
    assert found["body"]["p90"] == pytest.approx(0.005, abs=1e-5)
    assert found["left hand"]["only_a"] == pytest.approx(0.1) and found["left hand"]["only_b"] == 0
    one, other = (write_pose(tmp_path / f"{n}.pose", clip) for n, clip in (("a", a), ("b", b)))
    status, out, _ = run(capsys, "compare", one, other)
    last = out.splitlines()[-1]
    assert status == 0 and last.startswith("A and B cannot be mixed: left hand: only one sees it in 10.0%")
    assert "right hand: median 0.030 shoulder widths (at most 0.01)" in last and "body" not in last
    assert run(capsys, "compare", one, one)[1].splitlines()[-1] == "A and B can be mixed"


@pytest.mark.parametrize(
    "part, component", [("body", POSE), ("left hand", LEFT_HAND), ("right hand", RIGHT_HAND)]
)
def test_the_limits_are_those_of_the_help(part, component):
    a = body()
    for pixels, good in ((0.99, True), (1.05, False)):  # of 100 pixels: limit 0.01
        reasons = why_not_mixed(summary([compare("a", as_file(a), as_file(moved(a, component, pixels)))]))
        assert (not reasons) == good and all(reason.startswith(part) for reason in reasons)
    from mmpt.cli.poses import compare as command

    for limit in (LIMITS["median"], LIMITS["p90"]):
        assert f"{limit:g}" in command.__doc__
    for limit in (LIMITS["one_sided"], LIMITS["fps"]):
        assert f"{limit * 100:g} %" in " ".join(command.__doc__.split())


def test_shares_of_one_sided_frames_count_compared_frames():
    a, fast = body(100), body(120)
    fast = PoseClip(fast.data, fast.confidence.copy(), 2 * a.fps, fast.layout, fast.width)
    fast.confidence[:, fast.component_slice(LEFT_HAND)] = 0
    clips = [compare("fast", as_file(a), as_file(fast)), compare("a", as_file(a), as_file(a))]
    assert [clip.compared for clip in clips] == [60, 100]
    assert summary(clips)["parts"]["left hand"]["only_a"] == pytest.approx(60 / 160)


def test_the_face_is_measured_but_not_judged():
    a = body(n_face=5)
    found = summary([compare("a", as_file(a), as_file(moved(a, FACE, 50)))])
    assert found["parts"]["face"]["px"] == pytest.approx(50) and not why_not_mixed(found)


def test_other_rates_are_aligned_by_time():
    a = body(40)
    for keep in (2, 3):
        b = PoseClip(a.data[::keep], a.confidence[::keep], 25.0 / keep, a.layout, a.width)
        for one, other in ((a, b), (b, a)):
            difference = compare("a", as_file(one), as_file(other))
            assert difference.by_time and difference.parts["body"].px == pytest.approx(0, abs=1e-6)
            reasons = why_not_mixed(summary([difference]))
            assert reasons == ["in 1 clip the frame rates differ by more than 5%"]


def test_a_rate_that_lost_its_fraction_is_compared_frame_by_frame():
    a = body(40)
    old = PoseClip(a.data[:39], a.confidence[:39], 29.0, a.layout, a.width)
    new = PoseClip(a.data, a.confidence, 29.97, a.layout, a.width)
    difference = compare("a", as_file(old), as_file(new))
    assert not difference.by_time and difference.parts["body"].px == 0
    assert not why_not_mixed(summary([difference]))


def test_images_of_another_size_are_scaled():
    a = body()
    half = a.with_data(a.data * np.array([0.5, 0.25, 0.5], np.float32))
    difference = compare("a", as_file(a), as_file(half, 250, 100))
    assert difference.scaled and difference.parts["body"].px == pytest.approx(0, abs=1e-4)


def test_only_points_that_both_have_are_compared():
    a, b = body(layout=layout(POSE, RIGHT_HAND)), body(layout=layout(POSE, LEFT_HAND))
    found = summary([compare("a", as_file(a), as_file(b))])
    assert list(found["parts"]) == ["body"] and found["parts"]["body"]["points"] == 33
    assert why_not_mixed(found)[-2:] == ["left hand: no point in common", "right hand: no point in common"]


def test_folders_are_matched_by_name(tmp_path, capsys):
    for folder in ("a", "b"):
        (tmp_path / folder / "deep").mkdir(parents=True)
        write_pose(tmp_path / folder / "deep" / "same.pose", body())
        write_pose(tmp_path / folder / f"only_{folder}.pose", body())
    status, out, _ = run(capsys, "compare", tmp_path / "a", tmp_path / "b")
    assert status == 0 and out.startswith("1 clip, 12 frames in A, 12 in B")
    assert "2 files have no counterpart: " in out and "only_a.pose" in out and "only_b.pose" in out
    (tmp_path / "b" / "deep" / "same.pose").write_bytes(b"broken")
    assert run(capsys, "compare", tmp_path / "a", tmp_path / "b")[0] == 1
    same = [tmp_path / folder / "deep" / "same.pose" for folder in ("a", "b")]
    status, out, err = run(capsys, "compare", *same)
    assert status == 2 and err.startswith(f"error: {same[1]}: ") and err.count("\n") == 1 and not out
    assert run(capsys, "compare", tmp_path / "a", tmp_path / "a" / "only_a.pose")[0] == 2
    (tmp_path / "b" / "deep" / "same.pose").unlink()
    status, out, err = run(capsys, "compare", tmp_path / "a", tmp_path / "b")
    assert status == 2 and err.count("\n") == 1 and not out


def test_match_of_two_files_needs_no_equal_names(tmp_path):
    a, b = (write_pose(tmp_path / name, body()) for name in ("x.pose", "y.pose"))
    assert match(a, b) == ([("x.pose", a, b)], [])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, data_dir: Path) -> Path:
    config = mmfusion_config(data_dir)
    weights = data_dir / "mmfusion" / "weights.safetensors"
    folder = tmp_path_factory.mktemp("poses") / "model"
    SignCLIP.from_checkpoint(weights, config, device="cpu").save_pretrained(folder)
    return folder


def test_with_a_model_embeddings_are_compared(tmp_path, capsys, model):
    a, b = tmp_path / "a", tmp_path / "b"
    for folder in (a, b):
        folder.mkdir()
    for number in range(3):
        clip = body(seed=number)
        write_pose(a / f"{number}.pose", clip)
        if number == 2:  # another hand
            clip = clip.with_data(np.where(clip.data == 0, 0, body(seed=9).data))
        write_pose(b / f"{number}.pose", clip)
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a\n\nb\nc\n")
    status, out, _ = run(capsys, "compare", a, b, "--model", model, "--prompts", prompts, "--json")
    found = json.loads(out)
    embedder = SignCLIP.from_pretrained(model, "cpu")
    ours, theirs = (
        embedder.embed_pose([folder / f"{n}.pose" for n in range(3)], normalize=True) for folder in (a, b)
    )
    cosines = (ours * theirs).sum(axis=1)
    assert status == 0 and found["embeddings"]["median"] == pytest.approx(np.median(cosines), abs=1e-5)
    assert found["embeddings"]["least"] == pytest.approx(cosines.min(), abs=1e-5)
    assert found["embeddings"]["least of"] == "2.pose" and found["embeddings"]["prompts"] == 3
    text = embedder.embed_text(["a", "b", "c"], normalize=True)
    same = (text @ ours.T).argmax(axis=0) == (text @ theirs.T).argmax(axis=0)
    assert found["embeddings"]["same prompt"] == pytest.approx(same.mean())
    status, out, _ = run(capsys, "info", a, "--model", model)
    assert "of the model's 21 landmarks: 21 in 3 files; a frame shows 100.0%" in out
    assert run(capsys, "compare", a, b, "--prompts", prompts)[0] == 2


def test_info_says_what_the_model_refuses(tmp_path, capsys, model):
    write_pose(tmp_path / "a.pose", fake_clip(layout=layout(RIGHT_HAND)))
    status, out, _ = run(capsys, "info", tmp_path, "--model", model)
    assert status == 0 and "the model refuses 1 file: there are no shoulders" in out


def test_python_m_is_the_same_command(tmp_path):
    path = write_pose(tmp_path / "a.pose", body())
    words = [sys.executable, "-m", "mmpt.cli.poses", "info", path]
    ended = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, check=True)
    assert "1 file, 12 frames" in ended.stdout
