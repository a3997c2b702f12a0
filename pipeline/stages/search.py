"""Find the best gallery rows of some queries, part by part of the gallery."""

from pipeline.core.blocks import FeatureRows, Tiling
from pipeline.core.ledger import Account, Ledger
from pipeline.core.neighbors import topk
from pipeline.core.neighbors.topk import TopK
from pipeline.stages.execution import Execution


def search_gallery(
    queries: FeatureRows,
    gallery: FeatureRows,
    k: int,
    *,
    execution: Execution = Execution(),
) -> TopK:
    """Find the `k` best rows of `topk.search` over the whole gallery.

    k is clipped to the number of rows. The best rows of parts merge in any order, so the result is
    the same to the bit for any `execution`. Progress counts the gallery rows of the finished parts.
    Memory per worker is Q x (D + k), and a tile.
    """
    k = min(k, len(gallery))
    best = TopK.none(len(queries), k)
    shared = (queries, gallery, k, execution.worker_tiling)
    parts = execution.parts(len(gallery), execution.tiling.rows_of_part())
    step = execution.progress("searching", len(gallery))
    for start, stop, found, account in execution.run_parts(
        _search_part, shared, parts, on_gpu=True
    ):
        execution.ledger.add(account)
        best = topk.merge([best, found])
        step(stop - start)
    return best


def _search_part(
    queries: FeatureRows, gallery: FeatureRows, k: int, tiling: Tiling, start: int, stop: int
) -> tuple[int, int, TopK, Account]:
    ledger = Ledger()
    found = topk.search(queries, gallery, k, part=(start, stop), tiling=tiling, ledger=ledger)
    return start, stop, found, ledger.total
