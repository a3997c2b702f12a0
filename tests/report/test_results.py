"""A report is checked when it is made."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pipeline.errors import InputError
from pipeline.report.results import checked


def test_a_whole_report_survives_json(report: dict[str, Any]) -> None:
    plain = checked(report)
    assert plain == report
    assert checked(json.loads(json.dumps(plain, allow_nan=False))) == plain


def test_ranks_are_in_order_of_number(report: dict[str, Any]) -> None:
    rank = report["results"][0]["rank"]
    report["results"][0]["rank"] = dict(reversed(rank.items()))
    assert list(checked(report)["results"][0]["rank"]) == ["1", "5", "10", "20"]


def test_arrays_of_numpy_numbers_become_plain(report: dict[str, Any]) -> None:
    report["results"][0]["cmc"] = [np.float64(share) for share in report["results"][0]["cmc"]]
    report["query"]["rows"] = np.int64(9)
    report["recipe"]["mean"] = (0.485, 0.456, 0.406)
    json.dumps(checked(report), allow_nan=False)


def test_a_report_without_command_ranked_lists_or_valid_query(
    no_valid_query: dict[str, Any],
) -> None:
    del no_valid_query["command"]
    assert checked(no_valid_query) == no_valid_query


def _set(*path: Any, to: Any) -> Callable[[dict[str, Any]], None]:
    def change(report: dict[str, Any]) -> None:
        place: Any = report
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = to

    return change


FIRST = ("results", 0)
POINTS = (*FIRST, "open_set", "points")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_set("schema", to=1), r"report\.schema: must be 2, got 1"),
        (_set("created", to="yesterday"), "report.created: 'yesterday' is no ISO 8601 time"),
        (_set("created", to="2026-03-04T10:22:31"), "lacks its offset from UTC"),
        (_set("recipe", to={"weights": "ab"}), "report.recipe: lacks the fingerprint"),
        (_set("results", to=[]), "report.results: must hold at least one result"),
        (_set(*FIRST, "name", to=" "), r"results\[0\].name: must be printable text"),
        (_set(*FIRST, "name", to="a\x00"), r"results\[0\].name: must be printable text"),
        (_set("results", 2, "name", to="baseline"), r"\[2\].name: 'baseline' names two results"),
        (_set(*FIRST, "mode", to="both"), r"\[0\].mode: must be 'query' or 'database'"),
        (_set(*FIRST, "invalid", to=2), r"8 valid \+ 2 invalid are not 9 queries"),
        (_set(*FIRST, "mAP", to=None), r"results\[0\]: 8 valid queries, yet a metric is null"),
        (_set(*FIRST, "mAP", to=float("nan")), r"\[0\].mAP: nan is no number"),
        (_set(*FIRST, "mAP", to=61.2), r"\[0\].mAP: must be from 0 to 1, got 61.2"),
        (_set(*FIRST, "cmc", 9, to=0.25), r"cmc: falls"),
        (_set(*FIRST, "cmc_cut", to=11), "cmc_cut: 11, yet the curve has 10 ranks"),
        (_set(*FIRST, "rank", to={"first": 0.5}), "rank: 'first' is no rank"),
        (_set(*FIRST, "rank", to={"0": 0.5}), "rank: '0' is no rank"),
        (_set(*FIRST, "rank", "5", to=0.75), "rank.5: 0.75, yet cmc has 0.875 there"),
        (_set(*FIRST, "rank", "5", to=None), "rank.5: None, yet cmc has 0.875 there"),
        (_set(*FIRST, "intervals", to=None), r"\[0\].intervals: go with report.bootstrap"),
        (_set("bootstrap", to=None), r"\[0\].intervals: go with report.bootstrap"),
        (_set(*FIRST, "intervals", "mAP", "low", to=0.9), r"intervals.mAP: ends below"),
        (_set(*FIRST, "intervals", "rank1", "high", to=0.1), r"intervals.rank1: ends below"),
        (_set(*POINTS, 1, "tar", to=None), r"points\[1\]: is measured in part"),
        (_set(*POINTS, 1, "far", to=0.01), r"points\[1\]: FAR 0.01 is above the wanted 0.001"),
        (_set(*POINTS, 1, "wanted", to=0.005), "points: the wanted rates must ascend"),
        (_set(*POINTS, 2, "tar", to=0.1), "points: TAR falls"),
        (
            _set(*FIRST, "cameras", 0, "queries", to=4),
            r"8 valid of 8 queries, yet there are 8 of 9",
        ),
        (_set(*FIRST, "cameras", 0, "valid", to=4), r"7 valid of 9 queries, yet there are 8 of 9"),
        (_set(*FIRST, "cameras", 1, "camera", to="c1"), "cameras: names a camera twice"),
        (_set(*FIRST, "cameras", 0, "mAP", to=None), r"cameras\[0\]: figures are null exactly"),
        (_set(*FIRST, "cameras", 2, "rank1", to=0.5), r"cameras\[2\]: figures are null exactly"),
        (_set(*FIRST, "camera_pairs", 1, "gallery_camera", to="c2"), "names a pair of cameras"),
        (_set("protocol", "repeats", to=10), "repeats and seed go with cuhk03"),
        (_set("protocol", "name", to="cuhk03"), "repeats and seed go with cuhk03"),
        (_set("ranked", "result", to="other"), "report.ranked.result: 'other' names no result"),
        (_set("ranked", "best", 0, "list", 0, "score", to=None), r"best\[0\].list\[0\].score"),
    ],
)
def test_a_wrong_report_is_refused(
    report: dict[str, Any], change: Callable[[dict[str, Any]], None], message: str
) -> None:
    change(report)
    with pytest.raises(InputError, match=message):
        checked(report)


@pytest.mark.parametrize("key", ["mAP", "mAP_trapezoid", "mINP"])
def test_no_metric_without_a_valid_query(no_valid_query: dict[str, Any], key: str) -> None:
    no_valid_query["results"][0][key] = 0.0
    with pytest.raises(InputError, match="no valid query, so every metric must be null"):
        checked(no_valid_query)
