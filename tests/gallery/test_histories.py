"""Random histories with crashes in them end as a model held in memory does."""

import shutil
import tempfile
import uuid
from dataclasses import replace
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from pipeline.gallery.files import storage
from pipeline.gallery.files.places import root_of
from pipeline.gallery.log import transactions as log
from pipeline.gallery.opening import lock_gallery
from pipeline.gallery.table import Gallery
from pipeline.gallery.upkeep import compact as compaction
from pipeline.gallery.upkeep.compact import compact
from pipeline.gallery.upkeep.erase import erase
from pipeline.gallery.upkeep.leftovers import clean
from pipeline.gallery.upkeep.purge import is_under_way, purge
from pipeline.gallery.upkeep.restore import restore
from pipeline.gallery.upkeep.selection import Selection, selected_rows
from pipeline.gallery.upkeep.verify import verify
from tests.gallery.crashing import interrupted
from tests.gallery.making import contents, new_gallery, unit, unit_vectors

PATHS = [f"camera{number % 2}/image{number:02d}.jpg" for number in range(10)]
UNIT_ROWS = 3
FILE_BYTES = 4 * 32


class Crash(BaseException):
    """Not an Exception: nothing on the way may take it for an error to be handled."""


def crash():
    raise Crash


def add(location, run_id, paths, bad):
    """New images, and newer ones of known paths, in units; `bad` ones are rejects."""
    with lock_gallery(location, run_id) as lock:
        gallery = Gallery.open(location)
        if log.run_version(gallery._root, run_id) is not None:
            return
        found = gallery.find_units()
        gallery.clear(replace(found, units=()), lock)
        done = {record.unit_id: record for record in found.units}
        units = []
        for start in range(0, len(paths), UNIT_ROWS):
            part, first = paths[start : start + UNIT_ROWS], gallery.next_row_id + start
            ids = range(first, first + len(part))
            name = f"{run_id}_{start}"
            wrong = [i for i, path in zip(ids, part, strict=True) if path in bad]
            record = done.get(name) or unit(gallery.target, ids, wrong, unit_id=name, paths=part)
            units.append(record)
        gallery.commit(units, run_id=run_id, lock=lock)


def latest(location, action):
    """An action on the latest version under the lock, as every verb does it."""
    with lock_gallery(location, "test") as lock:
        action(Gallery.open(location), lock)


