"""What `--json` prints: one key has one type and one meaning in all verbs."""

import importlib
import types
from collections import defaultdict
from dataclasses import fields, is_dataclass
from inspect import signature
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest

from jobs import cli
from pipeline.archive.listing.findings import FoundLabels
from pipeline.core.clusters.stability import EpsChoice
from pipeline.core.evaluation.bootstrap import Interval
from pipeline.core.identities.clustering import Agreement
from pipeline.core.identities.precision import Estimate
from pipeline.core.thresholds.calibration import Threshold
from pipeline.gallery.log.history import VersionInfo
from pipeline.gallery.outputs import Output
from pipeline.gallery.progress import RunProgress
from pipeline.gallery.sidecars.calibrations import CalibrationState
from pipeline.gallery.upkeep.purge import Purged
from pipeline.gallery.upkeep.verify import Finding
from pipeline.report.results import Report
from pipeline.runs.acceptance import AcceptanceTest
from pipeline.runs.camera_health import CameraDrift, SilentCamera
from pipeline.runs.camera_thresholds import CameraPair
from pipeline.runs.outcomes import Followed
from pipeline.runs.queries import NotSearched
from pipeline.runs.travelled import ListEffect, TravelEffect
from tests.jobs.labeled import labeled_gallery, people
from tests.jobs.running import result

NAMED_ONLY = (
    FoundLabels, Interval, Agreement, Estimate, Threshold, CameraPair, NotSearched, Report,
    RunProgress, TravelEffect, ListEffect, CameraDrift, SilentCamera,
    AcceptanceTest, EpsChoice,
)  # fmt: skip
"""Types that the results name and import for type checkers only."""

HELD_AS_DICTS = (VersionInfo, CalibrationState, Purged, Followed, Finding)
"""What `info`, `erase` and `verify` hold as dicts of its fields."""

OF_THEIR_OWN = (Report, Output)
"""The report has a JSON Schema of its own; a purge shows `Followed` in place of `Output`."""


def results():
    """Each verb with the types of its results."""
    for verb in cli.VERBS:
        module = importlib.import_module(cli.module_of(verb))
        verb_function = getattr(module, module.__name__.removeprefix("jobs."))
        found = signature(verb_function).return_annotation
        yield from ((verb, each) for each in get_args(found) or (found,))


def json_type(hint):
    """The type that JSON has for values of this type, but for null: a key may be unknown."""
    if get_origin(hint) in (Union, types.UnionType):
        kinds = {json_type(each) for each in get_args(hint) if each is not types.NoneType}
        return " or ".join(sorted(kinds))
    if get_origin(hint) is Literal:
        return json_type(type(get_args(hint)[0]))
    if get_origin(hint) in (tuple, list):
        return f"list of {json_type(get_args(hint)[0])}"
    if get_origin(hint) is not None:
        # The names in it are names of cameras, of settings and the like.
        return "object"
    if is_dataclass(hint):
        return hint.__name__
    return {Path: "text", str: "text"}.get(hint, getattr(hint, "__name__", str(hint)))


def parts_of(hint):
    """The dataclasses within a type."""
    if is_dataclass(hint):
        yield hint
    for inner in get_args(hint):
        yield from parts_of(inner)


def typed_keys(owner, seen):
    """Each key of a result, and of what it holds, with the types of its values."""
    if owner in seen or owner in OF_THEIR_OWN:
        return
    seen.add(owner)
    names = {each.__name__: each for each in NAMED_ONLY}
    for each in reversed(owner.__mro__):
        names |= vars(importlib.import_module(each.__module__)) if is_dataclass(each) else {}
    hints = get_type_hints(owner, localns=names)
    for field in fields(owner):
        hint = hints[field.name]
        yield field.metadata.get("json", field.name), json_type(hint), owner.__name__
        for part in parts_of(hint):
            yield from typed_keys(part, seen)


def test_one_key_has_one_type_in_all_verbs():
    found, seen = defaultdict(lambda: defaultdict(set)), set()
    owners = [owner for _, owner in results()]
    assert len(owners) >= len(cli.VERBS)
    for owner in (*owners, *HELD_AS_DICTS):
        for key, kind, name in typed_keys(owner, seen):
            found[key][kind].add(name)
    assert len(found["rows"]["int"]) > 6
    assert not found["rows"]["int"] & {each.__name__ for each in NAMED_ONLY}  # only of a gallery
    several = {key: dict(kinds) for key, kinds in found.items() if len(kinds) > 1}
    assert several == {}


def test_rows_are_those_that_the_version_holds(tmp_path, capsys):
    gallery = tmp_path / "g"
    labeled_gallery(gallery, *people(6, 60, dimension=8))
    held = result(capsys, "info", gallery)
    verbs = {
        "export": ("--out", tmp_path / "out"),
        "expand": ("--out", tmp_path / "expanded", "-k", 2),
        "compact": (),
        "restore": ("--version", 1),
        "verify": (),
        "link": ("--out", tmp_path / "links.csv", "--threshold", 0.5),
        "erase": ("--identity", 1, "--dry-run"),
    }
    found = {verb: result(capsys, verb, gallery, *flags) for verb, flags in verbs.items()}
    rows = {verb: each["rows"] for verb, each in found.items() if "rows" in each}
    assert rows == dict.fromkeys(("export", "expand", "compact", "restore"), held["rows"])
    erased = found["erase"]["rows_erased"]
    assert 0 < erased < erased + found["erase"]["rows_left"] == held["rows"]
    assert found["verify"]["rows_verified"] == held["rows"]
    assert 0 < held["junk"] == held["rows"] - found["link"]["rows_linked"]


@pytest.mark.parametrize(
    ("hint", "shown"),
    [
        (int | None, "int"),
        (Path, "text"),
        (str | None, "text"),
        (tuple[str, ...], "list of text"),
        (dict[str, Any], "object"),
        (Literal["a", "b"], "text"),
        (int | float, "float or int"),
    ],
)
def test_types_in_json(hint, shown):
    assert json_type(hint) == shown
