import gc
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import ray
from PIL import Image

from pipeline.errors import InputError, RunError
from pipeline.gallery.sidecars import attempts
from pipeline.model.functions import NetworkFunction
from pipeline.stages import extract as stage
from pipeline.stages import extract_on_ray
from pipeline.stages.extract import UnitExtractor, Work, extract_here
from tests.stages.making import by_function, prepared, save_crop, save_source


def files_of(gallery):
    return list(Path(gallery.location).glob("*.parquet"))


def contents(gallery):
    """Every unit file's bytes by name."""
    return {path.name: path.read_bytes() for path in files_of(gallery)}


def test_every_image_becomes_a_row_of_unit_length(tmp_path):
    source = save_source(tmp_path / "source", 37)
    gallery, units, work = prepared(tmp_path, source)
    records = list(extract_here(units, work))
    assert [record.rows for record in records] == [16, 16, 5]
    after = gallery.commit(records, run_id="run")
    rows = after.rows()
    assert rows["path"].to_pylist() == sorted(path.name for path in source.iterdir())
    assert rows["row_id"].to_pylist() == list(range(37))
    assert rows["identity"].to_pylist() == [int(name[:4]) for name in rows["path"].to_pylist()]
    features = after.features().read(0, 37)
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, atol=1e-6)
    heights = [Image.open(source / name).height for name in rows["path"].to_pylist()]
    assert rows["height"].to_pylist() == heights


def test_bits_do_not_depend_on_units_or_neighbors(tmp_path):
    source = save_source(tmp_path / "source", 23)
    features = []
    for size in (1, 7, 64):
        folder = tmp_path / str(size)
        folder.mkdir()
        gallery, units, work = prepared(folder, source, unit_size=size)
        after = gallery.commit(list(extract_here(units, work)), run_id="run")
        features.append(after.features().read(0, 23).tobytes())
    assert len(set(features)) == 1


@pytest.mark.ray
def test_ray_writes_the_bytes_of_the_plain_loop(tmp_path, cluster):
    """Two actors, which share a logical GPU; `test_metrics` has a network's file in one."""
    source = save_source(tmp_path / "source", 50)
    (source / "0001_c1s1_000000_00.png").write_bytes(b"")
    folders = [tmp_path / "plain", tmp_path / "ray"]
    written = []
    for folder in folders:
        folder.mkdir()
        gallery, units, work = prepared(folder, source)
        work, steps = by_function(work), []
        if folder.name == "plain":
            records = list(extract_here(units, work, steps.append))
            assert max(steps) == work.batch_size  # they move within a unit
        else:
            options = {"actors": 2, "gpus_per_actor": 0.5, "step": steps.append}
            records = list(extract_on_ray.extract_on_ray(units, work, **options))
        assert sum(steps) == sum(len(unit.members) for unit in units)
        assert {record.unit_id for record in records} == {unit.id for unit in units}
        written.append(contents(gallery))
    assert written[0] == written[1]


@pytest.mark.ray
def test_units_go_out_in_their_order_and_an_error_in_a_worker_is_told_in_a_line(tmp_path, cluster):
    source = save_source(tmp_path / "source", 20)
    gallery, (first, second), work = prepared(tmp_path, source, unit_size=16)
    half, other_half = first.halves(work.target.fingerprint)
    broken = replace(second, id="broken", members=second.members.drop_columns(["path"]))
    units = [first, half, second, other_half, broken]
    with pytest.raises(RunError, match=r"^extraction stopped: KeyError: .*path") as stopped:
        list(extract_on_ray.extract_on_ray(units, by_function(work), actors=1))
    names = [unit.id for unit in units]
    written = sorted((path.stat().st_mtime_ns, path.stem) for path in files_of(gallery))
    places = [names.index(name.partition("-")[2]) for _, name in written]
    assert {0, 1, 2} <= set(places)
    # Of the two units that an actor has, the second may begin first.
    assert all(abs(place - index) <= 1 for index, place in enumerate(places)), places
    assert all_cpus_are_free(), "an actor lives on"  # also while somebody holds the error
    del stopped


