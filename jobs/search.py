"""search: the best gallery rows of some images."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from jobs.command.flags import FilterFlags
from jobs.command.galleries import open_galleries
from jobs.command.progress import progress_lines
from pipeline.archive.limits import MAX_BYTES
from pipeline.runs.locations import LOCATION, Location
from pipeline.runs.search_result import HitList, SearchResult, SearchSettings
from pipeline.runs.selection import ALL_ROWS
from pipeline.runs.settings import FoldSettings

if TYPE_CHECKING:  # imported where it is used, so that --help answers at once
    from pipeline.runs.queries import NotSearched


def search(
    images: tuple[Location, ...],
    /,
    *,
    gallery: tuple[Location, ...],
    model: Location,
    checkpoint: Location | None = None,
    k: int = SearchSettings.k,
    version: tuple[int, ...] = (),
    at: str | None = None,
    threshold: float | None = None,
    query_camera: str | None = None,
    query_time: str | None = None,
    travel_times: str | None = None,
    select: FilterFlags = ALL_ROWS,
    html: Annotated[Path, LOCATION] | None = None,
    multi_query: Literal["mean", "best"] | None = None,
    batch_size: int = SearchSettings.batch_size,
    max_bytes: int = MAX_BYTES,
    workers: int = FoldSettings.workers,
    address: str | None = None,
) -> SearchResult:
    """Find the gallery rows most similar to some images, exactly.

    The images become features by the recipe of the gallery, and the
    network must be the same. Images that cannot be used are reported; the
    rest are still searched, and the exit status is 1.

    For example:

        regallery search crop.jpg --gallery galleries/test
        --model osnet_x0_25_msmt17.onnx -k 5

    Args:
        images: Images to search for: files, or folders, from which every image is taken.
        gallery: Folder of the gallery to search; repeat for further galleries, which are ranked
            together.
        model: The network that the gallery was extracted with, by its path or URL.
        checkpoint: File of weights for a built-in network, by its path or URL.
        k: Rows in each list.
        version: Version to search (default: the latest); one for each gallery, in their order.
        at: Search the version that was latest at this time (ISO 8601, UTC) instead.
        threshold: Least similarity of a match (default: the gallery's calibrated threshold).
        query_camera: Camera of the images, for --not-own-camera and --travel-times. If there is no
            --threshold, a row then has the threshold of its pair of cameras, if one was calibrated
            (calibrate --by-camera).
        query_time: When the images were taken (ISO 8601, UTC), for --travel-times.
        travel_times: Leave out rows that nobody can have walked to or from: a .csv or .parquet file
            of least and most seconds between cameras, or learned (see calibrate).
        html: File to write a self-contained page to, with thumbnails of the ranked lists.
        multi_query: Take all images for one query, such as several of one person: their mean, or
            the best of their similarities to each row.
        batch_size: Crops in one batch of the network; 1 is fastest for a single image.
        max_bytes: Do not read image files with more bytes than this; report them as unusable.
        workers: Ray tasks that run at once; 0 to use this process alone, on all its CPUs.
        address: Ray cluster to join: auto or host:port (default: this machine alone).
    """
    settings = SearchSettings(
        k, threshold, query_camera, batch_size, max_bytes, multi_query, query_time, travel_times
    )
    on = FoldSettings(workers=workers, address=address)
    from pipeline.model.kinds import check_network_file

    check_network_file(model)
    tables = open_galleries(gallery, version, at)
    with progress_lines() as progress:
        progress("loading the network", None)
        from pipeline.model.fetched_networks import network_file
        from pipeline.runs.searching import search as search_rows

        network = network_file(model, checkpoint)
        return search_rows(
            images, tables, network, settings, select=select, html=html, on=on, progress=progress
        )


def describe(result: SearchResult) -> RenderableType:
    """A table for each image, then what could not be searched."""
    parts: list[RenderableType] = []
    for each in result.results:
        parts += [Text(each.title, style="bold"), _table(each, result.threshold), Text()]
    parts += [Text(f"not searched: {each}") for each in map(_line, result.not_searched)]
    told = f"{result.gallery}, version {result.version}: {result.rows:,} rows"
    if result.threshold is not None:
        told += f"; a match has at least {result.threshold:.4f} ({result.threshold_from})"
    parts.append(Text(told))
    if result.rows_excluded is not None:
        share = result.rows_excluded / max(1, result.rows + result.rows_excluded)
        told = f"travel times leave out {result.rows_excluded:,} more rows ({share:.1%})"
        parts.append(Text(told))
    if result.html is not None:
        parts.append(Text(f"page: {result.html}"))
    return Group(*parts)


def _line(fault: "NotSearched") -> str:
    return f"{fault.image}: {fault.reason} ({fault.detail})"


def _table(ranked: HitList, threshold: float | None) -> Table:
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
