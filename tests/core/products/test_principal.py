import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.blocks import Tiling
from pipeline.core.evaluation import ranking
from pipeline.core.evaluation.labels import Labels
from pipeline.core.evaluation.ranking import rank_counts
from pipeline.core.neighbors import course, topk
from pipeline.core.neighbors.pairs import neighbors
from pipeline.core.neighbors.topk import search
from pipeline.core.products import choosing, principal, tiles
from pipeline.core.products.fold import Fold
from pipeline.core.products.kernels import lengths, pair_scores
from pipeline.core.products.principal import Axes, gather, may_project, principal_axes, project
from pipeline.core.products.tiles import Chosen, Side, here
from tests.core.products.test_int8_codes import KINDS, rows_of
from tests.core.products.test_kernels import all_pairs
from tests.core.strategies import unit_rows


def lengths_of(rows):
    out = np.empty(len(rows), np.float64)
    lengths(rows, out)
    return out


def led(rows, axes, count, size, finer=0):
    side = Side(rows, lengths_of(rows), size, coded=True)
    side.lead(axes, Chosen(count, finer), here)
    return side


@pytest.fixture(params=["words", "codes"], autouse=True)
def words(request, monkeypatch):
    """Codes of 16 bits for few dimensions, as where there is AVX2, and of 8 bits."""
    if request.param == "words" and not tiles.has_avx2():
        pytest.skip("needs AVX2")
    monkeypatch.setattr(tiles, "in_words", lambda _: request.param == "words")


@pytest.mark.parametrize("after", [1, 20, 64, 149])
def test_codes_go_on_with_the_row_at_which_leading_dimensions_give_up(after, monkeypatch):
    rows = rows_of("falling", 150, 64)
    side = led(rows, principal_axes(rows, 15), 15, 150)
    side.codes(here)
    met = []

    def offer(tile):
        """Read a tile to its end, or to the row `after` which the leading dimensions give up."""
        height, ready = after if len(tile.row_tails) else len(tile.rows), 0
        for row in range(height):
            if row == ready:
                base, ready = tiles.next_strip(tile.strips, row, len(tile.rows), tile.values)
            met.append((tile.rows[row], tile.values[row - base] / tile.per_unit, tile.slack))
        return height, 0

    Fold("auto")(side, 0, side, 0, offer)
    assert [row for row, *_ in met] == side.places(0).tolist()
    scores = all_pairs(rows, rows)[:, side.places(0)]
    for row, values, slack in met[after:]:
        assert np.abs(scores[row] - values).max() <= slack


@given(
    st.sampled_from(KINDS),
    st.integers(1, 40),
    st.sampled_from([1, 2, 3, 31, 64, 65, 512]),
    st.integers(1, 70),
    st.integers(1, 50),
    st.integers(0, 99),
)
def test_no_score_lies_beyond_the_bounds(kind, n, d, count, size, seed):
    rows = rows_of(kind, n, d, seed)
    rows[::5] = 0
    axes = principal_axes(rows, min(count, d))
    count = len(axes.directions)
    side = led(rows, axes, count, size)
    held = side.leading
    for x in range(len(side)):
        for y in range(len(side)):
            i, j = np.meshgrid(side.places(x), side.places(y), indexing="ij")
            scores = pair_scores(rows, rows, i.ravel(), j.ravel()).reshape(i.shape)
            buffer = np.empty(10**6, np.int32)
            products = held.codes.product(x, held.codes, y, buffer)
            near = held.codes.unit(x, held.codes, y) * products
            bound = held.bound(x, held, y)
            below = 2.0 * np.outer(held.tails[side.places(x)], held.tails[side.places(y)])
            assert (scores <= near + bound).all()
            assert (scores >= near - below - bound).all()


