"""Watches: each step in its order, faults that stop nothing else, and what cameras do."""

import json
import os
import signal
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from pipeline.errors import InputError
from pipeline.gallery.table import Gallery
from pipeline.gallery.upkeep.erase import erase
from pipeline.gallery.upkeep.selection import Selection, selected_rows
from pipeline.runs import watching
from pipeline.runs.camera_health import HealthSettings, camera_drift, silent_cameras
from pipeline.runs.verdicts import give_verdict
from pipeline.runs.watch_config import read_watch
from pipeline.runs.watching import watch_once
from tests.core.strategies import unit_rows
from tests.jobs.killing import start
from tests.jobs.labeled import add_rows, labeled_gallery, people
from tests.jobs.running import refused, run
from tests.stages.making import save_crop, save_network, save_source

WHOLE = """
[watch]
report = "report.json"
[[extract]]
source = "{source}"
gallery = "g"
model = "{model}"
layout = "market1501"
height = 32
width = 16
actors = 0
delete_missing = true
max_missing = 1
unit_size = 1024
[[extract]]
source = "away"
gallery = "h"
model = "{model}"
layout = "market1501"
[[expand]]
gallery = "h"
out = "he"
[[expand]]
gallery = "g"
out = "e"
k = 3
[[link]]
gallery = "g"
out = "links.parquet"
threshold = 0.5
k = 3
[[erase]]
gallery = "g"
where = "identity = 5"
max_erased = 0.3
"""


@pytest.fixture
def plan(tmp_path):
    save_source(tmp_path / "source", 20)
    text = WHOLE.format(source="source", model=save_network(tmp_path).path)
    (tmp_path / "w.toml").write_text(text)
    return read_watch(tmp_path / "w.toml")


def told(done):
    return {(each.step, os.path.basename(each.place)): each for each in done.steps}  # noqa: PTH119


def test_every_step_is_done_and_one_that_fails_stops_only_its_own(plan, tmp_path):
    done = watch_once(plan)
    steps = told(done)
    assert done.exit_status == 1
    states = {key: each.state for key, each in steps.items()}
    assert states == {
        ("extract", "g"): "changed",
        ("extract", "h"): "failed",
        ("erase", "g"): "changed",
        ("expand", "he"): "skipped",
        ("expand", "e"): "changed",
        ("link", "links.parquet"): "changed",
    }
    assert (steps["extract", "g"].new, steps["erase", "g"].erased) == (20, 4)
    assert "away" in steps["extract", "h"].reason
    assert "was never made" in steps["expand", "he"].reason
    assert Gallery.open(str(tmp_path / "e")).count == 16
    report = json.loads((tmp_path / "report.json").read_text())
    assert [each["state"] for each in report["steps"]] == [each.state for each in done.steps]

    again = told(watch_once(plan))
    # What was erased is in the source, and comes again; then it is erased again.
    assert (again["extract", "g"].new, again["erase", "g"].erased) == (4, 4)

    for path in (tmp_path / "source").glob("0005_*"):
        path.unlink()
    (tmp_path / "source" / "0001_c1s1_000000_00.png").unlink()
    save_crop(tmp_path / "source" / "0009_c1s1_000077_00.png", 77)
    third = told(watch_once(plan))["extract", "g"]
    assert (third.new, third.gone, third.removed, third.rows) == (1, 1, 1, 16)
    last = watch_once(plan)
    assert {each.state for each in last.steps} == {"unchanged", "failed", "skipped"}
    links = told(last)["link", "links.parquet"]
    assert links.candidates == links.candidates_before is not None


def test_too_much_is_not_erased(plan, tmp_path):
    text = (tmp_path / "w.toml").read_text().replace("max_erased = 0.3", "max_erased = 0.1")
    (tmp_path / "w.toml").write_text(text)
    done = told(watch_once(read_watch(tmp_path / "w.toml")))
    assert done["erase", "g"].state == "failed"
    assert "4 of 20 rows would be erased" in done["erase", "g"].reason
    assert done["expand", "e"].rows == 20


class PanicException(BaseException):
    """Not an Exception, as a panic in Rust is not."""


def test_whatever_is_raised_fails_only_its_step(plan, monkeypatch):
    worker = RuntimeError("a long traceback")
    worker.cause = InputError("the source is\nempty")
    faults = iter([KeyError("x"), PanicException("at the disco")])

    def fail(*_):
        raise next(faults, ValueError())

    monkeypatch.setattr(watching, "_do", fail)
    reasons = [each.reason for each in watch_once(plan).steps if each.state == "failed"]
    assert reasons == ["KeyError: 'x'", "PanicException: at the disco"]
    with pytest.raises(KeyboardInterrupt):
        faults = iter([KeyboardInterrupt()])
        watch_once(plan)
    assert watching._why(worker) == "the source is empty"


