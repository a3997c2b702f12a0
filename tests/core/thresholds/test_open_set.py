import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.blocks import Tiling, blocks
from pipeline.core.evaluation.labels import Labels
from pipeline.core.products.kernels import pair_scores
from pipeline.core.thresholds import negatives as counting
from pipeline.core.thresholds.negatives import BIN, EDGES, STEPS, Negatives, count_negatives, steps
from pipeline.core.thresholds.open_set import RATES, OpenSet, OperatingPoint, open_set, settle_rates
from tests import oracles
from tests.core.strategies import cases, tilings, unit_rows

NO_BINS = np.empty(0, np.int64)
COARSE_RATES = (0.01, 0.05, 0.1, 0.25, 0.5, 0.9)


def within_the_unit_ball(rows):
    """Whole numbers over a power of two: products stay exact, and ties real."""
    return rows / np.float32(2**7)


def kept_scores(case):
    """Similarities of the positives and of the negatives, pair by pair."""
    positives, negatives = [], []
    for i, query in enumerate(case.queries):
        identity, camera = case.query_labels.identity[i], case.query_labels.camera[i]
        for j, row in enumerate(case.gallery):
            other, place = case.gallery_labels.identity[j], case.gallery_labels.camera[j]
            if identity <= 0 or other == -1 or (other == identity and place == camera >= 0):
                continue
            pair = pair_scores(query[None], row[None], np.zeros(1, np.int64), np.zeros(1, np.int64))
            (positives if other == identity else negatives).append(float(pair[0]))
    return positives, negatives


def measured(case, **options):
    queries, gallery = within_the_unit_ball(case.queries), within_the_unit_ball(case.gallery)
    return open_set(queries, case.query_labels, gallery, case.gallery_labels, **options)


def expect(found, positives, negatives, rates):
    """Hold the figures against the loop that tries every threshold."""
    if not positives or not negatives:
        assert found is None
        return
    rate, threshold, points = oracles.open_set(positives, negatives, rates)
    assert (found.positives, found.negatives) == (len(positives), len(negatives))
    assert found.equal_error_rate == pytest.approx(rate, abs=1e-12)
    assert found.equal_error_threshold == threshold
    for point, wanted, expected in zip(found.points, rates, points, strict=True):
        assert point.wanted == wanted
        assert (point.threshold is None) == (expected is None)
        if expected is not None:
            assert point.threshold == expected[0]
            assert (point.far, point.tar) == pytest.approx(expected[1:], abs=1e-12)
            assert point.false_accepts == round(point.far * len(negatives))


@given(cases(), tilings)
def test_equals_the_naive_loop_in_every_tiling(case, tiling):
    positives, negatives = ([s / 2**14 for s in scores] for scores in kept_scores(case))
    found = measured(case, rates=COARSE_RATES, tiling=tiling)
    expect(found, positives, negatives, COARSE_RATES)


def labeled(n, identities, seed):
    rng = np.random.default_rng(seed)
    return Labels(rng.integers(-1, identities, n), rng.integers(0, 4, n))


def exact_scores(queries, gallery):
    a, b = (each.ravel() for each in np.indices((len(queries), len(gallery))))
    return pair_scores(queries, gallery, a, b).reshape(len(queries), len(gallery))


@pytest.fixture(scope="module")
def real():
    """Clustered features of 100 dimensions, with the scores of their pairs."""
    queries, gallery = unit_rows(30, 100, seed=1, clusters=20), unit_rows(500, 100, 2, clusters=20)
    ql, gl = labeled(30, 20, 3), labeled(500, 20, 4)
    same = ql.identity[:, None] == gl.identity
    kept = (gl.identity != -1) & ~(same & (ql.camera[:, None] == gl.camera))
    kept &= ql.identity[:, None] > 0
    scores = exact_scores(queries, gallery)
    return (queries, ql, gallery, gl), scores[kept & same], scores[kept & ~same]


def test_real_features_at_every_rate(real):
    sides, positives, negatives = real
    found = open_set(*sides)
    assert found.points[:2] == (OperatingPoint(1e-6), OperatingPoint(2e-6))  # too few negatives
    assert found.points[RATES.index(1e-4)].tar is not None
    expect(found, list(positives), list(negatives), RATES)


@pytest.mark.parametrize("tiling", [Tiling(1, 64), Tiling(7, 7), Tiling(64, 64), Tiling(99, 9999)])
def test_real_features_give_the_same_bits_in_every_tiling(real, tiling):
    assert open_set(*real[0], tiling=tiling) == open_set(*real[0])


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_what_products_place_wrongly_is_placed_by_score(rows):
    """Scores a rounding apart at the edges of bins: a product alone counts some in the next bin."""
    rng = np.random.default_rng(rows)
    near = unit_rows(rows, 512, seed=rows)[rng.integers(0, rows, 3000)]
    gallery = near + rng.standard_normal((3000, 512)).astype(np.float32) * 2e-7
    queries = unit_rows(4, 512, seed=7)
    ql = Labels(np.arange(1, 5), np.zeros(4, np.int64))
    gl = Labels(np.where(np.arange(3000) < 40, 1, 0), np.ones(3000, np.int64))
    positive = np.zeros((4, 3000), bool)
    positive[0, :40] = True
    scores = exact_scores(queries, gallery)
    found = open_set(queries, ql, gallery, gl, rates=COARSE_RATES)
    expect(found, list(scores[positive]), list(scores[~positive]), COARSE_RATES)
    products = steps(queries @ gallery.T)
    assert (products != steps(scores)).any()


