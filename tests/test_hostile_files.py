"""Files that a user hands in, damaged or made to harm: an error of one line that names the file.

For each kind of file: contents that once ended in a traceback, contents of another kind, and a
sound file with bytes changed, cut out, doubled and cut off, the same in every run.
"""

import contextlib
import io
import os
import random
import struct
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.io
import torch
from safetensors.torch import save as save_safetensors

from jobs import cli, erase
from pipeline.archive.faults import ReadError
from pipeline.archive.layouts.rules import LabelSettings
from pipeline.archive.listing.reading import read_image
from pipeline.archive.listing.source import list_source
from pipeline.archive.listing.tars import scan
from pipeline.errors import InputError
from pipeline.gallery.formats import fastreid_files, mat_files
from pipeline.gallery.formats import features as interchange
from pipeline.input_files import read_text
from pipeline.model.architectures.reading import read_weights
from pipeline.model.backends.torch_network import load_torchscript
from pipeline.model.imported import ImportedRecipe, read_recipe
from pipeline.model.kinds import network_kind
from pipeline.model.networks import NetworkFile
from pipeline.model.recipe import load_recipe_fields
from pipeline.runs import import_source
from tests.stages.making import save_network


@dataclass(frozen=True)
class Kind:
    """A kind of file: its suffix, who reads it, and contents that are refused."""

    suffix: str
    read: Callable[[Path], object]
    refused: tuple[bytes, ...]
    sound: Callable[[], bytes]
    mutations: int = 60


def npy_bytes(header: str) -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode()


def shaped(shape: str, descr: str = "'<f4'") -> bytes:
    return npy_bytes(f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}\n")


def saved(write: Callable[[io.BytesIO], object]) -> bytes:
    file = io.BytesIO()
    write(file)
    return file.getvalue()


def mat_bytes(file: io.BytesIO) -> None:
    side = {"gallery_f": np.eye(5), "gallery_label": np.arange(5), "gallery_cam": np.arange(5)}
    scipy.io.savemat(file, side)


def crashing_mat() -> bytes:
    """A tag of a type that there is not: scipy looks it up beyond its table."""
    data = bytearray(saved(mat_bytes))
    at = data.index(struct.pack("<II", 9, 200))
    data[at + 1] = 255
    return bytes(data)


def rows_bytes(file: io.BytesIO) -> None:
    rows = {"path": [f"p{i}.jpg" for i in range(5)], "identity": [*range(5)], "camera": ["a"] * 5}
    pq.write_table(pa.table(rows), file, compression="none", use_dictionary=False)


def tar_bytes(**headers: str) -> bytes:
    def write(file: io.BytesIO) -> None:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for number in range(3):
                member = tarfile.TarInfo(f"é{number}.jpg")
                member.size, member.pax_headers = 5, headers
                tar.addfile(member, io.BytesIO(b"12345"))

    return saved(write)


def configured(path: Path) -> None:
    flags = ["--gallery", "g", "--model", "m", "--config", str(path)]
    with contextlib.suppress(cli.CycloptsError):  # told in a line, with the name of the flag
        cli.parse(["search", "x.jpg", *flags])


def read_npy(path: Path) -> None:
    features = interchange.read_npy(path)
    features.read(0, min(len(features), 5))


def read_tar(path: Path) -> None:
    """A tar is never refused: what cannot be read of it is a fault."""
    found = scan(*_located(path), path.name)
    if not found.files and not found.faults:
        raise InputError(f"{path} holds nothing")


def _located(path: Path):
    from pipeline.archive.locations import locate

    return locate(str(path))


