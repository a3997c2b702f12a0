"""The binary answer of the map: what a reader that follows its description finds."""

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from pipeline.service.packed_points import packed_points
from pipeline.service.shelf import Shelf
from tests.jobs.labeled import labeled_gallery, people


def read(data):
    """Header and columns, by the description of the format alone."""
    assert data[:8] == b"RGPTS001"
    length = int.from_bytes(data[8:12], "little")
    header = json.loads(data[12 : 12 + length])
    start = 12 + length + (-(12 + length)) % 8
    assert start % 8 == 0
    columns = {
        each["name"]: np.frombuffer(
            data, f"<{each['dtype']}", header["rows"], start + each["offset"]
        )
        for each in header["columns"]
    }
    assert len(data) == start + 12 * header["rows"]
    return header, columns


def held(place, count, **columns):
    features, identity, camera = people(3, max(count, 3), dimension=8)
    labels = {"identity": identity[:count], "camera": camera[:count]} | columns
    labeled_gallery(place / "g", features[:count], **labels)
    return Shelf([str(place / "g")]).get("g")


@pytest.mark.parametrize("count", [1, 2, 3, 50])
def test_a_reader_finds_the_rows(tmp_path, count):
    rng = np.random.default_rng(count)
    start = datetime(2026, 1, 1, tzinfo=UTC)
    times = [start + timedelta(hours=int(n)) for n in rng.integers(0, 1000, count)]
    times = [None if n % 7 == 6 else time for n, time in enumerate(times)]
    gallery = held(tmp_path, count, captured_at=times)
    places = rng.standard_normal((count, 2)).astype(np.float32) * 100
    header, columns = read(packed_points(gallery, places))
    rows = gallery.rows(np.arange(count))
    assert (header["gallery"], header["version"], header["rows"]) == ("g", 1, count)
    assert columns["identity"].tolist() == [row["identity"] for row in rows]
    assert [header["cameras"][n] for n in columns["camera"]] == [row["camera"] for row in rows]
    for axis, name in enumerate("xy"):
        low, high = header[name]
        back = low + columns[name] / 65_535 * (high - low)
        assert np.abs(back - places[:, axis]).max() <= (high - low) / 65_535
    known = [n for n, time in enumerate(times) if time is not None]
    assert columns["time"][[n for n in range(count) if n not in known]].tolist() == [65_535] * (
        count - len(known)
    )
    low, high = (datetime.fromisoformat(each) for each in header["time"])
    for n in known:
        back = low + (high - low) * (int(columns["time"][n]) / 65_534)
        assert abs(back - times[n]) <= (high - low) / 65_534 + timedelta(microseconds=1)


def test_what_is_unknown_has_its_marks(tmp_path):
    gallery = held(tmp_path, 3, identity=[None, 2**40, -1], camera=[None, "b", "a"])
    header, columns = read(packed_points(gallery, np.zeros((3, 2), np.float32)))
    assert columns["identity"].tolist() == [-(2**31), -(2**31), -1]
    assert columns["camera"].tolist() == [65_535, 1, 0] and header["cameras"] == ["a", "b"]
    assert columns["time"].tolist() == [65_535] * 3 and header["time"] is None
    assert columns["x"].tolist() == [0] * 3
