import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from jobs.evaluate import evaluate
from pipeline.gallery.table import Gallery
from pipeline.runs import neighborhood
from pipeline.runs.settings import ExpansionSettings, FoldSettings, RerankingSettings
from pipeline.stages import neighbors
from tests.jobs.labeled import labeled_gallery, people
from tests.jobs.running import SIZE, refused, result
from tests.report.schema import faults
from tests.stages.making import save_crop, save_network, save_source


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two small galleries, their sources and the network that made them."""
    folder = tmp_path_factory.mktemp("made")
    save_source(folder / "gallery-source", 60)
    save_crop(folder / "gallery-source" / "0000_c1s1_000900_00.png", 900)
    save_crop(folder / "gallery-source" / "-1_c2s1_000901_00.png", 901)
    for i in range(9):
        name = f"{i % 5 + 1:04d}_c{i % 3 + 1}s1_{i:06d}_00.png"
        save_crop(folder / "query-source" / name, i + 500)
    (folder / "gallery-source" / "0001_c1s1_000902_00.jpg").write_bytes(b"no picture")
    network = save_network(folder).path
    return folder, network


@pytest.fixture
def galleries(made, tmp_path, capsys):
    folder, network = made
    for side in ("query", "gallery"):
        place = folder / side
        if not place.exists():
            source = folder / f"{side}-source"
            result(capsys, "extract", source, "--gallery", place, "--model", network, *SIZE)
    return ("--query", folder / "query", "--gallery", folder / "gallery", "--out", tmp_path / "out")


@pytest.fixture(scope="module")
def told_before():
    """What evaluations with different flags told, once they were made."""
    return {}


@pytest.fixture
def evaluated(capsys, made, galleries, told_before):
    """What an evaluation with these flags tells: made once, for all tests that only read it."""

    def evaluated(*flags):
        if flags not in told_before:
            out = made[0] / f"evaluated-{len(told_before)}"
            told_before[flags] = result(capsys, "evaluate", *galleries[:-1], out, *flags)
        return told_before[flags]

    return evaluated


def figures(report):
    """What must not depend on blocks or workers."""
    names = (
        "name", "valid", "rank", "cmc", "mAP", "mAP_trapezoid", "mINP", "intervals", "gains",
        "open_set", "query_cameras", "camera_pairs",
    )  # fmt: skip
    return [{name: each[name] for name in names} for each in report["results"]], report["ranked"]


ALL_MODES = ("--aqe", "query", "--aqe", "database", "--aqe", "joint", "--k", 5)


def test_the_report_holds_what_was_printed(evaluated):
    told = evaluated(*ALL_MODES)
    report = told["report"]
    assert [each["name"] for each in report["results"]] == [
        "baseline", "aqe query", "aqe database", "aqe joint",
    ]  # fmt: skip
    assert report["gallery"]["rejects"] == {"not-an-image": 1}
    assert (report["gallery"]["distractors"], report["gallery"]["junk"]) == (1, 1)
    assert json.loads(Path(told["report_json"]).read_text()) == report
    page = Path(told["report_html"]).read_text()
    assert f"{report['results'][0]['mAP'] * 100:.2f}" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert page.count("data:image/jpeg") >= 3


def test_a_plain_numpy_evaluation_agrees(evaluated, galleries):
    report = evaluated()["report"]
    query, gallery = (Gallery.open(str(galleries[i])) for i in (1, 3))
    q, g = (each.rows().to_pandas() for each in (query, gallery))
    similarity = query.features().read(0, len(q)) @ gallery.features().read(0, len(g)).T
    aps, first = [], []
    for i in range(len(q)):
        same = g.identity == q.identity[i]
        kept = np.flatnonzero((g.identity != -1) & ~(same & (g.camera == q.camera[i])))
        order = kept[np.argsort(-similarity[i, kept], kind="stable")]
        ranks = np.flatnonzero(same[order].to_numpy()) + 1
        aps.append(np.mean(np.arange(1, len(ranks) + 1) / ranks))
        first.append(ranks[0])
    assert report["results"][0]["mAP"] == pytest.approx(np.mean(aps))
    assert report["results"][0]["rank"]["1"] == pytest.approx(np.mean(np.array(first) == 1))


def test_plain_numpy_open_set_figures_and_camera_pairs_agree(evaluated, galleries):
    report = evaluated()["report"]
    query, gallery = (Gallery.open(str(galleries[i])) for i in (1, 3))
    q, g = (each.rows().to_pandas() for each in (query, gallery))
    similarity = query.features().read(0, len(q)) @ gallery.features().read(0, len(g)).T
    same = q.identity.to_numpy()[:, None] == g.identity.to_numpy()
    kept = ~(same & (q.camera.to_numpy()[:, None] == g.camera.to_numpy()))
    kept &= g.identity.to_numpy() != -1
    positives, negatives = similarity[kept & same], np.sort(similarity[kept & ~same])[::-1]
    found = report["results"][0]["open_set"]
    assert (found["positives"], found["negatives"]) == (len(positives), len(negatives))
    for point in found["points"]:
        allowed = int(point["wanted"] * len(negatives) + 1e-9)
        if not allowed:
            assert point["threshold"] is None
            continue
        assert point["threshold"] == pytest.approx(negatives[allowed], abs=1e-6)
        # A pair whose score is the threshold itself, or is so but for rounding here, is none.
        above = np.count_nonzero(negatives > negatives[allowed] + 1e-6)
        assert above <= point["false_accepts"] <= allowed
        assert point["tar"] == np.mean(positives > negatives[allowed] + 1e-6)
    for pair in report["results"][0]["camera_pairs"]:
        aps = []
        for i in np.flatnonzero(q.camera == pair["query_camera"]):
            rows = np.flatnonzero(kept[i] & (g.camera == pair["gallery_camera"]))
            order = rows[np.argsort(-similarity[i, rows], kind="stable")]
            ranks = np.flatnonzero(same[i, order]) + 1
            if len(ranks):
                aps.append(np.mean(np.arange(1, len(ranks) + 1) / ranks))
        assert (pair["valid"], pair["mAP"]) == (len(aps), pytest.approx(np.mean(aps)))


SINGLE_SHOT = ("--protocol", "cuhk03", "--seed", 3)


@pytest.mark.ray
def test_blocks_and_workers_change_nothing(capsys, galleries, evaluated, cluster):
    """The folds' own tests have blocks of any size, and one row in each; and two workers, too."""
    # A logical GPU: float16 products, on the CPU. Its worker is another one, which loads torch.
    on_ray = ("--workers", 1, "--gallery-block", 25, "--num-gpus", 0.5)
    for flags, block, others in ((ALL_MODES, 7, on_ray), (SINGLE_SHOT, 64, ("--workers", 2))):
        reference = figures(evaluated(*flags)["report"])
        blocks = ("--query-block", block, "--gallery-block", block)
        for ways in (blocks, others):
            found = result(capsys, "evaluate", *galleries, *flags, *ways)
            assert figures(found["report"]) == reference


