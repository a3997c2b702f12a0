"""Galleries of an earlier version, whose files lack the columns that came later."""

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.gallery.files import unit_files
from pipeline.gallery.files.row_files import write_row_file
from pipeline.gallery.files.schema import ADDED_COLUMNS
from pipeline.gallery.upkeep.compact import compact
from pipeline.gallery.upkeep.verify import verify
from tests.gallery.making import contents, expected, new_gallery, unit


def test_older_files_are_read_verified_changed_and_compacted(tmp_path, monkeypatch):
    gallery = new_gallery(tmp_path / "g")

    def as_before(path, rows):
        write_row_file(path, rows.drop_columns(list(ADDED_COLUMNS)))

    with monkeypatch.context() as before:
        before.setattr(unit_files, "write_row_file", as_before)
        gallery = gallery.commit([unit(gallery.target, range(6))], run_id="a")
    (file,) = gallery.snapshot.files
    assert not {*pq.read_schema(tmp_path / "g" / file.path).names} & {*ADDED_COLUMNS}
    assert gallery.rows()["tracklet"].null_count == 6
    assert list(gallery.select("tracklet = 'a'")) == []
    assert not verify(gallery).findings

    gallery = gallery.commit([unit(gallery.target, range(6, 9))], run_id="b", removes=[2])
    assert contents(gallery) == expected([0, 1, *range(3, 9)])
    gallery = compact(gallery)
    assert contents(gallery) == expected([0, 1, *range(3, 9)])
    assert gallery.rows()["boxes"].type == pa.int32()
    assert not verify(gallery).findings
