import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.blocks import ArrayRows, StackedRows, Tiling, blocks
from pipeline.core.neighbors.pairs import between, neighbors
from pipeline.core.neighbors.topk import TopK, merge, search
from pipeline.core.products import fold, tiles
from pipeline.core.products import int8_codes as quantize
from tests import oracles
from tests.core.neighbors.test_topk import as_lists
from tests.core.products.test_int8_codes import KINDS, rows_of
from tests.core.products.test_kernels import all_pairs
from tests.core.strategies import cases, tilings, unit_rows
from tests.examples import FEW

PRODUCTS = ["auto", "principal", "int8", "float32", "float16"]


@pytest.fixture(autouse=True)
def instructions(monkeypatch):
    """`auto` codes on any machine, however few the rows."""
    monkeypatch.setattr(tiles, "fast", lambda: True)
    monkeypatch.setattr(tiles, "_WORTH_MEETING", 0)


def assert_same(found, reference):
    assert found.rows.tobytes() == reference.rows.tobytes()
    assert found.scores.tobytes() == reference.scores.tobytes()
    assert found.rows.shape == reference.rows.shape


def exact(rows, k):
    return search(rows, rows, k, self_offset=0, products="float32")


def assert_exact(rows, k, products="auto", tiling=Tiling()):
    assert_same(neighbors(rows, k, products=products, tiling=tiling), exact(rows, k))


@given(cases(), st.integers(1, 50), tilings, st.sampled_from(PRODUCTS))
def test_equals_the_naive_loop_in_every_tiling(case, k, tiling, products):
    rows = case.gallery[case.gallery.any(axis=1)]
    found = neighbors(rows, k, tiling=tiling, products=products)
    assert as_lists(found) == oracles.top_k(rows, rows, k, self_offset=0)


@given(
    st.sampled_from(KINDS),
    st.integers(0, 150),
    st.sampled_from([1, 2, 16, 63, 128, 300, 513, 2048]),
    st.integers(1, 170),
    st.sampled_from([Tiling(16, 64, 1), Tiling(64, 64, 2), Tiling(65, 1000, 2), Tiling()]),
    st.sampled_from(PRODUCTS),
    st.integers(0, 9),
)
def test_equals_search_to_the_bit(kind, n, d, k, tiling, products, seed):
    assert_exact(rows_of(kind, n, d, seed), k, products, tiling)


@pytest.mark.parametrize("products", PRODUCTS)
@pytest.mark.parametrize(("n", "d", "k", "clusters"), [(3000, 256, 10, 200), (1500, 65, 40, 3)])
def test_equals_search_where_tiles_are_many(n, d, k, clusters, products):
    rows = unit_rows(n, d, clusters=clusters)
    reference = exact(rows, k)
    for threads in (1, 2):
        found = neighbors(rows, k, products=products, tiling=Tiling(128, 128, threads))
        assert_same(found, reference)


@pytest.mark.parametrize("products", PRODUCTS)
def test_duplicates_keep_the_order_of_rows(products):
    same = np.repeat(unit_rows(1, 512), 500, axis=0)
    found = neighbors(same, 3, products=products, tiling=Tiling(64, 64))
    assert found.rows[[0, 2, 499]].tolist() == [[1, 2, 3], [0, 1, 3], [0, 1, 2]]
    assert_exact(np.tile(unit_rows(40, 512), (10, 1)), 15, products, Tiling(64, 64))


@pytest.mark.parametrize("products", PRODUCTS)
def test_rows_a_rounding_apart_are_told_apart(products):
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((600, 512)).astype(np.float32)
    assert_exact(unit_rows(1, 512) + noise * np.float32(2e-8), 9, products, Tiling(64, 64))
    assert_exact(np.sign(noise) * 512**-0.5 + noise * 3e-9, 9, products, Tiling(64, 64))


def residual_against_row(height, spread):
    """Rows where the codes' error reaches the bound, and a rival a hair below decides.

    Row 0 is four large components and 508 that are coded as 0; its best row is row 64, of which the
    large ones see nothing, and the codes neither. Row 1, in the block of row 0, is worse by a
    hundred-thousandth. The other rows fill the two blocks, and the `height` of row 64 says which of
    the two stands first; with its components in `spread` places, row 1 fits between.
    """
    rows = np.zeros((128, 512), np.float32)
    rows[0, :4], rows[0, 4:] = 10, 0.49 * 10 / 127
    rows[1, :spread] = rows[0, 4] * height * 508 / (10 * spread) * (1 - 1e-5)
    rows[2:64, :4] = -10
    rows[64:66, 4:] = height
    rows[66:, 4] = -height
    return rows


