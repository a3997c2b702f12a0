"""Network files of every kind: their hash, the recipe they start from, and opening them."""

import hashlib
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision

from pipeline.errors import InputError
from pipeline.model.networks import NetworkFile, default_recipe, input_size, open_network
from pipeline.model.recipe import Recipe
from tests.model.making import Pooled, save_export, save_ir, save_onnx, save_script

RUN: dict[str, Any] = {"size": (16, 8), "batch_size": 4}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "shuffle.pth"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = torchvision.models.shufflenet_v2_x0_5(weights=None)
    torch.save(module.state_dict(), path)
    return path


def every_kind(folder: Path, checkpoint: Path) -> dict[str, NetworkFile]:
    return {
        "onnx": NetworkFile(str(save_onnx(folder / "n.onnx"))),
        "openvino": NetworkFile(str(save_ir(folder / "n.xml"))),
        "torchscript": NetworkFile(str(save_script(folder / "n.pt", Pooled()))),
        "export": NetworkFile(str(save_export(folder / "n.pt2", Pooled().eval()))),
        "backbone": NetworkFile("torchvision:shufflenet_v2_x0_5", str(checkpoint)),
    }


def test_every_kind_is_opened_and_gives_one_row_a_crop(tmp_path: Path, checkpoint: Path) -> None:
    dimensions = {"onnx": 3, "openvino": 3, "torchscript": 8, "export": 8, "backbone": 1024}
    for kind, file in every_kind(tmp_path, checkpoint).items():
        run = {**RUN, "size": (64, 32)} if kind == "backbone" else RUN
        network = open_network(file, **run)
        assert network.dimension == dimensions[kind]
        features = network(np.ones((4, 3, *run["size"]), np.float32))
        assert features.shape == (4, dimensions[kind])
        assert features.dtype == np.float32
        assert network.device == "cpu"


def test_hash_of_one_file_is_the_files_own(tmp_path: Path, checkpoint: Path) -> None:
    files = every_kind(tmp_path, checkpoint)
    for kind in ("onnx", "torchscript", "export"):
        content = Path(files[kind].path).read_bytes()
        assert files[kind].weights_hash() == hashlib.sha256(content).hexdigest()


def test_hash_ignores_names_and_covers_every_byte(tmp_path: Path, checkpoint: Path) -> None:
    # A cache keyed by the file's name returns another model's features: here the name is nothing.
    for kind, file in every_kind(tmp_path, checkpoint).items():
        paths = [Path(file.checkpoint or file.path)]
        if kind == "openvino":
            paths.append(paths[0].with_suffix(".bin"))
        other = tmp_path / "elsewhere" / kind
        other.mkdir(parents=True)
        moved = [Path(shutil.copy(p, other / f"renamed{p.suffix}")) for p in paths]
        copy = (
            NetworkFile(file.path, str(moved[0])) if file.checkpoint else NetworkFile(str(moved[0]))
        )
        assert copy.weights_hash() == file.weights_hash()
        for path in moved:
            content = path.read_bytes()
            path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
            assert copy.weights_hash() != file.weights_hash(), kind
            path.write_bytes(content)


def test_hash_covers_external_data_and_the_backbones_name(tmp_path: Path, checkpoint: Path) -> None:
    file = NetworkFile(str(save_onnx(tmp_path / "n.onnx", external="n.weights")))
    before = file.weights_hash()
    data = bytearray((tmp_path / "n.weights").read_bytes())
    data[0] ^= 1
    (tmp_path / "n.weights").write_bytes(data)
    assert file.weights_hash() != before
    hashes = {
        NetworkFile(f"torchvision:{name}", str(checkpoint)).weights_hash()
        for name in ("shufflenet_v2_x0_5", "shufflenet_v2_x1_0")
    }
    assert len(hashes) == 2


