"""Checkpoints: find the one set of tensors in a file, and the one prefix, that fit a network.

A set fits if it has every key of the network in the right shape, and no other key. Three deviations
are accepted and logged: classifier heads (keys that begin with a name that the network's toolbox
gives its heads, and that do not exist in the network); missing batch counters
(`num_batches_tracked`, which inference does not read); and wrappers from training, that is, a
prefix (`module.`, `model.`, `backbone.`, ...) whose keys alone fit, and the count of an averaged
model. Nothing else is guessed: if several sets fit and none is the usual one, the error lists them,
and `FILE#PART` selects one.
"""

import functools
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from pipeline.errors import InputError
from pipeline.model.architectures.foreign import explained
from pipeline.model.architectures.reading import WeightSet, read_weights
from pipeline.model.names import split_checkpoint

_log = logging.getLogger(__name__)

State = Mapping[str, torch.Tensor]

HEADS = ("fc", "classifier", "head", "heads")
"""torchvision's names of its classifier heads."""

USUAL = ("state_dict", "model")
"""Where training scripts store the weights; averaged weights and others lie beside them."""

_AVERAGED = "n_averaged"  # the count that torch.optim.swa_utils.AveragedModel keeps beside the keys
_LEAST_SHARE = 0.2  # of a set's keys that a prefix must have: enough for one of two networks
_SHOWN = 10


@dataclass(frozen=True)
class Match:
    """The agreement between a state and the keys of a network; it fits if there are no faults."""

    matched: State
    heads: tuple[str, ...]
    counters: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    misshapen: tuple[str, ...]

    @property
    def faults(self) -> int:
        """The number of keys that do not agree."""
        return self.lacking + len(self.unexpected)

    @property
    def lacking(self) -> int:
        """The number of the network's keys that are missing or have another shape."""
        return len(self.missing) + len(self.misshapen)

    def description(self) -> str:
        """The first ten missing, unexpected and misshapen keys of each sort, and their numbers."""
        sorts = ("missing", "unexpected", "misshapen")
        return "; ".join(
            _listed(sort, getattr(self, sort)) for sort in sorts if getattr(self, sort)
        )


@dataclass(frozen=True)
class Fitted:
    """The network, still without weights, and the part of a checkpoint that fits it.

    `extra` has the requested additional tensors, by name.
    """

    module: torch.nn.Module
    match: Match
    extra: State


@dataclass(frozen=True)
class _Candidate:
    """A set of a checkpoint without a prefix: `name` selects it; the keys in `left_out` do not have
    the prefix.
    """

    name: str
    within: WeightSet
    prefix: str
    state: State
    left_out: tuple[str, ...]


def fit(
    checkpoint: str,
    build: Callable[[State], torch.nn.Module],
    heads: Sequence[str] = HEADS,
    extra: Sequence[str] = (),
    sets: Sequence[WeightSet] | None = None,
) -> Fitted:
    """Find the part of a checkpoint (`FILE` or `FILE#PART`) that fits the network from `build`.

    `heads` are the names that classifier heads may have. `extra` are names of tensors that belong
    to no layer and are returned unchanged. `sets` are the file's, if it has been read. Raise
    InputError for a file that cannot be read, if no part fits (with the faults of the nearest one),
    and if several fit and none is the usual one.
    """
    path, part = split_checkpoint(checkpoint)
    sets = read_weights(path) if sets is None else sets
    fits: dict[str, tuple[_Candidate, Fitted]] = {}
    nearest: tuple[_Candidate, Match] | None = None
    refused: InputError | None = None
    for candidate in _candidates(sets, part):
        inside = {k: t for k, t in candidate.state.items() if k in extra}
        state = {k: t for k, t in candidate.state.items() if k not in inside}
        try:
            module = build(candidate.state)
        except InputError as error:
            refused = refused or error
            continue
        match = compared(state, module.state_dict(), heads)
        if nearest is None or match.lacking < nearest[1].lacking:
            nearest = candidate, match
        if not match.faults:
            fits.setdefault(candidate.name, (candidate, Fitted(module, match, inside)))
    if not fits:
        raise _misfit(path, part, sets, nearest, refused)
    candidate, fitted = fits[_chosen(path, part, fits)]
    _log_deviations(
        path, candidate, fitted.match, [name for name in fits if name != candidate.name]
    )
    return fitted


def load_weights(module: torch.nn.Module, state: State) -> torch.nn.Module:
    """Load these weights as float32; return the module for evaluation, channels last.

    The module may be on PyTorch's meta device: it takes over the state's tensors, and keeps none of
    its initial values. `state` has all of its keys and no others (`Match.matched`).
    """
    widened = {k: t.float() if t.is_floating_point() else t for k, t in state.items()}
    module.load_state_dict(widened, strict=True, assign=True)
    return module.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def compared(state: State, wanted: State, heads: Sequence[str] = HEADS) -> Match:
    """Compare the keys and shapes of `state` and `wanted`, without classifier heads."""
    dropped = {
        key
        for key in state
        if key not in wanted and any(key == head or key.startswith(f"{head}.") for head in heads)
    }
    kept = {key: tensor for key, tensor in state.items() if key not in dropped}
    counters = tuple(k for k in wanted if k not in kept and k.endswith(".num_batches_tracked"))
    without = set(counters)
    return Match(
        matched={**{key: torch.tensor(0) for key in counters}, **kept},
        heads=tuple(sorted(dropped)),
        counters=counters,
        missing=tuple(key for key in wanted if key not in kept and key not in without),
        unexpected=tuple(key for key in kept if key not in wanted),
        misshapen=tuple(
            f"{key} is {list(kept[key].shape)}, should be {list(tensor.shape)}"
            for key, tensor in wanted.items()
            if key in kept and kept[key].shape != tensor.shape
        ),
    )


