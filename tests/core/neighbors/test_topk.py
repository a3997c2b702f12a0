import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.blocks import ArrayRows, StackedRows, Tiling, blocks
from pipeline.core.neighbors.topk import TopK, best_first, merge, search
from pipeline.core.products import int8_codes as quantize
from pipeline.core.products import tiles
from pipeline.core.products.kernels import pair_scores
from tests import oracles
from tests.core.products.test_int8_codes import KINDS, rows_of
from tests.core.strategies import cases, tilings, unit_rows

PRODUCTS = ["auto", "principal", "int8", "float32", "float16"]


@pytest.fixture(autouse=True)
def instructions(monkeypatch):
    """`auto` codes on any machine, however few the rows."""
    monkeypatch.setattr(tiles, "fast", lambda: True)
    monkeypatch.setattr(tiles, "_WORTH_MEETING", 0)


def as_lists(found):
    return [
        [(float(s), int(r)) for s, r in zip(scores, rows, strict=True) if r >= 0]
        for scores, rows in zip(found.scores, found.rows, strict=True)
    ]


@given(cases(), st.integers(1, 50), tilings, st.sampled_from(PRODUCTS))
def test_equals_the_naive_loop_in_every_tiling(case, k, tiling, products):
    found = search(case.queries, case.gallery, k, tiling=tiling, products=products)
    assert as_lists(found) == oracles.top_k(case.queries, case.gallery, k)