@pytest.mark.parametrize(("height", "spread"), [(1, 1), (20, 4)])
def test_a_bound_a_hair_too_small_is_noticed(height, spread, monkeypatch):
    monkeypatch.setattr(quantize, "_worth_rotating", lambda *_: False)
    rows = residual_against_row(height, spread)
    assert search(rows, rows, 1, self_offset=0).rows[0] == 64
    assert_exact(rows, 1, "int8", Tiling(64, 64))
    bound = quantize.Codes.bound
    monkeypatch.setattr(quantize.Codes, "bound", lambda *tile: 0.999 * bound(*tile))
    assert neighbors(rows, 1, products="int8", tiling=Tiling(64, 64)).rows[0] == 1


@pytest.mark.parametrize(("products", "coded", "floats"), [("int8", 36, 0), ("float32", 0, 36)])
def test_the_products_are_those_asked_for(products, coded, floats, monkeypatch):
    calls = counted(monkeypatch)
    neighbors(unit_rows(512, 32), 3, products=products, tiling=Tiling(64, 64))
    assert (len(calls["_codes"]), len(calls["_floats"])) == (coded, floats)


def test_tiles_that_are_given_up_are_gone_on_with():
    collapsed = unit_rows(1, 64) + 1e-4 * unit_rows(1024, 64)
    assert_exact(collapsed, 3, "auto", Tiling(64, 64, 1))


def test_codes_are_left_where_they_exclude_little_and_taken_where_they_do(monkeypatch):
    calls = counted(monkeypatch)
    collapsed = unit_rows(1, 64) + 1e-4 * unit_rows(1024, 64)
    neighbors(collapsed, 3, tiling=Tiling(64, 64, 1))
    assert len(calls["_codes"]) < 136 / 4
    assert len(calls["_floats"]) > 136 * 3 / 4
    calls = counted(monkeypatch)
    neighbors(unit_rows(1024, 64, clusters=100), 3, tiling=Tiling(64, 64, 1))
    assert len(calls["_codes"]) > 136 / 2


def test_without_the_instructions_tiles_are_of_float32(monkeypatch):
    monkeypatch.setattr(tiles, "fast", lambda: False)
    calls = counted(monkeypatch)
    neighbors(unit_rows(300, 64), 3, tiling=Tiling(64, 64))
    assert not calls["_codes"]


def test_rows_that_meet_few_others_are_not_coded(monkeypatch):
    monkeypatch.setattr(tiles, "_WORTH_MEETING", 256)
    calls = counted(monkeypatch)
    between(unit_rows(2, 64), unit_rows(600, 64), 3)
    assert not calls["_codes"]
    between(unit_rows(600, 64), unit_rows(600, 64, seed=1), 3)
    assert calls["_codes"]


def counted(monkeypatch):
    calls = {}
    for name in ("_codes", "_floats"):
        calls[name], plain = [], getattr(fold.Fold, name)

        def counting(self, *args, plain=plain, seen=calls[name]):
            seen.append(args)
            return plain(self, *args)

        monkeypatch.setattr(fold.Fold, name, counting)
    return calls


def numbered(found, first_row):
    """What was found, with rows counted from `first_row`."""
    return TopK(found.scores, np.where(found.rows < 0, -1, found.rows + first_row))


def assert_exact_between(first, second, k, products="auto", tiling=Tiling()):
    options = {"tiling": tiling, "products": products}
    there, back = between(first, second, k, first_row=1000, second_row=5, **options)
    reference = search(first, second, k, products="float32")
    assert_same(there, numbered(reference, 5))
    reference = search(second, first, k, products="float32")
    assert_same(back, numbered(reference, 1000))


@given(cases(), st.integers(1, 50), tilings, st.sampled_from(PRODUCTS))
def test_between_equals_the_naive_loop_in_every_tiling(case, k, tiling, products):
    first, second = (rows[rows.any(axis=1)] for rows in (case.queries, case.gallery))
    there, back = between(first, second, k, tiling=tiling, products=products)
    assert as_lists(there) == oracles.top_k(first, second, k)
    assert as_lists(back) == oracles.top_k(second, first, k)


@given(
    st.sampled_from(KINDS),
    st.integers(0, 90),
    st.integers(0, 150),
    st.sampled_from([1, 2, 16, 63, 128, 300, 513, 2048]),
    st.integers(1, 170),
    st.sampled_from([Tiling(16, 64, 1), Tiling(64, 64, 2), Tiling(65, 1000, 2), Tiling()]),
    st.sampled_from(PRODUCTS),
    st.integers(0, 9),
)
def test_between_equals_search_to_the_bit(kind, n, m, d, k, tiling, products, seed):
    rows = rows_of(kind, n + m, d, seed)
    assert_exact_between(rows[:n], rows[n:], k, products, tiling)


