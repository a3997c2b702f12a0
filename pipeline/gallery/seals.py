"""Seals: JSON that ends with a checksum of its own content."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

_SEAL = "checksum"


def seal(about: Mapping[str, Any]) -> bytes:
    """JSON that ends with the SHA-256 of its content.

    >>> unseal(seal({"version": 3}))
    {'version': 3}
    """
    digest = hashlib.sha256(json.dumps(about).encode()).hexdigest()
    return json.dumps({**about, _SEAL: digest}, indent=1).encode() + b"\n"


def unseal(data: bytes) -> dict[str, Any]:
    """The argument of `seal`; raise `ValueError` unless every byte is as `seal` wrote it."""
    about = json.loads(data)
    if isinstance(about, dict):
        content = {name: value for name, value in about.items() if name != _SEAL}
        if seal(content) == data:
            return content
    raise ValueError("its checksum is not that of its content")
