from pipeline.runs import pace
from pipeline.runs.pace import RAY_START_SECONDS, Pace, PaysOnRay


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def run(images, workers, seconds_a_batch, batch=32):
    """How many images are done here before Ray pays; all of them where it never does."""
    clock, stepped = Clock(), []
    found = Pace(images, workers, stepped.append, clock)
    try:
        for start in range(0, images, batch):
            clock.now += seconds_a_batch
            found(min(batch, images - start))
    except PaysOnRay as reason:
        assert "workers on Ray need" in str(reason)
        assert found.given_up == sum(stepped)
    return sum(stepped)


def test_small_work_stays_and_large_work_moves_after_a_few_batches():
    assert run(63, 2, 3.0) == 63
    assert run(1_000_000, 8, 1.0) == 4 * 32
    # 2 workers save half of what is left.
    batches = 2 * RAY_START_SECONDS
    assert run(int(32 * (batches - 2)), 2, 1.0) == 32 * (batches - 2)
    assert run(int(32 * (batches + 8)), 2, 1.0) == 4 * 32


def test_a_single_worker_saves_nothing():
    assert run(100_000, 1, 10.0) == 100_000


def test_the_first_batch_is_not_counted():
    clock = Clock()
    found = Pace(32_000, 2, lambda _: None, clock)
    for batch in range(20):
        clock.now += 0.001 if batch else 1_000
        found(32)


def test_what_a_unit_has_begun_is_kept_when_it_ends():
    found = Pace(1_000, 2, lambda _: None, Clock())
    found(32)
    found.end_unit()
    found(10)
    assert found.given_up == 10
    assert pace.RAY_START_SECONDS > 0
