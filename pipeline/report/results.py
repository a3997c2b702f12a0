"""The result of an evaluation as plain data: what report.json holds and the page is made from.

`Report` describes it key by key; `checked` makes one from a mapping. Every share (mAP, CMC, AP,
INP) is a fraction from 0 to 1, never a percentage. The page itself defines the metrics.
"""

from collections.abc import Mapping
from datetime import datetime
from itertools import pairwise
from typing import Annotated, Any, Literal, NotRequired, TypedDict, cast

from pipeline.errors import InputError
from pipeline.report.breakdown import (
    CameraFigures,
    Count,
    Intervals,
    OpenSet,
    PairFigures,
    Position,
    Share,
    check_cameras,
    check_intervals,
    check_open_set,
    check_pairs,
)
from pipeline.report.structure import Between, conform

SCHEMA = 2

Scalar = bool | int | float | str | None
Mode = Literal["query", "database", "joint"]


class QuerySet(TypedDict):
    """The query table as it was read."""

    location: str  # path or URL of the table
    version: Count  # the version that was read
    rows: Count
    rejects: dict[str, Count]  # inputs that gave no row, by reason
    identities: Count  # distinct identities, junk and distractors left out
    cameras: Count  # distinct cameras
    expanded: NotRequired[str]  # how its features came of another gallery's, where they did


class GallerySet(QuerySet):
    """The gallery table as it was read."""

    distractors: Count  # rows of identity 0: kept, never a match
    junk: Count  # rows of identity -1: left out of every ranking


class Protocol(TypedDict):
    """What the CMC is measured on."""

    name: Literal["market1501", "cuhk03"]  # the whole list, or one random image of each identity
    repeats: Position | None  # draws of the images; null for market1501
    seed: Count | None  # of the draws; null for market1501


class Resampling(TypedDict):
    """How the confidence intervals were drawn."""

    replicates: Position
    level: Share
    seed: Count


class Result(TypedDict):
    """The figures of one way to rank; every metric is null (and `cmc` empty) where `valid` is 0."""

    name: str  # "baseline", "aqe joint": unique in the report
    mode: Mode | None  # expansion mode; null without expansion
    parameters: dict[str, Scalar]  # {"k": 10, "alpha": 3.0, "times": 1}, or {}
    queries: Count  # valid + invalid
    valid: Count  # queries with a match among the kept rows: what the means are over
    invalid: Count
    rank: dict[str, Share | None]  # CMC at the rank of the key ("1", "5"); null past a cut curve
    cmc: list[Share]  # CMC at ranks 1, 2, ...
    cmc_cut: Position | None  # length of `cmc` where the gallery was too short for the wanted one
    mAP: Share | None  # by the non-interpolated AP
    mAP_trapezoid: Share | None  # by the AP of the trapezoid rule
    mINP: Share | None
    intervals: Intervals | None  # null without a bootstrap or a valid query
    open_set: OpenSet | None  # null where not asked for, not defined, or without pairs
    cameras: list[CameraFigures]  # by query camera
    camera_pairs: list[PairFigures] | None  # pairs with a match; null where not counted
    seconds: Annotated[float, Between(0)]  # wall time of this result


class Crop(TypedDict):
    """One query of a ranked list."""

    path: str  # as in the query table
    identity: int | None
    camera: str | None


class Hit(TypedDict):
    """One gallery row of a ranked list."""

    path: str  # as in the gallery table
    identity: int | None
    camera: str | None
    score: float  # similarity to the query (as ranked)
    match: bool


class Entry(TypedDict):
    """One valid query with the top of its ranked list (kept rows only)."""

    query: Crop
    ap: Share  # non-interpolated
    inp: Share
    first_match_rank: Position
    matches: Position  # rows that match it in the whole gallery
    list: list[Hit]  # best first


class Ranked(TypedDict):
    """Ranked lists of some valid queries under one result, chosen by AP."""

    result: str  # the name of a result
    best: list[Entry]
    median: list[Entry]
    worst: list[Entry]


class Report(TypedDict):
    """A whole evaluation. The first result is the one that the others' gains are counted from."""

    schema: Literal[2]
    created: str  # ISO 8601 with its offset from UTC
    regallery: str  # version of Regallery
    command: NotRequired[str]  # what to type to get this report again
    query: QuerySet
    gallery: GallerySet
    recipe: dict[str, Scalar | list[Scalar]]  # must hold `fingerprint`; the rest is shown as it is
    dimension: Position  # of a feature
    storage: Literal["float32", "float16"]  # of the gallery's features
    settings: dict[str, Scalar]  # block sizes, workers
    protocol: Protocol
    bootstrap: Resampling | None  # null without intervals
    results: list[Result]
    ranked: Ranked | None


