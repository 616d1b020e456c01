"""The model card of a model folder: facts of the run, read back, nothing invented."""

import dataclasses
import json
import shutil

import pytest
import torch

import mmpt
from mmpt.cli.main import main
from mmpt.config import load_config, save_config
from mmpt.embedding.card_facts import collect_card
from mmpt.embedding.model_card import NOT_RECORDED, ModelCard, plain
from mmpt.models import load_tokenizer
from mmpt.models.fingerprint import model_fingerprint
from mmpt.models.folder import LoadedModel
from mmpt.models.loading import load_model
from mmpt.page.report import view_of_report
from mmpt.tasks import Task
from mmpt.utils.errors import UserError
from tests.processors.table_data import table_rows, write_table

RESULTS = {
    "t2v": {"P@1": 0.5, "MedianR": 2.0},
    "v2t": {"R@1": 0.75, "R@5": 1.0},
    "intervals": {"v2t": {"R@1": [0.6, 0.9]}},
    "bootstrap": {"level": 0.95, "resamples": 1000},
    "n_videos": 18,
    "n_prompts": 6,
    "chance": {"t2v P@1": 0.16, "v2t R@1": 0.1667},
    "similarity": "cosine",
    "checkpoint": "/secret/run/checkpoint_best.pt",
    "command": "signclip evaluate /secret/x.yaml",
    "seed": 7,
    "split": "test",
    "evaluated": {"settings": "0", "files": {"clips of test": "abc123"}},
}


@pytest.fixture
def run(tiny_yaml):
    """A run folder with a checkpoint, config.yaml, data.json and eval/results.json."""
    config = load_config(tiny_yaml)
    torch.manual_seed(3)
    model = Task(config).build_model()
    folder = tiny_yaml.parent / "run"
    (folder / "eval").mkdir(parents=True)
    torch.save({"model": model.state_dict()}, folder / "checkpoint_best.pt")
    save_config(config, folder / "config.yaml")
    (folder / "data.json").write_text(json.dumps({"clips of train": "0a1b", "mmpt_version": "0.1.0"}))
    loaded = LoadedModel(model, config.model, config.dataset, load_tokenizer(config.dataset.bert_name))
    results = RESULTS | {"model": model_fingerprint(loaded)}
    (folder / "eval" / "results.json").write_text(json.dumps(results))
    return folder


def convert(run, out, *more):
    words = ["convert", str(run / "checkpoint_best.pt"), "--config", str(run.parent / "tiny.yaml")]
    return main([*words, "--out", str(out), *more])


def test_convert_writes_a_card_with_the_facts_of_the_run(run, tmp_path):
    assert convert(run, tmp_path / "m", "--licence", "cc-by-4.0") == 0
    text = (tmp_path / "m" / "README.md").read_text()
    assert "| V2T R@1 | 0.7500 | 0.6000 to 0.9000 | 0.1667 |" in text.replace("  ", " ")
    assert "secret" not in text and str(tmp_path) not in text
    card = mmpt.from_pretrained(tmp_path / "m").card
    assert card.licence == "cc-by-4.0" and card.intended_use is None
    assert card.training["data"] == {"clips of train": "0a1b"} and card.training["seed"] == 7
    assert card.training["splits"]["test_languages"] == ["gsg"] and card.training["mmpt_version"] == "0.1.0"
    (found,) = card.evaluations
    assert (found["split"], found["clips"], found["prompts"], found["seed"]) == ("test", 18, 6, 7)
    assert found["data"] == {"clips of test": "abc123"} and found["chance"]["v2t R@1"] == 0.1667
    assert f"## Intended use\n\n{NOT_RECORDED}\n" in text


def test_card_of_a_checkpoint_without_files_beside_it_invents_nothing(run, tmp_path, caplog):
    (tmp_path / "alone").mkdir()
    shutil.copy(run / "checkpoint_best.pt", tmp_path / "alone")
    assert convert(tmp_path / "alone", tmp_path / "m") == 0
    card = mmpt.from_pretrained(tmp_path / "m").card
    assert card.training == {} and card.evaluations == [] and card.licence is None
    text = (tmp_path / "m" / "README.md").read_text()
    for fact in ("corpus", "splits", "data", "seed"):
        assert f"- {fact}: {NOT_RECORDED}" in text
    assert f"## Evaluation\n\n- {NOT_RECORDED}" in text and "model-index" not in text


def test_card_leaves_out_the_results_of_another_model(run, tmp_path, caplog):
    path = run / "eval" / "results.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model": "0" * 16}))
    assert convert(run, tmp_path / "m") == 0
    assert "results.json is of another model" in caplog.text
    assert ModelCard.read(tmp_path / "m" / "README.md").evaluations == []


