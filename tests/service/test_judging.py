"""Verdicts, merges and splits by request."""

import threading

import pytest

from pipeline.gallery.table import Gallery
from pipeline.runs.verdicts import list_verdicts
from tests.service.asking import client, message

YARD = "/v1/galleries/yard"


@pytest.fixture
def asked(shelf):
    return client(shelf, allow_verdicts=True)


def standing(place):
    found = list_verdicts(Gallery.open(str(place / "yard"))).verdicts
    return {(each.a, each.b): each.verdict for each in found}


def test_nothing_is_recorded_without_leave(shelf, place):
    asked = client(shelf)
    for path, body in (
        ("verdicts", {"a": 0, "b": 1, "verdict": "same"}),
        ("merge", {"groups": [[0], [1]]}),
        ("split", {"rows": [0], "from": [1]}),
    ):
        assert "started without leave" in message(asked.post(f"{YARD}/{path}", json=body), 403)
    assert standing(place) == {}


def test_verdicts_are_recorded_listed_and_withdrawn(asked, place):
    told = asked.post(
        f"{YARD}/verdicts", json={"a": 1, "b": 0, "verdict": "same", "comment": "<b>", "who": "ann"}
    ).json()
    counts = {name: told[name] for name in ("recorded", "unchanged", "same", "different")}
    assert counts == {"recorded": 1, "unchanged": 0, "same": 1, "different": 0}
    assert (told["gallery"], told["version"]) == ("yard", 1)
    several = [{"a": 2, "b": 3, "verdict": "different"}, {"a": 4, "b": 5, "verdict": "same"}]
    assert (
        asked.post(f"{YARD}/verdicts", json={"verdicts": several, "who": "bob"}).json()["recorded"]
        == 2
    )
    answer = asked.get(f"{YARD}/verdicts")
    first, second, _ = answer.json()["verdicts"]
    assert (first["a"], first["b"], first["who"], first["comment"]) == (0, 1, "ann", "<b>")
    assert second["who"] == "bob" and second["path_a"].endswith(".png")
    assert "<" not in answer.text
    asked.post(f"{YARD}/verdicts", json={"a": 0, "b": 1, "verdict": "withdrawn"})
    assert standing(place) == {(2, 3): "different", (4, 5): "same"}


def test_contradictions_are_a_conflict(asked, place):
    asked.post(f"{YARD}/merge", json={"groups": [[0], [1], [2]]})
    answer = asked.post(f"{YARD}/verdicts", json={"a": 2, "b": 1, "verdict": "different"})
    assert "different by one verdict, but the same by others: 1 = 0 = 2" in message(answer, 409)
    assert standing(place) == {(0, 1): "same", (0, 2): "same"}


@pytest.mark.parametrize(
    ("path", "body", "told"),
    [
        ("verdicts", {"a": 0, "verdict": "same"}, "must be a whole number, not None"),
        ("verdicts", {"a": 0, "b": 1, "verdict": "maybe"}, "is none of same"),
        ("verdicts", {"a": 0, "b": 0, "verdict": "same"}, "row 0 is given twice"),
        ("verdicts", {"a": 0, "b": 99, "verdict": "same"}, "has no row 99"),
        ("verdicts", {"a": "0", "b": True, "verdict": "same"}, "must be a whole number"),
        ("verdicts", {"a": 0, "b": 1, "verdict": "same", "note": 1}, "field 'note' is not known"),
        ("verdicts", {"a": 0, "b": 1, "verdict": "same", "comment": 1}, "`comment` must be a text"),
        ("verdicts", {"verdicts": []}, "must be a list of 1"),
        ("verdicts", {"verdicts": [1]}, "a verdict is an object"),
        ("verdicts", {"verdicts": [{"a": 0, "b": 1, "verdict": "same"}] * 1001}, "1 to 1,000"),
        ("merge", {"groups": [[0]]}, "2 to 1,000 lists"),
        ("merge", {"groups": [[0], []]}, "must be a list of row ids"),
        ("merge", {"groups": [[0], "x"]}, "must be a whole number"),
        ("merge", {}, "2 to 1,000 lists"),
        ("split", {"rows": [0]}, "`from` must be a list of row ids"),
        ("split", {"rows": [0], "from": [0]}, "row 0 is given twice"),
    ],
)
def test_wrong_verdicts_are_told(asked, place, path, body, told):
    assert told in message(asked.post(f"{YARD}/{path}", json=body), 400)
    assert standing(place) == {}


@pytest.mark.parametrize(
    ("content", "kind", "status", "told"),
    [
        (b"{", "application/json", 400, "not JSON"),
        (b"[]", "application/json", 400, "must be a JSON object"),
        (b'{"a": NaN}', "application/json", 400, "is not a number in JSON"),
        (b"[" * 100_000, "application/json", 400, "not JSON"),
        (b"\xff\xfe", "application/json", 400, "not JSON"),
        (b"a=1", "application/x-www-form-urlencoded", 415, "must be JSON"),
        (b"{}", "text/plain", 415, "must be JSON"),
    ],
)
def test_what_is_no_json_is_told(asked, content, kind, status, told):
    answer = asked.post(f"{YARD}/verdicts", content=content, headers={"Content-Type": kind})
    assert told in message(answer, status)


def test_merge_and_split(asked, place):
    told = asked.post(f"{YARD}/merge", json={"groups": [[3, 8], [5], [1, 2]]}).json()
    assert told["verdicts"] == [
        {"a": 3, "b": 5, "verdict": "same"}, {"a": 3, "b": 1, "verdict": "same"}
    ]  # fmt: skip
    told = asked.post(f"{YARD}/split", json={"rows": [5, 9], "from": [1, 3]}).json()
    assert told["verdicts"] == [
        {"a": 3, "b": 5, "verdict": "withdrawn"}, {"a": 5, "b": 1, "verdict": "different"}
    ]  # fmt: skip
    assert standing(place) == {(1, 3): "same", (1, 5): "different"}
    told = asked.post(f"{YARD}/split", json={"rows": [1], "from": [3]}).json()
    assert told["verdicts"] == [{"a": 1, "b": 3, "verdict": "different"}]
    assert standing(place) == {(1, 3): "different", (1, 5): "different"}


def test_two_at_once_do_not_contradict_each_other(asked, place):
    answers = []

    def say(body):
        answers.append(asked.post(f"{YARD}/verdicts", json=body).status_code)

    asked.post(f"{YARD}/verdicts", json={"a": 0, "b": 1, "verdict": "same"})
    bodies = [{"a": 1, "b": 2, "verdict": "same"}, {"a": 0, "b": 2, "verdict": "different"}]
    threads = [threading.Thread(target=say, args=(body,)) for body in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [200, 409]
    assert list_verdicts(Gallery.open(str(place / "yard"))).contradictions == ()


@pytest.mark.parametrize("half", [b"\\ud83d", b"\\uDE00", b"\xed\xa0\xbd"])
def test_half_a_character_is_refused(asked, half):
    body = b'{"a": 0, "b": 1, "verdict": "same", "who": "%s"}'
    kind = {"Content-Type": "application/json"}
    answer = asked.post(f"{YARD}/verdicts", content=body % half, headers=kind)
    assert "not JSON" in message(answer, 400)
    whole = asked.post(f"{YARD}/verdicts", content=body % b"\\ud83d\\ude00", headers=kind)
    assert whole.json()["recorded"] == 1
