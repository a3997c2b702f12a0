"""A small report whose figures were worked by hand, and pictures for it."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pipeline.report.thumbnails import Thumbnails, thumbnail


def _result(name: str, mode: str | None, gain: float) -> dict[str, Any]:
    cmc = [0.5 + gain, 0.75, 0.75, 0.75, 0.875, 0.875, 0.875, 0.875, 0.875, 1.0]
    return {
        "name": name,
        "mode": mode,
        "parameters": {"k": 10, "alpha": 3.0, "times": 1} if mode else {},
        "queries": 9,
        "valid": 8,
        "invalid": 1,
        "rank": {"1": cmc[0], "5": cmc[4], "10": cmc[9], "20": None},
        "cmc": cmc,
        "cmc_cut": 10,
        "mAP": 0.61234 + gain,
        "mAP_trapezoid": 0.60352 + gain,
        "mINP": 0.23456 - gain,
        "intervals": {
            "mAP": {"low": 0.5512 + gain, "high": 0.6627 + gain},
            "rank1": {"low": 0.375 + gain, "high": 0.625 + gain},
        },
        "open_set": _open_set(gain),
        "cameras": [
            {"camera": "c1", "queries": 5, "valid": 5, "rank1": 0.6 + gain, "mAP": 0.7 + gain},
            {"camera": "c2", "queries": 3, "valid": 3, "rank1": 0.25, "mAP": 0.46875},
            {"camera": None, "queries": 1, "valid": 0, "rank1": None, "mAP": None},
        ],
        "camera_pairs": [
            _pair("c1", "c2", 5, 0.59375 + gain),
            _pair("c1", "c10", 2, 0.84375 + gain),
            _pair("c2", "c1", 3, 0.34375),
        ],
        "seconds": 1.25,
    }


def _open_set(gain: float) -> dict[str, Any]:
    reached = [(1e-3, 0.90625, 1, 0.21875), (2e-3, 0.875, 2, 0.3125), (1e-2, 0.75, 12, 0.4375)]
    points: list[dict[str, Any]] = [
        {"wanted": 1e-4, "threshold": None, "false_accepts": None, "far": None, "tar": None}
    ]
    for wanted, threshold, accepts, tar in reached:
        point = {"wanted": wanted, "threshold": threshold, "false_accepts": accepts}
        points.append({**point, "far": accepts / 1234, "tar": tar + gain})
    return {
        "positives": 16,
        "negatives": 1234,
        "equal_error_rate": 0.15625 - gain,
        "equal_error_threshold": 0.53125,
        "points": points,
    }


def _pair(query: str, gallery: str, valid: int, mean: float) -> dict[str, Any]:
    return {
        "query_camera": query,
        "gallery_camera": gallery,
        "valid": valid,
        "rank1": 0.5,
        "mAP": mean,
    }


def _entry(path: str, ap: float) -> dict[str, Any]:
    hits = [
        {"path": "c2/a.jpg", "identity": 7, "camera": "c2", "score": 0.875, "match": True},
        {"path": "c2/b.jpg", "identity": 0, "camera": "c2", "score": 0.5, "match": False},
        {"path": "c3/c.jpg", "identity": None, "camera": None, "score": -0.125, "match": False},
    ]
    return {
        "query": {"path": path, "identity": 7, "camera": "c1"},
        "ap": ap,
        "inp": ap / 2,
        "first_match_rank": 1,
        "matches": 2,
        "list": hits,
    }


@pytest.fixture
def report() -> dict[str, Any]:
    """A whole report with every part present; each test gets its own copy to change."""
    return {
        "schema": 2,
        "created": "2026-03-04T10:22:31+00:00",
        "regallery": "0.1.0",
        "command": "regallery evaluate --query work/query --gallery work/gallery --out out",
        "query": {
            "location": "work/query",
            "version": 2,
            "rows": 9,
            "rejects": {},
            "identities": 4,
            "cameras": 3,
        },
        "gallery": {
            "location": "work/gallery/",
            "version": 5,
            "rows": 12345,
            "rejects": {"truncated": 2, "not-an-image": 1},
            "identities": 4,
            "cameras": 3,
            "distractors": 2,
            "junk": 1,
        },
        "recipe": {"fingerprint": "ab" * 32, "weights": "cd" * 32, "mean": [0.485, 0.456, 0.406]},
        "dimension": 512,
        "storage": "float32",
        "settings": {"query block": 4096, "workers": 2},
        "protocol": {"name": "market1501", "repeats": None, "seed": None},
        "bootstrap": {"replicates": 1000, "level": 0.95, "seed": 0},
        "results": [
            _result("baseline", None, 0.0),
            _result("aqe query", "query", 0.0625),
            _result("aqe joint", "joint", -0.03125),
        ],
        "ranked": {
            "result": "baseline",
            "best": [_entry("c1/best.jpg", 1.0)],
            "median": [_entry("c1/median.jpg", 0.5)],
            "worst": [_entry("c1/worst.jpg", 0.0625)],
        },
    }


@pytest.fixture
def no_valid_query(report: dict[str, Any]) -> dict[str, Any]:
    """The same report where no query has a match."""
    for result in report["results"]:
        result.update(valid=0, invalid=9, cmc=[], mAP=None, mAP_trapezoid=None, mINP=None)
        result["rank"] = dict.fromkeys(result["rank"])
        result.update(intervals=None, open_set=None, camera_pairs=[])
        for camera in result["cameras"]:
            camera.update(valid=0, rank1=None, mAP=None)
    report["ranked"] = None
    return report


@pytest.fixture
def hostile(report: dict[str, Any]) -> dict[str, Any]:
    """The same report where every text that a user may choose tries to break out of the page."""
    attack = "\"'><script>alert(1)</script><img src=http://evil.example/x onerror=alert(2)>"
    attack += "x" * 300  # nowhere to break a line
    report["query"]["location"] = attack
    report["gallery"]["location"] = f"/data/{attack}"
    report["gallery"]["rejects"] = {attack: 1}
    report["command"] = attack
    report["regallery"] = attack
    report["recipe"][attack] = attack
    report["settings"] = {attack: attack}
    report["results"][1]["name"] = f"{attack} $\\frac{{$"
    report["results"][1]["parameters"] = {attack: attack}
    report["results"][0]["cameras"][0]["camera"] = attack
    report["results"][0]["camera_pairs"][0].update(query_camera=attack, gallery_camera=attack)
    for entry in report["ranked"]["best"]:
        entry["query"].update(path=attack, camera=attack)
        for hit in entry["list"]:
            hit.update(path=attack, camera=attack)
    return report


@pytest.fixture
def picture() -> Callable[[int], np.ndarray]:
    """A small picture of one color, uint8 `[64, 32, 3]`."""
    return lambda tone: np.full((64, 32, 3), tone, np.uint8)


@pytest.fixture
def thumbnails(picture: Callable[[int], np.ndarray]) -> Thumbnails:
    """Pictures of every crop in `report` but c3/c.jpg, which has none."""
    return Thumbnails(
        query={
            f"c1/{name}.jpg": thumbnail(picture(tone))
            for name, tone in (("best", 10), ("median", 90), ("worst", 170))
        },
        gallery={"c2/a.jpg": thumbnail(picture(50)), "c2/b.jpg": thumbnail(picture(130))},
    )
