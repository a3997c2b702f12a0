"""Searches and links among selected rows: exact there, and without the files that cannot match."""

import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.core.blocks import ArrayRows, ChosenRows
from pipeline.core.expansion import Expansion
from pipeline.errors import InputError
from pipeline.gallery.files.unit_files import write_unit
from pipeline.gallery.table import Gallery
from pipeline.gallery.upkeep.compact import compact
from pipeline.runs.evaluating import evaluate_to_report
from pipeline.runs.linked import LinkSettings
from pipeline.runs.linking import link
from pipeline.runs.measuring import evaluate
from pipeline.runs.selection import RowFilter
from pipeline.runs.settings import EvaluationSettings, FigureSettings, RerankingSettings
from pipeline.stages.search import search_gallery
from tests import oracles
from tests.gallery.making import new_gallery, path_of, rejects_table, unit_rows
from tests.jobs.labeled import add_rows, labeled_gallery, people

START = datetime(2024, 5, 1, tzinfo=UTC)


@pytest.fixture
def gallery(tmp_path):
    """Four files of a day each, cameras c0 to c2."""
    made = new_gallery(tmp_path / "g")
    records = []
    for first in range(0, 80, 20):
        ids = range(first, first + 20)
        rows = unit_rows(made.target, ids, [path_of(row_id) for row_id in ids])
        times = [START + timedelta(days=first // 20, minutes=row_id) for row_id in ids]
        place = rows.schema.get_field_index("captured_at")
        field = rows.schema.field("captured_at")
        rows = rows.set_column(place, field, pa.array(times, field.type))
        records.append(write_unit(made.target, f"u{first}", ids, rows, rejects_table([])))
    return made.commit(records, run_id="a")


@pytest.mark.parametrize(
    ("select", "fits"),
    [
        (RowFilter(where="camera = 'c1' or identity = 2"), lambda row: row["camera"] == "c1" or
         row["identity"] == 2),
        (RowFilter(after="2024-05-02"), lambda row: row["row_id"] >= 20),
        (RowFilter("identity > 0", after="2024-05-02", before="2024-05-03T00:00Z"),
         lambda row: 20 <= row["row_id"] < 40 and row["identity"] > 0),
        (RowFilter(camera=("c0", "c2"), where="identity = 1 or identity = 3"),
         lambda row: row["camera"] != "c1" and row["identity"] in (1, 3)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("compacted", [False, True])
def test_the_best_of_a_selection_are_those_of_a_loop(gallery, select, fits, compacted):
    gallery = compact(gallery) if compacted else gallery
    wanted = [place for place, row in enumerate(gallery.rows().to_pylist()) if fits(row)]
    found = select.positions(gallery)
    assert found.tolist() == wanted
    features, queries = gallery.array(), gallery.array()[:3]
    best = search_gallery(ArrayRows(queries), ChosenRows(gallery.features(), found), 4)
    for query, rows in zip(queries, found[best.rows], strict=True):
        order = np.argsort(-(features[wanted] @ query), kind="stable")[:4]
        assert rows.tolist() == np.array(wanted)[order].tolist()
    at = gallery.rows_at(found[::-1], ["row_id", "path"])
    assert at.to_pylist() == gallery.rows(["row_id", "path"]).take(found[::-1]).to_pylist()


def test_files_that_cannot_match_are_not_read(gallery):
    for file in gallery.snapshot.files[:3]:
        (gallery._root / file.path).unlink()
    found = RowFilter(after="2024-05-04").positions(gallery)
    assert found.tolist() == list(range(60, 80))
    gallery.features().take(found)
    assert gallery.rows_at(found, ["path"]).num_rows == 20


def test_a_footer_is_read_once(gallery, monkeypatch):
    """Those of the files that were selected from tell where their features are, too."""
    opened, real = [], pq.ParquetFile

    def noted(path, *args, **options):
        opened.append(path.name)
        return real(path, *args, **options)

    monkeypatch.setattr(pq, "ParquetFile", noted)
    found = RowFilter(after="2024-05-03").positions(gallery)
    taken = gallery.features().take(found)
    assert opened == [file.path for file in gallery.snapshot.files[2:]]
    assert taken.tobytes() == gallery.array()[found].tobytes()
    assert len(opened) == 4  # the other two


def test_links_are_among_the_selected(gallery, tmp_path):
    """And files of other rows are not read."""
    ids = [row["row_id"] for row in gallery.rows().to_pylist() if row["identity"] >= 0]
    for file in gallery.snapshot.files[2:]:
        (gallery._root / file.path).unlink()
    select = RowFilter(where="row_id < 30 and identity >= 0")
    made = link(gallery, tmp_path / "l.parquet", LinkSettings(5, 0.1), select=select)
    assert pq.read_table(made.out)["row_id"].to_pylist() == [each for each in ids if each < 30]
    assert made.rows_linked == len([each for each in ids if each < 30])


def test_links_are_of_different_cameras(labeled, tmp_path):
    _, gallery = labeled
    rows, features = gallery.rows().to_pylist(), gallery.array()
    kept = [n for n, row in enumerate(rows) if row["identity"] != -1]
    cameras = [rows[n]["camera"] for n in kept]
    moments = [(cameras[i], rows[n]["frame"]) if cameras[i] else -1 for i, n in enumerate(kept)]

    def may_meet(i, j):
        return cameras[i] is None or cameras[i] != cameras[j]

    expected, _ = oracles.linked_groups(features[kept], moments, 4, 0.5, may_meet)
    select = RowFilter(not_own_camera=True)
    made = link(gallery, tmp_path / "l.parquet", LinkSettings(4, 0.5), select=select)
    written = [row["candidate"] for row in pq.read_table(made.out).to_pylist()]
    assert [written[n] for n in kept] == [rows[kept[group]]["row_id"] for group in expected]
    made = link(gallery, tmp_path / "l.parquet", LinkSettings(4), select=select)
    assert "over the known identities" in made.threshold_from


def test_what_selects_nothing_is_told(gallery):
    with pytest.raises(InputError, match="has no row in version 1 for which"):
        RowFilter(where="identity > 99").positions(gallery)
    with pytest.raises(InputError, match="does not work"):
        RowFilter(where="identity > 0) or (identity < 9").positions(gallery)
    assert RowFilter().positions(gallery) is None
    for wrong, message in (
        ({"after": "noon"}, "`after` 'noon' is not a time"),
        ({"camera": ("",)}, "`camera` is empty"),
        ({"after": "2024-05-02", "before": "2024-05-02"}, "no time is from"),
    ):
        with pytest.raises(InputError, match=message):
            RowFilter(**wrong)


def test_rows_of_the_images_camera_are_left_out_but_not_those_of_none(gallery):
    found = RowFilter(not_own_camera=True).positions(gallery, "c'0")
    assert len(found) == gallery.count
    found = RowFilter(not_own_camera=True).positions(gallery, "c0")
    assert found.tolist() == [
        place for place, row in enumerate(gallery.rows().to_pylist()) if row["camera"] != "c0"
    ]
    assert RowFilter(not_own_camera=True).positions(gallery) is None


@pytest.fixture(scope="module")
def labeled(tmp_path_factory):
    """Queries, and a gallery of three files: one for each camera, and one without cameras."""
    folder = tmp_path_factory.mktemp("labeled")
    features, identity, camera = people(6, 90, cameras=2)
    query = labeled_gallery(folder / "q", features[:20], identity[:20], camera[:20])
    made = None
    for name in ("c0", "c1", None):
        own = [n for n in range(20, 90) if (camera[n] if n % 7 else None) == name]
        labels = [identity[n] for n in own]
        held = folder / "g" if made is None else made
        add = labeled_gallery if made is None else add_rows
        made = add(held, features[own], labels, [name] * len(own), frame=own)
    return query, made


@pytest.mark.parametrize(
    "select",
    [
        RowFilter(camera=("c1",)),
        RowFilter("identity <> 3"),
        RowFilter(not_own_camera=True),
        RowFilter("camera is null or identity < 5", not_own_camera=True),
    ],
)
def test_figures_are_those_of_a_loop_over_the_selected_rows(labeled, select):
    query, gallery = labeled
    found = evaluate(query, gallery, [Expansion("joint", k=3)], select=select)
    rows, positions = gallery.rows().to_pylist(), select.positions(gallery)
    rows = [rows[n] for n in (range(len(rows)) if positions is None else positions)]
    features = gallery.array() if positions is None else gallery.array()[positions]
    asked = query.rows().to_pylist()
    similarity = query.array() @ features.T
    precisions, negatives = [], 0
    for q, row in enumerate(asked):
        own = [g["camera"] == row["camera"] for g in rows]
        same = [g["identity"] == row["identity"] > 0 for g in rows]
        kept = [
            n for n, g in enumerate(rows)
            if g["identity"] != -1 and not (own[n] and (same[n] or select.not_own_camera))
        ]  # fmt: skip
        order = sorted(kept, key=lambda n: -similarity[q, n])
        ranks = [rank for rank, n in enumerate(order, 1) if same[n]]
        precisions += [oracles.average_precision(ranks)] if ranks else []
        negatives += sum(not same[n] for n in kept) if row["identity"] > 0 else 0
    summary = found.baseline.summary
    assert (summary.valid, summary.queries) == (len(precisions), 20)
    assert summary.mean_ap == pytest.approx(np.mean(precisions))
    assert found.baseline.open_set.negatives == negatives
    lists = found.baseline.lists
    shown = np.concatenate(found.baseline.examples)
    for q, listed in zip(shown, lists.rows, strict=True):
        cameras = {rows[n]["camera"] for n in listed if n >= 0}
        assert not select.not_own_camera or asked[q]["camera"] not in cameras


def test_an_evaluation_does_not_open_files_that_cannot_match(labeled, tmp_path, caplog):
    query, gallery = labeled
    copied = Gallery.open(shutil.copytree(gallery.location, tmp_path / "g"))
    select = RowFilter(camera=("c1",))
    expected = evaluate(query, gallery, select=select).baseline.summary.mean_ap
    kept = [n for n, row in enumerate(gallery.rows().to_pylist()) if row["camera"] == "c1"]
    for file in copied.snapshot.files:
        if file.min_row_id != kept[0]:
            (tmp_path / "g" / file.path).unlink()
    settings = EvaluationSettings(select=select)
    report = evaluate_to_report(query, copied, tmp_path / "report", settings).report
    assert report.results[0].mean_ap == expected
    assert (report.gallery.rows, report.gallery.cameras) == (len(kept), 1)
    assert report.settings["camera"] == "c1"
    assert "--camera=c1" in report.command
    assert "have no match among the" in caplog.text


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (EvaluationSettings(reranking=RerankingSettings(rerank=True)), "`rerank` does not go"),
        (EvaluationSettings(FigureSettings(protocol="cuhk03")), "`protocol` cuhk03 does not go"),
    ],
)
def test_what_is_defined_over_the_whole_gallery(labeled, tmp_path, wrong, message):
    settings = replace(wrong, select=RowFilter(not_own_camera=True))
    with pytest.raises(InputError, match=message):
        evaluate_to_report(*labeled, tmp_path / "report", settings)
