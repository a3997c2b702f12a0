"""The report of an evaluation: figures, ranked lists and thumbnails, from what was ranked."""

import shlex
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.archive.decoding.images import decode
from pipeline.archive.faults import Rejected
from pipeline.archive.listing.reading import read_image
from pipeline.core.blocks import Tiling
from pipeline.core.neighbors.topk import search
from pipeline.core.reranking.distances import Reranking
from pipeline.core.thresholds.open_set import OpenSet
from pipeline.gallery.derived import derivation
from pipeline.gallery.summary import summarize
from pipeline.model.imported import read_recipe
from pipeline.report.page import write
from pipeline.report.results import SCHEMA, checked
from pipeline.report.thumbnails import Thumbnails, thumbnail, wanted
from pipeline.runs.rankings import Figures, Ranking
from pipeline.runs.sides import Side, camera_names

RANKS = (1, 5, 10, 20)
SHOWN_QUERIES = 5
SHOWN_ROWS = 10


def make_report(
    query: Side,
    gallery: Side,
    rankings: Sequence[Ranking],
    tiling: Tiling,
    *,
    figures: Figures,
    settings: dict[str, Any],
    command: Sequence[str],
) -> dict[str, Any]:
    """The report as `pipeline.report.results` describes it; lists are those of the best ranking."""
    recipe = read_recipe(gallery.gallery.recipe_json)
    # Re-ranked lists are ordered by no similarity that could be shown beside a row.
    shown = [each for each in rankings if not isinstance(each.settings, Reranking)]
    best = max(shown, key=lambda ranking: ranking.summary.mean_ap)
    names = camera_names(query, gallery)
    return {
        "schema": SCHEMA,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "regallery": version("regallery"),
        "command": shlex.join(command),
        "query": _table(query),
        "gallery": _table(gallery) | _without_identity(gallery),
        "recipe": {"fingerprint": recipe.fingerprint} | asdict(recipe),
        "dimension": gallery.gallery.dimension,
        "storage": gallery.gallery.dtype,
        "settings": settings,
        "protocol": _protocol(figures),
        "bootstrap": asdict(figures.bootstrap) if figures.bootstrap else None,
        "results": [_result(ranking, figures.max_rank, names) for ranking in rankings],
        "ranked": _ranked_lists(query, gallery, best, tiling),
    }


def write_report(
    report: dict[str, Any], query: Side, gallery: Side, out: Path
) -> tuple[Path, Path]:
    """Write report.json and report.html, with thumbnails of the images that are still there."""
    queries, rows = wanted(checked(report))
    pictures = Thumbnails(_thumbnails(query, queries), _thumbnails(gallery, rows))
    return write(report, out, pictures)


def _table(side: Side) -> dict[str, Any]:
    found, how = summarize(side.gallery), derivation(side.gallery)
    return {
        **({"expanded": str(how)} if how else {}),
        "location": side.gallery.location,
        "version": found.version,
        "rows": found.rows,
        "rejects": found.rejects,
        "identities": found.identities,
        "cameras": sum(1 for name in found.cameras if name),
    }


def _without_identity(side: Side) -> dict[str, int]:
    found = summarize(side.gallery)
    return {"distractors": found.distractors, "junk": found.junk}


def _protocol(figures: Figures) -> dict[str, Any]:
    if figures.draws is None:
        return {"name": "market1501", "repeats": None, "seed": None}
    return {"name": "cuhk03"} | asdict(figures.draws)


def _result(ranking: Ranking, max_rank: int, names: dict[int, str]) -> dict[str, Any]:
    """A ranking's figures; null and an empty curve where no query was valid."""
    summary, settings = ranking.summary, ranking.settings
    curve = summary.cmc.tolist() if summary.valid else []
    parameters = asdict(settings) if settings else {}
    mode = parameters.pop("mode", None)
    parameters |= ranking.normalization.parameters if ranking.normalization else {}
    return {
        "name": ranking.name,
        "mode": mode,
        "parameters": parameters,
        "queries": summary.queries,
        "valid": summary.valid,
        "invalid": summary.invalid,
        "rank": {str(r): curve[r - 1] if r <= len(curve) else None for r in RANKS},
        "cmc": curve,
        "cmc_cut": len(curve) if 0 < len(curve) < max_rank else None,
        "mAP": summary.mean_ap if summary.valid else None,
        "mAP_trapezoid": summary.mean_ap_trapezoid if summary.valid else None,
        "mINP": summary.mean_inp if summary.valid else None,
        "intervals": _intervals(ranking),
        "open_set": _open_set(ranking.open_set) if ranking.open_set else None,
        "cameras": [
            {
                "camera": names.get(each.camera),
                "queries": each.queries,
                "valid": each.valid,
                "rank1": each.rank1 if each.valid else None,
                "mAP": each.mean_ap if each.valid else None,
            }
            for each in ranking.cameras
        ],
        "camera_pairs": None
        if ranking.pairs is None
        else [
            {
                "query_camera": names.get(each.query_camera),
                "gallery_camera": names.get(each.gallery_camera),
                "valid": each.valid,
                "rank1": each.rank1,
                "mAP": each.mean_ap,
            }
            for each in ranking.pairs
        ],
        "seconds": ranking.seconds,
    }


