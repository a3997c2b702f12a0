"""Checkpoints: nothing is run, nothing is dropped in silence."""

import argparse
import datetime
import functools
import logging
import os
import pickle
from collections import Counter, OrderedDict, defaultdict
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.errors import InputError
from pipeline.model.architectures.checkpoints import compared, fit, load_weights
from pipeline.model.architectures.reading import read_weights
from tests.model.making import Pooled, save_script

STATE = {"layer.weight": torch.ones(2, 3), "layer.bias": torch.zeros(2)}


class Touching:
    """Unpickles by creating a file: what a malicious checkpoint can do, in small."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (self.path, "w")


def saved(path: Path, value: Any, **settings: Any) -> str:
    torch.save(value, path, **settings)
    return str(path)


def network() -> torch.nn.Module:
    """One that wants the keys of STATE."""
    return torch.nn.ModuleDict({"layer": torch.nn.Linear(3, 2)})


def fitted(path: str, module: torch.nn.Module | None = None) -> dict[str, torch.Tensor]:
    """What of a checkpoint fits the network."""
    return dict(fit(path, lambda _: module or network()).match.matched)


def same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


@pytest.mark.parametrize("settings", [{}, {"_use_new_zipfile_serialization": False}])
def test_code_in_a_checkpoint_is_refused_and_not_run(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    touched = tmp_path / "touched"
    path = saved(tmp_path / "evil.pth", {"weight": Touching(touched)}, **settings)
    with pytest.raises(InputError, match=r"evil\.pth: refused, because reading it would run code"):
        read_weights(path)
    assert not touched.exists()
    torch.load(path, weights_only=False)  # the trap is real: read otherwise, it snaps
    assert touched.exists()


def test_code_beside_the_weights_is_replaced_and_not_run(tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    path = saved(tmp_path / "c.pth", {"state_dict": STATE, "hook": Touching(touched)})
    assert same(fitted(path), STATE)
    assert not touched.exists()


def test_code_of_the_operating_system_is_refused_even_beside_weights(tmp_path: Path) -> None:
    class Removing:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.system, ("true",)

    path = saved(tmp_path / "c.pth", {"state_dict": STATE, "hook": Removing()})
    with pytest.raises(InputError, match=r"refused, because .* it names: posix\.system"):
        read_weights(path)


def test_whole_modules_are_refused_by_name(tmp_path: Path) -> None:
    module = saved(tmp_path / "module.pth", torch.nn.Linear(2, 2))
    with pytest.raises(InputError, match=r"torch\.nn\.modules\.linear\.Linear"):
        read_weights(module)


def test_a_network_in_place_of_a_checkpoint_is_told(tmp_path: Path) -> None:
    script = save_script(tmp_path / "n.pt", Pooled())
    with pytest.raises(InputError, match=r"a network \(torchscript\), not a checkpoint: .*`model`"):
        read_weights(str(script))


class Settings(dict):
    """A mapping of a training framework's own."""


@pytest.mark.parametrize("settings", [{}, {"_use_new_zipfile_serialization": False}])
@pytest.mark.parametrize(
    "beside",
    [
        argparse.Namespace(lr=0.1, nested=argparse.Namespace(k=1)),
        PurePosixPath("/data/x"),
        defaultdict(list, {"loss": [1.0]}),
        Settings(lr=0.1),
        Counter("aab"),
        {1, 2},
        3j,
        np.arange(3),
        np.random.default_rng(0).bit_generator.state,
        datetime.datetime(2024, 1, 2),
        functools.partial(print, "x"),
        OrderedDict(a=1),
        Decimal("0.1"),
        Exception("stopped"),
        torch.optim.SGD,
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__),
)
def test_objects_beside_the_weights_are_replaced_by_stand_ins(
    tmp_path: Path, beside: Any, settings: dict[str, Any]
) -> None:
    if beside is torch.optim.SGD:  # made here: it takes seconds to load what a first one needs
        beside = beside([torch.ones(1)], lr=0.1)
    path = saved(tmp_path / "c.pth", {"args": beside, "state_dict": STATE}, **settings)
    assert same(fitted(path), STATE)


def test_weights_inside_a_mapping_of_another_kind_are_found(tmp_path: Path) -> None:
    for mapping in (Settings(STATE), defaultdict(list, STATE)):
        assert same(fitted(saved(tmp_path / "c.pth", {"net": mapping})), STATE)


