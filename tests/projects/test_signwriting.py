"""SignWriting from YAML to results: train, evaluate, leave one out, embed and search."""

import json

import numpy as np
import pytest
from signwriting.formats.fsw_to_swu import fsw2swu

import mmpt
from mmpt.signwriting.alphabets import signs_of_letter
from tests.commands import run, train

PROMPTS = 'prompt_templates: ["{text}", "{signwriting}"]\n  batch_sampler: random'
LETTERS = "ABCDEF"
EQUAL = "eval.prompt_ensemble_weights=null"


@pytest.fixture(scope="module")
def trained(tmp_path_factory, data_dir, pose_cache):
    """A mixed model of six letters, trained for some epochs: its config, run folder and model folder."""
    from tests.conftest import write_tiny

    folder = tmp_path_factory.mktemp("signwriting")
    config = write_tiny(folder, data_dir, pose_cache)
    text = config.read_text().replace(
        "dataset:\n", f"includes: [package:signwriting]\ndataset:\n  {PROMPTS}\n", 1
    )
    text = text.replace("batch_size: 4", "batch_size: 9").replace("max_epoch: 3", "max_epoch: 5")
    text = text.replace("max_len: 24", "max_len: 32").replace("lr: [1.0e-03]", "lr: [3.0e-03]")
    ensemble = "prompt_ensemble: true, prompt_ensemble_weights: [1, 2]"
    config.write_text(
        text + f"loss: {{label_aware: true}}\neval: {{protocol: unseen-alphabet, {ensemble}}}\n"
    )
    ended = train(config, "fairseq.dataset.disable_validation=true")
    assert ended.returncode == 0, ended.stderr
    ended = run("evaluate", config, f"fairseq.common_eval.path={folder / 'run' / 'checkpoint_last.pt'}")
    assert ended.returncode == 0, ended.stderr
    ended = run(
        "convert", folder / "run" / "checkpoint_last.pt", "--config", config, "--out", folder / "model"
    )
    assert ended.returncode == 0, ended.stderr
    return config, folder


def evaluate(trained, tmp_path, *overrides):
    config, folder = trained
    done = run(
        *("evaluate", config, f"fairseq.common_eval.path={folder / 'run' / 'checkpoint_last.pt'}"),
        *(f"eval.save_path={tmp_path / 'eval'}", *overrides),
    )
    path = tmp_path / "eval" / "results.json"
    return done, json.loads(path.read_text()) if path.is_file() else {}


def test_the_run_reports_the_protocol(trained):
    results = json.loads((trained[1] / "run" / "eval" / "results.json").read_text())
    assert results["protocol"] == "unseen-alphabet" and results["n_videos"] == 6
    assert results["alphabets"]["gsg"]["clips"] == 6 and results["chance"]["v2t R@1"] == pytest.approx(1 / 6)
    assert results["v2t_all"]["R@1"] == results["v2t"]["R@1"]  # one language
    assert results["symbols"]["symbols"] >= 6 and results["unseen_bases"]["n"] <= 6
    assert results["n_prompts"] == 6


def test_one_model_answers_letters_signs_and_both(trained, tmp_path):
    model = mmpt.from_pretrained(trained[1] / "model")
    pose = str(next(iter(model_clips())))
    letter, sign = "Fingerspell the letter A.", signs_of_letter("gsg", "A")[0]
    scores = model.score([pose], [letter, sign, fsw2swu(sign), f"{letter} {sign}"])[:, 0]
    assert scores[1] == pytest.approx(scores[2], abs=1e-5) and len({round(float(s), 4) for s in scores}) == 3
    for name, overrides in (
        ("letters", ["dataset.prompt_templates=['{text}']", "eval.protocol=retrieval", EQUAL]),
        ("signs", ["dataset.prompt_templates=['{signwriting}']", EQUAL]),
    ):
        done, results = evaluate(trained, tmp_path / name, *overrides)
        assert done.returncode == 0, done.stderr
        expected = "retrieval" if name == "letters" else "unseen-alphabet"
        assert results["protocol"] == expected and ("v2t_all" in results) == (name == "signs")


def model_clips():
    from mmpt.processors.fingerspelling import find_lexicon

    return sorted((find_lexicon(None) / "gsg").glob("*.pose"))


def test_unseen_alphabet_without_signs_is_refused(trained, tmp_path):
    done, results = evaluate(trained, tmp_path, "dataset.prompt_templates=['{text}']", EQUAL)
    assert done.returncode == 2 and not results
    assert "has no sign: put {signwriting} into dataset.prompt" in done.stderr


def test_weights_that_do_not_fit_the_templates_are_refused(trained, tmp_path):
    done, results = evaluate(trained, tmp_path, "dataset.prompt_templates=['{signwriting}']")
    assert done.returncode == 2 and not results
    assert "eval.prompt_ensemble_weights: expected a weight >= 0 for each of the 1" in done.stderr


def test_a_model_card_names_the_protocol(trained):
    """Its numbers would be taken for those of retrieval among all prompts."""
    card = (trained[1] / "model" / "README.md").read_text()
    assert "unseen-alphabet, cosine similarity" in card and "retrieval, cosine" not in card


def test_ablate_refuses_configs_of_different_protocols(trained, tmp_path):
    config, _ = trained
    other = config.with_name("other.yaml")
    other.write_text("includes: [tiny.yaml]\neval: {protocol: retrieval}\n")
    done = run("experiment", "ablate", config, other, "--out", tmp_path / "out")
    assert done.returncode == 2 and "their numbers are not comparable" in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_list_of_signs_is_embedded_and_searched(trained, tmp_path):
    signs = [signs_of_letter("gsg", letter)[0] for letter in LETTERS]
    (tmp_path / "signs.txt").write_text("\n".join(signs) + "\n")
    model, out, index = trained[1] / "model", tmp_path / "signs", tmp_path / "index"
    assert run("embed", "--model", model, "--in", tmp_path / "signs.txt", "--out", out).returncode == 0
    assert run("search", "build", out, "--out", index).returncode == 0
    found = run("search", "query", index, "--model", model, "--text", fsw2swu(signs[2]), "--json", "-k", "1")
    [query] = json.loads(found.stdout)
    assert query["hits"][0]["id"] == signs[2]
    bad = run("search", "query", index, "--model", model, "--text", signs[2][:-1])
    assert bad.returncode == 2 and "not valid SignWriting" in bad.stderr and "Traceback" not in bad.stderr


@pytest.mark.slow
def test_leave_one_out_compares_with_kernel_ridge(trained, tmp_path):
    config, _ = trained
    done = run(
        *("experiment", "leave-one-out", "--config", config, "fairseq.optimization.max_epoch=1"),
        *(
            "--languages",
            "swl",
            "psr",
            "svk",
            "--folds",
            "swl",
            "psr",
            "--jobs",
            "1",
            "--out",
            tmp_path / "out",
        ),
    )
    assert done.returncode == 0, done.stderr
    table = (tmp_path / "out" / "table.md").read_text()
    assert "| kernel ridge |" in table and "the kernel ridge" in table
    folds = json.loads((tmp_path / "out" / "folds.json").read_text())
    assert [fold["n"] for fold in folds] == [6, 6]
    assert all(0 <= fold["svm"] <= 1 for fold in folds) and np.isclose(folds[0]["chance"], 1 / 6)
