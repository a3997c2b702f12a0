"""submit --profile: defaults of a file, for the submission and for the verb."""

import contextlib
import shlex
import tomllib
from pathlib import Path

import pytest
import ray.job_submission

from jobs import cli, submit
from jobs.command import profiles
from tests.jobs.running import refused, run

ROOT = Path(__file__).parents[2]
SHIPPED = sorted((ROOT / "cluster" / "submit_profiles").glob("*.toml"))
EXTRACT = ("--", "extract", "/s", "--gallery", "/g", "--model", "/m.onnx")
PROFILE = """
address = "http://head:1"
env = ["OF_MINE"]
driver-memory = 3
retries = 2

[extract]
num-gpus = 1
flip = true
letterbox = false
scales = [1, 1.5]

[evaluate]
workers = 16
"""


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """What Ray's client is asked; `nightly` is a profile of this user."""
    asked = {}

    class Client:
        def __init__(self, address):
            asked["address"] = address

        def submit_job(self, *, submission_id, **more):
            asked.update(more)
            return submission_id

        def list_jobs(self):
            return []

    monkeypatch.setattr(ray.job_submission, "JobSubmissionClient", Client)
    # Not this code anew for each: `test_submit` looks at what is sent.
    monkeypatch.setattr(submit, "job_folder", lambda _: contextlib.nullcontext(tmp_path))
    monkeypatch.setenv("OF_MINE", "hush")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "config" / "regallery").mkdir(parents=True)
    (tmp_path / "config" / "regallery" / "nightly.toml").write_text(PROFILE)
    return asked


def submitted(capsys, *arguments):
    status, _, err = run(capsys, "submit", "--no-wait", "--retries", 0, *arguments)
    assert status == 0, err


def verb_of(asked):
    return shlex.split(asked["entrypoint"])[3:]


def test_a_profile_gives_what_no_flag_says(capsys, asked, monkeypatch):
    read, seen = profiles.read_profile, []
    monkeypatch.setattr(profiles, "read_profile", lambda name: (seen.append(name), read(name))[1])
    submitted(capsys, "--profile", "nightly", *EXTRACT)
    assert seen == ["nightly"]  # once: it may change meanwhile
    assert asked["address"] == "http://head:1"
    assert asked["entrypoint_memory"] == 3 << 30
    assert asked["runtime_env"]["env_vars"] == {"OF_MINE": "hush"}
    more = ["--num-gpus=1", "--flip", "--no-letterbox", "--scales=1", "--scales=1.5"]
    assert verb_of(asked) == [*EXTRACT[1:], *more]


def test_flags_and_the_configuration_win(capsys, asked, tmp_path):
    config = tmp_path / "run.toml"
    config.write_text("flip = false\n")
    submitted(
        capsys, "--profile=nightly", "--address", "http://other:2", "--driver-memory=1", *EXTRACT,
        "--num-gpus", "0.5", "--letterbox", "--config", config,
    )  # fmt: skip
    assert asked["address"] == "http://other:2"
    assert asked["entrypoint_memory"] == 1 << 30
    assert verb_of(asked)[-2:] == ["--scales=1", "--scales=1.5"]
    assert {"--flip", "--num-gpus=1", "--no-letterbox"}.isdisjoint(verb_of(asked))


def test_another_verb_has_other_defaults(capsys, asked):
    submitted(capsys, "--profile", "nightly", "--", "info", "/g")
    assert verb_of(asked) == ["info", "/g"]


def test_jobs_are_listed_at_its_address(capsys, asked):
    status, out, err = run(capsys, "submit", "--profile", "nightly", "--list")
    assert (status, out) == (0, "no jobs at http://head:1\n"), err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("x = [", "nightly.toml cannot be read"),
        ("address = 'http://h:1'\nnonsense = 1\n", 'Unknown option: "[nonsense]" from '),
        ("address = 'http://h:1'\n[extrakt]\nflip = true\n", "[extrakt] is not a verb"),
        ("address = 'http://h:1'\n[extract.recipe]\nflip = true\n", "[extract.recipe] is a table"),
        (
            "address = 'http://h:1'\n[extract]\nflop = 1\n",
            "[extract]: Unknown option: --flop.",
        ),
        ("address = 'http://h:1'\nenv = ['A=hush']\n", "give --env A"),
    ],
)
def test_a_wrong_profile_is_told(capsys, asked, tmp_path, content, message):
    (tmp_path / "config" / "regallery" / "nightly.toml").write_text(content)
    told = refused(capsys, "submit", "--no-wait", "--profile", "nightly", *EXTRACT)
    assert message in told
    assert "hush" not in told


def test_a_profile_that_is_missing_is_told_with_those_there_are(capsys, asked):
    told = refused(capsys, "submit", "--profile", "nightlie", *EXTRACT)
    assert "--profile nightlie: there is no file" in told
    assert told.endswith("the profiles there are nightly")


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_those_that_come_along_fit_the_verbs(file, capsys, asked, monkeypatch):
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    submitted(capsys, "--profile", file, *EXTRACT)
    assert cli.parse(verb_of(asked)).verb == "extract"
    sides = ("--query", "/q", "--gallery", "/g", "--out", "/o")
    submitted(capsys, "--profile", file, "--", "evaluate", *sides)
    on = cli.parse(verb_of(asked)).bound.arguments["on"]
    assert on.workers == tomllib.loads(file.read_text())["evaluate"]["workers"]
