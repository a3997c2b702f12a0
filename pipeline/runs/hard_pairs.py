"""Pairs of crops that a network gets wrong, from the table of an evaluation, for its training."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from pipeline.errors import InputError
from pipeline.input_files import check_file, why
from pipeline.runs.pair_tables import PAIR_SCHEMA, is_pair_table
from pipeline.runs.path_verdicts import PathVerdicts
from pipeline.stages.train import HardRows

_WEIGHT = 3.0
"""How many times as often as others a crop of a wrong pair is drawn."""


def read_mistakes(file: Path) -> PathVerdicts:
    """The pairs of a table that `write_pairs` wrote, by paths; those without a verdict stay out.

    Raise InputError for a file that cannot be read, or that is not such a table.
    """
    check_file(file)
    if not is_pair_table(file):
        raise InputError(
            f"{file} is not a table of pairs: give the one that an evaluation wrote with `mine`"
        )
    try:
        table = _read(file)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{file} cannot be read: {why(error)}") from error

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


def _read(file: Path) -> pa.Table:
    if file.suffix == ".parquet":
        return pq.read_table(file)
    types = {field.name: field.type for field in PAIR_SCHEMA}
    return pa_csv.read_csv(file, convert_options=pa_csv.ConvertOptions(column_types=types))
