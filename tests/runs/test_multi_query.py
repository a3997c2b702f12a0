"""Evaluations and searches with several images as one query."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from pipeline.core.expansion import Expansion
from pipeline.core.reranking.distances import Reranking
from pipeline.errors import InputError
from pipeline.gallery.table import Gallery
from pipeline.report.console import metrics_table
from pipeline.runs.evaluating import evaluate_to_report
from pipeline.runs.extraction import extract
from pipeline.runs.measuring import evaluate, measure
from pipeline.runs.search_result import SearchSettings
from pipeline.runs.searching import search
from pipeline.runs.settings import EvaluationSettings, FigureSettings, FoldSettings, RecipeSettings
from tests import oracles
from tests.jobs.labeled import labeled_gallery, people
from tests.stages.making import save_crop, save_network, save_source


@pytest.fixture(scope="module")
def sides(tmp_path_factory):
    folder = tmp_path_factory.mktemp("multi")
    return (
        labeled_gallery(folder / "q", *people(6, 60, seed=3, spread=0.3)),
        labeled_gallery(folder / "g", *people(6, 200, seed=4, spread=0.3)),
    )


def by_the_letter(sides, how):
    """AP and rank-1 of each identity under each camera, by loops over all rows."""
    query, gallery = sides
    labels, theirs = query.labels(gallery), gallery.labels(query)
    features, held = query.array().astype(np.float64), gallery.array().astype(np.float64)
    of_query = {}
    for row in range(query.count):
        if labels.identity[row] > 0:
            of_query.setdefault((labels.identity[row], labels.camera[row]), []).append(row)
    found = []
    for (identity, camera), rows in of_query.items():
        if how == "mean":
            mean = features[rows].mean(0)
            scores = held @ (mean / np.linalg.norm(mean))
        else:
            scores = (held @ features[rows].T).max(1)
        kept, matching = oracles.kept_rows(identity, camera, theirs)
        order = oracles.sorted_rows(scores, kept)
        ranks = [place + 1 for place, row in enumerate(order) if row in matching]
        found.append((oracles.average_precision(ranks), ranks[0] == 1))
    return np.array(found, float)


@pytest.mark.parametrize("how", ["mean", "best"])
def test_figures_are_those_of_the_letter_of_the_protocol(sides, tmp_path, how):
    wanted = by_the_letter(sides, how)
    figures = FigureSettings(multi_query=how, replicates=20)
    ranking = evaluate(*sides, figures=figures).baseline
    assert ranking.summary.mean_ap == pytest.approx(wanted[:, 0].mean(), abs=1e-9)
    assert ranking.summary.cmc[0] == pytest.approx(wanted[:, 1].mean())
    assert ranking.summary.valid == len(wanted) < 60
    settings = EvaluationSettings(figures)
    on = FoldSettings(gallery_block=64, query_block=8)
    report = evaluate_to_report(*sides, tmp_path / "report", settings, on=on).report
    (result,) = report.results
    assert result.mean_ap == ranking.summary.mean_ap
    assert (result.open_set is None, result.camera_pairs is None) == (how == "best",) * 2
    assert report.settings["multi_query"] == how
    assert (report.query.rows, result.queries) == (60, ranking.summary.queries)
    console = Console(width=200)
    with console.capture() as told:
        console.print(metrics_table(report))
    assert f"60 images make {result.queries} queries" in told.get()
    assert f"--multi-query={how}" in report.command


def test_arrays_are_queried_in_the_same_way(sides):
    labels = sides[0].labels(sides[1]), sides[1].labels(sides[0])
    figures = FigureSettings(multi_query="best", replicates=0)
    ways = [Expansion("query", k=4)]
    given = (sides[0].array(), labels[0], sides[1].array(), labels[1])
    found, same = measure(*given, ways, figures=figures), evaluate(*sides, ways, figures=figures)
    for one, other in zip(found.rankings, same.rankings, strict=True):
        assert one.summary.mean_ap == other.summary.mean_ap
    assert found.rankings[1].summary.mean_ap != found.baseline.summary.mean_ap


def test_what_the_best_image_does_not_go_with(sides):
    best = FigureSettings(multi_query="best", replicates=0)
    with pytest.raises(InputError, match="`rerank` does not go with `multi_query` best"):
        evaluate(*sides, [Reranking()], figures=best)
    with pytest.raises(InputError, match="cuhk03 does not go with `multi_query` best"):
        evaluate(*sides, figures=replace(best, protocol="cuhk03"))


@pytest.mark.parametrize("how", ["mean", "best"])
def test_a_search_takes_all_images_for_one_query(tmp_path, how):
    network = save_network(tmp_path)
    recipe = RecipeSettings(height=32, width=16)
    extract(str(save_source(tmp_path / "source", 30)), str(tmp_path / "g"), network, recipe=recipe)
    images = [str(tmp_path / "images" / f"{i}.png") for i in range(3)]
    for i, image in enumerate(images):
        save_crop(Path(image), i + 500)
    gallery = Gallery.open(str(tmp_path / "g"))
    page = tmp_path / "page.html"
    settings = SearchSettings(k=12, multi_query=how)
    found = search(images, gallery, network, settings, html=page)
    (together,) = found.results
    alone = search(images, gallery, network, SearchSettings(k=30)).results
    every = {hit.row_id: [] for hit in alone[0].hits}
    for each in alone:
        for hit in each.hits:
            every[hit.row_id].append(hit.score)
    combine = np.max if how == "best" else np.sum
    wanted = sorted(every, key=lambda row: (-combine(every[row]), row))[:12]
    assert [hit.row_id for hit in together.hits] == wanted
    assert (together.image, together.queried) == (images[0], tuple(images))
    assert together.title.endswith("and 2 other images, as one query")
    assert "and 2 other images, as one query" in page.read_text()
    assert alone[0].title == images[0]
