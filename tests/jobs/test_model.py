"""The verb model: what a network is, and copies of it that are held against it."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.core import processor
from pipeline.core.processor import has_byte_products
from pipeline.model.copies.export import export_network
from pipeline.model.copies.int8 import quantize_network
from pipeline.model.networks import NetworkFile, default_recipe
from pipeline.model.recipe import load_recipe_fields
from pipeline.runs.model_copy import figures_of
from tests.jobs.running import refused, result, run
from tests.model.making import Pooled, inside, save_onnx, save_script, save_traced

SMALL = ("--height", 32, "--width", 16, "--batch-size", 4)
LABELED = ("--layout", "market1501")


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    return save_script(tmp_path_factory.mktemp("script") / "n.pt", Pooled().eval())


@pytest.fixture(scope="module")
def crops(tmp_path_factory):
    """Three folders of Market-1501 names: a sample, queries, and a gallery of the same people."""
    root = tmp_path_factory.mktemp("crops")
    rng = np.random.default_rng(0)
    people = {number: rng.integers(0, 256, (3,)) for number in range(1, 5)}

    def draw(folder, identity, camera, frame):
        noise = rng.integers(-40, 40, (40, 20, 3))
        pixels = np.clip(people[identity] + noise, 0, 255).astype(np.uint8)
        (root / folder).mkdir(exist_ok=True)
        name = f"{identity:04}_c{camera}s1_{frame:06}_00.png"
        Image.fromarray(pixels).save(root / folder / name)

    for identity in people:
        draw("query", identity, 1, 1)
        draw("gallery", identity, 2, 2)
        draw("gallery", identity, 3, 3)
        for frame in range(4, 7):
            draw("sample", identity, 1, frame)
    return root


def test_info_tells_what_the_network_is(capsys, script):
    told = result(capsys, "model", "info", script, *SMALL)
    recipe = default_recipe(NetworkFile(str(script)), {"height": 32, "width": 16})
    assert told["input"] == [32, 16]
    assert told["dimension"] == 8
    assert told["parameter_count"] == sum(each.numel() for each in Pooled().parameters())
    assert told["fingerprint"] == recipe.fingerprint
    assert {"torch", "onnxruntime", "openvino"} <= told["speeds"].keys()
    assert all(speed > 0 for speed in told["speeds"].values())
    quick = result(capsys, "model", "info", script, *SMALL, "--no-speed")
    assert quick["speeds"] == quick["not_measured"] == {}
    assert quick["int8_pays"] == has_byte_products()


@pytest.mark.parametrize(("bytes_", "said"), [(True, "pays here"), (False, "gains little here")])
def test_info_says_whether_int8_pays_here(capsys, script, monkeypatch, bytes_, said):
    monkeypatch.setattr(processor, "has_byte_products", lambda: bytes_)
    assert said in run(capsys, "model", "info", script, *SMALL, "--no-speed")[1]


def test_info_says_why_a_backend_cannot(capsys, tmp_path):
    network = save_onnx(tmp_path / "n.onnx")
    told = result(capsys, "model", "info", network, *SMALL)
    assert told["speeds"].keys() | told["not_measured"].keys() == {"onnxruntime", "openvino"}
    status, out, _ = run(capsys, "model", "info", network, *SMALL, "--no-speed")
    assert status == 0
    assert "3 dimensions" in out


def test_info_tells_where_every_field_of_the_recipe_is_from(capsys, tmp_path):
    class Prepared(Pooled):
        def forward(self, images):
            return super().forward((images - 123.7) / 58.4)

    network = save_traced(tmp_path / "n.pt", Prepared().eval())
    told = result(capsys, "model", "info", network, *SMALL, "--no-speed", "--flip")
    assert told["sources"] == {
        "height": "given", "width": "given", "channels": "assumed", "pixel_range": "the file",
        "mean": "the file", "std": "the file", "letterbox": "assumed", "filter": "assumed",
        "flip": "given", "scales": "default", "fusion": "default", "five_crops": "default",
        "output": "default", "stretch": "default",
    }  # fmt: skip
    assert told["recipe"]["pixel_range"] == 255
    assert told["unread"] is None
    _, out, _ = run(capsys, "model", "info", network, *SMALL, "--no-speed")
    assert "rgb  (assumed: nothing in the file says so)" in out
    assert "255  (from the file)" in out
    assert "the network begins with (x - 123.7) / 58.4: it prepares its input by itself" in out


@pytest.mark.slow
def test_a_real_network_with_its_preprocessing_inside_keeps_its_accuracy(
    capsys, osnet, pedestrians, tmp_path
):
    """On every third crop of both sides."""
    for side in ("query", "bounding_box_test"):
        (tmp_path / side).mkdir()
        for crop in sorted((pedestrians / side).iterdir())[::3]:
            (tmp_path / side / crop.name).symlink_to(crop)
    network = inside(osnet, tmp_path / "pre_inside.onnx")
    told = result(
        capsys, "model", "export", network, "--to", "openvino", "--out", tmp_path / "n.xml",
        "--query", tmp_path / "query", "--gallery", tmp_path / "bounding_box_test",
        "--layout", "market1501",
    )  # fmt: skip
    # As without its preprocessing inside. Normalized twice, mAP of all crops would be 0.223.
    assert told["accuracy"]["source"]["mAP"] == pytest.approx(0.6774, abs=3e-3)
    assert told["accuracy"]["source"]["rank-1"] == pytest.approx(0.8095, abs=5e-2)
    assert told["accuracy"]["copy"]["mAP"] == pytest.approx(0.6774, abs=3e-3)


def test_info_of_several_outputs_takes_the_named_one(capsys, tmp_path):
    network = save_onnx(tmp_path / "n.onnx", outputs=("feature", "raised"))
    assert "name the feature as" in refused(capsys, "model", "info", network, *SMALL)
    told = result(capsys, "model", "info", network, *SMALL, "--output", "raised", "--no-speed")
    assert (told["dimension"], told["recipe"]["output"]) == (3, "raised")
    out = tmp_path / "copy.xml"
    flags = ("--output", "raised", "--to", "openvino", "--out", out)
    told = result(capsys, "model", "export", network, *SMALL, *flags)
    assert load_recipe_fields(told["recipe_file"])["output"] == "raised"


def test_info_refuses_a_network_that_mixes_its_batch(capsys, tmp_path):
    network = save_traced(tmp_path / "n.pt", Pooled().train())
    message = refused(capsys, "model", "info", network, *SMALL)
    assert "depends on the rest of its batch" in message


def test_export_is_held_against_its_source(capsys, script, tmp_path):
    out = tmp_path / "copy.onnx"
    told = result(capsys, "model", "export", script, *SMALL, "--to", "onnx", "--out", out)
    assert told["deviation"] < 1e-6
    assert told["crops"] > 4
    assert told["file_bytes"] == out.stat().st_size
    fields = load_recipe_fields(told["recipe_file"])
    assert default_recipe(NetworkFile(str(out)), fields).fingerprint == told["fingerprint"]
    assert told["fingerprint"] != told["source_fingerprint"]
    assert {each.name for each in tmp_path.iterdir()} == {"copy.onnx", "copy.toml"}


def test_export_names_what_was_typed_and_no_folder_of_its_own(
    capsys, script, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    flags = ("--to", "onnx", "--out", "copy.onnx")
    status, out, err = run(capsys, "model", "export", script, *SMALL, *flags)
    assert (status, err) == (0, "")
    assert "copy.onnx," in out
    assert str(tmp_path) not in out


def test_a_copy_with_other_features_is_refused_and_leaves_nothing(
    capsys, monkeypatch, script, tmp_path, crops
):
    def of_another(file, *rest):
        export_network(
            NetworkFile(str(save_script(tmp_path / "o.pt", Pooled(seed=1).eval()))), *rest
        )

    monkeypatch.setattr("pipeline.runs.model_copy.export_network", of_another)
    (tmp_path / "out").mkdir()
    flags = ("--to", "onnx", "--out", tmp_path / "out" / "copy.onnx", "--sample", crops / "sample")
    message = refused(capsys, "model", "export", script, *SMALL, *flags)
    assert "in cosine distance, and 1e-04 is allowed; nothing was written" in message
    assert not [*(tmp_path / "out").iterdir()]


def test_int8_tells_what_it_costs(capsys, script, tmp_path, crops):
    out = tmp_path / "n8.xml"
    told = result(
        capsys, "model", "export", script, *SMALL, "--to", "openvino", "--out", out,
        "--quantize", "int8", "--sample", crops / "sample", "--query", crops / "query",
        "--gallery", crops / "gallery", "--layout", "market1501", "--sample-size", 9,
    )  # fmt: skip
    assert told["quantized"]
    assert told["crops"] == 9
    assert 1e-8 < told["deviation"] < 1e-2
    assert told["accuracy"]["source"]["rank-1"] == 1
    assert abs(told["accuracy"]["copy"]["mAP"] - told["accuracy"]["source"]["mAP"]) < 0.2
    assert told["speeds"].keys() == {"source", "copy"}
    assert told["queries"] == 4
    for name, (low, high) in told["differences"].items():
        gained = told["accuracy"]["copy"][name] - told["accuracy"]["source"][name]
        assert low <= gained <= high
    assert {each.name for each in tmp_path.iterdir()} == {"n8.xml", "n8.bin", "n8.toml"}


def test_an_int8_copy_that_is_too_far_off_is_refused(capsys, monkeypatch, script, tmp_path, crops):
    def of_another(path, out, batches):
        other = NetworkFile(str(save_script(tmp_path / "o.pt", Pooled(seed=1).eval())))
        export_network(other, (32, 16), "onnx", tmp_path / "o.onnx")
        quantize_network(tmp_path / "o.onnx", out, batches)

    monkeypatch.setattr("pipeline.runs.model_copy.int8.quantize_network", of_another)
    (tmp_path / "out").mkdir()
    message = refused(
        capsys, "model", "export", script, *SMALL, "--to", "onnx", "--out",
        tmp_path / "out" / "n8.onnx", "--quantize", "int8", "--sample", crops / "sample",
    )  # fmt: skip
    assert "as onnx in int8 its features differ by" in message
    assert "in cosine distance, and 1e-01 is allowed (a larger --sample of typical crops" in message
    assert not [*(tmp_path / "out").iterdir()]


def test_differences_of_accuracy_come_with_their_interval(capsys, script, tmp_path, crops):
    flags = ("--to", "onnx", "--out", tmp_path / "o.onnx")
    sides = ("--query", crops / "query", "--gallery", crops / "gallery", *LABELED)
    status, out, _ = run(capsys, "model", "export", script, *SMALL, *flags, *sides)
    assert status == 0
    told = " ".join(out.split())
    ends = "95 % interval +0.00 to +0.00, which includes zero: may be chance"
    assert f"rank-1 100.00 (+0.00, {ends}), on 4 queries" in told


def test_intervals_are_of_what_each_query_gains():
    source = np.array([[0.5, 0.5, 1.0, 0.25], [0, 1, 1, 0]])
    better = source + np.array([[0.25], [0]])
    told = figures_of({"source": source, "copy": better})
    assert told["differences"] == {"mAP": (0.25, 0.25), "rank-1": (0.0, 0.0)}
    assert told["accuracy"]["copy"]["mAP"] == pytest.approx(0.8125)
    mixed = figures_of({"source": source, "copy": source[:, ::-1]})
    low, high = mixed["differences"]["mAP"]
    assert low < 0 < high
    assert figures_of(None) == {"accuracy": None, "differences": None, "queries": 0}


def test_a_sample_that_is_evaluated_too_is_refused(capsys, script, tmp_path, crops):
    listed = tmp_path / "mixed.csv"
    first = sorted((crops / "gallery").iterdir())[0]
    listed.write_text(f"path\n{first}\n{sorted((crops / 'sample').iterdir())[0]}\n")
    message = refused(
        capsys, "model", "export", script, *SMALL, "--to", "onnx", "--out", tmp_path / "o.onnx",
        "--quantize", "int8", "--sample", listed, "--query", crops / "query",
        "--gallery", crops / "gallery", *LABELED,
    )  # fmt: skip
    assert f"1 of its crops are evaluated too, as {first}" in message


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ((), "an export needs --to (onnx, openvino or torchscript) and --out"),
        (("--to", "onnx", "--out", "o.pt"), "--to onnx writes .onnx files"),
        (("--to", "onnx", "--out", "no/such/o.onnx"), "no/such does not exist; create it first"),
        (
            ("--to", "torchscript", "--out", "o.pt", "--quantize", "int8"),
            "--quantize int8 writes onnx or openvino, not torchscript",
        ),
        (("--to", "onnx", "--out", "o.onnx", "--quantize", "int8"), "int8 needs --sample"),
        (
            ("--to", "int8", "--out", "o.onnx"),
            "give --quantize int8 together with --to onnx or",
        ),
        (("--to", "onnx", "--out", "o.onnx", "--query", "q"), "--query and --gallery go together"),
        (("--to", "onnx", "--out", "o.onnx", "--sample-size", "0"), "--sample-size must be at lea"),
        (("--to", "onnx", "--out", "o.onnx", "--batch-size", "0"), "--batch-size must be at leas"),
        (("--to", "onnx", "--out", "o.onnx", "--num-cpus", "0"), "--num-cpus must be at least 1"),
    ],
)
def test_flags_that_do_not_go_together_are_told(capsys, script, flags, told):
    assert told in refused(capsys, "model", "export", script, *flags)


def test_flags_of_export_are_refused_with_info(capsys, script):
    assert "--to is a flag of model export" in refused(
        capsys, "model", "info", script, "--to", "onnx"
    )
    assert "no such file" in refused(capsys, "model", "info", "absent.onnx")


def test_samples_that_cannot_be_read_are_told(capsys, script, tmp_path, crops):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "0001_c1s1_000001_00.jpg").write_bytes(b"\xff\xd8\xff no picture")
    flags = ("--to", "onnx", "--out", tmp_path / "o.onnx")
    sample = ("--sample", tmp_path / "bad")
    message = refused(capsys, "model", "export", script, *SMALL, *flags, *sample)
    assert "none of its images can be decoded" in message
    sides = ("--query", tmp_path / "bad", "--gallery", crops / "gallery", *LABELED)
    assert "000001_00.jpg: " in refused(capsys, "model", "export", script, *SMALL, *flags, *sides)
    alone = ("--query", crops / "query", "--gallery", crops / "query")
    message = refused(capsys, "model", "export", script, *SMALL, *flags, *alone, *LABELED)
    assert "no query has a match by another camera" in message
    message = refused(capsys, "model", "export", script, *SMALL, *flags, *alone)
    assert "--query and --gallery need a --layout that reads identities" in message


def test_config_and_json_name_the_action(capsys, script, tmp_path):
    config = tmp_path / "run.toml"
    config.write_text("[model]\nheight = 32\nwidth = 16\nspeed = false\n")
    status, out, _ = run(capsys, "model", "info", script, "--config", config, "--json")
    assert status == 0
    assert json.loads(out)["input"] == [32, 16]
    assert Path(json.loads(out)["model"]) == script
