"""Features that a service keeps: the same lists as those of a search that reads the files."""

import numpy as np
import pytest

from pipeline.core.held import rows as held_rows
from pipeline.core.neighbors.topk import search
from pipeline.core.products.tiles import here
from pipeline.gallery.files.storage import GalleryDamagedError
from pipeline.gallery.held_features import hold_features
from tests.gallery.making import new_gallery, unit


def searched(held, gallery, k=5):
    queries = gallery.array()[::3]
    found = held.search(queries, k, run=here)
    wanted = search(queries, gallery.array(), k)
    assert (found.rows == wanted.rows).all()
    assert (found.scores == wanted.scores).all()


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_new_version_reads_only_new_files(tmp_path, monkeypatch, dtype):
    empty = new_gallery(tmp_path / "g", dtype=dtype)
    first = empty.commit([unit(empty.target, range(20))], run_id="a")
    held = hold_features(first.features())
    searched(held, first)
    made, hold = [], held_rows.hold
    monkeypatch.setattr(
        "pipeline.gallery.held_features.hold",
        lambda *a, **k: made.append(len(a[0])) or hold(*a, **k),
    )
    second = first.commit([unit(first.target, range(20, 27))], run_id="b", removes=[3, 4])
    after = hold_features(second.features(), held)
    assert sum(made) == 7 + 18  # the unit, and the file that lost two rows
    searched(after, second)
    searched(held, first)
    again = hold_features(second.features(), after)
    assert sum(made) == 25
    assert again.bytes_in_memory == after.bytes_in_memory


def test_features_stay_in_their_file(tmp_path):
    empty = new_gallery(tmp_path / "g", dimension=512)
    gallery = empty.commit([unit(empty.target, range(40))], run_id="a")
    held = hold_features(gallery.features())
    (part,) = held.parts
    assert isinstance(part.rows.features, np.memmap)
    assert held.bytes_in_memory < 40 * 512 * 4
    # As after a purge: what is mapped is still there, for whoever searches at this moment.
    for path in (tmp_path / "g").glob("*.parquet"):
        path.unlink()
    assert len(held.search(np.array(part.rows.features[:1]), 3, run=here).rows) == 1


def test_rows_are_taken_by_position(tmp_path):
    empty = new_gallery(tmp_path / "g")
    units = [unit(empty.target, range(5)), unit(empty.target, range(5, 11))]
    gallery = empty.commit(units, run_id="a")
    held = hold_features(gallery.features())
    assert (held.take(np.array([9, 0, 4])) == gallery.array()[[9, 0, 4]]).all()
    with pytest.raises(IndexError, match="position 11 of a gallery of 11 rows"):
        held.take(np.array([11]))


def test_a_damaged_file_is_named(tmp_path):
    empty = new_gallery(tmp_path / "g")
    gallery = empty.commit([unit(empty.target, range(9))], run_id="a")
    (path,) = [tmp_path / "g" / file.path for file in gallery.snapshot.files]
    data = bytearray(path.read_bytes())
    place = data.find(gallery.array().tobytes()[:32])
    data[place + 5] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)
    with pytest.raises(GalleryDamagedError, match=path.name):
        hold_features(gallery.features())


def test_an_empty_gallery(tmp_path):
    held = hold_features(new_gallery(tmp_path / "g").features())
    assert held.search(np.eye(1, 8, dtype=np.float32), 2, run=here).rows.tolist() == [[-1, -1]]


def test_features_of_a_store_are_held_in_memory(bucket):
    empty = new_gallery(f"{bucket}/g")
    gallery = empty.commit([unit(empty.target, range(12))], run_id="a")
    held = hold_features(gallery.features())
    assert held.bytes_in_memory >= gallery.array().nbytes
    searched(held, gallery)