def test_a_checkpoint_that_holds_itself_is_read(tmp_path: Path) -> None:
    stored: dict[str, Any] = {"net": STATE}
    stored["again"] = stored
    assert same(fitted(saved(tmp_path / "c.pth", stored)), STATE)


@pytest.mark.parametrize(
    "stored",
    [
        STATE,
        OrderedDict(STATE),
        {"state_dict": STATE, "epoch": 60, "optimizer": {"lr": 0.1}},
        {"model": STATE, "iteration": 5},
        {"model": {"state_dict": STATE}},
        {f"module.{key}": tensor for key, tensor in STATE.items()},
        {"state_dict": {f"module.{key}": tensor for key, tensor in STATE.items()}},
        {"net": STATE, "epoch": 3},
        {"weights": STATE},
        {"model_state_dict": STATE, "optimizer_state_dict": {"state": {0: {"m": torch.ones(3)}}}},
        {f"backbone.{key}": tensor for key, tensor in STATE.items()},
        {f"module.model.{key}": tensor for key, tensor in STATE.items()},
        {"state_dict": {f"model.{key}": tensor for key, tensor in STATE.items()}},
        {**STATE, "epoch": 3},
    ],
)
def test_wrappers_and_module_prefix_are_taken_off(tmp_path: Path, stored: Any) -> None:
    assert same(fitted(saved(tmp_path / "c.pth", stored)), STATE)


def test_older_format_is_read(tmp_path: Path) -> None:
    path = saved(tmp_path / "c.pth", STATE, _use_new_zipfile_serialization=False)
    assert same(fitted(path), STATE)


def test_module_prefix_of_some_keys_is_a_name(tmp_path: Path) -> None:
    module = torch.nn.Sequential()
    module.module = torch.nn.Linear(3, 2)
    module.bias = torch.nn.Parameter(torch.ones(1))
    mixed = module.state_dict()
    assert mixed.keys() == {"module.weight", "module.bias", "bias"}
    assert fitted(saved(tmp_path / "c.pth", mixed), module).keys() == mixed.keys()


def test_keys_beside_the_prefix_are_left_out_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stored = {f"model.{key}": tensor for key, tensor in STATE.items()}
    path = saved(tmp_path / "c.pth", {"state_dict": {**stored, "criterion.centers": torch.ones(9)}})
    with caplog.at_level(logging.INFO):
        assert same(fitted(path), STATE)
    assert "c.pth: the prefix model. is taken off" in caplog.text
    assert "c.pth: not of the network, and left out: criterion.centers" in caplog.text


@pytest.mark.parametrize(
    ("names", "taken", "named"),
    [
        (("state_dict", "state_dict_ema"), "state_dict", ["state_dict_ema"]),
        (("state_dict_ema", "state_dict"), "state_dict", ["state_dict_ema"]),
        (("model_ema", "model"), "model", ["model_ema"]),
        (("model", "state_dict"), "state_dict", ["model"]),
    ],
)
def test_several_sets_are_told_and_one_can_be_named(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    names: tuple[str, ...],
    taken: str,
    named: list[str],
) -> None:
    several = {n: {k: t + i for k, t in STATE.items()} for i, n in enumerate(names)}
    path = saved(tmp_path / "c.pth", several)
    assert same(fitted(path), several[taken])
    assert f"took {taken} (for another, give {path}#{named[0]} as `checkpoint`)" in caplog.text
    for name in names:
        assert same(fitted(f"{path}#{name}"), several[name])
    with pytest.raises(InputError, match=rf"has no part best; its sets of tensors are {names[0]},"):
        fitted(f"{path}#best")


def test_of_sets_without_a_usual_name_none_is_guessed(tmp_path: Path) -> None:
    several = {n: {k: t + i for k, t in STATE.items()} for i, n in enumerate(("best", "last"))}
    path = saved(tmp_path / "c.pth", several)
    with pytest.raises(
        InputError, match=rf"several sets .* fit; name one .*: {path}#best, .*#last"
    ):
        fitted(path)
    assert same(fitted(f"{path}#last"), several["last"])
    pair = {f"{n}.{k}": t for n, state in several.items() for k, t in state.items()}
    path = saved(tmp_path / "pair.pth", {"state_dict": pair})
    with pytest.raises(InputError, match=r"pair\.pth#state_dict\.best, .*#state_dict\.last"):
        fitted(path)
    assert same(fitted(f"{path}#state_dict.last"), several["last"])
    assert same(fitted(f"{path}#last"), several["last"])


