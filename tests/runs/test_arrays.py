import numpy as np
import pytest

from pipeline.core.blocks import StackedRows, as_rows
from pipeline.core.evaluation import ranking
from pipeline.core.evaluation.metrics import summarize
from pipeline.core.expansion import Expansion
from pipeline.core.neighbors.topk import search
from pipeline.core.reranking.distances import Reranking
from pipeline.errors import InputError
from pipeline.model.functions import NetworkFunction
from pipeline.runs import arrays
from pipeline.runs.measuring import measure
from pipeline.runs.ranked_rows import ranked_rows
from tests import oracles
from tests.core.strategies import unit_rows

QUERIES, GALLERY = unit_rows(7, 24, clusters=5), unit_rows(60, 24, seed=3, clusters=5)
RNG = np.random.default_rng(0)
QUERY_LABELS = RNG.integers(1, 6, 7), RNG.choice(["a", "b"], 7)
LABELS = RNG.integers(-1, 6, 60), [*RNG.choice(["a", "b", "c"], 59), None]


@pytest.mark.parametrize("kind", [np.float64, np.float16, list])
def test_other_types_give_what_float32_gives(kind):
    forms = [rows.tolist() if kind is list else rows.astype(kind) for rows in (QUERIES, GALLERY)]
    found = arrays.search(*forms, k=5)
    if kind is np.float16:
        wanted = search(*(form.astype(np.float32) for form in forms), 5)
    else:
        wanted = search(QUERIES, GALLERY, 5)
    assert found.rows.tolist() == wanted.rows.tolist()
    assert found.scores.tobytes() == wanted.scores.tobytes()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([[3.0, 4.0]], "queries: row 0 has length 5, and cosine similarity needs length 1"),
        ([[1.0, 0.0], [np.nan, 0.0]], "queries: row 1 is not finite"),
        ([1.0, 0.0], r"queries must be a matrix \[N, D\], not of shape \[2\]"),
        ([[1.0], [1.0, 2.0]], "queries: the rows are not of one length"),
        ([["a", "b"]], "queries must be real numbers"),
    ],
)
def test_what_is_not_unit_vectors_is_refused(rows, message):
    with pytest.raises(ValueError, match=message):
        arrays.search(rows, GALLERY)


def test_rows_are_normalized_where_that_is_asked_for():
    found = arrays.search(3 * QUERIES.astype(float), 0.5 * GALLERY, 4, normalize=True)
    assert found.rows.tolist() == search(QUERIES, GALLERY, 4).rows.tolist()
    with pytest.raises(ValueError, match=r"queries: row 0 cannot be normalized: .*length 0"):
        arrays.search([[0.0, 0.0]], [[1.0, 0.0]], normalize=True)


@pytest.mark.parametrize("k", [0, -1, 2.5, True])
def test_k_is_a_whole_number(k):
    with pytest.raises(ValueError, match="k must be a whole number from 1"):
        arrays.search(QUERIES, GALLERY, k)


def test_dimensions_must_agree():
    with pytest.raises(ValueError, match="queries have 24 dimensions, the gallery 2"):
        arrays.search(QUERIES, [[1.0, 0.0]])


def test_labels_of_text_are_numbered_alike():
    ours, theirs = arrays.make_labels(QUERY_LABELS, LABELS)
    assert [ours.camera[q] for q in range(7)] == [{"a": 0, "b": 1}[c] for c in QUERY_LABELS[1]]
    assert theirs.camera[-1] == -1
    with pytest.raises(ValueError, match="identities must be whole numbers"):
        arrays.make_labels(([1.5], ["a"]))
    with pytest.raises(ValueError, match="give both labels as Labels or both as"):
        arrays.both_labels(ours, LABELS)


def test_all_figures_are_those_of_core():
    ours, theirs = arrays.make_labels(QUERY_LABELS, LABELS)
    found = measure(QUERIES, QUERY_LABELS, GALLERY, LABELS, [Expansion("joint", k=4)])
    counts = ranking.rank_counts(QUERIES, ours, GALLERY, theirs)
    assert found.baseline.summary.mean_ap == summarize(counts, 60).mean_ap
    assert [each.name for each in found.rankings] == ["baseline", "aqe joint"]
    assert found["aqe joint"] is found.rankings[1]
    with pytest.raises(KeyError):
        found["another"]
    assert str(found).splitlines()[1].startswith("baseline")


@pytest.mark.parametrize("mode", ["query", "database", "joint"])
@pytest.mark.parametrize("times", [1, 2])
def test_expansion_is_that_of_the_oracle(mode, times):
    found = arrays.expand(QUERIES, GALLERY, Expansion(mode, k=4, times=times))
    queries, gallery = QUERIES, GALLERY
    for _ in range(times):
        union = np.vstack([queries, gallery])
        if mode == "query":
            queries = oracles.expand(queries, gallery, 4, 3)
        elif mode == "database":
            gallery = oracles.expand(gallery, gallery, 4, 3, 0)
        else:
            queries, gallery = np.split(oracles.expand(union, union, 4, 3, 0), [len(queries)])
    np.testing.assert_allclose(np.vstack(found), np.vstack([queries, gallery]), atol=5e-6)


def test_re_ranked_distances_are_those_of_the_oracle():
    found = arrays.k_reciprocal(QUERIES, GALLERY, Reranking(6, 3))
    np.testing.assert_allclose(
        found, oracles.k_reciprocal(QUERIES, GALLERY, 6, 3, 0.3, "zhong"), atol=1e-5
    )


def test_neighbors_leave_the_row_itself_out():
    found = arrays.neighbors(GALLERY, 100)
    assert found.rows.shape == (60, 59)
    assert not (found.rows == np.arange(60)[:, None]).any()


def test_rows_of_files_are_taken_as_they_are():
    stacked = StackedRows(as_rows(QUERIES), as_rows(GALLERY))
    assert arrays.search(stacked, stacked, 1).rows.ravel().tolist() == list(range(67))


def test_ranked_rows_print_and_draw(tmp_path):
    found = ranked_rows(QUERIES, QUERY_LABELS, GALLERY, LABELS, k=3)
    lines = str(found).splitlines()
    assert len(lines) == len(found) == 7
    best = int(found.lists.rows[0, 0])
    assert lines[0].startswith(f"query 0: {best}:")
    picture = np.zeros((8, 4, 3), np.uint8)
    found.draw([picture] * 7, lambda _row: picture, tmp_path / "lists.png")
    assert (tmp_path / "lists.png").read_bytes().startswith(b"\x89PNG")


def test_a_function_whose_features_depend_on_the_batch_is_refused():
    def centered(crops):
        means = np.array([crop.mean((0, 1)) for crop in crops])
        return means - means.mean(axis=0)

    with pytest.raises(InputError, match="depends on the other crops of its batch"):
        _ = NetworkFunction(centered, "batch normalization in training").dimension


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda crops: np.zeros((1, 3)), r"2 crops must give features \[2, D\], not \[1, 3\]"),
        (lambda crops: np.zeros(len(crops)), r"not \[2\]"),
    ],
)
def test_a_function_of_another_shape_is_refused(function, message):
    with pytest.raises(InputError, match=message):
        _ = NetworkFunction(function, "wrong").dimension
    with pytest.raises(InputError, match="empty name"):
        NetworkFunction(function, " ")
