"""Which rows make up the batches of an epoch: P identities, K crops of each.

P x K batches are those of Hermans et al., "In defense of the triplet loss" (2017). The crops of an
identity come from as many cameras as it has, since crops of one camera teach little about other
cameras (as in SpCL, Ge et al., NeurIPS 2020).

Everything is a function of the seed and the number of the epoch, so a run that was killed draws the
same batches again, and every process knows the batches of all.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError


@dataclass(frozen=True)
class BatchSettings:
    """The shape of a batch. Raise InputError if impossible."""

    identities: int = 16
    """Identities in a batch (P)."""
    crops: int = 4
    """Crops of each identity (K); one with fewer gives its crops several times."""

    def __post_init__(self) -> None:
        for name in ("identities", "crops"):
            if getattr(self, name) < 1:
                raise InputError(f"`{name}` must be at least 1, not {getattr(self, name)}")


@dataclass(frozen=True)
class EpochBatches:
    """The batches of an epoch, in order.

    `rows` int64 `[S, B]`; `turns` int64 `[S, B]`: how often a row was drawn before in this epoch,
    so that each time can be augmented in its own way.
    """

    rows: NDArray[np.int64]
    turns: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    def shard(self, rank: int, ranks: int) -> "EpochBatches":
        """The part of one of several processes: a run of consecutive rows of every batch.

        The parts of all ranks, side by side, are the batches of one process. ValueError if the
        batches cannot be divided by `ranks`, or there is no such rank.
        """
        width = self.rows.shape[1]
        if ranks < 1 or not 0 <= rank < ranks or width % ranks:
            raise ValueError(f"rank {rank} of {ranks} has no equal share of batches of {width}")
        own = slice(rank * width // ranks, (rank + 1) * width // ranks)
        return EpochBatches(self.rows[:, own], self.turns[:, own])


class IdentityBatches:
    """P x K batches of labeled rows.

    >>> batches = IdentityBatches(np.array([0, 0, 0, 1, 1, -1]), np.array([1, 1, 2, 1, 2, 1]),
    ...                           BatchSettings(identities=2, crops=2), seed=3)
    >>> batches.epoch(0).rows
    array([[4, 3, 2, 0]])
    """

    def __init__(
        self,
        labels: NDArray[np.integer],
        cameras: NDArray[np.integer] | None = None,
        settings: BatchSettings = BatchSettings(),
        *,
        weights: NDArray[np.floating] | None = None,
        rivals: NDArray[np.integer] | None = None,
        seed: int = 0,
    ):
        """Rows by `labels` `[N]`, those below 0 left out, and `cameras` `[N]`; None is one camera.

        `weights` `[N]`, from 1 to 100, let hard rows come up more often: a row of weight 3 is the
        first choice of its identity and camera three times as often as one of weight 1, and an
        identity comes up as many times as its heaviest row's weight. `rivals` `[M, 2]` are pairs
        of rows that are hard to tell apart: an identity stands in its batch beside another one with
        which it has such a pair, chosen at random, if there is still room. InputError if there are
        fewer than P identities; ValueError if the arrays do not fit, or a weight is out of range.
        """
        n = len(labels)
        cameras = np.zeros(n, np.int64) if cameras is None else np.asarray(cameras)
        weights = np.ones(n) if weights is None else np.asarray(weights, np.float64)
        if not labels.shape == cameras.shape == weights.shape == (n,):
            raise ValueError(
                f"labels, cameras and weights must be [N], not {labels.shape}, {cameras.shape} and"
                f" {weights.shape}"
            )
        if not ((weights >= 1) & (weights <= 100)).all():
            raise ValueError("weights must lie from 1 to 100")
        order = np.argsort(labels, kind="stable")
        order = order[labels[order] >= 0]
        starts = np.flatnonzero(np.diff(labels[order], prepend=-1))
        if len(starts) < settings.identities:
            raise InputError(
                f"a batch of {settings.identities} identities (`identities`) cannot be drawn from"
                f" {len(starts)}"
            )
        self.settings, self.seed = settings, seed
        self._members = np.split(order.astype(np.int64), starts[1:])
        self._cameras, self._weights = cameras, weights
        self._count = len(order)
        self._repeats = np.maximum.reduceat(weights[order], starts)
        self._rivals = _rivals(labels, np.empty((0, 2), np.int64) if rivals is None else rivals)

    @property
    def steps(self) -> int:
        """Batches that hold about as many crops as there are labeled rows; at least 1."""
        return max(1, self._count // (self.settings.identities * self.settings.crops))

    def epoch(self, epoch: int, steps: int | None = None) -> EpochBatches:
        """The first `steps` batches of an epoch, `self.steps` by default.

        Identities come in random order, each once (or as often as its weight says) before the
        first one comes again; a batch holds P different ones.
        """
        rng = np.random.default_rng([self.seed, epoch])
        chosen = self._identities(rng)
        rows = [
            np.concatenate([self._crops(identity, rng) for identity in next(chosen)])
            for _ in range(self.steps if steps is None else steps)
        ]
        size = self.settings.identities * self.settings.crops
        made = np.array(rows, np.int64).reshape(-1, size)
        return EpochBatches(made, _turns(made.ravel()).reshape(made.shape))

    def _identities(self, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
        """P different identities for every batch, those that wait longest first."""
        rounds = self._rounds(rng)
        waiting = np.empty(0, np.int64)
        size = self.settings.identities
        while True:
            reach = size  # how far into the line to look for different ones
            while len(firsts := np.unique(waiting[:reach], return_index=True)[1]) < size:
                if reach >= len(waiting):
                    waiting = np.concatenate([waiting, next(rounds)])
                reach *= 2
            batch = self._beside_rivals(waiting[np.sort(firsts)[:size]], rng)
            yield batch
            taken = [np.flatnonzero(waiting == each)[:1] for each in batch]
            waiting = np.delete(waiting, np.concatenate(taken))

    def _beside_rivals(
        self, first: NDArray[np.int64], rng: np.random.Generator
    ) -> NDArray[np.int64]:
        """P identities: those that come `first` `[P]`, each followed by one of its rivals."""
        if not self._rivals:
            return first
        batch: list[int] = []
        for identity in first.tolist():
            if identity in batch or len(batch) == len(first):
                continue
            batch.append(identity)
            near = [each for each in self._rivals.get(identity, ()) if each not in batch]
            if near and len(batch) < len(first):
                batch.append(near[int(rng.integers(len(near)))])
        return np.array(batch, np.int64)

    def _rounds(self, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
        """All identities in random order, then those again that are still due; and so on.

        An identity of weight 2.3 is due twice, or three times in 3 of 10 rounds.
        """
        while True:
            due = np.floor(self._repeats + rng.random(len(self._repeats)))
            while (left := np.flatnonzero(due > 0)).size:
                yield rng.permutation(left)
                due[left] -= 1

    def _crops(self, identity: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """K rows of an identity: one of every camera, then a second of every camera, and so on."""
        own = self._members[identity]
        # Ascending times of first arrival at a rate of `weights` draw without replacement with
        # probabilities in their ratio (Efraimidis and Spirakis 2006).
        arrivals = rng.exponential(size=len(own)) / self._weights[own]
        order = np.argsort(arrivals, kind="stable")
        by_camera = order[np.argsort(self._cameras[own[order]], kind="stable")]
        places = np.empty(len(own), np.int64)
        places[by_camera] = _turns_of_runs(self._cameras[own[by_camera]])
        chosen = own[order[np.argsort(places[order], kind="stable")]]
        return np.resize(chosen, self.settings.crops)


def pair_batches(
    pairs: int, size: int, steps: int, *, seed: int = 0, epoch: int = 0
) -> NDArray[np.int64]:
    """Which of a list of pairs go into each batch of an epoch: int64 `[S, size]`.

    Pairs come in random order, each once before the first one comes again. ValueError if there is
    no pair.

    >>> pair_batches(3, 2, 3, seed=1)
    array([[0, 1],
           [2, 2],
           [1, 0]])
    """
    if pairs < 1 or size < 1 or steps < 0:
        raise ValueError(f"no {steps} batches of {size} can be drawn from {pairs} pairs")
    rng = np.random.default_rng([seed, epoch, 0, 0, 1])  # not the stream of `IdentityBatches`
    rounds = [rng.permutation(pairs) for _ in range(-(-steps * size // pairs))]
    order = np.concatenate([np.empty(0, np.int64), *rounds])
    return order[: steps * size].reshape(steps, size)


def _rivals(labels: NDArray[np.integer], pairs: NDArray[np.integer]) -> dict[int, list[int]]:
    """The rivals of each identity, by the place of its label among the labels from 0.

    ValueError unless `pairs` are rows `[M, 2]`.
    """
    if pairs.ndim != 2 or pairs.shape[1] != 2 or not ((pairs >= 0) & (pairs < len(labels))).all():
        raise ValueError(f"rivals must be pairs of the {len(labels)} rows [M, 2]")
    ends = labels[pairs]
    ends = ends[(ends >= 0).all(axis=1) & (ends[:, 0] != ends[:, 1])]
    places = np.searchsorted(np.unique(labels[labels >= 0]), ends)
    found: dict[int, list[int]] = {}
    for one, other in np.unique(np.concatenate([places, places[:, ::-1]]), axis=0).tolist():
        found.setdefault(one, []).append(other)
    return found


def _turns_of_runs(values: NDArray[np.integer]) -> NDArray[np.int64]:
    """How many equal values stand before each value of a sorted list."""
    return np.arange(len(values)) - np.searchsorted(values, values)


def _turns(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many equal values stand before each value of a list."""
    order = np.argsort(values, kind="stable")
    turns = np.empty(len(values), np.int64)
    turns[order] = _turns_of_runs(values[order])
    return turns
