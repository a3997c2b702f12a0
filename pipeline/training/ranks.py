"""What several training processes share: sums and rows; a single process has it all by itself."""

from collections.abc import Sequence

import torch
from torch import Tensor, distributed


def ranks() -> tuple[int, int]:
    """The number of this process, from 0, and how many there are."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()


def add_over_ranks(tensors: Sequence[Tensor]) -> None:
    """Replace tensors of one dtype by their sums over all processes, in one exchange."""
    if ranks()[1] == 1 or not tensors:
        return
    together = torch.cat([each.detach().reshape(-1) for each in tensors])
    distributed.all_reduce(together)
    for each, part in zip(tensors, together.split([t.numel() for t in tensors]), strict=True):
        each.copy_(part.view(each.shape))


def rows_of_all_ranks(rows: Tensor) -> Tensor:
    """The rows `[B, ...]` of all processes in the order of their numbers; each has as many."""
    if ranks()[1] == 1:
        return rows
    parts = [torch.empty_like(rows) for _ in range(ranks()[1])]
    distributed.all_gather(parts, rows.contiguous())
    return torch.cat(parts)
