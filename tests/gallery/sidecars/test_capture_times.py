from datetime import UTC, datetime

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.gallery.sidecars.capture_times import moments

NOON = datetime(2026, 3, 1, 12, 0, 0, 5, UTC)
DAY = datetime(2026, 3, 1, tzinfo=UTC)
BEFORE_1970 = datetime(1960, 3, 1, 12, tzinfo=UTC)


def table(rows):
    camera, taken, frame = zip(*rows, strict=True) if rows else ((), (), ())
    return pa.table(
        {
            "camera": pa.array(camera, pa.string()),
            "captured_at": pa.array(taken, pa.timestamp("us", "UTC")),
            "frame": pa.array(frame, pa.int64()),
        }
    )


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "b", None]),
            st.sampled_from([NOON, DAY, BEFORE_1970, None]),
            st.sampled_from([0, 7, -3, None]),
        ),
        max_size=20,
    )
)
def test_moments_are_those_of_the_definition(rows):
    times = [taken for _, taken, _ in rows if taken is not None]
    dates = bool(times) and all(taken == DAY for taken in times)

    def known(row):
        camera, taken, frame = row
        return camera is not None and (frame is not None or (taken is not None and not dates))

    found = moments(table(rows))
    for i, first in enumerate(rows):
        assert (found[i] == -1) == (not known(first))
        for j, second in enumerate(rows):
            if known(first) and known(second):
                assert (found[i] == found[j]) == (first == second)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([("a", NOON, None), ("a", NOON, None)], [0, 0]),
        ([("a", NOON, 1), ("a", NOON, 2)], [0, 1]),
        ([("a", DAY, None), ("a", DAY, None)], [-1, -1]),  # a date is not a time
        ([("a", DAY, None), ("a", NOON, None)], [0, 1]),  # where others have one, midnight is
        ([], []),
    ],
)
def test_times_and_dates(rows, expected):
    assert moments(table(rows)).tolist() == expected