def test_a_file_whose_own_name_has_the_mark_is_that_file(tmp_path: Path) -> None:
    assert same(fitted(saved(tmp_path / "run#3.pth", STATE)), STATE)


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        (("cls_token", "patch_embed.proj.weight", "blocks.0.ls1.gamma"), "DINOv2"),
        (("prompt_learner.cls_ctx", "image_encoder.cv_embed"), "CLIP-ReID"),
        (("base.sie_embed", "base.patch_embed.proj.weight"), "TransReID with camera embeddings"),
        (("patch_embed.proj.weight", "blocks.0.attn.qkv.weight"), "a vision transformer of timm"),
        (("visual.transformer.resblocks.0.ln_1.weight",), "CLIP"),
    ],
)
def test_weights_of_networks_that_are_not_built_here_are_told(
    tmp_path: Path, keys: tuple[str, ...], told: str
) -> None:
    path = saved(tmp_path / "c.pth", {key: torch.ones(1) for key in keys})
    with pytest.raises(InputError, match=f"these look like weights of {told}.*torch.onnx.export"):
        fitted(path)


@pytest.mark.parametrize(
    ("stored", "told"),
    [
        ([torch.ones(1)], "holds a list, not tensors by name"),
        ({}, "holds a dict, not tensors by name"),
        (torch.ones(2), "holds a Tensor, not tensors by name"),
        ({"epoch": 3, "net": {}}, "holds a dict, not tensors by name"),
    ],
)
def test_what_holds_no_tensors_is_told(tmp_path: Path, stored: Any, told: str) -> None:
    with pytest.raises(InputError) as caught:
        read_weights(saved(tmp_path / "c.pth", stored))
    assert told in str(caught.value)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol 4")
