"""The configuration of a watch: read whole and checked, with key and line, before work begins."""

import difflib
import re
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any, get_args, get_type_hints

from pydantic import TypeAdapter, ValidationError

from pipeline.archive.layouts.named import NAMES, layout
from pipeline.errors import InputError
from pipeline.gallery import opening
from pipeline.input_files import parse_toml, read_text
from pipeline.runs.locations import LOCATION
from pipeline.runs.watch_steps import (
    STEP_KINDS,
    EraseStep,
    ExtractStep,
    WatchReporting,
    WatchStep,
    verb_of,
)

_REPORTING = "watch"
_NAMED = re.compile(r"`([a-z_0-9]+)`")
_HEADER = re.compile(r"\s*\[\[?\s*\"?([\w-]+)\"?\s*\]\]?\s*(?:#.*)?$")
_KEY = re.compile(r"\s*\"?([\w-]+)\"?\s*=")


@dataclass(frozen=True)
class WatchPlan:
    """The steps of a watch, each after the steps that it depends on.

    `needs` has, for each step, the places of the steps that it depends on.
    """

    config: str
    steps: tuple[WatchStep, ...]
    needs: tuple[tuple[int, ...], ...]
    reporting: WatchReporting


@dataclass(frozen=True)
class _Place:
    """The line of a table in the file, and those of its keys."""

    line: int
    keys: Mapping[str, int]


class _Faults:
    """Collect the faults, to report all of them at once."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._told: list[tuple[int, str]] = []

    def add(self, line: int, text: str) -> None:
        self._told.append((line, f"{self._file}, line {line}: {text}"))

    def check(self) -> None:
        if self._told:
            raise InputError("; ".join(text for _, text in sorted(self._told)))


def read_watch(file: str | Path) -> WatchPlan:
    """Read a plan from a TOML file, whose tables are steps.

    The names of the tables are those of `STEP_KINDS`, any number of each, and their keys are the
    settings of the verbs; a table `watch` has `WatchReporting`. Relative paths count from the
    file's folder. Raise InputError that names every wrong key and its line: unknown keys and
    tables, values of another kind or out of range, two steps that make the same output, a gallery
    that no step makes, and steps that depend on each other.
    """
    file = Path(file)
    text = read_text(file)
    try:
        tables = parse_toml(text)
    except ValueError as error:
        raise InputError(f"{file} cannot be read as TOML: {error}") from error
    places, faults, folder = _places(text), _Faults(file), file.absolute().parent
    steps: list[tuple[WatchStep, _Place]] = []
    reporting = WatchReporting()
    for name, found in tables.items():
        where = places.get(name, [_Place(1, {})])
        if name == _REPORTING:
            made = _made(WatchReporting, found, where[0], name, folder, faults)
            reporting = made or reporting
            continue
        if name not in STEP_KINDS:
            known = [*STEP_KINDS, _REPORTING]
            faults.add(where[0].line, f"[{name}] is not known{_near(name, known)}")
            continue
        for number, table in enumerate(found if isinstance(found, list) else [found]):
            place = where[min(number, len(where) - 1)]
            made = _made(STEP_KINDS[name], table, place, name, folder, faults)
            if made is not None:
                steps.append((made, place))
    if not {*tables} - {_REPORTING}:
        faults.add(1, f"nothing to bring up to date: give tables [[{']], [['.join(STEP_KINDS)}]]")
    faults.check()
    order, needs = _ordered(steps, faults)
    faults.check()
    return WatchPlan(str(file), order, needs, reporting)


def _made(
    kind: type, table: Any, place: _Place, name: str, folder: Path, faults: _Faults
) -> Any | None:
    """The step of a table, or None if it has faults, which are collected."""
    if not isinstance(table, dict):
        faults.add(place.line, f"{name} must be a table, [[{name}]]")
        return None
    hints = _settings_of(kind)
    given = {key.replace("-", "_"): value for key, value in table.items()}
    values: dict[str, Any] = {}
    fine = True
    for key, value in given.items():
        line = place.keys.get(key, place.line)
        field = "class_" if key == "class" and "class_" in hints else key
        if field not in hints:
            faults.add(line, f"{key} of [{name}] is not known{_near(key, list(hints))}")
            fine = False
            continue
        try:
            values[field] = _typed(hints[field], value)
            if _is_location(hints[field]) or (field == "travel_times" and value != "learned"):
                values[field] = _placed(field, values[field], folder)
        except InputError as error:
            faults.add(line, f"{key} of [{name}]: {error}")
            fine = False
    for field in fields(kind):
        if field.default is MISSING and field.name not in given:
            faults.add(place.line, f"[{name}] has no {field.name}")
            fine = False
    if not fine:
        return None
    try:
        made = _built(kind, values)
        if isinstance(made, ExtractStep):
            _check_layout(made)
        return made
    except InputError as error:
        key = next((each for each in _NAMED.findall(str(error)) if each in given), None)
        told = _NAMED.sub(r"\1", str(error))  # they are keys here, not flags
        faults.add(place.keys.get(key or "", place.line), f"[{name}]: {told}")
    return None


def _check_layout(step: ExtractStep) -> None:
    # A source that is away is a fault of the step.
    if Path(step.source).exists() or step.layout not in NAMES:
        try:
            layout(step.layout, step.source, step.labels)
        except InputError as error:
            raise InputError(f"`layout`: {error}") from error


def _settings_of(kind: type) -> dict[str, Any]:
    """The kinds of all keys of a step's table: its own, and those of its settings."""
    hints: dict[str, Any] = {}
    own = get_type_hints(kind, include_extras=True)
    for field in fields(kind):
        if is_dataclass(own[field.name]):
            hints |= get_type_hints(own[field.name], include_extras=True)
        else:
            hints[field.name] = own[field.name]
    return hints


