"""Benchmarks that are run at small sizes: that of a GPU, wherever it is, and that of the driver."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from pipeline import large_tables
from pipeline.runs.scale_constants import value
from pipeline.runs.scale_plan import ScaleSettings, predict

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    spec = importlib.util.spec_from_file_location("gpu", FOLDER / "gpu.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "gpu", module)
    spec.loader.exec_module(module)
    return module


def run(gpu, monkeypatch, folder, *parts):
    monkeypatch.setattr(sys, "argv", ["gpu.py", str(folder), "--smoke", "--only", *parts])
    return gpu.main(), json.loads((folder / "results.json").read_text())


def test_a_step_that_fails_is_told_and_the_next_is_taken(gpu, tmp_path):
    report = gpu.Report(tmp_path / "found.json")
    report.run("one", lambda: {"equal": True})
    report.run("two", lambda: {"wrong": 1 / 0})
    kept = json.loads((tmp_path / "found.json").read_text())
    assert kept["one"]["equal"] is True
    assert kept["two"]["error"] == "ZeroDivisionError: division by zero"
    text = gpu.told(
        {"environment": {}, "parts": {"p": {"state": "x", "seconds": 1, "steps": kept}}}
    )
    assert "division by zero" in text


def test_a_part_is_stopped_at_its_limit_and_the_next_is_run(gpu, tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "SECONDS", {"exact": 0.1, "memory": 60})
    monkeypatch.setattr(gpu, "_SLOWER", 1)
    status, results = run(gpu, monkeypatch, tmp_path, "exact", "memory")
    assert status == 1
    assert results["parts"]["exact"]["state"] == "stopped after 0.1 s"
    assert results["parts"]["memory"]["state"] == "finished"
    assert "out of memory" in (tmp_path / "results.txt").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("part", ["exact", "neighbors", "ranks", "extraction"])
def test_every_part_runs_without_a_gpu(gpu, tmp_path, part):
    gpu.enter(part, tmp_path / "found.json", smoke=True)
    steps = json.loads((tmp_path / "found.json").read_text())
    assert steps
    assert not any("error" in step or step.get("equal") is False for step in steps.values()), steps


@pytest.fixture(scope="module")
def driven(tmp_path_factory):
    """What the driver does with 60,000 rows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        import hundred_million

        # More than these rows are mapped, as of the hundred million.
        patch.setattr(large_tables, "ROWS_HELD", 20_000)
        patch.setattr(large_tables, "_STEP", 500)
        return hundred_million.measure(60_000, tmp_path_factory.mktemp("driven"))


def test_many_rows_are_listed_planned_found_again_and_committed(driven):
    assert driven["files"] == 59
    assert "00000000000000000001.json" in driven["log"]
    steps = driven["steps"]
    assert list(steps)[1:4] == [
        "list (all but the file system)", "hold against an empty gallery", "plan"
    ]  # fmt: skip
    assert all(step["own_mb"] > 0 for step in steps.values())


def test_what_the_driver_takes_is_as_predicted(driven):
    """In CPU seconds, since tests share the machine; the sizes are exact."""
    told = {each.stage: each for each in predict(60_000, ScaleSettings(dimension=2)).stages}
    assert 0.3 < driven["bytes"] / told["extraction"].disk_bytes < 1  # made-up rows are compressed
    log = driven["log"]["00000000000000000001.json"]
    assert 0.3 < log / told["commit"].disk_bytes < 1  # without a checkpoint
    cpu = {name: step["cpu_seconds"] for name, step in driven["steps"].items()}
    rows = value("sort_rows") + value("plan_rows")
    listed = sum(cpu[name] for name in ("list (all but the file system)", "plan", "store the plan"))
    assert 1 / 6 < listed / (60_000 * rows) < 6
    assert 1 / 6 < cpu["commit"] / told["commit"].seconds < 6