def exact_bounds(rows, axes, count):
    """The products of whole rows, and the bounds that projections in float32 give, in float64."""
    out = project(rows, lengths_of(rows), axes, count, here, 7).astype(np.float64)
    upper = out @ out.T
    length = np.outer(lengths_of(rows), lengths_of(rows))
    loose = axes.slack(count) * length
    lower = upper - 2 * np.outer(out[:, count], out[:, count])
    wide = rows.astype(np.float64)
    return lower - loose, wide @ wide.T, upper + loose


@pytest.mark.parametrize("stretch", [1, 1.02, 0.98])
def test_axes_may_be_skew_if_that_is_told(stretch):
    rows = rows_of("falling", 200, 96)
    axes = principal_axes(rows, 12)
    skewed = axes.directions * np.float32(stretch)
    skewed[1] += 0.5 * abs(stretch - 1) * skewed[0]
    exact = skewed.astype(np.float64)
    skew = np.linalg.norm(exact @ exact.T - np.eye(12)) + 1e-9
    lower, scores, upper = exact_bounds(rows, Axes(skewed, skew), 12)
    assert (lower <= scores).all()
    assert (scores <= upper).all()
    if stretch > 1:  # shorter projections leave longer tails, which is safe
        lower, scores, upper = exact_bounds(rows, Axes(skewed, 0), 12)
        assert (lower > scores).any() or (scores > upper).any()


def test_axes_are_orthonormal_but_for_their_skew():
    for kind in KINDS:
        axes = principal_axes(rows_of(kind, 300, 128), 64)
        exact = axes.directions.astype(np.float64)
        far = np.linalg.norm(exact @ exact.T - np.eye(len(exact)))
        assert far <= axes.skew < 1e-4


def test_what_projections_round_is_accounted_for(monkeypatch):
    """Rows within the space of the axes: all that their tails are for is what is rounded."""
    rng = np.random.default_rng(0)
    axes = principal_axes(rng.standard_normal((400, 300)).astype(np.float32), 40)
    rows = (rng.standard_normal((300, 40)) @ axes.directions).astype(np.float32)
    lower, scores, upper = exact_bounds(rows, axes, 40)
    assert (lower <= scores).all()
    assert (scores <= upper).all()
    monkeypatch.setattr(Axes, "error", lambda *_: 0.0)
    monkeypatch.setattr(principal, "_SPARE", 0.0)
    lower, scores, upper = exact_bounds(rows, axes, 40)
    assert (lower > scores).any()
    assert (scores > upper).any()


def test_the_leading_directions_come_first():
    rows = rows_of("falling", 3000, 96)
    directions = principal_axes(rows, 16).directions
    held = ((rows @ directions.T) ** 2).sum(axis=0) / (rows**2).sum()
    assert (np.diff(held) < 0).all()
    assert held.sum() > 0.93


def test_rows_too_short_or_too_long_are_not_projected():
    assert may_project(np.array([0, 1e-9, 1, 1e9]))
    assert not may_project(np.array([1, 1e-10]))
    assert not may_project(np.array([1, 1.1e9]))
    side = led(np.full((9, 4), 1e-12, np.float32), principal_axes(unit_rows(9, 4), 2), 2, 4)
    assert side.leading is None


@given(st.integers(1, 300), st.integers(1, 20), st.integers(1, 70), st.integers(0, 99))
def test_rows_are_gathered_each_once(n, count, size, seed):
    rows = np.random.default_rng(seed).standard_normal((n, count)).astype(np.float32)
    rows[::3] = rows[:1]
    assert sorted(gather(rows, size)) == list(range(n))


def test_rows_that_are_gathered_lie_close_together():
    rng = np.random.default_rng(0)
    centers = 9 * rng.standard_normal((8, 5))
    rows = (centers[rng.permutation(800) % 8] + rng.standard_normal((800, 5))).astype(np.float32)
    blocks = rows[gather(rows, 100)].reshape(8, 100, 5)
    assert blocks.var(axis=1).sum() < 0.2 * 8 * rows.var(axis=0).sum()


# A first component that all rows share, and tails: the axes know the first component alone.
WIDTH = 64
SHARED = np.float32(0.5**0.5)


