"""The report of an evaluation: figures, ranked lists and thumbnails of its rankings."""

import shlex
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.archive.faults import Rejected
from pipeline.archive.video.pictures import read_pixels
from pipeline.core.evaluation.bootstrap import Interval
from pipeline.core.evaluation.labels import DISTRACTOR, JUNK
from pipeline.gallery.derived import derivation
from pipeline.gallery.outputs import listed_in_galleries
from pipeline.gallery.summary import rejects_by_reason
from pipeline.model.imported import read_recipe
from pipeline.report.page import FILES, write_page
from pipeline.report.results import (
    Crop,
    Gains,
    GallerySet,
    Intervals,
    ListEntry,
    ListHit,
    Protocol,
    QuerySet,
    Ranked,
    RankingResult,
    Report,
    Scalar,
)
from pipeline.report.thumbnails import Thumbnails, pictured_paths, thumbnail
from pipeline.runs.rankings import Figures, Ranking
from pipeline.runs.sides import LabeledSide, camera_names
from pipeline.runs.union import parts_of


def make_report(
    query: LabeledSide,
    gallery: LabeledSide,
    rankings: Sequence[Ranking],
    *,
    images: LabeledSide,
    figures: Figures,
    settings: dict[str, Scalar],
    command: Sequence[str],
) -> Report:
    """The report of all rankings; its ranked lists are those of the best one.

    `images` are the rows that queries are made of: those of `query` itself, unless several are one.
    """
    recipe = read_recipe(gallery.gallery.recipe_json)
    best = max(rankings, key=lambda ranking: ranking.summary.mean_ap)
    names = camera_names(query, gallery)
    identity = gallery.rows["identity"].drop_null().to_numpy()
    return Report(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        regallery=version("regallery"),
        command=shlex.join(command),
        query=QuerySet(**_table(images)),
        gallery=GallerySet(
            **_table(gallery),
            distractors=int((identity == DISTRACTOR).sum()),
            junk=int((identity == JUNK).sum()),
        ),
        recipe={"fingerprint": recipe.fingerprint} | asdict(recipe),
        dimension=gallery.gallery.dimension,
        storage=gallery.gallery.dtype,
        settings=settings,
        protocol=Protocol.of(figures.draws),
        bootstrap=figures.bootstrap,
        results=tuple(_result(ranking, figures.max_rank, names) for ranking in rankings),
        ranked=_ranked(query, gallery, best),
    )


def write_report(
    report: Report, query: LabeledSide, gallery: LabeledSide, out: Path
) -> tuple[Path, Path]:
    """Write report.json and report.html, with thumbnails of the images that are still there."""
    queries, rows = pictured_paths(report)
    pictures = Thumbnails(_thumbnails(query, queries), _thumbnails(gallery, rows))
    with listed_in_galleries("report", out, parts_of(query.gallery, gallery.gallery), *FILES):
        return write_page(report, out, pictures)


def _table(side: LabeledSide) -> dict[str, Any]:
    how, identity = (
        derivation(parts_of(side.gallery)[0]),
        side.rows["identity"].drop_null().to_numpy(),
    )
    return {
        "location": side.gallery.location,
        "version": side.gallery.version,
        "rows": len(side.rows),
        "rejects": rejects_by_reason(side.gallery.rejects()),
        "identities": len(np.unique(identity[identity > DISTRACTOR])),
        "cameras": len(side.rows["camera"].drop_null().unique()),
        "expanded": str(how) if how else None,
    }


def _result(ranking: Ranking, max_rank: int, names: dict[int, str]) -> RankingResult:
    """The figures of a ranking, with the names of cameras."""
    parameters = asdict(ranking.settings) if ranking.settings else {}
    mode = parameters.pop("mode", None)
    parameters |= ranking.normalization.parameters if ranking.normalization else {}

    def name(camera: Any) -> str | None:
        return names.get(camera)

    return RankingResult.of(
        ranking.summary,
        max_rank,
        name=ranking.name,
        mode=mode,
        parameters=parameters,
        intervals=_intervals(ranking),
        gains=None
        if ranking.gains is None
        else Gains(*(Interval(*ends) for ends in ranking.gains.tolist())),
        open_set=ranking.open_set,
        query_cameras=tuple(replace(each, camera=name(each.camera)) for each in ranking.cameras),
        camera_pairs=None
        if ranking.pairs is None
        else tuple(
            replace(
                each,
                query_camera=name(each.query_camera),
                gallery_camera=name(each.gallery_camera),
            )
            for each in ranking.pairs
        ),
        seconds=ranking.seconds,
    )


def _intervals(ranking: Ranking) -> Intervals | None:
    if ranking.intervals is None:
        return None
    return Intervals(*(Interval(*ends) for ends in ranking.intervals.tolist()))


def _ranked(query: LabeledSide, gallery: LabeledSide, ranking: Ranking) -> Ranked | None:
    """The lists of a ranking's examples; None if no query is valid."""
    if not ranking.summary.valid:
        return None
    numbers = iter(range(len(ranking.lists)))
    groups = (
        tuple(_entry(query, gallery, ranking, int(q), next(numbers)) for q in group)
        for group in ranking.examples
    )
    return Ranked(ranking.name, *groups)


def _entry(
    query: LabeledSide, gallery: LabeledSide, ranking: Ranking, q: int, number: int
) -> ListEntry:
    """The entry of query `q`, whose list has this number."""
    lists, summary = ranking.lists, ranking.summary
    hits = []
    for place, row in enumerate(lists.rows[number].tolist()):
        if row < 0:
            break
        hits.append(
            ListHit(
                **_crop(gallery, row),
                score=float(lists.scores[number, place]),
                distance=None if lists.distances is None else float(lists.distances[number, place]),
                match=bool(lists.hits[number, place]),
            )
        )
    return ListEntry(
        query=Crop(**_crop(query, q)),
        ap=float(summary.average_precision[q]),
        inp=float(summary.inverse_negative_penalty[q]),
        first_match_rank=int(summary.first_rank[q]),
        matches=int(lists.matches[number]),
        list=tuple(hits),
    )


def _crop(side: LabeledSide, row: int) -> dict[str, Any]:
    return {name: side.rows[name][row].as_py() for name in ("path", "identity", "camera")}


def _thumbnails(side: LabeledSide, paths: Sequence[str]) -> dict[str, str]:
    """Data URIs of the images that can still be read; the page shows a placeholder for others."""
    stretch = getattr(read_recipe(side.gallery.recipe_json), "stretch", None)
    made = {}
    for path in paths:
        try:
            image = read_pixels(side.gallery.properties["source"], path, stretch=stretch)
        except Rejected:
            continue
        made[path] = thumbnail(image)
    return made
