import math
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.blocks import ArrayRows, Tiling
from pipeline.core.maps.curve import NearnessCurve
from pipeline.core.maps.fuzzy import fuzzy_weights, memberships
from pipeline.core.maps.moving import Pulls, move_points
from pipeline.core.maps.placing import place_among
from pipeline.core.maps.settings import MapSettings
from pipeline.core.maps.start import principal_points
from pipeline.core.maps.trust import trustworthiness
from pipeline.core.neighbors.pairs import neighbors
from pipeline.core.neighbors.topk import TopK
from pipeline.stages.execution import Execution
from pipeline.stages.maps import lay_out
from tests.core.strategies import unit_rows
from tests.examples import FEW

ONE = Tiling(threads=1)


def naive_memberships(near):
    """The definition, with sigma by a search of its own."""
    out = np.zeros(near.rows.shape)
    real = [[1 - float(s) for s in line if s > -np.inf] for line in near.scores]
    every = [max(0.0, d) for line in real for d in line]
    mean = sum(every) / (len(every) + len(real)) if every else 0
    for i, line in enumerate(real):
        line = [max(0.0, d) for d in line]
        if not line:
            continue
        above = [d for d in line if d > 0]
        rho = min(above, default=0.0)
        low, high = 1e-12, 1e12
        for _ in range(300):
            sigma = math.sqrt(low * high)
            total = sum(math.exp(-max(0, d - rho) / sigma) for d in line)
            low, high = (low, sigma) if total > math.log2(len(line) + 1) else (sigma, high)
        least = 1e-3 * (sum(line) / (len(line) + 1) if rho > 0 else mean)
        sigma = max(sigma, least)
        for x, d in enumerate(line):
            out[i, x] = 1 if d <= rho or sigma == 0 else math.exp(-(d - rho) / sigma)
    return out


def naive_weights(near):
    v = np.zeros((len(near), len(near)))
    one_way = memberships(near, tiling=ONE).astype(np.float64)
    for i, line in enumerate(near.rows):
        for x, j in enumerate(line):
            if j >= 0:
                v[i, j] = one_way[i, x]
    return v + v.T - v * v.T


def naive_trustworthiness(features, points, k):
    count, excess = len(features), 0
    for i in range(count):
        others = [j for j in range(count) if j != i]
        by_row = sorted(others, key=lambda j: (-float(features[i] @ features[j]), j))
        by_point = sorted(others, key=lambda j: (float(((points[i] - points[j]) ** 2).sum()), j))
        ranks = {j: rank for rank, j in enumerate(by_row, 1)}
        excess += sum(ranks[j] - k for j in by_point[:k] if ranks[j] > k)
    return 1 - 2 / (count * k * (2 * count - 3 * k - 1)) * excess


def as_matrix(sparse):
    w = np.zeros((len(sparse), len(sparse)))
    owners = np.repeat(np.arange(len(sparse)), np.diff(sparse.starts))
    w[owners, sparse.columns] = sparse.values
    return w


def people(count=20, each=30, dimension=16, seed=0):
    """Rows of so many well-separated identities, and the identity of each."""
    rng = np.random.default_rng(seed)
    centers = rng.standard_normal((count, dimension))
    identity = np.repeat(np.arange(count), each)
    rows = centers[identity] + 0.3 * rng.standard_normal((count * each, dimension))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32), identity


@FEW
@given(st.integers(1, 40), st.integers(1, 12), st.integers(0, 99))
def test_memberships_are_those_of_the_definition(n, k, seed):
    near = neighbors(unit_rows(n, 8, seed=seed, clusters=5), min(k, max(1, n - 1)))
    made = memberships(near, tiling=ONE)
    np.testing.assert_allclose(made, naive_memberships(near), atol=2e-3)