@pytest.fixture
def late_end(monkeypatch):
    """Ray Data does not learn that the first unit ended: until then it holds the unit's actor."""
    from ray.data._internal.execution.metadata_fetcher import ThreadedMetadataFetcher

    ends, first = ThreadedMetadataFetcher._fire_done_callbacks, {}

    def all_but_one(self):
        for task in self._drained_tasks:
            if "ExtractUnit" in task.operator_name and task.task_error is None:
                first.setdefault("number", task.task_index())
        held = {each for each in self._drained_tasks if is_first(each)}
        self._drained_tasks -= held
        errors = ends(self)
        self._drained_tasks |= held
        return errors

    def is_first(task):
        return "ExtractUnit" in task.operator_name and task.task_index() == first.get("number")

    monkeypatch.setattr(ThreadedMetadataFetcher, "_fire_done_callbacks", all_but_one)
    return first


@pytest.mark.ray
def test_an_error_ends_actors_whose_units_ended_just_before(tmp_path, cluster, late_end):
    _, units, work = prepared(tmp_path, save_source(tmp_path / "source", 20), unit_size=4)
    broken = replace(units[-1], members=units[-1].members.drop_columns(["path"]))
    units = [*units[:-1], broken]
    with pytest.raises(RunError, match=r"^extraction stopped: KeyError: .*path") as stopped:
        list(extract_on_ray.extract_on_ray(units, by_function(work), actors=1))
    assert late_end  # it was held
    assert not held_actors()  # although the test holds the error
    assert all_cpus_are_free(), "an actor lives on"
    del stopped


@pytest.mark.parametrize(("units", "actors", "held"), [(1, 4, 1), (7, 2, 1), (8, 2, 2), (99, 1, 2)])
def test_where_units_are_few_no_actor_holds_one_that_another_could_do(units, actors, held):
    for grows in (False, True):
        pool = extract_on_ray._pool(units, actors, grows=grows)
        assert pool.max_tasks_in_flight_per_actor == held
        assert pool.min_size == min(units, actors)
        assert pool.max_size == (units if grows else min(units, actors))


@pytest.mark.ray
def test_an_error_that_a_worker_tells_ends_the_others_at_once(tmp_path, cluster, late_end):
    """Units that are still to be done would take a minute."""
    _, units, work = prepared(tmp_path, save_source(tmp_path / "source", 20), unit_size=1)
    begun = tmp_path / "begun"

    def fails_then_is_slow(crops):
        if begun.exists():
            time.sleep(3)
        begun.touch()
        raise OSError("the disk is gone")

    slow = replace(work, model=NetworkFunction(fails_then_is_slow, "slow"))
    with pytest.raises(RunError, match=r"^extraction stopped: .*the disk is gone") as stopped:
        list(extract_on_ray.extract_on_ray(units, slow, actors=1))
    assert not held_actors()  # although the test holds the error
    assert all_cpus_are_free(), "an actor lives on"
    del stopped


def held_actors():
    """The handles of actors that extract: an actor ends when nobody holds one any more."""
    # `isinstance` would ask a weak proxy for its object, which may be gone.
    handles = [each for each in gc.get_objects() if issubclass(type(each), ray.actor.ActorHandle)]
    return [each for each in handles if "ExtractUnit" in repr(each)]


def all_cpus_are_free(seconds=20.0):
    """Whether nothing holds a CPU of the cluster, without the help of Python's collector."""
    until = time.monotonic() + seconds
    gc.disable()
    try:
        while ray.available_resources().get("CPU", 0) < ray.cluster_resources()["CPU"]:
            if time.monotonic() > until:
                return False
            time.sleep(0.2)
        return True
    finally:
        gc.enable()