@given(cases(min_gallery=2), st.data())
def test_counts_of_parts_add_in_any_order(case, data):
    sides = (
        within_the_unit_ball(case.queries), case.query_labels,
        within_the_unit_ball(case.gallery), case.gallery_labels,
    )  # fmt: skip
    settled = np.flatnonzero(np.abs(EDGES[:-1]) < 3 * BIN)
    size = data.draw(st.integers(1, len(case.gallery)))
    total = Negatives.none(settled)
    for part in data.draw(st.permutations(list(blocks(len(case.gallery), size)))):
        total = count_negatives(*sides, settled, part=part) + total
    whole = count_negatives(*sides, settled)
    assert total.fine.tolist() == whole.fine.tolist()
    assert total.coarse.tolist() == whole.coarse.tolist()
    assert len(whole) == len(kept_scores(case)[1])


def test_the_counts_of_a_settled_bin_and_above_are_exact(real):
    (queries, ql, gallery, gl), _, negatives = real
    ordered = np.sort(steps(negatives))
    settled = np.unique(np.searchsorted(EDGES, ordered[[5, -5, -500, 4000]], "right") - 1)
    found = count_negatives(queries, ql, gallery, gl, settled, tiling=Tiling(9, 50))
    for bin_ in settled:
        exact = [int((ordered >= EDGES[bin_] + step).sum()) for step in range(BIN + 1)]
        assert found.reached(bin_).tolist() == exact


