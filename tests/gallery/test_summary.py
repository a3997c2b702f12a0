"""Counts of a version, against counting by hand."""

from collections import Counter

import pyarrow as pa
import pytest

from pipeline.gallery.files.unit_files import write_unit
from pipeline.gallery.summary import summarize_gallery
from tests.gallery.making import new_gallery, rejects_table, unit, unit_rows


@pytest.fixture
def gallery(tmp_path):
    gallery = new_gallery(tmp_path / "g")
    units = [unit(gallery.target, range(10)), unit(gallery.target, range(10, 23), rejected=[12])]
    return gallery.commit(units, run_id="x", rejects=rejects_table(["a", "b"], "empty"))


def test_counts(gallery):
    kept = [row_id for row_id in range(23) if row_id != 12]
    found = summarize_gallery(gallery)
    assert (found.version, found.rows, found.files) == (1, 22, 2)
    assert found.rows_by_camera == Counter(f"c{row_id % 3}" for row_id in kept)
    identities = [row_id % 5 - 1 for row_id in kept]
    assert found.identities == 3
    assert found.junk == identities.count(-1)
    assert found.distractors == identities.count(0)
    assert found.rejects == {"empty": 2, "truncated": 1}
    unknown = ["captured_at", "frame", "size", "mtime", "content_hash", "height", "width"]
    others = ["quality", "tracklet", "captured_until", "boxes", "origin", "origin_row"]
    assert found.nulls == dict.fromkeys([*unknown, *others], 22)
    sizes = [(gallery._root / file.path).stat().st_size for file in gallery.snapshot.files]
    assert found.bytes == sum(sizes)


def test_an_empty_gallery(tmp_path):
    found = summarize_gallery(new_gallery(tmp_path / "g"))
    assert (found.rows, found.identities, found.rows_by_camera, found.rejects) == (0, 0, {}, {})
    assert (found.junk, found.distractors, found.nulls) == (0, 0, {})


def test_rows_without_a_camera_or_identity(tmp_path):
    gallery = new_gallery(tmp_path / "g")
    rows = unit_rows(gallery.target, [0, 1], ["a", "b"])
    for name in ("camera", "identity"):
        index = rows.schema.get_field_index(name)
        field = rows.schema.field(name)
        column = pa.array([rows[name][0].as_py(), None], field.type)
        rows = rows.set_column(index, field, column)
    record = write_unit(gallery.target, "u", range(2), rows, rejects_table([]))
    found = summarize_gallery(gallery.commit([record], run_id="x"))
    assert found.rows_by_camera == {"": 1, "c0": 1}
    assert (found.junk, found.nulls["identity"], found.nulls["camera"]) == (1, 1, 1)
