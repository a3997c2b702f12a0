"""Networks and recipes that are given by URLs."""

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

from jobs import demo_network
from pipeline.errors import InputError
from pipeline.fetched_files import cache_folder
from pipeline.gallery.files.places import root_of
from pipeline.model.feature_models import FileModel
from pipeline.model.fetched_networks import network_file
from pipeline.model.kinds import check_network_file
from pipeline.model.networks import NetworkFile, default_recipe
from pipeline.model.recipe import load_recipe_fields
from pipeline.model.trainable import TrainableFile, weights_bytes
from tests.jobs.running import SIZE, refused, result
from tests.model.making import crops, save_ir, save_onnx
from tests.stages.making import save_source


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """The cache of this machine, empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def upload(bucket, *paths):
    """The URL of the first file; the others lie beside it."""
    for path in paths:
        (root_of(bucket) / path.name).write_bytes(path.read_bytes())
    return f"{bucket}/{paths[0].name}"


def test_a_network_comes_with_its_files_and_is_the_same(bucket, tmp_path):
    onnx = save_onnx(tmp_path / "n.onnx", external="n.weights")
    ir = save_ir(tmp_path / "n.xml")
    for paths in ((onnx, tmp_path / "n.weights"), (ir, tmp_path / "n.bin")):
        url = upload(bucket, *paths)
        check_network_file(url)
        network = network_file(url)
        assert network.weights_hash() == NetworkFile(str(paths[0])).weights_hash()
        assert network.given == (url, None)
        assert network.path.startswith(str(cache_folder()))
    assert network_file(str(ir)) == NetworkFile(str(ir))


def test_a_checkpoint_may_be_a_url_with_a_part(bucket, tmp_path):
    (tmp_path / "w.pth").write_bytes(b"weights")
    url = upload(bucket, tmp_path / "w.pth")
    network = network_file("osnet_x0_25", f"{url}#state_dict_ema")
    assert network.checkpoint.endswith("w.pth#state_dict_ema")
    assert network.given == ("osnet_x0_25", f"{url}#state_dict_ema")
    shutil.rmtree(cache_folder())
    here = network.here()
    assert here == network and here.weights_hash() == network.weights_hash()
    assert network_file("osnet_x0_25", url).given == ("osnet_x0_25", url)


def test_workers_on_other_machines_fetch_their_own_copy(bucket, tmp_path, monkeypatch):
    network = network_file(upload(bucket, save_onnx(tmp_path / "n.onnx")))
    model = FileModel(network, default_recipe(network, {"height": 16, "width": 8}))
    sent = pickle.dumps(model)
    batches = [crops(3)]
    here = [each.tolist() for each in model.load().over(batches)]
    shutil.rmtree(cache_folder())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another machine"))
    there = pickle.loads(sent).load()
    assert [each.tolist() for each in there.over(batches)] == here
    assert len(list(cache_folder().glob("*/n.onnx"))) == 1
    assert np.isfinite(here).all()


def test_workers_on_other_machines_train_their_own_copy(bucket, tmp_path, monkeypatch):
    weights = Path(demo_network.__file__).with_name("demo.safetensors")
    network = TrainableFile(network_file("demo", upload(bucket, weights)))
    sent, here = pickle.dumps(network), weights_bytes(network.module())
    shutil.rmtree(cache_folder())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another machine"))
    there = pickle.loads(sent)
    assert there.recipe() == network.recipe()
    assert weights_bytes(there.module()) == here
    assert there.model().network.given == ("demo", f"{bucket}/demo.safetensors")


def test_what_is_not_a_network_is_told_by_its_url(bucket, tmp_path):
    (tmp_path / "page.onnx").write_text("<!doctype html>")
    with pytest.raises(InputError, match=rf"^{bucket}/page.onnx: is an HTML page"):
        network_file(upload(bucket, tmp_path / "page.onnx"))
    path = save_onnx(tmp_path / "n.onnx", external="abcdefghi")
    path.write_bytes(path.read_bytes().replace(b"abcdefghi", b"../secret"))
    with pytest.raises(InputError, match=rf"^{bucket}/n.onnx: names weights outside its own"):
        network_file(upload(bucket, path))
    with pytest.raises(InputError, match=rf"{bucket}/m.bin: the object does not exist"):
        network_file(upload(bucket, save_ir(tmp_path / "m.xml")))
    with pytest.raises(InputError, match="holds its own weights"):
        network_file(f"{bucket}/n.onnx", "w.pth")
    for url in ("https://host/n.onnx", "s3://key:hunter2@bucket/n.onnx", "s3://b/n.onnx?sig=x"):
        with pytest.raises(InputError) as error:
            check_network_file(url)
        assert "hunter2" not in str(error.value) and "sig" not in str(error.value)


def test_every_command_takes_urls(bucket, tmp_path, capsys):
    source, local = save_source(tmp_path / "source", 4), save_onnx(tmp_path / "n.onnx")
    (tmp_path / "r.toml").write_text("flip = true\n")
    model, recipe = upload(bucket, local), upload(bucket, tmp_path / "r.toml")
    assert load_recipe_fields(recipe) == {"flip": True}
    sizes = SIZE[:4]
    given = ("--model", model, "--recipe", recipe)
    made = [
        result(capsys, "extract", source, "--gallery", tmp_path / name, *flags, *SIZE)
        for name, flags in (
            ("url", given),
            ("path", ("--model", local, "--recipe", tmp_path / "r.toml")),
        )
    ]
    assert made[0]["fingerprint"] == made[1]["fingerprint"] and made[0]["rows"] == 4
    image = next(source.glob("*.png"))
    found = result(capsys, "search", image, "--gallery", tmp_path / "url", "--model", model)
    assert found["results"][0]["hits"][0]["path"] == image.name
    about = result(capsys, "model", "info", model, "--no-speed", "--recipe", recipe, *sizes)
    assert (about["model"], about["fingerprint"]) == (model, made[0]["fingerprint"])
    again = ("re-extract", tmp_path / "url", "--out", tmp_path / "again", "--actors", 0, *sizes)
    assert result(capsys, *again, *given)["fingerprint"] == made[0]["fingerprint"]
    missing = ("extract", source, "--gallery", tmp_path / "none", "--model", f"{bucket}/none.onnx")
    assert f"{bucket}/none.onnx: the object does not exist" in refused(capsys, *missing, *SIZE)
    flags = ("--model", model, "--recipe", f"{bucket}/none.toml", *SIZE)
    assert "none.toml: the object does not exist" in refused(capsys, *missing[:4], *flags)
