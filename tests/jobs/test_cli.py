"""The shell around the verbs: arguments, configuration, output, and the exit status."""

import importlib
import inspect
import json
import logging
import os
import runpy
import shlex
import signal
import subprocess
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import pytest
from cyclopts import Parameter

from jobs import cli
from jobs.command import console
from pipeline.errors import InputError, RunError
from pipeline.gallery.lock_waiting import waiting_seconds
from tests.jobs.labeled import labeled_gallery, people

ROOT = Path(__file__).parents[2]


@Parameter(name="*")
@dataclass(frozen=True)
class Size:
    """Some flags."""

    height: int = 256
    """Pixels."""
    mean: tuple[float, ...] = (0.5,)
    """Mean."""


@dataclass(frozen=True)
class Told:
    source: str
    count: int
    size: Size
    flag: bool
    share: float


Verb = Callable[..., object]


@pytest.fixture
def verb(monkeypatch: pytest.MonkeyPatch) -> Callable[[Verb], None]:
    """Install a function as the verb `tiny`."""

    def install(function: Verb) -> None:
        module = types.ModuleType("jobs.tiny")
        function.__module__ = "jobs.tiny"
        module.tiny = function
        module.describe = lambda result: f"told: {result.source}"
        monkeypatch.setitem(sys.modules, "jobs.tiny", module)
        monkeypatch.setitem(cli.VERBS, "tiny", "Do little.")

    return install


@pytest.fixture
def tiny(verb: Callable[[Verb], None]) -> None:
    def tiny(
        source: str,
        /,
        *,
        count: int = 1,
        size: Size = Size(),
        flag: bool = False,
        share: float = 0.5,
        kind: Literal["a", "b"] = "a",
    ) -> Told:
        """Do little.

        For example:

            regallery tiny photos

        Args:
            source: What to tell.
            count: How often.
            flag: Whether.
            share: How much.
            kind: Which.
        """
        print("a library prints")  # noqa: T201
        os.write(1, b"and its C code too\n")
        logging.getLogger("pipeline.somewhere").info("a message")
        return Told(source, count, size, flag, share)

    verb(tiny)


def failing(error: BaseException) -> Verb:
    def tiny() -> None:
        """Fail."""
        raise error

    return tiny


def test_result_is_described(tiny: None, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["tiny", "photos"]) == 0
    out, err = capfd.readouterr()
    assert out.splitlines()[-1] == "told: photos"
    assert err == "a message\n"


def test_json_is_one_object_alone(tiny: None, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["tiny", "photos", "--json", "--share", "nan"]) == 0
    out, err = capfd.readouterr()
    size = {"height": 256, "mean": [0.5]}
    assert json.loads(out) == {
        "source": "photos", "count": 1, "size": size, "flag": False, "share": None,
    }  # fmt: skip
    assert out.count("\n") == 1
    assert "a library prints" in err
    assert "and its C code too" in err


