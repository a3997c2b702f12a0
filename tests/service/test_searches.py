"""Searches over HTTP: the lists of a loop over the arrays, and sentences for what is not right."""

import asyncio
import base64
import re
from pathlib import Path

import numpy as np
import pytest

from pipeline.core.held import search as held_search
from pipeline.core.neighbors.topk import search
from pipeline.errors import InputError
from pipeline.gallery.log.lock import hold
from pipeline.gallery.upkeep.leftovers import clean
from pipeline.runs.verdicts import give_verdict
from pipeline.service import batches
from pipeline.service.batches import Batches
from pipeline.service.held_gallery import hold_gallery
from pipeline.service.metrics import ServiceMetrics
from pipeline.service.row_filters import allowed_rows
from pipeline.service.shelf import Shelf
from tests.gallery.making import new_gallery, unit, unit_vectors
from tests.service.asking import client, message
from tests.service.making import plain_gallery

ROWS = 30


@pytest.fixture
def gallery(tmp_path):
    return plain_gallery(tmp_path / "yard", range(ROWS))


@pytest.fixture
def shelf(gallery):
    return Shelf([gallery.location])


def ask(shelf, body, name="yard", **options):
    return client(shelf, **options).post(f"/v1/galleries/{name}/search", json=body)


def found(answer):
    assert answer.status_code == 200, answer.text
    return [
        [(hit["row_id"], hit["score"]) for hit in each["hits"]] for each in answer.json()["results"]
    ]


def naive(gallery, queries, limit, out=(), rows=None):
    """The lists of a loop over all pairs; `out` has the rows that each list leaves out."""
    kept = np.arange(gallery.count) if rows is None else rows
    best = search(queries, np.ascontiguousarray(gallery.array()[kept]), len(kept))
    ids = gallery.row_ids()[kept]
    lists = []
    for places, scores in zip(best.rows, best.scores, strict=True):
        pairs = [(int(ids[p]), float(s)) for p, s in zip(places, scores, strict=True)]
        lists.append([pair for pair in pairs if pair[0] not in out][:limit])
    return lists


def test_vectors_find_what_a_loop_finds(shelf, gallery):
    queries = unit_vectors([5, 100, 200])
    answer = ask(shelf, {"vectors": (queries * 3).tolist(), "limit": 7})
    told = answer.json()
    assert (told["gallery"], told["version"], told["exact"]) == ("yard", 1, True)
    assert told["fingerprint"] == gallery.fingerprint
    assert [each["query"] for each in told["results"]] == [{"vector": n} for n in range(3)]
    for ours, wanted in zip(found(answer), naive(gallery, queries, 7), strict=True):
        assert [row for row, _ in ours] == [row for row, _ in wanted]
        assert [score for _, score in ours] == pytest.approx([score for _, score in wanted])
    first = told["results"][0]["hits"][0]
    assert (first["rank"], first["row_id"], first["path"]) == (1, 5, "c2/000005.jpg")
    assert (first["camera"], first["identity"], first["match"]) == ("c2", -1, None)


def test_a_row_does_not_find_itself(shelf, gallery):
    (ours,) = found(ask(shelf, {"row": 4, "limit": 5}))
    assert ours == naive(gallery, gallery.array()[4:5], 5, out={4})[0]
    both = found(ask(shelf, {"rows": [4, 9], "limit": 29}))
    assert [len(each) for each in both] == [29, 29]
    assert both[1] == naive(gallery, gallery.array()[9:10], 29, out={9})[0]


def test_examples_lead_towards_and_away(shelf, gallery):
    array = gallery.array().astype(np.float64)
    query = 2 * array[[3, 8]].mean(axis=0) - array[[20]].mean(axis=0)
    query = (query / np.linalg.norm(query)).astype(np.float32)[None]
    (ours,) = found(ask(shelf, {"positive": [3, 8], "negative": [20], "limit": 6}))
    wanted = naive(gallery, query, 6, out={3, 8, 20})[0]
    assert [row for row, _ in ours] == [row for row, _ in wanted]
    refusal = ask(shelf, {"positive": [3], "negative": [3]})
    assert 3 not in [row for row, _ in found(refusal)[0]]
    assert "goes with `positive`" in message(ask(shelf, {"row": 3, "negative": [4]}), 400)


