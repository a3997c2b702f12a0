"""Searches and links among selected rows: exact there, and without the files that cannot match."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from pipeline.core.blocks import ArrayRows, ChosenRows
from pipeline.errors import InputError
from pipeline.gallery.files.unit_files import write_unit
from pipeline.gallery.upkeep.compact import compact
from pipeline.runs.linked import LinkSettings
from pipeline.runs.linking import link
from pipeline.runs.selection import RowFilter
from pipeline.stages.search import search_gallery
from tests.gallery.making import new_gallery, path_of, rejects_table, unit_rows

START = datetime(2024, 5, 1, tzinfo=UTC)


@pytest.fixture
def gallery(tmp_path):
    """Four files of a day each, cameras c0 to c2."""
    made = new_gallery(tmp_path / "g")
    records = []
    for first in range(0, 80, 20):
        ids = range(first, first + 20)
        rows = unit_rows(made.target, ids, [path_of(row_id) for row_id in ids])
        times = [START + timedelta(days=first // 20, minutes=row_id) for row_id in ids]
        place = rows.schema.get_field_index("captured_at")
        field = rows.schema.field("captured_at")
        rows = rows.set_column(place, field, pa.array(times, field.type))
        records.append(write_unit(made.target, f"u{first}", ids, rows, rejects_table([])))
    return made.commit(records, run_id="a")


@pytest.mark.parametrize(
    ("select", "fits"),
    [
        (RowFilter(where="camera = 'c1' or identity = 2"), lambda row: row["camera"] == "c1" or
         row["identity"] == 2),
        (RowFilter(after=START + timedelta(days=1)), lambda row: row["row_id"] >= 20),
        (RowFilter("identity > 0", START + timedelta(days=1), START + timedelta(days=2)),
         lambda row: 20 <= row["row_id"] < 40 and row["identity"] > 0),
        (RowFilter(not_camera="c0"), lambda row: row["camera"] != "c0"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("compacted", [False, True])
def test_the_best_of_a_selection_are_those_of_a_loop(gallery, select, fits, compacted):
    gallery = compact(gallery) if compacted else gallery
    wanted = [place for place, row in enumerate(gallery.rows().to_pylist()) if fits(row)]
    found = select.positions(gallery)
    assert found.tolist() == wanted
    features, queries = gallery.array(), gallery.array()[:3]
    best = search_gallery(ArrayRows(queries), ChosenRows(gallery.features(), found), 4)
    for query, rows in zip(queries, found[best.rows], strict=True):
        order = np.argsort(-(features[wanted] @ query), kind="stable")[:4]
        assert rows.tolist() == np.array(wanted)[order].tolist()
    at = gallery.rows_at(found[::-1], ["row_id", "path"])
    assert at.to_pylist() == gallery.rows(["row_id", "path"]).take(found[::-1]).to_pylist()


def test_files_that_cannot_match_are_not_read(gallery):
    for file in gallery.snapshot.files[:3]:
        (gallery._root / file.path).unlink()
    found = RowFilter(after=START + timedelta(days=3)).positions(gallery)
    assert found.tolist() == list(range(60, 80))
    gallery.features().take(found)
    assert gallery.rows_at(found, ["path"]).num_rows == 20


def test_links_are_among_the_selected(gallery, tmp_path):
    select = RowFilter(where="row_id < 30 and identity >= 0")
    made = link(gallery, tmp_path / "l.parquet", LinkSettings(5, 0.1), select=select)
    assert made.rows_linked == sum(1 for row in gallery.rows().to_pylist()
                                   if row["row_id"] < 30 and row["identity"] >= 0)  # fmt: skip


def test_what_selects_nothing_is_told(gallery):
    with pytest.raises(InputError, match="has no row in version 1 for which"):
        RowFilter(where="identity > 99").positions(gallery)
    with pytest.raises(InputError, match="does not work"):
        RowFilter(where="identity > 0) or (identity < 9").positions(gallery)
    assert RowFilter().positions(gallery) is None
