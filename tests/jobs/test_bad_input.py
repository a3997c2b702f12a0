"""What users get wrong: told in a line or as a reject with its reason, never as a traceback."""

import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.model.architectures.torchvision_models import models
from tests.jobs.running import SIZE, refused, result
from tests.stages.making import save_crop, save_network, save_source


@pytest.fixture
def network(tmp_path):
    return save_network(tmp_path).path


def extracting(source, tmp_path, model, *flags):
    return ("extract", source, "--gallery", tmp_path / "gallery", "--model", model, *SIZE, *flags)


def test_a_missing_folder(capsys, tmp_path, network):
    line = refused(capsys, *extracting(tmp_path / "nowhere", tmp_path, network))
    assert str(tmp_path / "nowhere") in line
    assert not (tmp_path / "gallery").exists()


def test_an_empty_folder(capsys, tmp_path, network):
    (tmp_path / "source").mkdir()
    line = refused(capsys, *extracting(tmp_path / "source", tmp_path, network))
    assert "no image in" in line
    assert not (tmp_path / "gallery").exists()


def png(width, height, depth=8, color=2):
    """A PNG whose header promises what the file does not hold."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    pixels = zlib.compress(bytes(1000))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


def test_bad_images_become_rejects_and_odd_ones_rows(capsys, tmp_path, network):
    source = tmp_path / "source"
    source.mkdir()

    def name(number, suffix):
        return source / f"0001_c1s1_{number:06d}_00{suffix}"

    pixels = np.random.default_rng(0).integers(0, 256, (40, 20, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels)
    picture.save(name(1, ".jpg"))
    whole = name(1, ".jpg").read_bytes()
    name(2, ".jpg").write_bytes(whole[: len(whole) // 2])
    name(3, ".jpg").write_bytes(b"")
    name(4, ".jpg").write_text("this is a text file")
    name(5, ".png").write_bytes(png(30_000, 30_000))
    Image.fromarray(pixels[:, :, 0].astype(np.uint16) * 256).save(name(6, ".png"))
    picture.convert("CMYK").save(name(7, ".jpg"))
    picture.convert("RGBA").save(name(8, ".png"))
    picture.convert("P").save(name(9, ".png"))
    picture.convert("L").save(name(10, ".jpg"))
    (source / "holiday.jpg").write_bytes(whole)
    told = result(capsys, *extracting(source, tmp_path, network))
    assert told["rejects"] == {
        "truncated": 1, "empty": 1, "not-an-image": 1, "too-large": 1, "no-layout": 1,
    }  # fmt: skip
    assert told["rows"] == 6


def test_names_that_fit_no_layout_at_all(capsys, tmp_path, network):
    for i in range(3):
        save_crop(tmp_path / "source" / f"holiday{i}.png", i)
    line = refused(capsys, *extracting(tmp_path / "source", tmp_path, network))
    assert "fits layout market1501, which expects" in line
    assert "holiday0.png" in line


def test_too_many_names_that_fit_no_layout(capsys, tmp_path, network):
    source = save_source(tmp_path / "source", 5)
    for i in range(11):
        save_crop(source / f"holiday{i:02}.png", i)
    line = refused(capsys, *extracting(source, tmp_path, network))
    assert "11 of 16 inputs" in line
    assert "no-layout 11" in line
    assert not (tmp_path / "gallery").exists()


def test_a_checkpoint_that_does_not_fit_its_network(capsys, tmp_path):
    source = save_source(tmp_path / "source", 2)
    state = models.resnet18().state_dict()
    state["layer1.0.conv1.weight"] = torch.zeros(3, 3)
    state["stranger"] = torch.zeros(1)
    del state["bn1.bias"]
    torch.save(state, tmp_path / "wrong.pth")
    flags = ("--checkpoint", tmp_path / "wrong.pth")
    line = refused(capsys, *extracting(source, tmp_path, "torchvision:resnet18", *flags))
    for part in ("wrong.pth", "stranger", "bn1.bias", "layer1.0.conv1.weight"):
        assert part in line
    assert not (tmp_path / "gallery").exists()


def test_a_network_that_yields_nan(capsys, tmp_path, network):
    source = tmp_path / "source"
    source.mkdir()
    for i in range(12):  # all white, for which the network gives NaN
        Image.new("RGB", (16, 32), "white").save(source / f"0001_c1s1_{i:06d}_00.png")
    line = refused(capsys, *extracting(source, tmp_path, network), status=1)
    assert "bad-feature" in line
    assert "NaN" in line


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("nowhere.onnx", "nowhere.onnx: no such file"),
        ("torchvision:resnet18", "needs a checkpoint"),
        ("torchvision:resnet0", "resnet0"),
    ],
)
def test_a_model_that_is_none(capsys, tmp_path, model, message):
    source = save_source(tmp_path / "source", 2)
    assert message in refused(capsys, *extracting(source, tmp_path, model))
    assert not (tmp_path / "gallery").exists()


def test_a_folder_that_is_no_gallery(capsys, tmp_path, network):
    source = save_source(tmp_path / "source", 2)
    assert "holds other files" in refused(
        capsys, "extract", source, "--gallery", source, "--model", network, *SIZE
    )
    assert "error" in refused(capsys, "info", "--gallery", source)
    assert "error" in refused(capsys, "export", "--gallery", source, "--out", tmp_path / "out")