def aligned(sign):
    """Rows of one leading part, whose tails decide, and reach the bounds.

    The tail of row 64 is `sign` times that of row 0, and the score the bound itself. Row 1, in the
    block of row 0, is a rival that is worse by 0.0005. All other tails are orthogonal to both.
    """
    rows = np.zeros((128, WIDTH), np.float32)
    rows[:, 0] = SHARED
    rows[0, 1] = SHARED
    rows[64, 1] = sign * SHARED
    rows[1, 1] = sign * SHARED * np.float32(0.999)
    rows[1, 2] = (0.5 - rows[1, 1] ** 2) ** 0.5
    for row in (*range(2, 64), *range(65, 128)):
        rows[row, 3 + row % (WIDTH - 3)] = SHARED
    # What row 64 looks for itself it has in its own block.
    rows[65] = rows[64]
    rows[66] = rows[64] * np.where(np.arange(WIDTH) == 1, -1, 1)
    return rows


@pytest.fixture
def first_component(monkeypatch):
    """Tiles of the first component and the tail."""
    axes = Axes(np.eye(1, WIDTH, dtype=np.float32), 1e-9)
    for module in (course, ranking, topk):
        monkeypatch.setattr(module, "likely_axes", lambda *_: axes)
    monkeypatch.setattr(choosing, "_counts", lambda *_: [1])
    monkeypatch.setattr(tiles, "gather", lambda rows, _: np.arange(len(rows)))
    monkeypatch.setattr(tiles, "in_words", lambda _: True)
    return axes


def shorten(monkeypatch):
    """Tails that are 1 % too short."""
    plain = principal._add_tails

    def short(rows, *rest):
        plain(rows, *rest)
        rows[:, -1] *= np.float32(0.99)

    monkeypatch.setattr(principal, "_add_tails", short)


# Heaps are primed with scores, so the pairs that a bound loses leave their places unfilled.
UNFILLED = "padding must be row -1"
OPTIONS = {"products": "principal", "tiling": Tiling(64, 64, 1)}


def test_tails_a_hair_too_short_are_noticed_in_neighbors(first_component, monkeypatch):
    rows = aligned(1)
    assert neighbors(rows, 1, **OPTIONS).rows[0] == 64
    shorten(monkeypatch)
    with pytest.raises(ValueError, match=UNFILLED):
        neighbors(rows, 1, **OPTIONS)


def test_tails_a_hair_too_short_are_noticed_in_a_search(first_component, monkeypatch):
    rows = aligned(1)
    assert search(rows[:1], rows, 1, self_offset=0, **OPTIONS).rows[0] == 64
    shorten(monkeypatch)
    with pytest.raises(ValueError, match=UNFILLED):
        search(rows[:1], rows, 1, self_offset=0, **OPTIONS)


def test_tails_a_hair_too_short_are_noticed_in_the_least_scores(first_component, monkeypatch):
    rows = aligned(-1)
    rows[[2, 65]] = 3 * SHARED * np.eye(1, WIDTH)  # nearer than any bound of the others
    exact = all_pairs(rows, rows)
    np.fill_diagonal(exact, np.inf)
    least = np.full(len(rows), np.inf, np.float32)
    neighbors(rows, 1, least=least, **OPTIONS)
    assert least.tobytes() == exact.min(axis=1).tobytes()
    assert least[0] == exact[0, 64] < exact[0, 1]
    shorten(monkeypatch)
    least = np.full(len(rows), np.inf, np.float32)
    neighbors(rows, 1, least=least, **OPTIONS)
    assert least[0] == exact[0, 1]


@pytest.mark.parametrize(("sign", "match", "rank"), [(1, 1, 2), (-1, 1, 1)])
def test_tails_a_hair_too_short_are_noticed_in_ranks(
    sign, match, rank, first_component, monkeypatch
):
    """One row at the bound, which beats the match, or is beaten: with short tails it is the other
    way around."""
    rows = aligned(sign)
    gallery = rows[[64, match]]
    labels = Labels(np.array([5]), np.array([0])), Labels(np.array([9, 5]), np.array([1, 1]))
    sides = rows[:1], labels[0], gallery, labels[1]
    options = {"products": "principal", "tiling": Tiling(1, 1, 1)}
    assert rank_counts(*sides, **options).ranks().tolist() == [rank]
    shorten(monkeypatch)
    assert rank_counts(*sides, **options).ranks().tolist() == [3 - rank]


