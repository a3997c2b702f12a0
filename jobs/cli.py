"""`regallery VERB`: find the verb, read its arguments, show its result, set the exit status.

A verb is one file, `jobs/VERB.py`, with two functions: `VERB(...)`, whose annotated parameters are
the command's arguments and which returns a frozen dataclass, and `describe(result)`, which turns it
into something that rich prints. The file imports the pipeline inside `VERB`, so that `--help` and
wrong arguments are answered before torch and Ray are loaded.
"""

import contextlib
import difflib
import importlib
import inspect
import itertools
import keyword
import os
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, get_args

from cyclopts import UNSET, App, ArgumentCollection, CoercionError, CycloptsError, Group, Parameter
from cyclopts.config import Dict

from jobs.command.address_space import check_address_space
from jobs.command.console import (
    ReaderGone,
    logs_to_stderr,
    show,
    stdout_kept_clean,
    to_json,
    write,
    write_stderr,
)
from jobs.command.naming import as_flags, name_flags_of
from jobs.command.parameters import OF_SETTINGS
from jobs.command.printable import printable, printable_values
from pipeline.errors import InputError, RunError, is_failure
from pipeline.input_files import parse_toml, read_text, why

# Each verb with its line in `regallery --help`, so that help imports no verb.
VERBS = {
    "extract": "Make a gallery, or bring it up to date with its source.",
    "re-extract": "Extract a gallery's images again, into a new gallery.",
    "watch": "Bring sources, galleries, tracklets and links up to date, once or again and again.",
    "search": "Find the gallery rows most similar to some images, exactly.",
    "calibrate": "Find the similarity threshold at which two crops count as the same identity.",
    "link": "Propose identities for the rows of a gallery, by their features alone.",
    "mine": "Propose the pairs of rows whose verdict would change most.",
    "verdict": "Say that two rows show the same person or different people.",
    "adapt": "Fit a network to the cameras of an archive that nobody has labeled.",
    "train": "Train a network on crops whose identities are known.",
    "serve": "Answer requests about galleries over HTTP, and show them in a browser.",
    "explore": "Look at galleries in the browser of this machine.",
    "expand": "Write a gallery of expanded features, or bring it up to date.",
    "tracklets": "Write a gallery with one row for each tracklet, or bring it up to date.",
    "merge": "Write the rows of several galleries to one, or bring it up to date.",
    "split": "Write each camera's rows to a gallery of its own, or bring these up to date.",
    "evaluate": "Measure exact retrieval accuracy of queries against a gallery.",
    "import": "Make a gallery of features that another tool computed.",
    "export": "Write a gallery's features and rows, or labels on frames, for other tools.",
    "info": "Show what a gallery holds.",
    "verify": "Check every file and row of a gallery.",
    "erase": "Remove rows from a gallery, and their bytes from the disk.",
    "compact": "Put a gallery's rows into few files, by camera.",
    "restore": "Make a new version that holds what an older one held.",
    "clean": "Delete what no version of a gallery needs.",
    "plan": "Predict what an archive takes, before it is paid for.",
    "model": "Show what a network is, or convert it to another format.",
    "demo": "Run every step, from crops to report, on a small archive drawn on the spot.",
    "status": "Show how far the change of a gallery is, or what the jobs of a cluster do.",
    "submit": "Run a verb as a Ray job on a cluster.",
}

DONE, FAILED, WRONG, INTERRUPTED, NO_READER = 0, 1, 2, 130, 141

_EVERY_VERB = Group("Every verb", sort_key=1)
_SWITCH = Parameter(negative=(), show_default=False, group=_EVERY_VERB)


