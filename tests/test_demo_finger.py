"""The demo: a ranking and an image for poses and videos."""

import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from pose_format import Pose

from mmpt.cli import demo as demo_finger
from mmpt.config import load_config
from mmpt.extractors import rendering
from mmpt.pose.components import POSE
from mmpt.pose.mirror import mirror
from mmpt.pose.reader import read_pose
from mmpt.processors.fingerspelling import find_lexicon, read_index
from mmpt.tasks import Task
from tests.conftest import write_tiny
from tests.pose.pose_fakes import fake_clip, write_pose

ROOT = Path(__file__).parents[1]


def with_model(path):
    """Give a config a model: untrained, which is all the demo's own code needs."""
    task = Task(load_config(path))
    torch.manual_seed(0)
    task.checkpoint_path().parent.mkdir(parents=True)
    torch.save({"model": task.build_model().state_dict()}, task.checkpoint_path())
    return path


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory, data_dir, pose_cache):
    """The checkpoint of with_model."""
    folder = tmp_path_factory.mktemp("demo")
    with_model(write_tiny(folder, data_dir, pose_cache))
    return folder / "run" / "checkpoint_best.pt"


@pytest.fixture
def config(tiny_yaml, checkpoint):
    path = tiny_yaml.with_name("test_tiny.yaml")
    path.write_text("includes: tiny.yaml\n")
    (path.parent / "run").mkdir()
    shutil.copy(checkpoint, path.parent / "run")
    return path


@pytest.fixture(scope="module")
def lexicon_pose():
    return next(
        row.path for row in read_index(find_lexicon(None)) if (row.language, row.letter) == ("gsg", "C")
    )


def ranking(text):
    """The prompts in their order."""
    return re.findall(r"^ *\d+\. [+-]\d\.\d{3}  (.*?) +#*$", text, re.MULTILINE)