def test_memberships_of_equal_rows_are_1_and_those_of_padding_0():
    near = TopK(
        np.array([[1, 1, 1], [1, 0.5, -np.inf], [-np.inf] * 3], np.float32),
        np.array([[1, 2, 3], [0, 2, -1], [-1] * 3]),
    )
    assert memberships(near, tiling=ONE).tolist()[0] == [1, 1, 1]
    assert memberships(near, tiling=ONE)[1].round(3).tolist() == [1, 1, 0]
    assert memberships(near, tiling=ONE)[2].tolist() == [0, 0, 0]


@FEW
@given(st.integers(2, 40), st.integers(1, 12), st.integers(0, 99))
def test_weights_join_both_directions_and_are_symmetric(n, k, seed):
    near = neighbors(unit_rows(n, 8, seed=seed, clusters=5), min(k, n - 1))
    made = fuzzy_weights(near, tiling=ONE)
    matrix = as_matrix(made)
    np.testing.assert_allclose(matrix, naive_weights(near), atol=1e-6)
    assert (matrix == matrix.T).all()
    assert all((np.diff(made.columns[a:b]) > 0).all()
               for a, b in zip(made.starts, made.starts[1:], strict=False))  # fmt: skip


def test_weights_of_no_rows_and_of_one_row():
    assert len(fuzzy_weights(TopK.none(0, 3), tiling=ONE)) == 0
    assert fuzzy_weights(TopK.none(1, 3), tiling=ONE).starts.tolist() == [0, 0]


def test_a_neighbor_that_is_no_row_is_refused():
    near = TopK(np.array([[0.5]], np.float32), np.array([[3]]))
    with pytest.raises(ValueError, match="a neighbor is row 3, and there are 1 rows"):
        fuzzy_weights(near)