def test_a_filter_selects_as_a_loop_does(shelf, gallery):
    rows = [r for r in range(ROWS) if r % 3 in (0, 2) and not 1 <= r % 5 - 1 < 3]
    given = {
        "must": [{"key": "camera", "match": {"any": ["c0", "c2"]}}],
        "must_not": [{"key": "identity", "range": {"gte": 1, "lt": 3}}],
    }
    query = unit_vectors([77])
    (ours,) = found(ask(shelf, {"vector": query[0].tolist(), "filter": given, "limit": 50}))
    (wanted,) = naive(gallery, query, 50, rows=np.array(rows))
    assert [row for row, _ in ours] == [row for row, _ in wanted]


@pytest.mark.parametrize(
    ("condition", "rows"),
    [
        ({"key": "camera", "match": {"value": "c1"}}, {r for r in range(ROWS) if r % 3 == 1}),
        ({"key": "camera", "match": {"except": ["c1"]}}, {r for r in range(ROWS) if r % 3 != 1}),
        ({"key": "row_id", "range": {"gt": 3, "lte": 5}}, {4, 5}),
        ({"key": "captured_at", "is_null": True}, set(range(ROWS))),
        ({"key": "captured_at", "range": {"gte": "2026-03-01"}}, set()),
        ({"key": "tracklet", "match": {"except": ["a"]}}, set()),
    ],
)
def test_every_kind_of_condition(shelf, condition, rows):
    allowed = allowed_rows(shelf.get("yard"), {"must": [condition]})
    assert set(np.flatnonzero(allowed).tolist()) == rows


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ([], "`filter` must be an object"),
        ({"should": []}, "has no 'should'"),
        ({"must": {}}, "must be a list"),
        ({"must": [{"key": "camera"}]}, "a condition must have a `key`"),
        ({"must": [{"key": "feature", "is_null": True}]}, "there is no column 'feature'"),
        ({"must": [{"key": "camera", "like": "c"}]}, "must have `match`, `range`, or `is_null`"),
        ({"must": [{"key": "camera", "match": "c1"}]}, "`match` on camera must have one of"),
        ({"must": [{"key": "camera", "match": {"text": "c1"}}]}, "has no 'text'"),
        ({"must": [{"key": "camera", "match": {"any": []}}]}, "must be a list of 1 to"),
        ({"must": [{"key": "camera", "range": {"gt": "a"}}]}, "camera is text"),
        ({"must": [{"key": "identity", "range": {"above": 1}}]}, "must have some of gt"),
        ({"must": [{"key": "identity", "match": {"value": "x"}}]}, "cannot be compared"),
        ({"must": [{"key": "identity", "match": {"value": 1e300}}]}, "cannot be compared"),
        ({"must": [{"key": "captured_at", "match": {"value": "noon"}}]}, "is not a time"),
    ],
)
def test_filters_that_are_not_understood(shelf, given, reason):
    with pytest.raises(InputError, match=reason):
        allowed_rows(shelf.get("yard"), given)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({}, "exactly one of"),
        ({"row": 1, "vector": [1]}, "exactly one of"),
        ({"row": 1, "top": 5}, "the field 'top' is not known"),
        ({"row": "abc"}, "`row` must be a whole number"),
        ({"row": 1000}, "has no row 1000 in version 1"),
        ({"row": 1, "limit": 10_000}, "`limit` must be from 1 to 1000"),
        ({"row": 1, "limit": 0}, "`limit` must be from 1"),
        ({"row": 1, "threshold": 2}, "cosine similarity from -1 to 1"),
        ({"row": 1, "threshold": True}, "cosine similarity from -1 to 1"),
        ({"row": 1, "threshold": "high"}, "must be a number"),
        ({"row": 1, "box": [0, 0, 5, 5]}, "`box` goes with"),
        ({"image": "aaaa", "box": [0, 0, 0, 5]}, "`box` must be from 1"),
        ({"image": "aaaa", "box": [0, 0, 5]}, "must be .x, y, width, height."),
        ({"rows": []}, "must be a list of row ids"),
        ({"rows": list(range(65))}, "at most 64"),
        ({"vector": [1, 2, 3]}, "a vector has 3 numbers; features of yard have 8"),
        ({"vector": [0] * 8}, "vector 1: "),
        ({"vector": ["a"] * 8}, "a list of numbers"),
        ({"vectors": [[1, 2], [1]]}, "all of one length"),
        ({"vectors": [[1] * 8] * 65}, "1 to 64 vectors"),
        ({"image": "not base64!"}, "must be an image file in base64"),
        ({"image": 7}, "must be an image file in base64"),
        ({"images": []}, "1 to 64 images"),
        ({"frame": 17}, "`frame` must be an object"),
    ],
)
def test_searches_that_are_not_understood(shelf, body, reason):
    answer = ask(shelf, body)
    assert re.search(reason, message(answer, 400))