def _candidates(sets: Sequence[WeightSet], part: str | None) -> Iterator[_Candidate]:
    """Yield every set with every prefix that many of its keys have, limited to those that `part`
    selects.
    """
    for each in sets:
        tensors = each.tensors
        averaged = tensors.get(_AVERAGED)
        if averaged is not None and averaged.ndim == 0:
            tensors = {key: tensor for key, tensor in tensors.items() if key != _AVERAGED}
        for prefix in _prefixes(tensors):
            name = f"{each.name}.{prefix}".strip(".")
            if part is not None and part not in (each.name, name, prefix.rstrip(".")):
                continue
            state = {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}
            left_out = tuple(key for key in tensors if not key.startswith(prefix))
            yield _Candidate(name, each, prefix, state, (*left_out, *each.others))


def _prefixes(tensors: State) -> list[str]:
    """The empty prefix, then those that a good share of the keys have, the most frequent first."""
    counts: Counter[str] = Counter()
    for key in tensors:
        parts = key.split(".")
        counts.update(".".join(parts[:depth]) + "." for depth in range(1, len(parts)))
    least = max(2, _LEAST_SHARE * len(tensors))
    return ["", *(prefix for prefix, count in counts.most_common() if count >= least)]


def _chosen(path: str, part: str | None, fits: Mapping[str, tuple[_Candidate, Fitted]]) -> str:
    """The name of the set that fits; of several, the one in the usual place."""
    names = list(fits)
    usual = [name for name in names if set(fits[name][0].within.name.split(".")) <= {"", *USUAL}]
    # state_dict comes before model, and sets inside a mapping come before sets beside it.
    places = {name: fits[name][0].within.name for name in usual}
    first = min(set(places.values()), key=_order, default=None)
    best = [name for name in usual if places[name] == first] if first is not None else names
    if len(best) == 1:
        return best[0]
    choices = ", ".join(f"{path}#{name}" for name in names)
    raise InputError(
        f"{path}: holds several sets of weights that fit{'' if part is None else f' {part}'}; "
        f"name one as `checkpoint`: {choices}"
    )


def _order(place: str) -> tuple[int, ...]:
    parts = [USUAL.index(part) for part in place.split(".") if part]
    return (*parts, len(USUAL))


def _log_deviations(path: str, chosen: _Candidate, match: Match, others: Sequence[str]) -> None:
    if others:
        _say_once(
            logging.WARNING,
            f"{path} holds {' and '.join([chosen.name or 'weights', *others])}; took "
            f"{chosen.name or 'the first'} (for another, give {path}#{others[0]} as `checkpoint`)",
        )
    rest = [key for key in chosen.left_out if not any(key.startswith(f"{o}.") for o in others)]
    if rest:
        _say_once(logging.WARNING, f"{path}: not of the network, and left out: {_shown(rest)}")
    if chosen.prefix:
        _say_once(logging.INFO, f"{path}: the prefix {chosen.prefix} is taken off")
    if match.heads:
        heads = ", ".join(match.heads)
        _say_once(logging.INFO, f"{path}: classifier head left out: {heads}")
    if match.counters:
        count = len(match.counters)
        _say_once(logging.INFO, f"{path}: {count} batch counters are missing and not needed")


@functools.cache
def _say_once(level: int, text: str) -> None:
    """Log a text once: a checkpoint is read for its recipe, and again to run."""
    _log.log(level, "%s", text)


def _misfit(
    path: str,
    part: str | None,
    sets: Sequence[WeightSet],
    nearest: tuple[_Candidate, Match] | None,
    refused: InputError | None,
) -> InputError:
    if refused is not None:
        return InputError(f"{path}: {refused}")
    if nearest is None:
        names = ", ".join(each.name or "(the file itself)" for each in sets)
        return InputError(f"{path}: has no part {part}; its sets of tensors are {names}")
    candidate, match = nearest
    where = f" (its {candidate.name})" if candidate.name else ""
    foreign = explained(candidate.within.tensors)
    hint = f"; {foreign}" if foreign else ""
    return InputError(
        f"{path}: the checkpoint{where} does not fit the network; {match.description()}{hint}"
    )


def _listed(sort: str, keys: Sequence[str]) -> str:
    return f"{len(keys)} {sort}: {_shown(keys)}"


def _shown(keys: Sequence[str]) -> str:
    more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
    return f"{', '.join(keys[:_SHOWN])}{more}"