@pytest.mark.parametrize("products", PRODUCTS)
def test_between_equals_search_where_tiles_are_many(products):
    rows = unit_rows(3000, 256, clusters=200)
    for cut, threads in ((1500, 2), (2999, 1), (64, 2)):
        assert_exact_between(rows[:cut], rows[cut:], 10, products, Tiling(128, 128, threads))


@settings(max_examples=40)
@given(cases(min_gallery=2), st.integers(1, 20), st.data())
def test_parts_make_up_the_whole(case, k, data):
    rows = case.gallery[case.gallery.any(axis=1)]
    size = data.draw(st.integers(max(1, len(rows) // 6), 40))
    products = data.draw(st.sampled_from(PRODUCTS))
    parts = list(blocks(len(rows), size))
    lists = {part: [] for part in parts}
    least = np.full(len(rows), np.inf, np.float32)
    for x, (a, b) in enumerate(parts):
        lists[a, b].append(neighbors(rows[a:b], k, first_row=a, least=least[a:b]))
        for c, d in parts[x + 1 :]:
            there, back = between(
                rows[a:b], rows[c:d], k,
                first_row=a, second_row=c, least=(least[a:b], least[c:d]), products=products,
            )  # fmt: skip
            lists[a, b].append(there)
            lists[c, d].append(back)
    whole = neighbors(rows, k)
    assert least.tolist() == least_of(rows).tolist()
    for (a, b), found in lists.items():
        merged = merge(data.draw(st.permutations(found)), k)
        assert_same(merged, TopK(whole.scores[a:b], whole.rows[a:b]))


def least_of(rows):
    """The least exact score of every row with another."""
    n = len(rows)
    scores = all_pairs(rows, rows)
    scores[np.arange(n), np.arange(n)] = np.inf
    return scores.min(axis=1, initial=np.inf)


def assert_least(first, second, k, products, tiling):
    """The least scores of one set, and between two, come beside the same neighbors."""
    options = {"products": products, "tiling": tiling}
    rows = np.concatenate([first, second])
    least = np.full(len(rows), np.inf, np.float32)
    assert_same(neighbors(rows, k, least=least, **options), neighbors(rows, k, **options))
    assert least.tobytes() == least_of(rows).tobytes()
    scores = all_pairs(first, second)
    # What is known already stands where it is less.
    known = np.float32(0.1), np.float32(-0.1)
    there, back = np.full(len(first), known[0]), np.full(len(second), known[1])
    found = between(first, second, k, least=(there, back), **options)
    for one, other in zip(found, between(first, second, k, **options), strict=True):
        assert_same(one, other)
    assert there.tobytes() == scores.min(axis=1, initial=known[0]).tobytes()
    assert back.tobytes() == scores.min(axis=0, initial=known[1]).tobytes()


@FEW
@given(cases(min_gallery=2), st.integers(1, 50), tilings, st.sampled_from(PRODUCTS))
def test_least_scores_come_in_the_same_pass(case, k, tiling, products):
    rows = case.gallery[case.gallery.any(axis=1)]
    assert_least(rows[:3], rows[3:], k, products, tiling)


@FEW
@given(
    st.sampled_from(KINDS),
    st.integers(1, 90),
    st.integers(0, 150),
    st.sampled_from([1, 2, 16, 63, 128, 300, 513, 2048]),
    st.sampled_from([Tiling(16, 64, 1), Tiling(64, 64, 2), Tiling(65, 1000, 2), Tiling()]),
    st.sampled_from(PRODUCTS),
    st.integers(0, 9),
)
def test_least_scores_are_those_of_all_pairs(kind, n, m, d, tiling, products, seed):
    rows = rows_of(kind, n + m, d, seed)
    assert_least(rows[:n], rows[n:], 3, products, tiling)


@pytest.mark.parametrize("products", PRODUCTS)
def test_least_scores_see_differences_of_a_rounding(products):
    rng = np.random.default_rng(0)
    rows = unit_rows(1, 512) + rng.standard_normal((300, 512)).astype(np.float32) * 2e-8
    rows[::2] *= -1
    assert_least(rows[:90], rows[90:], 4, products, Tiling(64, 64))


@pytest.mark.parametrize(("height", "spread"), [(1, 1), (20, 4)])
def test_a_bound_a_hair_too_small_is_noticed_in_the_least_scores(height, spread, monkeypatch):
    monkeypatch.setattr(quantize, "_worth_rotating", lambda *_: False)
    rows = residual_against_row(height, spread)
    rows[0] *= -1
    rows[66] = -rows[64]  # so that row 64 does not look for its own least in row 0
    options = {"products": "int8", "tiling": Tiling(64, 64)}
    exact = least_of(rows)
    assert all_pairs(rows[:1], rows[64:65]) == exact[0] < all_pairs(rows[:1], rows[1:2])
    least = np.full(len(rows), np.inf, np.float32)
    neighbors(rows, 1, least=least, **options)
    assert least.tobytes() == exact.tobytes()
    bound = quantize.Codes.bound
    monkeypatch.setattr(quantize.Codes, "bound", lambda *tile: 0.999 * bound(*tile))
    least = np.full(len(rows), np.inf, np.float32)
    neighbors(rows, 1, least=least, **options)
    assert least[0] == all_pairs(rows[:1], rows[1:2])


def test_least_scores_need_an_array_that_holds_them():
    rows = unit_rows(3, 4)
    for wrong in (np.zeros(2, np.float32), np.zeros(3), np.zeros((3, 1), np.float32)):
        with pytest.raises(ValueError, match=r"least must be float32 \[3\], not float"):
            neighbors(rows, 1, least=wrong)
    with pytest.raises(ValueError, match="least scores are wanted of both sides, or of neither"):
        between(rows, rows, 1, least=(np.zeros(3, np.float32), None))


@FEW
@given(cases(min_gallery=3), st.integers(1, 12), st.integers(1, 12), tilings)
def test_what_is_known_takes_part(case, k, held, tiling):
    rows = case.gallery[case.gallery.any(axis=1)]
    third = len(rows) // 3
    old, new = rows[: 2 * third], rows[2 * third :]
    known = neighbors(old, held)
    there, back = between(old, new, k, second_row=len(old), known=(known, None), tiling=tiling)
    assert_same(there, merge([known, numbered(search(old, new, k), len(old))], k))
    assert_same(back, search(new, old, k))
    whole = neighbors(new, k, first_row=len(old), known=back, tiling=tiling)
    everyone = search(rows, rows, k, self_offset=0)
    assert_same(whole, TopK(everyone.scores[len(old) :], everyone.rows[len(old) :]))


def test_rows_may_come_from_anywhere():
    rows = unit_rows(90, 16)
    union = StackedRows(ArrayRows(rows[:40]), ArrayRows(rows[40:]))
    assert_same(neighbors(union, 4), search(rows, rows, 4, self_offset=0))
    rows.flags.writeable = False
    assert_exact(rows, 4, "float32")


def test_a_tile_is_no_larger_than_the_rows():
    assert_exact(unit_rows(9, 16), 4, "int8", Tiling(10**9, 10**9))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.nan, "row 7 is not finite"),
        (np.inf, "row 7 is not finite"),
        (-np.inf, "row 7 is not finite"),
        (0, "row 7 has length 0"),
        (1e19, "row 7 has length 2e\\+19: float32"),
        (1e-30, "row 7 has length 2e-30: float32"),
    ],
)
def test_rows_that_cannot_be_compared_are_told(value, message):
    rows = unit_rows(9, 4)
    rows[7] = value
    for products in PRODUCTS:
        with pytest.raises(ValueError, match=message):
            neighbors(rows, 2, products=products, tiling=Tiling(4, 4))
        with pytest.raises(ValueError, match=message):
            between(unit_rows(3, 4), rows[5:], 2, second_row=5, products=products)


