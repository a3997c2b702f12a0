"""The CMC chart: its places, its range, its words."""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.report.charts import cmc_chart, description, roc_chart, roc_description
from pipeline.report.drawing import spread_apart
from pipeline.report.results import Report
from tests.report.changing import changed


@given(st.lists(st.floats(0, 100), max_size=12))
def test_labels_keep_their_order_and_distance(values: list[float]) -> None:
    places = spread_apart(values, gap=5.0, low=0.0, high=100.0)
    for one, (value, place) in enumerate(zip(values, places, strict=True)):
        assert -1e-9 <= place <= 100 + 1e-9
        for other in range(one):
            assert abs(place - places[other]) >= 5 - 1e-9
            if value != values[other]:
                assert (place > places[other]) == (value > values[other])


def test_labels_that_lie_apart_stay_where_they_are() -> None:
    assert spread_apart([80.0, 20.0, 50.0], gap=5.0, low=0.0, high=100.0) == [80.0, 20.0, 50.0]


def _svg(report: Report, chart: Callable[..., Any] = cmc_chart) -> str:
    chart = chart(report, width=600, height=300, name="test")
    assert chart is not None
    # Inlined in HTML the element needs no namespace; to parse it as XML the prefix must be known.
    ElementTree.fromstring(str(chart).replace("<svg ", '<svg xmlns:xlink="x" ', 1))
    return str(chart)


def _labels(svg: str) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


def test_each_curve_is_labeled_with_its_rank_1(report: Report) -> None:
    labels = _labels(_svg(report))
    assert {"baseline 50.0", "aqe query 56.2", "aqe joint 46.9"} <= set(labels)
    assert [label for label in labels if label.isdigit()] == ["1", "2", "5", "10"]
    assert next(label for label in labels if label.endswith("%")) == "40 %"


def test_colors_are_the_pages_own(report: Report) -> None:
    svg = _svg(report)
    for variable in ("--muted", "--rule", "--series-0", "--series-1", "--series-2"):
        assert f"var({variable})" in svg
    assert not re.search(r"#0[12]000\d", svg)
    assert "<style" not in svg
    assert "<metadata" not in svg


@pytest.mark.parametrize("cmc", [[0.5], [1.0] * 3, [0.0, 0.0], [k / 3000 for k in range(3000)]])
def test_any_curve_can_be_drawn(report: Report, cmc: list[float]) -> None:
    first = replace(report.results[0], cmc=tuple(cmc), cmc_cut=None, rank={"1": cmc[0]})
    _svg(replace(report, results=(first,)))


def test_a_name_is_text_and_no_formula(report: Report) -> None:
    report = changed(report, "results", 1, "name", to="$x^2$ <i>&")
    assert "$x^2$ &lt;i&gt;&amp; (query) 56.2" in _labels(_svg(report))


def test_a_long_name_is_shortened(report: Report) -> None:
    report = changed(report, "results", 1, "name", to="query " + "x" * 90)
    (label,) = [label for label in _labels(_svg(report)) if label.startswith("query x")]
    assert label.endswith("… 56.2")
    assert len(label) <= 0.4 * 600 / 6


def test_no_chart_without_a_valid_query(no_valid_query: Report) -> None:
    assert cmc_chart(no_valid_query, width=600, height=300, name="test") is None


def test_the_chart_in_words(report: Report) -> None:
    words = description(report)
    assert "baseline: 50.00 % at rank 1, 87.50 % at rank 5, 100.00 % at rank 10" in words
    assert f'aria-label="{words}"' in _svg(report)


def test_each_roc_curve_is_named_and_begins_at_the_finest_measured_rate(
    report: Report,
) -> None:
    labels = _labels(_svg(report, roc_chart))
    assert {"baseline", "aqe query", "aqe joint", "10⁻³", "10⁻²"} <= set(labels)
    assert "10⁻⁴" not in labels  # not measured
    for place in range(3):
        report = changed(report, "results", place, "open_set", to=None)
    assert roc_chart(report, width=600, height=300, name="test") is None


def test_one_measured_rate_is_no_curve(report: Report) -> None:
    report = replace(report, results=report.results[:1])
    points = report.results[0].open_set.points[:2]
    report = changed(report, "results", 0, "open_set", "points", to=points)
    assert roc_chart(report, width=600, height=300, name="test") is None


def test_the_roc_chart_in_words(report: Report) -> None:
    words = roc_description(report)
    assert "baseline: 21.88 % at 0.001, 43.75 % at 0.01;" in words
    assert f'aria-label="{words}"' in _svg(report, roc_chart)
