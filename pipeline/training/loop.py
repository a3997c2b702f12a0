"""Steps of training: forward, backward, one move of the weights, one move of the memories.

A step has one or several micro-batches, each with a normalization and losses of its own. Several
processes share them, and come to the weights that one process comes to, up to the order in which
gradients are added.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from pipeline.errors import InputError, RunError
from pipeline.training.lora import add_lora
from pipeline.training.objectives import Objective
from pipeline.training.parts import Part, train_part
from pipeline.training.ranks import add_over_ranks, rows_of_all_ranks
from pipeline.training.statistics import RunningStatistics

Precision = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class StepSettings:
    """How weights move. Raise InputError if impossible."""

    part: Part = "last-stage"
    """What is trained: statistics of batch normalization only, the head, the last stage (blocks
    with half of the weights), adapters of attention layers (lora), or everything; statistics follow
    in all cases."""
    learning_rate: float = 3.5e-4
    """The rate of Adam; a schedule multiplies it."""
    weight_decay: float = 5e-4
    """Weight decay of Adam."""
    precision: Precision = "float32"
    """Precision of the network's products (float16 and bfloat16 under autocast)."""

    def __post_init__(self) -> None:
        if self.part not in get_args(Part):
            raise InputError(f"`part` must be one of {', '.join(get_args(Part))}, not {self.part}")
        if self.precision not in get_args(Precision):
            names = ", ".join(get_args(Precision))
            raise InputError(f"`precision` must be one of {names}, not {self.precision}")
        if not self.learning_rate > 0:
            raise InputError(f"`learning_rate` must be above 0, not {self.learning_rate}")
        if self.weight_decay < 0:
            raise InputError(f"`weight_decay` must be 0 or more, not {self.weight_decay}")


class MicroBatch(NamedTuple):
    """Rows that are normalized together: prepared images float32 `[B, 3, H, W]`, and what they
    show, int64 `[B]` each.
    """

    images: Tensor
    labels: Tensor
    cameras: Tensor


class Trainer:
    """A network, its objective and their optimizer (Adam), on one device.

    The state after a number of steps is that of an uninterrupted run: a state that is loaded goes
    on to the same bits, on one kind of machine with as many threads.
    """

    def __init__(
        self, network: nn.Module, objective: Objective, settings: StepSettings, device: str = "cpu"
    ) -> None:
        self.network = network.to(device).to(memory_format=torch.channels_last)
        self.objective = objective.to(device)
        self.settings, self.device = settings, torch.device(device)
        self._lora = add_lora(self.network) if settings.part == "lora" else None
        train_part(self.network, settings.part)
        trained = [*self.network.parameters(), *self.objective.parameters()]
        self._trained = [each for each in trained if each.requires_grad]
        self._optimizer = (
            torch.optim.Adam(
                self._trained, settings.learning_rate, weight_decay=settings.weight_decay
            )
            if self._trained
            else None
        )
        half = settings.precision == "float16"
        self._scaler = torch.amp.GradScaler(self.device.type, enabled=half)

    def step(
        self, micro_batches: Sequence[MicroBatch], *, of: int, factor: float, seed: int
    ) -> dict[str, float]:
        """Take one step over this process's share of the step's `of` micro-batches.

        `factor` multiplies the learning rate; `seed` decides about dropout and random minings.
        Return the losses by name, means over all micro-batches. Raise RunError if one is not
        finite.
        """
        self.network.train()
        self.objective.train()
        statistics = RunningStatistics(self.network)
        self._clear()
        losses: dict[str, Tensor] = defaultdict(lambda: torch.zeros((), device=self.device))
        seen: list[tuple[Tensor, Tensor, Tensor]] = []
        for number, batch in enumerate(micro_batches):
            with torch.random.fork_rng(devices=self._devices()):
                torch.manual_seed(seed + number)
                found, features = self._losses(batch, seed + number)
            total = torch.stack(list(found.values())).sum() / of
            if self._trained:
                self._scaler.scale(total).backward()
            statistics.take()
            for name, loss in found.items():
                losses[name] = losses[name] + loss.detach().float() / of
            seen.append((features, batch.labels.to(self.device), batch.cameras.to(self.device)))
        add_over_ranks([*statistics.sums, *losses.values()])
        statistics.settle(of)
        told = {name: float(loss) for name, loss in losses.items()}
        if not all(abs(loss) < float("inf") for loss in told.values()):
            raise RunError(
                f"training stopped: a loss is not finite ({told}); give a lower `learning_rate`"
            )
        self._move(factor)
        together = [rows_of_all_ranks(torch.cat(each)) for each in zip(*seen, strict=True)]
        self.objective.update(*together)
        return told

    def finished(self) -> nn.Module:
        """The trained network with plain weights: adapters are merged, and no step may follow."""
        return self.network if self._lora is None else self._lora.merge_and_unload()

    def state(self) -> dict[str, Any]:
        """All that a later `load_state` needs to go on."""
        return {
            "network": self.network.state_dict(),
            "objective": self.objective.state_dict(),
            "optimizer": None if self._optimizer is None else self._optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from a `state`."""
        self.network.load_state_dict(state["network"])
        self.objective.load_state_dict(state["objective"])
        self._scaler.load_state_dict(state["scaler"])
        if self._optimizer is not None:
            self._optimizer.load_state_dict(state["optimizer"])

    def _losses(self, batch: MicroBatch, seed: int) -> tuple[dict[str, Tensor], Tensor]:
        """The losses of a micro-batch by name, and its features `[B, D]` without gradient."""
        images = batch.images.to(self.device).contiguous(memory_format=torch.channels_last)
        half = {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(self.settings.precision)
        with (
            torch.set_grad_enabled(bool(self._trained)),
            torch.autocast(self.device.type, half, enabled=half is not None),
        ):
            features = self.network(images).flatten(1)
            found = self.objective(
                features.float(),
                batch.labels.to(self.device),
                batch.cameras.to(self.device),
                seed=seed,
            )
        return found, features.detach().float()

    def _clear(self) -> None:
        if self._optimizer is not None:
            self._optimizer.zero_grad(set_to_none=False)
        for each in self._trained:
            if each.grad is None:
                each.grad = torch.zeros_like(each)

    def _move(self, factor: float) -> None:
        if self._optimizer is None:
            return
        add_over_ranks([each.grad for each in self._trained if each.grad is not None])
        for group in self._optimizer.param_groups:
            group["lr"] = factor * self.settings.learning_rate
        self._scaler.step(self._optimizer)
        self._scaler.update()

    def _devices(self) -> list[int]:
        return [self.device.index or 0] if self.device.type == "cuda" else []
