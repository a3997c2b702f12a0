"""Two writers, a full disk, a folder that cannot be written to: told, and nothing else damaged."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.errors import InputError, RunError
from pipeline.gallery.log.lock import hold
from pipeline.gallery.table import Gallery
from pipeline.gallery.upkeep.compact import compact
from pipeline.gallery.upkeep.erase import erase
from pipeline.gallery.upkeep.leftovers import clean
from pipeline.gallery.upkeep.selection import Selection, selected_rows
from pipeline.gallery.upkeep.verify import verify
from tests.gallery.making import contents, expected, new_gallery, unit

ROOT = Path(__file__).parents[3]

# Two processes that both wait for a line, then erase one row each, again where they are told to.
WRITER = """
import json, sys
from pipeline.errors import InputError, RunError
from pipeline.gallery.table import Gallery
location, row_id = sys.argv[1], int(sys.argv[2])
gallery = Gallery.open(location)
print("ready", flush=True)
sys.stdin.readline()
told = []
while True:
    try:
        after = gallery.commit([], run_id=f"erase {row_id}", removes=[row_id])
        break
    except (InputError, RunError) as error:
        told.append(str(error))
        gallery = Gallery.open(location)
print(json.dumps([after.version, told]))
"""

# As many bytes a file as there may be, then an attempt to write more: what a full disk does.
FULL = """
import resource, sys
from pipeline.errors import RunError
from pipeline.gallery import table
from pipeline.gallery.upkeep import compact, erase, selection
from pipeline.gallery.table import Gallery
from tests.gallery.making import unit
gallery = Gallery.open(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
try:
    if sys.argv[2] == "add":
        start = gallery.next_row_id
        gallery.commit([unit(gallery.target, range(start, start + 40))], run_id="more")
    elif sys.argv[2] == "compact":
        compact.compact(gallery)
    else:
        erase.erase(gallery, selection.selected_rows(gallery, selection.Selection(row_ids=(7,))))
except RunError as error:
    print(error)
    sys.exit(3)
except OSError as error:
    print(error)
    sys.exit(4)
"""


@pytest.fixture
def gallery(tmp_path):
    gallery = new_gallery(tmp_path / "g")
    units = [unit(gallery.target, range(start, start + 40)) for start in range(0, 120, 40)]
    return gallery.commit(units, run_id="first")


def test_two_processes_that_write(gallery):
    """One commits, the other is told and tries again; a reader of the old version sees neither."""
    before = contents(gallery)
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, gallery.location, str(row_id)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for row_id in (3, 50)
    ]
    for writer in writers:
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        writer.stdin.write("go\n")
        writer.stdin.flush()
    done = [json.loads(writer.communicate(timeout=60)[0]) for writer in writers]
    assert all(writer.returncode == 0 for writer in writers)
    assert sorted(version for version, _ in done) == [2, 3]
    told = [line for _, lines in done for line in lines]
    assert told, "the second to come planned on a version that is no longer the latest"
    assert all("being changed by" in line or "came after version 1" in line for line in told)
    assert contents(gallery) == before
    after = Gallery.open(gallery.location)
    assert contents(after) == expected(set(range(120)) - {3, 50})
    assert verify(after, all_versions=True).findings == ()


@pytest.mark.parametrize(
    ("what", "limit"), [("add", 3000), ("compact", 3000), ("erase", 600), ("erase", 8000)]
)
def test_a_full_disk(gallery, what, limit):
    """Files that are longer than the limit cannot be written; the gallery stays as it was."""
    before = contents(gallery)
    done = subprocess.run(
        [sys.executable, "-c", FULL, gallery.location, what, str(limit)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    after = Gallery.open(gallery.location)
    assert verify(after, all_versions=True).findings == ()
    if done.returncode:
        assert done.returncode == 3, done.stderr
        assert gallery.location in done.stdout
        assert "nothing was committed" in done.stdout
        assert (after.version, contents(after)) == (1, before)
    else:
        assert after.version == 2
    with hold(gallery.location, "clean") as lock:
        clean(Gallery.open(gallery.location), lock)
    assert contents(compact(after)) == contents(after)


@pytest.fixture
def read_only(gallery):
    """The gallery's folder under a mount that cannot be written to, as root may not either."""
    folder = gallery._root.with_name("mounted")
    folder.mkdir()
    mounted = [
        ["mount", "--bind", str(gallery._root), str(folder)],
        ["mount", "-o", "remount,ro,bind", str(folder)],
    ]
    for command in mounted:
        if subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("this machine lets nobody mount")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_folder_that_cannot_be_written_to(gallery, read_only):
    """It is read and verified; every writer is told before anything is tried."""
    reader = Gallery.open(str(read_only))
    assert contents(reader) == contents(gallery)
    assert verify(reader).findings == ()
    selected = selected_rows(reader, Selection(row_ids=(7,)))
    for attempt in (
        lambda: erase(reader, selected),
        lambda: compact(reader),
        lambda: reader.commit([], run_id="x", removes=[3]),
    ):
        with pytest.raises(InputError, match="mounted: the folder cannot be written to"):
            attempt()
    assert Gallery.open(gallery.location).version == 1


def test_a_commit_on_an_old_version_is_told(gallery):
    gallery.commit([], run_id="x", removes=[3])
    with pytest.raises(RunError, match="version 2 came after version 1"):
        erase(gallery, selected_rows(gallery, Selection(row_ids=(7,))))