@dataclass(frozen=True)
class Call:
    """A verb and the arguments for its call; `of_file` names the flags whose values come from
    `config`.
    """

    function: Callable[..., Any]
    bound: inspect.BoundArguments
    config: Path | None = None
    of_file: tuple[str, ...] = ()
    wait_lock: float = 0.0

    @property
    def module(self) -> ModuleType:
        """Where the function lives: `jobs.VERB`, or the parser itself for help and version."""
        return sys.modules[self.function.__module__]

    @property
    def verb(self) -> str | None:
        """The verb's name; None for help and version, which have no result."""
        return next((verb for verb in VERBS if module_of(verb) == self.module.__name__), None)

    def __call__(self) -> Any:
        """Run it; an error about a value from the configuration file names the file."""
        try:
            with _lock_waited_for(self.wait_lock):
                return self.function(*self.bound.args, **self.bound.kwargs)
        except (InputError, RunError) as error:
            if named := [flag for flag in self.of_file if _speaks_of(flag, str(error))]:
                error.add_note(f"({', '.join(named)} is set in {self.config})")
            raise


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; return its exit status.

    0 done; 1 failed, saying what was kept; 2 wrong arguments or input; 130 interrupted; 141 if
    nobody reads the output any more.
    """
    # PyTorch reads this at its first allocation; without it large activations of a network cause
    # page faults.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    arguments = list(sys.argv[1:] if argv is None else argv)
    # Not parsed: a mistake in the arguments is also reported in the requested form.
    as_json = "--json" in arguments
    verbose = not {"-v", "--verbose"}.isdisjoint(itertools.takewhile("--".__ne__, arguments))
    with logs_to_stderr(verbose=verbose):
        try:
            try:
                return _run(arguments, as_json=as_json)
            except ReaderGone:
                raise
            except BaseException as error:
                if not (is_failure(error) or isinstance(error, KeyboardInterrupt)):
                    raise
                return _report(error, as_json=as_json, verbose=verbose)
        except ReaderGone:
            return NO_READER


def parse(arguments: Sequence[str]) -> Call:
    """Parse a command line into a call, without making it.

    Raises:
        CycloptsError: an argument is unknown, missing, or of another type.
        InputError: the configuration file cannot be used.
    """
    app = verbs(arguments)
    if not {*app.help_flags, *app.version_flags}.isdisjoint(arguments):
        function, bound, _ = app.meta.parse_args(arguments, exit_on_error=False, print_error=False)
        if function is not _common:
            return Call(function, bound)
    # Without the verbs, cyclopts does not look through the arguments of the called one here, too.
    before = list(itertools.takewhile("--".__ne__, arguments))
    _, bound, _ = _common_alone().parse_args(before, exit_on_error=False, print_error=False)
    tokens = (*bound.args, *arguments[len(before) :])
    config = bound.kwargs.get("config")
    wait_lock = bound.kwargs.get("wait_lock", 0.0)
    if not 0 <= wait_lock < float("inf"):
        raise InputError(f"--wait-lock is {wait_lock:g}: give 0 or more seconds")
    if tokens and not tokens[0].startswith("-") and tokens[0] not in VERBS:
        # Reported here, since cyclopts would import every verb to suggest one.
        near = difflib.get_close_matches(tokens[0], VERBS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"the commands are {', '.join(VERBS)}"
        raise InputError(f"unknown command {tokens[0]!r}: {hint}")
    if tokens and tokens[0] in VERBS:
        module = importlib.import_module(module_of(tokens[0]))
        name_flags_of(getattr(module, module.__name__.removeprefix("jobs.")))
    of_file: list[str] = []
    app.config = (
        *([_configuration(config, tokens)] if config else ()),
        *_defaults(tokens),
        lambda _app, _commands, arguments: of_file.extend(
            each.name for each in arguments if any(t.source == str(config) for t in each.tokens)
        ),
        _refuse_empty,
        _refuse_fractions,
        _name_quantization,
    )
    try:
        function, bound, _ = app.parse_args(tokens, exit_on_error=False, print_error=False)
    except RecursionError as error:  # a flag is never so deep
        raise InputError(f"--config {config}: its tables are nested too deeply") from error
    return Call(function, bound, config, tuple(of_file), wait_lock)


def _lock_waited_for(seconds: float) -> contextlib.AbstractContextManager[None]:
    """Let a verb wait for the lock of a gallery; without a wait nothing is imported."""
    if not seconds:
        return contextlib.nullcontext()
    from pipeline.gallery.lock_waiting import waited_for

    return waited_for(seconds)


def _speaks_of(flag: str, text: str) -> bool:
    """Whether a message names a flag, or the setting that it sets.

    >>> _speaks_of("--max-rejects", "the limit is 10 (`max_rejects`)"), _speaks_of("--k", "--k1 5")
    (True, False)
    """
    name = flag.removeprefix("--")
    return bool(re.search(rf"--{name}(?![\w-])|`{name.replace('-', '_')}`", text))


def _run(arguments: Sequence[str], *, as_json: bool) -> int:
    call = parse(arguments)
    if call.verb is None:
        call()
        return DONE
    if call.verb != "submit":  # which loads none of the large libraries
        check_address_space()
    with stdout_kept_clean() if as_json else contextlib.nullcontext():
        result = call()
    if as_json:
        # For a submitted job, the answer of the verb that ran on the cluster.
        write(to_json(getattr(result, "answer", None) or result) + "\n")
    else:
        show(call.module.describe(printable_values(result)))
    return getattr(result, "exit_status", DONE)


def verbs(arguments: Sequence[str]) -> App:
    """All verbs; cyclopts imports only the one that is called."""
    app = App(
        name="regallery",
        help="Exact, bounded and restartable galleries for person re-identification.",
        version=lambda: f"regallery {metadata.version('regallery')}",
        help_format="plaintext",
        default_parameter=OF_SETTINGS,
        result_action="return_value",
    )
    app.meta.default(_common)
    for place, (verb, summary) in enumerate(VERBS.items()):
        help_ = None if verb in arguments else summary
        module = module_of(verb)
        function = module.removeprefix("jobs.")
        app.command(f"{module}:{function}", name=verb, help=help_, sort_key=place)
    return app


def _common_alone() -> App:
    """What every verb takes; all else in a command line is left as it is."""
    app = App(default_parameter=OF_SETTINGS, help_flags=(), version_flags=())
    app.default(_common)
    return app


def module_of(verb: str) -> str:
    """The module of a verb, which holds a function of the module's own name.

    >>> module_of("re-extract")
    'jobs.reextract'
    >>> module_of("import")
    'jobs.import_'
    """
    module = "jobs." + verb.replace("-", "")
    return module + "_" if keyword.iskeyword(verb) else module


def _common(
    *tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    config: Annotated[Path | None, Parameter(group=_EVERY_VERB)] = None,
    json: Annotated[bool, _SWITCH] = False,
    verbose: Annotated[bool, _SWITCH, Parameter(name=("--verbose", "-v"))] = False,
    wait_lock: Annotated[float, Parameter(show_default=False, group=_EVERY_VERB)] = 0.0,
) -> None:
    """Declare the arguments that every verb takes; `parse` reads them, and nothing calls this.

    Args:
        tokens: The verb and its own arguments.
        config: TOML file of arguments, flat or with a table for each verb; flags override it.
        json: Print only the result (or the error) to standard output, as one JSON object.
        verbose: Log more, and show the traceback of a failure.
        wait_lock: Wait up to this many seconds for another writer of the gallery to finish
            (default: fail at once). Reading never waits.
    """


def _configuration(file: Path, tokens: Sequence[str]) -> Dict:
    """Read the arguments of the verb that is called; its own table overrides flat keys."""
    try:
        content = parse_toml(read_text(file))
    except InputError as error:
        raise InputError(f"--config {error}") from error
    except ValueError as error:
        raise InputError(f"--config {file} cannot be read: {error}") from error
    verb = tokens[0] if tokens else ""
    table = content.get(verb, {})
    if not isinstance(table, dict):
        raise InputError(f"--config {file}: {verb} must be a table, [{verb}]")
    flat = {key: value for key, value in content.items() if key not in VERBS}
    return Dict({verb: flat | table}, source=str(file))


def _defaults(tokens: Sequence[str]) -> list[Dict]:
    """What a profile says of the flags of `submit`."""
    if not tokens or tokens[0] != "submit":
        return []
    from jobs.command.profiles import defaults

    found = defaults(tokens)
    return [] if found is None else [Dict({"submit": found[0]}, source=found[1])]


def _refuse_empty(app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Refuse a flag without a value, as from a shell variable that is not set: it would count as
    not given, and select more than the user meant.
    """
    del app
    for argument in arguments:
        for token in argument.tokens:
            if commands == ("submit",) and token.keyword is None:
                continue  # words of the verb to submit, which is parsed by itself
            implied = token.implicit_value
            if (token.value.strip() if implied is UNSET else implied) in ("", (), []):
                file = "" if token.source == "cli" else f" in {token.source}"
                raise InputError(
                    f"{argument.name} is empty{file}: give it a value, or leave it out"
                )


