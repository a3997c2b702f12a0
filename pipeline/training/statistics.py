"""Running statistics of batch normalizations when a step has several micro-batches.

Every micro-batch is normalized by itself, and the running statistics move once in a step: toward
the mean of those of all micro-batches, by whatever process they were computed. So a step's result
does not depend on how its micro-batches are spread over processes.
"""

from torch import Tensor, nn

from pipeline.training.parts import normalizations


class RunningStatistics:
    """The running statistics of a network during one step."""

    def __init__(self, network: nn.Module) -> None:
        """Remember the statistics as they are before the step."""
        layers = normalizations(network)
        self._live = [
            value
            for layer in layers
            for value in (layer.running_mean, layer.running_var)
            if isinstance(value, Tensor)
        ]
        self._counts = [
            layer.num_batches_tracked
            for layer in layers
            if isinstance(layer.num_batches_tracked, Tensor)
        ]
        self._before = [value.clone() for value in self._live]
        self._counted = [count.clone() for count in self._counts]
        self.sums = [value.new_zeros(value.shape) for value in self._live]
        """Sums of the statistics after each micro-batch, to be added over processes."""

    def take(self) -> None:
        """Add the statistics that a micro-batch has left, and restore those from before."""
        for live, before, total in zip(self._live, self._before, self.sums, strict=True):
            total.add_(live)
            live.copy_(before)

    def settle(self, micro_batches: int) -> None:
        """Set the statistics to the mean over all micro-batches of the step."""
        for live, total in zip(self._live, self.sums, strict=True):
            live.copy_(total / micro_batches)
        for count, before in zip(self._counts, self._counted, strict=True):
            count.copy_(before + 1)