def test_protocol_cuhk03_draws_one_image_of_each_identity(evaluated):
    whole = evaluated()["report"]["results"][0]
    told = evaluated(*SINGLE_SHOT)["report"]
    assert told["protocol"] == {"name": "cuhk03", "repeats": 10, "seed": 3}
    assert "--protocol=cuhk03 --seed=3" in told["command"]
    drawn = told["results"][0]
    assert drawn["cmc_cut"] == len(drawn["cmc"]) == 6  # five identities and a distractor
    assert drawn["cmc"][-1] == 1.0
    for name in ("mAP", "mAP_trapezoid", "mINP", "open_set", "camera_pairs"):
        assert drawn[name] == whole[name]
    # Means over nine queries and ten draws.
    assert drawn["rank"]["1"] * 90 == pytest.approx(round(drawn["rank"]["1"] * 90))
    theirs = sum(each["rank1"] * each["valid"] for each in drawn["query_cameras"])
    assert theirs == pytest.approx(9 * drawn["rank"]["1"])


def test_figures_that_are_not_wanted_are_left_out(capsys, galleries):
    flags = ("--no-open-set", "--no-camera-pairs", "--replicates", 0)
    told = result(capsys, "evaluate", *galleries, *flags)
    report = told["report"]
    for name in ("open_set", "camera_pairs", "intervals"):
        assert report["results"][0][name] is None
    assert report["bootstrap"] is None
    assert "--no-open-set --no-camera-pairs --replicates=0" in report["command"]
    assert 'id="open-set"' not in Path(told["report_html"]).read_text()


