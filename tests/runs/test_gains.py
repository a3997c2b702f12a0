"""The interval of a difference of two rankings is drawn from the same queries for both."""

import numpy as np
import pytest

from pipeline.core.expansion import Expansion
from pipeline.runs.measuring import Evaluation, measure
from pipeline.runs.settings import FigureSettings


@pytest.fixture(scope="module")
def found() -> Evaluation:
    random = np.random.default_rng(5)
    people = np.repeat(np.arange(1, 13), 4)
    centers = random.normal(size=(13, 16))
    rows = centers[people] + random.normal(size=(48, 16))
    cameras = [f"c{n % 4}" for n in range(48)]
    labels = people.tolist(), cameras
    # The last query has no match and is left out of every mean.
    queries = np.concatenate([rows, random.normal(size=(1, 16))])
    asked = [*people.tolist(), 99], [*cameras, "c9"]
    ways = [Expansion("joint", k=3)]
    return measure(
        queries, asked, rows, labels, ways, normalize=True, figures=FigureSettings(seed=7)
    )


def test_gains_are_means_of_differences_under_the_same_draws(found: Evaluation) -> None:
    before, after = (ranking.summary for ranking in found.rankings)
    valid = before.first_rank > 0
    random = np.random.default_rng(7)
    drawn = [random.integers(0, valid.sum(), valid.sum()) for _ in range(1000)]
    for row, name in enumerate(("average_precision", "rank1", "inverse_negative_penalty")):
        one, other = (getattr(each, name)[valid] for each in (before, after))
        means = [other[which].mean() - one[which].mean() for which in drawn]
        expected = np.quantile(means, [0.025, 0.975])
        np.testing.assert_allclose(found.rankings[1].gains[row], expected, atol=1e-12)


def test_the_first_ranking_gains_nothing(found: Evaluation) -> None:
    assert found.baseline.gains is None
