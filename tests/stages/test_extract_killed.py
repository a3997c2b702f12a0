"""Units that kill the process that works on them."""

import contextlib
import json
import threading
import time
from collections import deque
from dataclasses import asdict

import pytest
import ray

from pipeline.errors import RunError
from pipeline.gallery.sidecars import attempts
from pipeline.stages import extract_on_ray as stage
from pipeline.stages.extract import UnitExtractor
from pipeline.stages.extract_on_ray import extract_on_ray
from tests.stages.making import by_function, prepared, save_source


class HereFeed(contextlib.AbstractContextManager):
    """Hands out rows without Ray; it must be told the end."""

    def __init__(self):
        self._rows, self.is_over = deque(), False

    def __exit__(self, *_):
        pass

    def add(self, rows):
        self._rows.extend(rows)

    def end(self):
        self.is_over = True

    def dataset(self):
        while self._rows:
            yield self._rows.popleft()
        assert self.is_over


@pytest.fixture
def deadly(monkeypatch):
    """Set the images that kill; without Ray, a unit that holds one is answered as if it had."""

    def set_deadly(names):
        def rows(units, work, pool, options):
            extractor = UnitExtractor(work)
            for row in units:
                unit = stage._unpacked(*(each[0] for each in row.to_pydict().values()))
                dead = set(unit.members["path"].to_pylist()) & names
                about = None if dead else asdict(extractor.extract(unit))
                yield {"unit": unit.id, "record": json.dumps(about).encode()}

        monkeypatch.setattr(stage, "Feed", HereFeed)
        monkeypatch.setattr(stage, "_rows", rows)

    return set_deadly


@pytest.mark.parametrize("ahead", [1, 3])
def test_few_units_are_ahead_and_all_are_extracted(tmp_path, deadly, monkeypatch, ahead):
    monkeypatch.setattr(stage, "_UNITS_AHEAD", ahead)
    _, units, work = prepared(tmp_path, save_source(tmp_path / "source", 20), unit_size=4)
    deadly(set())
    records = extract_on_ray(units, work, actors=1)
    assert [record.unit_id for record in records] == [unit.id for unit in units]
    assert list(extract_on_ray(units[:0], work, actors=1)) == []


def test_units_are_halved_until_the_images_that_kill_are_found(tmp_path, deadly):
    source = save_source(tmp_path / "source", 20)
    names = sorted(path.name for path in source.iterdir())
    gallery, units, work = prepared(tmp_path, source, unit_size=7)
    deadly({names[8], names[19]})
    records = list(extract_on_ray(units, work, actors=1))
    after = gallery.commit(records, run_id="run")
    assert after.rows()["row_id"].to_pylist() == [i for i in range(20) if i not in (8, 19)]
    assert {each["path"]: each["reason"] for each in after.rejects().to_pylist()} == {
        names[8]: "kills-worker",
        names[19]: "kills-worker",
    }


@pytest.mark.parametrize("actors", [1, 2])
def test_where_the_first_units_all_kill_the_run_stops_at_once(tmp_path, deadly, actors):
    source = save_source(tmp_path / "source", 12)
    names = {path.name for path in source.iterdir()}
    _, units, work = prepared(tmp_path, source, unit_size=1)
    deadly(names)
    with pytest.raises(RunError, match=f"each of the first {actors + 2} work units killed its"):
        list(extract_on_ray(units, work, actors=actors))
    deadly(
        names - set(units[0].members["path"].to_pylist())
    )  # one is finished: images are to blame
    records = list(extract_on_ray(units, work, actors=actors))
    assert sum(record.rejects for record in records) == 11


DEADLY = """
import os, signal, sys

def kill_over_one_image(event, arguments):
    if event == "open" and "0002_c2s1_000001" in str(arguments[0]):
        os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(kill_over_one_image)
"""


@pytest.mark.ray
def test_a_worker_that_dies_is_started_again_and_its_image_becomes_a_reject(tmp_path, cluster):
    source = save_source(tmp_path / "source", 3)
    gallery, units, work = prepared(tmp_path, source, unit_size=1)
    # Python runs this as a worker starts.
    (tmp_path / "sitecustomize.py").write_text(DEADLY)
    # Every death costs seconds, because a new worker starts: leave one.
    for _ in range(stage.ATTEMPTS - 1):
        attempts.note_attempt(work.target, units[1].id)
    options = {"actors": 1, "environment": {"PYTHONPATH": str(tmp_path)}}
    records = list(extract_on_ray(units, by_function(work), **options))
    after = gallery.commit(records, run_id="run")
    assert after.rows()["row_id"].to_pylist() == [0, 2]
    (told,) = after.rejects().to_pylist()
    assert (told["path"], told["reason"]) == ("0002_c2s1_000001_00.png", "kills-worker")


DEADLY_ONCE = """
import os, signal, sys
from pathlib import Path

def kill_once(event, arguments):
    for number in "000004", "000005":
        if event == "open" and f"s1_{number}_00.png" in str(arguments[0]):
            try:
                (Path(__file__).parent / f"killed{number}").touch(exist_ok=False)
            except FileExistsError:
                return
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(kill_once)
"""


@pytest.mark.ray
def test_units_whose_cpus_are_lost_for_good_are_done_on_another(tmp_path, cluster):
    """Most actors can only start again where one that has nothing left to do gives up its CPU."""
    _, units, work = prepared(tmp_path, save_source(tmp_path / "source", 6), unit_size=1)
    (tmp_path / "sitecustomize.py").write_text(DEADLY_ONCE)
    released = tmp_path / "released"

    @ray.remote(num_cpus=0.6, max_retries=0)
    def keep_a_cpu():
        while not released.exists():
            time.sleep(0.1)

    options = {"actors": 3, "cpus_per_actor": 0.6, "environment": {"PYTHONPATH": str(tmp_path)}}
    records = extract_on_ray(units, by_function(work), **options)
    in_time = threading.Timer(300, released.touch)  # or else it would wait forever
    in_time.start()
    kept = []
    try:
        for _ in records:
            if not kept:  # as soon as an actor dies, its CPU is gone
                kept = [keep_a_cpu.remote() for _ in range(2)]
        assert len(list(tmp_path.glob("killed*"))) == 2 and not released.exists()
    finally:
        in_time.cancel()
        released.touch()
    ray.get(kept)