KINDS = {
    "config": Kind(
        ".toml", configured,
        (b"a = " + b"[" * 5000, b"a" + b".a" * 5000 + b" = 1", b"search = 5", b"\xff"),
        lambda: b'k = 5\n[search]\nk = 7\n', mutations=20,
    ),
    "recipe": Kind(
        ".toml", lambda path: load_recipe_fields(str(path)),
        (b"a = " + b"[" * 5000, b"pixel_range = " + b"1" * 400, b"mean = [1e400, 1, 1]", b"\xff"),
        lambda: b'height = 32\nmean = [0.5, 0.5, 0.5]\nscales = [1.0]\nchannels = "bgr"\n',
    ),
    "ids": Kind(
        ".txt", lambda path: erase._row_ids((str(path),)), (b"1" * 5000, b"1.5", b"\xff", b"\0"),
        lambda: b"1\n2\n30\n",
    ),
    "npy": Kind(
        ".npy", read_npy,
        (
            shaped("(-5, 4)"), shaped("(10**30, 4)"), shaped(f"({10**30}, 4)"), shaped("(1.5, 4)"),
            shaped("(5, 4)", "'O'"), shaped("(5, 4)", "[" * 3000), npy_bytes("(" * 9000),
            shaped(f"({2**40}, {2**40})"), shaped("(5, 4)", "'V0'"), b"",
        ),
        lambda: saved(lambda file: np.save(file, np.eye(5, 4, dtype="f4"))),
    ),
    "fast-reid": Kind(
        ".npy", fastreid_files._feature,
        (shaped("(-5, 4)"), shaped(f"({10**30},)"), shaped(f"({2**50},)"), npy_bytes("(" * 9000)),
        lambda: saved(lambda file: np.save(file, np.ones((1, 4), "f4"))),
    ),
    "mat": Kind(
        ".mat", lambda path: mat_files.read_mat(path, "gallery"),
        (crashing_mat(), saved(mat_bytes)[:300]), lambda: saved(mat_bytes), mutations=1,
    ),
    "rows": Kind(
        ".csv", lambda path: import_source._table(path, "none", LabelSettings()),
        (
            b"", b"\xff\xff\n1\n", b"path\n\xff\n", b"path\n\0\n", b"path,frame\na,-5\n",
            b"path\na\n1,2,3\n",
        ),
        lambda: b"path,identity,camera,captured_at\na.jpg,1,c,2026-01-01T00:00:00Z\nb.jpg,2,,\n",
    ),
    "parquet": Kind(
        ".parquet", lambda path: import_source._table(path, "none", LabelSettings()),
        (
            b"PAR1", saved(rows_bytes).replace(b"p1.jpg", b"p\xff.jpg"),
            saved(rows_bytes)[:-30] + b"\xff" * 22 + saved(rows_bytes)[-8:],
        ),
        lambda: saved(rows_bytes),
    ),
    "tar": Kind(".tar", read_tar, (), tar_bytes),
    "checkpoint": Kind(
        ".pth", lambda path: read_weights(str(path)),
        (b"\x80\x02" + b"(" * 5000 + b".", b"PK\x03\x04" + b"x" * 50),
        lambda: saved(lambda file: torch.save({"state_dict": {"a": torch.ones(3)}}, file)),
    ),
    "safetensors": Kind(
        ".safetensors", lambda path: read_weights(str(path)),
        (struct.pack("<Q", 60_000) + b'{"a":' + b"[" * 59_995, struct.pack("<Q", 9) + b"{" * 20),
        lambda: save_safetensors({"a": torch.ones(3)}),
    ),
}  # fmt: skip


def changed(data: bytes, rng: random.Random) -> bytes:
    """The same with bits flipped, numbers made extreme, or a part cut out, doubled or cut off."""
    made = bytearray(data)
    low, high = sorted(rng.randrange(len(made)) for _ in range(2))
    match rng.randrange(5):
        case 0:
            del made[low:]
        case 1:
            for _ in range(rng.choice((1, 3, 20))):
                made[rng.randrange(len(made))] ^= 1 << rng.randrange(8)
        case 2:
            extreme = (b"\xff" * 8, b"\0" * 8, b"\x7f\xff\xff\xff", b"-1", b"9" * 20)
            made[low : low + 4] = rng.choice(extreme)
        case 3:
            made[low:low] = made[low:high]
        case 4:
            del made[low:high]
    return bytes(made)


@pytest.mark.parametrize("name", KINDS)
def test_hostile_contents(tmp_path, name):
    kind = KINDS[name]
    path = tmp_path / f"hostile{kind.suffix}"
    for content in kind.refused:
        path.write_bytes(content)
        with pytest.raises(InputError) as told:
            kind.read(path)
        assert path.name in str(told.value), content[:60]
        assert len(str(told.value)) < 7000


@pytest.mark.parametrize("name", KINDS)
def test_damaged_contents(tmp_path, name):
    kind, rng = KINDS[name], random.Random(name)
    path = tmp_path / f"damaged{kind.suffix}"
    path.write_bytes(kind.sound())
    kind.read(path)
    refused = 0
    for _ in range(kind.mutations):
        path.write_bytes(changed(kind.sound(), rng))
        try:
            kind.read(path)
        except InputError as error:
            assert path.name in str(error)
            refused += 1
    assert refused or kind.mutations < 9 or name == "tar"