def _intervals(ranking: Ranking) -> dict[str, Any] | None:
    if ranking.intervals is None:
        return None
    ends = ranking.intervals.tolist()
    pairs = zip(("mAP", "rank1"), ends, strict=True)
    return {name: {"low": low, "high": high} for name, (low, high) in pairs}


def _open_set(found: OpenSet) -> dict[str, Any]:
    """Every rate that was asked for; null beside those that the negatives are too few for."""
    nothing = dict.fromkeys(("threshold", "false_accepts", "far", "tar"))
    return {
        "positives": found.positives,
        "negatives": found.negatives,
        "equal_error_rate": found.equal_error_rate,
        "equal_error_threshold": found.equal_error_threshold,
        "points": [
            asdict(point) if point else {"wanted": rate, **nothing}
            for rate, point in zip(found.rates, found.points, strict=True)
        ],
    }


def _ranked_lists(
    query: Side, gallery: Side, ranking: Ranking, tiling: Tiling
) -> dict[str, Any] | None:
    """The best, median and worst valid queries by AP (ties by row), no query twice."""
    ap = ranking.summary.average_precision
    order = np.argsort(-ap, kind="stable")[: ranking.summary.valid]
    if not len(order):
        return None
    shown = min(SHOWN_QUERIES, max(1, len(order) // 3))
    middle = (len(order) - shown) // 2
    groups = {
        "best": order[:shown],
        "median": order[middle : middle + shown],
        "worst": order[::-1][:shown],
    }
    taken: set[int] = set()
    lists: dict[str, Any] = {"result": ranking.name}
    for name, group in groups.items():
        chosen = np.array([q for q in group if q not in taken], np.int64)
        taken |= set(chosen.tolist())
        lists[name] = _entries(query, gallery, ranking, chosen, tiling)
    return lists


def _entries(
    query: Side, gallery: Side, ranking: Ranking, chosen: NDArray[np.int64], tiling: Tiling
) -> list[dict[str, Any]]:
    """Each chosen query with the top of its list, junk left out."""
    if not len(chosen):
        return []
    identity, camera = gallery.labels.identity, gallery.labels.camera
    owns = [
        (identity == query.labels.identity[q]) & (camera == query.labels.camera[q]) & (camera >= 0)
        for q in chosen
    ]
    junk = [own | (identity == -1) for own in owns]
    # Enough neighbors that the wanted rows are left when junk is taken out.
    k = SHOWN_ROWS + max(int(each.sum()) for each in junk)
    found = search(ranking.queries.take(chosen), ranking.gallery, k, tiling=tiling)
    entries = []
    for place, q in enumerate(chosen):
        kept = [
            (int(row), float(score))
            for row, score in zip(found.rows[place], found.scores[place], strict=True)
            if row >= 0 and not junk[place][row]
        ]
        same = (identity == query.labels.identity[q]) & ~junk[place]
        hits = [
            _crop(gallery, row) | {"score": score, "match": bool(same[row])}
            for row, score in kept[:SHOWN_ROWS]
        ]
        entries.append(
            {
                "query": _crop(query, int(q)),
                "ap": float(ranking.summary.average_precision[q]),
                "inp": float(ranking.summary.inverse_negative_penalty[q]),
                "first_match_rank": int(ranking.summary.first_rank[q]),
                "matches": int(same.sum()),
                "list": hits,
            }
        )
    return entries


def _crop(side: Side, row: int) -> dict[str, Any]:
    return {name: side.rows[name][row].as_py() for name in ("path", "identity", "camera")}


def _thumbnails(side: Side, paths: Sequence[str]) -> dict[str, str]:
    """Data URIs of the images that can still be read; the page shows a placeholder for others."""
    made = {}
    for path in paths:
        try:
            image = decode(read_image(side.gallery.properties["source"], path))
        except Rejected:
            continue
        made[path] = thumbnail(image)
    return made
