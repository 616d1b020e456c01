"""mmpt.cli.evaluate: the protocols on a table, and the choice between a task config and a table."""

import csv
import json
import shutil

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

import mmpt
from mmpt.cli.evaluate import main
from mmpt.embedding.storage import read_embedding_set
from mmpt.evaluators.recognition.protocols import PROTOCOLS
from mmpt.models.loading import model_hash
from mmpt.page.report import view_of_report
from mmpt.processors.table_file import read_table
from tests.commands import run_code
from tests.processors.table_data import table_rows, write_table


def evaluate(model_folder, table, out, *options):
    command = ["--model", str(model_folder), "--table", str(table), "--out", str(out), "--workers", "0"]
    return main([*command, "--bootstrap", "50", "--no-pictures", *options])


def test_all_protocols_by_hand_on_the_saved_embeddings(model_folder, small_table, tmp_path, capsys):
    assert evaluate(model_folder, small_table, tmp_path, "--protocol", "all", "--k", "3") == 0
    found = json.loads((tmp_path / "protocols.json").read_text())
    outcomes = {(o["protocol"], o["setting"]): o for o in found["outcomes"]}
    assert len(outcomes) == 9 and found["clips"] == {"test": 6, "train": 12, "valid": 6}
    made = read_embedding_set(tmp_path / "embeddings")
    vector = {row["id"]: v for row, v in zip(made.ids, made.vectors)}
    table = read_table(small_table)
    train, test = table.of_split("train"), table.of_split("test")
    theirs = KNeighborsClassifier(1, metric="cosine", algorithm="brute")
    theirs.fit(np.stack([vector[r.id] for r in train]), [r.text for r in train])
    accuracy = theirs.score(np.stack([vector[r.id] for r in test]), [r.text for r in test])
    assert outcomes["v2v", "1-NN"]["metrics"]["R@1"] == pytest.approx(accuracy)
    shown, page = capsys.readouterr().out, (tmp_path / "protocols.md").read_text()
    few = "prototypes k=5: mean of 10 draws; 6 of 6 classes have fewer than 5 clips"
    assert "| v2v | 1-NN | 6 | 6 | 1.000 |" in shown and f"\n{few}\n" in shown and f"\n- {few}\n" in page
    report = view_of_report(tmp_path / "report.html")
    answers = {answer["name"]: answer for answer in report["answers"]}
    right = np.equal(answers["v2v 1-NN"]["truth"], answers["v2v 1-NN"]["given"]).mean()
    assert right == pytest.approx(accuracy) and len(answers) == 5
    assert [clip["id"] for clip in report["clips"]] == [row.id for row in test] and not report["note"]
    assert all(clip["pose"]["frames"] > 1 and clip["signer"] for clip in report["clips"])


@pytest.mark.parametrize(
    "options, template",
    [
        ([], "Fingerspell the letter {text}."),
        (["--prompt", "<{spoken_language}> {text}"], "<{spoken_language}> {text}"),
    ],
)
def test_evaluate_prompt_template(model_folder, small_table, tmp_path, capsys, options, template):
    """Without --prompt, the prompts are those of the model's training."""
    options = ("--protocol", "zero_shot", "--split", "valid", *options)
    assert evaluate(model_folder, small_table, tmp_path, *options) == 0
    assert json.loads((tmp_path / "protocols.json").read_text())["prompt"] == template
    assert f"\n- prompt: `{template}`\n" in (tmp_path / "protocols.md").read_text()
    assert f"prompt: {template}" in view_of_report(tmp_path / "report.html")["facts"]
    assert f"\nprompt: {template}\n" in capsys.readouterr().out
    prompts = {template.format(text=letter, spoken_language="en") for letter in "ABCDEF"}
    with open(tmp_path / "per_class.csv") as file:
        assert {row["class"] for row in csv.DictReader(file)} == prompts


def test_evaluations_of_a_config_and_of_a_table_have_folders_of_their_own(
    tiny_yaml, model_folder, small_table, tmp_path, capsys
):
    model = shutil.copytree(model_folder, tmp_path / "signs" / "model")
    of_table = ["--model", str(model), "--table", str(small_table), "--protocol", "v2v", "--workers", "0"]
    of_table += ["--bootstrap", "0", "--no-pictures"]
    of_config = [str(tiny_yaml), f"fairseq.common_eval.path={model}", "eval.bootstrap=0"]
    for command in (of_table, of_config, of_table):
        assert main(command) == 0
    results, protocols = model.with_name("eval"), model.with_name("protocols")
    assert (results / "results.json").is_file() and (protocols / "protocols.json").is_file()
    capsys.readouterr()
    assert main([*of_table, "--out", str(results)]) == 2
    assert "give another folder with --out.\n" in capsys.readouterr().err
    assert main([*of_config, f"eval.save_path={protocols}"]) == 2
    assert "give another folder with eval.save_path=DIR.\n" in capsys.readouterr().err


