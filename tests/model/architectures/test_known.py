"""Networks that are built here: each toolbox's checkpoint gives the toolbox's own feature."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch.nn import functional as F

from pipeline.errors import InputError
from pipeline.model.architectures.known import NETWORKS, load_architecture
from pipeline.model.extractor import Extractor
from pipeline.model.input.preprocessing import standardize
from pipeline.model.names import ARCHITECTURES
from pipeline.model.networks import NetworkFile, default_recipe, input_size, load_module
from pipeline.model.recipe import Recipe
from tests.model import toolboxes
from tests.model.making import prepared, real_crops
from tests.model.toolboxes import State, linear, norm, normed, resnet50_map

IMAGES = torch.randn(2, 3, 64, 32, generator=torch.Generator().manual_seed(1))


def renamed(state: State, before: str, after: str) -> State:
    return {after + key.removeprefix(before): tensor for key, tensor in state.items()}


@pytest.fixture(scope="module")
def trunk() -> State:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return toolboxes.resnet50("")


@pytest.fixture(scope="module")
def trunk_ibn() -> State:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return toolboxes.resnet50("", ibn=True)


def saved(folder: Path, stored: Any) -> str:
    path = folder / "checkpoint.pth"
    torch.save(stored, path)
    return str(path)


def feature(model: str, checkpoint: str, images: torch.Tensor = IMAGES) -> torch.Tensor:
    with torch.inference_mode():
        return load_architecture(model, checkpoint)(images)


def check_equal(found: torch.Tensor, wanted: torch.Tensor) -> None:
    assert found.shape == wanted.shape
    assert (found - wanted).abs().max() <= 1e-5 * wanted.abs().max()
    assert (1 - F.cosine_similarity(found.double(), wanted.double())).max() < 1e-9


def test_names_are_those_that_the_command_line_knows() -> None:
    assert NETWORKS.keys() == ARCHITECTURES.keys()


@pytest.mark.parametrize(("options", "stride"), [("", 2), (":stride1", 1)])
def test_layumi_ft_net(tmp_path: Path, trunk: State, options: str, stride: int) -> None:
    state = renamed(trunk, "", "model.") | linear("model.fc", 9, 2048)
    state |= linear("classifier.add_block.0", 512, 2048) | norm("classifier.add_block.1", 512)
    state |= linear("classifier.classifier.0", 7, 512)
    found = feature(f"ft_net{options}", saved(tmp_path, state))
    pooled = resnet50_map(state, "model.", IMAGES, last_stride=stride).mean((2, 3))
    block = "classifier.add_block"
    hidden = F.linear(pooled, state[f"{block}.0.weight"], state[f"{block}.0.bias"])
    check_equal(found, normed(state, f"{block}.1", hidden))


def test_layumi_pcb(tmp_path: Path, trunk: State) -> None:
    state = renamed(trunk, "", "model.") | linear("model.fc", 9, 2048)
    for stripe in range(6):
        block = f"classifier{stripe}"
        state |= linear(f"{block}.add_block.0", 256, 2048) | norm(f"{block}.add_block.1", 256)
        state |= linear(f"{block}.classifier.0", 7, 256)
    images = torch.randn(2, 3, 96, 32, generator=torch.Generator().manual_seed(2))
    found = feature("pcb", saved(tmp_path, {f"module.{k}": t for k, t in state.items()}), images)
    maps = resnet50_map(state, "model.", images, last_stride=1)
    assert maps.shape[2] == 6
    stripes = maps.mean(3)
    wanted = stripes / (stripes.pow(2).sum(1, keepdim=True).sqrt() * 6**0.5)
    check_equal(found, wanted.reshape(2, 6 * 2048))


@pytest.mark.parametrize("ibn", [False, True])
def test_reid_strong_baseline(tmp_path: Path, trunk: State, trunk_ibn: State, ibn: bool) -> None:
    state = renamed(trunk_ibn if ibn else trunk, "", "base.") | norm("bottleneck", 2048)
    state |= linear("classifier", 7, 2048, bias=False)
    state |= linear("base.fc", 9, 2048) if ibn else {}
    checkpoint = saved(tmp_path, {f"module.{key}": tensor for key, tensor in state.items()})
    # Its plain ResNet-50 lacks the stem's ReLU.
    maps = resnet50_map(state, "base.", IMAGES, last_stride=1, relu=ibn)
    pooled = maps.mean((2, 3))
    check_equal(feature("bnneck", checkpoint), normed(state, "bottleneck", pooled))
    check_equal(feature("bnneck:before", checkpoint), pooled)


def test_fast_reid_with_ibn_and_gem(tmp_path: Path, trunk_ibn: State) -> None:
    state = renamed(trunk_ibn, "", "backbone.") | norm("heads.bottleneck.0", 2048)
    state |= {"heads.weight": torch.randn(7, 2048), "heads.pool_layer.p": torch.tensor([2.5])}
    checkpoint = saved(tmp_path, {"model": state, "optimizer": {"lr": 3e-4}, "iteration": 9})
    maps = resnet50_map(state, "backbone.", IMAGES, last_stride=1, ceil=True)
    pooled = toolboxes.generalized_mean(maps, 2.5)
    check_equal(feature("bnneck", checkpoint), normed(state, "heads.bottleneck.0", pooled))
    check_equal(feature("bnneck:before", checkpoint), pooled)


def test_fast_reid_with_a_reduction_and_its_own_pixels(tmp_path: Path, trunk: State) -> None:
    state = renamed(trunk, "", "backbone.")
    state["heads.bottleneck.0.weight"] = toolboxes.conv(96, 2048)
    state |= norm("heads.bottleneck.1", 96) | linear("heads.classifier", 7, 96, bias=False)
    state["pixel_mean"] = torch.tensor([127.5, 123.675, 0]).view(1, 3, 1, 1)
    state["pixel_std"] = torch.tensor([127.5, 58.395, 255]).view(1, 3, 1, 1)
    checkpoint = saved(tmp_path, {"model": state})
    maps = resnet50_map(state, "backbone.", IMAGES, last_stride=2, ceil=True)
    for options, pooled in (
        ("stride2", maps.mean((2, 3))),
        ("gem,stride2", toolboxes.generalized_mean(maps, 3)),
    ):
        reduced = F.conv2d(pooled[:, :, None, None], state["heads.bottleneck.0.weight"])
        wanted = normed(state, "heads.bottleneck.1", reduced[:, :, 0, 0])
        check_equal(feature(f"bnneck:{options}", checkpoint), wanted)
    recipe = default_recipe(NetworkFile("bnneck", checkpoint))
    assert recipe.mean == (0.5, 0.485, 0)
    assert recipe.std == (0.5, 0.229, 1)


@pytest.mark.parametrize("ain", [False, True])
def test_torchreid_osnet(tmp_path: Path, ain: bool) -> None:
    torch.manual_seed(3)
    state = toolboxes.osnet(0.25, ain=ain)
    stored = {
        "state_dict": {f"module.{key}": tensor for key, tensor in state.items()},
        "epoch": 60,
        "rank1": np.float32(0.5),  # torchreid leaves NumPy's own number
        "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]},
    }
    name = "osnet_ain_x0_25" if ain else "osnet_x0_25"
    found = feature(name, saved(tmp_path, stored))
    check_equal(found, toolboxes.osnet_feature(state, IMAGES, ain=ain))


@pytest.mark.parametrize("width", [0.5, 0.75, 1.0])
@pytest.mark.parametrize("ain", [False, True])
def test_torchreid_osnet_of_other_widths_fits(tmp_path: Path, width: float, ain: bool) -> None:
    shapes = {key: hollow(tensor) for key, tensor in toolboxes.osnet(width, ain=ain).items()}
    name = f"osnet_{'ain_' if ain else ''}x{str(width).replace('.', '_')}"
    module = load_architecture(name, saved(tmp_path, shapes))
    assert module.fc[0].weight.shape == (512, 512 * width)


def hollow(tensor: torch.Tensor) -> torch.Tensor:
    """The same shape on one stored number: a small file."""
    return torch.zeros((), dtype=tensor.dtype).expand(tensor.shape)


def test_transreid(tmp_path: Path) -> None:
    torch.manual_seed(4)
    state = toolboxes.vit()
    checkpoint = saved(tmp_path, state)
    images = torch.randn(1, 3, 256, 128)
    token = toolboxes.vit_token(state, images)
    check_equal(feature("vit", checkpoint, images), token)
    check_equal(feature("vit:after", checkpoint, images), normed(state, "bottleneck", token))
    recipe = default_recipe(NetworkFile("vit", checkpoint))
    assert (recipe.height, recipe.width, recipe.mean) == (256, 128, (0.5, 0.5, 0.5))
    with pytest.raises(InputError, match="takes images of 256 x 128"):
        default_recipe(NetworkFile("vit", checkpoint), {"height": 384})


def test_position_codes_tell_size_and_stride(tmp_path: Path) -> None:
    for patches, size, stride in ((192, (384, 128), 16), (210, (256, 128), 12)):
        state = {key: hollow(tensor) for key, tensor in toolboxes.vit(patches=patches).items()}
        file = NetworkFile("vit", saved(tmp_path, state))
        assert input_size(file) == size
        module = load_module(file)
        assert module.base.patch_embed["proj"].stride == (stride, stride)
    state["base.pos_embed"] = torch.zeros(1, 100, 768)
    with pytest.raises(InputError, match=r"checkpoint\.pth: base\.pos_embed has codes for 99 pat"):
        default_recipe(NetworkFile("vit", saved(tmp_path, state)))


def test_osnet_is_the_one_of_msmt17(tmp_path: Path, osnet: Path, pedestrians: Path) -> None:
    checkpoint = saved(tmp_path, toolboxes.osnet_of_onnx(str(osnet)))
    images = real_crops(pedestrians, 6)
    recipe = Recipe(weights="0" * 64)
    batch = torch.from_numpy(standardize(prepared(images, recipe, (256, 128), 6), recipe))
    session = onnxruntime.InferenceSession(str(osnet), providers=["CPUExecutionProvider"])
    wanted = [session.run(None, {"input": one[None].numpy()})[0][0] for one in batch]
    check_equal(feature("osnet_x0_25", checkpoint, batch), torch.from_numpy(np.stack(wanted)))


def bare(state: State) -> State:
    return {key: hollow(tensor) for key, tensor in state.items()}


CHECKPOINTS: dict[str, tuple[str, Callable[[], State], str]] = {
    "layumi": (
        "ft_net",
        lambda: (
            toolboxes.resnet50("model.")
            | linear("classifier.add_block.0", 512, 2048)
            | norm("classifier.add_block.1", 512)
        ),
        "classifier.add_block.0.bias",
    ),
    "reid-strong-baseline": (
        "bnneck",
        lambda: toolboxes.resnet50("base.") | norm("bottleneck", 2048),
        "bottleneck.running_mean",
    ),
    "fast-reid": (
        "bnneck",
        lambda: toolboxes.resnet50("backbone.", ibn=True) | norm("heads.bottleneck.0", 2048),
        "backbone.layer2.1.bn1.IN.bias",
    ),
    "torchreid": ("osnet_x0_25", lambda: toolboxes.osnet(0.25), "conv3.1.gate.fc2.bias"),
}


@pytest.mark.parametrize("toolbox", CHECKPOINTS)
def test_one_wrong_key_shape_or_missing_key_is_refused_by_name(
    tmp_path: Path, toolbox: str
) -> None:
    model, make, key = CHECKPOINTS[toolbox]
    with torch.device("meta"):
        shapes = make()
    state = bare(shapes)
    load_architecture(model, saved(tmp_path, state))  # refused is only what follows

    def refused(changed: State, *told: str) -> None:
        with pytest.raises(InputError) as caught:
            load_architecture(model, saved(tmp_path, changed))
        message = str(caught.value)
        assert all(each in message for each in told), message
        assert len(re.findall("missing|unexpected|misshapen", message)) == len(told), message

    without = {name: tensor for name, tensor in state.items() if name != key}
    refused(without, f"1 missing: {key}")
    refused({**state, f"{key}.extra": torch.zeros(3)}, f"1 unexpected: {key}.extra")
    wrong = torch.zeros(len(state[key]) + 1)
    refused({**state, key: wrong}, f"1 misshapen: {key} is [{len(wrong)}], should be")
    refused({**without, f"{key}_": state[key]}, f"1 missing: {key}", f"1 unexpected: {key}_")


def test_heads_of_another_toolbox_are_unexpected(tmp_path: Path) -> None:
    state = bare(toolboxes.osnet(0.25)) | {"heads.weight": torch.zeros(7, 512)}
    with pytest.raises(InputError, match=r"1 unexpected: heads\.weight"):
        load_architecture("osnet_x0_25", saved(tmp_path, state))


def test_unknown_names_and_options_are_told(tmp_path: Path) -> None:
    checkpoint = saved(tmp_path, bare(toolboxes.osnet(0.25)))
    with pytest.raises(InputError, match=r"bnneck:after: bnneck has no option after; it has befor"):
        NetworkFile("bnneck:after", checkpoint)
    with pytest.raises(InputError, match="pcb has no option x; it has none"):
        NetworkFile("pcb:x", checkpoint)
    with pytest.raises(InputError, match="ft_net: needs a checkpoint"):
        NetworkFile("ft_net")
    with pytest.raises(InputError, match=r"osnet_x9: no such network; known are ft_net, "):
        load_architecture("osnet_x9", checkpoint)
    with pytest.raises(InputError, match=r"n\.onnx: is a network file"):
        load_module(NetworkFile("n.onnx"))


def test_options_are_part_of_the_hash_and_their_order_is_not(tmp_path: Path) -> None:
    checkpoint = saved(tmp_path, bare(toolboxes.osnet(0.25)))
    hashes = [
        NetworkFile(model, checkpoint).weights_hash()
        for model in ("bnneck", "bnneck:gem,before", "bnneck:before,gem", "bnneck:before")
    ]
    assert hashes[1] == hashes[2]
    assert len(set(hashes)) == 3


def test_extractor_runs_a_named_network(tmp_path: Path) -> None:
    torch.manual_seed(5)
    file = NetworkFile("osnet_x0_25", saved(tmp_path, toolboxes.osnet(0.25)))
    recipe = default_recipe(file, {"height": 64, "width": 32, "fusion": "raw"})
    image = np.random.default_rng(0).integers(0, 256, (64, 32, 3), dtype=np.uint8)
    made = Extractor(file, recipe, batch_size=2)
    batch = torch.from_numpy(standardize(prepared([image], recipe, (64, 32), 1), recipe))
    check_equal(torch.from_numpy(made([image])), feature(file.path, str(file.checkpoint), batch))