def test_a_stop_ends_the_watch_after_the_unit_and_the_next_goes_on(plan, tmp_path):
    text = (tmp_path / "w.toml").read_text().replace("unit_size = 1024", "unit_size = 5")
    (tmp_path / "w.toml").write_text(text)
    plan = read_watch(tmp_path / "w.toml")
    asked = iter([False, False, True])

    def is_stop_wanted():
        return next(asked, True)

    done = watch_once(plan, is_stop_wanted=is_stop_wanted)
    assert done.is_stopped and done.exit_status == 0
    assert {each.state for each in done.steps} == {"stopped"}
    assert Gallery.open(str(tmp_path / "g")).count == 0
    resumed = []
    watch_once(plan, progress=lambda name, length: lambda steps: resumed.append((name, steps)))
    assert next(steps for name, steps in resumed if name == "extracting") == 5
    assert len(list((tmp_path / "source").iterdir())) == 20


def test_a_file_of_somebody_else_is_not_replaced_by_a_report(plan, tmp_path):
    (tmp_path / "report.json").write_text("mine")
    with pytest.raises(InputError, match="was not written by regallery"):
        watch_once(plan)


def test_the_command_checks_and_reports(plan, tmp_path, capsys):
    status, out, _ = run(capsys, "watch", tmp_path / "w.toml", "--check")
    assert status == 0 and out.splitlines()[0].startswith("1. extract ")
    status, out, err = run(capsys, "watch", tmp_path / "w.toml", "--json")
    assert status == 1 and json.loads(out)["rounds"] == 1
    assert "20 new" in err
    status, out, _ = run(capsys, "watch", tmp_path / "w.toml")
    assert "failed" in out
    assert "--every 'x' is not a span" in refused(
        capsys, "watch", tmp_path / "w.toml", "--every", "x"
    )
    assert "above 0" in refused(capsys, "watch", tmp_path / "w.toml", "--every", "0s")
    assert "no such file" in refused(capsys, "watch", tmp_path / "none.toml")


def test_a_watch_that_stays_ends_well_on_sigterm(plan, tmp_path, capsys):
    process = start("watch", tmp_path / "w.toml", "--every", "2h")
    report, until = tmp_path / "report.json", time.monotonic() + 60
    while not report.exists() and process.is_alive() and time.monotonic() < until:
        time.sleep(0.05)
    assert json.loads(report.read_text())["rounds"] == 1
    assert "another watch of it is at work" in refused(capsys, "watch", tmp_path / "w.toml")
    os.kill(process.pid, signal.SIGTERM)
    process.join(30)
    assert process.exitcode == 1  # since one step failed


def test_links_are_made_again_when_verdicts_have_changed(tmp_path):
    gallery = labeled_gallery(tmp_path / "g", *people(4, 20, dimension=8))
    (tmp_path / "w.toml").write_text("[[link]]\ngallery='g'\nout='l.parquet'\nthreshold=0.5\n")
    plan = read_watch(tmp_path / "w.toml")
    states = []
    for word in (None, "same", "withdrawn"):
        if word:
            give_verdict(gallery, 0, 1, word)
        states += [told(watch_once(plan))["link", "l.parquet"].state for _ in range(2)]
    assert states == ["changed", "unchanged"] * 3


def test_what_is_older_than_is_kept_is_not_extracted_again(tmp_path):
    source = tmp_path / "source"
    now = datetime.now(UTC)
    for days in (1, 5, 40, 50):
        time = (now - timedelta(days=days)).strftime("%Y%m%dT%H%M%S")
        save_crop(source / f"1_{time}.png", days)
    model = save_network(tmp_path).path
    (tmp_path / "w.toml").write_text(
        f"[[extract]]\nsource='source'\ngallery='g'\nmodel='{model}'\nheight=32\nwidth=16\n"
        "layout='{camera}_{captured_at}.png'\nactors=0\n"
        "[[erase]]\ngallery='g'\nolder_than='30d'\n"
    )
    done = told(watch_once(read_watch(tmp_path / "w.toml")))
    assert (done["extract", "g"].new, done["erase", "g"].erased) == (2, 0)
    again = told(watch_once(read_watch(tmp_path / "w.toml")))
    assert {each.state for each in again.values()} == {"unchanged"}
    (tmp_path / "w.toml").write_text(
        (tmp_path / "w.toml").read_text().replace("'30d'", "'3d'\npurge=true")
    )
    plan = read_watch(tmp_path / "w.toml")
    last = told(watch_once(plan))
    assert (last["extract", "g"].state, last["extract", "g"].gone) == ("unchanged", 0)
    assert (last["erase", "g"].erased, last["erase", "g"].rows) == (1, 1)
    # An erasure whose purge was killed: the next round purges.
    gallery = Gallery.open(str(tmp_path / "g"))
    erase(gallery, selected_rows(gallery, Selection(row_ids=tuple(gallery.row_ids().tolist()))))
    assert len(Gallery.open(gallery.location).history()) == 2
    watch_once(replace(plan, steps=plan.steps[1:], needs=plan.needs[:1]))
    assert len(Gallery.open(gallery.location).history()) == 1


