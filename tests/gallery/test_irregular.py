"""Links and mounts in a gallery's folder: verify names them, and a purge changes nothing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.errors import InputError
from pipeline.gallery.files import storage
from pipeline.gallery.files.storage import GalleryDamagedError
from pipeline.gallery.irregular import check_regular, irregular_files
from pipeline.gallery.log.lock import hold
from pipeline.gallery.opening import lock_gallery
from pipeline.gallery.upkeep.leftovers import clean
from pipeline.gallery.upkeep.purge import is_under_way, purge
from pipeline.gallery.upkeep.verify import verify
from tests.gallery.making import new_gallery, rejects_table, unit


@pytest.fixture
def gallery(tmp_path):
    gallery = new_gallery(tmp_path / "g")
    record = unit(gallery.target, range(10), rejected=[2])
    return gallery.commit([record], run_id="x", rejects=rejects_table(["odd"]))


def replaced_by_link(path, outside):
    path.replace(outside)
    path.symlink_to(outside)


def with_second_name(path, outside):
    os.link(path, outside)


def copied_by_link(path, outside):
    os.link(path, path.with_name("second.json"))


def queue(path, outside):
    os.mkfifo(path.with_name("queue"))


def named(gallery, pattern):
    return next(gallery._root.glob(pattern))


@pytest.mark.parametrize(
    ("pattern", "change", "told"),
    [
        ("0*.parquet", replaced_by_link, "a symbolic link to {outside}: put the file or folder"),
        ("_rejects", replaced_by_link, "a symbolic link to {outside}: put the file or folder"),
        ("_delta_log/0*1.json", replaced_by_link, "a symbolic link to {outside}"),
        ("0*.parquet", with_second_name, "1 more names outside of the gallery (hard links; `find"),
        ("_rejects/*.parquet", with_second_name, "1 more names outside of the gallery"),
        ("_delta_log/0*0.json", copied_by_link, "the same file as _delta_log/second.json"),
        ("_units", queue, "neither a file nor a folder: delete it"),
    ],
)
def test_what_is_not_the_gallerys_own_is_named(gallery, tmp_path, pattern, change, told):
    assert irregular_files(gallery._root) == []
    path, outside = named(gallery, pattern), tmp_path / "outside"
    change(path, outside)
    (found,) = irregular_files(gallery._root)
    name = "queue" if change is queue else str(path.relative_to(gallery._root))
    assert found.file == name
    assert found.problem.startswith(told.format(outside=outside)) or told in found.problem
    if "second.json" not in told:  # which is not an entry of a log
        assert (found.file, found.problem) in {
            (each.file, each.problem) for each in verify(gallery).findings
        }
    before = sorted(gallery._root.rglob("*"))
    with hold(gallery.location, "purge") as lock, pytest.raises(InputError, match="nothing was"):
        purge(gallery, lock)
    assert sorted(gallery._root.rglob("*")) == before
    assert not is_under_way(gallery.location)


@pytest.mark.parametrize(
    ("name", "is_folder", "told"),
    [
        ("_seen.parquet", True, "a folder, where a file belongs"),
        ("_plan.parquet", True, "a folder, where a file belongs"),
        ("_cameras", False, "a file, where a folder belongs"),
        ("_purged/notes.txt", False, "no purge set this aside"),
        ("_purged/a.parquet", True, "no purge set this aside"),
    ],
)
def test_what_lies_where_something_of_the_gallery_belongs(gallery, name, is_folder, told):
    path = gallery._root / name
    path.parent.mkdir(exist_ok=True)
    path.mkdir() if is_folder else path.write_text("mine")
    (found,) = irregular_files(gallery._root)
    assert (found.file, found.problem) == (name, f"{told}: move it elsewhere")
    with hold(gallery.location, "purge") as lock, pytest.raises(InputError, match=told):
        purge(gallery, lock)
    assert path.exists()
    if name == "_plan.parquet":
        with (
            hold(gallery.location, "clean") as lock,
            pytest.raises(GalleryDamagedError, match="is a folder"),
        ):
            clean(gallery, lock)
    assert path.exists()


def test_all_are_counted_and_some_named(gallery):
    for number in range(7):
        (gallery._root / f"link {number}").symlink_to("/nowhere")
    with pytest.raises(InputError, match=r"link 0: a symbolic link to /nowhere.*; and 2 more$"):
        check_regular(gallery.location)


def test_a_folder_that_is_reached_by_a_link_is_the_gallerys_own(gallery, tmp_path):
    (tmp_path / "elsewhere").symlink_to(gallery._root)
    check_regular(str(tmp_path / "elsewhere"))
    os.link(named(gallery, "0*.parquet"), tmp_path / "outside")
    assert len(irregular_files(tmp_path / "elsewhere")) == 1


def test_a_unit_that_is_just_getting_its_name_has_two(gallery):
    """And one that was cut off there is mended by the next writer."""
    half = storage.temporary_name(gallery._root / storage.UNITS_FOLDER, "x")
    os.link(named(gallery, "0*.parquet"), half)
    check_regular(gallery.location)
    with lock_gallery(gallery.location, "x"):
        assert not half.exists()
    check_regular(gallery.location)


MOUNTED = """
import sys
from pathlib import Path
from pipeline.gallery.irregular import irregular_files
print([(each.file, each.problem) for each in irregular_files(Path(sys.argv[1]))])
"""


def test_what_is_mounted_inside_is_named(gallery, tmp_path):
    """A folder of the same file system, under a name with a space, and a file."""
    (gallery._root / "a b").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "file").write_text("x")
    (gallery._root / "file").touch()
    script = (
        f'mount --bind "{tmp_path}/outside" "{gallery._root}/a b" &&'
        f' mount --bind "{tmp_path}/file" "{gallery._root}/file" &&'
        f' exec "{sys.executable}" -c "$0" "{gallery._root}"'
    )
    done = subprocess.run(
        ["unshare", "-Urm", "sh", "-c", script, MOUNTED],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")
    told = "something is mounted here: unmount it"
    assert done.stdout.strip() == str([("a b", told), ("file", told)]), done.stderr