def test_another_seed_or_level_is_another_interval(capsys, galleries):
    wide, narrow = (
        result(capsys, "evaluate", *galleries, "--level", level, "--seed", 5)["report"]
        for level in (0.99, 0.5)
    )
    assert wide["bootstrap"] == {"replicates": 1000, "level": 0.99, "seed": 5}
    outer, inner = (each["results"][0]["intervals"]["mAP"] for each in (wide, narrow))
    assert outer["low"] < inner["low"] < inner["high"] < outer["high"]


def test_re_ranked_lists_have_no_single_shot(capsys, galleries):
    line = refused(capsys, "evaluate", *galleries, "--rerank", "--protocol", "cuhk03")
    assert "--rerank does not go with --protocol cuhk03" in line


def test_re_ranking_stands_beside_the_others(capsys, galleries):
    flags = ("--rerank", "--k1", 6, "--k2", 3)
    told = result(capsys, "evaluate", *galleries, "--aqe", "joint", *flags)
    baseline, _, reranked = told["report"]["results"]
    assert (reranked["name"], reranked["mode"]) == ("k-reciprocal", None)
    assert reranked["parameters"] == {"k1": 6, "k2": 3, "lam": 0.3, "variant": "zhong"}
    assert reranked["valid"] == baseline["valid"]
    assert (reranked["open_set"], reranked["camera_pairs"]) == (None, None)
    assert len(reranked["query_cameras"]) == len(baseline["query_cameras"])
    assert 'id="def-reranking"' in Path(told["report_html"]).read_text()
    blocks = ("--query-block", 3, "--gallery-block", 7)
    again = result(capsys, "evaluate", *galleries, "--aqe", "joint", *flags, *blocks)
    assert figures(again["report"]) == figures(told["report"])


def test_the_lists_of_the_best_ranking_are_shown_by_what_orders_them(capsys, tmp_path):
    for name, rows, seed in (("query", 60, 7), ("gallery", 240, 8)):
        labeled_gallery(tmp_path / name, *people(20, rows, seed=seed, spread=0.22))
    places = ("--query", tmp_path / "query", "--gallery", tmp_path / "gallery")
    report = result(capsys, "evaluate", *places, "--out", tmp_path / "out", "--rerank")["report"]
    assert report["results"][1]["mAP"] > report["results"][0]["mAP"]
    assert report["ranked"]["result"] == "k-reciprocal"
    assert faults(report) == []
    entries = [entry for group in ("best", "median", "worst") for entry in report["ranked"][group]]
    assert len(entries) == 15
    for entry in entries:
        distances = [hit["distance"] for hit in entry["list"]]
        assert len(distances) == 10
        assert distances == sorted(distances)
        hits = [place for place, hit in enumerate(entry["list"], 1) if hit["match"]]
        assert hits[:1] == [rank for rank in [entry["first_match_rank"]] if rank <= 10]
    worst = report["ranked"]["worst"][0]["list"]
    scores = [hit["score"] for hit in worst]
    assert scores != sorted(scores, reverse=True)
    page = (tmp_path / "out" / "report.html").read_text()
    assert f'<span class="score">{worst[0]["distance"]:.3f}</span>' in page


def test_rounds_of_expansion_leave_no_scratch(capsys, galleries, tmp_path):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    flags = (*ALL_MODES, "--times", 3, "--scratch", scratch)
    report = result(capsys, "evaluate", *galleries, *flags)["report"]
    assert report["results"][3]["parameters"]["times"] == 3
    assert not list(scratch.iterdir())


@pytest.mark.parametrize(
    "flags",
    [
        (*ALL_MODES, "--rerank", "--k1", 6, "--k2", 3, "--camera-normalize", "mean"),
        SINGLE_SHOT,
        ("--no-open-set", "--no-camera-pairs", "--replicates", 0, "--workers", 0),
    ],
)
def test_reports_are_as_their_schema_says(capsys, galleries, flags):
    report = result(capsys, "evaluate", *galleries, *flags)["report"]
    assert faults(report) == []
    assert faults(json.loads((galleries[-1] / "report.json").read_text())) == []