def test_a_model_converted_again_is_the_same_model(model_folder, small_table, tmp_path):
    """Its card may be another one, such as with an evaluation; config.json holds the hash of the card."""
    first, again = shutil.copytree(model_folder, tmp_path / "first"), tmp_path / "again"
    with open(first / "README.md", "a") as card:
        card.write("\nEvaluated.\n")
    mmpt.from_pretrained(first).save_pretrained(again)
    assert model_hash(again) != model_hash(first)
    assert evaluate(first, small_table, tmp_path / "out", "--protocol", "v2v") == 0
    vectors = tmp_path / "out" / "embeddings" / "embeddings.npy"
    written = (vectors.stat().st_ino, vectors.stat().st_mtime_ns)  # reading may change the time of access
    assert evaluate(again, small_table, tmp_path / "out", "--protocol", "v2v") == 0
    assert (vectors.stat().st_ino, vectors.stat().st_mtime_ns) == written, "not embedded again"
    found = json.loads((tmp_path / "out" / "protocols.json").read_text())
    assert found["model"]["folder"] == "again" and found["of"]["model"] == found["model"]["fingerprint"]
    assert f"- model: `{found['of']['model']}`" in (tmp_path / "out" / "protocols.md").read_text()


def test_the_report_says_what_the_model_does_not_see_of_prompts(model_folder, small_table, tmp_path):
    long = ("--protocol", "zero_shot", "--prompt", "{text} " + "of an alphabet " * 30)
    assert evaluate(model_folder, small_table, tmp_path, *long) == 0
    (line,) = json.loads((tmp_path / "protocols.json").read_text())["warnings"]
    assert line.startswith("6 of 6 prompts have more than 21 tokens and are cut (dataset.max_len=24): ")


def test_evaluate_on_train_needs_allow_train(model_folder, small_table, tmp_path, capsys):
    options = ("--protocol", "zero_shot", "--split", "train")
    assert evaluate(model_folder, small_table, tmp_path, *options) == 2
    assert "--allow-train" in capsys.readouterr().err
    assert evaluate(model_folder, small_table, tmp_path, *options, "--allow-train") == 0
    assert "warning: Evaluated on training data" in capsys.readouterr().out
    assert "**Evaluated on training data" in (tmp_path / "protocols.md").read_text()
    options = ("--protocol", "v2v", "--split", "train", "--allow-train")
    assert evaluate(model_folder, small_table, tmp_path, *options) == 2
    assert "its support is the training split" in capsys.readouterr().err


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_evaluate_refuses_a_signer_in_two_splits(model_folder, tmp_path, capsys, protocol):
    rows = table_rows()
    rows[-1]["signer"] = next(r["signer"] for r in rows if r["split"] != rows[-1]["split"])
    table = write_table(tmp_path / "t.csv", rows)
    assert evaluate(model_folder, table, tmp_path / "out", "--protocol", protocol) == 2
    assert "--allow-leak signers" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_evaluate_refuses_leaks_without_allow_leak(model_folder, tmp_path, capsys, protocol):
    rows = table_rows()
    train, test = (next(r for r in rows if r["split"] == split) for split in ("train", "test"))
    shutil.copy(train["path"], tmp_path / "copy.pose")
    test["path"] = "copy.pose"
    table = write_table(tmp_path / "t.csv", rows)
    out = tmp_path / "out"
    assert evaluate(model_folder, table, out, "--protocol", protocol) == 2
    assert "the same clip is in two splits" in capsys.readouterr().err
    assert not out.exists(), "refused before any file is written"
    if protocol == "v2v":
        rows[-1]["signer"] = next(r["signer"] for r in rows if r["split"] != rows[-1]["split"])
        table = write_table(tmp_path / "t.csv", rows)
        assert evaluate(model_folder, table, out, "--protocol", protocol, "--allow-leak", "clips") == 2
        assert "--allow-leak signers" in capsys.readouterr().err
        allowed = ("--allow-leak", "clips", "--allow-leak", "signers")
        assert evaluate(model_folder, table, out, "--protocol", "all", "--k", "3", *allowed) == 0
        outcomes = json.loads((out / "protocols.json").read_text())["outcomes"]
        assert {outcome["protocol"] for outcome in outcomes} == set(PROTOCOLS), (
            "all of them may, when told to"
        )
        assert (out / "protocols.md").read_text().count("**Leak, allowed:") == 2