def test_demo_without_a_clip(config, capsys):
    assert demo_finger.main(["--config", str(config), "--letter", "B", "--text", "something else"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("clip: gsg/") and "(B, held out of training)" in said
    prompts = ranking(said)
    assert sorted(prompts) == sorted(
        [*(f"Fingerspell the letter {x}." for x in "ABCDEF"), "random text", "something else"]
    )
    scores = [float(line[5:12]) for line in said.splitlines()[1:]]
    assert scores == sorted(scores, reverse=True) and all(-1 <= score <= 1 for score in scores)


def test_demo_prompts_with_a_language(tiny_yaml, capsys):
    path = tiny_yaml.with_name("test_tiny.yaml")
    prompt = "<{code}> {letter} in {language}"
    path.write_text(f'includes: tiny.yaml\ndataset:\n  prompt: "{prompt}"\n')
    assert demo_finger.main(["--config", str(with_model(path)), "--letter", "b"]) == 0
    said = capsys.readouterr().out
    assert "(B, held out of training)" in said and "<gsg> B in German Sign Language" in ranking(said)


def test_demo_pose_file_and_image(config, lexicon_pose, tmp_path, capsys, rendered):
    picture = tmp_path / "out" / "answer.png"
    assert (
        demo_finger.main([str(lexicon_pose), "--config", str(config), "--out", str(picture), "--top", "3"])
        == 0
    )
    assert len(ranking(capsys.readouterr().out)) in (3, 4)  # and the odd one out
    pixels = read_png(picture)
    width = pixels.shape[1]
    # the signer: many dark-red points of the face on the left; the bars of the ranking on the right
    assert is_red(pixels[:, : width // 2]).sum() > 500 and not is_red(pixels[:, width // 2 :]).any()
    assert (np.abs(pixels[:, width // 2 :, :3] - [0x2F, 0x6D, 0xB3]).sum(axis=2) < 30).sum() > 500


def test_demo_name_that_is_not_utf_8(config, lexicon_pose, tmp_path, capsys, rendered):
    """A name that can be neither printed nor drawn."""
    clip, picture = tmp_path / os.fsdecode(b"gr\xf6\xdfe.pose"), tmp_path / "answer.png"
    shutil.copyfile(lexicon_pose, clip)
    assert demo_finger.main([str(clip), "--config", str(config), "--out", str(picture)]) == 0
    assert capsys.readouterr().out.startswith("clip: gr??e.pose (right hand in ") and picture.is_file()


@pytest.fixture
def one_hand(tmp_path, lexicon_pose):
    """A function: a pose file of one hand, the right one or its mirror image."""

    def write(left):
        clip = read_pose(lexicon_pose)
        return write_pose(tmp_path / f"left{left}.pose", mirror(clip) if left else clip)

    return write


def test_a_left_handed_signer_is_mirrored_in_ranking_and_picture(
    config, one_hand, tmp_path, capsys, monkeypatch
):
    said, centres = [], []

    def keep(path, signer, *_):
        centres.append(np.nonzero((signer < 200).any(axis=2))[1].mean() - signer.shape[1] / 2)

    monkeypatch.setattr("mmpt.evaluators.pictures.answer.answer_picture", keep)
    for left, options in ((False, []), (True, ["--left-handed"])):
        clip, out = one_hand(left), tmp_path / f"{left}.png"
        assert demo_finger.main([str(clip), "--config", str(config), "--out", str(out), *options]) == 0
        said.append(capsys.readouterr().out.splitlines())
    assert said[0][1:-1] == said[1][1:-1]
    assert said[0][0].endswith("(right hand in 100%, left in 0% of 26 frames)")
    assert said[1][0].endswith("(right hand in 0%, left in 100% of 26 frames, mirrored)")
    assert abs(centres[0] - centres[1]) < 2 < abs(centres[0])  # the hand is on the same side


@pytest.mark.parametrize(
    "left, options, words",
    [
        (True, [], "reads RIGHT_HAND_LANDMARKS, and the frames that it reads show nothing of it (right hand"),
        (True, [], "if the signer spells with the other hand, give --left-handed"),
        (False, ["--left-handed"], "the model reads LEFT_HAND_LANDMARKS"),
        (False, ["--left-handed"], "with the other hand, leave --left-handed out"),
    ],
)
def test_a_clip_without_the_hand_that_the_model_reads_is_not_ranked(
    config, one_hand, left, options, words, capsys
):
    assert demo_finger.main([str(one_hand(left)), "--config", str(config), *options]) == 2
    said = capsys.readouterr()
    assert words in said.err and not said.out


def test_a_pose_without_hands_is_not_ranked(config, tmp_path, capsys):
    clip = write_pose(tmp_path / "none.pose", fake_clip(missing=1))
    assert demo_finger.main([str(clip), "--config", str(config)]) == 2
    assert "no hand is detected in 12 frames" in capsys.readouterr().err


def test_demo_video(config, lexicon_pose, tmp_path, capsys, monkeypatch, rendered):
    """Without MediaPipe: a video of a drawn pose gives the same ranking as the pose file."""
    pose = rendering.read_drawable(lexicon_pose)
    pose = rendering.fit(pose, rendering.box_of(pose, POSE), 352, 288)
    film = tmp_path / "film.mpg"
    rendering.write_mpg(film, rendering.pictures(pose))
    with open(tmp_path / "film.pose", "wb") as file:
        pose.write(file)
    monkeypatch.setattr(demo_finger, "extract", lambda path: Pose.read((tmp_path / "film.pose").read_bytes()))
    answers = []
    for clip in (film, tmp_path / "film.pose"):
        assert (
            demo_finger.main(
                [str(clip), "--config", str(config), "--out", str(tmp_path / f"{clip.suffix[1:]}.png")]
            )
            == 0
        )
        answers.append(capsys.readouterr().out.splitlines()[1:-1])
    assert answers[0] == answers[1]
    assert is_red(read_png(tmp_path / "mpg.png")).sum() > 500


@pytest.mark.slow
def test_demo_real_videos(config, tmp_path, capsys, shared_videos, rendered):
    for name, right in (("sign_example.mp4", 0.98), ("pose_test_video.mp4", 0.34)):
        picture = tmp_path / f"{name}.png"
        assert (
            demo_finger.main([str(shared_videos / name), "--config", str(config), "--out", str(picture)]) == 0
        )
        said = capsys.readouterr().out
        share = float(said.split("right hand in ")[1].split("%")[0]) / 100
        assert share == pytest.approx(right, abs=0.03)
        assert read_png(picture).std() > 10


def test_demo_video_without_a_person(config, tmp_path, capsys):
    film = tmp_path / "white.mpg"
    rendering.write_mpg(film, [rendering.blank(160, 120)] * 3)
    assert demo_finger.main([str(film), "--config", str(config)]) == 2
    assert "no person is detected" in capsys.readouterr().err


def test_demo_rwth_prompts_need_no_database(lexicon_pose, tmp_path, data_dir, capsys, monkeypatch):
    monkeypatch.setenv("SIGNCLIP_RUNS", str(tmp_path / "runs"))
    path = tmp_path / "test_rwth.yaml"
    path.write_text(
        f"includes: {ROOT}/projects/signclip/test_rwthfs_scratch_hand_dominant.yaml\n"
        f"dataset: {{bert_name: {data_dir}/mmfusion/bert}}\nmodel: {{num_hidden_video_layers: 2}}\n"
    )
    assert demo_finger.main([str(lexicon_pose), "--config", str(with_model(path)), "--top", "99"]) == 0
    prompts = ranking(capsys.readouterr().out)
    assert len(prompts) == 36 and "Fingerspell the letter SCH in German Sign Language." in prompts


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["nothing.mp4"], "there is no file nothing.mp4"),
        (["README.md"], "cannot be opened as a video"),
        (["--letter", "7"], "no held-out clip"),
        (["--out", "answer.txt"], ".png"),
        (["--top", "0"], "--top"),
        (["--checkpoint", "no.pt"], "no trained model no.pt"),
        (["README.md", "--letter", "Z"], "--letter has no effect here: a clip is given"),
        (["README.md", "--language", "ase"], "--language has no effect here"),
        (["--left-handed"], "--left-handed has no effect here: no clip is given"),
    ],
)
def test_demo_errors_are_one_line_and_status_2(config, arguments, words, capsys):
    assert demo_finger.main([*arguments, "--config", str(config)]) == 2
    *_, error = capsys.readouterr().err.splitlines()  # before it, only that a video is being read
    assert words in error and error.startswith("error:")


def test_demo_image_that_cannot_be_written(config, lexicon_pose, tmp_path, capsys):
    """Before the video is read, which takes minutes."""
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "file").touch()
    for name, words in (("folder.png", "expected the file name"), ("file/a.png", "cannot be written")):
        out = str(tmp_path / name)
        assert demo_finger.main([str(lexicon_pose), "--config", str(config), "--out", out]) == 2
        said = capsys.readouterr()
        assert f"error: {out}" in said.err and words in said.err and "clip:" not in said.out


def test_demo_missing_checkpoint(config, capsys):
    assert demo_finger.main(["--checkpoint", "no.pt", "--config", str(config)]) == 2
    error = capsys.readouterr().err
    assert "--checkpoint: there is no trained model no.pt" in error and "make" not in error


def test_demo_from_another_folder_names_the_training_command(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SIGNCLIP_RUNS", str(tmp_path / "runs"))
    monkeypatch.chdir(tmp_path)
    assert demo_finger.main(["--no-train"]) == 2
    error = capsys.readouterr().err
    assert f"there is no trained model {tmp_path}/runs/fslex_demo/checkpoint_best.pt" in error
    assert error.endswith("train one with `signclip train package:fslex_demo`.\n")


def test_demo_trains_the_model_that_is_missing(tmp_path, monkeypatch, capsys):
    """Only that of the default config, and a failure of training is the demo's."""
    started = []
    monkeypatch.setenv("SIGNCLIP_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr("mmpt.cli.train.main", lambda words: started.append(words) or 7)
    assert demo_finger.main([]) == 7
    assert started == [["package:fslex_demo", "eval.after_training=false"]]
    assert demo_finger.main(["no.pose"]) == 2 and demo_finger.main(["--letter", "?"]) == 2
    assert len(started) == 1, "mistakes are reported before training"
    own = f"{ROOT}/projects/signclip/test_fslex_best.yaml"
    assert demo_finger.main(["--config", own]) == 2 and len(started) == 1
    assert f"signclip train {ROOT}/projects/signclip/fslex_best.yaml`" in capsys.readouterr().err


def test_demo_resumes_an_interrupted_training(tmp_path, monkeypatch, capsys):
    """It would rank with the best checkpoint of the first epochs."""
    started = []
    monkeypatch.setenv("SIGNCLIP_RUNS", str(tmp_path))
    monkeypatch.setattr("mmpt.cli.train.main", lambda words: started.append(words) or 7)
    monkeypatch.setattr(demo_finger, "load_model", lambda *_: pytest.fail("it ranks"))
    folder = tmp_path / "fslex_demo"
    folder.mkdir()
    (folder / "checkpoint_best.pt").touch()
    (folder / "metrics.jsonl").write_text('{"epoch": 1}\n{"epoch": 19}\n')
    (folder / "config.yaml").write_text("fairseq: {optimization: {max_epoch: 60}}\n")
    assert demo_finger.main([]) == 7 and len(started) == 1
    said = f"the training of {folder}/checkpoint_best.pt was interrupted (epoch 19 of 60): resuming it first"
    assert said in capsys.readouterr().err


def test_demo_from_another_folder_finds_the_model(tiny_yaml, lexicon_pose, monkeypatch, capsys):
    place = tiny_yaml.parent
    path = place / "test_beside.yaml"
    path.write_text("includes: tiny.yaml\nfairseq: {checkpoint: {save_dir: beside}}\n")
    monkeypatch.chdir(place)
    with_model(path)
    (place / "elsewhere").mkdir()
    monkeypatch.chdir(place / "elsewhere")
    assert demo_finger.main([str(lexicon_pose), "--config", str(path)]) == 2
    assert "no trained model beside/checkpoint_best.pt" in capsys.readouterr().err
    monkeypatch.setattr("mmpt.config.package_files.package_root", lambda: place)
    assert demo_finger.main([str(lexicon_pose), "--config", str(path)]) == 0


def test_demo_model_of_video_features(capsys):
    assert demo_finger.main(["--config", str(ROOT / "projects/signclip/test_rwthfs_scratch.yaml")]) == 2
    assert "pose model" in capsys.readouterr().err


def test_demo_table_config_needs_a_clip(capsys):
    """Its prompts need not be letters, nor its groups sign languages."""
    table = ["--config", str(ROOT / "projects/signclip/test_asl_signs.yaml")]
    assert demo_finger.main(table) == 2 and "name a .pose file" in capsys.readouterr().err


def read_png(path):
    from PIL import Image

    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def is_red(pixels):
    return (pixels[..., 0] > 100) & (pixels[..., 1] < 40) & (pixels[..., 2] < 40)


@pytest.mark.parametrize(
    "clip, options, words",
    [
        ("a.mp4", [], "a video needs packages that are not installed (mediapipe, av, cv2)"),
        ("a.mp4", [], ': `pip install "mmpt[extract]"`, or `make install`'),
        ("a.pose", ["--out", "a.png"], "--out needs packages that are not installed (av, cv2)"),
    ],
)
def test_all_missing_packages_are_named_at_once(config, tmp_path, clip, options, words, capsys, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.chdir(tmp_path)
    assert demo_finger.main([clip, "--config", str(config), *options]) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1