def test_hash_covers_the_part_of_a_checkpoint_that_is_asked_for(checkpoint: Path) -> None:
    parts = (str(checkpoint), f"{checkpoint}#state_dict", f"{checkpoint}#state_dict_ema")
    files = [NetworkFile("torchvision:shufflenet_v2_x0_5", part) for part in parts]
    assert len({file.weights_hash() for file in files}) == 3


def test_fingerprint_covers_weights_preprocessing_and_views(tmp_path: Path) -> None:
    one = NetworkFile(str(save_onnx(tmp_path / "a.onnx")))
    same = NetworkFile(str(save_onnx(tmp_path / "b.onnx")))
    other = NetworkFile(str(save_onnx(tmp_path / "c.onnx", weights=(1.0, 2.0, 4.0))))
    base = default_recipe(one).fingerprint
    assert default_recipe(same).fingerprint == base
    assert default_recipe(other).fingerprint != base
    for fields in ({"height": 128}, {"mean": (0, 0, 0)}, {"flip": True}, {"scales": (1.0, 1.5)}):
        assert default_recipe(one, fields).fingerprint != base


def test_default_recipe_takes_the_networks_size_and_nothing_else(
    tmp_path: Path, checkpoint: Path
) -> None:
    sizes = {
        "onnx": (256, 128),
        "openvino": (16, 8),
        "torchscript": (256, 128),
        "export": (16, 8),
        "backbone": (256, 128),
    }
    for kind, file in every_kind(tmp_path, checkpoint).items():
        height, width = sizes[kind]
        expected = Recipe(weights=file.weights_hash(), height=height, width=width)
        assert default_recipe(file) == expected, kind
    fixed = NetworkFile(str(save_onnx(tmp_path / "fixed.onnx", shape=("b", 3, 48, 24))))
    assert input_size(fixed) == (48, 24)
    recipe = default_recipe(fixed, {"channels": "bgr", "pixel_range": 255})
    assert (recipe.height, recipe.width, recipe.channels) == (48, 24, "bgr")


def test_vision_transformer_fixes_its_size(tmp_path: Path, checkpoint: Path) -> None:
    # The name alone tells it: the weights are not matched before the network is opened.
    file = NetworkFile("torchvision:vit_b_16", str(checkpoint))
    recipe = default_recipe(file)
    assert (recipe.height, recipe.width) == (224, 224)
    with pytest.raises(InputError, match=r"torchvision:vit_b_16: .* 224 x 224 .* only"):
        default_recipe(file, {"height": 256, "width": 128})
    with pytest.raises(InputError, match=r"torchvision:vit_b_16: .* 224 x 224 .* only"):
        open_network(file, size=(256, 128), batch_size=1)


def test_recipes_that_contradict_a_fixed_size_are_refused(tmp_path: Path) -> None:
    file = NetworkFile(str(save_ir(tmp_path / "n.xml")))
    with pytest.raises(InputError, match=r"n\.xml: .* 16 x 8 .* only, the recipe says 32 x 8"):
        default_recipe(file, {"height": 32})
    with pytest.raises(InputError, match=r"n\.xml: .*cannot have scales \(1\.0, 1\.5\)"):
        default_recipe(file, {"scales": (1.0, 1.5)})
    with pytest.raises(InputError, match="unknown recipe field hight; known are height"):
        default_recipe(file, {"hight": 32})
    with pytest.raises(InputError, match="unknown recipe field weights"):
        default_recipe(file, {"weights": "0" * 64})


def test_checkpoints_go_with_backbones_and_only_with_them(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="needs a checkpoint; weights are never downloaded"):
        NetworkFile("torchvision:resnet50")
    with pytest.raises(InputError, match="no such backbone"):
        NetworkFile("torchvision:resnet51", "weights.pth")
    with pytest.raises(InputError, match=r"holds its own weights; a checkpoint \(w\.pth\) goes"):
        NetworkFile(str(tmp_path / "n.onnx"), "w.pth")