def test_bad_images_are_rejects_with_their_reason(tmp_path):
    source = save_source(tmp_path / "source", 3)
    good = (source / "0001_c1s1_000000_00.png").read_bytes()
    bad = {
        "0001_c1s1_000010_00.jpg": b"this is not a picture",
        "0001_c1s1_000011_00.png": good[: len(good) // 2],
        "0001_c1s1_000012_00.jpg": None,  # listed, and gone when it is read
    }
    for name, data in bad.items():
        (source / name).write_bytes(data or b"x")
    white = Image.new("RGB", (16, 32), "white")
    white.save(source / "0001_c1s1_000013_00.png")
    gallery, units, work = prepared(tmp_path, source)
    (source / "0001_c1s1_000012_00.jpg").unlink()
    (record,) = extract_here(units, work)
    assert (record.members, record.rows, record.rejects) == (7, 3, 4)
    after = gallery.commit([record], run_id="run")
    told = after.rejects().to_pylist()
    assert {each["path"]: each["reason"] for each in told} == {
        "0001_c1s1_000010_00.jpg": "not-an-image",
        "0001_c1s1_000011_00.png": "truncated",
        "0001_c1s1_000012_00.jpg": "missing",
        "0001_c1s1_000013_00.png": "bad-feature",
    }
    assert "NaN" in told[-1]["detail"]
    assert after.rows()["row_id"].to_pylist() == [0, 5, 6]


def test_a_unit_of_rejects_alone_is_a_unit(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    (source / "0001_c1s1_000010_00.jpg").write_bytes(b"this is not a picture")
    gallery, units, work = prepared(tmp_path, source)
    (record,) = extract_here(units, work)
    assert (record.rows, record.rejects) == (0, 1)
    assert gallery.commit([record], run_id="run").count == 0


def test_large_pictures_are_refused_by_the_limit_that_was_set(tmp_path):
    source = save_source(tmp_path / "source", 2)
    Image.new("RGB", (100, 100)).save(source / "0001_c1s1_000010_00.png")
    _, units, work = prepared(tmp_path, source, max_pixels=60 * 60)
    (record,) = extract_here(units, work)
    assert (record.rows, record.rejects) == (2, 1)


def test_large_files_are_rejects_by_the_limit_that_was_set(tmp_path):
    source = save_source(tmp_path / "source", 2)
    with (source / "0001_c1s1_000010_00.jpg").open("wb") as file:
        file.truncate(2**20)
    gallery, units, work = prepared(tmp_path, source, max_bytes=2**20 - 1)
    after = gallery.commit(list(extract_here(units, work)), run_id="run")
    (reject,) = after.rejects().to_pylist()
    assert (after.count, reject["reason"]) == (2, "too-large")
    assert reject["detail"] == "1,048,576 bytes are more than the 1,048,575 allowed (`max_bytes`)"


def test_a_full_disk_in_the_middle_keeps_what_is_done(tmp_path, monkeypatch):
    gallery, units, work = prepared(tmp_path, save_source(tmp_path / "source", 8), unit_size=4)
    write = stage.write_unit

    def full(target, name, *rest):
        if name == units[1].id:
            raise OSError(28, "No space left on device")
        return write(target, name, *rest)

    monkeypatch.setattr(stage, "write_unit", full)
    with pytest.raises(RunError, match="No space left on device; finished work units are kept"):
        list(extract_here(units, work))
    assert [unit.unit_id for unit in gallery.find_units().units] == [units[0].id]


@pytest.mark.parametrize(
    "name", ["batch_size", "threads", "decode_threads", "max_pixels", "max_bytes"]
)
def test_wrong_settings_are_told_by_flag(tmp_path, name):
    _, _, work = prepared(tmp_path, save_source(tmp_path / "source", 1))
    with pytest.raises(InputError, match=f"`{name}` must be at least 1"):
        replace(work, **{name: 0})


def test_more_threads_read_from_an_object_store(tmp_path):
    _, _, work = prepared(tmp_path, save_source(tmp_path / "source", 4))
    assert work.decoding.readers == 2
    assert replace(work, root="s3://bucket/crops").decoding.readers == 16
    assert replace(work, root="s3://bucket/crops", decode_threads=20).decoding.readers == 20


def test_the_operator_runs_without_ray(tmp_path):
    _, (unit,), work = prepared(tmp_path, save_source(tmp_path / "source", 1))
    assert isinstance(work, Work)
    first = UnitExtractor(work).extract(unit)
    assert UnitExtractor(work).extract(unit) == first  # the second writer gets the first's record


def test_a_dead_workers_attempts_are_counted(tmp_path):
    source = tmp_path / "source"
    save_crop(source / "0001_c1s1_000010_00.png", 0)
    gallery, (unit,), work = prepared(tmp_path, source)
    for count in (1, 2, 3):
        assert attempts.note_attempt(work.target, unit.id) == count
    actor = extract_on_ray.ExtractUnit(work)
    batch = extract_on_ray._packed(unit).to_pydict()
    assert actor(batch) == {"unit": [unit.id], "record": [b"null"]}
    gallery.clear(gallery.find_units())  # as the next run does
    assert b'"rows": 1' in actor(batch)["record"][0]
    assert attempts.note_attempt(work.target, unit.id) == 1
