"""Seals: every bit counts."""

import pytest

from pipeline.gallery.seals import seal, unseal


def test_a_seal_covers_every_bit():
    data = seal({"version": 3, "name": "é"})
    assert unseal(data) == {"version": 3, "name": "é"}
    for place in range(8 * len(data)):
        changed = bytearray(data)
        changed[place // 8] ^= 1 << place % 8
        with pytest.raises(ValueError):
            unseal(bytes(changed))


@pytest.mark.parametrize("data", [b"", b"[]", b"3", seal({"a": 1}) + b" ", seal({"a": 1})[:-1]])
def test_what_is_not_sealed(data):
    with pytest.raises(ValueError, match=r"checksum|Expecting"):
        unseal(data)
