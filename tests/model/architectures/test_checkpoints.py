"""Checkpoints: nothing is run, nothing is dropped in silence."""

import argparse
import logging
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.errors import InputError
from pipeline.model.architectures.checkpoints import fill, load_state, match_state

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


def same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


@pytest.mark.parametrize("settings", [{}, {"_use_new_zipfile_serialization": False}])
def test_code_in_a_checkpoint_is_refused_and_not_run(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    touched = tmp_path / "touched"
    path = saved(tmp_path / "evil.pth", {"weight": Touching(touched)}, **settings)
    with pytest.raises(InputError, match=r"evil\.pth: refused, because reading it would run code"):
        load_state(path)
    assert not touched.exists()
    torch.load(path, weights_only=False)  # the trap is real: read otherwise, it snaps
    assert touched.exists()


def test_whole_module_and_foreign_objects_are_refused_by_name(tmp_path: Path) -> None:
    module = saved(tmp_path / "module.pth", torch.nn.Linear(2, 2))
    with pytest.raises(InputError, match=r"torch\.nn\.modules\.linear\.Linear"):
        load_state(module)
    wrapped = saved(tmp_path / "args.pth", {"model": STATE, "args": argparse.Namespace(k=1)})
    with pytest.raises(InputError, match=r"argparse\.Namespace"):
        load_state(wrapped)


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
    ],
)
def test_wrappers_and_module_prefix_are_taken_off(tmp_path: Path, stored: Any) -> None:
    assert same(load_state(saved(tmp_path / "c.pth", stored)), STATE)


def test_older_format_is_read(tmp_path: Path) -> None:
    path = saved(tmp_path / "c.pth", STATE, _use_new_zipfile_serialization=False)
    assert same(load_state(path), STATE)


def test_module_prefix_of_some_keys_is_a_name(tmp_path: Path) -> None:
    mixed = {"module.weight": torch.ones(1), "bias": torch.ones(1)}
    assert load_state(saved(tmp_path / "c.pth", mixed)).keys() == mixed.keys()


@pytest.mark.parametrize(
    ("stored", "told"),
    [
        ([torch.ones(1)], "holds a list, not tensors by name"),
        ({}, "holds a dict, not tensors by name"),
        (torch.ones(2), "holds a Tensor, not tensors by name"),
        ({"epoch": 3, "net": STATE}, "not every entry is a tensor: 2 others: epoch, net"),
    ],
)
def test_what_holds_no_tensors_is_told(tmp_path: Path, stored: Any, told: str) -> None:
    with pytest.raises(InputError) as caught:
        load_state(saved(tmp_path / "c.pth", stored))
    assert told in str(caught.value)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol 4")
