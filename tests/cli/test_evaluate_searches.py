"""Protocols sentences and one-shot through the command: a task config, a table, and comparison of runs."""

import json

import numpy as np
import pytest

from mmpt.cli.main import main
from mmpt.page.report import view_of_report
from tests.processors.table_data import table_rows, write_table

LANGUAGES = "dataset.test_languages=[gsg,ase]"


@pytest.fixture(scope="module")
def evaluate(model_folder, data_dir, pose_cache, tmp_path_factory):
    """Evaluates the untrained model by a protocol: 12 clips of six letters in two sign languages."""
    from tests.conftest import write_tiny

    folder = tmp_path_factory.mktemp("searches")
    config = str(write_tiny(folder, data_dir, pose_cache))

    def run(name, *words, status=0):
        given = [LANGUAGES, f"fairseq.common_eval.path={model_folder}", f"eval.save_path={folder / name}"]
        assert main(["evaluate", config, *given, "eval.bootstrap=50", *words]) == status
        if status:
            return None
        results = json.loads((folder / name / "results.json").read_text())
        return folder / name, results, json.loads((folder / name / "ids.json").read_text())

    return run


def cosines(one, other):
    one, other = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (one, other))
    return one.astype(float) @ other.astype(float).T


def test_one_shot_of_a_config_by_hand(evaluate, capsys):
    folder, results, ids = evaluate("one", "--protocol", "one-shot")
    shown = capsys.readouterr().out
    assert results["protocol"] == "one-shot" and results["one_shot"]["queries"] == "other-language"
    assert "cross-language" in shown and "gallery gsg: 6 signs, 6 clips" in shown
    assert "the sign language of" not in shown and "the training split has" not in shown
    videos, truth = np.load(folder / "video_embeddings.npy"), np.array(ids["prompt_of_video"])
    language = np.array([name.split("/")[0] for name in ids["videos"]])
    ranks = []
    for query in range(12):
        gallery = np.flatnonzero(language != language[query])
        scores = cosines(videos[[query]], videos[gallery])[0]
        ranks.append(1 + np.sum(scores > scores[truth[gallery] == truth[query]]))
    assert results["v2v"]["MRR"] == pytest.approx(np.mean(1 / np.array(ranks)))
    assert results["v2v"]["R@1"] == pytest.approx(np.mean(ids["right"])) == np.mean(np.array(ranks) == 1)
    assert results["chance"]["v2v MRR"] == pytest.approx(np.mean(1 / np.arange(1, 7)))
    low, high = results["intervals"]["v2v"]["MRR"]
    assert low <= results["v2v"]["MRR"] <= high
    view = view_of_report(folder / "report.html")
    assert len(view["clips"]) == 12 and view["answers"][0]["noun"] == "sign"
    assert "| V2V MRR |" in (folder / "results.md").read_text().replace("  ", " ")


def test_one_shot_warns_of_a_language_of_training(evaluate, capsys):
    name = "eval.one_shot_queries=other-language"
    *_, ids = evaluate("seen", "eval.protocol=one-shot", name, "dataset.split=train")
    assert "warning: one-shot is meant for sign languages that the model was not trained on: the" in (
        capsys.readouterr().out
    )
    assert ids["nearest_prompt"] and min(ids["nearest_prompt"]) >= 0


def test_one_shot_without_a_query_is_refused_before_clips_are_embedded(evaluate, monkeypatch, capsys):
    embed = "mmpt.embedding.predictor.Predictor.embed_videos"
    monkeypatch.setattr(embed, lambda *_: pytest.fail("clips are embedded"))
    evaluate("none", "--protocol", "one-shot", "eval.one_shot_queries=same-language", status=2)
    assert "no sign has two clips in one sign language" in capsys.readouterr().err


def test_sentences_of_a_config_by_hand(evaluate, capsys):
    folder, results, ids = evaluate("sentences", "--protocol", "sentences")
    gallery = "gallery: 12 clips and their 12 texts, 6 of them distinct; 6 texts have several clips"
    assert f"{gallery} (12 clips)" in capsys.readouterr().out
    videos, texts = np.load(folder / "video_embeddings.npy"), np.load(folder / "text_embeddings.npy")
    truth = np.array(ids["prompt_of_video"])
    scores = cosines(texts, videos)
    t2v = [1 + np.sum(scores[text] > scores[text, clip]) for clip, text in enumerate(truth)]
    assert results["t2v"]["MeanR"] == pytest.approx(np.mean(t2v))
    assert results["t2v"]["R@5"] == pytest.approx(np.mean(np.array(t2v) <= 5))
    above = [np.sum(scores[truth, clip] > scores[text, clip]) for clip, text in enumerate(truth)]
    assert results["v2t"]["MeanR"] == pytest.approx(np.mean(above) + 1.5)  # two equal texts tie
    best = np.array([[row[truth == text].max() for text in range(6)] for row in scores])
    grouped = [1 + np.sum(row > row[text]) for text, row in enumerate(best)]
    assert results["grouped"]["t2v"]["MeanR"] == pytest.approx(np.mean(grouped))
    assert results["duplicates"] == {"texts": 6, "clips": 12} and results["chance"]["t2v R@1"] == 1 / 12
    assert "duplicates right" in (folder / "results.md").read_text()
    assert not (folder / "confusion_matrix.png").exists()


