import shutil

import pyarrow as pa
import pytest

from pipeline.errors import RunError
from pipeline.gallery.files import storage
from pipeline.gallery.files.storage import GalleryDamagedError
from pipeline.gallery.sidecars import plan as plan_file
from pipeline.gallery.sidecars.plan import drop_plan, read_plan, write_plan
from pipeline.gallery.upkeep.leftovers import unfinished_files

PLAN = pa.table({"path": ["a", "b"], "row_id": [0, 1], "unit": ["x", "x"]})


def test_a_plan_is_kept_replaced_and_dropped(tmp_path):
    location = str(tmp_path)
    assert read_plan(location) is None
    for plan in (PLAN, PLAN[:1]):
        write_plan(location, plan)
        assert read_plan(location).equals(plan)
    drop_plan(location)
    drop_plan(location)
    assert read_plan(location) is None
    left = [path.name for path in tmp_path.rglob("*") if path.is_file()]
    assert left == ["_lock"]


def test_a_crash_while_writing_leaves_the_plan_before(tmp_path, monkeypatch):
    write_plan(str(tmp_path), PLAN)

    def crash(_path):
        raise OSError("no space left")

    monkeypatch.setattr(plan_file.storage, "sync_file", crash)
    with pytest.raises(RunError, match=r"_plan.parquet: .*no space left"):
        write_plan(str(tmp_path), PLAN[:1])
    assert read_plan(str(tmp_path)).equals(PLAN)


def test_a_plan_that_is_half_written_is_a_leftover(tmp_path, monkeypatch):
    """A purge and a clean look for it there: it names every path of the run."""
    half = storage.temporary_name(tmp_path, storage.PLAN_FILE)

    def killed(path):
        if path.name.startswith("._plan"):
            assert unfinished_files(tmp_path) == []  # it is being written
            shutil.copy(path, half)  # which nobody writes any more

    monkeypatch.setattr(plan_file.storage, "sync_file", killed)
    write_plan(str(tmp_path), PLAN)
    assert unfinished_files(tmp_path) == [half, tmp_path / storage.PLAN_FILE]


def test_a_damaged_plan_is_told_by_name(tmp_path):
    write_plan(str(tmp_path), PLAN)
    (tmp_path / storage.PLAN_FILE).write_bytes(b"PAR1 cut short")
    with pytest.raises(GalleryDamagedError, match=r"_plan.parquet: its bytes .* is planned again"):
        read_plan(str(tmp_path))
    (tmp_path / storage.PLAN_FILE).unlink()
    with pytest.raises(GalleryDamagedError, match=r"_plan.parquet: the file is gone"):
        read_plan(str(tmp_path))