def test_protocol_all_skips_what_the_table_does_not_allow(model_folder, small_table, tmp_path, capsys):
    options = ("--split", "valid", "--k", "3")  # C of the probe would be chosen on it
    assert evaluate(model_folder, small_table, tmp_path, "--protocol", "linear_probe", *options) == 2
    capsys.readouterr()
    assert evaluate(model_folder, small_table, tmp_path, "--protocol", "all", *options) == 0
    assert "warning: Not run: protocol linear_probe: C would be chosen" in capsys.readouterr().out
    outcomes = json.loads((tmp_path / "protocols.json").read_text())["outcomes"]
    assert {outcome["protocol"] for outcome in outcomes} == {*PROTOCOLS} - {"linear_probe"}
    assert "**Not run: protocol linear_probe" in (tmp_path / "protocols.md").read_text()


@pytest.mark.parametrize(
    "options, words",
    [
        (["--split", "tests"], "expected one of train, valid, test"),
        (["--k", "0"], "expected at least 1"),
        (["--prompt", "{nothing}"], "names the column 'nothing'"),
        (["--c", "0"], "expected a number above 0"),
        (["--c", "nan"], "expected a number above 0"),
        (["--protocol", "linear_probe", "--split", "valid"], "chosen on the clips that are evaluated"),
        (["--device", "meta"], "expected auto, cpu, cuda"),
        (["--prompt", "{text} é", "--split", "valid"], None),
    ],
)
def test_evaluate_rejects_bad_options_early(model_folder, small_table, tmp_path, capsys, options, words):
    out = tmp_path / "out"
    status = evaluate(model_folder, small_table, out, "--protocol", "zero_shot", *options)
    assert status == (2 if words else 0)
    assert (words or "") in capsys.readouterr().err
    assert out.exists() == (words is None), "an error is reported before anything is embedded"


def test_evaluate_table_without_splits(model_folder, tmp_path, capsys):
    rows = [{key: row[key] for key in ("id", "path", "text")} for row in table_rows()]
    assert evaluate(model_folder, write_table(tmp_path / "t.csv", rows), tmp_path, "--protocol", "v2v") == 2
    assert "there is no column 'split'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options",
    [["--c", "3"], ["--k", "7"], ["--draws", "3"], ["--prompt", "Sign {text}."]],
)
def test_evaluate_refuses_options_of_protocols_that_are_not_run(
    model_folder, small_table, tmp_path, options, capsys
):
    out = tmp_path / "out"
    assert evaluate(model_folder, small_table, out, "--protocol", "v2v", *options) == 2
    assert f"error: {options[0]} is for --protocol" in capsys.readouterr().err and not out.exists()


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["x.yaml", "--protocol", "knn"], "--protocol is for --model and --table"),
        (["x.yaml", "eval.device=cpu", "--batch-size", "3"], "--batch-size is for --model and --table"),
        (["--model", "m", "--protocol", "knn"], "missing: --table"),
        ([], "missing: --model, --table, --protocol"),
    ],
)
def test_evaluate_takes_a_task_config_or_a_table(arguments, words, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2 and words in capsys.readouterr().err


def test_predict_is_an_alias_of_evaluate(tmp_path, capsys):
    from mmpt.cli import predict

    assert predict.main is main
    script = (
        "import runpy, sys; sys.argv[1:] = [{!r}]; runpy.run_module('mmpt.cli.predict', run_name='__main__')"
    )
    done = run_code(script.format(str(tmp_path / "none.yaml")))
    assert done.returncode == 2 and "use signclip evaluate" in done.stderr


@pytest.mark.parametrize("named", [[], ["fairseq.common_eval.path=other.pt"]])
def test_evaluate_warns_of_a_moved_run(tiny_yaml, tmp_path, caplog, named):
    moved = tmp_path / "moved"
    moved.mkdir()
    shutil.copy(tiny_yaml, moved / "config.yaml")
    (moved / "checkpoint_best.pt").touch()
    assert main([str(moved / "config.yaml"), *named]) == 2
    assert (f"add fairseq.checkpoint.save_dir={moved}" in caplog.text) == (not named)