HOUR = timedelta(hours=1)


def at_hours(hours):
    return [datetime(2026, 5, 1, tzinfo=UTC) + hour * HOUR for hour in hours]


def gallery_of(location, cameras, hours, features=None, **columns):
    count = len(cameras)
    if features is None:
        features = unit_rows(count, 8, seed=0)
    return labeled_gallery(
        location, features, [None] * count, cameras, captured_at=at_hours(hours), **columns
    )


def test_cameras_that_usually_send_and_now_do_not_are_silent(tmp_path):
    day = [*range(8, 20), *range(32, 44), *range(56, 68)]  # nobody sends at night
    hours = day + day[:-9] + [9, 40] + day[:3]
    cameras = ["a"] * len(day) + ["b"] * (len(day) - 9) + ["rare"] * 2 + ["down"] * 3
    gallery = gallery_of(tmp_path / "g", cameras, hours)
    ignored = HealthSettings(ignored=("down",))
    (silent,) = silent_cameras(gallery, ignored)
    counts = (silent.active_hours, silent.hours, silent.quiet_hours)
    assert (silent.camera, counts) == ("b", (27, 27, 9))
    assert silent.chance < 0.001 and silent.last == "2026-05-03T10:00:00+00:00"
    limit = HealthSettings(silent_after=timedelta(hours=24), least_chance=0)
    now = datetime(2026, 5, 3, 20, tzinfo=UTC)
    found = silent_cameras(gallery, limit, now)
    assert [(each.camera, each.chance) for each in found] == [("down", None), ("rare", None)]
    untimed = labeled_gallery(tmp_path / "u", unit_rows(3, 8, seed=0), [1, 2, 3], ["a", "b", None])
    assert silent_cameras(untimed, limit) == []


def scene(count, level, seed):
    """Features whose mean similarity with each other is about `level` squared."""
    raw = unit_rows(count, 64, seed=seed) * np.sqrt(1 - level**2)
    raw[:, 0] += level
    return (raw / np.linalg.norm(raw, axis=1, keepdims=True)).astype(np.float32)


def test_drift_is_found_where_scores_have_shifted_and_nowhere_else(tmp_path):
    earlier, newest = 300, 120
    features = np.concatenate([scene(earlier, 0.3, 1), scene(earlier, 0.3, 2), scene(20, 0.3, 3)])
    cameras = ["a"] * earlier + ["b"] * earlier + ["few"] * 20
    tracklets = [f"t{number // 2}" for number in range(len(cameras))]
    gallery = labeled_gallery(
        tmp_path / "g", features, [None] * len(cameras), cameras, tracklet=tracklets
    )
    first_new = gallery.next_row_id
    features = np.concatenate([scene(newest, 0.6, 4), scene(newest, 0.3, 5), scene(5, 0.9, 6)])
    cameras = ["a"] * newest + ["b"] * newest + ["few"] * 5
    tracklets = [f"n{number // 2}" for number in range(len(cameras))]
    gallery = add_rows(gallery, features, [None] * len(cameras), cameras, tracklet=tracklets)
    found = camera_drift(gallery, first_new, HealthSettings())
    assert [(each.camera, each.has_drifted) for each in found] == [("a", True), ("b", False)]
    shift = found[0]
    assert (shift.rows_now, shift.level) == (newest, 0.95)
    assert shift.before == pytest.approx(0.09, abs=0.03)
    assert shift.shift == pytest.approx(0.09, abs=0.04)
    assert shift.low < shift.shift < shift.high
    assert camera_drift(gallery, gallery.next_row_id, HealthSettings()) == []
    ignored = HealthSettings(ignored=("a",))
    assert [each.camera for each in camera_drift(gallery, first_new, ignored)] == ["b"]
