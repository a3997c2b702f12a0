"""What is said of a job that failed."""

from types import SimpleNamespace
from typing import Any

import pytest

from jobs.command.job_log import JobLog, failure


def ended(**more: Any) -> Any:
    return SimpleNamespace(
        **{"status": "FAILED", "driver_exit_code": None, "error_type": None, "message": "m"} | more
    )


@pytest.mark.parametrize(
    ("details", "advice"),
    [
        (ended(status="STOPPED"), "submit the same command again: it goes on"),
        (ended(driver_exit_code=2), "correct what the log says is wrong"),
        (ended(driver_exit_code=-9), "reserve more with --driver-memory"),
        (ended(driver_exit_code=1), "(--retries N does that by itself)"),
        (ended(error_type="RUNTIME_ENV_SETUP_FAILURE"), "--install downloads packages"),
        (ended(error_type="JOB_SUPERVISOR_ACTOR_START_TIMEOUT"), "reserve less with --driver-cpus"),
        (ended(error_type="JOB_SUPERVISOR_ACTOR_UNSCHEDULABLE"), "no machine has so much"),
        (ended(error_type="JOB_SUPERVISOR_ACTOR_DIED"), "was probably lost; submit the same"),
    ],
)
def test_what_to_do_depends_on_what_happened(details: Any, advice: str) -> None:
    told = failure("http://head:8265", "n-1", details, [])
    assert advice in told.split("what to do next: ")[1]
    assert "the end of its log" not in told


def test_the_log_is_told_once_and_only_its_end(capsys: pytest.CaptureFixture[str]) -> None:
    log = JobLog()
    log.take("".join(f"line {number}\n" for number in range(20)) + "the ")
    log.take("last")
    log.close()
    assert capsys.readouterr().out.endswith("line 19\nthe last")
    message = "failed with exit code 1, last available logs (truncated to 20,000 chars):\nline 3"
    told = failure("http://head:8265", "n-1", ended(message=message), list(log.last_lines))
    first, heading, *lines = told.splitlines()
    assert first == "n-1 at http://head:8265: failed with exit code 1"
    assert heading == "the end of its log:"
    assert lines[:10] == [*(f"    line {number}" for number in range(11, 20)), "    the last"]
    assert lines[-1].endswith("--attach n-1")
