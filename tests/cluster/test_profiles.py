from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.profiles import ActorResources, Node, resolve
from pipeline.errors import InputError

LAPTOP = [Node(cpus=2)]


def test_all_cpus_are_used_unless_told_otherwise() -> None:
    assert resolve([Node(cpus=4), Node(cpus=2)]) == ActorResources(6, 1, 0.0, 1)


def test_what_is_asked_is_kept() -> None:
    asked = resolve([Node(8, 2)], actors=3, cpus_per_actor=2, gpus_per_actor=0.5, threads=1)
    assert asked == ActorResources(3, 2, 0.5, 1)


def test_gpus_bound_the_actors_as_cpus_do() -> None:
    assert resolve([Node(cpus=64, gpus=2)], gpus_per_actor=1).actors == 2
    assert resolve([Node(cpus=64, gpus=1)], gpus_per_actor=0.1).actors == 10


def test_an_actor_never_spans_two_machines() -> None:
    with pytest.raises(InputError, match="has room for 0"):
        resolve([Node(cpus=4), Node(cpus=4)], cpus_per_actor=8)


def test_more_than_the_cluster_has_is_told() -> None:
    message = (
        "8 actors of 1 CPU asked, and the cluster (2 CPUs and 0 GPUs on 1 machine) has room for 2"
    )
    with pytest.raises(InputError) as caught:
        resolve(LAPTOP, actors=8)
    assert message in str(caught.value)
    with pytest.raises(InputError, match="1 actor of 8 CPUs asked"):
        resolve(LAPTOP, cpus_per_actor=8)


def test_a_gpu_where_none_is() -> None:
    with pytest.raises(InputError, match="the cluster has no GPU"):
        resolve(LAPTOP, gpus_per_actor=1)


def test_actors_may_wait_for_machines_that_join() -> None:
    with pytest.raises(InputError, match="has room for 2"):
        resolve(LAPTOP, actors=9)
    assert resolve(LAPTOP, actors=9, gpus_per_actor=1, may_wait=True).actors == 9
    assert not resolve(LAPTOP, actors=2, may_grow=True).grows
    assert resolve(LAPTOP, may_grow=True).grows


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"actors": 0}, "at least one actor"),
        ({"cpus_per_actor": 0}, "at least one CPU"),
        ({"gpus_per_actor": -0.5}, "0 or more"),
        ({"gpus_per_actor": 1.5}, "a whole number"),
        ({"threads": 0}, "at least one"),
    ],
)
def test_impossible_numbers_are_refused(numbers: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        resolve([Node(8, 8)], **numbers)


def test_the_environment_holds_every_kind_of_thread() -> None:
    resources = ActorResources(cpus_per_actor=3)
    assert resources.environment == {"OMP_NUM_THREADS": "3", "NUMBA_NUM_THREADS": "3"}


nodes = st.lists(st.builds(Node, st.integers(0, 64), st.integers(0, 8)), min_size=1, max_size=4)


@given(nodes, st.integers(1, 8), st.sampled_from([0.0, 0.25, 0.5, 1.0, 2.0]))
def test_what_is_chosen_fits(nodes: list[Node], cpus: int, gpus: float) -> None:
    try:
        chosen = resolve(nodes, cpus_per_actor=cpus, gpus_per_actor=gpus)
    except InputError:
        assert not any(node.cpus >= cpus and node.gpus >= gpus for node in nodes)
        return
    # Placed greedily, machine by machine, all of them find room and one more does not.
    left = chosen.actors
    for node in nodes:
        fits = int(node.cpus // cpus)
        left -= min(fits, int(node.gpus / gpus)) if gpus else fits
    assert left == 0
