import numpy as np
import pytest

from pipeline.core.travel.learning import Learning, learn
from pipeline.core.travel.times import NO_CAMERA, NO_TIME, SECOND, Sightings


def walks(rng, a, b, low, high, count):
    """Sightings of people who walk from camera a to camera b."""
    start = rng.uniform(0, 86_400, count)
    times = start, start + rng.uniform(low, high, count)
    return [
        Sightings(np.full(count, camera), (time * SECOND).astype(np.int64))
        for camera, time in zip((a, b), times, strict=True)
    ]


def together(parts):
    return [
        Sightings(*(np.concatenate([getattr(part[side], name) for part in parts])
                    for name in ("camera", "time")))
        for side in (0, 1)
    ]  # fmt: skip


def test_times_are_learned_among_wrong_pairs():
    """Some pairs are of two people, at any times."""
    rng = np.random.default_rng(0)
    parts = [walks(rng, 0, 1, 30, 60, 400), walks(rng, 1, 0, 40, 80, 400),
             walks(rng, 1, 2, 5, 9, 400), walks(rng, 2, 1, 5, 9, 400)]  # fmt: skip
    wrong = [
        Sightings(rng.integers(0, 3, 60), rng.integers(0, 86_400, 60) * SECOND) for _ in range(2)
    ]
    found = learn(*together([*parts, wrong]), 4)
    times = found.times
    for a, b, low, high in ((0, 1, 30, 60), (1, 0, 40, 80), (1, 2, 5, 9)):
        width = high - low
        assert low - 0.4 * width <= times.least[a, b] <= low + 0.1 * width
        assert high - 0.1 * width <= times.most[a, b] <= high + 0.4 * width
    assert np.isposinf(times.least[0, 2])
    assert np.isposinf(times.least[2, 0])
    assert not times.is_known[:, 3].any()
    assert not np.diag(times.is_known).any()


def test_views_that_overlap_are_0_seconds_apart_in_both_directions():
    camera = np.zeros(30, np.int64)
    time = np.arange(30) * 500 * SECOND
    found = learn(Sightings(camera, time), Sightings(camera + 1, time), 2)
    assert found.pairs.tolist() == [[0, 30], [30, 0]]
    assert (found.times.least[0, 1], found.times.most[1, 0]) == (0, 0)


def test_pairs_that_say_nothing_are_left_out():
    first = Sightings(np.array([0, 0, NO_CAMERA, 0]), np.array([0, 0, 0, NO_TIME]))
    second = Sightings(np.array([0, 1, 1, 1]), np.array([1, 1, 1, 1]))
    found = learn(first, second, 2)
    assert found.pairs.sum() == 1
    assert not found.times.is_known.any()
    none = Sightings(*(np.zeros(0, np.int64),) * 2)
    assert len(learn(none, none, 0).times) == 0


@pytest.mark.parametrize(
    ("values", "message"),
    [({"fewest": 1}, "fewest"), ({"share": 0}, "share"), ({"margin": -1}, "margin"),
     ({"rare": 1}, "rare")],
)  # fmt: skip
def test_settings_without_meaning(values, message):
    with pytest.raises(ValueError, match=message):
        Learning(**values)
