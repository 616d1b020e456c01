"""Clips without the hand that the model reads, and embeddings of NaN, through the commands and the API."""

import json

import numpy as np
import pytest
import torch

import mmpt
from mmpt.cli import check, embed, evaluate
from mmpt.cli.main import main
from mmpt.config import load_config
from mmpt.config.dataset_options import ClipStorage, PoseOptions
from mmpt.embedding.embedder import SignCLIP
from mmpt.embedding.storage import read_embedding_set
from mmpt.models import load_tokenizer
from mmpt.models.folder import LoadedModel
from mmpt.pose.components import FACE, LEFT_HAND, POSE, RIGHT_HAND
from mmpt.processors.example import Example
from mmpt.processors.pose_video import PoseProcessor
from mmpt.tasks import Task
from mmpt.utils.errors import UserError
from tests.pose.pose_fakes import fake_clip, without, write_pose
from tests.processors.table_data import write_table


@pytest.fixture
def table(tmp_path):
    """Three clips of each split; of the first one of each only the left hand is visible."""
    rows = []
    for number, split in enumerate(["train", "valid", "test"] * 3):
        clip = fake_clip(frames=8, seed=number, missing=0)
        name = f"{split}{number // 3}"
        write_pose(tmp_path / f"{name}.pose", without(clip, RIGHT_HAND) if number < 3 else clip)
        rows.append({"id": name, "path": f"{name}.pose", "text": "ABC"[number // 3], "split": split})
    return write_table(tmp_path / "t.csv", [{**row, "left_handed": "false"} for row in rows])


def test_embed_counts_blank_clips_and_marks_them_in_provenance(model_folder, table, tmp_path, caplog):
    command = ["--model", str(model_folder), "--in", str(table), "--out", str(tmp_path / "out")]
    for _ in range(2):  # the second run reads what the first one wrote
        caplog.clear()
        assert embed.main([*command, "--workers", "0"]) == 0
        assert "3 of 9 clips show nothing of RIGHT_HAND_LANDMARKS" in caplog.text
        assert "train0, valid0, test0" in caplog.text
        about = json.loads((tmp_path / "out" / "provenance.json").read_text())
        assert about["blank"] == {"count": 3, "rows": [0, 1, 2]}
    assert read_embedding_set(tmp_path / "out").blank_names() == ["train0", "valid0", "test0"]
    caplog.clear()
    windows = [*command[:-1], str(tmp_path / "windows"), "--window", "160", "--stride", "160"]
    assert embed.main([*windows, "--workers", "0"]) == 0
    assert "6 of 18 windows show nothing of" in caplog.text and "train0 160.0 ms" in caplog.text


def test_search_counts_blank_vectors_of_build_query_and_info(model_folder, table, tmp_path, caplog, capsys):
    made, index = tmp_path / "made", str(tmp_path / "index")
    command = ["--model", str(model_folder), "--in", str(table), "--out", str(made), "--workers", "0"]
    assert embed.main(command) == 0
    caplog.clear()
    assert main(["search", "build", str(made), str(made), "--out", index]) == 0
    assert "6 of 18 vectors are of clips without the hand" in caplog.text and "train0, valid0" in caplog.text
    assert main(["search", "info", index]) == 0
    assert "(6 of clips without the hand or landmarks that the model reads)" in capsys.readouterr().out
    caplog.clear()
    query = ["search", "query", index, "--npy", str(made / "embeddings.npy"), "-k", "18", "--json"]
    assert main(query) == 0
    assert "3 of 9 queries" in caplog.text and "6 of 18 hits are of clips without the hand" in caplog.text
    hits = json.loads(capsys.readouterr().out)[0]["hits"]
    assert {hit["row"] for hit in hits if hit.get("blank")} == {0, 1, 2, 9, 10, 11}
    caplog.clear()
    assert main([*query[:3], "--model", str(model_folder), "--pose", str(tmp_path / "train0.pose")]) == 0
    assert "1 of 1 clips show nothing of RIGHT_HAND" in caplog.text


def test_search_build_counts_blank_clips_of_an_evaluation(tmp_path, caplog):
    np.save(tmp_path / "video_embeddings.npy", np.eye(3, dtype=np.float32))
    np.save(tmp_path / "text_embeddings.npy", np.eye(3, dtype=np.float32))
    (tmp_path / "ids.json").write_text(json.dumps({"videos": ["a", "b", "c"], "prompts": ["a", "b", "c"]}))
    (tmp_path / "results.json").write_text(json.dumps({"blank": ["b"]}))
    build = ["search", "build", str(tmp_path)]
    assert main([*build, "--out", str(tmp_path / "texts"), "--side", "text"]) == 0
    assert "without the hand" not in caplog.text
    assert main([*build, "--out", str(tmp_path / "index")]) == 0
    assert "1 of 3 vectors are of clips without the hand" in caplog.text and ": b" in caplog.text


def test_evaluate_counts_blank_clips_of_a_table(model_folder, table, tmp_path, capsys):
    command = ["--model", str(model_folder), "--table", str(table), "--out", str(tmp_path / "eval")]
    command += ["--protocol", "zero_shot", "--bootstrap", "0", "--no-pictures", "--workers", "0"]
    assert evaluate.main(command) == 0
    assert "warning: 1 of 3 clips show nothing of RIGHT_HAND_LANDMARKS" in capsys.readouterr().out
    assert "1 of 3 clips show nothing" in (tmp_path / "eval" / "protocols.md").read_text()


def test_evaluate_counts_blank_clips_of_a_config(tiny_yaml, capsys):
    overrides = ["dataset.pose_components=[LEFT_HAND_LANDMARKS]"]  # which no clip of its test split shows
    task = Task(load_config(tiny_yaml, overrides))
    torch.manual_seed(0)
    task.checkpoint_path().parent.mkdir(parents=True)
    torch.save({"model": task.build_model().state_dict()}, task.checkpoint_path())
    assert evaluate.main([str(tiny_yaml), *overrides, "eval.bootstrap=0"]) == 0
    assert "warning: 6 of 6 clips show nothing of LEFT_HAND_LANDMARKS" in capsys.readouterr().out
    folder = task.results_path()
    assert len(json.loads((folder / "results.json").read_text())["blank"]) == 6
    assert "Warning: 6 of 6 clips show nothing" in (folder / "results.md").read_text()


def test_the_api_warns_of_blank_clips(model_folder, tmp_path, caplog):
    model = mmpt.from_pretrained(model_folder)
    right = write_pose(tmp_path / "right.pose", without(fake_clip(missing=0), LEFT_HAND))
    model.embed_pose([right])
    assert not caplog.text
    model.embed_pose([right], mirror=True)
    assert "1 of 1 clips show nothing of RIGHT_HAND_LANDMARKS in the frames that are read" in caplog.text
    assert str(right) in caplog.text
    caplog.clear()
    model.embed_video_features([np.ones((4, 63)), np.zeros((4, 63))])
    assert "1 of 2 clips show nothing" in caplog.text and "number 1" in caplog.text
    late = fake_clip(frames=40, missing=0)  # the model reads 32 frames
    late.confidence[:32] = late.confidence[:32] * (np.arange(len(late.layout)) < len(late.layout) - 21)
    caplog.clear()
    model.embed_pose([write_pose(tmp_path / "late.pose", late)])
    assert "1 of 1 clips show nothing" in caplog.text


@pytest.mark.parametrize("window", [None, [0.5, 1.0]])
def test_training_counts_clips_without_a_hand_in_any_frame(tmp_path, caplog, window):
    """The window moves in training: it may show a hand that evaluation, in the middle, does not."""
    early = fake_clip(frames=40, missing=0)
    hands = early.confidence[10:, early.component_slice(RIGHT_HAND)]
    hands[:] = 0
    paths = [write_pose(tmp_path / "early.pose", early)]
    paths.append(write_pose(tmp_path / "none.pose", without(early, RIGHT_HAND)))
    options = PoseOptions(pose_components=[RIGHT_HAND], clip_window=window)
    examples = [Example(path.stem, "x", path) for path in paths]
    PoseProcessor(options, training=True).open(examples, ClipStorage(cache_dir=str(tmp_path / "cache")))
    (said,) = [line for line in caplog.messages if "show nothing" in line]
    assert "1 of 2 clips show nothing of RIGHT_HAND_LANDMARKS in any frame" in said and said.endswith(
        ": none"
    )
    assert ("`signclip check` and `embed` count clips" in said) == (window is not None)


@pytest.mark.parametrize(
    "options",
    [
        PoseOptions(pose_components=[RIGHT_HAND]),
        PoseOptions(pose_components=[RIGHT_HAND], hand_frame="palm", velocity=True, presence=True),
        PoseOptions(pose_components=[RIGHT_HAND, LEFT_HAND, POSE], hand_frame="palm_shape", presence=True),
        PoseOptions(velocity=True),
        PoseOptions(pose_components="reduced_face"),
    ],
)
def test_a_clip_is_blank_if_no_hand_is_there_whatever_else_is(options):
    processor = PoseProcessor(options)
    clip = fake_clip(frames=5, missing=0, n_face=478)
    blank = without(clip, RIGHT_HAND, LEFT_HAND)
    for one, expected in ((clip, False), (without(clip, POSE, FACE), False), (blank, True)):
        one = clip.with_data(one.data, one.confidence)
        shoulders = clip.layout.columns(POSE)
        one.data[:, shoulders], one.confidence[:, shoulders] = clip.data[:, shoulders], 1
        assert processor.blank(processor.features(processor.prepare.clip(one))) is expected


def test_check_warns_of_left_hands_that_are_not_marked(table, capsys):
    assert check.main([str(table)]) == 0
    said = capsys.readouterr().out
    assert "3 clips show the left hand only and are not marked as left-handed" in said
    assert "train0, valid0, test0." in said


@pytest.fixture(scope="module")
def model_of_features(tmp_path_factory, data_dir):
    """An untrained model of video features that are 8 numbers wide."""
    folder = tmp_path_factory.mktemp("features")
    (folder / "f.yaml").write_text(
        "dataset: {meta_processor: TableMetaProcessor, video_processor: VideoProcessor, "
        f"max_video_len: 32, max_len: 24, table_path: t.csv, bert_name: {data_dir}/mmfusion/bert}}\n"
        "model: {num_hidden_video_layers: 1, vfeat_dim: 8}\n"
    )
    config = load_config(folder / "f.yaml")
    torch.manual_seed(0)
    tokenizer = load_tokenizer(config.dataset.bert_name)
    SignCLIP(
        LoadedModel(Task(config).build_model(), config.model, config.dataset, tokenizer)
    ).save_pretrained(folder / "model")
    return folder / "model"


def test_an_embedding_of_nan_is_a_failed_clip(model_of_features, tmp_path, caplog, capsys):
    arrays = tmp_path / "arrays"
    arrays.mkdir()
    for name, value in (("fine", 1.0), ("huge", 3e37), ("zero", 0.0)):
        np.save(arrays / f"{name}.npy", np.full((4, 8), value, np.float32))
    command = ["--model", str(model_of_features), "--out", str(tmp_path / "out"), "--workers", "0", "--in"]
    assert embed.main([*command, str(arrays)]) == 1
    made = read_embedding_set(tmp_path / "out")
    assert [row["id"] for row in made.ids] == ["fine", "zero"] and np.isfinite(made.vectors).all()
    assert "huge.npy: its embedding is NaN or infinite, its largest feature is 3e+37" in made.failed["huge"]
    assert "failed: " in caplog.text and "1 of 2 clips hold only zeros" in caplog.text
    (arrays / "fine.npy").unlink()
    (arrays / "zero.npy").unlink()
    assert embed.main([*command, str(arrays)]) == 2
    assert "none of 1 clips could be embedded; the first: " in capsys.readouterr().err
    model = mmpt.from_pretrained(model_of_features)
    with pytest.raises(UserError, match="clip number 1: its embedding is NaN or infinite"):
        model.embed_video_features([np.ones((4, 8)), np.full((4, 8), 3e37)])
    with torch.no_grad():
        for parameter in model.model.parameters():
            parameter.fill_(np.nan)
    with pytest.raises(UserError, match="the prompt 'a' is NaN or infinite"):
        model.embed_text(["a"])


def test_evaluation_names_the_clip_whose_embedding_is_nan(tiny_yaml, data_dir, tmp_path, capsys):
    np.save(tmp_path / "a.npy", np.ones((4, 63), np.float32))
    np.save(tmp_path / "b.npy", np.full((4, 63), 3e37, np.float32))
    (tmp_path / "t.csv").write_text("id,path,text,split\na,a.npy,x,test\nb,b.npy,y,test\n")
    overrides = ["dataset.meta_processor=TableMetaProcessor", "dataset.video_processor=VideoProcessor"]
    overrides += [f"dataset.table_path={tmp_path}/t.csv", "dataset.augment2d=false"]
    overrides += ["dataset.pose_components=null"]
    task = Task(load_config(tiny_yaml, overrides))
    task.checkpoint_path().parent.mkdir(parents=True)
    torch.save({"model": task.build_model().state_dict()}, task.checkpoint_path())
    assert evaluate.main([str(tiny_yaml), *overrides]) == 2
    assert "the clip b: its embedding is NaN or infinite" in capsys.readouterr().err


@pytest.mark.parametrize("component", [RIGHT_HAND, LEFT_HAND, POSE])
def test_check_of_a_config_looks_for_what_its_model_reads(table, tmp_path, data_dir, capsys, component):
    width = 99 if component == POSE else 63
    config = tmp_path / "c.yaml"
    config.write_text(
        "dataset: {meta_processor: TableMetaProcessor, video_processor: PoseProcessor, "
        f"table_path: {table}, "
        f"pose_components: [{component}], bert_name: {data_dir / 'mmfusion' / 'bert'}, max_video_len: 6, "
        "max_len: 5, prompt_templates: ['The sign {text}.']}\n"
        f"model: {{vfeat_dim: {width}}}\n"
    )
    assert check.main([str(config)]) == 0 and "more than 6 frames" in capsys.readouterr().out
    said = json.loads((tmp_path / "t_check" / "check.json").read_text())
    warnings = "\n".join(said["warnings"])
    assert ("3 of 9 clips show nothing of RIGHT_HAND_LANDMARKS" in warnings) == (component == RIGHT_HAND)
    assert "show nothing of LEFT" not in warnings and "show the left hand only" not in warnings
    assert "9 clips have more than 6 frames" in warnings
    assert "3 of 3 prompts have more than 2 tokens and are cut (dataset.max_len=5)" in warnings
    if component != RIGHT_HAND:  # the rest does not depend on the component
        return
    config.write_text(config.read_text().replace("max_video_len", "clip_frames: 6, max_video_len"))
    assert check.main([str(config)]) == 0 and "6 frames" not in capsys.readouterr().out
    text = config.read_text()
    config.write_text(text + "fairseq: {dataset: {batch_size: 4}}\n")
    assert check.main([str(config)]) == 1
    assert "error: 3 prompts cannot fill a batch of 4 at 1 clip(s) per prompt" in capsys.readouterr().out
    config.write_text(text + "fairseq: {dataset: {batch_size: 3}}\n")
    assert check.main([str(config)]) == 0
    capsys.readouterr()
    videos = tmp_path / "videos.csv"  # their poses are in the folder of the option, not of the config
    videos.write_text(table.read_text().replace(".pose", ".mp4"))
    config.write_text(config.read_text().replace(str(table), str(videos)))
    assert check.main([str(config), "--vfeat-dir", str(table.parent)]) == 0, capsys.readouterr().out
    config.write_text(text.replace("{text}", "{txet}"))
    assert check.main([str(config)]) == 1 and "names the column 'txet'" in capsys.readouterr().out


def test_check_refuses_a_config_without_a_table(tiny_yaml, capsys):
    assert check.main([str(tiny_yaml)]) == 2
    assert "has no dataset.table_path" in capsys.readouterr().err
