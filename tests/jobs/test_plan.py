"""plan: a prediction as a table and as JSON."""

from pathlib import Path

import pytest

from tests.jobs.running import refused, result, run

MACHINES = ("--machines", 4, "--cpus", 16, "--gpus", 1, "--price", 2.5, "--bucket")


def test_a_plan_is_a_table_for_people_and_names_what_is_assumed(capsys):
    status, out, _ = run(capsys, "plan", "--crops", 10**8, "--cameras", 500, *MACHINES)
    assert status == 0
    lines = out.splitlines()
    assert lines[0] == "100,000,000 crops on 4 machines, predicted"
    assert lines[1].split()[:3] == ["stage", "time", "memory"]
    stages = ["listing", "extraction", "commit", "neighbors", "expansion", "evaluation", "search"]
    assert [line.split()[0] for line in lines[2:10]] == [*stages, "all"]
    assert "assumed: dimension 512: not given" in out
    assert "cameras" not in out.split("assumed:", 1)[1]
    assert "note: " in out


def test_a_plan_is_one_json_object(capsys):
    told = result(capsys, "plan", "--crops", 1000, "--cpus", 2)
    assert (told["crops"], told["machines"], told["whole_money"]) == (1000, 1, None)
    assert told["whole_seconds"] == pytest.approx(sum(each["seconds"] for each in told["stages"]))
    assert {each["stage"] for each in told["stages"]} > {"listing", "search"}
    assert told["stages"][1]["disk_bytes"] > 1000 * 2048


def test_nothing_is_written(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(capsys, "plan", "--crops", 5)[0] == 0
    assert list(Path.cwd().iterdir()) == []


def test_numbers_that_cannot_be_are_refused(capsys):
    assert "--crops must be at least 1, not 0" in refused(capsys, "plan", "--crops", 0)
    told = refused(capsys, "plan", "--crops", 9, "--crops-per-second", 0)
    assert "--crops-per-second must be above 0" in told
