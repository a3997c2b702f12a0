"""Checkpoints: reading weights without running what a file says, and matching them by name.

A checkpoint matches its network when every key is there in the right shape and no other key is.
Exactly three things are forgiven, and the first two are logged: classifier heads (keys that begin
with a name that the network's toolbox gives its heads, and that the network has no place for),
batch counters that are missing (`num_batches_tracked`, which inference does not read), and what
training wraps around a network: the prefixes of PREFIXES on every key, and the count of an averaged
model.
"""

import logging
import pickle
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from pipeline.errors import InputError
from pipeline.model.kinds import is_safetensors, read_head

log = logging.getLogger(__name__)

HEADS = ("fc", "classifier", "head", "heads")
"""What torchvision calls its classifier heads."""

WRAPPERS = ("state_dict", "model")
PREFIXES = ("module.", "_orig_mod.")
"""What DataParallel (and an averaged model), and `torch.compile`, put before every key."""

_AVERAGED = "n_averaged"  # the count that torch.optim.swa_utils.AveragedModel keeps beside the keys
_SHOWN = 10

# NumPy numbers, which training scripts leave beside the weights (a best rank-1, say): reading one
# runs nothing of the file. Checkpoints of NumPy 1 name the same function by its older place.
_NUMBER: Any = np.float64(0).__reduce__()[0]
_HARMLESS = [
    _NUMBER,
    (_NUMBER, "numpy.core.multiarray.scalar"),
    np.dtype,
    *(type(np.dtype(kind)) for kind in (np.float32, np.float64, np.int32, np.int64)),
]


def load_state(path: str) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint by name, on the CPU, with wrappers and prefixes taken off.

    Reads PyTorch files with `weights_only=True`, so a file that would run code is refused, and
    safetensors files. A wrapper is a mapping that holds the tensors
    under a key of WRAPPERS. Raises InputError for a file that cannot be read or holds no tensors.
    """
    if is_safetensors(read_head(path)):
        stored: Any = _read_safetensors(path)
    else:
        stored = _read_pickle(path)
    return _strip(_unwrap(path, stored))


def fill(
    module: torch.nn.Module,
    path: str,
    state: Mapping[str, torch.Tensor],
    heads: Sequence[str] = HEADS,
) -> torch.nn.Module:
    """The module with the checkpoint's weights as float32, in evaluation mode, channels last.

    The module may lie on PyTorch's meta device: it takes the checkpoint's tensors, and nothing of
    its own start is left. Raises InputError as `match_state` does.
    """
    matched = match_state(path, state, module.state_dict(), heads)
    widened = {k: t.float() if t.is_floating_point() else t for k, t in matched.items()}
    module.load_state_dict(widened, strict=True, assign=True)
    return module.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def match_state(
    path: str,
    state: Mapping[str, torch.Tensor],
    wanted: Mapping[str, torch.Tensor],
    heads: Sequence[str] = HEADS,
) -> dict[str, torch.Tensor]:
    """`state` less its classifier heads, checked to hold what `wanted` holds, key by key.

    `path` is for the message; `heads` are the names that heads may have. Raises InputError that
    lists the first ten missing, unexpected and misshapen keys of each sort, and how many there are.
    """
    dropped = [
        key
        for key in state
        if key not in wanted and any(key == head or key.startswith(f"{head}.") for head in heads)
    ]
    if dropped:
        log.info("%s: classifier head left out: %s", path, ", ".join(sorted(dropped)))
    kept = {key: tensor for key, tensor in state.items() if key not in set(dropped)}
    counters = [k for k in wanted if k not in kept and k.endswith(".num_batches_tracked")]
    if counters:
        log.info("%s: %d batch counters are missing and not needed", path, len(counters))
    missing = [key for key in wanted if key not in kept and key not in set(counters)]
    unexpected = [key for key in kept if key not in wanted]
    misshapen = [
        f"{key} is {list(kept[key].shape)}, should be {list(tensor.shape)}"
        for key, tensor in wanted.items()
        if key in kept and kept[key].shape != tensor.shape
    ]
    sorts = {"missing": missing, "unexpected": unexpected, "misshapen": misshapen}
    faults = [_listed(sort, keys) for sort, keys in sorts.items() if keys]
    if faults:
        raise InputError(f"{path}: the checkpoint does not fit the network; {'; '.join(faults)}")
    return {**{key: torch.tensor(0) for key in counters}, **kept}


def _listed(sort: str, keys: Sequence[str]) -> str:
    more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
    return f"{len(keys)} {sort}: {', '.join(keys[:_SHOWN])}{more}"


def _read_pickle(path: str) -> Any:
    try:
        with torch.serialization.safe_globals(_HARMLESS):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"(?:GLOBAL|class) ([\w.]+)", str(error))
        if named is None:
            raise _damaged(path, error) from error
        raise InputError(
            f"{path}: refused, because reading it would run code that it names: {named[1]}; "
            "save the tensors alone, torch.save(model.state_dict(), ...)"
        ) from error
    except Exception as error:  # a damaged pickle raises whatever its reader stumbles over
        raise _damaged(path, error) from error


def _damaged(path: str, error: Exception) -> InputError:
    lines = [line for line in str(error).splitlines() if "Unsupported" in line] or [str(error)]
    reason = lines[0].strip().split(". ")[0]
    return InputError(
        f"{path}: the checkpoint is damaged, or none that torch.save wrote ({reason})"
    )


def _read_safetensors(path: str) -> Any:
    try:
        return load_file(path, device="cpu")
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path}: the checkpoint is damaged ({error})") from error


def _unwrap(path: str, stored: Any) -> dict[str, torch.Tensor]:
    while isinstance(stored, Mapping):
        inner = next((w for w in WRAPPERS if isinstance(stored.get(w), Mapping)), None)
        if inner is None:
            break
        stored = stored[inner]
    if not isinstance(stored, Mapping) or not stored:
        raise InputError(f"{path}: holds a {type(stored).__name__}, not tensors by name")
    strange = [str(k) for k, v in stored.items() if not isinstance(v, torch.Tensor)]
    if strange:
        raise InputError(
            f"{path}: not every entry is a tensor: {_listed('others', strange)}; "
            f"tensors may lie under {' or '.join(WRAPPERS)}"
        )
    return dict(stored)


def _strip(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Take off what training put around the keys; a prefix only where every key has it."""
    averaged = state.get(_AVERAGED)
    if averaged is not None and averaged.ndim == 0:
        state = {key: tensor for key, tensor in state.items() if key != _AVERAGED}
    for prefix in PREFIXES:
        if state and all(key.startswith(prefix) for key in state):
            return _strip({key.removeprefix(prefix): tensor for key, tensor in state.items()})
    return state
