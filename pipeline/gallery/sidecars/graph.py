"""A neighbor graph on the disk: the best other rows of every row of a set, one file for each block
of rows.

Rows are named by their ids, and each has a signature of its features, so that a graph can also be
used for the next version of a gallery: rows with the same id and signature are the same. While it
is made, the neighbors found so far for unfinished blocks are stored beside the finished blocks. The
name of such a file depends on which blocks this one has met, so its content depends on its name
alone: a worker of a killed run that lives on for some seconds can only write the same bytes again.
After a kill at any instant, the next run resumes, and does again what was damaged in the meantime.
"""

import json
import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.core.blocks import blocks
from pipeline.core.neighbors.topk import TopK
from pipeline.errors import InputError
from pipeline.gallery import checksums
from pipeline.gallery.files import storage
from pipeline.gallery.files.places import GalleryPlace, in_order, root_of
from pipeline.gallery.files.storage import GalleryDamagedError
from pipeline.gallery.sidecars.graph_files import (
    MET,
    binary_column,
    blocks_met,
    content_of,
    decode,
    is_whole,
    name_of_blocks,
    read_columns,
)
from pipeline.input_files import parse_json

_log = logging.getLogger(__name__)


ABOUT_FILE = "graph.json"
"""The name of the file that describes a graph."""


@dataclass(frozen=True)
class Origin:
    """The features of a graph: those of a version of a gallery, after `rounds` expansions."""

    location: str = ""
    version: int = -1
    fingerprint: str = ""
    rounds: int = 0


@dataclass(frozen=True)
class About:
    """The contents of a graph: `k` neighbors of each of `rows` rows, in files of `block` rows.

    `content` is a hash of the row ids and signatures. With `least`, each row's least score with any
    other row, that is, with its farthest row, is stored beside its neighbors. `apart` is a hash of
    the rule by which some pairs of rows are no neighbors; empty if all pairs may be.
    """

    origin: Origin
    rows: int
    dimension: int
    k: int
    least: bool
    content: str
    block: int
    apart: str = ""