def checked(report: Mapping[str, Any]) -> Report:
    """`report` as plain JSON data in the key order of `Report`, or an InputError naming the place.

    Beside the types, these hold: names of results differ; valid + invalid = queries; metrics are
    null exactly where no query is valid; CMC never falls and agrees with `rank` and `cmc_cut`; so
    do the counts by camera with those of the result; draws have a number and a seed under cuhk03.
    """
    plain = cast(Report, conform(report, Report, "report"))
    try:
        moment = datetime.fromisoformat(plain["created"])
    except ValueError as error:
        raise InputError(f"report.created: {plain['created']!r} is no ISO 8601 time") from error
    if moment.tzinfo is None:
        raise InputError(f"report.created: {plain['created']!r} lacks its offset from UTC")
    if not isinstance(plain["recipe"].get("fingerprint"), str):
        raise InputError("report.recipe: lacks the fingerprint")
    if not plain["results"]:
        raise InputError("report.results: must hold at least one result")
    names = [result["name"] for result in plain["results"]]
    for place, (name, result) in enumerate(zip(names, plain["results"], strict=True)):
        where = f"report.results[{place}]"
        if not name.strip() or not name.isprintable():
            raise InputError(f"{where}.name: must be printable text, got {name!r}")
        if name in names[:place]:
            raise InputError(f"{where}.name: {name!r} names two results")
        _check_result(result, where)
        if (result["intervals"] is None) != (plain["bootstrap"] is None or not result["valid"]):
            raise InputError(f"{where}.intervals: go with report.bootstrap and a valid query")
    drawn = {plain["protocol"]["repeats"] is not None, plain["protocol"]["seed"] is not None}
    if drawn != {plain["protocol"]["name"] == "cuhk03"}:
        raise InputError("report.protocol: repeats and seed go with cuhk03, and only with it")
    if plain["ranked"] is not None and plain["ranked"]["result"] not in names:
        raise InputError(f"report.ranked.result: {plain['ranked']['result']!r} names no result")
    return plain


def _check_result(result: Result, where: str) -> None:
    queries, valid, invalid = result["queries"], result["valid"], result["invalid"]
    if valid + invalid != queries:
        raise InputError(f"{where}: {valid} valid + {invalid} invalid are not {queries} queries")
    figures = [result["mAP"], result["mAP_trapezoid"], result["mINP"]]
    if valid and (None in figures or not result["cmc"]):
        raise InputError(f"{where}: {valid} valid queries, yet a metric is null or cmc is empty")
    if not valid and (
        any(f is not None for f in [*figures, *result["rank"].values()]) or result["cmc"]
    ):
        raise InputError(f"{where}: no valid query, so every metric must be null and cmc empty")
    _check_curve(result, where)
    if result["intervals"] is not None:
        check_intervals(result["intervals"], f"{where}.intervals")
    if result["open_set"] is not None:
        check_open_set(result["open_set"], f"{where}.open_set")
    check_cameras(result["cameras"], queries, valid, f"{where}.cameras")
    check_pairs(result["camera_pairs"] or [], f"{where}.camera_pairs")


def _check_curve(result: Result, where: str) -> None:
    curve, cut = result["cmc"], result["cmc_cut"]
    if any(later < earlier for earlier, later in pairwise(curve)):
        raise InputError(f"{where}.cmc: falls; a CMC curve never does")
    if curve and cut is not None and cut != len(curve):
        raise InputError(f"{where}.cmc_cut: {cut}, yet the curve has {len(curve)} ranks")
    for key, share in result["rank"].items():
        if not (key.isascii() and key.isdigit() and int(key) > 0):
            raise InputError(f"{where}.rank: {key!r} is no rank")
        rank = int(key)
        if rank <= len(curve) and (share is None or abs(share - curve[rank - 1]) > 1e-9):
            raise InputError(f"{where}.rank.{key}: {share}, yet cmc has {curve[rank - 1]} there")
    result["rank"] = dict(sorted(result["rank"].items(), key=lambda item: int(item[0])))