def test_images_need_a_network(shelf):
    image = base64.b64encode(b"GIF89a").decode()
    assert "has no network" in message(ask(shelf, {"image": image}), 409)


def test_several_galleries_are_one_ranking(tmp_path, gallery):
    other = plain_gallery(tmp_path / "gate", range(40, 52))
    shelf = Shelf([gallery.location, other.location])
    query = unit_vectors([3])
    answer = ask(shelf, {"vector": query[0].tolist(), "limit": 42}, name="_all")
    told = answer.json()
    assert told["versions"] == {"yard": 1, "gate": 1}
    both = np.concatenate([gallery.array(), other.array()])
    best = search(query, both, 42)
    places = [("yard", r) if r < ROWS else ("gate", r + 10) for r in best.rows[0].tolist()]
    hits = told["results"][0]["hits"]
    assert [(hit["gallery"], hit["row_id"]) for hit in hits] == places
    assert "have no ids of their own" in message(ask(shelf, {"row": 1}, name="_all"), 400)
    assert "has no version of its own" in message(
        ask(shelf, {"vector": [1] * 8, "version": 1}, name="_all"), 404
    )


def test_a_new_version_is_picked_up_and_the_old_one_can_be_asked_for(shelf, gallery):
    later = gallery.commit([unit(gallery.target, range(30, 35))], run_id="b", removes=[4])
    before = found(ask(shelf, {"row": 4, "limit": 5}))
    (news,) = shelf.refresh()
    assert (news.gallery, news.version) == ("yard", 2)
    assert shelf.refresh() == []
    assert "has no row 4 in version 2" in message(ask(shelf, {"row": 4}), 400)
    assert found(ask(shelf, {"row": 4, "limit": 5, "version": 1})) == before
    (ours,) = found(ask(shelf, {"row": 33, "limit": 50}))
    assert ours == naive(later, unit_vectors([33]), 50, out={33})[0]
    assert "version 9" in message(ask(shelf, {"row": 3, "version": 9}), 404)
    assert "the gallery 'none' is not served here" in message(
        ask(shelf, {"row": 3}, name="none"), 404
    )


def test_a_version_that_was_removed_is_not_answered_from_memory(shelf, gallery):
    later = gallery.commit([unit(gallery.target, range(30, 35))], run_id="b", removes=[4])
    shelf.refresh()
    assert len(found(ask(shelf, {"row": 4, "limit": 5, "version": 1}))[0]) == 5
    with hold(gallery.location, "clean") as lock:
        clean(later, lock, keep=1)
    assert shelf.refresh() == []
    assert "version 1" in message(ask(shelf, {"row": 4, "version": 1}), 404)


