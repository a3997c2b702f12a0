"""The learning rate as a function of the step: a linear warm-up, then steps or a cosine."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

from pipeline.errors import InputError

Decay = Literal["none", "step", "cosine"]


@dataclass(frozen=True)
class LearningSchedule:
    """By what the learning rate is multiplied at each step. Raise InputError if impossible.

    Warm-up (Goyal et al. 2017; in re-identification Fan et al. 2019): from `warmup_start` to 1 in
    `warmup` equal steps. Then, by `decay`:

    - `none`: 1.
    - `step`: `gamma` to the power of the number of `milestones` that were reached.
    - `cosine` (Loshchilov and Hutter, ICLR 2017, without restarts): floor + (1 - floor)
      (1 + cos(pi p)) / 2 with p the share of the steps from the warm-up's end to `steps`;
      `floor` from then on.

    A step is whatever is counted: batches or epochs.
    """

    decay: Decay = "step"
    """What follows the warm-up."""
    warmup: int = 0
    """Steps before the full learning rate."""
    warmup_start: float = 0.1
    """Factor of step 0, if there is a warm-up."""
    milestones: tuple[int, ...] = ()
    """For `step`: at which steps the rate falls, in ascending order."""
    gamma: float = 0.1
    """For `step`: factor of every fall."""
    steps: int = 0
    """For `cosine`: number of the step at which the rate reaches the floor."""
    floor: float = 0.0
    """For `cosine`: the last factor."""

    def __post_init__(self) -> None:
        if self.decay not in get_args(Decay):
            raise InputError(f"`decay` must be one of {', '.join(get_args(Decay))}")
        if self.warmup < 0:
            raise InputError(f"`warmup` must be 0 or more, not {self.warmup}")
        for name in ("warmup_start", "gamma", "floor"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"`{name}` must lie from 0 to 1, not {getattr(self, name)}")
        ascending = list(self.milestones) == sorted(set(self.milestones))
        if not ascending or min(self.milestones, default=1) < 1:
            places = ", ".join(map(str, self.milestones))
            raise InputError(f"`milestones` must ascend from 1 or more, not {places}")
        if self.decay == "cosine" and self.steps <= self.warmup:
            raise InputError(
                f"`steps` must be more than the {self.warmup} of the warm-up, not {self.steps}"
            )

    def factor(self, step: int) -> float:
        """The factor of a step, counted from 0. ValueError if `step` is negative.

        >>> schedule = LearningSchedule("step", warmup=2, milestones=(4,))
        >>> [schedule.factor(step) for step in range(5)]
        [0.1, 0.55, 1.0, 1.0, 0.1]
        >>> LearningSchedule("cosine", steps=4).factor(2)
        0.5
        """
        if step < 0:
            raise ValueError(f"step must be 0 or more, not {step}")
        if step < self.warmup:
            return self.warmup_start + (1 - self.warmup_start) * step / self.warmup
        if self.decay == "step":
            return float(self.gamma ** sum(step >= place for place in self.milestones))
        if self.decay == "cosine":
            share = min(1.0, (step - self.warmup) / (self.steps - self.warmup))
            return self.floor + (1 - self.floor) * (1 + math.cos(math.pi * share)) / 2
        return 1.0
