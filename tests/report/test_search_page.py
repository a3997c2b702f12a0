from datetime import UTC, datetime

import numpy as np
import pytest

from pipeline.report.search_page import render_search
from pipeline.report.thumbnails import thumbnail

WHEN = datetime(2026, 1, 2, tzinfo=UTC)
PICTURE = thumbnail(np.full((64, 32, 3), 90, np.uint8))


@pytest.fixture
def found():
    def hit(rank, path, match, **known):
        unknown = {"row_id": rank, "identity": None, "camera": None, "captured_at": None}
        return unknown | {"rank": rank, "path": path, "score": 0.9, "match": match} | known

    hits = [
        hit(1, "a.jpg", True, identity=7, camera="c1", captured_at=WHEN),
        hit(2, "<b>.jpg", False, identity=0),
        hit(3, "gone.jpg", False, identity=-1),
    ]  # fmt: skip
    return {
        "gallery": "galleries/<test>",
        "version": 3,
        "rows": 12345,
        "threshold": 0.75,
        "threshold_from": "--threshold",
        "results": [{"image": "crop & co.jpg", "queried": (), "hits": hits}],
        "not_searched": [{"image": "x.jpg", "reason": "truncated", "detail": "it ends early"}],
    }


def page(found):
    return render_search(found, {"crop & co.jpg": PICTURE}, {"a.jpg": PICTURE, "<b>.jpg": PICTURE})


def test_everything_is_told(found):
    text = page(found)
    for part in (
        "1 image in 12,345 rows", "version 3", "1 match among 3 rows", "from 0.7500 on",
        "identity 7, camera c1, 2026-01-02", "distractor", "junk", "1 crop is no longer where it",
        "x.jpg", "truncated (it ends early)", "crop &amp; co.jpg",
    ):  # fmt: skip
        assert part in text
    assert text.count("data:image/jpeg") == 3
    assert text.count('class="match"') == 2  # the key, and the one row
    assert text.count('class="miss"') == 3


def test_names_do_not_become_markup(found):
    text = page(found)
    assert "<b>.jpg" not in text
    assert "galleries/<test>" not in text
    assert "&lt;b&gt;.jpg" in text


def test_without_a_threshold_nothing_is_said_of_matches(found):
    found |= {"threshold": None, "threshold_from": None}
    for hit in found["results"][0]["hits"]:
        hit["match"] = None
    text = page(found)
    assert "match among" not in text
    assert 'class="match"' not in text
    assert "#tick" not in text


def test_the_page_asks_the_network_for_nothing(found):
    text = page(found)
    assert "http://" not in text
    assert "https://" not in text
    assert "default-src 'none'" in text
    assert text == page(found)
