"""Exact search against a plain loop, approximate against exact search, and damaged indexes."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmpt.search import Embeddings, Index, approximate, build_index, exact, read_embeddings, top_k
from mmpt.search.exact import best
from mmpt.utils.errors import MissingDataError, UserError


def vectors(count: int, width: int = 24, seed: int = 0, spread: float = 0.6) -> np.ndarray:
    """Vectors in forty clusters, as embeddings of forty signs might lie."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(1).standard_normal((40, width))
    noise = spread * random.standard_normal((count, width))
    return (centres[random.integers(0, 40, count)] + noise).astype(np.float32)


def named(array: np.ndarray, **more: Any) -> Embeddings:
    return Embeddings(array, [f"clip {i} ä" for i in range(len(array))], **more)


def by_loop(queries: np.ndarray, array: np.ndarray, k: int, measure: str) -> list[list[int]]:
    found = []
    for query in queries.astype(np.float64):
        scores = [float(query @ vector) for vector in array.astype(np.float64)]
        if measure == "cosine":
            scores = [s / np.linalg.norm(query) / np.linalg.norm(v) for s, v in zip(scores, array)]
        found.append(sorted(range(len(scores)), key=lambda i: -scores[i])[:k])
    return found


@pytest.mark.parametrize("k", [1, 7, 300])
def test_top_k_equals_a_plain_loop(k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact, "BLOCK", 64)  # several blocks
    monkeypatch.setattr(exact, "_QUERIES", 3)
    array, queries = vectors(300), vectors(5, seed=2)
    hits = top_k(queries, array, k)
    assert hits.rows.tolist() == by_loop(queries, array, k, "dot")
    wanted = np.take_along_axis(queries @ array.T, hits.rows, 1)
    np.testing.assert_allclose(hits.scores, wanted, rtol=1e-4, atol=1e-5)
    assert top_k(queries, array, 1000).rows.shape == (5, 300)


def test_top_k_ties_are_sorted_by_row() -> None:
    array = np.repeat(vectors(3), 4, axis=0)
    assert top_k(array[:1], array, 4).rows.tolist() == [[0, 1, 2, 3]]


def test_best_equals_a_sort_with_ties() -> None:
    random = np.random.default_rng(3)
    for k in range(1, 9):
        scores = random.integers(0, 5, (30, 8)).astype(np.float32)
        rows = np.stack([random.permutation(40)[:8] for _ in scores])
        hits = best(scores, rows, k)
        for found, score, row in zip(hits.rows, scores, rows):
            assert found.tolist() == [r for _, r in sorted(zip(-score, row))][:k]


