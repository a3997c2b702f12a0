import json
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from jobs import demo_network
from pipeline.gallery.table import Gallery
from pipeline.model.feature_models import FileModel
from pipeline.model.networks import NetworkFile, default_recipe
from tests.jobs.killing import start
from tests.jobs.running import refused, result, run
from tests.stages.making import save_crop, save_source

ROOT = Path(__file__).parents[2]
DEMO = Path(demo_network.__file__).with_name("demo.onnx")


@pytest.fixture
def source(tmp_path):
    return save_source(tmp_path / "source", 40)


def table(command):
    """Rows and features of the gallery that a command made."""
    gallery = Gallery.open(str(command[3]))
    return gallery.rows().to_pylist(), gallery.features().read(0, gallery.count)


def test_a_gallery_is_made(capsys, command, source):
    told = result(capsys, *command)
    assert (told["images"], told["new"], told["rows"], told["version"]) == (40, 40, 40, 1)
    rows, features = table(command)
    assert [row["path"] for row in rows] == sorted(each.name for each in source.iterdir())
    assert features.shape == (40, 8)


def test_a_second_run_does_nothing(capsys, command, monkeypatch):
    result(capsys, *command)

    def never(*_):
        raise AssertionError("the network was loaded")

    monkeypatch.setattr("pipeline.model.extractor.Extractor.__init__", never)
    told = result(capsys, *command)
    assert (told["new"], told["unchanged"], told["version"], told["units"]) == (0, 40, 1, 0)


def test_files_of_too_many_bytes_are_rejects(capsys, command, source):
    sizes = sorted(each.stat().st_size for each in source.iterdir())
    flags = ("--max-bytes", sizes[-2], "--verify")
    told = result(capsys, *command, *flags)
    assert told["rejects"] == {"too-large": 1}
    again = result(capsys, *command, *flags)
    assert (again["version"], again["changed"]) == (told["version"], 0)


def test_new_and_changed_images_are_brought_in_and_gone_ones_told(capsys, command, source):
    result(capsys, *command)
    before, _ = table(command)
    names = sorted(source.iterdir())
    save_crop(source / "0099_c1s1_000099_00.png", 99)
    save_crop(names[3], 1000)
    os.utime(names[3], (1, 1))
    names[5].unlink()
    (source / "notes.txt").write_text("no image")
    told = result(capsys, *command)
    found = {name: told[name] for name in ("new", "changed", "unchanged", "missing", "rows")}
    assert found == {"new": 1, "changed": 1, "unchanged": 38, "missing": 1, "rows": 41}
    assert told["skipped"] == {".txt": 1}
    after, features = table(command)
    kept = {row["path"]: row["row_id"] for row in before if row["path"] != names[3].name}
    assert {row["path"]: row["row_id"] for row in after if row["row_id"] < 40} == kept
    assert sorted(row["row_id"] for row in after)[-2:] == [40, 41]
    assert len(features) == 41


def test_rejects_are_counted_and_not_tried_again(capsys, command, source):
    (source / "0001_c1s1_000900_00.jpg").write_bytes(b"no picture")
    (source / "0001_c1s1_000901_00.jpg").write_bytes(b"")
    told = result(capsys, *command)
    assert told["rejects"] == {"empty": 1, "not-an-image": 1}
    assert told["rows"] + sum(told["rejects"].values()) == 42
    again = result(capsys, *command)
    assert (again["new"], again["version"], again["rejects"]) == (0, 1, told["rejects"])
    save_crop(source / "0001_c1s1_000901_00.jpg", 7)
    mended = result(capsys, *command)
    assert (mended["new"], mended["rows"], mended["rejects"]) == (1, 41, {"not-an-image": 1})


def test_a_rotten_source_stops_the_run_and_keeps_what_is_done(capsys, command, source):
    for i in range(20):
        (source / f"0009_c1s1_{i:06d}_00.jpg").write_bytes(b"no picture")
    line = refused(capsys, *command, "--unit-size", 8, status=1)
    assert "inputs were rejected so far; the limit is 10 (--max-rejects)" in line
    assert "not-an-image" in line
    assert "--max-rejects" in line
    assert Gallery.open(str(command[3])).count == 0
    for _ in range(3):  # however often, the same command does not slip past its own limit
        assert "the limit is 10" in refused(capsys, *command, "--unit-size", 8, status=1)
    told = result(capsys, *command, "--unit-size", 8, "--max-rejects", 1)
    assert (told["rows"], told["rejects"]) == (40, {"not-an-image": 20})
    assert told["units_resumed"] > 0


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--height", 48), "another recipe (height: 32 here, 48 there)"),
        (("--flip",), "another recipe (flip: False here, True there)"),
        (("--layout", "none"), "made with the layout market1501, not none"),
        (("--storage", "float16"), "stores float32, not float16"),
        (("--precision", "bfloat16"), "made with the precision float32, not bfloat16"),
    ],
)
def test_what_does_not_fit_the_gallery_is_refused(capsys, command, flags, message):
    result(capsys, *command)
    names = [flag for flag in flags if str(flag).startswith("--")]
    kept = list(command)
    for name in names:
        if name in kept:
            del kept[kept.index(name) : kept.index(name) + 2]
    assert message in refused(capsys, *kept, *flags)