def test_a_bound_a_hair_too_small_is_noticed(first_component, words, monkeypatch):
    """The best row is as far above its value as the codes, and what is rounded, leave open."""
    rows = aligned(1)
    side = led(rows, first_component, 1, 64)
    held = side.leading
    buffer = np.empty(10**5, np.int32)
    products = held.codes.product(0, held.codes, 1, buffer)
    at = side.places(0).tolist().index(0), side.places(1).tolist().index(64)
    near = held.codes.unit(0, held.codes, 1) * products[at]
    bound = held.bound(0, held, 1)
    rival = pair_scores(rows, rows, np.zeros(1, np.int64), np.ones(1, np.int64))[0]
    # With so much less, the value of row 64 no longer reaches the score of row 1.
    missing = (near + bound - rival) * 1.01
    assert neighbors(rows, 1, **OPTIONS).rows[0] == 64
    monkeypatch.setattr(tiles.Leading, "bound", lambda *_: bound - missing)
    with pytest.raises(ValueError, match=UNFILLED):
        neighbors(rows, 1, **OPTIONS)


def opposite(rows):
    """A query, and so many rows whose tails are opposite to its own: what is found is 0 each."""
    gallery = np.zeros((rows, WIDTH), np.float32)
    gallery[:, 0], gallery[:, 1] = SHARED, -SHARED
    query = np.abs(gallery[:1])
    return query, gallery


def test_heaps_are_not_primed_beyond_the_lower_bound(first_component):
    """Else places would stay unfilled: every score is as low as it may be."""
    query, gallery = opposite(64)
    found = search(query, gallery, 3, **OPTIONS)
    assert found.rows.tolist() == [[0, 1, 2]]
    assert found.scores.tolist() == [[0, 0, 0]]


def test_rows_counted_at_once_are_held_to_the_lower_bound(first_component):
    """Many rows whose values are far above the match, and whose scores are just below it."""
    query, gallery = opposite(64)
    gallery[9, 1], gallery[9, 2] = -SHARED * np.float32(0.9), SHARED * np.float32(0.19**0.5)
    labels = (
        Labels(np.array([5]), np.array([0])),
        Labels(np.where(np.arange(64) == 9, 5, 8), np.ones(64, np.int64)),
    )
    options = {"products": "principal", "tiling": Tiling(64, 64, 1)}
    assert rank_counts(query, labels[0], gallery, labels[1], **options).ranks().tolist() == [1]


def test_a_least_score_found_on_the_way_leaves_room_for_lower_ones(first_component):
    """Row 64 meets row 0, its least so far, and then row 20, which is just below it."""
    rows = aligned(-1)
    rows[0, 1], rows[0, 2] = SHARED * np.float32(0.999), (0.5 * (1 - 0.999**2)) ** 0.5
    rows[1] = 0
    rows[1, 0] = rows[1, 40] = SHARED
    rows[20] = rows[64] * np.where(np.arange(WIDTH) == 1, -1, 1)
    rows[21] = 0
    rows[21, :2] = 0.1, -0.3  # the least of row 20 is in its own block, and no row 64 needs it
    rows[66] = rows[67]
    rows[[2, 65]] = 3 * SHARED * np.eye(1, WIDTH)  # nearer than any bound of the others
    exact = all_pairs(rows, rows)
    np.fill_diagonal(exact, np.inf)
    assert exact[64].argmin() == 20
    least = np.full(len(rows), np.inf, np.float32)
    neighbors(rows, 1, least=least, **OPTIONS)
    assert least.tobytes() == exact.min(axis=1).tobytes()
