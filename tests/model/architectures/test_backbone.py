"""Torchvision backbones: the checkpoint's weights and no others, the pooled feature out."""

from pathlib import Path

import pytest
import torch
import torchvision

from pipeline.errors import InputError
from pipeline.model.architectures.backbone import backbone_input_size, backbone_names, load_backbone

HEAD = {
    "resnet18": "fc",
    "mobilenet_v3_large": "classifier",
    "convnext_tiny": "classifier.2",
    "shufflenet_v2_x0_5": "fc",
    "regnet_y_400mf": "fc",
}


def made(name: str, path: Path, seed: int = 3) -> torch.nn.Module:
    """A network with random weights and busy batch statistics, saved with its head."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = torchvision.models.get_model(name, weights=None, num_classes=17)
        for key, tensor in module.state_dict().items():
            if "running" in key:
                tensor.uniform_(0.5, 1.5)
    torch.save(module.state_dict(), path)
    return module.eval()


@pytest.mark.parametrize("name", HEAD)
def test_feature_is_what_the_head_would_have_read(name: str, tmp_path: Path) -> None:
    module = made(name, tmp_path / "c.pth")
    read = []
    module.get_submodule(HEAD[name]).register_forward_pre_hook(lambda _, given: read.append(given))
    images = torch.rand(2, 3, 64, 32)
    with torch.inference_mode():
        module(images)
        feature = load_backbone(name, str(tmp_path / "c.pth"))(images)
    assert feature.shape == read[0][0].shape
    torch.testing.assert_close(feature, read[0][0], rtol=1e-4, atol=1e-5)


def test_nothing_of_the_random_start_is_left(tmp_path: Path) -> None:
    path = tmp_path / "c.pth"
    saved = made("resnet18", path).state_dict()
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    loaded = load_backbone("resnet18", str(path))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not loaded.training
    state = loaded.state_dict()
    assert state.keys() == {key for key in saved if not key.startswith("fc.")}
    assert all(torch.equal(state[key], saved[key]) for key in state)


def test_half_precision_checkpoint_is_widened(tmp_path: Path) -> None:
    state = made("shufflenet_v2_x0_5", tmp_path / "c.pth").state_dict()
    torch.save(
        {key: t.half() if t.is_floating_point() else t for key, t in state.items()},
        tmp_path / "half.pth",
    )
    loaded = load_backbone("shufflenet_v2_x0_5", str(tmp_path / "half.pth"))
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}


def test_checkpoint_of_another_architecture_is_refused(tmp_path: Path) -> None:
    made("resnet18", tmp_path / "c.pth")
    with pytest.raises(InputError, match=r"does not fit the network; .* missing: .* misshapen: "):
        load_backbone("resnet50", str(tmp_path / "c.pth"))


def test_one_missing_key_is_refused(tmp_path: Path) -> None:
    state = made("resnet18", tmp_path / "c.pth").state_dict()
    del state["layer4.1.conv2.weight"]
    torch.save(state, tmp_path / "c.pth")
    with pytest.raises(InputError, match=r"1 missing: layer4\.1\.conv2\.weight"):
        load_backbone("resnet18", str(tmp_path / "c.pth"))


def test_missing_checkpoint_never_becomes_other_weights(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        load_backbone("resnet18", str(tmp_path / "absent.pth"))


def test_unknown_and_unsuitable_names_list_the_known(tmp_path: Path) -> None:
    for name in ("resnet51", "vgg16", "../resnet18", ""):
        with pytest.raises(InputError, match=r"no such backbone; known are .*resnet50"):
            load_backbone(name, str(tmp_path / "c.pth"))


def test_names_of_the_field_are_known() -> None:
    assert {"resnet50", "resnet18", "mobilenet_v3_large", "vit_b_16"} <= set(backbone_names())
    assert "vgg16" not in backbone_names()


def test_only_vision_transformers_fix_their_size() -> None:
    assert backbone_input_size("vit_b_16") == (224, 224)
    assert backbone_input_size("resnet50") is None
    with pytest.raises(InputError, match="no such backbone"):
        backbone_input_size("vit_b_17")
