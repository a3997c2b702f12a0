"""A cluster of several machines, with a token, some of which come and go."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jobs import cli
from tests.head_node import head_node, lost, machine
from tests.stages.making import save_network, save_source

ROOT = Path(__file__).parents[2]
SECONDS = 600
FLAGS = ("--height", 32, "--width", 16, "--unit-size", 2, "--batch-size", 4)


def command(folder, out, *flags):
    return (
        "extract", folder / "source", "--gallery", out, "--model", folder / "tiny.pt", *FLAGS,
        *flags,
    )  # fmt: skip


def extraction(folder, out, environment, *flags):
    return subprocess.Popen(
        [sys.executable, "-m", "jobs.cli", *map(str, command(folder, out, *flags))],
        cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def files_of(out):
    return {path.name: path.read_bytes() for path in out.glob("*.parquet")}


def wait_until(there, driver):
    deadline = time.monotonic() + SECONDS
    while not there():
        assert time.monotonic() < deadline
        assert driver.poll() is None, driver.communicate()[0]
        time.sleep(0.05)


@pytest.mark.ray
@pytest.mark.slow
def test_a_machine_that_joins_gets_work_and_one_that_is_lost_costs_its_unit(tmp_path):
    save_source(tmp_path / "source", 300)
    save_network(tmp_path)
    alone = command(tmp_path, tmp_path / "alone", "--actors", 0)
    assert cli.main([str(each) for each in alone]) == 0
    out = tmp_path / "out"
    with head_node(num_cpus=0, dashboard=False) as head, machine(head) as first:
        driver = extraction(tmp_path, out, head.environment, "--address", head.address)
        try:
            wait_until(lambda: files_of(out), driver)
            os.kill(driver.pid, 0)
            with machine(head):
                lost(first)
                assert driver.wait(SECONDS) == 0, driver.communicate()[0]
        finally:
            driver.kill()
    assert files_of(out) == files_of(tmp_path / "alone")
