"""torchvision's networks, imported without torch's compiler.

torchvision imports the compiler to ask it one question about an operator that no network here uses.
That takes two seconds of CPU in each process, nearly as much as torch itself.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any

__all__ = ["Bottleneck", "ResNet", "models"]

_COMPILER = "torch._dynamo.utils"


@contextmanager
def _without_compiler() -> Iterator[None]:
    """Answer torchvision's question in the place of the compiler; leave a loaded one alone."""
    if _COMPILER in sys.modules:
        yield
        return
    stand_in = ModuleType(_COMPILER)

    def answer(name: str) -> Any:
        if name == "is_compile_supported":
            return lambda _device_type: False
        if name.startswith("__"):  # Python's own questions to any module
            raise AttributeError(name)
        del sys.modules[_COMPILER]  # an unknown question: the compiler must answer
        return getattr(import_module(_COMPILER), name)

    stand_in.__getattr__ = answer  # type: ignore[method-assign]
    sys.modules[_COMPILER] = stand_in
    try:
        yield
    finally:
        if sys.modules.get(_COMPILER) is stand_in:
            del sys.modules[_COMPILER]


with _without_compiler():
    from torchvision import models
    from torchvision.models.resnet import Bottleneck, ResNet