@dataclass(frozen=True, eq=False)
class Graph:
    """A graph in a folder, whole or being made; picklable, for workers that see the folder.

    `ids` int64 `[N]`, ascending, is the row id of each position, `signatures` int64 `[N]` stand for
    the features. All methods speak of positions.
    """

    folder: str
    about: About
    ids: NDArray[np.int64]
    signatures: NDArray[np.int64]

    @classmethod
    def begin(
        cls,
        folder: GalleryPlace,
        about: About,
        ids: NDArray[np.int64],
        signatures: NDArray[np.int64] | None = None,
    ) -> "Graph":
        """The graph that an earlier run left in `folder`, with its blocks, or a new empty one.

        Any other graph in the folder is deleted, and so is one without a description.
        `about.content` is filled in.
        """
        if signatures is None:
            signatures = np.zeros(len(ids), np.int64)
        about = replace(about, content=content_of(ids, signatures))
        try:
            left = _read_about(folder / ABOUT_FILE)
        except GalleryDamagedError as error:
            _log.warning("the neighbor graph is made anew: %s", error)
            left = None
        if left is not None and replace(left, block=about.block) == about:
            storage.drop_cut_off(folder)
            checksums.sweep_writers(folder)
            return cls(str(folder), left, ids, signatures)
        storage.delete_folder(folder)
        storage.make_folder(folder)
        told = asdict(about)
        if not about.apart:  # earlier versions of this tool do not know the rule
            del told["apart"]
        text = json.dumps(told, indent=2) + "\n"
        checksums.write_recorded(folder / ABOUT_FILE, lambda half: half.write_text(text))
        return cls(str(folder), about, ids, signatures)

    @classmethod
    def open(cls, folder: GalleryPlace) -> "Graph | None":
        """The whole graph in `folder`; None if there is none, or if it is not finished.

        Raise `GalleryDamagedError` for a file that cannot be read.
        """
        about = _read_about(folder / ABOUT_FILE)
        if about is None:
            return None
        none = np.empty(0, np.int64)
        found = cls(str(folder), about, none, none)
        if found.finished < len(found.blocks):
            return None
        names = ["row_id", "signature"]
        parts = [read_columns(found._file(number), names) for number in range(len(found.blocks))]
        ids, signatures = (
            np.concatenate([none, *(part[name].to_numpy() for part in parts)]) for name in names
        )
        if content_of(ids, signatures) != about.content:
            raise GalleryDamagedError(
                f"{folder}: the neighbor graph's rows are not those that it was made of: delete"
                " the folder, and it is made again"
            )
        return replace(found, ids=ids, signatures=signatures)

    def __len__(self) -> int:
        return self.about.rows

    @cached_property
    def blocks(self) -> list[tuple[int, int]]:
        """The range of positions of each file."""
        return list(blocks(self.about.rows, self.about.block))

    @property
    def finished(self) -> int:
        """How many blocks are finished."""
        return sum(self._file(number).is_file() for number in range(len(self.blocks)))

    @property
    def whole(self) -> int:
        """The bits of a block that has met all blocks."""
        return (1 << len(self.blocks)) - 1

    def standing(self) -> list[int]:
        """The blocks that each block has met, as bits, according to its best file.

        A damaged file is named in a warning, and does not count.
        """
        best = [0] * len(self.blocks)
        for path in in_order(root_of(self.folder).glob("open-*.parquet")):
            number, met = int(path.stem.split("-")[1]), blocks_met(path)
            if number < len(best) and met.bit_count() > best[number].bit_count():
                best[number] = met
        for number in range(len(best)):
            path = self._file(number)
            if path.is_file() and is_whole(path):
                best[number] = self.whole
        return best

    def keep(
        self, number: int, met: int, found: TopK, least: NDArray[np.float32] | None = None
    ) -> None:
        """Store the neighbors of a block from the blocks that it has `met`; the block is finished
        if these are all.
        """
        if met == self.whole:
            self.write(number, found, least)
        else:
            self._write(
                self._open_file(number, met), number, found.rows, found.scores, least, met=met
            )

    def kept(self, number: int, met: int) -> tuple[TopK, NDArray[np.float32] | None]:
        """The stored neighbors of a block that had `met` these blocks, by position.

        If the graph stores least scores, these come second, and may be written to.
        """
        start, stop = self.blocks[number]
        if met == self.whole:
            least = self.read_least(start, stop).copy() if self.about.least else None
            return self.read(start, stop), least
        if met == 0:
            none = np.full(stop - start, np.inf, np.float32) if self.about.least else None
            return TopK.none(stop - start, self.about.k), none
        path = self._open_file(number, met)
        rows, scores = decode(path, self.about.k, 0, stop - start)
        least = self._least(path, 0, stop - start).copy() if self.about.least else None
        return TopK(scores, rows), least

    def drop(self, number: int, met: int) -> None:
        """Delete the stored state of a block that had `met` these blocks, because it has met more
        since.
        """
        if met:
            storage.delete_files([self._open_file(number, met)])

    def write(self, number: int, found: TopK, least: NDArray[np.float32] | None = None) -> None:
        """Store a finished block: the neighbors of its rows, by position, and their least scores
        float32 `[B]` if the graph stores them.
        """
        self._write(self._file(number), number, self._to_ids(found.rows), found.scores, least)

    def read(self, start: int, stop: int, k: int | None = None) -> TopK:
        """Read the `k` best neighbors (default: all that are stored) of the rows `start` to `stop`.

        The result has at most as many columns as the graph has rows.
        """
        width = min(self.about.k if k is None else k, self.about.k, len(self))
        rows = np.empty((stop - start, width), np.int64)
        scores = np.empty((stop - start, width), np.float32)
        for number, begin, low, high in self._pieces(start, stop):
            near, their_scores = decode(self._file(number), self.about.k, low, high)
            place = slice(begin - start, begin - start + high - low)
            rows[place], scores[place] = (
                self._to_positions(near[:, :width]),
                their_scores[:, :width],
            )
        return TopK(scores, rows)

    def read_least(self, start: int, stop: int) -> NDArray[np.float32]:
        """The least scores of the rows `start` to `stop` with other rows; inf if there are none."""
        none = np.empty(0, np.float32)
        pieces = self._pieces(start, stop)
        return np.concatenate([none, *(self._least(self._file(n), a, b) for n, _, a, b in pieces)])

    def write_fresh(self, number: int, found: TopK) -> None:
        """Store the neighbors of a block's rows among the fresh rows of an update."""
        self._write(self._fresh_file(number), number, found.rows, found.scores, None)

    def read_fresh(self, number: int) -> TopK:
        """Read the result of `write_fresh`."""
        start, stop = self.blocks[number]
        rows, scores = decode(self._fresh_file(number), self.about.k, 0, stop - start)
        return TopK(scores, rows)

    def drop_unfinished(self) -> None:
        """Delete everything that was stored for unfinished blocks, because every block is
        finished.
        """
        folder = root_of(self.folder)
        storage.delete_files([*folder.glob("open-*.parquet"), *folder.glob("fresh-*.parquet")])

    def _file(self, number: int) -> GalleryPlace:
        return root_of(self.folder) / f"rows-{number:06d}.parquet"

    def _open_file(self, number: int, met: int) -> GalleryPlace:
        return root_of(self.folder) / f"open-{number:06d}-{name_of_blocks(met)}.parquet"

    def _fresh_file(self, number: int) -> GalleryPlace:
        return root_of(self.folder) / f"fresh-{number:06d}.parquet"

    def _least(self, path: GalleryPlace, low: int, high: int) -> NDArray[np.float32]:
        table = read_columns(path, ["least"], high)
        return np.asarray(table["least"].slice(low, high - low).to_numpy(), np.float32)

    def _write(
        self,
        path: GalleryPlace,
        number: int,
        near: NDArray[np.int64],
        scores: NDArray[np.float32],
        least: NDArray[np.float32] | None,
        *,
        met: int = 0,
    ) -> None:
        rows = slice(*self.blocks[number])
        columns = {
            "row_id": self.ids[rows],
            "signature": self.signatures[rows],
            "neighbors": binary_column(near, "<i8"),
            "scores": binary_column(scores, "<f4"),
        }
        if least is not None:
            columns["least"] = least
        table = pa.table(columns).replace_schema_metadata({MET: f"{met:x}"} if met else None)
        checksums.write_recorded(
            path,
            lambda temporary: pq.write_table(
                table,
                temporary,
                compression="none",
                use_dictionary=False,
                write_page_checksum=True,
            ),
        )

    def _pieces(self, start: int, stop: int) -> Iterator[tuple[int, int, int, int]]:
        """File, first position, and rows in the file, for each part of `start` to `stop`."""
        while start < stop:
            number, low = divmod(start, self.about.block)
            high = min(self.about.block, low + stop - start)
            yield number, start, low, high
            start += high - low

    @cached_property
    def _plain(self) -> bool:
        """Whether ids are positions."""
        return len(self.ids) == 0 or int(self.ids[-1]) == len(self.ids) - 1

    def _to_ids(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        return rows if self._plain else np.where(rows < 0, -1, self.ids[rows])

    def _to_positions(self, near: NDArray[np.int64]) -> NDArray[np.int64]:
        return near if self._plain else positions_of(near, self.ids)


def positions_of(near: NDArray[np.int64], ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """The place of each id of `near` in the ascending `ids` `[N]`; -1 for -1 and unknown ids.

    >>> positions_of(np.array([[7, -1, 6]]), np.array([2, 7]))
    array([[ 1, -1, -1]])
    """
    if len(ids) == 0:
        return np.full(near.shape, -1, np.int64)
    places = np.searchsorted(ids, near)
    found = ids[np.minimum(places, len(ids) - 1)] == near
    return np.where(found, places, -1)


def _read_about(path: GalleryPlace) -> About | None:
    """Read the description of a graph; None if there is none.

    Raise `InputError` for that of another version of this tool.
    """
    data = checksums.read_recorded(path, "all of its folder: the neighbor graph is made again")
    if data is None:
        return None
    try:
        held = parse_json(data)
        return About(**held | {"origin": Origin(**held["origin"])})
    except (TypeError, KeyError) as error:
        raise InputError(
            f"{path}: this neighbor graph is of another version of regallery; delete its folder"
        ) from error
