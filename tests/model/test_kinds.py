"""Telling what a file is by its content."""

import pickle
import zipfile
from pathlib import Path

import pytest
import torch

from pipeline.errors import InputError
from pipeline.model.kinds import network_kind
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
        (b"\xff\xd8\xff\xe0 a JPEG file", "this is no network file"),
        (b"\x08\x00 something else", "this is no network file"),
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
    with pytest.raises(InputError, match=r"this is a checkpoint .* torchvision:NAME"):
        network_kind(str(checkpoint))
    foreign = tmp_path / "crops.zip"
    with zipfile.ZipFile(foreign, "w") as archive:
        archive.writestr("folder/crop.jpg", b"x")
    with pytest.raises(InputError, match="this zip holds no network"):
        network_kind(str(foreign))
