import os

import pytest
import ray

from pipeline.core.blocks import Tiling
from pipeline.stages.execution import Execution


def add(base, start, stop):
    if start == 4:
        raise ValueError("part 4 is wrong")
    return base + sum(range(start, stop))


def test_the_plain_loop_runs_parts_in_order():
    assert list(Execution().run_parts(add, (10,), [(0, 2), (2, 4)])) == [11, 15]


@pytest.mark.ray
@pytest.mark.parametrize("workers", [1, 3])
def test_ray_gives_the_same_parts(cluster, workers):
    parts = [(i, i + 2) for i in range(10, 30, 2)]
    found = sorted(Execution(workers).run_parts(add, (1,), parts))
    assert found == sorted(Execution().run_parts(add, (1,), parts))


@pytest.mark.parametrize(
    ("length", "size", "workers"), [(1000, 64, 3), (7, 100, 2), (500, 2, 4), (3000, 400, 2)]
)
def test_the_last_parts_are_small(length, size, workers):
    parts = list(Execution(workers).parts(length, size))
    assert [start for start, _ in parts] == [0, *(stop for _, stop in parts[:-1])]
    assert parts[-1][1] == length
    sizes = [stop - start for start, stop in parts]
    assert sorted(sizes, reverse=True) == sizes
    assert sizes[0] <= size
    assert min(sizes[:-1], default=size) >= max(1, size // 4)
    assert list(Execution(workers).parts(0, size)) == []


def test_this_process_has_few_parts():
    assert list(Execution().parts(7, 3)) == [(0, 3), (3, 6), (6, 7)]
    assert len(list(Execution().parts(10_000, 3))) == 100
    assert len(list(Execution().parts(10_000, 3, most=20))) == 20


def gpus_seen(part):
    return part, ray.get_runtime_context().get_accelerator_ids()["GPU"]


@pytest.mark.ray
def test_every_part_has_the_gpus_that_are_asked_for(cluster):
    half, whole = Execution(2, Tiling(gpus=0.5)), Execution(1, Tiling(gpus=1))
    parts = [(part,) for part in range(4)]
    shared_by_two = dict(half.run_parts(gpus_seen, (), parts, on_gpu=True))
    assert all(len(seen) == 1 for seen in shared_by_two.values())
    assert len(dict(whole.run_parts(gpus_seen, (), [(0,)], on_gpu=True))[0]) == 1
    assert dict(whole.run_parts(gpus_seen, (), [(0,)])) == {0: []}


def process_of(part):
    return part, os.getpid()


@pytest.mark.ray
def test_a_worker_with_a_gpu_runs_part_after_part(cluster):
    """Each new one would load torch again, which takes longer than a tile."""
    execution = Execution(1, Tiling(gpus=1))
    found = dict(execution.run_parts(process_of, (), [(n,) for n in range(6)], on_gpu=True))
    assert len({*found.values()}) <= 2


@pytest.mark.ray
def test_an_error_in_a_part_reaches_the_caller(cluster):
    with pytest.raises(ValueError, match="part 4 is wrong"):
        list(Execution(2).run_parts(add, (1,), [(0, 1), (4, 5), (6, 7)]))


def test_what_cannot_run_is_refused():
    with pytest.raises(ValueError, match="workers must be 0"):
        Execution(-1)
    with pytest.raises(ValueError, match="memory must be above 0"):
        Execution(memory=0)


def test_memory_is_shared_by_the_workers():
    assert Execution(memory=100).worker_memory == 100
    assert Execution(4, memory=100).worker_memory == 25


def test_a_prefix_goes_before_every_line_of_progress():
    lines = []
    execution = Execution(progress=lambda *line: lines.append(line))
    execution.named("b: ").named("round 1: ").progress("neighbors", 3)
    assert lines == [("b: round 1: neighbors", 3)]
