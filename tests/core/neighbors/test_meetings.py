import itertools
import random

import pytest

from pipeline.core.neighbors.meetings import Meetings


def carried_out(meetings, workers, seconds):
    """All meetings, by so many workers: what each took when, and how long each worker was idle.

    `seconds(worker, x, y)` is how long one takes; checks that no block is in two at once.
    """
    running, over, now, idle = [], [], 0.0, 0.0
    while True:
        for worker in range(workers):
            if worker in [each[1] for each in running]:
                continue
            pair = meetings.take()
            if pair is None:
                break
            busy = {block for _, _, x, y in running for block in (x, y)}
            assert not busy & set(pair)
            running.append((now + seconds(worker, *pair), worker, *pair))
        if not running:
            return over, now, idle
        ended = min(running)
        running.remove(ended)
        idle += (workers - 1 - len(running)) * (ended[0] - now)
        now = ended[0]
        over.append(ended[2:])
        meetings.end(*ended[2:])


@pytest.mark.parametrize("count", [0, 1, 2, 5, 8])
@pytest.mark.parametrize("workers", [1, 3, 9])
def test_every_two_blocks_meet_once(count, workers):
    meetings = Meetings([0] * count)
    chance = random.Random(count)
    assert meetings.left == count * (count + 1) // 2
    over, _, _ = carried_out(meetings, workers, lambda *_: chance.random())
    assert sorted(over) == list(itertools.combinations_with_replacement(range(count), 2))
    assert meetings.met == [(1 << count) - 1] * count
    assert (meetings.left, meetings.over) == (0, count * (count + 1) // 2)


def test_a_block_that_was_set_back_meets_all_again_and_they_no_other():
    met = [0b1111, 0, 0b1111, 0b0111]  # 3 has not met itself
    over, _, _ = carried_out(Meetings(met), 1, lambda *_: 1.0)
    assert sorted(over) == [(0, 1), (1, 1), (1, 2), (1, 3), (3, 3)]


@pytest.mark.parametrize("workers", [2, 4, 16])
def test_workers_are_busy_to_the_end(workers):
    """Tiles of a third more or less, a tile on the diagonal half of one; four blocks a worker."""
    chance = random.Random(0)

    def seconds(_worker, x, y):
        return (0.5 if x == y else 1.0) * chance.uniform(2 / 3, 4 / 3)

    _, whole, idle = carried_out(Meetings([0] * 4 * workers), workers, seconds)
    assert idle / (workers * whole) < 0.05


def test_a_slow_machine_holds_up_no_other():
    """One takes five times as long for each tile."""

    def seconds(worker, x, y):
        return (5.0 if worker == 0 else 1.0) * (0.5 if x == y else 1.0)

    _, whole, idle = carried_out(Meetings([0] * 16), 4, seconds)
    assert idle / (4 * whole) < 0.15
