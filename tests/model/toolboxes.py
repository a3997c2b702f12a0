"""Checkpoints as four toolboxes and TransReID write them, and forward passes over bare tensors.

The names and the order of layers are the toolboxes'; nothing of the project is imported, so that
the networks of `pipeline.model` are compared with something else than themselves.
"""

from collections.abc import Iterator

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch.nn import functional as F

State = dict[str, torch.Tensor]
BLOCKS = (3, 4, 6, 3)
WIDTHS = (64, 128, 256, 512)


def conv(outside: int, inside: int, kernel: int = 1) -> torch.Tensor:
    return torch.randn(outside, inside, kernel, kernel) * (2 / (inside * kernel**2)) ** 0.5


def norm(name: str, channels: int, *, running: bool = True) -> State:
    made = {f"{name}.weight": torch.rand(channels) + 0.5, f"{name}.bias": torch.randn(channels) / 5}
    if running:
        made[f"{name}.running_mean"] = torch.randn(channels) / 5
        made[f"{name}.running_var"] = torch.rand(channels) + 0.5
        made[f"{name}.num_batches_tracked"] = torch.tensor(7)
    return made


def linear(name: str, outside: int, inside: int, *, bias: bool = True) -> State:
    made = {f"{name}.weight": torch.randn(outside, inside) / inside**0.5}
    return made | ({f"{name}.bias": torch.randn(outside) / 5} if bias else {})


