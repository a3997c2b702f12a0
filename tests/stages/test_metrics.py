"""What workers count, as Prometheus reads it from the endpoint of a real Ray node."""

import re
import time
import urllib.request
from pathlib import Path

import pytest
import ray

from pipeline.stages import extract_on_ray as on_ray
from pipeline.stages.execution import Execution
from pipeline.stages.extract import UnitExtractor, extract_here
from pipeline.stages.extract_on_ray import ExtractUnit, _packed
from pipeline.stages.metrics import METRICS, STEPS, add_to_metric
from tests.stages.making import prepared, save_source

LINE = re.compile(r"^ray_(regallery_\w+)_total\{(.*)\} (\S+)$", re.MULTILINE)


def scraped() -> dict[str, float]:
    """The sum of each metric over all processes of the node; those by step also with it."""
    (node,) = ray.nodes()
    url = f"http://127.0.0.1:{node['MetricsExportPort']}/metrics"
    with urllib.request.urlopen(url, timeout=10) as answer:
        text = answer.read().decode()
    sums: dict[str, float] = {}
    for name, labels, value in LINE.findall(text):
        step = re.search(r'\bstep="(\w+)"', labels)
        for key in {name, f"{name} {step[1]}" if step else name}:
            sums[key] = sums.get(key, 0.0) + float(value)
    return sums


def unit_files(location: str) -> dict[str, bytes]:
    """The bytes of each file of rows by its name."""
    return {path.name: path.read_bytes() for path in Path(location).glob("*.parquet")}


def test_without_ray_nothing_is_counted(monkeypatch):
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    add_to_metric("regallery_units", 1)


def test_the_seconds_of_a_unit_are_those_of_its_steps(tmp_path):
    source = save_source(tmp_path / "source", 16)
    _, (unit,), work = prepared(tmp_path, source)
    extractor = UnitExtractor(work)
    begun = time.perf_counter()
    extractor.extract(unit)
    took = time.perf_counter() - begun
    assert tuple(extractor.seconds) == STEPS
    assert all(seconds > 0 for seconds in extractor.seconds.values())
    assert 0.5 * took < sum(extractor.seconds.values()) <= took


@pytest.mark.ray
def test_prometheus_reads_what_was_done(tmp_path, new_cluster):
    source = save_source(tmp_path / "source", 32)
    (source / "0001_c1s1_999999_00.png").write_bytes(b"no picture")
    _, units, work = prepared(tmp_path, source, on_gpu=True)
    (tmp_path / "here").mkdir()
    here, _, work_here = prepared(tmp_path / "here", source, on_gpu=True)
    list(extract_here(units, work_here))

    # The very actor, without Ray Data around it. Its first unit is begun a second time.
    actor = ray.remote(num_cpus=1)(ExtractUnit).remote(work)
    rows = [_packed(unit).to_pydict() for unit in units]
    on_ray.attempts.note_attempt(work.target, units[0].id)
    ray.get([actor.__call__.remote(row) for row in rows])
    negative = lambda number: -number  # noqa: E731 - Ray sends its code: this module is large
    assert sorted(Execution(workers=2).run_parts(negative, (), [(1,), (2,), (3,)])) == [-3, -2, -1]

    deadline = time.monotonic() + 60
    while True:
        found = scraped()
        if found.keys() >= set(METRICS) and found["regallery_units"] == len(units):
            break
        assert time.monotonic() < deadline, found
        time.sleep(0.5)
    assert found["regallery_crops"] == 32
    assert found["regallery_rejects"] == 1
    assert found["regallery_tiles"] == 3
    assert found["regallery_restarts"] == 1
    files = work.target.location
    written = unit_files(files)
    assert written == unit_files(here.location)
    assert found["regallery_bytes"] == sum(map(len, written.values()))
    assert {name.partition(" ")[2] for name in found if " " in name} == set(STEPS)