def test_another_source_is_refused(capsys, command, tmp_path):
    result(capsys, *command)
    other = save_source(tmp_path / "other", 3)
    line = refused(capsys, command[0], other, *command[2:])
    assert f"holds the images of {command[1]}" in line


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--max-rejects", 2), "--max-rejects must be a share from 0 to 1, not 2"),
        (("--max-bytes", 0), "--max-bytes must be at least 1, not 0"),
        (("--unit-size", 0), "a work unit holds 1 to 2048 images, not 0"),
        (("--max-missing", -0.1), "--max-missing must be a share from 0 to 1, not -0.1"),
        (("--batch-size", 0), "--batch-size must be at least 1"),
        (("--max-pixels", 0), "--max-pixels must be at least 1"),
        (("--std", 0, 1, 1), "std"),
    ],
)
def test_wrong_flags_are_told_before_anything_is_written(capsys, command, flags, message):
    assert message in refused(capsys, *command, *flags)
    assert not (Path(command[3]) / "_delta_log").exists()


def test_float16_features_come_back_at_unit_length(capsys, command):
    result(capsys, *command, "--storage", "float16")
    _, features = table(command)
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, atol=1e-6)


def test_an_interrupted_run_goes_on_to_the_same_bytes(capsys, command, source, tmp_path):
    result(capsys, *command, "--unit-size", 3)
    whole = table(command)
    second = (*command[:3], tmp_path / "killed", *command[4:], "--unit-size", 3)
    for runs, delay in enumerate((0, 0.01, 0.03, 0)):
        process = start(*second)
        wait_for_units(tmp_path / "killed", 3 * runs, process)
        time.sleep(delay)
        process.kill()
        process.join()
    told = result(capsys, *second)
    assert told["units_resumed"] > 0 or told["version"] == 1
    assert told["rows"] == 40
    rows, features = table(second)
    assert rows == whole[0]
    assert features.tobytes() == whole[1].tobytes()
    assert not list((tmp_path / "killed" / "_units").iterdir())


def wait_for_units(folder, count, process):
    """Wait until a run has finished so many units, or is done."""
    while process.is_alive() and len(list(folder.glob("0*.parquet"))) < count:
        time.sleep(0.01)


def test_images_that_come_between_two_runs_do_not_cost_what_is_done(capsys, command, source):
    for i in range(20):
        (source / f"0009_c1s1_{i:06d}_00.jpg").write_bytes(b"no picture")
    run(capsys, *command, "--unit-size", 8)
    save_crop(source / "0000_c1s1_000000_00.png", 5)
    told = result(capsys, *command, "--unit-size", 8, "--max-rejects", 1)
    assert told["units_resumed"] >= 5
    assert told["rows"] == 41


def test_ray_client_addresses_are_refused(capsys, command):
    on_ray = command[: command.index("--actors")]
    line = refused(capsys, *on_ray, "--address", "ray://127.0.0.1:10001")
    assert "Ray Data does not run over ray://" in line


@pytest.mark.ray
def test_what_the_machine_has_not_is_refused_before_anything_is_written(capsys, command, cluster):
    on_ray = command[: command.index("--actors")]
    assert "--actors" in refused(capsys, *on_ray, "--actors", 10_000)
    assert "--num-gpus" in refused(capsys, *on_ray, "--num-gpus", 3)
    assert not Path(command[3]).exists()


def test_a_flipped_bit_of_a_feature_is_told_by_name(capsys, command, tmp_path):
    result(capsys, *command)
    (file,) = Path(command[3]).glob("0*.parquet")
    data = bytearray(file.read_bytes())
    feature = Gallery.open(str(command[3])).features().read(7, 8).tobytes()
    data[data.index(feature) + 3] ^= 0x80  # a sign: the length stays as it was
    file.write_bytes(data)
    arguments = ("--gallery", command[3], "--out", tmp_path / "out")
    for verb in (("export",), ("evaluate", "--query", command[3])):
        assert file.name in refused(capsys, *verb, *arguments, status=1)


WITHOUT_TORCH = """
import sys
from jobs.cli import main
status = main(sys.argv[1:])
sys.exit("torch was loaded" if "torch" in sys.modules else status)
"""

WORKER_WITHOUT_TORCH = """
import pickle, sys
import numpy as np
import pipeline.stages.extract_on_ray
loaded = pickle.loads(bytes.fromhex(sys.argv[1])).load(batch_size=2)
(features,) = loaded.over([[np.zeros((30, 15, 3), np.uint8)]])
assert features.shape == (1, loaded.dimension)
sys.exit("torch was loaded" if "torch" in sys.modules else 0)
"""


def python(script, *arguments):
    line = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True)


def test_an_onnx_network_runs_without_torch(tmp_path, source):
    """torch takes longer to load than all the rest of a small extraction, in every process."""
    made = ("extract", source, "--gallery", tmp_path / "g", "--model", DEMO, "--actors", 0)
    done = python(WITHOUT_TORCH, *made, "--layout", "market1501", "--flip")
    assert done.returncode == 0, done.stderr
    assert Gallery.open(str(tmp_path / "g")).count == 40
    asked = next(path for path in sorted(source.rglob("*.*")) if path.is_file())
    found = python(
        WITHOUT_TORCH, "search", asked, "--gallery", tmp_path / "g", "--model", DEMO, "--json"
    )
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout)["results"][0]["hits"][0]["score"] == pytest.approx(1)


def test_a_worker_with_an_onnx_network_loads_no_torch():
    network = NetworkFile(str(DEMO))
    model = FileModel(network, default_recipe(network))
    done = python(WORKER_WITHOUT_TORCH, pickle.dumps(model).hex())
    assert done.returncode == 0, done.stderr
