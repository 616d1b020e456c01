"""The recognition protocols of a table, against scikit-learn on the saved embeddings."""

import csv
import json

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import normalize

from mmpt.cli.embed import main as embed
from mmpt.cli.evaluate import main as evaluate
from mmpt.embedding.storage import read_embedding_set
from mmpt.processors.table_file import read_table
from tests.processors.table_data import table_rows, write_table

LANGUAGES = {
    **dict.fromkeys(("ase", "bzs", "eso", "mfs", "psr", "svk", "swl"), "train"),
    **dict.fromkeys(("asq", "ssp"), "valid"),
    **dict.fromkeys(("gsg", "sgg", "ise"), "test"),
}
CS = (0.1, 1.0, 10.0, 100.0, 1000.0, 10000.0)
K = 7


@pytest.fixture(scope="module")
def judged(model_folder, tmp_path_factory):
    """A model on 24 letters of 12 sign languages: splits {name: (vectors, classes, ids)} of what
    mmpt.cli.embed wrote, and the predictions and outcomes of mmpt.cli.evaluate."""
    folder = tmp_path_factory.mktemp("judged")
    table = write_table(folder / "table.csv", table_rows("ABCDEFGHIKLMNOPQRSTUVWXY", LANGUAGES))
    common = ["--model", str(model_folder), "--workers", "0"]
    assert embed([*common, "--in", str(table), "--out", str(folder / "vectors"), "--quiet"]) == 0
    made = read_embedding_set(folder / "vectors")
    vector = {row["id"]: v for row, v in zip(made.ids, made.vectors)}
    splits = {}
    for name in ("train", "valid", "test"):
        rows = read_table(table).of_split(name)
        splits[name] = (np.stack([vector[r.id] for r in rows]), [r.text for r in rows], [r.id for r in rows])
    options = ["--protocol", "all", "--k", str(K), "--bootstrap", "0", "--no-pictures"]
    assert evaluate([*common, "--table", str(table), "--out", str(folder / "eval"), *options]) == 0
    with open(folder / "eval" / "predictions.csv", encoding="utf-8", newline="") as file:
        predictions = {row["id"]: row for row in csv.DictReader(file)}
    outcomes = json.loads((folder / "eval" / "protocols.json").read_text())["outcomes"]
    return splits, predictions, {o["protocol"]: o for o in outcomes if o["protocol"] != "prototypes"}


def agree(judged, protocol, theirs, accuracy):
    """The protocol gives these predictions, clip by clip, and their accuracy."""
    splits, predictions, outcomes = judged
    _, truth, ids = splits["test"]
    assert [predictions[i]["class"] for i in ids] == truth and len(ids) == len(predictions) == 72
    assert [predictions[i][protocol] for i in ids] == list(theirs)
    assert outcomes[protocol]["metrics"]["R@1"] == pytest.approx(accuracy)
    assert accuracy == np.mean(np.array(truth) == theirs) and 0 < accuracy < 1


def test_protocol_linear_probe_by_hand(judged):
    """Logistic regression on vectors of unit length, with the C that is best on the validation clips. In
    float32, in which the vectors are saved, its solver stops a little elsewhere."""
    splits, _, outcomes = judged
    train, valid, test = (normalize(vectors.astype(np.float64)) for vectors, _, _ in splits.values())
    labels, valid_labels, truth = (classes for _, classes, _ in splits.values())
    probes = {c: LogisticRegression(C=c, max_iter=5000, tol=1e-6).fit(train, labels) for c in CS}
    accuracy = {c: probe.score(valid, valid_labels) for c, probe in probes.items()}
    c = max(accuracy, key=lambda c: (accuracy[c], -c))
    assert outcomes["linear_probe"]["setting"] == f"C={c:g}" and len(set(accuracy.values())) > 1
    for one, share in accuracy.items():
        assert f"{one:g}: {share:.3f}" in outcomes["linear_probe"]["notes"][0]
    agree(judged, "linear_probe", probes[c].predict(test), probes[c].score(test, truth))


def test_protocol_v2v_by_hand(judged):
    splits, _, _ = judged
    (train, labels, _), _, (test, truth, _) = splits.values()
    theirs = KNeighborsClassifier(1, metric="cosine", algorithm="brute").fit(train, labels)
    agree(judged, "v2v", theirs.predict(test), theirs.score(test, truth))


def test_protocol_knn_by_hand(judged):
    splits, _, _ = judged
    (train, labels, _), _, (test, truth, _) = splits.values()
    theirs = KNeighborsClassifier(K, metric="cosine", algorithm="brute").fit(train, labels)
    shares = np.sort(theirs.predict_proba(test), axis=1)
    assert (shares[:, -1] == shares[:, -2]).any(), "classes with as many votes are among them"
    agree(judged, "knn", theirs.predict(test), theirs.score(test, truth))
