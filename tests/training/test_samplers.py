"""P x K batches: what every batch must hold, and what they hold in the long run."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import InputError
from pipeline.training.samplers import BatchSettings, EpochBatches, IdentityBatches, pair_batches


@st.composite
def labeled_rows(draw):
    n = draw(st.integers(4, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    labels = rng.integers(-1, draw(st.integers(1, 12)), n)
    labels[:3] = [0, 1, 2]
    return labels, rng.integers(-1, 4, n)


@given(labeled_rows(), st.integers(1, 3), st.integers(1, 6), st.integers(0, 9))
def test_every_batch_has_p_identities_and_k_crops_of_as_many_cameras_as_there_are(rows, p, k, seed):
    labels, cameras = rows
    batches = IdentityBatches(labels, cameras, BatchSettings(p, k), seed=seed)
    epoch = batches.epoch(2, steps=5)
    assert epoch.rows.shape == epoch.turns.shape == (5, p * k)
    for batch in epoch.rows:
        groups = batch.reshape(p, k)
        assert len(set(labels[groups[:, 0]].tolist())) == p
        for group in groups:
            label = labels[group[0]]
            assert label >= 0
            assert (labels[group] == label).all()
            own = np.flatnonzero(labels == label)
            # No crop comes again before all have come, and no camera before all others have.
            assert len(set(group.tolist())) == min(k, len(own))
            held = Counter(cameras[own].tolist())
            expected, count = Counter(), min(k, len(own))
            while count:
                for camera in held:
                    if expected[camera] < held[camera] and count:
                        expected[camera] += 1
                        count -= 1
            first = Counter(cameras[group[: min(k, len(own))]].tolist())
            assert sorted(first.values()) == sorted(v for v in expected.values() if v)


@given(labeled_rows(), st.integers(0, 9))
def test_all_identities_come_before_the_first_comes_again(rows, seed):
    labels, cameras = rows
    batches = IdentityBatches(labels, cameras, BatchSettings(3, 1), seed=seed)
    known = set(labels[labels >= 0].tolist())
    people = labels[batches.epoch(0, steps=3 * len(known)).rows.ravel()]
    counts = Counter()
    for person in people.tolist():
        counts[person] += 1
        # An identity may wait for the next batch, for it must not stand in one batch twice.
        assert max(counts.values()) - min(counts[each] for each in known) <= 2
    assert set(counts.values()) == {9}


def test_an_epoch_is_a_function_of_seed_and_number():
    labels, cameras = np.arange(40) % 10, np.arange(40) % 3
    batches = IdentityBatches(labels, cameras, BatchSettings(4, 3), seed=5)
    first = batches.epoch(1, steps=6)
    batches.epoch(7)
    again = IdentityBatches(labels, cameras, BatchSettings(4, 3), seed=5).epoch(1, steps=9)
    assert np.array_equal(first.rows, again.rows[:6])  # more steps begin with the same ones
    other_seed = IdentityBatches(labels, cameras, BatchSettings(4, 3), seed=6)
    others = [batches.epoch(2, steps=6), other_seed.epoch(1, steps=6)]
    assert not any(np.array_equal(first.rows, other.rows) for other in others)


def test_the_default_number_of_steps_covers_the_labeled_rows_once():
    labels = np.repeat(np.arange(-1, 9), 4)
    assert IdentityBatches(labels, settings=BatchSettings(3, 4)).steps == 3
    assert len(IdentityBatches(labels, settings=BatchSettings(3, 4)).epoch(0)) == 3
    assert IdentityBatches(labels[:12], settings=BatchSettings(2, 8)).steps == 1


@given(labeled_rows(), st.integers(1, 3), st.sampled_from([1, 2, 3, 6]))
def test_the_parts_of_all_ranks_are_the_batches_of_one(rows, p, ranks):
    epoch = IdentityBatches(*rows, BatchSettings(p, 6)).epoch(0, steps=4)
    parts = [epoch.shard(rank, ranks) for rank in range(ranks)]
    assert np.array_equal(np.concatenate([part.rows for part in parts], 1), epoch.rows)
    assert np.array_equal(np.concatenate([part.turns for part in parts], 1), epoch.turns)


def test_turns_count_how_often_a_row_came_before():
    labels = np.array([0, 0, 1, 1, 1])
    epoch = IdentityBatches(labels, settings=BatchSettings(2, 3)).epoch(0, steps=4)
    seen = Counter()
    for row, turn in zip(epoch.rows.ravel().tolist(), epoch.turns.ravel().tolist(), strict=True):
        assert turn == seen[row]
        seen[row] += 1


def test_rows_of_weight_come_as_much_more_often():
    labels = np.repeat(np.arange(20), 6)
    weights = np.ones(120)
    weights[0], weights[6] = 3, 2.5
    batches = IdentityBatches(labels, None, BatchSettings(4, 1), weights=weights)
    rows = batches.epoch(0, steps=1500).rows
    people = np.bincount(labels[rows.ravel()])
    np.testing.assert_allclose(people[:3] / people[3:].mean(), [3, 2.5, 1], rtol=0.05)
    chosen = np.bincount(rows.ravel(), minlength=120)
    np.testing.assert_allclose(chosen[0] / chosen[1:6].mean(), 3, rtol=0.2)
    assert all(len(set(labels[batch].tolist())) == 4 for batch in rows)


@st.composite
def rows_with_rivals(draw):
    labels, cameras = draw(labeled_rows())
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    return labels, cameras, rng.integers(0, len(labels), (draw(st.integers(1, 12)), 2))


@given(rows_with_rivals(), st.integers(1, 3), st.integers(0, 9))
def test_rivals_stand_beside_each_other(rows, p, seed):
    """As long as there is room, and a rival that is not there yet."""
    labels, cameras, rivals = rows
    pairs = {frozenset(labels[pair].tolist()) for pair in rivals}
    settings = BatchSettings(p, 1)
    batches = IdentityBatches(labels, cameras, settings, rivals=rivals, seed=seed)
    known = set(labels[labels >= 0].tolist())
    seen = Counter()
    for batch in labels[batches.epoch(1, steps=3 * len(known)).rows].tolist():
        assert len(set(batch)) == p
        seen.update(batch)
        place = 0
        while place < p:
            near = {each for each in known - {batch[place]} if {each, batch[place]} in pairs}
            near -= set(batch[:place])
            if near and place + 1 < p:
                place += 1
                assert batch[place] in near
            place += 1
    assert set(seen) == known
    assert min(seen.values()) >= 3 * p - 2  # rivals come more often, but nobody waits for long
    if not any(len(pair) == 2 and -1 not in pair for pair in pairs):
        plain = IdentityBatches(labels, cameras, settings, seed=seed)
        assert np.array_equal(plain.epoch(1).rows, batches.epoch(1).rows)


def test_batches_that_cannot_be():
    labels = np.array([0, 0, 1, -1])
    with pytest.raises(InputError, match="`identities` must be at least 1"):
        BatchSettings(identities=0)
    with pytest.raises(InputError, match="`crops` must be at least 1"):
        BatchSettings(crops=0)
    with pytest.raises(InputError, match=r"a batch of 3 identities .* cannot be drawn from 2"):
        IdentityBatches(labels, settings=BatchSettings(3, 2))
    with pytest.raises(InputError, match="cannot be drawn from 0"):
        IdentityBatches(np.empty(0, np.int64), settings=BatchSettings(1, 2))
    with pytest.raises(ValueError, match=r"must be \[N\]"):
        IdentityBatches(labels, np.zeros(3), BatchSettings(2, 2))
    for weights in (np.zeros(4), np.full(4, np.nan), np.full(4, 101)):
        with pytest.raises(ValueError, match="weights must lie from 1 to 100"):
            IdentityBatches(labels, None, BatchSettings(2, 2), weights=weights)
    for rivals in (np.zeros(2, np.int64), np.array([[0, 4]]), np.array([[-1, 0]])):
        with pytest.raises(ValueError, match=r"rivals must be pairs of the 4 rows"):
            IdentityBatches(labels, None, BatchSettings(2, 2), rivals=rivals)
    batch = EpochBatches(np.zeros((1, 6), np.int64), np.zeros((1, 6), np.int64))
    for rank, ranks in ((0, 4), (2, 2), (-1, 2), (0, 0)):
        with pytest.raises(ValueError, match="has no equal share of batches of 6"):
            batch.shard(rank, ranks)


@given(st.integers(1, 9), st.integers(1, 7), st.integers(0, 5), st.integers(0, 5))
def test_pairs_come_in_turn(pairs, size, steps, seed):
    drawn = pair_batches(pairs, size, steps, seed=seed)
    assert drawn.shape == (steps, size)
    line = drawn.ravel()
    for start in range(0, len(line), pairs):
        part = line[start : start + pairs]
        assert len(set(part.tolist())) == len(part)
    assert np.array_equal(drawn, pair_batches(pairs, size, steps, seed=seed))


def test_pairs_of_nothing():
    with pytest.raises(ValueError, match="can be drawn from 0 pairs"):
        pair_batches(0, 2, 1)