def test_flags_of_every_verb_go_anywhere(tiny: None, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--json", "tiny", "-v", "photos"]) == 0
    out, err = capfd.readouterr()
    assert json.loads(out)["source"] == "photos"
    assert "INFO pipeline.somewhere: a message" in err


def told(capfd: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    status = cli.main([*arguments, "--json"])
    answer = json.loads(capfd.readouterr().out)
    assert status == answer.get("error", {}).get("exit_status", 0)
    return answer


def test_configuration_gives_what_flags_leave_out(
    tiny: None, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "run.toml"
    file.write_text(
        'count = 3\nheight = 128\nflag = true\n[tiny]\ncount = 4\nmean = [0.1, 0.2]\n'
        '[info]\ngallery = "of another verb"\n'
    )  # fmt: skip
    answer = told(capfd, "tiny", "photos", "--config", str(file), "--height", "64", "--no-flag")
    assert answer["count"] == 4  # the verb's table goes before flat keys
    assert answer["size"] == {"height": 64, "mean": [0.1, 0.2]}
    assert answer["flag"] is False


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("cuont = 3", "cuont"),
        ("[tiny]\nwidht = 3", "widht"),
        ("count = 'x'", "count"),
        ("tiny = 3", "must be a table, [tiny]"),
        ("count = ", "cannot be read: "),
        ("count = 2.5", "2.5"),
    ],
)
def test_mistakes_in_the_configuration_are_named(
    tiny: None, tmp_path: Path, capfd: pytest.CaptureFixture[str], content: str, message: str
) -> None:
    file = tmp_path / "run.toml"
    file.write_text(content)
    error = told(capfd, "tiny", "photos", "--config", str(file))["error"]
    assert error["exit_status"] == 2
    assert message in error["message"]
    assert "run.toml" in error["message"]


def test_missing_configuration_is_named(tiny: None, capfd: pytest.CaptureFixture[str]) -> None:
    error = told(capfd, "tiny", "photos", "--config", "/nowhere.toml")["error"]
    assert "/nowhere.toml" in error["message"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tiny"], "SOURCE"),
        (["tiny", "photos", "--cuont", "2"], "--cuont"),
        (["tiny", "photos", "--count", "x"], '"x"'),
        (["tiny", "photos", "--count", "2.5"], '"2.5"'),
        (["tiny", "photos", "--kind", "c"], '"a", "b"'),
        (["tinny"], "did you mean tiny?"),
        (["frobnicate"], "the commands are extract, "),
        (["tiny", "photos", "--config"], "--config"),
    ],
)
def test_wrong_arguments_are_one_line_and_2(
    tiny: None, capfd: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert cli.main(arguments) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("error: ")
    assert message in err
    assert told(capfd, *arguments)["error"]["type"] == "InputError"


@pytest.mark.parametrize(
    ("arguments", "flag"),
    [
        ("search x.jpg --gallery g --model m --query-camera ''", "--query-camera"),
        ("extract '' --gallery g --model m", "SOURCE"),
        ("evaluate --query '' --gallery g --out o", "--query"),
        ("info --gallery g --at ' '", "--at"),
        ("import x --gallery g --format npy --made-by t --rows=", "--rows"),
        ("submit --address http://x:1 -- erase --gallery /g --where '' --ids 1", "--where"),
    ],
)
def test_flags_that_are_given_but_empty_are_refused(
    capfd: pytest.CaptureFixture[str], arguments: str, flag: str
) -> None:
    error = told(capfd, *shlex.split(arguments))["error"]
    assert error["message"] == f"{flag} is empty: give it a value, or leave it out"
    assert error["exit_status"] == 2


def test_a_verb_waits_for_locks_as_long_as_was_asked(
    verb: Callable[[Verb], None], capfd: pytest.CaptureFixture[str]
) -> None:
    def tiny() -> None:
        """Fail."""
        raise RunError(f"waits for {waiting_seconds():g} s")

    verb(tiny)
    for flags, message in (((), "waits for 0 s"), (("--wait-lock", "2.5"), "waits for 2.5 s")):
        assert told(capfd, "tiny", *flags)["error"]["message"].startswith(message)
    error = told(capfd, "tiny", "--wait-lock=-1")["error"]
    assert error["message"] == "--wait-lock is -1: give 0 or more seconds"


def test_panics_are_one_line(
    verb: Callable[[Verb], None], capfd: pytest.CaptureFixture[str]
) -> None:
    class PanicException(BaseException):
        pass

    verb(failing(PanicException("index out\nof range")))
    assert told(capfd, "tiny")["error"]["message"].startswith("PanicException: index out of range")


@pytest.mark.parametrize(
    ("error", "status", "kind", "message"),
    [
        (InputError("no\nsuch  folder"), 2, "InputError", "no such folder"),
        (RunError("2 units are kept"), 1, "RunError", "2 units are kept (rerun with -v"),
        (KeyError("x"), 1, "KeyError", "KeyError: 'x' (rerun with -v for the traceback)"),
        (KeyboardInterrupt(), 130, "Interrupted", "run the same command again"),
    ],
)
def test_failures_are_one_line(
    verb: Callable[[Verb], None],
    capfd: pytest.CaptureFixture[str],
    error: BaseException,
    status: int,
    kind: str,
    message: str,
) -> None:
    verb(failing(error))
    assert cli.main(["tiny"]) == status
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1
    answer = told(capfd, "tiny")["error"]
    assert (answer["type"], answer["exit_status"]) == (kind, status)
    assert cli.main(["tiny", "-v"]) == status
    assert "Traceback" in capfd.readouterr().err


def test_errors_of_workers_are_told_by_their_cause(
    verb: Callable[[Verb], None], capfd: pytest.CaptureFixture[str]
) -> None:
    class WorkerError(Exception):
        cause = InputError("x.jpg is none")

    verb(failing(WorkerError("a long traceback")))
    assert cli.main(["tiny"]) == 2
    assert capfd.readouterr().err == "error: x.jpg is none\n"


def test_result_without_a_form_in_json_is_an_error(
    verb: Callable[[Verb], None], capfd: pytest.CaptureFixture[str]
) -> None:
    def tiny() -> object:
        """Return what JSON has no word for."""
        return {"a": object()}

    verb(tiny)
    assert told(capfd, "tiny")["error"]["message"].startswith("TypeError: object has no form")


HEAVY = ("torch", "ray", "numpy", "pyarrow", "numba", "matplotlib")
LIGHT_ONLY = f"""
import sys
from jobs.cli import main
status = main(sys.argv[1:])
loaded = [name for name in {HEAVY} if name in sys.modules]
sys.exit(f"loaded {{loaded}}" if loaded else status)
"""


ANSWERS = f"""
import sys
from jobs.cli import VERBS, main
found = [("--help", main(["--help"]))]
for name in VERBS:
    found.append((name, main([name, "--no-such"])))
    if loaded := [heavy for heavy in {HEAVY} if heavy in sys.modules]:
        sys.exit(f"{{name}} loaded {{loaded}}")
wrong = [name for name, status in found if status != (0 if name == "--help" else 2)]
sys.exit(f"wrong status: {{wrong}}" if wrong else 0)
"""


def test_help_and_wrong_arguments_load_nothing_heavy() -> None:
    """Which is why they answer at once; the time itself depends on the machine."""
    done = subprocess.run([sys.executable, "-c", ANSWERS], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("error: ") == len(cli.VERBS)


def test_info_loads_what_reads_tables_and_nothing_else(tmp_path: Path) -> None:
    labeled_gallery(tmp_path / "g", *people(3, 4, seed=1))
    told = subprocess.run(
        [sys.executable, "-c", LIGHT_ONLY, "info", "--gallery", str(tmp_path / "g")],
        cwd=ROOT,
        capture_output=True,
        text=True,
    ).stderr
    assert told.startswith("loaded ['numpy', 'pyarrow']"), told


def test_version_is_the_packages(capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capfd.readouterr().out == f"regallery {metadata.version('regallery')}\n"


def documented(name: str) -> str:
    module = importlib.import_module(cli.module_of(name))
    function = getattr(module, cli.module_of(name).removeprefix("jobs."))
    return inspect.getdoc(function) or ""


def example(name: str) -> list[str]:
    """The words of the example in a verb's docstring."""
    block = documented(name).split("For example:")[1].split("Args:")[0]
    return shlex.split(block.replace("\\\n", " "))


every_verb = pytest.mark.parametrize("name", cli.VERBS)


@every_verb
def test_help_has_an_example_that_parses(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main([name, "--help"]) == 0
    assert "For example:" in capfd.readouterr().out
    command = example(name)
    assert command[:2] == ["regallery", name]
    assert cli.parse(command[1:]).verb == name


@every_verb
@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
def test_module_of_a_verb_can_be_run(
    name: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """As by `python -m`; `test_gallery_verbs` has a process of its own."""
    monkeypatch.setattr(sys, "argv", ["", "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(cli.module_of(name), run_name="__main__")
    assert ended.value.code == 0
    assert f"Usage: regallery {name}" in capfd.readouterr().out


@every_verb
def test_summary_of_a_verb_is_its_own(name: str) -> None:
    assert documented(name).startswith(cli.VERBS[name].rstrip("."))


@every_verb
def test_every_parameter_is_explained(name: str) -> None:
    arguments = cli.verbs([name])[name].assemble_argument_collection(parse_docstring=True)
    assert [
        each.name
        for each in arguments
        if each.parse and each.name != "*" and not each.parameter.help
    ] == []


@every_verb
def test_documentation_names_the_verb(name: str) -> None:
    pages = [*(ROOT / "docs").rglob("*.md"), ROOT / "README.md"]
    assert any(f"regallery {name}" in page.read_text() for page in pages)


def test_reader_that_leaves_is_no_error() -> None:
    code = (
        "import sys; from jobs.command import console;"
        "sys.stdin.read(); status = 0\n"
        "try: console.write('x' * 1000)\n"
        "except console.ReaderGone: status = 141\n"
        "sys.exit(status)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin and process.stdout and process.stderr
    process.stdout.close()
    process.stdin.close()
    assert process.wait() == 141
    assert process.stderr.read() == b""


def test_output_to_nobody_is_141(
    verb: Callable[[Verb], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(_: str) -> None:
        raise console.ReaderGone

    verb(lambda: Told("x", 1, Size(), False, 0.5))
    monkeypatch.setattr(console, "write", gone)
    assert cli.main(["tiny"]) == 141


def test_ctrl_c_is_130_and_leaves_nothing_half_said(tmp_path: Path) -> None:
    code = (
        "import sys, time, types; from jobs import cli;"
        "module = types.ModuleType('jobs.tiny'); sys.modules['jobs.tiny'] = module\n"
        "def tiny():\n    'Wait.'\n    print('waiting', file=sys.stderr, flush=True)\n"
        "    time.sleep(60)\n"
        "tiny.__module__ = 'jobs.tiny'; module.tiny = tiny; cli.VERBS['tiny'] = 'Wait.'\n"
        "sys.exit(cli.main(['tiny', '--json']))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr and process.stderr.readline() == "waiting\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert json.loads(out)["error"]["type"] == "Interrupted"
    assert err == "error: interrupted: run the same command again to resume\n"


def test_a_value_of_the_configuration_file_is_told_as_such(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, verb: Callable[[Verb], None]
) -> None:
    def tiny(source: str, /, *, max_rejects: float = 0.01, count: int = 1) -> Told:
        raise InputError(f"{source}: the limit is {max_rejects} (`max_rejects`), not {count}")

    verb(tiny)
    file = tmp_path / "settings.toml"
    file.write_text("max_rejects = 0.5\n")
    assert cli.main(["tiny", "x", "--config", str(file), "--count", "3"]) == 2
    told = capsys.readouterr().err
    assert f"(--max-rejects is set in {file})" in told
    assert "--count" not in told
    assert cli.main(["tiny", "x", "--max-rejects", "0.5", "--config", str(file)]) == 2
    assert "is set in" not in capsys.readouterr().err


def test_several_values_may_stand_behind_one_flag(
    capsys: pytest.CaptureFixture[str], verb: Callable[[Verb], None]
) -> None:
    def tiny(source: str, /, *, scales: tuple[float, ...] = (), count: int = 1) -> Told:
        return Told(source, count, Size(mean=scales), False, 0.0)

    verb(tiny)
    for flags in ("--scales 1 1.1 1.2", "--scales 1 --scales 1.1 --scales=1.2"):
        assert cli.main(["tiny", "x", *flags.split(), "--count", "2", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["size"]["mean"] == [1, 1.1, 1.2]


def test_k_is_short_for_k_in_every_verb_that_has_it() -> None:
    names = {}
    for verb in cli.VERBS:
        app = cli.verbs([verb])
        arguments = app[verb].assemble_argument_collection(default_parameter=app.default_parameter)
        if found := [each.names for each in arguments if {"--k", "-k"} & {*each.names}]:
            names[verb] = found
    verbs = ("search", "link", "mine", "expand", "evaluate", "calibrate")
    assert names == {verb: [("--k", "-k")] for verb in verbs}


def test_the_short_flag_is_read_and_shown(capfd: pytest.CaptureFixture[str]) -> None:
    flags = ["--query", "q", "--gallery", "g", "--out", "o", "-k", "3"]
    assert cli.parse(["evaluate", *flags]).bound.arguments["expansion"].k == 3
    assert cli.main(["evaluate", "--help"]) == 0
    assert "--k -k" in capfd.readouterr().out
