"""search: the best gallery rows of some images."""

import logging
import sys
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from jobs.command.console import progress_lines
from jobs.command.times import moment
from pipeline.archive.limits import MAX_BYTES, check_max_bytes
from pipeline.errors import InputError
from pipeline.runs.locations import LOCATION, Location

if TYPE_CHECKING:  # imported where they are used, so that --help answers at once
    from pipeline.core.neighbors.topk import TopK
    from pipeline.gallery.table import Gallery
    from pipeline.runs.queries import NotSearched, Queries
    from pipeline.runs.thresholds import Thresholds

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Hit:
    """A gallery row in a ranked list; `match` is None where there is no `threshold` for it."""

    rank: int
    row_id: int
    path: str
    identity: int | None
    camera: str | None
    captured_at: datetime | None
    score: float
    threshold: float | None
    match: bool | None


@dataclass(frozen=True)
class RankedList:
    """The best gallery rows of one image, best first."""

    image: str
    hits: tuple[Hit, ...]


@dataclass(frozen=True)
class Found:
    """What a search found, and the images that it could not search for.

    `threshold` is the least similarity of a match, `threshold_from` where it comes from; both are
    None if there is neither a flag nor a calibration.
    """

    gallery: str
    version: int
    rows: int
    threshold: float | None
    threshold_from: str | None
    results: tuple[RankedList, ...]
    not_searched: "tuple[NotSearched, ...]"
    html: Path | None
    products: dict[str, int | float] = field(compare=False, default_factory=dict)

    @property
    def exit_status(self) -> int:
        """1 if an image could not be used."""
        return 1 if self.not_searched else 0


def search(
    images: tuple[Location, ...],
    /,
    *,
    gallery: Location,
    model: Location,
    checkpoint: Location | None = None,
    k: Annotated[int, Parameter(name=("--k", "-k"))] = 10,
    version: int | None = None,
    at: str | None = None,
    threshold: float | None = None,
    camera: str | None = None,
    html: Annotated[Path, LOCATION] | None = None,
    batch_size: int = 32,
    max_bytes: int = MAX_BYTES,
    workers: int = 0,
    address: str | None = None,
) -> Found:
    """Find the gallery rows most similar to some images, exactly.

    The images become features by the recipe of the gallery, and the
    network must be the same. Images that cannot be used are reported; the
    rest are still searched, and the exit status is 1.

    For example:

        regallery search crop.jpg --gallery galleries/test
        --model osnet_x0_25_msmt17.onnx -k 5

    Args:
        images: Images to search for: files, or folders, from which every image is taken.
        gallery: Folder of the gallery to search.
        model: The network that the gallery was extracted with.
        checkpoint: File of weights for a built-in network.
        k: Rows in each list.
        version: Version to search (default: the latest).
        at: Search the version that was latest at this time (ISO 8601, UTC) instead.
        threshold: Least similarity of a match (default: the gallery's calibrated threshold).
        camera: Camera of the images: a row then has the threshold of its pair of cameras, if one
            was calibrated (calibrate --by-camera).
        html: File to write a self-contained page to, with thumbnails of the ranked lists.
        batch_size: Crops in one batch of the network; 1 is fastest for a single image.
        max_bytes: Do not read image files with more bytes than this; report them as unusable.
        workers: Ray tasks that run at once; 0 to use this process alone, on all its CPUs.
        address: Ray cluster to join: auto or host:port (default: this machine alone).
    """
    _check(k, batch_size, workers, threshold, html)
    check_max_bytes(max_bytes)
    if camera is not None and threshold is not None:
        raise InputError("--camera takes thresholds from the calibration: leave out --threshold")
    from pipeline.gallery.table import Gallery
    from pipeline.model.kinds import check_file

    check_file(model)
    table = Gallery.open(gallery, version, moment("--at", at))
    if table.count == 0:
        raise InputError(f"{gallery} has no row in version {table.version}")
    from pipeline.runs.cameras import normalization_of

    if normalization_of(table):
        raise InputError(
            f"{gallery} was made with --camera-normalize, and an image to search for has no camera:"
            " search the gallery that it was made from"
        )
    from pipeline.model.networks import NetworkFile
    from pipeline.runs.queries import open_extractor, read_queries
    from pipeline.runs.thresholds import thresholds_of

    thresholds = thresholds_of(table, threshold, camera)
    if camera is not None and not thresholds.by_camera:
        logger.warning(
            "no threshold is calibrated for images of camera %s (run calibrate --by-camera): %s",
            camera,
            "no row is marked" if thresholds.general is None else "all rows get the general one",
        )
    extractor = open_extractor(table, NetworkFile(model, checkpoint), batch_size)
    queries = read_queries(images, extractor, max_bytes)
    if not queries.images:
        raise InputError(f"none of the images can be used: {_told(queries.not_searched)}")
    best, products = _search(table, queries, k, workers, address)
    found = Found(
        gallery=gallery,
        version=table.version,
        rows=table.count,
        threshold=thresholds.general,
        threshold_from=thresholds.origin,
        results=_lists(table, queries, best, thresholds),
        not_searched=queries.not_searched,
        html=html,
        products=products,
    )
    if html is not None:
        _write_page(found, table, html)
    return found


