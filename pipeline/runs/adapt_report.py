"""The report of an adaptation: rounds, clusters with pictures, and ranked rows before and after."""

import logging
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.archive.faults import Rejected
from pipeline.archive.video.pictures import read_pixels
from pipeline.core.blocks import ChosenRows, evenly
from pipeline.core.evaluation.labels import DISTRACTOR
from pipeline.core.neighbors.topk import search
from pipeline.gallery.table import Gallery
from pipeline.output_files import replace_file
from pipeline.report.adaptation_page import (
    AdaptationReport,
    BeforeAfter,
    PicturedCluster,
    RankedHit,
    RoundLine,
    render_adaptation,
)
from pipeline.report.thumbnails import thumbnail
from pipeline.runs.adapted import Adapted, AdaptRound

_log = logging.getLogger(__name__)

PAGE = "report.html"
_CLUSTERS, _CROPS = 12, 10
_QUERIES, _HITS = 8, 8
_SEARCHED = 100
"""Best rows that are searched for each query; those of its own camera are not shown."""


def write_report(done: Adapted, before: Gallery, after: Gallery, network: str) -> Path:
    """Write `report.html` into the folder of an adaptation, and return its path.

    `before` and `after` are the galleries of the first and the last network. Pictures are those of
    crops that are still there. Raise RunError if the file cannot be written.
    """
    pictured = _pictured(done)
    lists = _before_after(before, after)
    paths = [path for each in pictured for path in each.paths]
    for each in lists:
        paths += [each.path, *(hit.path for hit in (*each.before, *each.after))]
    change = None if done.test is None else done.test.mean_ap
    found = AdaptationReport(
        source=before.properties["source"],
        network=network,
        accepted=done.network is not None,
        outcome=done.outcome,
        mean_ap=None if change is None else str(change),
        rounds=[_line(each) for each in done.rounds],
        clusters=pictured,
        lists=lists,
    )
    page = render_adaptation(found, _pictures(before.properties["source"], paths))
    path = done.out / PAGE
    replace_file(path, lambda file: file.write(page.encode()))
    return path


def _line(told: AdaptRound) -> RoundLine:
    choice, known = told.choice, told.agreement
    return RoundLine(
        number=told.number,
        rows=told.rows_clustered,
        clusters=told.clusters,
        noise=told.noise,
        cameras=told.cameras_per_cluster,
        eps=told.eps,
        curve=() if choice is None else tuple(zip(choice.grid, choice.clusters, strict=True)),
        agreement=None if known is None else (known.precision, known.recall, known.f_score),
        losses=told.losses,
    )


def _pictured(done: Adapted) -> list[PicturedCluster]:
    """The clusters of the last round that most cameras see, with crops of as many cameras."""
    table = pq.read_table(done.out / f"round-{len(done.rounds):02d}" / "clusters.parquet")
    cluster, camera = table["cluster"].to_numpy(), table["camera"].to_pylist()
    found = []
    for number in range(int(cluster.max(initial=-1)) + 1):
        rows = np.flatnonzero(cluster == number)
        cameras = [camera[row] for row in rows]
        turn = [cameras[:place].count(each) for place, each in enumerate(cameras)]
        order = np.argsort(turn, kind="stable")[:_CROPS]
        paths = table["path"].take(rows[order]).to_pylist()
        found.append(PicturedCluster(len(rows), len(set(cameras)), tuple(paths)))
    return sorted(found, key=lambda each: (-each.cameras, -each.rows))[:_CLUSTERS]


def _before_after(before: Gallery, after: Gallery) -> list[BeforeAfter]:
    """Some rows at even distances, and their best rows of other cameras with each network."""
    paths = before.rows(["path"])["path"].to_pylist()
    asked = [paths[place] for place in evenly(len(paths), _QUERIES)]
    first, last = _lists(before, asked), _lists(after, asked)
    return [
        BeforeAfter(path, first[path][0], first[path][1], last[path][1])
        for path in asked
        if path in last
    ]


def _lists(
    gallery: Gallery, asked: list[str]
) -> dict[str, tuple[str | None, tuple[RankedHit, ...]]]:
    """The camera and the best rows of each path that the gallery holds."""
    rows = gallery.rows(["path", "camera", "identity"])
    paths, cameras = rows["path"].to_pylist(), rows["camera"].to_pylist()
    identity = pc.fill_null(rows["identity"], DISTRACTOR).to_numpy()
    places = {path: place for place, path in enumerate(paths)}
    queries = np.array([places[path] for path in asked if path in places], np.int64)
    features = gallery.features()
    near = search(ChosenRows(features, queries), features, min(_SEARCHED, len(paths)))
    return {
        paths[query]: (
            cameras[query],
            _hits(int(query), near.rows[n], near.scores[n], paths, cameras, identity),
        )
        for n, query in enumerate(queries)
    }


def _hits(
    query: int,
    rows: NDArray[np.int64],
    scores: NDArray[np.float32],
    paths: list[str],
    cameras: list[str | None],
    identity: NDArray[np.int64],
) -> tuple[RankedHit, ...]:
    known = identity[query] > DISTRACTOR
    own = cameras[query]
    return tuple(
        RankedHit(
            paths[row],
            cameras[row],
            float(score),
            bool(identity[row] == identity[query]) if known else None,
        )
        for row, score in zip(rows.tolist(), scores.tolist(), strict=True)
        if row != query and row >= 0 and (own is None or cameras[row] != own)
    )[:_HITS]


def _pictures(root: str, paths: list[str]) -> dict[str, str]:
    """The thumbnails of crops that can be read."""
    made = {}
    for path in dict.fromkeys(paths):
        try:
            made[path] = thumbnail(read_pixels(root, path))
        except Rejected as error:
            _log.debug("%s has no picture: %s", path, error)
    return made