def _refuse_fractions(app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Refuse 3.5 for a whole number, which cyclopts would round."""
    del app, commands
    for argument in arguments:
        kinds = set(get_args(argument.resolved_hint)) - {Ellipsis} or {argument.resolved_hint}
        for token in argument.tokens:
            if kinds == {int} and "." in token.value:
                raise CoercionError(token=token, argument=argument, target_type=int)


def _name_quantization(app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Answer `model export --to int8`, which is not a file format, with the flag that is meant."""
    del app
    for argument in arguments if commands == ("model",) else ():
        if argument.name == "--to" and "int8" in [token.value for token in argument.tokens]:
            raise InputError(
                "--to takes a file format, and int8 is not one: give --quantize int8 together with "
                "--to onnx or --to openvino, and --sample with crops for calibration"
            )


def _report(error: BaseException, *, as_json: bool, verbose: bool) -> int:
    """Report an error in one line, and return its exit status."""
    if verbose:
        write_stderr("".join(traceback.format_exception(error)))
    # An error from a Ray worker carries the original, without the worker's traceback in its text.
    while isinstance(cause := getattr(error, "cause", None), BaseException):
        error = cause
    notes = getattr(error, "__notes__", ())
    text = as_flags(" ".join(" ".join((str(error), *notes)).split()))
    match error:
        case KeyboardInterrupt():
            status, text = INTERRUPTED, "interrupted: run the same command again to resume"
        case CycloptsError():
            error.verbose = False
            command = " ".join(("regallery", *(error.command_chain or ())))
            text = f"{' '.join(str(error).split())} See: {command} --help"
            status = WRONG
        case InputError():
            status = WRONG
        case RunError():
            status = FAILED
        case OSError():
            status, text = FAILED, _with_file_names(error)
        case MemoryError():
            status, text = FAILED, f"out of memory ({text or 'an allocation failed'})"
        case _:
            status, text = FAILED, f"{type(error).__name__}: {text}"
    if status == FAILED and not verbose:
        text += " (rerun with -v for the traceback)"
    kind = {WRONG: "InputError", INTERRUPTED: "Interrupted"}.get(status, type(error).__name__)
    write_stderr(f"error: {printable(text)}\n")
    if as_json:
        write(to_json({"error": {"type": kind, "message": text, "exit_status": status}}) + "\n")
    return status


def _with_file_names(error: OSError) -> str:
    """The message of an unexpected error of a file operation, with the names of the files.

    >>> _with_file_names(FileNotFoundError(2, "No such file or directory", "a.npy"))
    'a.npy: No such file or directory'
    """
    names = [str(name) for name in (error.filename, error.filename2) if name is not None]
    told = " and ".join(names) or "a file that the system does not name"
    return f"{told}: {why(error)}"


if __name__ == "__main__":
    sys.exit(main())
