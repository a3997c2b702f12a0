import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.core.cameras.sums import camera_sums
from pipeline.errors import InputError, RunError
from pipeline.gallery import checksums
from pipeline.gallery.files.storage import GalleryDamagedError, temporary_name
from pipeline.gallery.opening import check_location, lock_gallery
from pipeline.gallery.sidecars import camera_statistics
from pipeline.gallery.sidecars.camera_statistics import (
    read_camera_sums,
    write_camera_sums,
)
from pipeline.gallery.upkeep import purge as purging
from pipeline.gallery.upkeep.leftovers import clean
from pipeline.gallery.upkeep.purge import purge
from tests.gallery.making import DIMENSION, new_gallery, unit

NAMES = ["c0", "c1", "c2"]


def filled(folder, rows=30):
    gallery = new_gallery(folder)
    return gallery.commit([unit(gallery.target, range(rows))], run_id="first")


def sums_of(gallery):
    camera = np.array([NAMES.index(c) for c in gallery.rows(["camera"])["camera"].to_pylist()])
    return camera_sums(gallery.features(), camera, len(NAMES))


def bytes_of(sums):
    return [column.tobytes() for column in (sums.rows, sums.sums, sums.squares)]


@pytest.fixture
def gallery(tmp_path):
    return filled(tmp_path / "gallery")


def test_what_is_read_is_what_was_written_to_the_bit(gallery, tmp_path):
    assert read_camera_sums(gallery) is None
    sums = sums_of(gallery)
    path = write_camera_sums(gallery, NAMES, sums)
    names, found = read_camera_sums(gallery)
    assert names == NAMES
    assert bytes_of(found) == bytes_of(sums)
    assert found.sums.shape == (4, DIMENSION)
    assert [each.name for each in path.parent.iterdir()] == ["000000000001.parquet"]
    check_location(gallery.location)  # its folder is the gallery's own


def test_sums_of_a_version_that_was_purged_meanwhile_are_not_kept(gallery):
    """A reader may have summed up rows that have been erased since."""
    sums = sums_of(gallery)
    later = gallery.commit([], run_id="erase", removes=[7])
    with lock_gallery(gallery.location, "purge") as lock:
        purge(later, lock)
    with pytest.raises(InputError, match="version 1 was removed"):
        write_camera_sums(gallery, NAMES, sums)
    assert list((later._root / "_cameras").iterdir()) == []


def test_sums_that_a_reader_keeps_while_a_purge_is_under_way_go_with_it(gallery, monkeypatch):
    sums, real = sums_of(gallery), purging.forget_before
    later = gallery.commit([], run_id="erase", removes=[7])

    def after_a_reader(root, version):
        write_camera_sums(gallery, NAMES, sums)
        return real(root, version)

    monkeypatch.setattr(purging, "forget_before", after_a_reader)
    with lock_gallery(gallery.location, "purge") as lock:
        purge(later, lock)
    assert list((later._root / "_cameras").iterdir()) == []


def test_each_version_has_its_own(gallery):
    write_camera_sums(gallery, NAMES, sums_of(gallery))
    later = gallery.commit([unit(gallery.target, range(30, 40))], run_id="second")
    assert read_camera_sums(later) is None
    write_camera_sums(later, NAMES, sums_of(later))
    assert read_camera_sums(gallery)[1].rows.sum() == 30
    assert read_camera_sums(later)[1].rows.sum() == 40


@pytest.mark.parametrize("removed", ["purge", "clean"])
def test_those_of_versions_that_are_given_up_go_too(gallery, removed):
    write_camera_sums(gallery, NAMES, sums_of(gallery))
    latest = gallery.commit([], run_id="erase", removes=range(9))
    kept = write_camera_sums(latest, NAMES, sums_of(latest))
    temporary_name(kept.parent, "000000000002.parquet").write_bytes(b"cut off")
    with lock_gallery(latest.location, removed) as lock:
        if removed == "purge":
            purge(latest, lock)
        else:
            clean(latest, lock, keep=1)
    assert list(kept.parent.iterdir()) == [kept]
    assert read_camera_sums(latest)[1].rows.sum() == 21


def test_a_gallery_made_anew_in_the_same_folder_has_none(gallery, tmp_path, caplog):
    path = write_camera_sums(gallery, NAMES, sums_of(gallery))
    other = filled(tmp_path / "other", rows=20)
    kept = tmp_path / "other" / "_cameras" / path.name
    kept.parent.mkdir()
    checksums.write_recorded(kept, lambda temporary: shutil.copy(path, temporary))
    assert read_camera_sums(other) is None
    assert "has other contents" in caplog.text
    write_camera_sums(other, NAMES, sums_of(other))
    assert read_camera_sums(other)[1].rows.sum() == 20


def test_a_moved_gallery_keeps_its_own(gallery, tmp_path):
    write_camera_sums(gallery, NAMES, sums_of(gallery))
    shutil.move(gallery.location, tmp_path / "moved")
    moved = type(gallery).open(str(tmp_path / "moved"))
    assert read_camera_sums(moved)[0] == NAMES


@pytest.mark.parametrize("harm", ["cut", "flip", "other", "gone"])
def test_a_damaged_file_is_named(gallery, harm):
    path = write_camera_sums(gallery, NAMES, sums_of(gallery))
    data = bytearray(path.read_bytes())
    if harm == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif harm == "flip":
        column = pq.read_metadata(path).row_group(0).column(2)
        data[column.data_page_offset + column.total_compressed_size - 3] ^= 1
        path.write_bytes(data)
    elif harm == "gone":
        path.unlink()
    else:
        other = pa.table({"camera": ["c0"]})
        checksums.write_recorded(path, lambda temporary: pq.write_table(other, temporary))
    with pytest.raises(GalleryDamagedError, match=r"000000000001.parquet: .*it\s+is\s+made again"):
        read_camera_sums(gallery)


def test_a_writer_that_is_cut_off_leaves_what_was_there(gallery, monkeypatch):
    path = write_camera_sums(gallery, NAMES, sums_of(gallery))
    before = path.read_bytes()

    def interrupted(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(camera_statistics.storage, "sync_file", interrupted)
    with pytest.raises(RunError, match=r"\.parquet: the file cannot be written .*No space"):
        write_camera_sums(gallery, [], camera_sums(gallery.features(), np.full(30, -1), 0))
    assert path.read_bytes() == before
    assert len(list(path.parent.iterdir())) == 1


def test_a_folder_that_cannot_be_made_is_told(gallery, tmp_path):
    (tmp_path / "gallery" / "_cameras").write_text("in the way")
    with pytest.raises(InputError, match="_cameras"):
        write_camera_sums(gallery, NAMES, sums_of(gallery))