def describe(result: Found) -> RenderableType:
    """A table for each image, then what could not be searched."""
    parts: list[RenderableType] = []
    for each in result.results:
        parts += [Text(each.image, style="bold"), _table(each, result.threshold), Text()]
    parts += [Text(f"not searched: {each}") for each in map(_line, result.not_searched)]
    told = f"{result.gallery}, version {result.version}: {result.rows:,} rows"
    if result.threshold is not None:
        told += f"; a match has at least {result.threshold:.4f} ({result.threshold_from})"
    parts.append(Text(told))
    if result.html is not None:
        parts.append(Text(f"page: {result.html}"))
    return Group(*parts)


def _check(
    k: int, batch_size: int, workers: int, threshold: float | None, html: Path | None
) -> None:
    for flag, value, least in (
        ("-k", k, 1),
        ("--batch-size", batch_size, 1),
        ("--workers", workers, 0),
    ):
        if value < least:
            raise InputError(f"{flag} must be at least {least}, not {value}")
    if threshold is not None and not -1 <= threshold <= 1:
        raise InputError(f"--threshold must be a cosine similarity from -1 to 1, not {threshold}")
    if html is not None:
        from pipeline.output_files import check_new_file
        from pipeline.report.templates import is_page

        check_new_file(html, "html", is_page)


def _search(
    table: "Gallery", queries: "Queries", k: int, workers: int, address: str | None
) -> "tuple[TopK, dict[str, int | float]]":
    """The best rows, and the products that it took."""
    from pipeline.core.blocks import ArrayRows
    from pipeline.stages.execution import Execution
    from pipeline.stages.search import search_gallery

    with ExitStack() as stack:
        if workers:
            from cluster.connect import connect

            stack.enter_context(connect(address))
        execution = Execution(workers, progress=stack.enter_context(progress_lines()))
        rows = ArrayRows(queries.features)
        best = search_gallery(rows, table.features(), k, execution=execution)
        logger.debug("search: %s", execution.ledger.total)
        return best, execution.ledger.total.figures()


def _lists(
    table: "Gallery", queries: "Queries", best: "TopK", thresholds: "Thresholds"
) -> tuple[RankedList, ...]:
    """The ranked rows with what the table knows of them."""
    import numpy as np

    shown, place = np.unique(best.rows, return_inverse=True)
    columns = ["row_id", "path", "identity", "camera", "captured_at"]
    rows = table.rows(columns).take(shown).to_pylist()
    lists = []
    for image, places, scores in zip(
        queries.images, place.reshape(best.rows.shape), best.scores.tolist(), strict=True
    ):
        hits = []
        for rank, (row, score) in enumerate(zip(places, scores, strict=True), start=1):
            limit = thresholds.of(rows[row]["camera"])
            match = None if limit is None else score >= limit
            hits.append(Hit(rank=rank, **rows[row], score=score, threshold=limit, match=match))
        lists.append(RankedList(image, tuple(hits)))
    return tuple(lists)


def _write_page(found: Found, table: "Gallery", html: Path) -> None:
    """The page, with pictures of the crops that are still where they were."""
    from pipeline.archive.locations import join
    from pipeline.gallery.files.storage import write_whole
    from pipeline.gallery.outputs import listed
    from pipeline.model.imported import read_recipe
    from pipeline.report.search_page import render
    from pipeline.runs.queries import thumbnails

    source = table.properties["source"]
    paths = dict.fromkeys(hit.path for each in found.results for hit in each.hits)
    stretch = getattr(read_recipe(table.recipe_json), "stretch", None)
    crops, missing = thumbnails({path: join(source, path) for path in paths}, stretch)
    pictures, _ = thumbnails({each.image: each.image for each in found.results}, stretch)
    if missing:
        logger.warning("cannot show %d of the crops in the lists: %s", len(missing), _told(missing))
    page = render(asdict(found), pictures, crops)
    with listed("search page", html, [table]):
        write_whole(html.absolute(), lambda path: path.write_text(page, encoding="utf-8"))


def _told(faults: "tuple[NotSearched, ...]") -> str:
    more = f", and {len(faults) - 3} more" if len(faults) > 3 else ""
    return "; ".join(map(_line, faults[:3])) + more


def _line(fault: "NotSearched") -> str:
    return f"{fault.image}: {fault.reason} ({fault.detail})"


def _table(ranked: RankedList, threshold: float | None) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("rank", "score"):
        table.add_column(name, justify="right")
    for name in (*(["match"] if threshold is not None else []), "identity", "camera", "time"):
        table.add_column(name)
    table.add_column("path", overflow="fold")
    for hit in ranked.hits:
        match = [] if hit.match is None else ["yes" if hit.match else "no"]
        identity = "" if hit.identity is None else str(hit.identity)
        time = hit.captured_at.isoformat(sep=" ") if hit.captured_at else ""
        row = [str(hit.rank), f"{hit.score:.4f}", *match, identity, hit.camera or "", time]
        table.add_row(*row, Text(hit.path))
    return table


if __name__ == "__main__":
    from jobs.cli import main

    sys.exit(main(["search", *sys.argv[1:]]))
