"""Under a limit on the address space a verb runs, or says in one line how much it needs."""

import json
import resource
import subprocess
import sys

import pytest

from jobs import cli
from jobs.command.address_space import needed_address_space
from tests.stages.making import prepared, save_source


def limited(limit, *arguments):
    """A command line in a process of its own whose address space has `limit` bytes."""
    return subprocess.run(
        [sys.executable, "-m", "jobs.cli", *map(str, arguments)],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("verb", ["verify", "info"])
def test_too_little_address_space_is_told_at_once(verb):
    done = limited(needed_address_space() - 1, verb, "--gallery", "absent")
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert f"at least {needed_address_space() / 2**30:.1f} GiB are needed on this machine" in line


@pytest.mark.slow
def test_what_is_said_to_be_needed_is_enough(tmp_path):
    prepared(tmp_path, save_source(tmp_path / "source", 3))
    gallery = tmp_path / "gallery"
    done = limited(needed_address_space(), "verify", "--gallery", gallery, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["findings"] == []


def test_a_failed_allocation_is_told_as_such(capsys, monkeypatch):
    def fail(arguments, *, as_json):
        raise MemoryError

    monkeypatch.setattr(cli, "_run", fail)
    assert cli.main(["info"]) == 1
    assert "error: out of memory (an allocation failed)" in capsys.readouterr().err