def test_verdicts_are_seen_while_a_version_is_read(shelf, gallery):
    give_verdict(gallery, 1, 2, "different", who="ann")
    before = shelf.verdict_state("yard")
    with shelf._refreshing:  # as while the next version is read
        news = shelf.refresh_verdicts("yard")
    assert (news.version, news.verdict_files) == (1, 1)
    assert shelf.verdict_state("yard") != before
    assert shelf.refresh() == []


def test_galleries_that_cannot_be_on_one_shelf(gallery, tmp_path):
    with pytest.raises(InputError, match="there is no gallery to serve"):
        Shelf([])
    with pytest.raises(InputError, match="have the same folder name"):
        Shelf([gallery.location, str(tmp_path / "other" / "yard")])


def test_a_version_that_cannot_be_read_leaves_the_old_one(shelf, gallery, caplog):
    later = gallery.commit([unit(gallery.target, range(30, 35))], run_id="b")
    new = {file.path for file in later.snapshot.files} - {f.path for f in gallery.snapshot.files}
    for name in new:
        (Path(gallery.location) / name).unlink()
    assert shelf.refresh() == []
    assert "yard: version 1 is kept" in caplog.text
    assert len(found(ask(shelf, {"row": 4, "limit": 5}))[0]) == 5


def test_kernels_are_loaded_before_the_first_request(tmp_path, gallery, monkeypatch):
    empty = new_gallery(tmp_path / "empty")
    searched = []
    search_held = held_search.search_held
    monkeypatch.setattr(
        "pipeline.gallery.held_features.search_held",
        lambda *a, **k: searched.append(k["allowed"] is None) or search_held(*a, **k),
    )
    running = Batches(0, ServiceMetrics())
    for table in (gallery, empty):
        running.warm_up(hold_gallery("yard", table))
    running.close()
    assert searched == [True, False]


class TestBatches:
    """Requests that come at once, without HTTP."""

    def together(self, gallery, asked, monkeypatch, largest=64):
        """The lists of searches that start at once, and how many queries each batch had."""
        monkeypatch.setattr(batches, "_LARGEST", largest)
        held, sizes = hold_gallery("yard", gallery), []
        running = Batches(0.01, ServiceMetrics())
        monkeypatch.setattr(running._metrics.batches, "observe", sizes.append)

        async def run():
            return await asyncio.gather(
                *(running.search(held, *each) for each in asked), return_exceptions=True
            )

        try:
            return asyncio.run(run()), sizes
        finally:
            running.close()

    def test_they_are_computed_together_and_each_gets_its_own(self, gallery, monkeypatch):
        queries = [unit_vectors([100 + n]) for n in range(6)]
        asked = [(query, 1 + n) for n, query in enumerate(queries)]
        lists, sizes = self.together(gallery, asked, monkeypatch, largest=4)
        assert sizes == [4, 2]
        for (query, k), best in zip(asked, lists, strict=True):
            wanted = search(query, gallery.array(), k)
            assert (best.rows == wanted.rows).all() and (best.scores == wanted.scores).all()

    def test_a_filter_is_a_batch_of_its_own(self, gallery, monkeypatch):
        allowed = np.arange(ROWS) % 2 == 0
        asked = [(unit_vectors([1]), 3), (unit_vectors([2]), 3, allowed), (unit_vectors([3]), 3)]
        lists, sizes = self.together(gallery, asked, monkeypatch)
        assert sizes == [2, 1]
        assert (lists[1].rows % 2 == 0).all()

    def test_an_error_reaches_each_who_waits(self, gallery, monkeypatch):
        wrong = np.full((1, 8), np.nan, np.float32)
        lists, _ = self.together(gallery, [(wrong, 1), (unit_vectors([1]), 1)], monkeypatch)
        assert all(isinstance(each, ValueError) for each in lists)