def test_files_that_are_not_there_or_no_networks_are_told(tmp_path: Path) -> None:
    absent = NetworkFile(str(tmp_path / "absent.onnx"))
    uncheckpointed = NetworkFile("torchvision:resnet18", str(tmp_path / "absent.pth"))
    for file in (absent, uncheckpointed):
        for ask in (default_recipe, NetworkFile.weights_hash, lambda f: open_network(f, **RUN)):
            with pytest.raises(InputError, match=r"absent\.(onnx|pth): (no such file|cannot be)"):
                ask(file)
    empty = tmp_path / "empty.onnx"
    empty.touch()
    for ask in (default_recipe, NetworkFile.weights_hash, lambda f: open_network(f, **RUN)):
        with pytest.raises(InputError, match=r"empty\.onnx: the file is empty"):
            ask(NetworkFile(str(empty)))


def test_devices_and_precisions_are_checked_before_anything_is_loaded(tmp_path: Path) -> None:
    file = NetworkFile(str(tmp_path / "absent.onnx"))
    for device in ("gpu", "cpu:0", "mps", ""):
        with pytest.raises(InputError, match="device must be cpu or cuda:N"):
            open_network(file, **RUN, device=device)
    beyond = f"cuda:{torch.cuda.device_count()}"
    with pytest.raises(InputError, match=rf"device {beyond}: PyTorch sees \d+ CUDA devices"):
        open_network(file, **RUN, device=beyond)
    with pytest.raises(InputError, match=r"precision must be .*, not 'int8'"):
        open_network(file, **RUN, precision="int8")


def test_onnx_runs_in_its_own_precision_only(tmp_path: Path) -> None:
    file = NetworkFile(str(save_onnx(tmp_path / "n.onnx")))
    with pytest.raises(InputError, match="runs in the precision that it holds, not in float16"):
        open_network(file, **RUN, precision="float16")


def test_halves_of_the_torch_kinds(tmp_path: Path, checkpoint: Path) -> None:
    files = every_kind(tmp_path, checkpoint)
    for kind in ("torchscript", "export", "backbone"):
        run = {**RUN, "size": (64, 32)} if kind == "backbone" else RUN
        # The same images each time: one draw in eight is beyond (eight bits, through fifty layers).
        images = np.random.default_rng(0).random((4, 3, *run["size"]), np.float32)
        full = open_network(files[kind], **run)(images)
        for precision in ("bfloat16", "float16"):
            half = open_network(files[kind], **run, precision=precision)(images)
            assert np.abs(half - full).max() <= 0.03 * np.abs(full).max(), (kind, precision)


def test_compilation_and_tensorrt_are_for_some_files_only(tmp_path: Path, checkpoint: Path) -> None:
    files = every_kind(tmp_path, checkpoint)
    for kind in ("onnx", "openvino", "torchscript"):
        with pytest.raises(InputError, match=f"torch.compile does not take {kind} files"):
            open_network(files[kind], **RUN, compiled=True)
    with pytest.raises(InputError, match="device tensorrt:9: PyTorch sees"):
        open_network(files["onnx"], **RUN, device="tensorrt:9")


def test_what_is_compiled_gives_the_same_features(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In a folder of its own: something that another run had left there has ended the process.
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "compiled"))
    # Two functions are compiled: processes that would share the work load torch first, headers that
    # both could share take longer than both, and so do trials of what the compiler can vectorize.
    for name, value in (
        ("compile_threads", 1), ("cpp_cache_precompile_headers", False), ("cpp.vec_isa_ok", True),
    ):  # fmt: skip
        monkeypatch.setattr(f"torch._inductor.config.{name}", value)
    file = NetworkFile(str(save_export(tmp_path / "n.pt2", Pooled().eval())))
    images = np.random.default_rng(0).random((4, 3, 16, 8), np.float32)
    compiled = open_network(file, **RUN, compiled=True)(images)
    np.testing.assert_allclose(compiled, open_network(file, **RUN)(images), rtol=1e-5, atol=1e-6)
