"""Networks whose weights come from a checkpoint, built without values of their own."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn import init
from torch.overrides import TorchFunctionMode

_FILLING = {
    init.constant_,
    init.kaiming_normal_,
    init.kaiming_uniform_,
    init.normal_,
    init.ones_,
    init.uniform_,
    init.xavier_uniform_,
    init.zeros_,
}


class _LeftAsTheyAre(TorchFunctionMode):
    """Leave out what layers fill new weights with, where PyTorch lets this be changed."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        del types
        if func in _FILLING:
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))


def without_values() -> TorchFunctionMode:
    """A context in which most layers leave their weights undefined, and draw no numbers."""
    return _LeftAsTheyAre()


@contextmanager
def without_memory() -> Iterator[None]:
    """A context in which layers get no memory either: their weights are on PyTorch's meta device.

    To fill weights there would take longer than to build the layers.
    """
    with torch.device("meta"), without_values():
        yield
