"""The whole way by the command line with the galleries in an object store: results are those of
galleries on a disk.
"""

from importlib.resources import as_file, files

import pytest

from pipeline.archive.drawn.drawing import draw_archive
from pipeline.gallery.files.places import below, root_of
from pipeline.gallery.table import Gallery
from tests.jobs.running import refused, result

SIDES = {"query": "query", "gallery": "bounding_box_test"}
BESIDE = ("_delta_log", "_checksums", "_outputs", "_calibrations", "_lock")


@pytest.fixture(scope="module")
def crops(tmp_path_factory):
    """Drawn crops, fewer than the demo's."""
    folder = tmp_path_factory.mktemp("drawn")
    draw_archive(folder, identities=6, cameras=2, crops_per_camera=3, distractors=4, junk=2)
    return folder


def the_whole_way(capsys, crops, where, out):
    """What every verb says of galleries below `where`, without places, times and run ids."""
    query, gallery = (f"{where}/{side}" for side in SIDES)
    said = {}
    with as_file(files("jobs.demo_network") / "demo.onnx") as model:
        for side, folder in SIDES.items():
            command = ("extract", crops / folder, "--gallery", f"{where}/{side}")
            flags = ("--model", model, "--layout", "market1501", "--unit-size", 16, "--actors", 0)
            made = result(capsys, *command, *flags)
            said[side] = made["rows"], made["version"], made["rejects"]
            assert result(capsys, *command, *flags)["new"] == 0
        image = sorted((crops / "query").glob("*.jpg"))[0]
        hits = result(capsys, "search", image, "--gallery", gallery, "--model", model, "-k", 4)
        assert {hit["gallery"] for each in hits["results"] for hit in each["hits"]} == {gallery}
        said["hits"] = [[hit | {"gallery": ""} for hit in each["hits"]] for each in hits["results"]]
    report = ("evaluate", "--query", query, "--gallery", gallery, "--out", out / "report")
    figures = result(capsys, *report, "--aqe", "database", "--rerank", "--replicates", 50)
    wanted = ("name", "cmc", "mAP", "mAP_trapezoid", "mINP", "intervals")
    said["figures"] = [[each[n] for n in wanted] for each in figures["report"]["results"]]
    calibrated = ("calibrate", "--gallery", gallery, "--query", query, "--far", 0.1)
    said["threshold"] = result(capsys, *calibrated, "--replicates", 50)["threshold"]
    linked = ("link", "--gallery", gallery, "--out", out / "link.parquet", "--threshold", 0.8)
    found = result(capsys, *linked)
    said["groups"] = found["links"], found["candidates"], found["agreement"]
    result(capsys, "export", "--gallery", gallery, "--out", out / "export")
    said["export"] = (out / "export" / "features.npy").read_bytes()
    imported = ("import", out / "export" / "features.npy", "--format", "npy")
    said["imported"] = result(capsys, *imported, "--gallery", f"{where}/imported")["rows"]
    expand = ("expand", "--gallery", gallery, "--out", f"{where}/expanded", "-k", 3)
    said["expanded"] = result(capsys, *expand)["rows"]
    merged, parts = f"{where}/merged", f"{where}/parts"
    said["merged"] = result(capsys, "merge", query, gallery, "--out", merged)["rows"]
    said["parts"] = [
        each["rows"] for each in result(capsys, "split", merged, "--out", parts)["parts"]
    ]
    said["together"] = result(
        capsys, "link", query, gallery, "--out", out / "many.parquet", "--threshold", 0.8
    )["links"]
    result(capsys, "compact", "--gallery", gallery)
    erased = result(
        capsys, "erase", "--gallery", gallery, "--identity", 2, "--purge", "--everywhere", "--yes"
    )
    said["erased"] = erased["rows_erased"], erased["purged"]["rows_gone"]
    assert result(capsys, "verify", "--gallery", merged)["findings"] == []
    left = Gallery.open(merged).rows(["identity", "origin"]).to_pylist()
    assert {row["origin"] for row in left if row["identity"] == 2} == {query}
    result(capsys, "clean", "--gallery", gallery, "--keep", 1, "--yes")
    for name in ("query", "gallery", "imported", "expanded"):
        checked = result(capsys, "verify", "--gallery", f"{where}/{name}", "--all-versions")
        assert checked["findings"] == []
        held = Gallery.open(f"{where}/{name}")
        said[f"rows of {name}"] = held.rows().to_pylist(), held.array().tobytes()
    return said


def files_of(location):
    """The bytes of the files that do not depend on time or place."""
    root = root_of(location)
    found = {below(path, root): path for path in root.rglob("*") if path.is_file()}
    return {
        name: path.read_bytes()
        for name, path in found.items()
        if name.partition("/")[0] not in BESIDE
    }


@pytest.mark.slow
def test_all_verbs_say_the_same_of_a_gallery_in_a_store(capsys, crops, bucket, tmp_path):
    said = {}
    for name, where in (("disk", str(tmp_path / "galleries")), ("store", bucket)):
        (tmp_path / name).mkdir()
        said[name] = the_whole_way(capsys, crops, where, tmp_path / name)
    assert said["disk"].keys() == said["store"].keys()
    for key, value in said["disk"].items():
        assert said["store"][key] == value, key
    for side in SIDES:
        here, there = files_of(tmp_path / "galleries" / side), files_of(f"{bucket}/{side}")
        assert here == there and here


def test_a_url_with_a_password_is_refused_and_not_repeated(capsys):
    told = refused(capsys, "info", "--gallery", "s3://key:hunter2@bucket/g")
    assert "user or a password" in told and "hunter2" not in told