def test_damaged_checkpoints_are_told(tmp_path: Path) -> None:
    whole = Path(saved(tmp_path / "whole.pth", STATE)).read_bytes()
    legacy = saved(tmp_path / "legacy.pth", STATE, _use_new_zipfile_serialization=False)
    contents = {
        "empty": b"",
        "text": b"this is no checkpoint at all",
        "cut": whole[: len(whole) // 2],
        "legacy-cut": Path(legacy).read_bytes()[:-20],
        "plain-pickle": pickle.dumps({"a": 1}, protocol=4),
    }
    for name, content in contents.items():
        path = tmp_path / f"{name}.pth"
        path.write_bytes(content)
        with pytest.raises(InputError, match=rf"{name}\.pth: the (checkpoint is damaged|file is)"):
            load_state(str(path))
    with pytest.raises(InputError, match="no such file"):
        load_state(str(tmp_path / "absent.pth"))


def safetensors_file(path: Path) -> str:
    header = b'{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'
    path.write_bytes(len(header).to_bytes(8, "little") + header + torch.ones(2).numpy().tobytes())
    return str(path)


def test_safetensors_is_read(tmp_path: Path) -> None:
    path = safetensors_file(tmp_path / "c.safetensors")
    assert same(load_state(path), {"w": torch.ones(2)})
    Path(path).write_bytes(Path(path).read_bytes()[:-4])
    with pytest.raises(InputError, match="the checkpoint is damaged"):
        load_state(path)


def test_heads_go_by_name_and_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    heads = {f"{head}.weight": torch.ones(5) for head in ("fc", "classifier", "head", "heads")}
    with caplog.at_level(logging.INFO):
        assert same(match_state("c.pth", {**STATE, **heads}, STATE), STATE)
    for name in heads:
        assert name in caplog.text


def test_a_head_that_the_network_has_a_place_for_stays() -> None:
    wanted = {**STATE, "classifier.0.weight": torch.zeros(5)}
    given = {**STATE, "classifier.0.weight": torch.ones(5), "classifier.2.weight": torch.ones(7)}
    matched = match_state("c.pth", given, wanted)
    assert matched.keys() == wanted.keys()
    assert torch.equal(matched["classifier.0.weight"], torch.ones(5))


def test_names_that_only_resemble_heads_are_unexpected() -> None:
    for name in ("fc_extra.weight", "layer.fc.weight", "bottleneck.weight"):
        with pytest.raises(InputError, match=f"1 unexpected: {name}"):
            match_state("c.pth", {**STATE, name: torch.ones(1)}, STATE)


def test_missing_unexpected_and_misshapen_are_listed_together() -> None:
    given = {"layer.weight": torch.ones(3, 2), "strange": torch.ones(1)}
    with pytest.raises(InputError) as caught:
        match_state("c.pth", given, STATE)
    message = str(caught.value)
    assert message.startswith("c.pth: the checkpoint does not fit the network; ")
    assert "1 missing: layer.bias" in message
    assert "1 unexpected: strange" in message
    assert "1 misshapen: layer.weight is [3, 2], should be [2, 3]" in message
    assert "\n" not in message


def test_long_lists_end_with_their_count() -> None:
    wanted = {f"w{i:02}": torch.ones(1) for i in range(25)}
    with pytest.raises(InputError, match=r"25 missing: w00, .*, w09 and 15 more") as caught:
        match_state("c.pth", {}, wanted)
    assert "w10" not in str(caught.value)


def test_missing_batch_counters_are_forgiven_and_nothing_else_of_a_normalization() -> None:
    wanted = torch.nn.Sequential(torch.nn.BatchNorm2d(2)).state_dict()
    given = {key: tensor for key, tensor in wanted.items() if "num_batches" not in key}
    assert match_state("c.pth", given, wanted).keys() == wanted.keys()
    del given["0.running_var"]
    with pytest.raises(InputError, match=r"1 missing: 0\.running_var"):
        match_state("c.pth", given, wanted)


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
    assert same(load_state(saved(tmp_path / "c.pth", stored)), STATE)


def test_a_real_averaged_and_compiled_model_is_read(tmp_path: Path) -> None:
    module = torch.nn.Linear(3, 2)
    averaged = torch.optim.swa_utils.AveragedModel(module)
    path = saved(tmp_path / "a.pth", averaged.state_dict())
    assert load_state(path).keys() == {"weight", "bias"}
    compiled = saved(tmp_path / "b.pth", torch.compile(module).state_dict())
    assert load_state(compiled).keys() == {"weight", "bias"}


@pytest.mark.parametrize("number", [np.float32(0.5), np.float64(0.5), np.int64(3)])
def test_numbers_of_numpy_beside_the_weights_are_read(tmp_path: Path, number: Any) -> None:
    path = tmp_path / "c.pth"
    assert same(load_state(saved(path, {"state_dict": STATE, "rank1": number})), STATE)
    older = saved(
        path, {"state_dict": STATE, "rank1": number}, _use_new_zipfile_serialization=False
    )
    content = path.read_bytes()
    assert b"numpy._core.multiarray" in content
    # Checkpoints of NumPy 1 name the same place without the underscore.
    path.write_bytes(content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    assert same(load_state(older), STATE)


def test_counters_that_are_missing_start_at_nothing(tmp_path: Path) -> None:
    with torch.device("meta"):
        module = torch.nn.Sequential(torch.nn.BatchNorm1d(2))
    given = {key: torch.ones(2) for key in module.state_dict() if "num_batches" not in key}
    filled = fill(module, "c.pth", {key: tensor.half() for key, tensor in given.items()})
    assert not filled.training
    assert {tensor.device.type for tensor in filled.state_dict().values()} == {"cpu"}
    assert filled[0].weight.dtype == torch.float32
    assert filled[0].num_batches_tracked == 0


def test_heads_go_by_whole_names(tmp_path: Path) -> None:
    given = {**STATE, "model.fc.weight": torch.ones(5), "classifier.weight": torch.ones(5)}
    heads = ("model.fc", "classifier")
    assert same(match_state("c.pth", given, STATE, heads), STATE)
    with pytest.raises(InputError, match=r"2 unexpected: model\.fc\.weight, classifier\.weight"):
        match_state("c.pth", given, STATE, ("model.f", "fc", "class"))
