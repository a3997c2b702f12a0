"""Results of a watch. Imports nothing heavy: the command line reads it first."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from pipeline.runs.camera_health import CameraDrift, SilentCamera

StepState = Literal["changed", "unchanged", "failed", "skipped", "stopped"]


@dataclass(frozen=True)
class StepReport:
    """The results of one step of a watch.

    `step` is the verb that does the same, `place` its output. The step is `skipped` if its input
    was never made, and `stopped` if the watch was asked to end before the step was done; `reason`
    says why it failed or was skipped. `new`, `changed` and `rejected` count images or boxes; `gone`
    the rows whose image has disappeared, of which `removed` were removed; `erased` the rows that
    were erased; `rejects` all rejects of the gallery by reason. `candidates` are the groups of two
    rows or more, `candidates_before` those of the replaced file.
    """

    step: str
    place: str
    state: StepState
    seconds: float = 0.0
    reason: str | None = None
    version: int | None = None
    rows: int | None = None
    new: int = 0
    changed: int = 0
    gone: int = 0
    removed: int = 0
    erased: int = 0
    rejected: int = 0
    rejects: dict[str, int] = field(default_factory=dict)
    candidates: int | None = None
    candidates_before: int | None = None


@dataclass(frozen=True)
class Watched:
    """The results of a watch: the steps in their order, silent cameras, and drift.

    With several rounds these are the results of the last one. `is_stopped` means that the watch was
    asked to end.
    """

    config: str
    started: str
    seconds: float
    rounds: int
    is_stopped: bool
    steps: tuple[StepReport, ...]
    silent: tuple["SilentCamera", ...]
    drift: tuple["CameraDrift", ...]

    @property
    def exit_status(self) -> int:
        """1 if a step failed or could not begin, otherwise 0."""
        return int(any(each.state in ("failed", "skipped") for each in self.steps))
