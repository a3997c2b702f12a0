"""Unit vectors: normalize raw network outputs, and report those that cannot be normalized."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

# A stored feature may differ from length 1 by this much: float16 rounds a coordinate by 2^-11 of
# its size, so the length of a vector changes by no more than that.
UNIT_TOLERANCE = 1e-3


def unit_vectors(raw: NDArray[np.floating]) -> NDArray[np.float32]:
    """Scale every row of `raw` `[N, D]` to Euclidean length 1, as float32 `[N, D]`.

    Lengths are summed in float64, so a row's result does not depend on the other rows. Raise
    ValueError if a row has no direction: see `faults`.

    >>> unit_vectors(np.array([[3.0, 4.0]]))
    array([[0.6, 0.8]], dtype=float32)
    """
    wrong = faults(raw)
    if wrong:
        row, reason = next(iter(wrong.items()))
        raise ValueError(f"row {row} cannot be normalized: {reason}")
    wide = raw.astype(np.float64)
    wide /= np.sqrt(np.einsum("nd,nd->n", wide, wide))[:, None]
    return wide.astype(np.float32)


def as_features(
    values: ArrayLike, name: str = "features", *, normalize: bool = False
) -> NDArray[np.float32]:
    """Convert an array of any number type, or lists, to contiguous unit vectors float32 `[N, D]`.

    Cosine similarity needs rows of Euclidean length 1: their length must be 1 within
    `UNIT_TOLERANCE`, unless `normalize` scales them. Raise ValueError, which names `name` and the
    first wrong row, for a wrong shape or type, a value that is not finite, or another length.

    >>> as_features([[0.6, 0.8]])
    array([[0.6, 0.8]], dtype=float32)
    >>> as_features([[3, 4]], normalize=True)
    array([[0.6, 0.8]], dtype=float32)
    >>> as_features([[3, 4]], "queries")
    Traceback (most recent call last):
    ValueError: queries: row 0 has length 5, and cosine similarity needs length 1: normalize them
    """
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise ValueError(f"{name}: the rows are not of one length ({error})") from error
    if array.ndim != 2 or array.shape[1] == 0:
        raise ValueError(f"{name} must be a matrix [N, D], not of shape {list(array.shape)}")
    if array.dtype.kind not in "fiu":
        raise ValueError(f"{name} must be real numbers, not {array.dtype}")
    if normalize:
        try:
            return unit_vectors(array.astype(np.float64, copy=False))
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
    features = np.ascontiguousarray(array, np.float32)
    wrong = off_unit(features)
    if len(wrong):
        row = int(wrong[0])
        length = np.linalg.norm(features[row].astype(np.float64))
        what = f"has length {length:.6g}" if np.isfinite(length) else "is not finite"
        raise ValueError(
            f"{name}: row {row} {what}, and cosine similarity needs length 1: normalize them"
        )
    return features


def faults(raw: NDArray[np.floating]) -> dict[int, str]:
    """The rows of `raw` `[N, D]` that have no direction, each with the reason.

    >>> faults(np.array([[1.0, 0.0], [np.nan, 0.0], [0.0, 0.0], [np.inf, 1.0]]))
    {1: 'the network gave NaN', 2: 'the network gave a vector of length 0', \
3: 'the network gave an infinite value'}
    """
    if raw.ndim != 2:
        raise ValueError(f"features must be a matrix [N, D], not of shape {raw.shape}")
    finite = np.isfinite(raw).all(axis=1)
    found = {}
    for row in np.flatnonzero(~finite | ~np.any(raw, axis=1)):
        if np.isnan(raw[row]).any():
            found[int(row)] = "the network gave NaN"
        elif not finite[row]:
            found[int(row)] = "the network gave an infinite value"
        else:
            found[int(row)] = "the network gave a vector of length 0"
    return found


def off_unit(features: NDArray[np.float32]) -> NDArray[np.int64]:
    """The positions of the rows of `features` `[N, D]` that are not finite or not of unit length.

    >>> off_unit(np.array([[0.6, 0.8], [0.6, 0.9]], np.float32))
    array([1])
    """
    squares = np.einsum("nd,nd->n", features, features)
    # |x| within t of 1 means |x|^2 within about 2t of 1; a NaN fails the comparison too.
    return np.flatnonzero(~(np.abs(squares - 1) <= 2 * UNIT_TOLERANCE))
