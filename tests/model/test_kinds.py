"""Telling what a file is by its content."""

import pickle
import re
import zipfile
from pathlib import Path

import pytest
import torch
import torchvision

from pipeline.errors import InputError
from pipeline.model.architectures.osnet import OsNet
from pipeline.model.architectures.reading import read_weights
from pipeline.model.kinds import check_network_file, network_kind
from pipeline.model.networks import NetworkFile
from tests.model.making import Pooled, save_export, save_ir, save_onnx, save_script


def test_kind_is_told_by_content_whatever_the_name(tmp_path: Path) -> None:
    made = {
        "onnx": save_onnx(tmp_path / "a.onnx"),
        "openvino": save_ir(tmp_path / "b.xml"),
        "torchscript": save_script(tmp_path / "c.pt", Pooled()),
        "export": save_export(tmp_path / "d.pt2", Pooled().eval()),
    }
    for kind, path in made.items():
        assert network_kind(str(path)) == kind
        renamed = path.rename(tmp_path / f"{kind}.weights")
        assert network_kind(str(renamed)) == kind


def test_real_networks(osnet: Path, retail: Path) -> None:
    assert network_kind(str(osnet)) == "onnx"
    assert network_kind(str(retail)) == "openvino"


def test_ir_after_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "net.xml"
    path.write_bytes(b"\xef\xbb\xbf\n<net name='a' version='11'>")
    assert network_kind(str(path)) == "openvino"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "the file is empty"),
        (b"\x08\x07", "holds 2 bytes only"),
        (b"\xff\xd8\xff\xe0 a JPEG file", "this is not a network file"),
        (b"\x08\x00 something else", "this is not a network file"),
        (b"PK\x03\x04 cut short", "damaged or cut short"),
        (pickle.dumps({"weights": [1, 2, 3]}), "weights without a network"),
        ((64).to_bytes(8, "little") + b'{"a":{}}', "weights without a network"),
    ],
)
def test_what_is_no_network_is_told(tmp_path: Path, content: bytes, told: str) -> None:
    path = tmp_path / "file.onnx"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"file\.onnx: ") as caught:
        network_kind(str(path))
    assert told in str(caught.value)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="absent: no such file"):
        network_kind(str(tmp_path / "absent"))
    with pytest.raises(InputError, match="this is a folder, not a file"):
        network_kind(str(tmp_path))


def test_checkpoint_and_foreign_zip(tmp_path: Path) -> None:
    checkpoint = tmp_path / "weights.pth"
    torch.save(Pooled().state_dict(), checkpoint)
    with pytest.raises(InputError, match=r"weights without a network; .* torchvision:NAME"):
        network_kind(str(checkpoint))
    foreign = tmp_path / "crops.zip"
    with zipfile.ZipFile(foreign, "w") as archive:
        archive.writestr("folder/crop.jpg", b"x")
    with pytest.raises(InputError, match="this zip holds no network"):
        network_kind(str(foreign))


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 907216\n"
PAGE = b"<!DOCTYPE html><html><head><title>Virus scan warning</title></head></html>"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (POINTER, "is a Git LFS pointer, not the file itself: run git lfs pull"),
        (PAGE, "is an HTML page, not the file itself: download it anew"),
        (b"\n <html lang='en'>", "is an HTML page"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "of an object store"),
        (b"Invalid username or password.", "it begins with 'Invalid username or password.'"),
    ],
)
def test_texts_in_place_of_a_network_are_told(tmp_path: Path, content: bytes, told: str) -> None:
    path = tmp_path / "n.onnx"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        check_network_file(str(path))
    assert told in str(caught.value)


def test_texts_in_place_of_checkpoints_and_weights_are_told(tmp_path: Path) -> None:
    checkpoint = tmp_path / "w.pth"
    for content, told in ((POINTER, "is a Git LFS pointer"), (PAGE, "is an HTML page")):
        checkpoint.write_bytes(content)
        with pytest.raises(InputError, match=rf"w\.pth: {told}"):
            read_weights(str(checkpoint))
    network = save_ir(tmp_path / "n.xml")
    network.with_suffix(".bin").write_bytes(POINTER)
    with pytest.raises(InputError, match=r"n\.bin: is a Git LFS pointer"):
        NetworkFile(str(network)).weights_hash()
    outside = save_onnx(tmp_path / "n.onnx", external="n.weights")
    (tmp_path / "n.weights").write_bytes(POINTER)
    with pytest.raises(InputError, match=r"n\.weights: is a Git LFS pointer"):
        NetworkFile(str(outside)).weights_hash()


def test_texts_of_the_field_are_told(field: Path) -> None:
    folder = field / "12-not-a-model-file"
    for kind, told in (("lfs", "Git LFS pointer.*git lfs pull"), ("html", "HTML page.*anew")):
        with pytest.raises(InputError, match=told):
            check_network_file(str(folder / f"{kind}.onnx"))
        with pytest.raises(InputError, match=told):
            read_weights(str(folder / f"{kind}.pth"))


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ("resnet50", "did you mean bnneck, ft_net, pcb or torchvision:resnet50? Networks that are"),
        ("osnet", "did you mean osnet_x1_0, osnet_x0_75, osnet_x0_5 or osnet_x0_25?"),
        ("osnet_x0_52", "did you mean osnet_x0_5,"),
        ("timm:resnet50", "or torchvision:resnet50? .* export it as ONNX or TorchScript"),
        ("osnet_ibn_x1_0", "did you mean osnet_ain_x1_0 or osnet_x1_0? .* export it as ONNX"),
        ("hf-hub:timm/vit_b_16", "did you mean torchvision:vit_b_16? .* export it as ONNX"),
        ("whatever", "did you mean ft_net, pcb, bnneck, .* or vit?"),
        ("osnet_x0_25_msmt17.pt", "given as `checkpoint` FILE, beside `model` osnet_x0_25"),
    ],
)
def test_names_that_are_near_are_told(model: str, told: str) -> None:
    pattern = re.escape(told).replace(r"\.\*", ".*").replace(r"\ ", " ")
    with pytest.raises(InputError, match=pattern):
        check_network_file(model)


def test_keys_tell_whose_weights_stand_in_place_of_a_network(tmp_path: Path) -> None:
    path = tmp_path / "osnet.pt"
    torch.save(OsNet(0.25, ain=False).state_dict(), path)
    with pytest.raises(InputError, match=rf"give `model` osnet_x0_25 and `checkpoint` {path}$"):
        check_network_file(str(path))
    torch.save(torchvision.models.resnet18(weights=None).state_dict(), path)
    with pytest.raises(InputError, match="give `model` torchvision:resnet18 and `checkpoint`"):
        check_network_file(str(path))
    torch.save(
        {"blocks.0.ls1.gamma": torch.ones(1), "patch_embed.proj.weight": torch.ones(1)}, path
    )
    with pytest.raises(InputError, match="look like weights of DINOv2"):
        check_network_file(str(path))
    torch.save(Pooled(), path)
    with pytest.raises(InputError, match=r"refused, because .* tests\.model\.making\.Pooled"):
        check_network_file(str(path))