def resnet50(prefix: str, *, ibn: bool = False) -> State:
    """ResNet-50's weights below `prefix`, without a head; the second block of a stage lends its
    convolutions to those after it.
    """
    state = {f"{prefix}conv1.weight": conv(64, 3, 7)} | norm(f"{prefix}bn1", 64)
    inside = 64
    for stage, (count, width) in enumerate(zip(BLOCKS, WIDTHS, strict=True), start=1):
        for place in range(count):
            name = f"{prefix}layer{stage}.{place}"
            for part, shape, scale in (
                ("conv1", (width, inside), 1),
                ("conv2", (width, width, 3), 1),
                ("conv3", (4 * width, width), 0.5),
            ):
                lent = state.get(f"{prefix}layer{stage}.1.{part}.weight")
                state[f"{name}.{part}.weight"] = scale * conv(*shape) if lent is None else lent
            if ibn and stage < 4:
                state |= norm(f"{name}.bn1.IN", width // 2, running=False)
                state |= norm(f"{name}.bn1.BN", width // 2)
            else:
                state |= norm(f"{name}.bn1", width)
            state |= norm(f"{name}.bn2", width)
            state |= norm(f"{name}.bn3", 4 * width)
            if place == 0:
                state[f"{name}.downsample.0.weight"] = conv(4 * width, inside)
                state |= norm(f"{name}.downsample.1", 4 * width)
            inside = 4 * width
    return state


def normed(state: State, name: str, x: torch.Tensor) -> torch.Tensor:
    """Normalized by batch or instance, or half and half: as the weights of that name tell."""
    if f"{name}.IN.weight" in state:
        half = x.shape[1] // 2
        parts = normed(state, f"{name}.IN", x[:, :half]), normed(state, f"{name}.BN", x[:, half:])
        return torch.cat(parts, dim=1)
    affine = state[f"{name}.weight"], state[f"{name}.bias"]
    if f"{name}.running_mean" not in state:
        return F.instance_norm(x, weight=affine[0], bias=affine[1])
    return F.batch_norm(
        x, state[f"{name}.running_mean"], state[f"{name}.running_var"], *affine, training=False
    )


def resnet50_map(
    state: State,
    prefix: str,
    x: torch.Tensor,
    *,
    last_stride: int,
    relu: bool = True,
    ceil: bool = False,
) -> torch.Tensor:
    x = normed(state, f"{prefix}bn1", F.conv2d(x, state[f"{prefix}conv1.weight"], None, 2, 3))
    x = F.relu(x) if relu else x
    x = F.max_pool2d(x, 3, 2, 0 if ceil else 1, ceil_mode=ceil)
    for stage, stride in ((1, 1), (2, 2), (3, 2), (4, last_stride)):
        for place in range(BLOCKS[stage - 1]):
            name, step = f"{prefix}layer{stage}.{place}", stride if place == 0 else 1
            y = F.relu(normed(state, f"{name}.bn1", F.conv2d(x, state[f"{name}.conv1.weight"])))
            y = F.conv2d(y, state[f"{name}.conv2.weight"], None, step, 1)
            y = F.conv2d(F.relu(normed(state, f"{name}.bn2", y)), state[f"{name}.conv3.weight"])
            if place == 0:
                x = F.conv2d(x, state[f"{name}.downsample.0.weight"], None, step)
                x = normed(state, f"{name}.downsample.1", x)
            x = F.relu(normed(state, f"{name}.bn3", y) + x)
    return x


def generalized_mean(x: torch.Tensor, power: float) -> torch.Tensor:
    return ((x.clamp(min=1e-6) ** power).mean((2, 3))) ** (1 / power)


def osnet_widths(width: float) -> list[int]:
    return [int(channels * width) for channels in (64, 256, 384, 512)]


def light(name: str, channels: int) -> State:
    depthwise = torch.randn(channels, 1, 3, 3) / 3
    made = {f"{name}.conv1.weight": conv(channels, channels), f"{name}.conv2.weight": depthwise}
    return made | norm(f"{name}.bn", channels)


def conv_norm(name: str, outside: int, inside: int) -> State:
    return {f"{name}.conv.weight": conv(outside, inside)} | norm(f"{name}.bn", outside)


def osnet_blocks(ain: bool) -> Iterator[tuple[str, int, int, bool]]:
    """Name, stage and place of each block, and whether it normalizes by instance."""
    instance = {"conv2.0", "conv2.1", "conv3.1", "conv4.0"} if ain else set()
    for stage in (2, 3, 4):
        for place in (0, 1):
            name = f"conv{stage}.{place}"
            yield name, stage, place, name in instance


def streams(name: str, ain: bool) -> list[list[str]]:
    """The names of the light convolutions of a block, stream by stream."""
    if ain:
        return [[f"{name}.conv2.{t}.layers.{i}" for i in range(t + 1)] for t in range(4)]
    lone = [[f"{name}.conv2a"]]
    return lone + [[f"{name}.conv2{'abcd'[t]}.{i}" for i in range(t + 1)] for t in (1, 2, 3)]


def osnet(width: float, *, ain: bool = False, classes: int = 11) -> State:
    """torchreid's OSNet or OSNet-AIN with its classifier."""
    widths = osnet_widths(width)
    state = {"conv1.conv.weight": conv(widths[0], 3, 7)}
    state |= norm("conv1.bn", widths[0], running=not ain)
    for name, stage, place, instance in osnet_blocks(ain):
        outside, inside = widths[stage - 1], widths[stage - 2 if place == 0 else stage - 1]
        middle = outside // 4
        state |= conv_norm(f"{name}.conv1", middle, inside)
        for each in streams(name, ain):
            for layer in each:
                state |= light(layer, middle)
        for gate, (out, into) in (("fc1", (middle // 16, middle)), ("fc2", (middle, middle // 16))):
            state[f"{name}.gate.{gate}.weight"] = conv(out, into)
            state[f"{name}.gate.{gate}.bias"] = torch.randn(out)
        if instance:
            state[f"{name}.conv3.conv.weight"] = conv(outside, middle)
            state |= norm(f"{name}.IN", outside, running=False)
        else:
            state |= conv_norm(f"{name}.conv3", outside, middle)
        if inside != outside:
            state |= conv_norm(f"{name}.downsample", outside, inside)
    for stage in (2, 3):
        name = f"pool{stage}.0" if ain else f"conv{stage}.2.0"
        state |= conv_norm(name, widths[stage - 1], widths[stage - 1])
    state |= conv_norm("conv5", widths[3], widths[3])
    state |= linear("fc.0", 512, widths[3]) | norm("fc.1", 512)
    return state | linear("classifier", classes, 512)


def osnet_feature(state: State, x: torch.Tensor, *, ain: bool = False) -> torch.Tensor:
    def convolved(name: str, x: torch.Tensor, stride: int = 1, padding: int = 0) -> torch.Tensor:
        return normed(
            state, f"{name}.bn", F.conv2d(x, state[f"{name}.conv.weight"], None, stride, padding)
        )

    def gated(name: str, x: torch.Tensor) -> torch.Tensor:
        y = F.adaptive_avg_pool2d(x, 1)
        y = F.relu(F.conv2d(y, state[f"{name}.fc1.weight"], state[f"{name}.fc1.bias"]))
        return x * F.conv2d(y, state[f"{name}.fc2.weight"], state[f"{name}.fc2.bias"]).sigmoid()

    x = F.max_pool2d(F.relu(convolved("conv1", x, 2, 3)), 3, 2, 1)
    for name, stage, place, instance in osnet_blocks(ain):
        split = F.relu(convolved(f"{name}.conv1", x))
        joined = torch.zeros_like(split)
        for each in streams(name, ain):
            y = split
            for layer in each:
                y = F.conv2d(y, state[f"{layer}.conv1.weight"])
                y = F.conv2d(y, state[f"{layer}.conv2.weight"], None, 1, 1, groups=y.shape[1])
                y = F.relu(normed(state, f"{layer}.bn", y))
            joined = joined + gated(f"{name}.gate", y)
        if instance:
            joined = F.conv2d(joined, state[f"{name}.conv3.conv.weight"])
            joined = normed(state, f"{name}.IN", joined)
        else:
            joined = convolved(f"{name}.conv3", joined)
        changed = f"{name}.downsample.conv.weight" in state
        x = F.relu(joined + (convolved(f"{name}.downsample", x) if changed else x))
        if place == 1 and stage < 4:
            x = F.relu(convolved(f"pool{stage}.0" if ain else f"conv{stage}.2.0", x))
            x = F.avg_pool2d(x, 2, 2)
    pooled = F.relu(convolved("conv5", x)).mean((2, 3))
    hidden = F.linear(pooled, state["fc.0.weight"], state["fc.0.bias"])
    return F.relu(normed(state, "fc.1", hidden))


def osnet_of_onnx(path: str) -> State:
    """torchreid's state of an OSNet that was exported with its normalizations folded in.

    A folded convolution becomes one without bias and a normalization that adds the bias alone.
    """
    model = onnx.load(path)
    stored = {each.name: each for each in model.graph.initializer}
    tensors = {k: torch.from_numpy(numpy_helper.to_array(v).copy()) for k, v in stored.items()}
    state: State = {}
    for node in model.graph.node:
        if node.op_type != "Conv":
            continue
        # A shared gate keeps its own name; a folded convolution is named by its output, as in
        # "/conv2/conv2.0/conv2b/conv2b.0/conv2/Conv_output_0".
        name = node.input[1].removesuffix(".weight")
        if name.startswith("onnx::"):
            name = ".".join(_told_once(node.output[0].strip("/").split("/")[:-1]))
        state[f"{name}.weight"] = tensors[node.input[1]]
        if len(node.input) < 3 or ".gate." in name:
            if len(node.input) == 3:
                state[f"{name}.bias"] = tensors[node.input[2]]
            continue
        channels = len(tensors[node.input[2]])
        bn = f"{name.removesuffix('.conv').removesuffix('.conv2')}.bn"
        state[f"{bn}.weight"] = torch.ones(channels)
        state[f"{bn}.bias"] = tensors[node.input[2]]
        state[f"{bn}.running_mean"] = torch.zeros(channels)
        state[f"{bn}.running_var"] = torch.full((channels,), 1 - 1e-5)
    return state | {key: tensor for key, tensor in tensors.items() if key.startswith("fc.")}


def _told_once(parts: list[str]) -> list[str]:
    """`conv2, conv2.0, conv2b, conv2b.0, conv1`: a part that the next begins with says nothing."""
    followed = zip(parts, [*parts[1:], ""], strict=True)
    return [part for part, after in followed if not after.startswith(f"{part}.")]


def vit(classes: int = 5, patches: int = 128) -> State:
    """TransReID's ViT-B/16 with its neck and classifier; one layer's matrices serve all twelve."""
    state = {
        "base.cls_token": torch.randn(1, 1, 768),
        "base.pos_embed": torch.randn(1, patches + 1, 768),
        "base.patch_embed.proj.weight": torch.randn(768, 3, 16, 16) / 28,
        "base.patch_embed.proj.bias": torch.randn(768) / 5,
    }
    shared = linear("attn.qkv", 3 * 768, 768) | linear("attn.proj", 768, 768)
    shared |= linear("mlp.fc1", 3072, 768) | linear("mlp.fc2", 768, 3072)
    for layer in range(12):
        state |= {f"base.blocks.{layer}.{key}": tensor for key, tensor in shared.items()}
        for name in ("norm1", "norm2"):
            state |= norm(f"base.blocks.{layer}.{name}", 768, running=False)
    state |= norm("base.norm", 768, running=False) | linear("base.fc", 10, 768)
    return state | norm("bottleneck", 768) | linear("classifier", classes, 768, bias=False)


def vit_token(state: State, x: torch.Tensor, stride: int = 16) -> torch.Tensor:
    def layer_norm(name: str, x: torch.Tensor) -> torch.Tensor:
        return F.layer_norm(x, (768,), state[f"{name}.weight"], state[f"{name}.bias"], 1e-6)

    def matrix(name: str, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])

    proj = "base.patch_embed.proj"
    x = F.conv2d(x, state[f"{proj}.weight"], state[f"{proj}.bias"], stride)
    x = x.reshape(*x.shape[:2], -1).permute(0, 2, 1)
    x = torch.cat([state["base.cls_token"].repeat(len(x), 1, 1), x], 1) + state["base.pos_embed"]
    for place in range(12):
        name = f"base.blocks.{place}"
        packed = matrix(f"{name}.attn.qkv", layer_norm(f"{name}.norm1", x))
        heads = [part.chunk(12, dim=2) for part in packed.chunk(3, dim=2)]
        seen = [
            ((query @ key.transpose(1, 2)) / np.sqrt(64)).softmax(2) @ value
            for query, key, value in zip(*heads, strict=True)
        ]
        x = x + matrix(f"{name}.attn.proj", torch.cat(seen, 2))
        y = F.gelu(matrix(f"{name}.mlp.fc1", layer_norm(f"{name}.norm2", x)))
        x = x + matrix(f"{name}.mlp.fc2", y)
    return layer_norm("base.norm", x)[:, 0]
