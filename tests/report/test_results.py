"""A report is checked when it is made."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pipeline.core.evaluation.bootstrap import Interval
from pipeline.core.evaluation.by_camera import CameraFigures
from pipeline.core.evaluation.metrics import summarize
from pipeline.core.evaluation.ranking import RankCounts
from pipeline.core.evaluation.single_shot import SingleShot
from pipeline.report.results import Gains, Protocol, RankingResult, Report
from tests.report.changing import changed

NAN = float("nan")
GAINS = Gains(Interval(0, 1), Interval(0, 1), Interval(0, 1))
FIRST = ("results", 0)


@pytest.mark.parametrize(
    ("path", "to", "message"),
    [
        (("created",), "yesterday", "Invalid isoformat string"),
        (("created",), "2026-03-04T10:22:31", "lacks its offset from UTC"),
        (("results",), (), "have different names"),
        (("results", 2, "name"), "baseline", "have different names"),
        ((*FIRST, "name"), " ", "must be printable text"),
        ((*FIRST, "name"), "a\x00", "must be printable text"),
        ((*FIRST, "invalid"), 2, r"8 valid \+ 2 invalid are not 9 queries"),
        ((*FIRST, "cmc"), (), "a CMC curve exactly where a query is valid"),
        ((*FIRST, "cmc", 9), 0.25, "never falls"),
        ((*FIRST, "mean_ap"), NAN, "a mean is NaN exactly where no query is valid"),
        ((*FIRST, "mean_ap_trapezoid"), NAN, "a mean is NaN exactly where no query is valid"),
        ((*FIRST, "mean_inp"), NAN, "a mean is NaN exactly where no query is valid"),
        ((*FIRST, "query_cameras", 0, "queries"), 7, "8 valid of 11 queries, yet there are 8 of 9"),
        ((*FIRST, "query_cameras", 0, "valid"), 4, "7 valid of 9 queries, yet there are 8 of 9"),
        ((*FIRST, "query_cameras", 1, "camera"), "c1", "names a camera twice"),
        ((*FIRST, "camera_pairs", 1, "gallery_camera"), "c2", "names a pair of cameras twice"),
        ((*FIRST, "gains"), GAINS, "gains nothing over itself"),
        (("results", 1, "gains"), None, "intervals of gains go with"),
        ((*FIRST, "intervals"), None, "intervals go with a bootstrap"),
        (("bootstrap",), None, "intervals go with a bootstrap"),
        (("ranked", "result"), "other", "are of 'other', not of a result"),
    ],
)
def test_a_report_that_contradicts_itself_is_refused(
    report: Report, path: tuple[str | int, ...], to: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        changed(report, *path, to=to)


def test_no_mean_without_a_valid_query(no_valid_query: Report) -> None:
    with pytest.raises(ValueError, match="a mean is NaN exactly where no query is valid"):
        replace(no_valid_query.results[0], mean_inp=0.0)


def test_the_figures_of_a_summary() -> None:
    """One query of two, its matches at ranks 1 and 4."""
    scores = np.array([0.9, 0.5], np.float32)
    counts = RankCounts(np.array([0, 2, 2]), np.array([3, 8]), scores, np.array([0, 2]))
    others: dict[str, Any] = dict.fromkeys(
        ("mode", "intervals", "gains", "open_set", "camera_pairs")
    )
    cameras = (CameraFigures("c1", 2, 1, 1.0, 0.75),)
    result = RankingResult.of(
        summarize(counts, 7, max_rank=50),
        50,
        name="plain",
        parameters={},
        query_cameras=cameras,
        seconds=0.5,
        **others,
    )
    assert (result.queries, result.valid, result.invalid) == (2, 1, 1)
    assert result.rank == {"1": 1.0, "5": 1.0, "10": None, "20": None}
    assert (result.cmc, result.cmc_cut) == ((1.0,) * 7, 7)
    assert (result.mean_ap, result.mean_ap_trapezoid, result.mean_inp) == (
        0.75, (1 + (1 / 3 + 1 / 2) / 2) / 2, 0.5,
    )  # fmt: skip


def test_the_protocol_of_draws() -> None:
    assert Protocol.of(None) == Protocol("market1501", None, None)
    assert Protocol.of(SingleShot(7, 3)) == Protocol("cuhk03", 7, 3)
