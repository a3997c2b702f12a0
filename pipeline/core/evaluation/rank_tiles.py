"""Count rows against matches on a GPU, as far as float16 products settle the count.

A product settles the count of a pair if no match of the query lies within the error bound. The CPU
gets the other pairs and computes their `score`. All rows are placed at once among the matches of
their query, by binary search.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pipeline.core.products.counting import matches_beaten
from pipeline.core.products.half_rows import Halves, most_pairs
from pipeline.core.products.kernels import score
from pipeline.core.products.tiles import Side

if TYPE_CHECKING:
    import torch

# Pairs that are placed at once; each takes about eighty bytes.
_PAIRS_AT_ONCE = 2**22


class QueryMatches(NamedTuple):
    """The queries `[W]` that have a match: their matches and the counts of rows that beat them.

    `place` is the position of each query among all, and `identity` its identity. Its matches are
    the entries `starts` to `ends` of `rows` and `scores`. Its counts begin at its slot in `beaten`:
    slot x counts the rows that beat x of its matches.
    """

    place: NDArray[np.int64]
    identity: NDArray[np.int64]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    slots: NDArray[np.int64]
    rows: NDArray[np.int64]
    scores: NDArray[np.float32]
    beaten: NDArray[np.int64]


class Block(NamedTuple):
    """Rows of the gallery from `first_row` on, and their identities."""

    features: NDArray[np.float32]
    first_row: int
    identity: NDArray[np.int64]


class GalleryBlock(NamedTuple):
    """A block of the gallery as a side of tiles, with the arrays for compiled loops, and with its
    identities on the device of its float16 rows.
    """

    side: Side
    block: Block
    identity: torch.Tensor


class DeviceMatches(NamedTuple):
    """The queries `[R]` of a block and their matches `[M]`, on a device.

    A query has `counts` `[R]` matches. Their scores, float64 and descending, end before `ends`
    `[R]`; `worst` float32 `[R]` is the last of them. Each query has between one and `most` matches.
    """

    identity: torch.Tensor
    ends: torch.Tensor
    counts: torch.Tensor
    scores: torch.Tensor
    worst: torch.Tensor
    most: int


class _Settled(NamedTuple):
    """The result of a tile for its queries: counts, and the pairs `[P, 2]` that stay open.

    `beaten` int64 `[M + R]` has, for each query, one count more than matches: place x counts the
    rows that beat x of its matches. The count of place 0 is incomplete, because nobody needs it.
    """

    beaten: NDArray[np.int64]
    open: NDArray[np.int64]


def device_matches(
    identity: NDArray[np.int64],
    counts: NDArray[np.int64],
    scores: NDArray[np.float32],
    device: torch.device,
) -> DeviceMatches:
    """Put queries `[R]` and the `scores` `[M]` of their matches on a device.

    Each query has an `identity` and `counts` matches; the scores come query by query, best first.
    """
    import torch

    ends = np.cumsum(counts)
    parts = (identity, ends, counts, scores.astype(np.float64), scores[ends - 1])
    moved = [torch.from_numpy(part).to(device) for part in parts]
    return DeviceMatches(moved[0], moved[1], moved[2], moved[3], moved[4], int(counts.max()))


def settle_tile(
    first: Halves, x: int, second: Halves, y: int, targets: DeviceMatches, identity: torch.Tensor
) -> _Settled | None:
    """Count the rows of block `y`, with `identity` `[C]`, for the queries of block `x`.

    Rows of the query's own identity and junk (negative identity) are not counted. Return None if so
    many pairs stay open that float32 products are faster.
    """
    import torch

    values = first.product(x, second, y)
    unit, slack = first.unit(x, second, y), first.bound(x, second, y)
    near = values >= (targets.worst / unit - slack / unit)[:, None]
    beaten = torch.zeros(
        len(targets.scores) + len(targets.ends), dtype=torch.int64, device=near.device
    )
    # The place, for each query, that counts rows which beat none of its matches.
    nowhere = targets.ends - targets.counts + torch.arange(len(targets.ends), device=near.device)
    left: list[torch.Tensor] = []
    still_open = 0
    for flat in near.view(-1).nonzero().view(-1).split(_PAIRS_AT_ONCE):
        r, c = flat // near.shape[1], flat % near.shape[1]
        kept = (identity[c] >= 0) & (identity[c] != targets.identity[r])
        value = values.view(-1)[flat].double() * unit
        least = _placed(targets, r, value - slack)
        settled = least == _placed(targets, r, value + slack, or_equal=True)
        beaten.scatter_add_(0, nowhere[r] + least, (kept & settled).long())
        left.append(flat[kept & ~settled])
        still_open += len(left[-1])
        if still_open > most_pairs(near.numel()):
            return None
    flat = torch.cat(left) if left else beaten[:0]
    pairs = torch.stack([flat // near.shape[1], flat % near.shape[1]], dim=1)
    return _Settled(beaten.cpu().numpy(), pairs.cpu().numpy())


def _placed(
    targets: DeviceMatches, queries: torch.Tensor, values: torch.Tensor, *, or_equal: bool = False
) -> torch.Tensor:
    """The number of the query's matches that each of `values` `[P]` exceeds, or exceeds or
    equals.
    """
    import torch

    counts, ends = targets.counts[queries], targets.ends[queries]
    beaten = torch.zeros_like(queries)
    step = 1 << (targets.most.bit_length() - 1)
    while step:
        further = beaten + step
        match = targets.scores[ends - torch.minimum(further, counts)]
        above = match <= values if or_equal else match < values
        beaten = torch.where((further <= counts) & above, further, beaten)
        step //= 2
    return beaten


def on_device(queries: Side, targets: QueryMatches) -> list[DeviceMatches]:
    """Put the data of each block of queries on the device."""
    if queries.halves is None:
        return []
    blocks = []
    for x in range(len(queries)):
        places = queries.places(x)
        scores = [targets.scores[targets.starts[q] : targets.ends[q]] for q in places]
        counts = targets.ends[places] - targets.starts[places]
        identity = targets.identity[places]
        blocks.append(
            device_matches(identity, counts, np.concatenate(scores), queries.halves.rows.device)
        )
    return blocks


def count_halves(
    queries: Side,
    x: int,
    on_gpu: list[DeviceMatches],
    gallery: GalleryBlock,
    y: int,
    targets: QueryMatches,
) -> bool:
    """Count a tile as far as its float16 products settle it; return False if that is not possible.

    It is not possible if there are no float16 rows, or too few pairs are settled.
    """
    if queries.halves is None or gallery.side.halves is None:
        return False
    places, gallery_rows = queries.places(x), gallery.side.places(y)
    identity = gallery.identity[gallery_rows[0] : gallery_rows[-1] + 1]
    settled = settle_tile(queries.halves, x, gallery.side.halves, y, on_gpu[x], identity)
    if settled is None:
        return False
    counts = targets.ends[places] - targets.starts[places] + 1
    before = np.repeat(np.cumsum(counts) - counts, counts)
    slots = np.repeat(targets.slots[places], counts) + np.arange(len(before)) - before
    targets.beaten[slots] += settled.beaten
    query_rows, rows = places[settled.open[:, 0]], gallery_rows[settled.open[:, 1]]
    _count_pairs(query_rows, rows, queries.features, gallery.block, targets)
    return True


@njit(nogil=True, cache=True)
def _count_pairs(
    query_rows: NDArray[np.int64],
    gallery_rows: NDArray[np.int64],
    queries: NDArray[np.float32],
    gallery: Block,
    targets: QueryMatches,
) -> None:
    """Count `gallery_rows` for the queries `query_rows`, both `[P]`, by their `score`."""
    for p in range(query_rows.shape[0]):
        q, j = query_rows[p], gallery_rows[p]
        start, end = targets.starts[q], targets.ends[q]
        exact, row = score(queries[q], gallery.features[j]), gallery.first_row + j
        targets.beaten[
            targets.slots[q] + matches_beaten(targets.scores, targets.rows, start, end, exact, row)
        ] += 1
