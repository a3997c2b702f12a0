"""Several galleries as one: results are those of one gallery that holds all of their rows."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline.core.expansion import Expansion
from pipeline.core.reranking.distances import Reranking
from pipeline.errors import InputError
from pipeline.gallery.outputs import outputs_of
from pipeline.gallery.sidecars.calibrations import write_calibration
from pipeline.gallery.sidecars.candidates import is_candidates
from pipeline.gallery.table import Gallery
from pipeline.runs.evaluating import evaluate_to_report
from pipeline.runs.extraction import extract
from pipeline.runs.linked import LinkSettings
from pipeline.runs.linking import link
from pipeline.runs.measuring import evaluate
from pipeline.runs.search_result import SearchSettings
from pipeline.runs.searching import search
from pipeline.runs.selection import RowFilter
from pipeline.runs.settings import (
    CameraSettings,
    EvaluationSettings,
    FigureSettings,
    RecipeSettings,
)
from pipeline.runs.union import GalleryUnion, as_one
from tests.jobs.labeled import labeled_gallery, people
from tests.stages.making import save_crop, save_network, save_source

PLAIN = FigureSettings(replicates=0)
EDGES = (0, 70, 75, 160)  # rows of each gallery, in order; many rows are equal, so that they tie


@pytest.fixture(scope="module")
def held(tmp_path_factory):
    """Three galleries, one of all their rows, and queries."""
    folder = tmp_path_factory.mktemp("union")
    features, identity, camera = people(9, 160, dimension=8, seed=5, spread=0.4)
    features[80:110] = features[20:50]
    start = datetime(2024, 5, 1, tzinfo=UTC)
    times = [start + timedelta(minutes=row // 4) for row in range(160)]

    def made(name, low, high):
        told = identity[low:high], camera[low:high]
        return labeled_gallery(
            folder / name, features[low:high], *told, captured_at=times[low:high]
        )

    parts = [made(f"g{low}", low, high) for low, high in pairwise(EDGES)]
    queries = labeled_gallery(folder / "q", *people(9, 40, dimension=8, seed=6, spread=0.4))
    return parts, made("all", 0, 160), queries


def test_rows_and_features_are_those_of_one_gallery(held):
    parts, whole, _ = held
    union = GalleryUnion(tuple(parts))
    rows = union.features()
    assert (len(rows), rows.dimension, union.count) == (160, 8, 160)
    for start, stop in ((0, 160), (3, 9), (60, 80), (70, 75), (72, 72), (159, 160)):
        assert np.array_equal(rows.read(start, stop), whole.array()[start:stop])
    some = np.array([159, 0, 74, 70, 0])
    assert np.array_equal(rows.take(some), whole.array()[some])
    names = ["identity", "camera", "captured_at"]
    assert union.rows(names) == whole.rows(names).replace_schema_metadata(None)
    assert union.rows_at(some, names).to_pylist() == whole.rows_at(some, names).to_pylist()
    select = RowFilter(where="camera = 'c1' and identity > 2")
    assert select.positions(union).tolist() == select.positions(whole).tolist()
    assert union.rejects().num_rows == 0


def test_evaluations_are_those_of_one_gallery(held, tmp_path):
    parts, whole, queries = held
    ways = [Expansion("joint", k=4), Expansion("database", k=3), Reranking(k1=5, k2=2)]
    select = RowFilter(before="2024-05-01T00:35:00Z")
    for many, one in (
        (evaluate(queries, parts, ways, figures=PLAIN),
         evaluate(queries, whole, ways, figures=PLAIN)),
        (evaluate(queries, parts, figures=PLAIN, select=select),
         evaluate(queries, whole, figures=PLAIN, select=select)),
    ):  # fmt: skip
        for found, wanted in zip(many.rankings, one.rankings, strict=True):
            assert found.summary.mean_ap == wanted.summary.mean_ap
            assert found.summary.cmc.tolist() == wanted.summary.cmc.tolist()
            assert found.lists.rows.tolist() == wanted.lists.rows.tolist()
            assert found.open_set == wanted.open_set
    settings = EvaluationSettings(PLAIN, cameras=CameraSettings(("mean",), 4))
    made = [
        evaluate_to_report(queries, each, tmp_path / name, settings).report
        for name, each in (("many", parts), ("one", whole))
    ]
    for found, wanted in zip(made[0].results, made[1].results, strict=True):
        assert (found.mean_ap, found.cmc) == (wanted.mean_ap, wanted.cmc)
    assert made[0].gallery.rows == 160
    for each in parts:
        assert f"--gallery {each.location} --gallery-version 1" in made[0].command
        assert [str(output.place) for output in outputs_of(each)] == [str(tmp_path / "many")]


def test_links_are_those_of_one_gallery(held, tmp_path):
    parts, whole, _ = held
    settings = LinkSettings(k=8, threshold=0.6)
    many = link(parts, tmp_path / "many.parquet", settings)
    one = link(whole, tmp_path / "one.parquet", settings)
    assert (many.links, many.candidates, many.refused) == (one.links, one.candidates, one.refused)
    assert one.refused > 0
    found, wanted = (pq.read_table(tmp_path / f"{name}.parquet") for name in ("many", "one"))
    for name in ("candidate", "size", "score"):
        assert found[name].to_pylist() == wanted[name].to_pylist()
    names = [each.location for each, n in zip(parts, (70, 5, 85), strict=True) for _ in range(n)]
    assert found["gallery"].to_pylist() == names
    assert found["row_id"].to_pylist() == [*range(70), *range(5), *range(85)]
    link(parts, tmp_path / "many.csv", settings)
    assert is_candidates(tmp_path / "many.csv")


def test_searches_are_those_of_one_gallery(tmp_path):
    network, recipe = save_network(tmp_path), RecipeSettings(height=32, width=16)
    source = save_source(tmp_path / "all", 24)
    for number, file in enumerate(sorted(source.iterdir())):
        part = tmp_path / ("a" if number < 11 else "b")
        part.mkdir(exist_ok=True)
        (part / file.name).write_bytes(file.read_bytes())
    save_crop(tmp_path / "x.png", 500)
    galleries = []
    for name in ("a", "b", "all"):
        place = str(tmp_path / f"g-{name}")
        extract(str(tmp_path / name), place, network, layout="market1501", recipe=recipe)
        galleries.append(Gallery.open(place))
    write_calibration(galleries[1], {"threshold": 0.25})
    settings, images = SearchSettings(k=24), [str(tmp_path / "x.png")]
    page = tmp_path / "page.html"
    found = search(images, galleries[:2], network, settings, html=page)
    wanted = search(images, galleries[2], network, settings)
    assert (found.rows, found.threshold) == (24, 0.25)
    for hit, one in zip(found.results[0].hits, wanted.results[0].hits, strict=True):
        part = "a" if one.row_id < 11 else "b"
        assert (hit.score, hit.identity, hit.camera) == (one.score, one.identity, one.camera)
        assert hit.path == str(tmp_path / part / one.path)
        assert hit.gallery == galleries["ab".index(part)].location
        assert hit.row_id == one.row_id - (0 if part == "a" else 11)
        assert hit.threshold == (None if part == "a" else 0.25)
    assert page.read_text().count("data:image/jpeg") == 25
    assert one.gallery == galleries[2].location


def test_galleries_that_do_not_go_together_are_refused(held, tmp_path):
    parts, _, queries = held
    features = np.eye(8, dtype=np.float32)
    other = labeled_gallery(tmp_path / "o", features, [1] * 8, ["c"] * 8, weights="1" * 64)
    with pytest.raises(InputError, match=r"g0 and .*/o differ in weights: "):
        as_one([*parts, other])
    other = labeled_gallery(tmp_path / "p", features, [1] * 8, ["c"] * 8, precision="bfloat16")
    with pytest.raises(InputError, match=r"differ in precision \(float32, bfloat16\)"):
        as_one([*parts, other])
    with pytest.raises(InputError, match="g70 is given twice"):
        as_one([*parts, parts[1]])
    with pytest.raises(InputError, match="no gallery is given"):
        as_one([])
    other = labeled_gallery(tmp_path / "e", features, [1] * 8, ["c"] * 8)
    empty = other.commit([], run_id="none", removes=range(8))
    with pytest.raises(InputError, match="/e has no row in version"):
        evaluate(queries, [*parts, empty])
    assert as_one(parts[:1]) is parts[0]
