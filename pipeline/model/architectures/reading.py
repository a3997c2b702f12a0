"""Read a checkpoint file: the sets of tensors in it, without running its code.

A PyTorch file is read with `weights_only=True`. Anything else that it names (argparse.Namespace, a
path, a defaultdict, the classes of a whole module) is replaced by inert stand-ins, so that none of
its code runs and only its tensors are used.
"""

import pickle
import re
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from pipeline.errors import InputError
from pipeline.model.file_heads import is_safetensors, read_head, zip_kind

_DEEPEST = 4  # mappings inside mappings: {"checkpoint": {"model": {"state_dict": ...}}}
_MOST_STAND_INS = 200
_SHOWN = 3


@dataclass(frozen=True)
class WeightSet:
    """One mapping of tensors in a checkpoint: its place (`model.state_dict`), and its tensors.

    `others` names the entries that are not tensors, which are ignored.
    """

    name: str
    tensors: Mapping[str, torch.Tensor]
    others: tuple[str, ...] = ()


def read_weights(path: str) -> list[WeightSet]:
    """Read every mapping of tensors by name from a checkpoint, in the file's order.

    Raise InputError for a file that cannot be read or has no tensors by name.

    >>> read_weights("absent.pth")
    Traceback (most recent call last):
    pipeline.errors.InputError: absent.pth: no such file
    """
    head = read_head(path)
    if is_safetensors(head):
        return [WeightSet("", _read_safetensors(path))]
    if head.startswith(b"PK\x03\x04"):
        _check_zip(path)
    stored, named = _read_pickle(path)
    found = list(_sets(stored, "", 0, set()))
    if found:
        return found
    if named:
        more = f" and {len(named) - _SHOWN} more" if len(named) > _SHOWN else ""
        raise InputError(
            f"{path}: refused, because reading it would run code that it names: "
            f"{', '.join(named[:_SHOWN])}{more}; "
            "save the tensors alone, torch.save(model.state_dict(), ...)"
        )
    raise InputError(f"{path}: holds a {type(stored).__name__}, not tensors by name")


def _sets(stored: Any, name: str, depth: int, seen: set[int]) -> Iterator[WeightSet]:
    if not isinstance(stored, Mapping) or depth > _DEEPEST or id(stored) in seen:
        return
    seen.add(id(stored))
    tensors = {k: v for k, v in stored.items() if isinstance(k, str) and _is_tensor(v)}
    if tensors:
        yield WeightSet(name, tensors, tuple(str(k) for k in stored if k not in tensors))
    for key, inner in stored.items():
        if isinstance(key, str):
            yield from _sets(inner, f"{name}.{key}" if name else key, depth + 1, seen)


def _is_tensor(value: Any) -> bool:
    return isinstance(value, torch.Tensor)


class _Inert(list):  # a list, since the reader appends to nothing else
    """Stand in for a class that a checkpoint names: accept anything, and keep nothing."""

    def __new__(cls, *_args: Any, **_fields: Any) -> "_Inert":
        return super().__new__(cls)

    def __init__(self, *_args: Any, **_fields: Any) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        del state


def _stand_in(name: str, *, mapping: bool) -> type:
    """An inert class in place of `name`; with `mapping`, its instances keep their items."""

    def made(_cls: type, *_args: Any, **_fields: Any) -> OrderedDict:
        return OrderedDict()

    # For a mapping, the reader accepts only the plain classes, so `made` creates one of these.
    return type(name, (_Inert,), {"__new__": made} if mapping else {})


def _read_pickle(path: str) -> tuple[Any, list[str]]:
    """The contents of a PyTorch file, and the names that were replaced in it."""
    mappings: dict[str, bool] = dict.fromkeys(_unsafe_names(path), False)
    for _ in range(_MOST_STAND_INS):
        stand_ins: list[Any] = [(_stand_in(n, mapping=kind), n) for n, kind in mappings.items()]
        try:
            with torch.serialization.safe_globals(stand_ins), warnings.catch_warnings():
                # The reader itself refuses what it cannot read of a newer protocol.
                warnings.filterwarnings("ignore", "Detected pickle protocol", UserWarning)
                return torch.load(path, map_location="cpu", weights_only=True), list(mappings)
        except pickle.UnpicklingError as error:
            text = str(error)
            # An object turns out to be a mapping; older files store its names one by one.
            filled = re.search(
                r"Can only SETITEMS? for .*<class '(?:[\w.]*reading\.)?(.+?)'>", text
            )
            named = re.search(r"GLOBAL ([\w.]+)", text)
            # For Python's own names, the message has only the last part.
            name = named and (named[1] if "." in named[1] else f"builtins.{named[1]}")
            if filled is not None and mappings.get(filled[1]) is False:
                mappings[filled[1]] = True
            elif name is not None and name not in mappings:
                mappings[name] = False
            elif name is not None:
                raise InputError(
                    f"{path}: refused, because reading it would run code that it names: "
                    f"{name}; save the tensors alone, torch.save(model.state_dict(), ...)"
                ) from error
            else:
                raise _damaged(path, error) from error
        except Exception as error:  # a damaged pickle may raise any error
            raise _damaged(path, error) from error
    raise InputError(
        f"{path}: names more than {_MOST_STAND_INS} kinds of objects beside its tensors; "
        "save the tensors alone, torch.save(model.state_dict(), ...)"
    )


def _unsafe_names(path: str) -> list[str]:
    """The names in a file that are not tensors; empty for the older format, which has no list of
    them.

    Reading a damaged file reports the damage.
    """
    try:
        return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except (ValueError, RuntimeError, EOFError, KeyError, IndexError, pickle.UnpicklingError):
        return []


def _check_zip(path: str) -> None:
    """Refuse a network in place of a checkpoint, before its code could be read."""
    try:
        kind = zip_kind(path)
    except zipfile.BadZipFile as error:
        raise _damaged(path, error) from error
    if kind not in ("checkpoint", None):
        raise InputError(f"{path}: is a network ({kind}), not a checkpoint: give it as `model`")


def _damaged(path: str, error: Exception) -> InputError:
    lines = [line for line in str(error).splitlines() if "Unsupported" in line] or [str(error)]
    reason = lines[0].strip().split(". ")[0]
    return InputError(
        f"{path}: the checkpoint is damaged, or none that torch.save wrote ({reason})"
    )


def _read_safetensors(path: str) -> dict[str, torch.Tensor]:
    try:
        return load_file(path, device="cpu")
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path}: the checkpoint is damaged ({error})") from error