def test_wrong_arguments_are_told(monkeypatch):
    with pytest.raises(ValueError, match="k must be at least 1"):
        neighbors(unit_rows(3, 4), 0)
    with pytest.raises(ValueError, match="products must be auto"):
        neighbors(unit_rows(3, 4), 1, products="int4")
    with pytest.raises(ValueError, match="rows of 4 and 5 dimensions"):
        between(unit_rows(3, 4), unit_rows(3, 5), 1)
    with pytest.raises(ValueError, match="known neighbors of 2 rows do not go with 3 rows"):
        neighbors(unit_rows(3, 4), 1, known=neighbors(unit_rows(2, 4), 1))
    monkeypatch.setattr(tiles, "can_code", lambda _: False)
    with pytest.raises(ValueError, match="int8 products of 4 dimensions are not exact"):
        neighbors(unit_rows(3, 4), 1, products="int8")
    assert_exact(unit_rows(300, 4), 2, "auto", Tiling(64, 64))


def test_rows_may_have_any_numbers():
    rows = np.ones((9, 3), np.float32)  # every pair ties: the numbers decide
    numbers = np.array([3, 7, 8]), np.array([0, 2, 4, 5, 6, 9])
    there, back = between(rows[:3], rows[3:], 4, first_row=numbers[0], second_row=numbers[1])
    assert there.rows.tolist() == [[0, 2, 4, 5]] * 3
    assert back.rows.tolist() == [[3, 7, 8]] * 6
    known = TopK(np.full((3, 2), 3, np.float32), np.array([[1, 5]] * 3))
    found = neighbors(rows[:3], 3, first_row=numbers[0], known=known)
    assert found.rows.tolist() == [[1, 5, 7], [1, 3, 5], [1, 3, 5]]