class Histories(RuleBasedStateMachine):
    """`rows` are row ids by path, `bad` the paths of rejects; `versions` holds both of each."""

    def __init__(self):
        super().__init__()
        self.location = self.new_location()
        self.root = root_of(self.location)
        new_gallery(self.location)
        self.rows, self.bad, self.next_row_id, self.steps = {}, set(), 0, 0
        self.version, self.versions = 0, {0: ({}, set())}
        self.pinned = None

    def new_location(self):
        self.folder = Path(tempfile.mkdtemp())
        return str(self.folder / "g")

    def teardown(self):
        try:
            self.check_older_versions()
        finally:
            self.delete()

    def delete(self):
        shutil.rmtree(self.folder)

    def run(self, action, rows, bad, cut):
        """Runs an action, cut off at an operation if `cut` says so and then again; the result is to
        be these rows and rejects, in one new version if they are others.
        """
        self.steps += 1
        if cut is not None:
            try:
                with interrupted(cut[0], crash, dead=cut[1]):
                    action()
            except Crash:
                seen = self.state(Gallery.open(self.location))
                assert seen in ((self.rows, self.bad), (rows, bad))
        before = Gallery.open(self.location).version
        action()
        self.version = Gallery.open(self.location).version
        assert self.version <= before + 1
        self.rows, self.bad = rows, bad
        self.versions[self.version] = (rows, bad)

    @staticmethod
    def state(gallery):
        rows = gallery.rows(["row_id", "path"]).to_pydict()
        ids = dict(zip(rows["path"], rows["row_id"], strict=True))
        return ids, set(gallery.rejects()["path"].to_pylist())

    cuts = st.none() | st.tuples(st.integers(0, 45), st.booleans())

    @rule(
        paths=st.lists(st.sampled_from(PATHS), unique=True, min_size=1),
        bad=st.sets(st.sampled_from(PATHS), max_size=3),
        cut=cuts,
    )
    def add(self, paths, bad, cut):
        ids = dict(zip(paths, range(self.next_row_id, self.next_row_id + len(paths)), strict=True))
        rows = {path: i for path, i in self.rows.items() if path not in ids}
        rows |= {path: i for path, i in ids.items() if path not in bad}
        rejects = (self.bad - ids.keys()) | (bad & ids.keys())
        name = f"add_{self.steps}"
        self.run(lambda: add(self.location, name, paths, bad), rows, rejects, cut)
        self.next_row_id += len(paths)

    @precondition(lambda self: self.rows)
    @rule(rest=st.integers(0, 2), cut=cuts)
    def erase(self, rest, cut):
        def action(gallery, lock):
            selection = Selection(where=f"camera = 'c{rest}'")  # which follows from the row id
            erase(gallery, selected_rows(gallery, selection), lock)

        rows = {path: i for path, i in self.rows.items() if i % 3 != rest}
        self.run(lambda: latest(self.location, action), rows, self.bad, cut)

    @rule(paths=st.lists(st.sampled_from(PATHS), unique=True, min_size=1, max_size=4), cut=cuts)
    def erase_and_purge(self, paths, cut):
        self.check_older_versions()

        def action(gallery, lock):
            selected = selected_rows(gallery, Selection(paths=tuple(paths)))
            purge(erase(gallery, selected, lock), lock)

        rows = {path: i for path, i in self.rows.items() if path not in paths}
        self.pinned = None
        self.run(lambda: latest(self.location, action), rows, self.bad - set(paths), cut)
        self.versions = {self.version: (self.rows, self.bad)}
        assert not is_under_way(self.location)
        files = [path for path in self.root.rglob("*") if path.is_file()]
        held = b"".join(path.read_bytes() for path in files)
        for row_id in set(range(self.next_row_id)) - set(self.rows.values()):
            assert unit_vectors([row_id]).tobytes() not in held
        gone = set(PATHS) - self.rows.keys() - self.bad
        assert not any(path.encode() in held for path in gone)

    @rule(cut=cuts)
    def compact(self, cut):
        before = compaction.LEAST_BYTES
        compaction.LEAST_BYTES = 1
        try:
            self.run(
                lambda: latest(self.location, lambda g, lock: compact(g, FILE_BYTES, lock)),
                self.rows,
                self.bad,
                cut,
            )
        finally:
            compaction.LEAST_BYTES = before

    @rule(data=st.data(), cut=cuts)
    def restore(self, data, cut):
        version = data.draw(st.sampled_from(sorted(self.versions)))
        rows, bad = self.versions[version]
        self.run(
            lambda: latest(self.location, lambda g, lock: restore(g, version, lock)), rows, bad, cut
        )

    @rule(keep=st.integers(1, 4), cut=cuts)
    def clean(self, keep, cut):
        self.check_older_versions()
        self.pinned = None
        self.run(
            lambda: latest(self.location, lambda g, lock: clean(g, lock, keep)),
            self.rows,
            self.bad,
            cut,
        )
        first = max(min(self.versions), self.version - keep + 1)
        self.versions = {v: held for v, held in self.versions.items() if v >= first}
        wanted = {
            file.path
            for v in self.versions
            for file in Gallery.open(self.location, v).snapshot.files
        }
        assert {path.name for path in self.root.glob("[0-9]*.parquet")} == wanted

    @rule()
    def pin(self):
        gallery = Gallery.open(self.location)
        self.pinned = gallery, contents(gallery)

    @invariant()
    def the_gallery_is_what_the_model_is(self):
        gallery = Gallery.open(self.location)
        features = {i: unit_vectors([i])[0].tobytes() for i in self.rows.values()}
        assert contents(gallery) == {path: (i, features[i]) for path, i in self.rows.items()}
        assert set(gallery.rejects()["path"].to_pylist()) == self.bad
        assert (gallery.next_row_id, gallery.version) == (self.next_row_id, self.version)
        assert self.state(gallery) == self.versions[self.version]
        assert verify(gallery, all_versions=True).findings == ()
        if self.pinned:
            assert contents(self.pinned[0]) == self.pinned[1]

    def check_older_versions(self):
        """Read all of them: before they go, and when a history ends."""
        for version, held in self.versions.items():
            assert self.state(Gallery.open(self.location, version)) == held


class HistoriesInAStore(Histories):
    """The same below the URL `within` in an object store that the environment lets it use."""

    within = ""

    def new_location(self):
        return f"{self.within}/{uuid.uuid4().hex}"

    def delete(self):
        storage.delete_folder(self.root)


def test_histories_in_an_object_store(bucket, monkeypatch):
    monkeypatch.setattr(HistoriesInAStore, "within", bucket)
    run_state_machine_as_test(
        HistoriesInAStore,
        settings=settings(
            max_examples=3,
            stateful_step_count=6,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


TestHistories = Histories.TestCase
TestHistories.settings = settings(
    max_examples=10,
    stateful_step_count=8,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