def test_damaged_checkpoints_are_told(tmp_path: Path) -> None:
    whole = Path(saved(tmp_path / "whole.pth", STATE)).read_bytes()
    legacy = saved(tmp_path / "legacy.pth", STATE, _use_new_zipfile_serialization=False)
    contents = {
        "empty": b"",
        "text": b"this is not a checkpoint at all",
        "cut": whole[: len(whole) // 2],
        "legacy-cut": Path(legacy).read_bytes()[:-20],
        "plain-pickle": pickle.dumps({"a": 1}, protocol=4),
    }
    for name, content in contents.items():
        path = tmp_path / f"{name}.pth"
        path.write_bytes(content)
        with pytest.raises(InputError, match=rf"{name}\.pth: the (checkpoint is damaged|file is)"):
            read_weights(str(path))
    with pytest.raises(InputError, match="no such file"):
        read_weights(str(tmp_path / "absent.pth"))


def safetensors_file(path: Path) -> str:
    header = b'{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'
    path.write_bytes(len(header).to_bytes(8, "little") + header + torch.ones(2).numpy().tobytes())
    return str(path)


def test_safetensors_is_read(tmp_path: Path) -> None:
    path = safetensors_file(tmp_path / "c.safetensors")
    (found,) = read_weights(path)
    assert same(dict(found.tensors), {"w": torch.ones(2)})
    Path(path).write_bytes(Path(path).read_bytes()[:-4])
    with pytest.raises(InputError, match="the checkpoint is damaged"):
        read_weights(path)


def test_heads_go_by_name_and_are_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    heads = {f"{head}.weight": torch.ones(5) for head in ("fc", "classifier", "head", "heads")}
    path = saved(tmp_path / "c.pth", {**STATE, **heads})
    with caplog.at_level(logging.INFO):
        assert same(fitted(path), STATE)
    for name in heads:
        assert name in caplog.text


def test_a_head_that_the_network_has_a_place_for_stays() -> None:
    wanted = {**STATE, "classifier.0.weight": torch.zeros(5)}
    given = {**STATE, "classifier.0.weight": torch.ones(5), "classifier.2.weight": torch.ones(7)}
    match = compared(given, wanted)
    assert (match.faults, match.heads) == (0, ("classifier.2.weight",))
    assert torch.equal(match.matched["classifier.0.weight"], torch.ones(5))


def test_names_that_only_resemble_heads_are_unexpected(tmp_path: Path) -> None:
    for name in ("fc_extra.weight", "layer.fc.weight", "bottleneck.weight"):
        path = saved(tmp_path / "c.pth", {**STATE, name: torch.ones(1)})
        with pytest.raises(InputError, match=f"1 unexpected: {name}"):
            fitted(path)


def test_missing_unexpected_and_misshapen_are_listed_together(tmp_path: Path) -> None:
    path = saved(tmp_path / "c.pth", {"layer.weight": torch.ones(3, 2), "strange": torch.ones(1)})
    with pytest.raises(InputError) as caught:
        fitted(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: the checkpoint does not fit the network; ")
    assert "1 missing: layer.bias" in message
    assert "1 unexpected: strange" in message
    assert "1 misshapen: layer.weight is [3, 2], should be [2, 3]" in message
    assert "\n" not in message


def test_long_lists_end_with_their_count() -> None:
    match = compared({}, {f"w{i:02}": torch.ones(1) for i in range(25)})
    assert match.description().startswith("25 missing: w00, ")
    assert match.description().endswith(", w09 and 15 more")


def test_missing_batch_counters_are_forgiven_and_nothing_else_of_a_normalization() -> None:
    wanted = torch.nn.Sequential(torch.nn.BatchNorm2d(2)).state_dict()
    given = {key: tensor for key, tensor in wanted.items() if "num_batches" not in key}
    match = compared(given, wanted)
    assert (match.faults, match.matched.keys()) == (0, wanted.keys())
    del given["0.running_var"]
    assert compared(given, wanted).missing == ("0.running_var",)


@pytest.mark.parametrize(
    "stored",
    [
        {f"_orig_mod.{key}": tensor for key, tensor in STATE.items()},
        {f"module._orig_mod.{key}": tensor for key, tensor in STATE.items()},
        {f"_orig_mod.module.{key}": tensor for key, tensor in STATE.items()},
        {
            "n_averaged": torch.tensor(9),
            **{f"module.{key}": tensor for key, tensor in STATE.items()},
        },
        {
            "state_dict": {
                "n_averaged": torch.tensor(9),
                **{f"module.module.{key}": tensor for key, tensor in STATE.items()},
            }
        },
    ],
)
def test_what_training_wraps_around_keys_is_taken_off(tmp_path: Path, stored: Any) -> None:
    assert same(fitted(saved(tmp_path / "c.pth", stored)), STATE)


def test_a_real_averaged_and_compiled_model_is_read(tmp_path: Path) -> None:
    module = torch.nn.Linear(3, 2)
    averaged = torch.optim.swa_utils.AveragedModel(module)
    path = saved(tmp_path / "a.pth", averaged.state_dict())
    assert fitted(path, module).keys() == {"weight", "bias"}
    compiled = saved(tmp_path / "b.pth", torch.compile(module).state_dict())
    assert fitted(compiled, module).keys() == {"weight", "bias"}


@pytest.mark.parametrize("number", [np.float32(0.5), np.float64(0.5), np.int64(3)])
def test_numbers_of_numpy_beside_the_weights_are_read(tmp_path: Path, number: Any) -> None:
    path = tmp_path / "c.pth"
    assert same(fitted(saved(path, {"state_dict": STATE, "rank1": number})), STATE)
    older = saved(
        path, {"state_dict": STATE, "rank1": number}, _use_new_zipfile_serialization=False
    )
    content = path.read_bytes()
    assert b"numpy._core.multiarray" in content
    # Checkpoints of NumPy 1 name the same place without the underscore.
    path.write_bytes(content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    assert same(fitted(older), STATE)


def test_counters_that_are_missing_start_at_nothing(tmp_path: Path) -> None:
    with torch.device("meta"):
        module = torch.nn.Sequential(torch.nn.BatchNorm1d(2))
    given = {key: torch.ones(2) for key in module.state_dict() if "num_batches" not in key}
    match = compared({k: t.half() for k, t in given.items()}, module.state_dict())
    filled = load_weights(module, match.matched)
    assert not filled.training
    assert {tensor.device.type for tensor in filled.state_dict().values()} == {"cpu"}
    assert filled[0].weight.dtype == torch.float32
    assert filled[0].num_batches_tracked == 0


def test_heads_go_by_whole_names() -> None:
    heads = ("model.fc.weight", "classifier.weight")
    given = {**STATE, **dict.fromkeys(heads, torch.ones(5))}
    assert compared(given, STATE, ("model.fc", "classifier")).faults == 0
    assert compared(given, STATE, ("model.f", "fc", "class")).unexpected == heads
