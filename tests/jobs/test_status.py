"""status: a real extraction in another process is followed, killed, and resumed."""

import socket
import time

import pytest

from jobs import cli
from pipeline.runs import reporting
from pipeline.stages import extract as stage
from tests.jobs.killing import start
from tests.jobs.running import SIZE, refused, result, run
from tests.stages.making import save_network, save_source

CROPS, UNIT = 40, 8


def slow_and_talkative() -> None:
    """A work unit takes a while, and progress is stored at each step."""
    compute = stage.UnitExtractor.compute

    def slowly(self, members, step=stage.no_step):
        time.sleep(0.3)
        return compute(self, members, step)

    stage.UnitExtractor.compute = slowly
    reporting.RENEWAL_SECONDS = 0.0


def test_an_extraction_is_followed_killed_and_resumed(tmp_path, capsys):
    source, network = save_source(tmp_path / "source", CROPS), save_network(tmp_path).path
    gallery = tmp_path / "g"
    command = (
        "extract", source, "--gallery", gallery, "--model", network, *SIZE, "--unit-size", UNIT
    )  # fmt: skip
    process = start(*command, prepare=(slow_and_talkative,))
    try:
        deadline = time.monotonic() + 120
        while True:
            assert time.monotonic() < deadline
            assert process.is_alive()
            code, out, _ = run(capsys, "status", gallery)
            if code == 0 and " 2 of 5 work units" in out:
                break
            time.sleep(0.02)
        seen = result(capsys, "status", gallery)
    finally:
        process.kill()
        process.join()
    assert seen["state"] == "running"
    assert (seen["host"], seen["process"]) == (socket.gethostname(), process.pid)
    assert seen["purpose"] == f"extract {source}"
    progress = seen["progress"]
    assert (progress["total"], progress["units"]) == (CROPS, CROPS // UNIT)
    assert progress["done"] >= 2 * UNIT
    assert out.startswith(f"{gallery}: extract {source}, process {process.pid} on ")

    left = result(capsys, "status", "--gallery", gallery)
    assert left["state"] == "interrupted"
    assert left["progress"]["units_done"] >= 2
    assert left["process"] is None
    told = run(capsys, "status", gallery)[1]
    assert told.startswith(f"{gallery}: a run was interrupted; the same command resumes it\n")

    assert cli.main([*map(str, command)]) == 0
    capsys.readouterr()
    assert run(capsys, "status", gallery)[1] == f"{gallery}: nobody changes it\n"
    assert not (gallery / "_progress.json").exists()


@pytest.mark.parametrize("flags", [(), ("g", "--address", "http://127.0.0.1:1")])
def test_one_thing_is_asked_for(capsys, flags):
    assert "give a gallery or --address, one of the two" in refused(capsys, "status", *flags)


def test_a_gallery_that_does_not_exist_is_told(capsys, tmp_path):
    assert "there is no gallery" in refused(capsys, "status", tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


class Server:
    """The job server of a cluster with some jobs."""

    address = "http://head:8265"

    def __init__(self, jobs):
        self._jobs = jobs

    def jobs(self):
        return self._jobs

    def last_line(self, job):
        return f"{job}: 5 of 9"


def test_jobs_of_a_cluster_are_shown_with_their_galleries(capsys, tmp_path, monkeypatch):
    from cluster import job_server
    from cluster.job_server import Job
    from tests.gallery.making import new_gallery

    here = str(new_gallery(tmp_path / "here").location)
    elsewhere = str(tmp_path / "elsewhere")
    jobs = (
        Job("a", None, "extract", "RUNNING", "2026-11-29T03:00:00+00:00", None, here),
        Job("b", None, "extract", "PENDING", None, None, elsewhere),
        Job("c", None, "evaluate", "RUNNING", None, None),
        Job("d", None, "extract", "FAILED", None, None, here),
        Job("e", None, None, "RUNNING", None, None),
    )
    monkeypatch.setattr(job_server, "connected", lambda address: Server(jobs))
    found = result(capsys, "status", "--address", Server.address)
    seen = {each["job"]: each for each in found["going_on"]}
    assert list(seen) == ["a", "b", "c"]
    assert seen["a"]["gallery_status"]["state"] == "idle"
    assert seen["b"]["gallery_status"] is None
    assert "there is no gallery" in seen["b"]["unseen"]
    assert seen["c"]["unseen"] is None
    lines = run(capsys, "status", "--address", Server.address)[1].splitlines()
    assert lines == [
        "a: running since 2026-11-29T03:00:00+00:00",
        f"  {here}: nobody changes it",
        "b: pending since unknown",
        "  b: 5 of 9",
        "c: running since unknown",
        "  c: 5 of 9",
    ]
    monkeypatch.setattr(job_server, "connected", lambda address: Server(()))
    told = run(capsys, "status", "--address", Server.address)[1]
    assert told == f"no jobs are running at {Server.address}\n"
