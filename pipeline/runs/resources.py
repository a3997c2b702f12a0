"""Choose where the computations of a verb run: in this process, or on a Ray cluster that it
joins.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.errors import InputError


@contextmanager
def joined(workers: int, address: str | None, num_gpus: float) -> Iterator[None]:
    """Join the cluster if workers are wanted; raise InputError if GPUs are wanted and there are
    none.
    """
    if workers:
        from cluster.connect import connect

        with connect(address, num_gpus=math.ceil(num_gpus) or None):
            yield
        return
    if num_gpus:
        import torch

        if not torch.cuda.is_available():
            raise InputError(
                f"`num_gpus` {num_gpus:g}: PyTorch finds no GPU on this machine; leave it out"
                " to run on the CPU, with the same results"
            )
    yield


def check_gpus(num_gpus: float) -> None:
    """Raise InputError for a share of a GPU that no worker can have."""
    if not 0 <= num_gpus <= 1:
        raise InputError(f"`num_gpus` {num_gpus:g}: a worker has one GPU, or a share of one")