def test_results_and_card_keep_what_weakens_an_evaluation(tiny_yaml, tmp_path, capsys):
    """Leaks, clips and prompts that are cut, skipped clips: the log alone is lost."""
    rows = table_rows()
    test = [row for row in rows if row["split"] == "test"]
    for row in (next(row for row in rows if row["split"] == "train"), *test):
        row |= {"signer": "anna", "text": f"{row['text']} is a letter"}
    (tmp_path / "broken.pose").write_bytes(b"no pose")
    test[0]["path"] = "broken.pose"
    table = write_table(tmp_path / "t.csv", rows)
    changes = ["meta_processor=TableMetaProcessor", f"table_path={table}", "on_bad_example=skip"]
    words = [f"dataset.{change}" for change in [*changes, "max_video_len=10", "max_len=6"]]
    task = Task(load_config(tiny_yaml, words))
    task.checkpoint_path().parent.mkdir(parents=True)
    torch.save({"model": task.build_model().state_dict()}, task.checkpoint_path())
    save_config(task.config, task.checkpoint_path().parent / "config.yaml")
    assert main(["evaluate", str(tiny_yaml), *words]) == 0
    folder, printed = task.results_path(), capsys.readouterr().out
    found = json.loads((folder / "results.json").read_text())["warnings"]
    assert found[:2] == [
        "results will be too optimistic: t.csv, column 'signer': 'anna' is in test (6), train (1)",
        "1 of 6 clips are skipped (dataset.on_bad_example: skip)",
    ]
    assert "prompts have more than 3 tokens and are cut" in found[2]
    assert found[3].endswith("of 5 clips are longer than max_video_len=10 (long_video: truncate)")
    assert view_of_report(folder / "report.html")["warnings"] == found and len(found) == 4
    given = [str(task.checkpoint_path()), "--config", str(task.checkpoint_path().with_name("config.yaml"))]
    assert main(["convert", *given, "--out", str(tmp_path / "m")]) == 0
    (card,) = ModelCard.read(tmp_path / "m" / "README.md").evaluations
    assert card["warnings"] == found
    for text in (printed, (folder / "results.md").read_text(), (tmp_path / "m" / "README.md").read_text()):
        assert "'anna' is in test (6), train (1)" in text


@pytest.mark.parametrize(
    ("options", "limits"),
    [
        ({}, ["Clips over 32 frames are cut."]),
        (
            {"clip_window": [0.25, 0.75], "clip_frames": 10},
            ["Reads 10 evenly spaced frames from 25% to 75% of a clip."],
        ),
        ({"clip_frames": 32}, ["Reads 32 evenly spaced frames from 0% to 100% of a clip."]),
        (
            {"clip_frames": 33},
            [
                "Reads 33 evenly spaced frames from 0% to 100% of a clip.",
                "Samples over 32 frames are cut.",
            ],
        ),
        (
            {"clip_window": [0, 0.5], "long_video": "uniform"},
            ["Reads every frame from 0% to 50% of a clip.", "Parts over 32 frames are subsampled."],
        ),
    ],
)
def test_card_says_which_frames_of_a_clip_are_read(model_folder, options, limits):
    loaded = load_model(model_folder)
    sampled = dataclasses.replace(loaded.dataset_cfg, **options)
    card = collect_card(dataclasses.replace(loaded, dataset_cfg=sampled, path=None), "0")
    assert card.limits[: len(limits) + 1] == [*limits, "Prompts over 24 token ids are cut."]


def test_card_of_video_features_reads_all_frames(model_folder):
    loaded = load_model(model_folder)
    features = dataclasses.replace(loaded.dataset_cfg, video_processor="VideoProcessor", clip_frames=10)
    card = collect_card(dataclasses.replace(loaded, dataset_cfg=features, path=None), "0")
    assert card.limits[0] == "Clips over 32 frames are cut."


def test_card_that_people_edited_is_kept_until_the_model_changes(run, tmp_path, caplog):
    assert convert(run, tmp_path / "m") == 0
    readme = tmp_path / "m" / "README.md"
    readme.write_text(readme.read_text() + "\nAn edit.\n")
    model = mmpt.from_pretrained(tmp_path / "m")  # an edited card is no changed model
    model.save_pretrained(tmp_path / "copy")
    assert (tmp_path / "copy" / "README.md").read_bytes() == readme.read_bytes()
    with torch.no_grad():
        next(model.model.parameters()).add_(1)
    model.save_pretrained(tmp_path / "other")
    assert "its evaluations are left out" in caplog.text
    other = ModelCard.read(tmp_path / "other" / "README.md")
    assert other.evaluations == []
    assert other.model["fingerprint"] != ModelCard.read(readme).model["fingerprint"]
    assert other.training["seed"] == 7


def test_card_of_strangers(tmp_path):
    path = tmp_path / "README.md"
    path.write_text("# no front matter")
    assert ModelCard.read(path).training == {}
    path.write_text("---\nsignclip: [1, 2]\nlicense: 7\n---\n")
    assert ModelCard.read(path).licence is None
    for damaged in ("---\na: [\n---\n", "---\n- a\n---\n", "---\na: !!python/object:os.system x\n---\n"):
        path.write_text(damaged)
        with pytest.raises(UserError, match="YAML front matter cannot be read"):
            ModelCard.read(path)


def test_card_values_are_no_markup():
    assert plain("a\n# b <img src=x> [l](u) | `c`") == r"a \# b \<img src=x\> \[l\](u) \| \`c\`"
