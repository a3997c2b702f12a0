"""Erasures by request: told first, then done, with a certificate."""

import hashlib
import json
import time

import pytest

from pipeline.gallery.opening import lock_gallery
from pipeline.gallery.table import Gallery
from tests.service.asking import client, computed, message

ERASE = "/v1/galleries/yard/erasures"


def certificate(asked, answer):
    assert answer.status_code == 202, answer.text
    while (job := asked.get(f"/v1/jobs/{answer.json()['job']}").json())["state"] == "running":
        time.sleep(0.02)
    assert job["state"] == "done", job
    return job["result"]


def test_what_would_go_is_told_and_nothing_goes(shelf, place):
    answer = client(shelf).post(ERASE, json={"where": "camera = '2'", "dry_run": True}).json()
    assert (answer["rows"], answer["rows_left"], answer["cameras"]) == (4, 8, ["2"])
    assert len(answer["row_ids"]) == 4 and answer["outputs"] == []
    by_id = client(shelf).post(ERASE, json={"rows": [0, 3], "dry_run": True}).json()
    assert by_id["row_ids"] == [0, 3]
    assert Gallery.open(str(place / "yard")).version == 1


def test_rows_are_erased_and_purged_with_a_certificate(shelf, place):
    asked = client(shelf, allow_erase=True)
    before = asked.get("/v1/galleries/yard/people").json()
    quality = asked.get("/v1/galleries/yard/quality").json()["job"]
    computed(asked, "/v1/galleries/yard/quality")
    assert asked.get(f"/v1/jobs/{quality}").status_code == 200
    body = {"where": "identity = 2", "confirm": "yard"}
    told = certificate(asked, asked.post(ERASE, json=body))
    gallery = Gallery.open(str(place / "yard"))
    assert told["version"] == gallery.version and told["from_version"] == 1
    assert told["erased"]["rows"] == 3 and gallery.count == 9
    assert told["purged"]["rows_gone"] == 3 and told["purged"]["searched_files"] > 0
    digest = told.pop("sha256")
    assert hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest() == digest
    after = asked.get("/v1/galleries/yard/people").json()
    assert after["version"] == gallery.version
    assert [each["identity"] for each in after["people"]] == [1, 3, 4, 5]
    assert before["total"] == 5
    message(asked.get(f"/v1/jobs/{quality}"), 404)  # nothing of what is gone is kept
    assert message(asked.get("/v1/galleries/yard?version=1"), 404)


def test_rows_are_erased_without_a_purge(shelf, place, caplog):
    asked = client(shelf, allow_erase=True)
    body = {"rows": [1], "confirm": "yard", "purge": False}
    assert certificate(asked, asked.post(ERASE, json=body))["purged"] is None
    assert "yard: 1 rows are erased, as testclient asks" in caplog.text
    assert Gallery.open(str(place / "yard"), 1).count == 12
    assert message(asked.get("/v1/galleries/yard/rows/1/image"), 404)


@pytest.mark.parametrize("selected", [{"where": "identity = 2"}, {"rows": [3, 4, 5]}])
def test_the_same_request_purges_what_a_killed_service_had_erased(shelf, place, selected):
    asked = client(shelf, allow_erase=True)
    body = selected | {"confirm": "yard"}
    first = certificate(asked, asked.post(ERASE, json=body | {"purge": False}))
    rows = first["erased"]["rows"]
    assert message(asked.post(ERASE, json=body | {"purge": False}), 400)
    plan = asked.post(ERASE, json=selected | {"dry_run": True}).json()
    assert (plan["rows"], plan["purge_unfinished"]) == (0, True)
    again = certificate(asked, asked.post(ERASE, json=body))
    assert again["version"] == first["version"] and again["erased"]["rows"] == 0
    assert again["purged"]["rows_gone"] == rows == 3
    assert message(asked.post(ERASE, json=body), 400)  # nothing is left
    plan = asked.post(ERASE, json={"where": "row_id = 3", "dry_run": True}).json()
    assert (plan["rows"], plan["purge_unfinished"]) == (0, False)


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        ({}, 400, "give `where`"),
        ({"where": "camera = '1'", "rows": [1]}, 400, "give `where`"),
        ({"where": "camera = '1'"}, 409, "`confirm` must be the name of the gallery"),
        ({"where": "camera = '1'", "confirm": "boxes"}, 409, "`confirm` must be the name"),
        ({"where": "camera = '1'", "confirm": True}, 409, "`confirm` must be the name"),
        ({"where": "", "confirm": "yard"}, 400, "the condition is empty"),
        ({"where": 1, "confirm": "yard"}, 400, "`where` must be a text"),
        ({"where": "camera = '9'", "confirm": "yard"}, 400, "no row is selected"),
        ({"rows": [], "confirm": "yard"}, 400, "must be a list of row ids"),
        ({"rows": [1, 99], "confirm": "yard"}, 400, "has no row 99"),
        ({"rows": [-1], "confirm": "yard"}, 400, "must be from 0"),
        ({"rows": [1], "purge": "no", "confirm": "yard"}, 400, "`purge` must be true or false"),
        ({"rows": [1], "dryrun": True, "confirm": "yard"}, 400, "field 'dryrun' is not known"),
        (
            {"rows": [1], "purge": False, "everywhere": True, "confirm": "yard"},
            400,
            "goes with `purge`",
        ),
    ],
)
def test_wrong_erasures_are_told(shelf, place, body, status, told):
    assert told in message(client(shelf, allow_erase=True).post(ERASE, json=body), status)
    assert Gallery.open(str(place / "yard")).version == 1


@pytest.mark.parametrize(
    "where",
    [
        "1=1; drop table rows", "camera = '1' --", "camera = '1", "pg_sleep(10)", "feature is null",
        "camera in (select camera from rows)", "exists (select 1)", "(" * 5000, "path like '%' or",
        "camera = '1' union select 1", "no_column = 1", "x" * 100_000, "camera = \x00",
        "load_extension('/tmp/x')", "current_user = 'root'", "1",
    ],
)  # fmt: skip
def test_conditions_that_are_none_erase_nothing(shelf, place, where):
    asked = client(shelf, allow_erase=True)
    for more in ({"dry_run": True}, {"confirm": "yard"}):
        answer = asked.post(ERASE, json={"where": where} | more)
        assert message(answer, 400)
    assert Gallery.open(str(place / "yard")).version == 1


def test_nothing_is_erased_without_leave(shelf, place):
    answer = client(shelf).post(ERASE, json={"where": "camera = '1'", "confirm": "yard"})
    assert "started without leave" in message(answer, 403)
    assert Gallery.open(str(place / "yard")).version == 1


def test_a_gallery_that_is_being_changed_is_told(shelf, place):
    asked = client(shelf, allow_erase=True)
    with lock_gallery(str(place / "yard"), "extract"):
        answer = asked.post(ERASE, json={"rows": [1], "confirm": "yard"})
        while (job := asked.get(f"/v1/jobs/{answer.json()['job']}").json())["state"] == "running":
            time.sleep(0.02)
    assert job["state"] == "failed" and "extract" in job["error"]
    assert Gallery.open(str(place / "yard")).count == 12
    body = {"rows": [1], "confirm": "yard"}
    assert certificate(asked, asked.post(ERASE, json=body))["erased"]["rows"] == 1
