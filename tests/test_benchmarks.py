"""The benchmark of a GPU, run at tiny sizes wherever it is: so that it holds where there is one."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

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
@pytest.mark.parametrize("parts", [("exact", "neighbors", "ranks"), ("extraction",)])
def test_every_part_runs_without_a_gpu(gpu, tmp_path, monkeypatch, parts):
    status, results = run(gpu, monkeypatch, tmp_path, *parts)
    assert status == 0, (tmp_path / "results.txt").read_text()
    assert all(results["parts"][part]["steps"] for part in parts)


@pytest.mark.slow
@pytest.mark.ray
def test_two_actors_share_a_gpu(gpu, tmp_path):
    import gpu_extraction  # beside gpu.py

    checkpoint = gpu_extraction.save_network(str(tmp_path))
    count, batch = gpu_extraction.sizes(smoke=True)
    rate, through = gpu_extraction.together(2, checkpoint, count, batch, smoke=True)
    assert (rate > 0, through) == (True, "Ray")
