"""mmpt.cli.search: an index of clips, queried by text, pose and vectors."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mmpt.cli.embed import main as embed
from mmpt.cli.main import main
from mmpt.embedding.embedder import SignCLIP
from mmpt.processors.fingerspelling import find_lexicon
from mmpt.search import Embeddings, Index, build_index
from tests.conftest import mmfusion_config


@pytest.fixture(scope="module")
def poses() -> list[Path]:
    return sorted((find_lexicon(None) / "ase").glob("*.pose"))[:3]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory, data_dir: Path, poses: list[Path]) -> Path:
    """A folder with a `model`, an `other` model, and the embeddings of three clips."""
    work = tmp_path_factory.mktemp("search")
    config = mmfusion_config(data_dir)
    weights = data_dir / "mmfusion" / "weights.safetensors"
    model = SignCLIP.from_checkpoint(weights, config, device="cpu")
    model.save_pretrained(work / "model")
    (work / "eval").mkdir()
    np.save(work / "eval" / "video_embeddings.npy", model.embed_pose(poses))
    (work / "eval" / "ids.json").write_text(json.dumps({"videos": [path.stem for path in poses]}))
    results = {"model": model.fingerprint, "similarity": "cosine"}
    (work / "eval" / "results.json").write_text(json.dumps(results))
    next(model.model.parameters()).data += 0.1
    model.save_pretrained(work / "other")
    assert (
        main(
            [
                "search",
                "build",
                str(work / "eval"),
                "--out",
                str(work / "index"),
                "--model",
                str(work / "model"),
            ]
        )
        == 0
    )
    return work


def test_search_build_query_and_info(
    work: Path, poses: list[Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    model = ["--model", str(work / "model")]
    assert (
        main(
            [
                "search",
                "query",
                str(work / "index"),
                *model,
                "--text",
                "B",
                "--pose",
                str(poses[1]),
                "-k",
                "2",
            ]
        )
        == 0
    )
    lines = capsys.readouterr().out.splitlines()
    assert [lines[0], lines[3]] == ["B", str(poses[1])] and len(lines) == 6
    assert lines[4].split() == ["1", "1.0000", poses[1].stem]
    expected = SignCLIP.from_pretrained(work / "model").score(poses, ["B"])[0]
    assert [float(line.split()[1]) for line in lines[1:3]] == pytest.approx(sorted(expected)[:0:-1], abs=1e-4)

    queries = tmp_path / "queries.npy"
    np.save(queries, np.load(work / "eval" / "video_embeddings.npy")[2:])
    out = tmp_path / "answers.json"
    assert (
        main(["search", "query", str(work / "index"), "--npy", str(queries), "--json", "--out", str(out)])
        == 0
    )
    answers = json.loads(capsys.readouterr().out)
    assert answers == json.loads(out.read_text())
    assert answers[0]["hits"][0]["id"] == poses[2].stem and len(answers[0]["hits"]) == 3

    assert main(["search", "info", str(work / "index")]) == 0
    assert "3 vectors of dimension 32, flat, cosine; model " in capsys.readouterr().out


def test_search_by_an_example_of_the_index_and_by_a_left_handed_clip(
    work: Path, poses: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    index, first = Index(work / "index"), poses[0].stem
    assert index.row(poses[2].stem) == 2
    asked = ["search", "query", str(work / "index"), "--json"]
    assert main([*asked, "--like", first, "-k", "1", "--npy", str(work / "eval/video_embeddings.npy")]) == 0
    answers = json.loads(capsys.readouterr().out)
    vectors = np.load(work / "eval" / "video_embeddings.npy")
    others = index.search(vectors[:1], 3)
    assert answers[0]["query"] == first and [hit["row"] for hit in answers[0]["hits"]] == [others.rows[0][1]]
    assert [answer["hits"][0]["row"] for answer in answers[1:]] == [0, 1, 2], "only --like leaves itself out"
    asked += ["--model", str(work / "model"), "--pose", str(poses[0])]
    scores = []
    for more in ([], ["--left-handed"]):
        assert main([*asked, *more]) == 0
        hits = json.loads(capsys.readouterr().out)[0]["hits"]
        scores.append({hit["row"]: hit["score"] for hit in hits})
    mirrored = SignCLIP.from_pretrained(work / "model").embed_pose([poses[0]], mirror=True)
    expected = index.search(mirrored, 3)
    assert scores[1] == pytest.approx(dict(zip(expected.rows[0].tolist(), expected.scores[0].tolist())))
    assert scores[0] != scores[1]


def test_names_in_the_locale_c(tmp_path: Path) -> None:
    """Names are UTF-8 there, too; what the terminal does not have is escaped."""
    build_index([Embeddings(np.eye(3, dtype=np.float32), ["é", "b", "ü"])], tmp_path / "index")
    command = [sys.executable, "-m", "mmpt", "search", "query", str(tmp_path / "index"), "--like", "é"]
    env = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    ended = subprocess.run(command, env=env, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[0] == "\\xe9" and ended.stdout.split()[-1] == "\\xfc"


def test_search_errors_are_one_line_and_status_2(
    work: Path, poses: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index, other = str(work / "index"), str(work / "other")
    np.save(tmp_path / "wide.npy", np.zeros((2, 33), np.float32))
    np.save(tmp_path / "no_rows.npy", np.zeros((0, 32), np.float32))
    np.save(tmp_path / "narrow.npy", np.zeros((4, 0), np.float32))
    again = ["build", str(work / "eval"), "--out", str(tmp_path / "index")]
    for arguments, words in (
        (["query", index], "no query: give"),
        (["query", index, "--text", "B"], "need --model FOLDER"),
        (["query", index, "--like", poses[0].stem, "-k", "0"], "-k 0: expected at least 1"),
        (["query", index, "--like", "nobody"], "named 'nobody': expected the id of one entry, as the hits"),
        (["query", index, "--text", "B", "--left-handed"], "--left-handed is for --pose"),
        (["query", index, "--text", "B", "--model", other], "another model"),
        (["query", index, "--npy", str(tmp_path / "wide.npy")], "dimension 33"),
        (["query", str(tmp_path), "--npy", str(tmp_path / "wide.npy")], "there is no index"),
        (["query", index, "--npy", str(tmp_path / "none.npy")], "none.npy: no such file"),
        (["query", index, "--npy", str(tmp_path / "no_rows.npy")], "no_rows.npy holds no vectors"),
        (["query", index, "--npy", str(tmp_path / "narrow.npy")], "shape [4, 0]"),
        (["query", "--text", "B", "--", "-index"], "there is no index -index"),
        (["query", index, "--text", "B", "--model", other, "--effort", "3"], "is exact and compares every"),
        (["query", index, "--text", "B", "--effort", "3", "--exact"], "--exact compares every vector"),
        (["query", index, "--text", "B", "--k-factor", "3"], "--k-factor 3 is for approximate search"),
        ([*again, "--model", other], "made by another model"),
        ([*again, "--kind", "ivf"], "too few"),
        (["build", str(work / "eval"), *again[1:], "--ids", "x"], "several were given"),
    ):
        assert main(["search", *arguments]) == 2, arguments
        message = capsys.readouterr().err
        assert words in message and "Traceback" not in message
        assert sum(line.startswith("error:") for line in message.splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["narrow.npy", "no_rows.npy", "wide.npy"]


def test_search_refuses_embeddings_of_another_model(
    work: Path,
    poses: list[Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Embeddings of mmpt.cli.embed, of clips and prompts, name their model."""
    (tmp_path / "poses").mkdir()
    for path in poses:
        (tmp_path / "poses" / path.name).write_bytes(path.read_bytes())
    (tmp_path / "texts.txt").write_text("A\nB\n")
    model, other = str(work / "model"), str(work / "other")
    for folder, source in (("model", "poses"), ("other", "poses"), ("model", "texts.txt")):
        out = str(tmp_path / f"{folder} {source}")
        asked = ["--model", str(work / folder), "--in", str(tmp_path / source), "--out", out]
        assert embed([*asked, "--workers", "0", "--quiet"]) == 0
    made, of_other, texts = (str(tmp_path / x) for x in ("model poses", "other poses", "model texts.txt"))
    index = ["--out", str(tmp_path / "index")]
    assert main(["search", "build", made, *index, "--model", other]) == 2
    assert "made by another model" in capsys.readouterr().err
    assert main(["search", "build", made, of_other, *index]) == 2
    assert "come from different models" in capsys.readouterr().err
    assert main(["search", "build", made, texts, *index]) == 0
    assert main(["search", "query", str(tmp_path / "index"), "--npy", f"{of_other}/embeddings.npy"]) == 2
    assert "another model" in capsys.readouterr().err
    assert main(["search", "query", str(tmp_path / "index"), "--text", "A", "--model", model]) == 0

    about = tmp_path / "model poses" / "provenance.json"
    old = {key: value for key, value in json.loads(about.read_text()).items() if key != "model_fingerprint"}
    about.write_text(json.dumps(old))
    caplog.clear()
    assert main(["search", "build", made, *index, "--model", model]) == 0
    assert "does not record its model" in caplog.text
    assert main(["search", "build", made, of_other, *index]) == 2
    assert "holds an index of something else" in capsys.readouterr().err
    assert main(["search", "build", made, of_other, *index, "--force"]) == 0
    assert "1 of 2 sources do not name their model" in caplog.text
