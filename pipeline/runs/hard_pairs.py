"""Pairs of crops that a network gets wrong, from the table of an evaluation, for its training."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import InputError
from pipeline.runs.pair_tables import read_pairs
from pipeline.runs.path_verdicts import PathVerdicts
from pipeline.stages.train import HardRows

_WEIGHT = 3.0
"""How many times as often as others a crop of a wrong pair is drawn."""


def read_mistakes(file: Path) -> PathVerdicts:
    """The pairs of a table that `write_pairs` wrote, by paths; those without a verdict stay out.

    Raise what `read_pairs` raises.
    """
    table = read_pairs(file)

    def pairs(verdict: str) -> tuple[tuple[str, str], ...]:
        own = table.filter(pc.equal(table["verdict"], verdict))
        return tuple(zip(own["path_a"].to_pylist(), own["path_b"].to_pylist(), strict=True))

    return PathVerdicts(pairs("same"), pairs("different"))


def hard_rows(mistakes: PathVerdicts, paths: pa.ChunkedArray, source: str) -> HardRows:
    """Which of the crops `paths` `[N]` to draw more often, and which beside each other.

    Crops of all pairs are drawn three times as often as others. Crops of different people are
    rivals. Raise InputError, which names the `source` of the crops, if no pair is of two of them.
    """
    same, different = mistakes.among(paths)
    if not len(same) + len(different):
        raise InputError(
            f"no pair of the table of mistakes is of two crops of {source} to train on: their"
            " paths must be those of this source, and not of people or tracklets that are held out"
        )
    weights = np.ones(len(paths))
    weights[np.concatenate([same, different]).ravel()] = _WEIGHT
    return HardRows(weights, different)