def test_a_report_without_cameras_is_as_its_schema_says(capsys, made, tmp_path):
    place = tmp_path / "gallery"
    for n in range(6):
        (tmp_path / "source" / f"{n % 3}").mkdir(parents=True, exist_ok=True)
        save_crop(tmp_path / "source" / f"{n % 3}" / f"{n}.png", n)
    size = [*SIZE]
    size[size.index("market1501")] = "{identity}/{any}.png"
    flags = ("--gallery", place, "--model", made[1], *size)
    result(capsys, "extract", tmp_path / "source", *flags)
    flags = ("--query", place, "--gallery", place, "--out", tmp_path / "out", "--rerank")
    report = result(capsys, "evaluate", *flags)["report"]
    assert faults(report) == []
    assert [each["camera"] for each in report["results"][0]["query_cameras"]] == [None]


def test_an_interrupted_evaluation_folds_no_graph_again(capsys, galleries, tmp_path, monkeypatch):
    flags = ("--aqe", "joint", "--k", 5, "--rerank", "--scratch", tmp_path)
    whole = result(capsys, "evaluate", *galleries, *flags)["report"]
    with monkeypatch.context() as patch:
        patch.setattr(neighborhood, "count_reranked", crash)
        with pytest.raises(KeyboardInterrupt):
            evaluate(
                query=str(galleries[1]),
                gallery=(str(galleries[3]),),
                out=tmp_path / "cut off",
                expansion=ExpansionSettings(aqe=("joint",), k=5),
                reranking=RerankingSettings(rerank=True),
                on=FoldSettings(scratch=tmp_path),
            )
    assert not (tmp_path / "cut off").exists()
    assert len(list(tmp_path.glob("regallery-evaluate-*/0/graph/rows-*.parquet"))) == 1
    monkeypatch.setattr(neighbors, "_meet", crash)
    again = result(capsys, "evaluate", *galleries, *flags)["report"]
    assert figures(again) == figures(whole)
    assert not list(tmp_path.glob("regallery-*"))


def crash(*_, **__):
    raise KeyboardInterrupt


def test_a_missing_image_has_no_thumbnail_and_harms_nothing(capsys, made, galleries, tmp_path):
    folder, network = made
    source = tmp_path / "source"
    shutil.copytree(folder / "query-source", source)
    place = tmp_path / "query"
    result(capsys, "extract", source, "--gallery", place, "--model", network, *SIZE)
    shutil.rmtree(source)
    told = result(capsys, "evaluate", "--query", place, *galleries[2:])
    assert told["report"]["results"][0]["valid"] == 9


def make(capsys, made, folder, names, *flags):
    """A gallery of crops with these names."""
    for i, name in enumerate(names):
        save_crop(folder / "source" / name, i)
    arguments = ("--gallery", folder / "gallery", "--model", made[1], *SIZE, *flags)
    result(capsys, "extract", folder / "source", *arguments)
    return folder / "gallery"


def test_features_of_two_recipes_are_never_compared(capsys, made, galleries, tmp_path):
    flipped = make(capsys, made, tmp_path / "other", ["0001_c1s1_000001_00.png"], "--flip")
    line = refused(capsys, "evaluate", "--query", flipped, *galleries[2:])
    assert "features of two recipes are never compared" in line
    assert "flip: True here, False there" in line


def test_a_query_without_a_match_is_counted_and_left_out(capsys, made, galleries, tmp_path):
    names = ["0001_c1s1_000001_00.png", "0077_c1s1_000001_00.png", "-1_c1s1_000002_00.png"]
    queries = make(capsys, made, tmp_path / "queries", names)
    report = result(capsys, "evaluate", "--query", queries, *galleries[2:])["report"]
    first = report["results"][0]
    assert (first["queries"], first["valid"], first["invalid"]) == (3, 1, 2)


def test_a_gallery_with_one_camera_is_told(capsys, made, tmp_path):
    names = ["0001_c1s1_000001_00.png", "0002_c1s1_000001_00.png"]
    one = make(capsys, made, tmp_path / "one", names)
    line = refused(capsys, "evaluate", "--query", one, "--gallery", one, "--out", tmp_path / "out")
    assert "no query has a match" in line
    assert "has 1: 1" in line
    assert not (tmp_path / "out").exists()


