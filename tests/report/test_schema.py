"""docs/report.schema.json says what a report holds, no more and no less."""

from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import pytest

from pipeline.core.evaluation.bootstrap import Bootstrap, Interval
from pipeline.core.evaluation.by_camera import CameraFigures, PairFigures
from pipeline.core.thresholds.open_set import OpenSet, OperatingPoint
from pipeline.report import results
from pipeline.report.plain import plain
from tests.report.schema import faults, validator


@pytest.mark.parametrize("case", ["report", "no_valid_query", "reranked"])
def test_reports_are_as_the_schema_says(request: pytest.FixtureRequest, case: str) -> None:
    assert faults(plain(request.getfixturevalue(case))) == []


def _objects(schema: Any) -> Iterator[dict[str, Any]]:
    """Every part of the schema that describes an object of fixed keys."""
    if isinstance(schema, dict):
        if "properties" in schema and "fingerprint" not in schema["properties"]:
            yield schema
        for part in schema.values():
            yield from _objects(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from _objects(part)


def test_every_key_is_described_and_required_and_there_is_no_other() -> None:
    described = list(_objects(validator().schema))
    assert len(described) == 18
    for each in described:
        assert each["additionalProperties"] is False
        assert each["required"] == list(each["properties"])
        for key, about in each["properties"].items():
            assert about["description"].endswith("."), key


@pytest.mark.parametrize(
    ("kind", "part"),
    [
        (results.Report, ()),
        (results.QuerySet, ("$defs", "table")),
        (results.GallerySet, ("$defs", "gallery")),
        (results.Protocol, ("properties", "protocol")),
        (Bootstrap, ("properties", "bootstrap")),
        (results.RankingResult, ("$defs", "result")),
        (results.Gains, ("$defs", "gains")),
        (results.Intervals, ("$defs", "intervals")),
        (Interval, ("$defs", "interval")),
        (OpenSet, ("$defs", "open_set")),
        (OperatingPoint, ("$defs", "point")),
        (CameraFigures, ("$defs", "query_camera")),
        (PairFigures, ("$defs", "camera_pair")),
        (results.Ranked, ("properties", "ranked")),
        (results.ListEntry, ("$defs", "entry")),
        (results.Crop, ("$defs", "crop")),
        (results.ListHit, ("$defs", "hit")),
    ],
)
def test_keys_stand_in_the_order_of_the_fields(kind: Any, part: tuple[str, ...]) -> None:
    schema: Any = validator().schema
    for step in part:
        schema = schema[step]
    keys = [field.metadata.get("json", field.name) for field in fields(kind)]
    assert list(schema["properties"]) == keys


@pytest.mark.parametrize(
    ("path", "to"),
    [
        (("schema",), 2),
        (("more",), 1),
        (("created",), None),
        (("recipe",), {}),
        (("results",), []),
        (("results", 0, "mAP"), 61.2),
        (("results", 0, "rank", "first"), 0.5),
        (("results", 0, "mode"), "both"),
        (("results", 0, "intervals", "mAP", "middle"), 0.5),
        (("results", 0, "open_set", "points", 1, "rate"), 0.5),
        (("results", 0, "query_cameras", 0, "queries"), 0),
        (("ranked", "best", 0, "list", 0, "score"), None),
        (("ranked", "best", 0, "list", 0, "rank"), 1),
    ],
)
def test_the_schema_refuses_what_is_no_report(
    report: results.Report, path: tuple[str | int, ...], to: Any
) -> None:
    whole = plain(report)
    place = whole
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = to
    assert len(faults(whole)) == 1
