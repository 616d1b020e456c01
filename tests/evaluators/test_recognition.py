"""Recognition protocols on splits: results, errors, and chance on shuffled labels."""

import csv
import dataclasses
import json

import numpy as np
import pytest

from mmpt.evaluators.pictures import embedding_map
from mmpt.evaluators.pictures.embedding_map import project
from mmpt.evaluators.recognition.classifiers import choose_c
from mmpt.evaluators.recognition.outcome import Options, Split
from mmpt.evaluators.recognition.protocols import PROTOCOLS, run_protocol
from mmpt.evaluators.recognition.report import save_recognition
from mmpt.utils.errors import UserError

LETTERS = [f"letter {i:02d}" for i in range(12)]


def make_split(name, count, rng, centres, shuffled=False):
    labels = rng.integers(0, len(LETTERS), count)
    vectors = (centres[labels] + rng.normal(scale=0.8, size=(count, 16))).astype(np.float32)
    names = [LETTERS[i] for i in (rng.permutation(labels) if shuffled else labels)]
    return Split(
        name, vectors, [f"{name}{i}" for i in range(count)], names, [f"s{i % 3}" for i in range(count)]
    )


def make(shuffled=False, seed=0):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(len(LETTERS), 16))
    test, train, valid = (
        make_split(name, count, rng, centres, shuffled)
        for name, count in (("test", 240), ("train", 150), ("valid", 60))
    )
    texts = centres.astype(np.float32)
    prompts = (LETTERS, texts, np.array([LETTERS.index(name) for name in test.classes]))
    return test, train, valid, prompts


@pytest.mark.parametrize("name", PROTOCOLS)
def test_shuffled_labels_give_chance_in_every_protocol(name):
    sound = run_protocol(name, *make(), Options(resamples=0))
    for seed in range(3):
        outcomes = run_protocol(name, *make(shuffled=True, seed=seed), Options(resamples=200))
        for outcome, true in zip(outcomes, sound, strict=True):
            metric = "P@1" if outcome.setting == "t2v" else "R@1"
            spread = 4 * np.sqrt(outcome.chance[metric] / outcome.n)
            assert abs(outcome.metrics[metric] - outcome.chance[metric]) < spread, (outcome.setting, outcome)
            assert true.metrics[metric] > outcome.chance[metric] + spread
            low, high = outcome.intervals[metric]
            assert low <= outcome.metrics[metric] <= high


@pytest.mark.parametrize("name", ["v2v", "knn"])
def test_recognition_metrics_are_bounded_by_coverage(name):
    """The support has three of the twelve classes, so the rank of an absent class is at most five."""
    test, train, valid, prompts = make()
    kept = [i for i, letter in enumerate(train.classes) if letter in LETTERS[:3]]
    few = Split(
        "train",
        train.vectors[kept],
        *([v[i] for i in kept] for v in (train.ids, train.classes, train.signers)),
    )
    (one,) = run_protocol(name, test, few, valid, prompts, Options(resamples=100))
    share = np.mean([letter in LETTERS[:3] for letter in test.classes])
    for metric in ("R@1", "R@5", "R@10"):
        assert one.metrics[metric] <= share + 1e-9, metric
        low, high = one.intervals[metric]
        assert low <= one.metrics[metric] <= high
    assert one.metrics["R@5"] == pytest.approx(share) == one.chance["R@5"]


def test_recognition_settings_classes_and_coverage():
    test, train, valid, prompts = make()
    kept = [i for i, name in enumerate(train.classes) if name != LETTERS[0]]
    train = Split(
        "train",
        train.vectors[kept],
        *([v[i] for i in kept] for v in (train.ids, train.classes, train.signers)),
    )
    share = np.mean([name != LETTERS[0] for name in test.classes])
    (one,) = run_protocol("v2v", test, train, valid, prompts, Options(resamples=0))
    assert (one.n, len(one.classes)) == (240, 11) and one.coverage == pytest.approx(share)
    assert one.chance["R@1"] == pytest.approx(share / 11) and one.metrics["R@1"] <= share
    assert "clips are of classes without support clips: this counts as wrong" in one.notes[0]
    shots = run_protocol("prototypes", test, train, valid, prompts, Options(resamples=0, draws=3))
    assert [o.setting for o in shots] == ["k=1", "k=5", "k=10", "all"]
    assert shots[0].metrics["R@1"] < shots[3].metrics["R@1"]
    both = run_protocol("zero_shot", test, None, None, prompts, Options(resamples=0))
    assert [o.setting for o in both] == ["v2t", "t2v"] and both[1].n == 12


