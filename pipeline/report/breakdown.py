"""The parts of a result beyond its means, as plain data: intervals, open set, cameras."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, TypedDict

from pipeline.errors import InputError
from pipeline.report.structure import Between

Count = Annotated[int, Between(0)]
Position = Annotated[int, Between(1)]
Share = Annotated[float, Between(0, 1)]


class Interval(TypedDict):
    """A confidence interval."""

    low: Share
    high: Share


class Intervals(TypedDict):
    """Confidence intervals of the means over valid queries."""

    mAP: Interval
    rank1: Interval


class OperatingPoint(TypedDict):
    """What a threshold accepts; all but `wanted` are null where the rate cannot be measured."""

    wanted: Share  # false-accept rate that was asked for
    threshold: float | None  # the least similarity that is accepted
    false_accepts: Count | None  # negatives accepted
    far: Share | None  # their share of all negatives, at most `wanted`
    tar: Share | None  # share of the positives accepted


class OpenSet(TypedDict):
    """Accepting pairs of a query and a kept gallery row by a threshold on their similarity."""

    positives: Position  # pairs that match
    negatives: Position  # pairs that do not
    equal_error_rate: Share
    equal_error_threshold: float
    points: list[OperatingPoint]  # by `wanted`, ascending


class CameraFigures(TypedDict):
    """The figures of one camera's queries; null where none of them is valid."""

    camera: str | None  # null for queries of unknown camera
    queries: Position
    valid: Count
    rank1: Share | None
    mAP: Share | None


class PairFigures(TypedDict):
    """The figures of one camera's queries among the rows of one gallery camera."""

    query_camera: str | None
    gallery_camera: str | None
    valid: Position  # queries with a match in that camera
    rank1: Share
    mAP: Share


def check_intervals(intervals: Intervals, where: str) -> None:
    """InputError for an interval that ends before it begins."""
    for name, interval in (("mAP", intervals["mAP"]), ("rank1", intervals["rank1"])):
        if interval["low"] > interval["high"]:
            raise InputError(f"{where}.{name}: ends below its beginning")


def check_open_set(found: OpenSet, where: str) -> None:
    """InputError for points out of order, half measured, or beyond the rate that was wanted."""
    points = found["points"]
    for place, point in enumerate(points):
        here = f"{where}.points[{place}]"
        values = (point["threshold"], point["false_accepts"], point["far"], point["tar"])
        if len({value is None for value in values}) > 1:
            raise InputError(f"{here}: is measured in part")
        if point["far"] is not None and point["far"] > point["wanted"]:
            raise InputError(f"{here}: FAR {point['far']} is above the wanted {point['wanted']}")
    if any(later["wanted"] <= earlier["wanted"] for earlier, later in pairwise(points)):
        raise InputError(f"{where}.points: the wanted rates must ascend")
    shares = [point["tar"] for point in points if point["tar"] is not None]
    if any(later < earlier for earlier, later in pairwise(shares)):
        raise InputError(f"{where}.points: TAR falls while FAR may grow")


def check_cameras(cameras: Sequence[CameraFigures], queries: int, valid: int, where: str) -> None:
    """InputError unless every query is of one camera, and figures are null where none is valid."""
    if len({each["camera"] for each in cameras}) < len(cameras):
        raise InputError(f"{where}: names a camera twice")
    counts = [sum(each[key] for each in cameras) for key in ("queries", "valid")]
    if counts != [queries, valid]:
        raise InputError(
            f"{where}: {counts[1]} valid of {counts[0]} queries, yet there are {valid} of {queries}"
        )
    for place, each in enumerate(cameras):
        if {each["rank1"] is None, each["mAP"] is None} != {each["valid"] == 0}:
            raise InputError(f"{where}[{place}]: figures are null exactly where no query is valid")


def check_pairs(pairs: Sequence[PairFigures], where: str) -> None:
    """InputError for a pair of cameras that is named twice."""
    if len({(each["query_camera"], each["gallery_camera"]) for each in pairs}) < len(pairs):
        raise InputError(f"{where}: names a pair of cameras twice")