MAKE = {
    "folder": lambda path: path.mkdir(),
    "pipe": os.mkfifo,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "loop": lambda path: path.symlink_to(path.name),
    "missing": lambda path: None,
}


@pytest.mark.parametrize("what", MAKE)
@pytest.mark.parametrize("name", sorted(KINDS.keys() - {"tar", "rows", "parquet"}))
def test_what_is_no_file(tmp_path, name, what):
    path = tmp_path / f"strange{KINDS[name].suffix}"
    MAKE[what](path)
    with pytest.raises(InputError, match=path.name) as told:
        KINDS[name].read(path)
    if what in ("folder", "pipe", "device"):
        assert f"this is a {what}, not a file" in str(told.value)


def test_a_picture_that_is_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "a.jpg")
    with pytest.raises(ReadError, match="it is a special file"):
        read_image(str(tmp_path), "a.jpg")


def test_a_text_without_end(tmp_path):
    with (tmp_path / "x.toml").open("wb") as file:
        file.truncate(1 << 30)
    with pytest.raises(InputError, match=r"x.toml: 1,073,741,824 bytes are too many"):
        read_text(tmp_path / "x.toml")


@pytest.mark.parametrize(
    "headers",
    [
        {"size": "9" * 30}, {"GNU.sparse.map": "1,x"}, {"GNU.sparse.map": "0,5"}, {"size": "x"},
        {"mtime": "1e400"}, {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"},
    ],
)  # fmt: skip
def test_headers_of_a_tar(tmp_path, headers):
    """What cannot be read is a fault of the tar or of its image; the listing goes on."""
    path = tmp_path / "x.tar"
    path.write_bytes(tar_bytes(**headers))
    found = scan(*_located(path), path.name)
    assert len(found.files) + len(found.faults) >= 1
    (tmp_path / "sound.tar").write_bytes(tar_bytes())
    assert len(list_source(str(tmp_path)).images) >= 3


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"imported": ' + "[" * 100_000,
        '{"format": 1, "imported": 5, "dimension": 8}',
        '{"format": 1, "imported": "x", "dimension": 1e400}',
        '{"format": 1, "imported": "x", "dimension": null}',
    ],
)
def test_a_recipe_in_json(text):
    with pytest.raises(InputError, match=r"^recipe: "):
        read_recipe(text)
    sound = ImportedRecipe("x", 8)
    assert read_recipe(sound.to_json()) == sound


def test_networks(tmp_path):
    """Of each kind, what its reader stumbled over in another way than it says."""
    script = Path(save_network(tmp_path).path).read_bytes()
    rng = random.Random(1)
    path = tmp_path / "x.pt"
    for _ in range(30):
        path.write_bytes(changed(script, rng))
        try:
            if network_kind(str(path)) == "torchscript":
                load_torchscript(str(path), "cpu")
        except InputError as error:
            assert "x.pt" in str(error)
    name = script.index(b"PK\x01\x02") + 46
    path.write_bytes(script[:name] + b"\xff" + script[name + 1 :])
    with pytest.raises(InputError, match=r"x\.pt"):
        network_kind(str(path))
        load_torchscript(str(path), "cpu")
    nested = b""
    for number in (6, 5, 1) * 1500:
        nested = field(number, nested)
    (tmp_path / "x.onnx").write_bytes(b"\x08\x08" + field(7, nested))
    with pytest.raises(InputError, match=r"x\.onnx: the ONNX file is damaged"):
        NetworkFile(str(tmp_path / "x.onnx")).weights_hash()


def field(number: int, content: bytes) -> bytes:
    """A field of a protobuf message: its number, its length in sevens of bits, and its content."""
    length, sevens = len(content), []
    while length > 127:
        sevens.append((length & 127) | 128)
        length >>= 7
    return bytes([number << 3 | 2, *sevens, length]) + content


def test_a_mat_file_is_read_in_another_process_only(tmp_path, monkeypatch):
    """Whether scipy's reader crashes on a damaged file depends on what lies in memory."""
    path = tmp_path / "sound.mat"
    path.write_bytes(saved(mat_bytes))
    monkeypatch.setattr(scipy.io, "loadmat", lambda *_, **__: pytest.fail("it is read here"))
    assert len(mat_files.read_mat(path, "gallery").identity)
    path.write_bytes(crashing_mat())
    with pytest.raises(InputError, match=r"cannot be read as a \.mat file"):
        mat_files.read_mat(path, "gallery")