@given(cases(), st.integers(1, 50), st.integers(0, 9), tilings, st.sampled_from(PRODUCTS))
def test_a_row_never_finds_itself(case, k, offset, tiling, products):
    queries = case.gallery[offset : offset + 5]
    found = search(queries, case.gallery, k, self_offset=offset, tiling=tiling, products=products)
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
    ("tiling", "count"),  # the smallest tiles are slow: few rows have many of them
    [(Tiling(3, 5), 90), (Tiling(7, 64, 1), 300), (Tiling(64, 7), 300), (Tiling(999, 999), 300)],
)
@pytest.mark.parametrize("d", [3, 128, 513])
def test_bits_of_real_scores_do_not_depend_on_the_tiling(tiling, count, d):
    gallery = unit_rows(count, d, clusters=20)
    queries = gallery[: count * 3 // 10]
    reference = search(queries, gallery, 12, products="float32")
    for products in PRODUCTS:
        found = search(queries, gallery, 12, tiling=tiling, products=products)
        assert found.scores.tobytes() == reference.scores.tobytes()
        assert found.rows.tobytes() == reference.rows.tobytes()


def all_scores(queries, gallery):
    return np.array(
        [pair_scores(queries, gallery, np.full(len(gallery), q), np.arange(len(gallery)))
         for q in range(len(queries))]
    )  # fmt: skip


@given(
    st.sampled_from(KINDS),
    st.integers(1, 30),
    st.integers(1, 120),
    st.sampled_from([1, 2, 16, 63, 128, 300, 513, 2048]),
    st.integers(1, 130),
    st.sampled_from([Tiling(16, 64, 1), Tiling(64, 64, 2), Tiling(65, 1000, 2), Tiling()]),
    st.sampled_from(PRODUCTS),
    st.integers(0, 9),
)
def test_rows_of_every_kind_are_found_by_score(kind, q, g, d, k, tiling, products, seed):
    rows = rows_of(kind, q + g, d, seed)
    rows[np.random.default_rng(seed).random(q + g) < 0.1] = 0
    queries, gallery = rows[:q], rows[q:]
    found = search(queries, gallery, k, tiling=tiling, products=products)
    scores = all_scores(queries, gallery)
    expected = best_first(scores, np.tile(np.arange(g), (q, 1)), min(k, g))
    assert found.rows.tobytes() == expected.rows.tobytes()
    assert found.scores.tobytes() == expected.scores.tobytes()


@pytest.mark.parametrize("products", PRODUCTS)
@pytest.mark.parametrize("q", [64, 65, 150])
def test_queries_of_several_strips_are_searched(q, products):
    rows = rows_of("falling", 300, 64)
    found = search(rows[:q], rows, 9, tiling=Tiling(q, q, 1), products=products)
    expected = best_first(all_scores(rows[:q], rows), np.tile(np.arange(300), (q, 1)), 9)
    assert found.rows.tobytes() == expected.rows.tobytes()
    assert found.scores.tobytes() == expected.scores.tobytes()


@pytest.mark.parametrize("products", PRODUCTS)
def test_scores_that_underflow_are_found_too(products):
    rows = unit_rows(300, 64) * np.float32(2e-22)
    found = search(rows[:20], rows, 9, products=products, tiling=Tiling(64, 64))
    scores = all_scores(rows[:20], rows)
    expected = best_first(scores, np.tile(np.arange(300), (20, 1)), 9)
    assert found.rows.tobytes() == expected.rows.tobytes()


def test_tiles_that_are_given_up_are_gone_on_with():
    collapsed = unit_rows(1, 64) + 1e-4 * unit_rows(1024, 64)
    found = search(collapsed[:100], collapsed, 3, tiling=Tiling(64, 64, 1))
    reference = search(collapsed[:100], collapsed, 3, products="float32")
    assert found.rows.tobytes() == reference.rows.tobytes()


@pytest.mark.parametrize("products", ["int8", "float32"])
@pytest.mark.parametrize("side", ["query", "gallery row"])
@pytest.mark.parametrize(
    ("value", "message"),
    [(np.nan, "3 is not finite"), (-np.inf, "3 is not finite"), (1e19, "3 has length 2e\\+19")],
)
def test_rows_whose_scores_float32_cannot_hold_are_told(side, value, message, products):
    queries, gallery = unit_rows(5, 4), unit_rows(5, 4)
    (queries if side == "query" else gallery)[3] = value
    with pytest.raises(ValueError, match=f"^{side} {message}"):
        search(queries, gallery, 1, products=products)


def test_a_bound_a_hair_too_small_is_noticed(monkeypatch):
    """A query whose residual lies along a row: the codes see 0, and the error reaches the bound."""
    monkeypatch.setattr(quantize, "_worth_rotating", lambda *_: False)
    query = np.full((1, 512), 0.49 * 10 / 127, np.float32)
    query[0, :4] = 10
    gallery = np.zeros((2, 512), np.float32)
    gallery[:, 4:] = 1
    gallery[0] = 0
    gallery[0, :4] = 0.999 * 508 * query[0, 4] / 40

    def best(products):
        return search(query, gallery, 1, products=products, tiling=Tiling(1, 1)).rows.tolist()

    assert best("float32") == best("int8") == [[1]]
    bound = quantize.Codes.bound
    monkeypatch.setattr(quantize.Codes, "bound", lambda *tile: 0.998 * bound(*tile))
    assert best("int8") == [[0]]


@pytest.mark.parametrize("products", PRODUCTS)
def test_duplicates_and_collapsed_rows_keep_the_order_of_rows(products):
    same = np.repeat(unit_rows(1, 512), 200, axis=0)
    found = search(same, same, 5, self_offset=0, tiling=Tiling(16, 32), products=products)
    assert found.rows[0].tolist() == [1, 2, 3, 4, 5]
    assert found.rows[3].tolist() == [0, 1, 2, 4, 5]


def test_differences_at_the_float32_limit_are_seen():
    rows = np.full((64, 512), 512**-0.5, np.float32)
    rows[:, 0] += np.arange(64, dtype=np.float32) * np.float32(2**-17)
    found = search(rows[:1], rows, 64)
    # Neighboring similarities differ by 2^-21.5, a few roundings: far less than a product's slack.
    assert found.rows[0].tolist() == list(range(63, -1, -1))


def test_more_neighbors_than_rows_are_not_invented():
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


def test_more_neighbors_than_rows_take_no_memory():
    rows = unit_rows(5, 8)
    assert as_lists(search(rows, rows, 10**12)) == as_lists(search(rows, rows, 5))