@pytest.mark.parametrize("spread", [0.5, 1.0, 7.0])
def test_the_curve_scales_with_its_unit(spread):
    one, made = NearnessCurve.fitted(0.1, 1.0), NearnessCurve.fitted(0.1 * spread, spread)
    assert made.b == pytest.approx(one.b, rel=1e-4)
    assert made.a == pytest.approx(one.a * spread ** (-2 * one.b), rel=1e-3)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"neighbors": 0}, "neighbors must be at least 1, not 0"),
        ({"spread": 0.0}, "spread must be above 0 and finite, not 0.0"),
        ({"spread": float("nan")}, "spread must be above 0 and finite, not nan"),
        ({"min_dist": 2.0}, "min_dist must be from 0 to the spread of 1.0, not 2.0"),
        ({"epochs": 0}, "epochs must be at least 1, not 0"),
        ({"negatives": -1}, "negatives must be 0 or more, not -1"),
        ({"seed": -1}, "seed must be from 0 to below 2^32, not -1"),
    ],
)
def test_settings_without_meaning_are_refused(given, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        MapSettings(**given)


def test_the_start_is_the_principal_components():
    rows, _ = people()
    found = principal_points(ArrayRows(rows), tiling=ONE)
    centered = rows - rows.mean(axis=0, dtype=np.float64)
    _, _, directions = np.linalg.svd(centered, full_matrices=False)
    wanted = centered @ directions[:2].T
    for axis in range(2):
        assert abs(np.corrcoef(found[:, axis], wanted[:, axis])[0, 1]) > 0.9999
        assert np.ptp(found[:, axis]) == pytest.approx(10, abs=0.01)


@pytest.mark.parametrize("rows", [np.ones((0, 3)), np.ones((1, 3)), np.ones((5, 1)), np.eye(2)])
def test_few_rows_and_equal_ones_have_a_start(rows):
    found = principal_points(ArrayRows(rows.astype(np.float32)), tiling=ONE)
    assert found.shape == (len(rows), 2)
    assert np.isfinite(found).all()
    assert len(np.unique(found, axis=0)) == len(rows)


def test_a_map_is_the_same_to_the_bit_for_any_threads_and_calls():
    # More rows than one block of points has.
    rows, _ = people(300, 30)
    near, settings = neighbors(rows, 5), MapSettings(neighbors=5, epochs=3)
    one, several = (
        lay_out(ArrayRows(rows), near, settings, execution=Execution(tiling=Tiling(threads=t)))
        for t in (1, 3)
    )
    assert (one == several).all()
    start = principal_points(ArrayRows(rows), tiling=ONE)
    pulls = Pulls.of(fuzzy_weights(near, tiling=ONE), settings)
    with ONE.workers() as run:
        at_once = move_points(start, pulls, (0, pulls.steps), run, 1)
    assert (one == at_once).all()
    other = MapSettings(neighbors=5, epochs=3, seed=1)
    assert (lay_out(ArrayRows(rows), near, other) != one).any()


def test_pairs_pull_as_often_as_their_weight_says():
    rows, _ = people(5, 20)
    weights = fuzzy_weights(neighbors(rows, 10), tiling=ONE)
    pulls = Pulls.of(weights, MapSettings(epochs=100, negatives=7))
    kept = weights.values >= weights.values.max() / 100
    assert 0 < kept.sum() < len(kept)
    np.testing.assert_array_equal(pulls.columns, weights.columns[kept])
    ends = [int(r * pulls.steps + p) for r, p in zip(pulls.rates, pulls.phases, strict=True)]
    wanted = 2 * 100 * weights.values[kept] / weights.values.max()
    assert np.abs(np.array(ends) - wanted).max() < 1.01
    owners = np.repeat(np.arange(len(rows)), np.diff(pulls.starts))
    phases = {}
    for i, j, phase in zip(owners, pulls.columns, pulls.phases, strict=True):
        assert phases.setdefault((min(i, j), max(i, j)), phase) == phase
    np.testing.assert_allclose(
        pulls.push_rates * pulls.steps, np.bincount(owners, wanted) * 7 / 2, rtol=1e-5
    )


def naive_pulls(points, pulls, step, curve):
    """The points after the pulls of one step."""
    out = points.astype(np.float64)
    for i in range(len(points)):
        total, count = np.zeros(2), 0
        for e in range(pulls.starts[i], pulls.starts[i + 1]):
            rate, phase = float(pulls.rates[e]), float(pulls.phases[e])
            times = int(rate * (step + 1) + phase) - int(rate * step + phase)
            away = points[i].astype(np.float64) - points[pulls.columns[e]]
            d = np.hypot(*away)
            factor = (
                -2
                * curve.a
                * curve.b
                * d ** (2 * (curve.b - 1))
                / (1 + curve.a * d ** (2 * curve.b))
            )
            total += times * np.clip(factor * away, -4, 4)
            count += times
        out[i] += (1 - step / pulls.steps) * total * min(1, 16 / max(1, count))
    return out


@pytest.mark.parametrize("size", [1e-3, 1, 50])
def test_a_step_of_pulls_is_that_of_the_naive_loop(size):
    rows, _ = people(4, 20)
    rows = np.concatenate([rows, np.repeat(rows[:1], 60, axis=0)])  # a row with many neighbors
    settings = MapSettings(epochs=10, negatives=0)
    pulls = Pulls.of(fuzzy_weights(neighbors(rows, 10), tiling=ONE), settings)
    points = np.random.default_rng(0).normal(size=(len(rows), 2)).astype(np.float32) * size
    curve = NearnessCurve.fitted(0.1, 1.0)
    with ONE.workers() as run:
        for step in (0, 1, 17):
            made = move_points(points, pulls, (step, step + 1), run, 1)
            wanted = naive_pulls(points, pulls, step, curve)
            assert np.abs(wanted - points).max() > 1e-4
            np.testing.assert_allclose(made - points, wanted - points, rtol=2e-3, atol=2e-3 * size)


@pytest.mark.parametrize("d", [1e-7, 1e-3, 0.3, 2, 700, 3e5])
def test_random_rows_push_by_the_formula(d):
    pulls = Pulls.of(fuzzy_weights(TopK.none(2, 1), tiling=ONE), MapSettings(epochs=10))
    pulls = replace(pulls, push_rates=np.full(2, 40.0))
    points = np.array([[0, 0], [d, 0]], np.float32)
    curve = NearnessCurve.fitted(0.1, 1.0)
    with ONE.workers() as run:
        moved = move_points(points, pulls, (0, 1), run, 1)[0] - points[0]
    once = min(4, 2 * curve.b * d / ((0.001 + d**2) * (1 + curve.a * d ** (2 * curve.b))))
    assert moved[1] == 0
    assert moved[0] / once == pytest.approx(-round(-moved[0] / once), abs=0.02)
    assert 5 < -moved[0] / once < 35  # about half of 40: the other draws are the row itself


def test_a_map_keeps_identities_together():
    rows, identity = people()
    near = neighbors(rows, 15)
    points = lay_out(ArrayRows(rows), near, execution=Execution(tiling=ONE))
    assert trustworthiness(rows, points, 15, tiling=ONE) > 0.97
    start = principal_points(ArrayRows(rows), tiling=ONE)
    assert trustworthiness(rows, start, 15, tiling=ONE) < 0.93
    nearest = ((points[:, None] - points) ** 2).sum(axis=2).argsort(axis=1)[:, 1:6]
    assert (identity[nearest] == identity[:, None]).mean() > 0.99


def test_a_row_that_is_the_neighbor_of_very_many_stays_near_them():
    rows, _ = people(20, 30)
    rows = np.concatenate([rows, np.repeat(rows[7:8], 600, axis=0)])
    points = lay_out(ArrayRows(rows), neighbors(rows, 15), MapSettings(epochs=100))
    assert np.isfinite(points).all()
    assert np.linalg.norm(points[7] - np.median(points[600:], axis=0)) < 5
    assert np.abs(points - np.median(points, axis=0)).max() < 100


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_few_rows_have_a_map(count):
    rows = unit_rows(count, 4, seed=1) if count else np.empty((0, 4), np.float32)
    near = neighbors(rows, 2) if count > 1 else TopK.none(count, 2)
    points = lay_out(ArrayRows(rows), near, MapSettings(epochs=5))
    assert points.shape == (count, 2)
    assert points.dtype == np.float32
    assert np.isfinite(points).all()


def test_new_rows_are_placed_at_the_weighted_mean_of_their_neighbors():
    rows, _ = people(5, 20)
    near, points = neighbors(rows, 4), np.random.default_rng(0).random((100, 2), np.float32)
    weights = memberships(near, tiling=ONE)
    wanted = [
        sum(w * points[j] for w, j in zip(weights[i], near.rows[i], strict=True)) / weights[i].sum()
        for i in range(100)
    ]
    np.testing.assert_allclose(place_among(near, points, tiling=ONE), wanted, atol=1e-6)


def test_a_new_row_without_neighbors_is_refused():
    with pytest.raises(ValueError, match="row 0 has no neighbor that it can be placed at"):
        place_among(TopK.none(1, 2), np.zeros((3, 2), np.float32))


@FEW
@given(st.integers(3, 40), st.integers(1, 12), st.integers(0, 99))
def test_trustworthiness_is_that_of_the_naive_loop(n, k, seed):
    k = min(k, (n - 1) // 2)
    # Small whole numbers: products and squares are exact, and there are many ties.
    rng = np.random.default_rng(seed)
    rows = rng.integers(-3, 4, (n, 5)).astype(np.float32)
    points = rng.integers(0, 6, (n, 2)).astype(np.float32)
    made = trustworthiness(rows, points, k, tiling=ONE)
    assert made == pytest.approx(naive_trustworthiness(rows, points, k), abs=1e-12)
    each = [trustworthiness(rows, points, k, rows=np.array([i]), tiling=ONE) for i in range(n)]
    assert np.mean(each) == pytest.approx(made, abs=1e-12)


def test_trustworthiness_of_other_shapes_is_refused():
    rows = np.eye(4, dtype=np.float32)
    with pytest.raises(ValueError, match=re.escape("points must be [4, 2], one for each row")):
        trustworthiness(rows, np.zeros((3, 2), np.float32), 1)
    with pytest.raises(ValueError, match="k must be from 1 to below half of the 4 rows, not 2"):
        trustworthiness(rows, np.zeros((4, 2), np.float32), 2)
