"""A small report whose figures were worked by hand, and pictures for it."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from pipeline.core.evaluation.bootstrap import Bootstrap, Interval
from pipeline.core.evaluation.by_camera import CameraFigures, PairFigures
from pipeline.core.thresholds.open_set import OpenSet, OperatingPoint
from pipeline.report.results import (
    Crop,
    ExpansionMode,
    Gains,
    GallerySet,
    Intervals,
    ListEntry,
    ListHit,
    Protocol,
    QuerySet,
    Ranked,
    RankingResult,
    Report,
)
from pipeline.report.thumbnails import Thumbnails, thumbnail
from tests.report.changing import changed

NAN = float("nan")


def _result(name: str, mode: ExpansionMode | None, gain: float) -> RankingResult:
    cmc = (0.5 + gain, 0.75, 0.75, 0.75, 0.875, 0.875, 0.875, 0.875, 0.875, 1.0)
    return RankingResult(
        name=name,
        mode=mode,
        parameters={"k": 10, "alpha": 3.0, "times": 1} if mode else {},
        queries=9,
        valid=8,
        invalid=1,
        rank={"1": cmc[0], "5": cmc[4], "10": cmc[9], "20": None},
        cmc=cmc,
        cmc_cut=10,
        mean_ap=0.61234 + gain,
        mean_ap_trapezoid=0.60352 + gain,
        mean_inp=0.23456 - gain,
        intervals=Intervals(
            Interval(0.5512 + gain, 0.6627 + gain), Interval(0.375 + gain, 0.625 + gain)
        ),
        gains=Gains(
            Interval(gain - 0.03, gain + 0.02),
            Interval(gain - 0.07, gain + 0.05),
            Interval(-gain - 0.02, -gain + 0.02),
        )
        if mode
        else None,
        open_set=_open_set(gain),
        query_cameras=(
            CameraFigures("c1", 5, 5, 0.6 + gain, 0.7 + gain),
            CameraFigures("c2", 3, 3, 0.25, 0.46875),
            CameraFigures(None, 1, 0, NAN, NAN),
        ),
        camera_pairs=(
            PairFigures("c1", "c2", 5, 0.5, 0.59375 + gain),
            PairFigures("c1", "c10", 2, 0.5, 0.84375 + gain),
            PairFigures("c2", "c1", 3, 0.5, 0.34375),
        ),
        seconds=1.25,
    )


def _open_set(gain: float) -> OpenSet:
    reached = [(1e-3, 0.90625, 1, 0.21875), (2e-3, 0.875, 2, 0.3125), (1e-2, 0.75, 12, 0.4375)]
    points = [
        OperatingPoint(wanted, threshold, accepts, accepts / 1234, tar + gain)
        for wanted, threshold, accepts, tar in reached
    ]
    return OpenSet(16, 1234, 0.15625 - gain, 0.53125, (OperatingPoint(1e-4), *points))


def _entry(path: str, ap: float) -> ListEntry:
    hits = (
        ListHit("c2/a.jpg", 7, "c2", 0.875, None, match=True),
        ListHit("c2/b.jpg", 0, "c2", 0.5, None, match=False),
        ListHit("c3/c.jpg", None, None, -0.125, None, match=False),
    )
    return ListEntry(Crop(path, 7, "c1"), ap, ap / 2, first_match_rank=1, matches=2, list=hits)


@pytest.fixture(scope="session")
def report() -> Report:
    """A whole report with every part present."""
    return Report(
        created="2026-03-04T10:22:31+00:00",
        regallery="0.1.0",
        command="regallery evaluate --query work/query --gallery work/gallery --out out",
        query=QuerySet(
            location="work/query",
            version=2,
            rows=9,
            rejects={},
            identities=4,
            cameras=3,
            expanded=None,
        ),
        gallery=GallerySet(
            location="work/gallery/",
            version=5,
            rows=12345,
            rejects={"truncated": 2, "not-an-image": 1},
            identities=4,
            cameras=3,
            expanded=None,
            distractors=2,
            junk=1,
        ),
        recipe={"fingerprint": "ab" * 32, "weights": "cd" * 32, "mean": (0.485, 0.456, 0.406)},
        dimension=512,
        storage="float32",
        settings={"query block": 4096, "workers": 2},
        protocol=Protocol("market1501", None, None),
        bootstrap=Bootstrap(),
        results=(
            _result("baseline", None, 0.0),
            _result("aqe query", "query", 0.0625),
            _result("aqe joint", "joint", -0.03125),
        ),
        ranked=Ranked(
            result="baseline",
            best=(_entry("c1/best.jpg", 1.0),),
            median=(_entry("c1/median.jpg", 0.5),),
            worst=(_entry("c1/worst.jpg", 0.0625),),
        ),
    )


@pytest.fixture(scope="session")
def no_valid_query(report: Report) -> Report:
    """The same report where no query has a match."""
    results = tuple(
        replace(
            result,
            valid=0,
            invalid=9,
            cmc=(),
            cmc_cut=None,
            mean_ap=NAN,
            mean_ap_trapezoid=NAN,
            mean_inp=NAN,
            rank=dict.fromkeys(result.rank),
            intervals=None,
            gains=None,
            open_set=None,
            query_cameras=tuple(
                replace(camera, valid=0, rank1=NAN, mean_ap=NAN) for camera in result.query_cameras
            ),
            camera_pairs=(),
        )
        for result in report.results
    )
    return replace(report, results=results, ranked=None)


@pytest.fixture(scope="session")
def reranked(report: Report) -> Report:
    """The same report where the last result is re-ranked, and its lists are shown."""
    report = changed(
        report,
        "results",
        2,
        to=replace(
            report.results[2],
            name="k-reciprocal",
            mode=None,
            parameters={"k1": 20},
            open_set=None,
            camera_pairs=None,
        ),
    )
    report = changed(report, "ranked", "result", to="k-reciprocal")
    for group in ("best", "median", "worst"):
        for place, distance in enumerate((0.25, 0.375, 0.75)):
            step = (group, 0, "list", place, "distance")
            report = changed(report, "ranked", *step, to=distance)
    return report


@pytest.fixture(scope="session")
def hostile(report: Report) -> Report:
    """The same report where every text that a user may choose tries to break out of the page."""
    attack = "\"'><script>alert(1)</script><img src=http://evil.example/x onerror=alert(2)>"
    attack += "x" * 300  # nowhere to break a line
    report = changed(report, "recipe", attack, to=attack)
    for path, value in {
        ("query", "location"): attack,
        ("gallery", "location"): f"/data/{attack}",
        ("gallery", "rejects"): {attack: 1},
        ("command",): attack,
        ("regallery",): attack,
        ("settings",): {attack: attack},
        ("results", 1, "name"): f"{attack} $\\frac{{$",
        ("results", 1, "parameters"): {attack: attack},
        ("results", 0, "query_cameras", 0, "camera"): attack,
        ("results", 0, "camera_pairs", 0, "query_camera"): attack,
        ("results", 0, "camera_pairs", 0, "gallery_camera"): attack,
        ("ranked", "best", 0, "query", "path"): attack,
        ("ranked", "best", 0, "query", "camera"): attack,
        **{("ranked", "best", 0, "list", n, "path"): attack for n in range(3)},
        **{("ranked", "best", 0, "list", n, "camera"): attack for n in range(3)},
    }.items():
        report = changed(report, *path, to=value)
    return report


@pytest.fixture(scope="session")
def picture() -> Callable[[int], np.ndarray]:
    """A small picture of one color, uint8 `[64, 32, 3]`."""
    return lambda tone: np.full((64, 32, 3), tone, np.uint8)


@pytest.fixture(scope="session")
def thumbnails(picture: Callable[[int], np.ndarray]) -> Thumbnails:
    """Pictures of every crop in `report` but c3/c.jpg, which has none."""
    return Thumbnails(
        query={
            f"c1/{name}.jpg": thumbnail(picture(tone))
            for name, tone in (("best", 10), ("median", 90), ("worst", 170))
        },
        gallery={"c2/a.jpg": thumbnail(picture(50)), "c2/b.jpg": thumbnail(picture(130))},
    )
