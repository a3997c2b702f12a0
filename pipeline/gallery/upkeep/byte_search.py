"""Search large files for many byte strings at once, at any offset.

A string of at least `stride + 7` bytes that lies anywhere in a file covers 8 bytes which begin at a
multiple of `stride`. So the search checks only every stride-th place of the file, for any of the
first `stride` windows of 8 bytes of each string. A bitmap of hashes excludes nearly every place,
and the rest is compared byte by byte.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

_WORD = 8
_STRIDES = (8, 4, 2, 1)
_PLACES_A_TURN = 1 << 20
_HASH = np.uint64(0x9E3779B97F4A7C15)
_BITS_A_KEY = 16
_LARGEST_BITMAP = 27
_ANCHORS = 32


@dataclass(frozen=True)
class Pattern:
    """A byte string, and the offset of its most distinctive bytes, which are searched for."""

    text: bytes
    anchor: int


@dataclass(frozen=True, eq=False)
class Needles:
    """Byte strings prepared for the search; `number` is the index of each among the given ones.

    Strings of fewer than 8 bytes are left out, because they would be found by chance.
    """

    patterns: tuple[Pattern, ...]
    numbers: tuple[int, ...]
    stride: int
    keys: np.ndarray
    owners: np.ndarray
    shifts: np.ndarray
    bitmap: np.ndarray
    drop: np.uint64


def needles(texts: Sequence[bytes]) -> list[Needles]:
    """The strings in groups of one stride each."""
    groups: dict[int, list[int]] = {}
    for number, text in enumerate(texts):
        stride = next((each for each in _STRIDES if len(text) >= each + _WORD - 1), 0)
        if stride:
            groups.setdefault(stride, []).append(number)
    return [_group([texts[n] for n in numbers], numbers, s) for s, numbers in groups.items()]


def occurrences(path: Path, wanted: Sequence[Needles]) -> Iterator[tuple[int, int]]:
    """The number of a string and its offset in a file, for every occurrence."""
    if path.stat().st_size < _WORD:
        return
    data = np.memmap(path, np.uint8, mode="r")
    for group in wanted:
        yield from _of_group(data, group)


def _group(texts: list[bytes], numbers: list[int], stride: int) -> Needles:
    patterns = tuple(Pattern(text, _anchor(text, stride)) for text in texts)
    starts = np.array(
        [
            list(each.text[each.anchor : each.anchor + stride + _WORD - 1])
            for each in patterns
        ],
        dtype=np.uint8,
    )  # fmt: skip
    windows = np.lib.stride_tricks.sliding_window_view(starts, _WORD, axis=1)
    keys = np.ascontiguousarray(windows).view("<u8").ravel()
    order = np.argsort(keys, kind="stable")
    bits = min(_LARGEST_BITMAP, max(16, int(np.ceil(np.log2(len(keys) * _BITS_A_KEY)))))
    drop = np.uint64(64 - bits)
    bitmap = np.zeros(1 << bits, dtype=bool)
    bitmap[(keys * _HASH) >> drop] = True
    owners, shifts = np.divmod(order, stride)
    return Needles(patterns, tuple(numbers), stride, keys[order], owners, shifts, bitmap, drop)


def _anchor(text: bytes, stride: int) -> int:
    """The offset at which the string varies most: a run of zeros would occur everywhere."""
    length = stride + _WORD - 1
    places = range(0, min(len(text) - length, _ANCHORS * _WORD) + 1, _WORD)
    return max(places, key=lambda place: len(set(text[place : place + length])))


def _of_group(data: np.ndarray, group: Needles) -> Iterator[tuple[int, int]]:
    count = (len(data) - _WORD) // group.stride + 1
    words = np.ndarray((count,), "<u8", data, strides=(group.stride,))
    for start in range(0, count, _PLACES_A_TURN):
        turn = words[start : start + _PLACES_A_TURN]
        met = np.flatnonzero(group.bitmap[(turn * _HASH) >> group.drop])
        low = np.searchsorted(group.keys, turn[met], side="left")
        high = np.searchsorted(group.keys, turn[met], side="right")
        for place, first, last in zip(met, low, high, strict=True):
            for key in range(first, last):
                owner = int(group.owners[key])
                pattern = group.patterns[owner]
                offset = (start + int(place)) * group.stride - int(group.shifts[key])
                offset -= pattern.anchor
                if _is_at(data, offset, pattern.text):
                    yield group.numbers[owner], offset


def _is_at(data: np.ndarray, offset: int, text: bytes) -> bool:
    return offset >= 0 and data[offset : offset + len(text)].tobytes() == text
