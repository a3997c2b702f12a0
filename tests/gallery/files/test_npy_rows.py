import errno
import os
import pickle

import numpy as np
import pytest

from pipeline.core.blocks import ArrayRows
from pipeline.errors import InputError, RunError
from pipeline.gallery.files.npy_rows import NpyRows, copy_rows, create_npy


@pytest.fixture
def rows(tmp_path):
    """A file of 10 x 3 numbers, and the numbers."""
    numbers = np.arange(30, dtype=np.float32).reshape(10, 3)
    with create_npy(tmp_path / "rows.npy", 10, 3) as written:
        written[6:] = numbers[6:]
        written[:6] = numbers[:6]
    return NpyRows(str(tmp_path / "rows.npy")), numbers


def test_what_was_written_in_chunks_is_read_in_blocks(rows):
    found, numbers = rows
    assert (len(found), found.dimension) == (10, 3)
    assert (found.read(2, 7) == numbers[2:7]).all()
    picked = np.array([9, 0, 9])
    assert (found.take(picked) == numbers[picked]).all()
    assert (np.load(found.path) == numbers).all()


def test_parts_of_parts(rows):
    found, numbers = rows
    part = found.part(2, 9).part(1, 4)
    assert len(part) == 3
    assert (part.read(0, 3) == numbers[3:6]).all()
    assert (part.take(np.array([2])) == numbers[5:6]).all()


def test_a_block_is_a_copy_that_torch_takes(rows):
    found, numbers = rows
    block = found.read(0, 2)
    assert block.flags.writeable
    block[:] = -1
    assert (found.read(0, 2) == numbers[:2]).all()


def test_another_process_opens_the_file_for_itself(rows):
    found, numbers = rows
    data = pickle.dumps(found)
    assert len(data) < 500
    assert (pickle.loads(data).read(0, 10) == numbers).all()


def test_another_kind_of_array_is_told(tmp_path):
    np.save(tmp_path / "wide.npy", np.zeros((2, 2)))
    with pytest.raises(InputError, match=r"wide.npy holds float64 \(2, 2\)"):
        NpyRows(str(tmp_path / "wide.npy")).read(0, 1)


def test_rows_are_copied_in_blocks(rows, tmp_path):
    source, numbers = rows
    copied = copy_rows(source, tmp_path / "copy.npy", at_once=3)
    assert (copied.read(0, len(copied)) == numbers).all()


def test_a_file_is_whole_at_any_time(rows, tmp_path):
    """Another process may read the rows while they are made again."""
    found, numbers = rows
    with create_npy(tmp_path / "rows.npy", 10, 3) as written:
        written[:5] = numbers[:5]
        assert (found.read(0, 10) == numbers).all()
        written[5:] = numbers[5:]
    assert (found.read(0, 10) == numbers).all()
    assert [path.name for path in tmp_path.iterdir()] == ["rows.npy"]


def test_a_full_disk_is_told_before_anything_is_written(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(RunError, match=r"x\.npy: 160 bytes .*No space left"):
        copy_rows(ArrayRows(np.ones((4, 2), np.float32)), tmp_path / "x.npy")
    assert not list(tmp_path.iterdir())