def test_linear_probe_chooses_c_on_valid():
    test, train, valid, prompts = make()
    (chosen,) = run_protocol("linear_probe", test, train, valid, prompts, Options(resamples=0))
    other_test = make(seed=5)[0]
    (again,) = run_protocol("linear_probe", other_test, train, valid, prompts, Options(resamples=0))
    assert chosen.setting == again.setting and chosen.notes == again.notes
    numbers = [np.array([LETTERS.index(name) for name in split.classes]) for split in (train, valid)]
    c, accuracy = choose_c(train.vectors, numbers[0], valid.vectors, numbers[1], len(LETTERS))
    assert chosen.setting == f"C={c:g}" and f"{c:g}: {accuracy[c]:.3f}" in chosen.notes[0]
    (given,) = run_protocol("linear_probe", valid, train, valid, prompts, Options(resamples=0, c=1.0))
    assert given.setting == "C=1"


@pytest.mark.parametrize(
    "name, change, words",
    [
        ("v2v", {"queries": "train"}, "cannot be evaluated on train"),
        ("knn", {"support": None}, "needs training clips"),
        ("linear_probe", {"valid": None}, "C is chosen on valid"),
        ("linear_probe", {"queries": "valid"}, "chosen on the clips that are evaluated"),
    ],
)
def test_check_protocol_errors(name, change, words):
    test, train, valid, prompts = make()
    given = {"queries": test, "support": train, "valid": valid}
    for key, value in change.items():
        given[key] = {"train": train, "valid": valid, None: None}[value]
    with pytest.raises(UserError, match=words):
        run_protocol(name, *given.values(), prompts, Options(resamples=0))


@pytest.fixture
def quick_map(monkeypatch):
    """The first two numbers of each vector instead of a t-SNE, which takes a second."""
    monkeypatch.setattr(embedding_map, "project", lambda vectors: vectors[:, :2])


def test_recognition_report(tmp_path, quick_map):
    test, train, valid, prompts = make()
    outcomes = [o for name in PROTOCOLS for o in run_protocol(name, test, train, valid, prompts, Options())]
    about = {"model": {"folder": "m", "fingerprint": "1"}, "table": {"file": "t.csv", "sha256": "2"}}
    about |= {"split": "test", "command": "c", "warnings": ["Judged on training data."]}
    files = save_recognition(tmp_path, about, outcomes, test)
    assert all(file.stat().st_size for file in files)
    page = (tmp_path / "protocols.md").read_text()
    assert page.count("| v2v | 1-NN |") == 1 and "\n| letter 03 | " in page.split("## By prompt")[1]
    assert page.split("## By class (R@1)")[1].split("\n")[2] == (
        "| class | clips | v2v | knn | prototypes | linear_probe |"
    )
    assert page.split("## By prompt (R@1)")[1].split("\n")[2] == "| prompt | clips | zero_shot |"
    assert page.index("**Judged on training data.**") < page.index("| zero_shot | v2t | 240 | 12 | 1.000 |")
    found = json.loads((tmp_path / "protocols.json").read_text())
    assert len(found["outcomes"]) == len(outcomes) == 9
    assert all({"n", "n_classes", "coverage", "chance", "intervals"} <= set(o) for o in found["outcomes"])
    with open(tmp_path / "predictions.csv") as file:
        rows = list(csv.DictReader(file))
    right = np.mean([row["class"] == row["v2v"] for row in rows])
    assert right == pytest.approx(next(o for o in outcomes if o.protocol == "v2v").metrics["R@1"])
    with open(tmp_path / "per_signer.csv") as file:
        signers = [row for row in csv.DictReader(file) if row["protocol"] == "v2v"]
    assert sum(int(row["clips"]) for row in signers) == 240
    assert np.mean([float(row["R@1"]) for row in signers]) == pytest.approx(right)
    for picture in ("v2v_confusions.png", "linear_probe_per_class.png", "map.png"):
        assert f"({picture})" in page


