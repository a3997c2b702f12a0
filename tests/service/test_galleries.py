"""What galleries, rows, people and quality answer."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from pipeline.core.identities.verdicts import Verdicts
from pipeline.gallery.table import Gallery
from pipeline.runs.verdicts import give_verdict
from pipeline.service.people import about_person, matching, people_of, person_of
from pipeline.service.shelf import Shelf
from tests.jobs.labeled import labeled_gallery, people
from tests.service.asking import client, computed, message

YARD = "/v1/galleries/yard"


@pytest.fixture(scope="module")
def asked(yard):
    return client(yard)


def test_galleries_tell_what_they_hold(asked, made):
    answer = asked.get("/v1/galleries").json()
    assert answer["allow"] == {"verdicts": False, "erase": False}
    assert answer["images"] is False
    first, second = answer["galleries"]
    assert first == asked.get(YARD).json()
    assert (first["gallery"], first["version"], first["rows"]) == ("yard", 1, 12)
    assert first["fingerprint"] == Gallery.open(str(made / "yard")).fingerprint
    assert first["cameras"] == [{"camera": f"{n}", "rows": 4} for n in (1, 2, 3)]
    assert (first["identities"], first["dimension"], first["dtype"]) == (5, 8, "float32")
    assert first["recipe"]["height"] == 32
    assert (first["threshold"], first["calibration"]) == (None, [])
    assert (first["frames"], first["tracklets"]) == (False, False)
    assert (second["frames"], second["identities"], second["cameras"]) == (True, 0, [])
    assert second["first_time"] is second["last_time"] is None


def test_what_is_not_there_is_told(asked):
    told = message(asked.get("/v1/galleries/other"), 404)
    assert "gallery 'other' is not served" in told and "yard, boxes" in told
    message(asked.get(f"{YARD}?version=7"), 404)
    assert "must be a whole number" in message(asked.get(f"{YARD}?version=x"), 400)
    assert "can only be searched" in message(asked.get("/v1/galleries/_all"), 404)
    assert "no row 99" in message(asked.get(f"{YARD}/rows/99"), 404)
    assert "whole number" in message(asked.get(f"{YARD}/rows/x"), 400)
    for wrong in ("../../etc/passwd", "..%2f..%2fetc%2fpasswd", "-1", "9" * 30, "1.5", "\u0661"):
        assert asked.get(f"{YARD}/rows/{wrong}/image").status_code in (400, 404)


def test_rows_by_id_position_and_condition(asked, yard):
    held = yard.get("yard")
    every = held.rows(np.arange(12))
    answer = asked.get(f"{YARD}/rows").json()
    assert (answer["rows"], answer["next"], answer["version"]) == (every, None, 1)
    assert asked.get(f"{YARD}/rows/3").json()["row"] == every[3]
    assert asked.get(f"{YARD}/rows?ids=5,2").json()["rows"] == [every[5], every[2]]
    assert asked.get(f"{YARD}/rows?positions=0,11").json()["rows"] == [every[0], every[11]]
    found = asked.get(f"{YARD}/rows", params={"camera": "2", "identity": "5"}).json()["rows"]
    assert found == [row for row in every if (row["camera"], row["identity"]) == ("2", 5)]
    pages, after = [], None
    for _ in range(3):
        told = asked.get(f"{YARD}/rows", params={"limit": 5} | (after or {})).json()
        pages += told["rows"]
        after = {"after_id": told["next"]}
    assert pages == every and after == {"after_id": None}


@pytest.mark.parametrize(
    ("query", "status", "told"),
    [
        ("ids=1,99", 404, "no row 99"),
        ("ids=", 400, "whole number"),
        ("ids=1,,2", 400, "whole number"),
        ("ids=" + ",".join("1" * 1001), 400, "at most 1,000"),
        ("positions=12", 404, "has 12 rows"),
        ("positions=-1", 400, "must be from 0"),
        ("limit=0", 400, "must be from 1"),
        ("limit=10000", 400, "must be from 1 to 1000"),
        ("identity=x", 400, "whole number"),
        ("camara=1", 400, "no parameter 'camara'"),
    ],
)
def test_wrong_conditions_are_told(asked, query, status, told):
    assert told in message(asked.get(f"{YARD}/rows?{query}"), status)


def test_people_are_identities(asked, yard):
    answer = asked.get(f"{YARD}/people").json()
    assert [(each["identity"], each["rows"]) for each in answer["people"]] == [
        (1, 3), (2, 3), (3, 2), (4, 2), (5, 2)
    ]  # fmt: skip
    assert (answer["total"], answer["next"]) == (5, None)
    page = asked.get(f"{YARD}/people?limit=2&after=2").json()
    assert (page["people"], page["next"]) == (answer["people"][2:4], 4)
    one = asked.get(f"{YARD}/people/2").json()
    assert one["person"] == answer["people"][1]
    assert [row["row_id"] for row in one["rows"]] == one["person"]["row_ids"]
    assert {row["identity"] for row in one["rows"]} == {2}
    rows = yard.get("yard").rows(np.arange(12))
    threes = sorted({row["identity"] for row in rows if "3" in row["path"]} | {3})
    assert "nobody of identity 77" in message(asked.get(f"{YARD}/people/77"), 404)
    assert [p["identity"] for p in asked.get(f"{YARD}/people?q=3").json()["people"]] == threes
    assert [p["identity"] for p in asked.get(f"{YARD}/people?q=0004_c").json()["people"]] == [4]
    assert asked.get(f"{YARD}/people?q=nobody").json()["people"] == []


def naive_people(identity, same):
    """The sets of positions of each person, by joining one after the other."""
    groups = [{n} for n in range(len(identity))]
    pairs = [*same]
    pairs += [
        (a, b)
        for a in range(len(identity))
        for b in range(a)
        if identity[a] == identity[b] and identity[a] > 0
    ]
    for a, b in pairs:
        one, other = (next(g for g in groups if n in g) for n in (a, b))
        if one is not other:
            groups.remove(other)
            one |= other
    return {frozenset(g) for g in groups if len(g) > 1 or any(identity[n] > 0 for n in g)}


@pytest.mark.parametrize("seed", range(8))
def test_people_join_identities_and_verdicts_as_a_loop_does(tmp_path, seed):
    rng = np.random.default_rng(seed)
    rows = int(rng.integers(1, 30))
    features, identity, camera = people(3, max(rows, 3), seed=seed, dimension=8)
    labeled_gallery(tmp_path / "g", features, identity, camera)
    held = Shelf([str(tmp_path / "g")]).get("g")
    pairs = [
        tuple(sorted(p)) for p in rng.integers(0, len(identity), (4, 2)).tolist() if p[0] != p[1]
    ]
    found = people_of(held, Verdicts(np.array(pairs, np.int64).reshape(-1, 2), []))
    mine = [found.of(n).tolist() for n in range(len(found))]
    assert {frozenset(each) for each in mine} == naive_people(identity, pairs)
    assert [len(each) for each in mine] == sorted(map(len, mine), reverse=True)
    for n, each in enumerate(mine):
        known = [identity[row] for row in each if identity[row] > 0]
        assert found.names[n] == (min(known) if known else -2 - min(each))
        assert found.find(found.names[n]) == n
        assert {person_of(held, found, name) for name in (*known, found.names[n])} == {n}
        about = about_person(held, found, n)
        assert about["rows"] == len(each) and set(about["row_ids"]) <= set(each)
        assert about["cameras"] == sorted({camera[row] for row in each})
    assert found.find(12345) is person_of(held, found, 12345) is None


def test_a_gallery_without_people(tmp_path):
    features, _, camera = people(3, 5, dimension=8)
    labeled_gallery(tmp_path / "g", features, [None] * 5, camera)
    held = Shelf([str(tmp_path / "g")]).get("g")
    found = people_of(held, Verdicts([], []))
    assert len(found) == 0 and len(matching(held, found, "c")) == 0
    assert client(Shelf([str(tmp_path / "g")])).get("/v1/galleries/g/people").json()["people"] == []


def test_quality_names_rejects_and_cameras(asked):
    answer = computed(asked, f"{YARD}/quality").json()
    (reject,) = answer["rejects"]
    assert (reject["n"], reject["reason"], answer["rejects_total"]) == (0, "not-an-image", 1)
    assert answer["rejects_by_reason"] == {"not-an-image": 1}
    assert [(each["camera"], each["rows"]) for each in answer["by_camera"]] == [
        ("1", 4), ("2", 4), ("3", 4)
    ]  # fmt: skip
    assert (answer["camera_pairs"], answer["evaluation"], answer["oddities"]) == ([], None, [])


def test_quality_of_odd_rows_and_pairs_of_cameras(capsys, tmp_path):
    from tests.jobs.running import result

    features, identity, camera = people(12, 240, dimension=8)
    odd = {"height": [720, *[128] * 239], "width": [1280, *[64] * 239]}
    odd["content_hash"] = [bytes(16), bytes(16), *(bytes([n]) * 16 for n in range(1, 239))]
    odd["quality"] = [*range(10), *[None] * 230]
    labeled_gallery(tmp_path / "g", features, identity, camera, **odd)
    result(capsys, "calibrate", "--gallery", tmp_path / "g", "--by-camera", "--far", 0.1)
    result(
        capsys, "evaluate", "--query", tmp_path / "g", "--gallery", tmp_path / "g",
        "--out", tmp_path / "report", "--workers", 0,
    )  # fmt: skip
    asked = client(Shelf([str(tmp_path / "g")]))
    answer = computed(asked, "/v1/galleries/g/quality").json()
    kinds = {
        each["kind"]: [row["row_id"] for row in each["examples"]] for each in answer["oddities"]
    }
    assert kinds == {"frame": [0], "duplicate": [1], "low-quality": list(range(10))}
    assert {(each["a"], each["b"]) for each in answer["camera_pairs"]} == {
        (f"c{a}", f"c{b}") for a in range(3) for b in range(3) if a != b
    }
    assert 0 < answer["evaluation"]["results"][0]["mAP"] <= 1
    worst = answer["evaluation"]["worst"]
    assert [each["path"] for each in worst] == [f"crops/{each['row_id']:06d}.jpg" for each in worst]
    assert worst and all(0 <= each["ap"] <= 1 and each["gallery"] == "g" for each in worst)
    assert (answer["drift"], answer["silent"]) == ([], [])
    summary = asked.get("/v1/galleries/g").json()
    rates = {each["threshold"]: each["false_match_rate"] for each in summary["calibration"]}
    assert 0 < rates[summary["threshold"]] <= 0.1 and 0 in rates.values()
    assert "calibration of version" in summary["threshold_from"]


def test_verdicts_are_counted_as_they_come(shelf, place):
    asked = client(shelf)
    assert asked.get(YARD).json()["verdicts"] == {"same": 0, "different": 0}
    give_verdict(Gallery.open(str(place / "yard")), 0, 3, "same", who="ann")
    shelf.refresh()
    assert asked.get(YARD).json()["verdicts"] == {"same": 1, "different": 0}
    joined = asked.get(f"{YARD}/people").json()["people"][0]
    assert (joined["identity"], joined["rows"]) == (1, 6)


def test_cameras_that_drift_or_fall_silent_are_told(tmp_path):
    features, identity, _ = people(12, 1000, dimension=8)
    features[800:] = -features[800:]
    camera = ["c1" if n < 900 or n % 2 else "c2" for n in range(1000)]
    camera[:300:2] = ["quiet"] * 150
    times = [datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=n) for n in range(1000)]
    labeled_gallery(tmp_path / "g", features, identity, camera, captured_at=times)
    asked = client(Shelf([str(tmp_path / "g")]))
    answer = computed(asked, "/v1/galleries/g/quality").json()
    assert [each["camera"] for each in answer["silent"]] == ["quiet"]
    assert [(each["camera"], each["has_drifted"]) for each in answer["drift"]] == [("c1", True)]
    backwards = {"captured_at": times[::-1]}
    labeled_gallery(tmp_path / "back", features, identity, camera, **backwards)
    turned = client(Shelf([str(tmp_path / "back")]))
    assert computed(turned, "/v1/galleries/back/quality").json()["drift"] == []
    summary = asked.get("/v1/galleries/g").json()
    assert summary["first_time"] == "2026-01-01T00:00:00+00:00"
    assert summary["last_time"] == "2026-02-11T15:00:00+00:00"
