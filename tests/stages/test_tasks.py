import pytest
import ray

from pipeline.stages.tasks import run_parts


def add(base, start, stop):
    if start == 4:
        raise ValueError("part 4 is wrong")
    return base + sum(range(start, stop))


def test_the_plain_loop_runs_parts_in_order():
    assert list(run_parts(add, (10,), [(0, 2), (2, 4)], 0)) == [11, 15]


@pytest.mark.ray
@pytest.mark.parametrize("workers", [1, 3])
def test_ray_gives_the_same_parts(cluster, workers):
    parts = [(i, i + 2) for i in range(10, 30, 2)]
    found = sorted(run_parts(add, (1,), parts, workers))
    assert found == sorted(run_parts(add, (1,), parts, 0))


def gpus_seen(part):
    return part, ray.get_runtime_context().get_accelerator_ids()["GPU"]


@pytest.mark.ray
def test_every_part_has_the_gpus_that_are_asked_for(cluster):
    shared_by_two = dict(run_parts(gpus_seen, (), [(part,) for part in range(4)], 2, 0.5))
    assert all(len(seen) == 1 for seen in shared_by_two.values())
    assert len(dict(run_parts(gpus_seen, (), [(0,)], 1, 1))[0]) == 1
    assert dict(run_parts(gpus_seen, (), [(0,)], 1)) == {0: []}


@pytest.mark.ray
def test_an_error_in_a_part_reaches_the_caller(cluster):
    with pytest.raises(ValueError, match="part 4 is wrong"):
        list(run_parts(add, (1,), [(0, 1), (4, 5), (6, 7)], 2))
