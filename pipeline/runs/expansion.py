"""The work of `expand` between the lock and the commit: graphs and averages, round by round."""

import logging
from dataclasses import dataclass
from pathlib import Path

from pipeline.core.blocks import FeatureRows
from pipeline.core.expansion import Expansion
from pipeline.core.row_hashes import row_signatures
from pipeline.gallery.derived import commit_derived
from pipeline.gallery.files import storage
from pipeline.gallery.files.npy_rows import copy_rows
from pipeline.gallery.files.places import GalleryPlace, root_of
from pipeline.gallery.log.lock import Lock
from pipeline.gallery.scratch import drop_abandoned, scratch_folder
from pipeline.gallery.sidecars.graph import Graph, Origin
from pipeline.gallery.table import Gallery
from pipeline.runs.cameras import Cameras
from pipeline.stages.execution import Execution
from pipeline.stages.expand import expand_all
from pipeline.stages.neighbors import block_rows, build_graph
from pipeline.stages.update import RowChanges, update_graph

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Rounds:
    """The rounds of an expansion of `parent`, and the folder of their graphs.

    A graph is named by its round and the parent's version. The next graph is made from that of an
    earlier version, if there is one.
    """

    parent: Gallery
    settings: Expansion
    folder: GalleryPlace
    execution: Execution

    @property
    def needed(self) -> int:
        """The number of neighbors of a row that the expansion needs."""
        return self.settings.k - 1

    @property
    def kept(self) -> int:
        """The number of neighbors in graphs, with a few to spare.

        A row that loses a few neighbors then need not be searched again.
        """
        return self.needed + max(3, self.needed // 2)

    def graph(self, rows: FeatureRows, number: int) -> Graph:
        """The graph of the rows of a round: the finished one, or an earlier one updated, or a new
        one.
        """
        ids = self.parent.row_ids()
        signatures = row_signatures(rows, tiling=self.execution.tiling)
        old = self._earlier(number)
        changes = RowChanges.between(old, ids, signatures) if old else None
        origin = Origin(self.parent.location, self.parent.version, self.parent.fingerprint, number)
        execution = self.execution.named(f"round {number + 1}: ")
        if old and changes and changes.are_few:
            _log.info("%d rows are new to the neighbor graph", len(changes.fresh))
            return update_graph(
                old,
                changes,
                rows,
                self.needed,
                self._place(number, "updated"),
                ids=ids,
                signatures=signatures,
                origin=origin,
                block=block_rows(len(rows), rows.dimension, self.kept, execution),
                execution=execution,
            )
        return build_graph(
            rows,
            self.kept,
            self._place(number, "made"),
            ids=ids,
            signatures=signatures,
            origin=origin,
            execution=execution,
        )

    def _place(self, number: int, way: str) -> GalleryPlace:
        return self.folder / f"round-{number}-{way}-of-{self.parent.version}"

    def _earlier(self, number: int) -> Graph | None:
        """The whole graph of the latest other version, if it is of this kind."""
        wanted = self.parent.dimension, self.kept
        paths: list[GalleryPlace] = list(self.folder.glob(f"round-{number}-*-of-*"))
        paths.sort(key=lambda path: int(path.name.rpartition("-")[2]))
        for path in reversed(paths):
            if path.name.endswith(f"-of-{self.parent.version}"):
                continue
            found = Graph.open(path)
            if found and (found.about.dimension, found.about.k) == wanted:
                return found
        return None


def expand_gallery(
    parent: Gallery,
    present: Gallery,
    settings: Expansion,
    cameras: Cameras | None,
    chosen: Path | None,
    execution: Execution,
    lock: Lock,
) -> Gallery:
    """The next version of `present`: the features of `parent`, normalized if requested, expanded.

    Intermediate features are in a folder below `chosen`, or otherwise beside the graphs; for a
    gallery in an object store, they are in the folder for temporary files.
    """
    folder = _folder(present)
    storage.make_folder(folder)
    rounds = Rounds(parent, settings, folder, execution)
    features: FeatureRows = parent.features()
    if cameras:
        features = cameras.normalize(features, parent.rows(["camera"])["camera"], "rows")
    beside = folder if isinstance(folder, Path) else None
    base = chosen.absolute() if chosen else beside
    made_by = [repr(settings), repr(cameras.settings if cameras else None)]
    with scratch_folder(base, "expand", [parent, present], made_by) as scratch:
        rows = copy_rows(features, scratch / "features.npy")
        _, expanded = expand_all(
            rows,
            rows,
            settings,
            scratch,
            rounds.graph,
            execution=execution,
        )
        return commit_derived(present, parent, expanded, lock)


def tidy(gallery: Gallery, parent: Gallery) -> None:
    """Delete everything that a finished run no longer needs: all except the graphs of the parent
    version.
    """
    for each in (gallery, parent):
        drop_abandoned(each.location)
    for path in _folder(gallery).glob("round-*"):
        if not path.name.endswith(f"-of-{parent.version}"):
            storage.delete_folder(path)


def _folder(gallery: Gallery) -> GalleryPlace:
    return root_of(gallery.location) / storage.GRAPH_FOLDER