@pytest.mark.parametrize("below", [0, 1])
def test_pairs_at_the_edge_of_a_settled_bin_are_placed_by_score(below):
    """Scores within a few steps of an edge, which their products often fall short of or pass."""
    query, gallery = unit_rows(1, 512, seed=1), unit_rows(2000, 512, seed=2)
    edge = int(np.searchsorted(EDGES, STEPS // 2))
    across = gallery - (gallery @ query.T) * query
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    wanted = 0.5 + np.random.default_rng(3).standard_normal((2000, 1)) * 1e-7
    gallery = (wanted * query + np.sqrt(1 - wanted**2) * across).astype(np.float32)
    labels = Labels(np.array([7]), np.array([0])), Labels(np.zeros(2000, np.int64), np.arange(2000))
    exact = steps(exact_scores(query, gallery)[0])
    placed = steps((query @ gallery.T)[0])
    for side in (
        (placed < EDGES[edge]) & (exact >= EDGES[edge]),
        (placed >= EDGES[edge]) & (exact < EDGES[edge]),
    ):
        assert side.any()
    bin_ = edge - below
    found = count_negatives(query, labels[0], gallery, labels[1], np.array([bin_]))
    assert found.reached(bin_)[[0, -1]].tolist() == [
        (exact >= EDGES[bin_]).sum(), (exact >= EDGES[bin_ + 1]).sum(),
    ]  # fmt: skip


def test_a_case_worked_by_hand():
    """Positives at 0.75 and 0.25; negatives at 0.5 and three at 0."""
    query = np.array([[1.0, 0.0]], np.float32)
    scores = np.array([0.75, 0.25, 0.5, 0, 0, 0])
    gallery = np.stack([scores, np.zeros(6)], axis=1).astype(np.float32)
    found = open_set(
        query, Labels(np.array([7]), np.array([0])),
        gallery, Labels(np.array([7, 7, 3, 0, 4, 4]), np.ones(6, np.int64)),
        rates=(0.2, 0.25, 0.5),
    )  # fmt: skip
    none, quarter, half = found.points
    assert none == OperatingPoint(0.2)  # a fifth of four negatives is less than one
    # One negative may pass, and no second one: a step above 0 is enough.
    assert (quarter.threshold, quarter.false_accepts, quarter.tar) == (1 / STEPS, 1, 1.0)
    # Two may pass, but at 0 three tie.
    assert (half.threshold, half.far, half.tar) == (1 / STEPS, 0.25, 1.0)
    # FAR 1/4 and FRR 0 up to 0.25, then FAR 1/4 and FRR 1/2: the line crosses at 1/4.
    assert found.equal_error_rate == pytest.approx(0.25)
    assert found.equal_error_threshold == 0.25 + 1 / STEPS


def test_matches_that_all_lie_above_have_no_error():
    line = np.array([[1, 0], [0.9, 0], [0.1, 0], [0.1, 0]], np.float32)
    gallery = Labels(np.array([7, 7, 0, 8]), np.ones(4, np.int64))
    found = open_set(line[:1], Labels(np.array([7]), np.array([0])), line, gallery, rates=[0.5])
    assert (found.equal_error_rate, found.points[0].tar) == (0.0, 1.0)


def test_equal_features_are_all_accepted_or_none():
    ones = np.full((5000, 4), 0.5, np.float32)
    gallery = Labels(np.where(np.arange(5000) < 10, 7, 0), np.ones(5000, np.int64))
    query = Labels(np.array([7]), np.array([0]))
    found = open_set(ones[:1], query, ones, gallery, rates=[0.01])
    assert (found.points[0].threshold, found.points[0].tar) == (1 + 1 / STEPS, 0.0)
    assert found.equal_error_rate == 0.5


def test_rates_are_read_as_they_are_written():
    """A hundredth of a hundred is one, though 0.29 x 100 is less than 29 in binary."""
    scores = np.arange(101, 0, -1)[:, None].astype(np.float32) / 128
    gallery = Labels(np.append(7, np.zeros(100, np.int64)), np.ones(101, np.int64))
    query = np.ones((1, 1), np.float32), Labels(np.array([7]), np.array([0]))
    found = open_set(*query, scores, gallery, rates=[0.01, 0.29])
    assert [point.false_accepts for point in found.points] == [1, 29]


@pytest.mark.parametrize(
    ("query", "row"), [(7, 7), (7, 8), (0, 8), (-1, 8)], ids=["only matches", "none", "0", "junk"]
)
def test_without_positives_or_negatives_there_is_nothing_to_say(query, row):
    one = np.ones((1, 1), np.float32)
    labels = Labels(np.array([query]), np.array([0])), Labels(np.array([row]), np.array([1]))
    assert open_set(one, labels[0], one, labels[1]) is None


def test_queries_without_a_match_give_negatives():
    line = np.array([[1.0], [0.5]], np.float32)
    queries = Labels(np.array([7, 99]), np.array([0, 0]))
    found = open_set(line, queries, line, Labels(np.array([7, 0]), np.array([1, 1])))
    assert (found.positives, found.negatives) == (1, 3)


def test_thresholds_outside_the_bins_foreseen_are_counted_again(real):
    (queries, ql, gallery, gl), positives, negatives = real
    asked = []

    def count(settled):
        asked.append(len(settled))
        found = count_negatives(queries, ql, gallery, gl, settled)
        if len(settled):
            return found
        return Negatives(settled, np.roll(found.coarse, 40), found.fine)  # misleading

    found = settle_rates(positives, count, 1)
    assert len(asked) > 2
    expect(found, list(positives), list(negatives), RATES)


def test_wrong_input_is_told():
    two = Labels(np.array([1, 2]), np.array([0, 0]))
    other = Labels(np.array([1, 3]), np.array([1, 1]))
    good = np.ones((2, 1), np.float32)
    for wrong in (2, np.nan):
        bad = np.array([[1], [wrong]], np.float32)  # where it matches nothing
        with pytest.raises(ValueError, match="gallery features must be unit vectors"):
            open_set(good, two, bad, other)
        with pytest.raises(ValueError, match="query features must be unit vectors"):
            open_set(bad, two, good, other)
    for rate in (0.0, 1.0):
        with pytest.raises(ValueError, match="lie between 0 and 1"):
            open_set(good, two, good, other, rates=[rate])
    with pytest.raises(ValueError, match="different settled bins"):
        Negatives.none(NO_BINS) + Negatives.none(np.array([3]))


def test_the_margin_holds_the_slack_at_every_dimension():
    for dimension in (1, 512, 2048, 65536):
        reach = counting.product_slack(dimension, 1.0, 1.0)
        assert counting.margin(dimension) * BIN / STEPS > reach


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tar": None}, "measured in part"),
        ({"threshold": None}, "measured in part"),
        ({"far": 0.02}, "FAR 0.02 is above the wanted 0.01"),
    ],
)
def test_a_point_that_is_none_is_refused(change, message):
    point = {"wanted": 0.01, "threshold": 0.5, "false_accepts": 1, "far": 0.005, "tar": 0.5}
    OperatingPoint(**point)
    with pytest.raises(ValueError, match=message):
        OperatingPoint(**point | change)


def test_points_out_of_order_are_refused():
    low, high = OperatingPoint(0.01, 0.5, 1, 0.005, 0.5), OperatingPoint(0.1, 0.4, 9, 0.09, 0.75)
    OpenSet(4, 100, 0.2, 0.4, (OperatingPoint(0.001), low, high))
    with pytest.raises(ValueError, match="must ascend"):
        OpenSet(4, 100, 0.2, 0.4, (high, low))
    with pytest.raises(ValueError, match="TAR falls"):
        OpenSet(4, 100, 0.2, 0.4, (low, OperatingPoint(0.1, 0.4, 9, 0.09, 0.25)))