@pytest.mark.parametrize("block", [32, 1 << 16])
def test_top_k_ties_at_k(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where more are as good as the last hit, the first rows of them are hits."""
    monkeypatch.setattr(exact, "BLOCK", block)
    random = np.random.default_rng(0)
    array = random.integers(-1, 2, (500, 3)).astype(np.float32)  # small whole numbers: scores are exact
    queries = random.integers(-1, 2, (20, 3)).astype(np.float32)
    hits = top_k(queries, array, 7)
    wanted = np.argsort(-(queries @ array.T), axis=1, kind="stable")[:, :7]
    assert hits.rows.tolist() == wanted.tolist()


@pytest.mark.parametrize("spread", [1, 1e-5])
@pytest.mark.parametrize("copies", [2, 60])
def test_top_k_depends_on_the_two_vectors_only(copies: int, spread: float) -> None:
    """Float32 products of matrices round the scores of equal vectors differently."""
    random = np.random.default_rng(0)
    some = random.standard_normal((1, 1000)) + spread * random.standard_normal((40, 1000))
    array = np.tile(some.astype(np.float32), (copies, 1))[: 40 * copies - 1]
    queries = (some[::8] + spread * random.standard_normal((5, 1000))).astype(np.float32)
    wanted = (queries.astype(np.float64) @ array.T.astype(np.float64)).round(9).astype(np.float32)
    hits = top_k(queries, array, 10)
    assert hits.rows.tolist() == np.argsort(-wanted, axis=1, kind="stable")[:, :10].tolist()
    for number in range(len(queries)):
        alone = top_k(queries[number : number + 1], array, 10)
        assert alone.rows[0].tolist() == hits.rows[number].tolist()
        assert alone.scores[0].tolist() == hits.scores[number].tolist()


@pytest.mark.parametrize("measure", ["cosine", "dot"])
def test_flat_index_search(tmp_path: Path, measure: str) -> None:
    array = vectors(200) * np.linspace(0.1, 3, 200, dtype=np.float32)[:, None]
    queries = vectors(4, seed=3)
    index = build_index([named(array[:150]), named(array[150:])], tmp_path / "index", measure=measure)
    assert (index.kind, len(index), index.dim, index.measure) == ("flat", 200, 24, measure)
    hits = index.search(queries, 5)
    assert hits.rows.tolist() == by_loop(queries, array, 5, measure)
    assert index.name(0) == "clip 0 ä" and index.name(199) == "clip 49 ä"
    assert isinstance(index.vectors, np.memmap)
    assert index.search(queries, 900).rows.shape == (4, 200)
    assert not [path for path in tmp_path.iterdir() if path.name != "index"], "leftovers"


@pytest.mark.parametrize("kind", ["hnsw", "ivf", "ivfpq"])
@pytest.mark.parametrize("measure", ["cosine", "dot"])
def test_approximate_index_recall(tmp_path: Path, kind: str, measure: str) -> None:
    array, queries = vectors(6000), vectors(50, seed=4)
    index = build_index([named(array)], tmp_path / "index", kind, measure)
    got, wanted = index.search(queries, 10), index.search(queries, 10, exact=True)
    assert index.recall(queries) > 0.95
    assert 0.95 < index.description["recall"] <= 1
    best = got.rows[:, 0] == wanted.rows[:, 0]
    assert best.mean() > 0.95
    np.testing.assert_allclose(got.scores[best, 0], wanted.scores[best, 0], rtol=1e-5)  # scores are exact
    assert (np.diff(got.scores, axis=1) <= 0).all()
    assert index.recall(queries, effort=1) < index.recall(queries, effort=300) + 1e-9
    # what was built is found again after opening it anew
    assert np.array_equal(Index(tmp_path / "index").search(queries, 10).rows, got.rows)


@pytest.mark.parametrize("kind", ["hnsw", "ivf", "ivfpq"])
def test_effort_and_k_factor_are_chosen_by_recall(tmp_path: Path, kind: str) -> None:
    array = vectors(3000)
    index = build_index([named(array)], tmp_path / "index", kind)
    effort, factor = index.effort
    assert effort in approximate.EFFORTS and factor in approximate.K_FACTORS
    assert Index(tmp_path / "index").effort == (effort, factor)
    near = array[:60] + 0.3 * vectors(60, seed=5)
    assert index.recall(near) >= 0.95
    assert f"(effort {effort}, k-factor {factor})" in index.summary
    # more candidates, never a lower recall
    wanted = index.search(near, 10, exact=True)
    recalls = [approximate.recall(index.search(near, 10, effort=64, k_factor=f), wanted) for f in (10, 100)]
    assert recalls[0] <= recalls[1]
    with pytest.raises(UserError, match="k_factor must be whole numbers of at least 1"):
        index.search(near, 10, k_factor=0)


def test_choose_effort_takes_the_cheapest_that_is_good_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if each doubling of the effort and each step of k_factor found more, with known shares."""
    array = vectors(200)
    wanted = top_k(array[:10], array, 10)
    ranked = np.argsort(-(array[:10] @ array.T), axis=1, kind="stable")
    asked = []

    def candidates(index: Any, queries: Any, count: int, effort: int) -> np.ndarray:
        """From effort 16 on the ten nearest are there, behind 70 that are worse."""
        asked.append(effort)
        good, bad = ranked[:, :10], ranked[:, 100:170]
        return np.concatenate([bad, good if effort >= 16 else bad[:, :10]], axis=1).astype(np.int64)

    monkeypatch.setattr(approximate, "candidates", candidates)
    assert approximate.choose_effort(None, array[:10], array, wanted) == (16, 8)
    assert asked == list(approximate.EFFORTS)


def test_exact_scores_of_missing_rows() -> None:
    array = vectors(50)
    rows = np.array([[3, -1, 49], [0, 0, -1]])
    scores = approximate.exact_scores(array[:2].copy(), array, rows)
    np.testing.assert_allclose(
        scores[rows >= 0], [array[0] @ array[3], array[0] @ array[49], *2 * [array[1] @ array[0]]], rtol=1e-5
    )
    assert np.isneginf(scores[rows < 0]).all()


def test_search_without_faiss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(approximate.importlib.util, "find_spec", lambda name: None)
    array = vectors(300)
    monkeypatch.setattr(approximate, "AUTO_FLAT", 10)
    index = build_index([named(array)], tmp_path / "index")
    assert index.kind == "flat"
    assert index.search(array[:3], 1).rows.tolist() == [[0], [1], [2]]
    with pytest.raises(MissingDataError, match="pip install faiss-cpu"):
        build_index([named(array)], tmp_path / "other", "hnsw")
    assert not (tmp_path / "other").exists()


def test_index_kind_auto(monkeypatch: pytest.MonkeyPatch) -> None:
    assert approximate.choose_kind("auto", 50_000) == "flat"
    assert approximate.choose_kind("auto", 50_001) == "ivfpq"


@pytest.mark.parametrize(
    ("sources", "options", "words"),
    [
        ([], {}, "no embeddings"),
        ([named(vectors(9)), named(vectors(9, 20))], {}, "dimension 20 and 24"),
        ([named(vectors(9), model="a"), named(vectors(9), model="b")], {}, "different models"),
        ([named(vectors(9) * np.nan)], {}, "NaN"),
        ([Embeddings(vectors(2), ["a", "F\udcfcnf"])], {}, "vector 1 is not valid Unicode"),
        ([named(vectors(9))], {"kind": "tree"}, "no index kind 'tree'"),
        ([named(vectors(9))], {"kind": "hnsw"}, "too few"),
        ([named(vectors(9))], {"measure": "l2"}, "no measure 'l2'"),
    ],
)
def test_build_index_errors(tmp_path: Path, sources: Any, options: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        build_index(sources, tmp_path / "index", **options)
    assert not list(tmp_path.iterdir())


def test_a_name_that_is_not_unicode_is_not_there(tmp_path: Path) -> None:
    index = build_index([named(vectors(9))], tmp_path / "index")
    for name in ("\udcff", "\ud800"):
        with pytest.raises(UserError, match=rf"no entry named '\\u{ord(name):x}'"):
            index.row(name)


def test_build_index_replaces_only_an_index(tmp_path: Path) -> None:
    (tmp_path / ".index.mmpt-killed00.tmp").mkdir()
    build_index([named(vectors(9))], tmp_path / "index")
    assert [path.name for path in tmp_path.iterdir()] == ["index"], "leftovers of a killed build"
    assert len(build_index([named(vectors(8))], tmp_path / "index")) == 8
    with pytest.raises(UserError):
        build_index([named(vectors(9) * np.inf)], tmp_path / "index")
    assert len(Index(tmp_path / "index")) == 8  # what was there is still there
    with pytest.raises(UserError, match=r"an index of something else .*--force"):
        build_index([named(vectors(9), model="abc")], tmp_path / "index")
    assert len(build_index([named(vectors(9), model="abc")], tmp_path / "index", force=True)) == 9


def test_search_query_errors(tmp_path: Path) -> None:
    index = build_index([named(vectors(9), model="abc")], tmp_path / "index")
    for queries in (vectors(2, 20), vectors(2)[0], [], np.array([["a"]])):
        with pytest.raises(UserError, match=r"expected numbers \[N, 24\]"):
            index.search(queries)
    with pytest.raises(UserError, match="NaN"):
        index.search(np.full((1, 24), np.nan))
    with pytest.raises(UserError, match="at least 1"):
        index.search(vectors(1), 0)
    index.check_model("abc", "this")
    index.check_model(None, "this")
    with pytest.raises(UserError, match="another model"):
        index.check_model("abd", "this")


def test_damaged_index_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "index"
    with pytest.raises(MissingDataError, match="there is no index"):
        Index(folder)
    build_index([named(vectors(300))], folder, "hnsw")
    for name, damage in (
        ("index.json", lambda content: content[:-9]),
        ("index.json", lambda content: content.replace(b'"dim": 24', b'"dim": 25')),
        ("index.json", lambda content: content.replace(b"signclip-index", b"other-index")),
        ("index.json", lambda content: content.replace(b'"format_version": 1', b'"format_version": 2')),
        ("index.json", lambda content: content.replace(b'"kind": "hnsw"', b'"kind": ["hnsw"]')),
        ("index.json", lambda content: content.replace(b'"recall": ', b'"recall": "high", "more": ')),
        ("index.json", lambda content: content.replace(b'"effort": ', b'"effort": -')),
        ("index.json", lambda content: content.replace(b'"k_factor": ', b'"k_factor": true, "more": ')),
        ("index.json", lambda content: b"[" * 100_000),
        ("vectors.npy", lambda content: content[:-9]),
        ("vectors.npy", lambda content: b""),
        ("names.bin", lambda content: content[:-1]),
        ("offsets.npy", lambda content: content[:-1]),
        ("approximate.faiss", lambda content: content[:999]),
    ):
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(damage(whole))
        with pytest.raises(UserError):
            Index(folder).search(vectors(1))
        (folder / name).write_bytes(whole)
    Index(folder).search(vectors(1))
    build_index([named(vectors(299))], tmp_path / "other", "hnsw")
    shutil.copy(tmp_path / "other" / "approximate.faiss", folder)
    with pytest.raises(UserError, match="was changed after"):
        Index(folder).search(vectors(1))
    without_hashes(folder)
    with pytest.raises(UserError, match="holds 299 vectors"):
        Index(folder).search(vectors(1))


def without(folder: Path, *keys: str) -> None:
    """Make an index one of an older version, or of a stranger."""
    tree = json.loads((folder / "index.json").read_text())
    (folder / "index.json").write_text(json.dumps({k: v for k, v in tree.items() if k not in keys}))


def without_hashes(folder: Path) -> None:
    without(folder, "files", "of")


def test_index_without_effort_is_searched_with_the_former_defaults(tmp_path: Path) -> None:
    array = vectors(3000)
    build_index([named(array)], tmp_path / "index", "ivfpq")
    without(tmp_path / "index", "effort", "k_factor")
    index = Index(tmp_path / "index")
    assert index.effort == (32, 20) and index.recall() > 0.98


def test_an_index_without_hashes_is_read_but_replaced_only_by_force(tmp_path: Path) -> None:
    build_index([named(vectors(9))], tmp_path / "index")
    without_hashes(tmp_path / "index")
    assert len(Index(tmp_path / "index")) == 9
    with pytest.raises(UserError, match=r"older version.*--force"):
        build_index([named(vectors(8))], tmp_path / "index")
    assert len(build_index([named(vectors(8))], tmp_path / "index", force=True)) == 8


@pytest.mark.parametrize("kind", ["flat", "hnsw"])
def test_hostile_indexes(tmp_path: Path, kind: str) -> None:
    """Each with files that match: errors, not strange answers."""

    def refused(name: str, content: np.ndarray, words: str) -> None:
        folder = tmp_path / name
        build_index([named(vectors(100))], folder, kind, force=True)
        without_hashes(folder)
        np.save(folder / f"{name}.npy", content)
        with pytest.raises(UserError, match=words):
            Index(folder).search(vectors(1))

    offsets = np.cumsum([0] + [len(f"clip {i} ä".encode()) for i in range(100)])
    refused("offsets", offsets.astype(float), "do not match")
    refused("offsets", np.where(np.arange(101) == 50, -7, offsets), "do not match")
    bad = vectors(100)
    bad[50, 3] = np.nan
    refused("vectors", bad, "holds NaN")
    refused("vectors", vectors(100).astype(np.float64), "do not match")
    refused("vectors", np.asfortranarray(vectors(100)), "do not match")


def test_a_file_of_an_index_that_lies_elsewhere_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "index"
    build_index([named(vectors(9))], folder)
    (folder / "names.bin").rename(tmp_path / "names.bin")
    (folder / "names.bin").symlink_to(tmp_path / "names.bin")
    with pytest.raises(UserError, match="a file in the folder of the index was expected"):
        Index(folder)


def test_hostile_descriptions(tmp_path: Path) -> None:
    folder = tmp_path / "index"
    build_index([named(vectors(100))], folder, "hnsw")
    description = json.loads((folder / "index.json").read_text())
    wanted = Index(folder).search(vectors(3), 5, exact=True).rows.tolist()

    def changed(**values: Any) -> Index:
        (folder / "index.json").write_text(json.dumps(description | values))
        return Index(folder)

    for values in ({"blank": [100]}, {"blank": [-1]}, {"recall": float("nan")}, {"recall": 2.0}):
        with pytest.raises(UserError, match="is out of range"):
            changed(**values)
    for effort in (10**9, 10**30):  # more nodes than there are: minutes, and faiss's OverflowError
        assert changed(effort=effort, k_factor=10**30).search(vectors(3), 5).rows.tolist() == wanted
    for numbers in ({"k": 2.5}, {"k": "3"}, {"k": 1, "effort": 1.5}, {"k": 1, "k_factor": 0}):
        with pytest.raises(UserError, match="whole numbers of at least 1"):
            changed().search(vectors(3), **numbers)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="expected numbers"):
        changed().search([[1.0], [1.0, 2.0]])


@pytest.mark.parametrize("scale", [1e30, 1e-30])
def test_cosine_of_very_large_and_small_vectors(tmp_path: Path, scale: float) -> None:
    array = vectors(20)
    index = build_index([named(array * np.float32(scale))], tmp_path / "index", measure="cosine")
    hits = index.search(array * np.float32(scale), 1)
    assert hits.rows[:, 0].tolist() == list(range(20))
    np.testing.assert_allclose(hits.scores, 1, rtol=1e-6)


def test_dot_products_above_float32_are_refused(tmp_path: Path) -> None:
    array = vectors(20) * np.float32(1e30)
    with pytest.raises(UserError, match="exceed float32: build the index with --measure cosine"):
        build_index([named(array)], tmp_path / "index", measure="dot")
    index = build_index([named(vectors(20))], tmp_path / "index", measure="dot")
    with pytest.raises(UserError, match="exceed float32"):
        index.search(array)


def test_read_embeddings_sources(tmp_path: Path) -> None:
    evaluation = tmp_path / "eval"
    evaluation.mkdir()
    np.save(evaluation / "video_embeddings.npy", vectors(3))
    np.save(evaluation / "text_embeddings.npy", vectors(2))
    (evaluation / "ids.json").write_text(json.dumps({"prompts": ["A", "B"], "videos": ["x", "y", "z"]}))
    (evaluation / "results.json").write_text(json.dumps({"model": "abc", "similarity": "dot"}))
    found = read_embeddings(evaluation)
    assert (found.names, found.model, found.similarity) == (["x", "y", "z"], "abc", "dot")
    assert read_embeddings(evaluation, "text").names == ["A", "B"]
    assert build_index([found], tmp_path / "index").measure == "dot"
    plain = tmp_path / "plain"
    plain.mkdir()
    np.save(plain / "embeddings.npy", vectors(2).astype(np.float16))
    (plain / "ids.json").write_text('["ä", 7]')
    assert read_embeddings(plain).names == ["ä", "7"]
    (plain / "other.json").write_text('{"ids": ["p", "q"]}')
    assert read_embeddings(plain / "embeddings.npy", ids=str(plain / "other.json")).names == ["p", "q"]
    (plain / "ids.json").write_text('["ä"]')
    with pytest.raises(UserError, match="1 names"):
        read_embeddings(plain)
    for content, error in (("{}", "a list of names"), ("[", "JSON")):
        (plain / "ids.json").write_text(content)
        with pytest.raises(UserError, match=error):
            read_embeddings(plain)
    np.save(plain / "embeddings.npy", np.array([{"code": "run"}], dtype=object), allow_pickle=True)
    with pytest.raises(UserError, match=r"no complete \.npy"):
        read_embeddings(plain)
    for missing in (tmp_path / "nothing", tmp_path / "index"):
        with pytest.raises(MissingDataError):
            read_embeddings(missing)