def test_identities_that_do_not_meet_are_told(capsys, made, galleries, tmp_path):
    strangers = make(capsys, made, tmp_path / "strangers", ["0077_c1s1_000001_00.png"])
    assert "no identity of" in refused(capsys, "evaluate", "--query", strangers, *galleries[2:])


def test_galleries_without_identities_are_told(capsys, made, galleries, tmp_path):
    plain = list(SIZE)
    plain[plain.index("market1501")] = "none"
    save_crop(tmp_path / "source" / "a.png", 1)
    flags = ("--gallery", tmp_path / "plain", "--model", made[1], *plain)
    result(capsys, "extract", tmp_path / "source", *flags)
    line = refused(capsys, "evaluate", "--query", tmp_path / "plain", *galleries[2:])
    assert "has no identities, which an evaluation needs" in line
    assert "layout none" in line


def test_an_empty_gallery_is_told(capsys, made, galleries, tmp_path):
    line = refused(
        capsys, "evaluate", "--query", galleries[1], "--query-version", 0, *galleries[2:]
    )
    assert "has no row in version 0" in line


def test_versions_by_time(capsys, galleries):
    gallery = galleries[3]
    first, last = (each.timestamp for each in Gallery.open(str(gallery)).history())
    flags = ("evaluate", *galleries)
    report = result(capsys, *flags, "--query-at", "2999-01-01", "--gallery-at", last.isoformat())
    assert report["report"]["query"]["version"] == report["report"]["gallery"]["version"] == 1
    line = refused(capsys, *flags, "--gallery-at", first.isoformat())
    assert f"{gallery} has no row in version 0" in line
    assert "no version is as old as" in refused(capsys, *flags, "--query-at", "2001-01-01")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--k", 0), "k counts the row itself"),
        (("--alpha", -1), "alpha must be"),
        (("--gallery-block", 0), "--gallery-block must be at least 1"),
        (("--max-rank", 0), "--max-rank must be at least 1"),
        (("--replicates", -1), "replicates must be at least 1"),
        (("--level", 1), "a confidence level lies between 0 and 1"),
        (("--seed", -1), "a seed is at least 0"),
        (("--protocol", "duke"), "cuhk03"),
        (("--workers", -1), "--workers must be at least 0"),
        (("--memory", -1), "--memory must be above 0 GiB"),
        (("--num-gpus", -1), "--num-gpus -1: a worker has one GPU, or a share of one"),
        (("--num-gpus", 2), "--num-gpus 2: a worker has one GPU, or a share of one"),
        (("--num-gpus", "nan"), "--num-gpus nan: a worker has one GPU"),
        (("--aqe", "both"), "joint"),
        (("--rerank", "--k1", 0), "k1 must be at least 1"),
        (("--gallery-version", 99), "99"),
        (("--gallery-at", "noon"), "--gallery-at 'noon' is not a time"),
        (("--query-at", "2030-01-01", "--query-version", 1), "a version or a time, not both"),
        (("--scratch", "/no/such/folder"), "/no/such/folder"),
    ],
)
def test_wrong_flags_are_told(capsys, galleries, flags, message):
    line = refused(capsys, "evaluate", *galleries, "--aqe", "joint", *flags)
    assert message in line
    assert not galleries[-1].exists()


def test_a_gpu_that_is_not_there_is_told(capsys, galleries, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    line = refused(capsys, "evaluate", *galleries, "--aqe", "joint", "--num-gpus", 1)
    assert "--num-gpus 1: PyTorch finds no GPU on this machine" in line
    assert not galleries[-1].exists()


def test_a_short_gallery_cuts_the_curve_and_says_so(capsys, galleries):
    report = result(capsys, "evaluate", *galleries, "--max-rank", 500)["report"]
    assert report["results"][0]["cmc_cut"] == 62
    assert len(report["results"][0]["cmc"]) == 62


def test_the_products_are_told(evaluated):
    plain = evaluated()["products"]
    told = evaluated(*ALL_MODES)["products"]
    assert 0 < plain["floats"] < told["floats"]  # four ways to rank, and their neighbors
    assert 0 <= told["scored"] <= told["pairs"]