def test_recognition_report_draws_figures(tmp_path, rendered):
    _, train, valid, prompts = make()
    about = {"model": {"folder": "m", "fingerprint": "1"}, "table": {"file": "t.csv", "sha256": "2"}}
    about |= {"split": "valid", "command": "c", "warnings": []}
    options = Options(resamples=0)
    save_recognition(tmp_path, about, run_protocol("v2v", valid, train, None, prompts, options), valid)
    for picture in ("v2v_confusions.png", "v2v_per_class.png", "map.png"):
        assert (tmp_path / picture).stat().st_size > 5000


@pytest.mark.parametrize("count", [4, 6, 50])
def test_embedding_map_of_equal_clips(count):
    """scikit-learn's t-SNE would get NaN and crash the process."""
    for vectors in (np.ones((count, 32), np.float32), np.zeros((count, 32), np.float32)):
        points = project(vectors)
        assert points.shape == (count, 2) and np.isfinite(points).all()
        assert len(np.unique(points, axis=0)) == count


def test_recognition_report_replaces_an_earlier_one(tmp_path, quick_map, monkeypatch):
    """Numbers are written before figures, which may fail."""
    test, train, valid, prompts = make()
    about = {"model": {"folder": "m", "fingerprint": "1"}, "table": {"file": "t.csv", "sha256": "2"}}
    about |= {"split": "test", "command": "c", "warnings": []}
    options = Options(resamples=0)
    (tmp_path / "notes.txt").write_text("mine")
    save_recognition(tmp_path, about, run_protocol("v2v", test, train, valid, prompts, options), test)
    unknown = dataclasses.replace(test, signers=[""] * len(test))
    outcomes = run_protocol("knn", unknown, train, valid, prompts, options)
    files = save_recognition(tmp_path, about, outcomes, unknown, pictures=False)
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in files} | {"notes.txt"}
    assert not {"per_signer.csv", "map.png"} & {path.name for path in files}

    def fail(*_):
        raise MemoryError

    monkeypatch.setattr(embedding_map, "project", fail)
    with pytest.raises(MemoryError):
        save_recognition(tmp_path, {**about, "split": "valid"}, outcomes, unknown, force=True)
    assert json.loads((tmp_path / "protocols.json").read_text())["split"] == "valid"


@pytest.mark.parametrize("groups", [[""] * 12, ["s1", "s2"] * 6])
def test_embedding_map_with_long_class_names(tmp_path, monkeypatch, groups):
    drawn = {}
    monkeypatch.setattr(embedding_map, "save_figure", lambda figure, path, dpi: drawn.update(figure=figure))
    classes = ["HOUSE", "good morning everybody", "good morning all"] * 4
    vectors = np.random.default_rng(0).normal(size=(12, 8))
    embedding_map.embedding_map(tmp_path / "map.png", vectors, classes, groups)
    (axes,) = drawn["figure"].axes
    texts = [text.get_text() for text in axes.texts]
    assert len(texts) == 12 and len(set(texts)) == 3 and max(map(len, texts)) <= 12
    colours = {text.get_color() for text in axes.texts}
    assert len(colours) == (2 if groups[0] else 3), "of signers, or of classes where there is one signer"


def test_embedding_map_legend_of_signers(tmp_path, monkeypatch):
    """The legend is outside the axes, and unknown signers have a colour too."""
    drawn = {}
    monkeypatch.setattr(embedding_map, "save_figure", lambda figure, path, dpi: drawn.update(figure=figure))
    vectors = np.random.default_rng(0).normal(size=(12, 8))
    signers = ["", "signer 1 of a corpus with a long name", "s2"] * 4
    embedding_map.embedding_map(tmp_path / "map.png", vectors, ["A", "B"] * 6, signers)
    (axes,), (legend,) = drawn["figure"].axes, drawn["figure"].legends
    assert axes.get_legend() is None
    names = [text.get_text() for text in legend.get_texts()]
    assert names == ["(unknown)", "s2", "signer 1 of a corpus wi…"]
