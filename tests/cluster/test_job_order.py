"""What is asked of a job server, as far as it can be wrong before it is sent."""

from pathlib import Path

import pytest

from cluster.job_order import DriverSettings, Order
from pipeline.errors import InputError


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"driver_cpus": -1}, "`driver_cpus` is -1: give 0 or more"),
        ({"driver_cpus": 1.5}, "above 1, Ray takes whole numbers only"),
        ({"driver_memory": float("nan")}, "`driver_memory` is nan GiB: give 0 or more"),
    ],
)
def test_what_ray_cannot_reserve_is_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        DriverSettings(**settings)


@pytest.mark.parametrize(
    ("settings", "on_head"),
    [
        (DriverSettings(), True),
        (DriverSettings(driver_cpus=2), False),
        (DriverSettings(driver_memory=0), False),  # nothing is reserved: Ray takes the head itself
    ],
)
def test_a_driver_without_cpus_stays_on_the_head(settings: DriverSettings, on_head: bool) -> None:
    assert bool(settings.for_ray()["entrypoint_resources"]) == on_head


@pytest.mark.parametrize("name", ["", "two words", "-x", "a/b", "x" * 64])
def test_names_that_are_not_one_word_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="cannot be a job's name: use up to 63 letters"):
        Order(("info",), Path("/tmp"), name=name)


def test_secrets_are_not_in_the_repr() -> None:
    order = Order(("info",), Path("/tmp"), environment={"TOKEN": "hunter2"})
    assert order.for_ray()["runtime_env"]["env_vars"] == {"TOKEN": "hunter2"}
    assert "hunter2" not in repr(order)