def _built(kind: type, values: Mapping[str, Any]) -> Any:
    own = get_type_hints(kind)
    made: dict[str, Any] = {}
    for field in fields(kind):
        inner = own[field.name]
        if is_dataclass(inner) and isinstance(inner, type):
            names = {each.name for each in fields(inner)}
            made[field.name] = inner(**{k: v for k, v in values.items() if k in names})
        elif field.name in values:
            made[field.name] = values[field.name]
    return kind(**made)


def _typed(hint: Any, value: Any) -> Any:
    """A value of TOML as the setting's type."""
    if isinstance(value, str) and not value.strip():
        raise InputError("it is empty: give it a value, or leave it out")
    strict = not isinstance(value, list | str)  # lists become tuples, and texts become paths
    try:
        return TypeAdapter(hint).validate_python(value, strict=strict)
    except ValidationError as error:
        told = error.errors(include_url=False)[0]["msg"]
        raise InputError(f"{value!r} cannot be used: {told}") from error


def _placed(field: str, value: Any, folder: Path) -> Any:
    """A path from the folder of the configuration; URLs and names of built-in networks stay."""
    if "://" in str(value):
        return value
    there = folder / Path(str(value)).expanduser()
    if field == "model" and "/" not in str(value) and not there.exists():
        return value
    return type(value)(there)


def _is_location(hint: Any) -> bool:
    if LOCATION in getattr(hint, "__metadata__", ()):
        return True
    return any(_is_location(each) for each in get_args(hint) if each is not type(None))


def _near(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f": did you mean {near[0]}?" if near else f": known are {', '.join(sorted(known))}"


def _places(text: str) -> dict[str, list[_Place]]:
    """The tables of a TOML text by name, each with its line and those of its keys.

    >>> _places("[watch]\\nlevel = 0.9\\n[[link]]\\nout = 'a.csv'\\n[[link]]")["link"]
    [_Place(line=3, keys={'out': 4}), _Place(line=5, keys={})]
    """
    found: dict[str, list[_Place]] = {}
    keys: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if header := _HEADER.match(line):
            keys = {}
            found.setdefault(header[1], []).append(_Place(number, keys))
        elif key := _KEY.match(line):
            keys.setdefault(key[1].replace("-", "_"), number)
    return found


def _ordered(
    steps: list[tuple[WatchStep, _Place]], faults: _Faults
) -> tuple[tuple[WatchStep, ...], tuple[tuple[int, ...], ...]]:
    """The steps in order, and the dependencies of each."""
    makers: dict[str, int] = {}
    erasers: dict[str, list[int]] = {}
    for number, (step, place) in enumerate(steps):
        if isinstance(step, EraseStep):
            erasers.setdefault(step.gallery, []).append(number)
        elif step.makes in makers:
            line = steps[makers[step.makes]][1].line
            faults.add(place.line, f"{step.makes} is made by the step of line {line} already")
        else:
            makers[step.makes] = number
    needs: dict[int, list[int]] = {}
    for number, (step, place) in enumerate(steps):
        needs[number] = []
        if isinstance(step, ExtractStep):
            continue
        if step.gallery in makers:
            needs[number].append(makers[step.gallery])
        elif not opening.exists(step.gallery):
            line = place.keys.get("gallery", place.line)
            faults.add(line, f"there is no gallery {step.gallery}, and no step makes it")
        if not isinstance(step, EraseStep):
            needs[number] += erasers.get(step.gallery, [])
    kinds = [*STEP_KINDS]
    sorter = TopologicalSorter(needs)
    try:
        sorter.prepare()
    except CycleError as error:
        line = steps[error.args[1][0]][1].line
        places = " and ".join(sorted({steps[each][0].makes for each in error.args[1]}))
        faults.add(line, f"these depend on each other: {places}")
        return (), ()
    order: list[int] = []
    ready: list[int] = []
    while sorter.is_active():
        ready += sorter.get_ready()
        ready.sort(key=lambda number: (kinds.index(verb_of(steps[number][0])), number))
        order.append(ready.pop(0))
        sorter.done(order[-1])
    at = {number: place for place, number in enumerate(order)}
    return (
        tuple(steps[number][0] for number in order),
        tuple(tuple(sorted(at[each] for each in needs[number])) for number in order),
    )
