"""Rows in float16 on a GPU: their products nominate pairs, and only those pairs return to the CPU.

The error bound is that of `quantize`, with other residuals: each row is rounded to float16 in units
of a power of two, and the rounding error is measured. If this process sees no GPU, the CPU does the
same, slowly. The result does not depend on the device.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.core.blocks import Run, blocks
from pipeline.core.float_products import as_tensor
from pipeline.core.products.kernels import product_slack

if TYPE_CHECKING:
    import torch

# A GPU adds exact products of float16 in float32, in any order, and it may truncate sums instead of
# rounding them. Truncation doubles the error of a rounding, and aligning several terms to the
# largest doubles it again (Fasi et al., Numerical behavior of NVIDIA tensor cores, PeerJ Computer
# Science, 2021).
_CUT_OFF = 4
# The share of a tile's pairs that may be nominated before float32 products are faster.
_WORTH_SCORING = 1 / 8


@dataclass(frozen=True)
class Halves:
    """The rows of a matrix `[N, D]` in float16 on a device, in blocks of `size` rows.

    For each block, float64: the `scale`, which is the value of 1 in its rows, and the greatest
    length of a row (`length`), of a rounded row (`rounded`) and of the difference between the two
    (`residual`).
    """

    size: int
    rows: torch.Tensor
    scale: NDArray[np.float64]
    length: NDArray[np.float64]
    rounded: NDArray[np.float64]
    residual: NDArray[np.float64]

    def product(self, x: int, other: Halves, y: int) -> torch.Tensor:
        """The float32 tile of block `x` and block `y` of `other`, in units of both scales."""
        import torch

        a = self.rows[x * self.size : (x + 1) * self.size]
        b = other.rows[y * other.size : (y + 1) * other.size].t()
        if a.device.type == "cpu":
            return torch.mm(a.float(), b.float())
        return torch.mm(a, b, out_dtype=torch.float32)

    def unit(self, x: int, other: Halves, y: int) -> float:
        """The value of 1 in the tile of block `x` and block `y` of `other`."""
        return float(self.scale[x] * other.scale[y])

    def bound(self, x: int, other: Halves, y: int) -> float:
        """The greatest distance between a product of block `x` and block `y` of `other` and the
        `score`.

        See `quantize` for the inequality.
        """
        error = self.residual[x] * other.length[y] + self.rounded[x] * other.residual[y]
        slack = product_slack(self.rows.shape[1], self.length[x], other.length[y])
        # Half of the slack covers the rounding of one sum.
        return float(error + (1 + _CUT_OFF) / 2 * slack)


def gpu_or_cpu() -> str:
    """The device of float16 products: the first GPU that this process sees, or the CPU."""
    import torch

    return "cuda:0" if torch.cuda.is_available() else "cpu"


def halve(features: NDArray[np.float32], size: int, device: str, run: Run) -> Halves:
    """Round the rows of `features` `[N, D]`, all finite, to float16 on `device`, on the threads of
    `run`.
    """
    import torch

    if device != "cpu":
        # The bound assumes sums in float32, even if a product is split.
        torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
    rows = torch.empty(features.shape, dtype=torch.float16, device=device)
    figures = np.empty((-(-len(features) // size), 4), np.float64)

    def round_block(start: int, stop: int) -> None:
        block = _moved(features[start:stop], device).double()
        largest = float(block.abs().max())
        scale = 2.0 ** math.ceil(math.log2(largest)) if largest else 1.0
        rows[start:stop] = block / scale
        rounded = rows[start:stop].double() * scale
        lengths = [block.norm(dim=1), rounded.norm(dim=1), (block - rounded).norm(dim=1)]
        # float64 rounding here is a millionth of the spare room in the slack.
        figures[start // size] = [scale, *torch.stack(lengths).amax(dim=1).tolist()]

    run(round_block, blocks(len(features), size))
    return Halves(size, rows, *figures.T)


def _moved(rows: NDArray[np.float32], device: str) -> torch.Tensor:
    """Copy the rows to `device` through pinned memory, which is several times as fast for a GPU.

    The pinned memory is kept for the next block.
    """
    import torch

    if device == "cpu":
        return as_tensor(rows)
    pinned = torch.empty(rows.shape, pin_memory=True)
    pinned.numpy()[:] = rows
    return pinned.to(device, non_blocking=True)


class Standing(NamedTuple):
    """The scores that a pair must reach to count for the rows `[R]` of one side of a tile.

    `worst` float32 is the k-th best score of each row so far, or -inf if fewer are known. `least`
    is its least score, inf if there is none, or empty if the caller does not need it. A row may
    meet `itself`.
    """

    worst: NDArray[np.float32]
    least: NDArray[np.float32]
    k: int
    itself: bool


def nominate(
    first: Halves,
    x: int,
    second: Halves,
    y: int,
    rows: Standing,
    columns: Standing | None = None,
    *,
    diagonal: bool = False,
) -> NDArray[np.int64] | None:
    """The pairs `[P, 2]` of block `x` and block `y` that may count for their row or their column.

    In a tile on the diagonal (`diagonal`), only pairs above the diagonal count. Return None if
    there are so many pairs that float32 products are faster.
    """
    values = first.product(x, second, y)
    unit = first.unit(x, second, y)
    slack = first.bound(x, second, y) / unit
    marked = _reaching(values, rows, slack, unit)
    if columns is not None:
        marked |= _reaching(values.t(), columns, slack, unit).t()
    if diagonal:
        marked = marked.triu(1)
    if int(marked.sum()) > most_pairs(marked.numel()):
        return None
    found: NDArray[np.int64] = marked.nonzero().cpu().numpy()
    return found


def most_pairs(pairs: int) -> float:
    """The greatest number of a tile's `pairs` that are worth scoring one by one."""
    return _WORTH_SCORING * max(pairs, 2**16)


def _reaching(values: torch.Tensor, standing: Standing, slack: float, unit: float) -> torch.Tensor:
    """A mask of the `values` `[R, C]` whose score may count for their row."""
    import torch

    least = _on(values, standing.worst / unit) - slack
    wanted = standing.k + standing.itself
    if np.isneginf(standing.worst).any() and wanted <= values.shape[1]:
        # A value that k others surely beat is not among the k best, whatever is known.
        among = torch.topk(values, wanted, dim=1).values[:, -1] - 2 * slack
        least = torch.where(least == -torch.inf, among, least)
    marked = values >= least[:, None]
    if len(standing.least):
        most = _on(values, standing.least / unit) + slack
        wanted = 1 + standing.itself
        if np.isposinf(standing.least).any() and wanted <= values.shape[1]:
            among = torch.topk(values, wanted, dim=1, largest=False).values[:, -1] + 2 * slack
            most = torch.where(most == torch.inf, among, most)
        marked |= values <= most[:, None]
    return marked


def _on(values: torch.Tensor, array: NDArray[np.floating]) -> torch.Tensor:
    import torch

    # No need to wait: for so little data, the GPU has its copy when the call returns.
    return torch.from_numpy(array.astype(np.float32)).to(values.device, non_blocking=True)