def test_runs_are_compared_within_a_protocol(evaluate, capsys):
    one, other = (evaluate(name, "--protocol", "one-shot")[0] for name in ("first", "second"))
    sentences = evaluate("third", "eval.protocol=sentences")[0]
    capsys.readouterr()
    assert main(["experiment", "compare", str(one), str(other)]) == 0
    shown = capsys.readouterr().out
    assert "| V2V R@1 |" in shown and "V2V MRR" in shown and "+0.000 (+0.000 to +0.000)" in shown
    assert "Protocol one-shot; 12 clips; chance 0.167" in shown
    assert main(["experiment", "compare", str(sentences), str(sentences)]) == 0
    assert "T2V R@1" in capsys.readouterr().out
    assert main(["experiment", "compare", str(one), str(sentences)]) == 2
    assert "expected one protocol" in capsys.readouterr().err


def test_searches_of_a_table(model_folder, tmp_path, capsys):
    rows = table_rows(splits={"svk": "train", "asq": "test", "gsg": "test"})
    rows += [row | {"id": row["id"] + "2", "path": other["path"]} for row, other in _next_letters(rows)]
    table = write_table(tmp_path / "table.csv", rows)
    asked = ["evaluate", "--model", str(model_folder), "--table", str(table), "--workers", "0"]
    asked += ["--bootstrap", "0", "--no-pictures", "--out", str(tmp_path / "out")]
    one = ["--protocol", "one-shot"]
    assert main([*asked, *one, "--protocol", "sentences", "--draws", "4"]) == 0
    found = json.loads((tmp_path / "out" / "protocols.json").read_text())
    outcomes = {(o["protocol"], o["setting"]): o for o in found["outcomes"]}
    same = outcomes["one-shot", "same-language"]
    assert same["n"] == 2 * 3 * 4 and same["chance"]["R@1"] == pytest.approx(1 / 6)
    assert "mean of 4 draws" in (tmp_path / "out" / "protocols.md").read_text()
    assert outcomes["sentences", "t2v"]["n"] == 18
    assert outcomes["sentences", "t2v, duplicates right"]["n"] == 6
    shown = capsys.readouterr().out.splitlines()
    header = [cell.strip() for line in shown if "| protocol" in line for cell in line.split("|")]
    row = next(line.split("|") for line in shown if line.startswith("| sentences"))
    place = header.index("MeanR")
    assert row[place].strip() == f"{outcomes['sentences', 't2v']['metrics']['MeanR']:.1f}"
    assert main([*asked, *one, "--queries", "other-language"]) == 0
    assert main([*asked, *one, "--other-signer"]) == 2
    assert "queries are by the signer of the gallery's clip" in capsys.readouterr().err


def _next_letters(rows):
    """Clips A, B, C of each test language, with the clip of D, E, F: another clip of the same sign."""
    test = [row for row in rows if row["split"] == "test"]
    by = {(row["signed_language"], row["text"]): row for row in test}
    chosen = [row for row in test if row["text"] in "ABC"]
    return [(row, by[row["signed_language"], "DEF"["ABC".index(row["text"])]]) for row in chosen]


def test_protocol_is_an_option_once(capsys):
    for words in (["--protocol", "sentences", "eval.protocol=retrieval"], ["--protocol", "knn"]):
        with pytest.raises(SystemExit) as stopped:
            main(["evaluate", "x.yaml", *words])
        assert stopped.value.code == 2
    assert "are the same option" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["ablate", "leave-one-out", "results"])
@pytest.mark.parametrize("protocol", ["sentences", "one-shot"])
def test_tables_of_prompts_refuse_other_protocols(command, protocol, tmp_path, capsys):
    config = "package:test_fslex_demo" if command == "results" else "package:fslex_demo"
    named = ["--config", config] if command == "leave-one-out" else [config]
    out = ["--out", str(tmp_path / "out")]
    assert main(["experiment", command, *named, f"eval.protocol={protocol}", *out]) == 2
    error = capsys.readouterr().err
    assert f"eval.protocol is {protocol}" in error and not (tmp_path / "out").exists()
