"""A network with fewer channels, taught by the network that it was made from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pipeline.core.thresholds.acceptance import AcceptanceRule
from pipeline.errors import InputError, RunError
from pipeline.model.backends.torch_network import torch_threads
from pipeline.model.copies.export import export_module
from pipeline.model.copies.pruning import check_share, prune_channels
from pipeline.model.functions import Crops
from pipeline.model.input.preprocessing import empty_batch, fill_batch, standardize
from pipeline.model.networks import NetworkFile, load_module
from pipeline.model.recipe import Recipe
from pipeline.runs.settings import ExportSettings
from pipeline.training.distillation import distill


@dataclass(frozen=True)
class PrunedNetwork:
    """What pruning did: parameters and multiply-adds of an image (before, after), and the mean
    cosine distance from the source's features in each epoch of the recovery.
    """

    share: float
    parameters: tuple[int, int]
    multiply_adds: tuple[int, int]
    losses: tuple[float, ...]


def write_pruned(
    file: NetworkFile,
    recipe: Recipe,
    sample: Crops,
    out: Path,
    *,
    share: float,
    epochs: int,
    threads: int,
) -> PrunedNetwork:
    """Write a pruned network as TorchScript, after `epochs` of recovery on the sample.

    Its targets are the features of the unpruned network, so the sample needs no labels. Raise
    InputError for a network file, for a network that cannot be pruned, and for a sample of one crop
    if there is a recovery.
    """
    if not file.named:
        raise InputError(
            f"{file.path}: a network file cannot be pruned; give the name of a network that is"
            " built here, with its checkpoint"
        )
    if epochs and len(sample) < 2:
        raise InputError("`recover` needs a `sample` of two crops or more")
    size = recipe.height, recipe.width
    source = load_module(file).requires_grad_(False)
    try:
        pruned = prune_channels(source, size, share)
    except InputError as error:
        raise InputError(f"{file.path}: {error}") from error
    losses: list[float] = []
    if epochs:
        crops = torch.from_numpy(fill_batch(empty_batch(len(sample), size), sample, recipe))

        def prepare(some: torch.Tensor) -> torch.Tensor:
            return torch.from_numpy(standardize(some.numpy(), recipe))

        with torch_threads(threads):
            losses = distill(pruned.module, source, crops, prepare, epochs=epochs)
    # Tracing needs plain memory, as in `export_network`.
    module = pruned.module.to(memory_format=torch.contiguous_format)
    export_module(module, torch.zeros(2, 3, *size), "torchscript", out)
    return PrunedNetwork(share, pruned.parameters, pruned.multiply_adds, tuple(losses))


def check_pruning(flags: ExportSettings) -> None:
    """Raise InputError for settings of pruning and of the loss that do not go together."""
    if flags.prune is not None:
        check_share(flags.prune)
        if flags.sample is None or flags.query is None:
            raise InputError(
                "`prune` needs `sample`, crops to train with, and `query` and `gallery`, labeled"
                " crops to measure the loss on"
            )
    if flags.recover < 0:
        raise InputError(f"`recover` must be 0 or more, not {flags.recover}")
    if flags.max_loss is not None:
        if not 0 <= flags.max_loss < 1:
            raise InputError(f"`max_loss` must lie from 0 to below 1, not {flags.max_loss}")
        if flags.query is None:
            raise InputError("`max_loss` needs `query` and `gallery`, to measure the loss on")


def check_loss(flags: ExportSettings, figures: dict[str, Any]) -> None:
    """Raise RunError for a copy whose mAP may have fallen by too much.

    `figures` has `accuracy` and `differences` as `Exported`; None if nothing was measured.
    """
    allowed = flags.max_loss
    if allowed is None and flags.prune is not None:
        allowed = AcceptanceRule.max_loss
    if allowed is None or figures["differences"] is None:
        return
    low, high = figures["differences"]["mAP"]
    if low > -allowed:
        return
    before, after = (figures["accuracy"][name]["mAP"] for name in ("source", "copy"))
    raise RunError(
        f"the copy's mAP is {100 * after:.2f} and the source's {100 * before:.2f}; the difference"
        f" lies between {100 * low:+.2f} and {100 * high:+.2f} points, and `max_loss`"
        f" {allowed} asks that its lower end lies above {-100 * allowed:+.2f}; nothing was written"
    )
