import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.blocks import ArrayRows, StackedRows, Tiling, blocks
from pipeline.core.kernels import pair_scores
from pipeline.core.topk import TopK, merge, search
from tests import oracles
from tests.core.strategies import cases, tilings, unit_rows


def as_lists(found):
    return [
        [(float(s), int(r)) for s, r in zip(scores, rows, strict=True) if r >= 0]
        for scores, rows in zip(found.scores, found.rows, strict=True)
    ]


@given(cases(), st.integers(1, 50), tilings)
def test_equals_the_naive_loop_in_every_tiling(case, k, tiling):
    found = search(case.queries, case.gallery, k, tiling=tiling)
    assert as_lists(found) == oracles.top_k(case.queries, case.gallery, k)


@given(cases(), st.integers(1, 50), st.integers(0, 9), tilings)
def test_a_row_never_finds_itself(case, k, offset, tiling):
    queries = case.gallery[offset : offset + 5]
    found = search(queries, case.gallery, k, self_offset=offset, tiling=tiling)
    assert as_lists(found) == oracles.top_k(queries, case.gallery, k, self_offset=offset)


@given(cases(min_gallery=2), st.integers(1, 20), st.data())
def test_parts_merge_in_any_order(case, k, data):
    size = data.draw(st.integers(1, len(case.gallery)))
    parts = data.draw(st.permutations(list(blocks(len(case.gallery), size))))
    found = [search(case.queries, case.gallery, k, part=part) for part in parts]
    whole = search(case.queries, case.gallery, k)
    assert as_lists(merge(found)) == as_lists(whole)
    assert as_lists(merge([merge(found[:1]), *found[1:]])) == as_lists(whole)


@pytest.mark.parametrize(
    "tiling", [Tiling(1, 1), Tiling(7, 64, 1), Tiling(64, 7), Tiling(999, 999)]
)
@pytest.mark.parametrize("d", [3, 128, 513])
def test_bits_of_real_scores_do_not_depend_on_the_tiling(tiling, d):
    gallery = unit_rows(300, d, clusters=20)
    reference = search(gallery[:90], gallery, 12)
    found = search(gallery[:90], gallery, 12, tiling=tiling)
    assert found.scores.tobytes() == reference.scores.tobytes()
    assert found.rows.tobytes() == reference.rows.tobytes()


def test_duplicates_and_collapsed_rows_keep_the_order_of_rows():
    same = np.repeat(unit_rows(1, 512), 200, axis=0)
    found = search(same, same, 5, self_offset=0, tiling=Tiling(16, 32))
    assert found.rows[0].tolist() == [1, 2, 3, 4, 5]
    assert found.rows[3].tolist() == [0, 1, 2, 4, 5]


def test_differences_at_the_float32_limit_are_seen():
    rows = np.full((64, 512), 512**-0.5, np.float32)
    rows[:, 0] += np.arange(64, dtype=np.float32) * np.float32(2**-17)
    found = search(rows[:1], rows, 64)
    # Neighbouring similarities differ by 2^-21.5, a few roundings: far less than a product's slack.
    assert found.rows[0].tolist() == list(range(63, -1, -1))


def test_more_neighbours_than_rows_are_not_invented():
    assert search(unit_rows(2, 4), unit_rows(3, 4), 10).k == 3
    assert search(unit_rows(3, 4), unit_rows(3, 4), 3, self_offset=0).rows[0, 2] == -1
    assert search(unit_rows(2, 4), np.empty((0, 4), np.float32), 10).k == 0


def test_stacked_rows_are_searched_as_one():
    first, second = unit_rows(13, 8), unit_rows(29, 8, seed=1)
    union = StackedRows(ArrayRows(first), ArrayRows(second))
    plain = search(first, np.vstack([first, second]), 6, self_offset=0)
    found = search(first, union, 6, self_offset=0, tiling=Tiling(4, 5))
    assert found.rows.tolist() == plain.rows.tolist()
    picked = np.array([40, 0, 13, 12])
    assert (union.take(picked) == np.vstack([first, second])[picked]).all()


def test_read_only_features_are_searched_without_a_warning(recwarn):
    gallery = unit_rows(20, 8)
    gallery.flags.writeable = False
    search(gallery, gallery, 3)
    assert not recwarn.list


@pytest.mark.parametrize(
    ("scores", "rows", "message"),
    [
        ([[1.0, 2.0]], [[0, 1]], "out of order"),
        ([[1.0, 1.0]], [[1, 0]], "out of order"),
        ([[1.0, 1.0]], [[1, 1]], "out of order or repeated"),
        ([[1.0, -np.inf]], [[0, 1]], "padding"),
        ([[1.0, 0.5]], [[0, -1]], "padding"),
        ([[np.nan]], [[0]], "NaN"),
        ([[1.0, 0.5]], [[0]], "one shape"),
    ],
)
def test_a_wrong_list_cannot_be_made(scores, rows, message):
    with pytest.raises(ValueError, match=message):
        TopK(np.array(scores, np.float32), np.array(rows, np.int64))


def test_a_wrong_type_cannot_be_made():
    with pytest.raises(ValueError, match="float32"):
        TopK(np.zeros((1, 1)), np.zeros((1, 1), np.int64))


def test_wrong_arguments_are_told():
    with pytest.raises(ValueError, match="k must be at least 1"):
        search(unit_rows(1, 4), unit_rows(2, 4), 0)
    with pytest.raises(ValueError, match="4 dimensions, the gallery 5"):
        search(unit_rows(1, 4), unit_rows(2, 5), 1)


def test_what_a_product_would_order_wrongly_is_ordered_by_score():
    """Rows a rounding apart: the product of blocks alone, without its slack, fails here."""
    rng = np.random.default_rng(0)
    rows = unit_rows(1, 512) + rng.standard_normal((2000, 512)).astype(np.float32) * 2e-8
    queries = unit_rows(1, 512, seed=5).repeat(4, axis=0)
    columns = np.arange(len(rows))
    found = search(queries, rows, 50, tiling=Tiling(4, 256))
    for i in range(len(queries)):
        exact = pair_scores(queries, rows, np.full(len(rows), i), columns)
        assert found.rows[i].tolist() == oracles.sorted_rows(exact, columns)[:50]
