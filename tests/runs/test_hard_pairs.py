"""Pairs that a network gets wrong: read from tables of an evaluation, for its training."""

import numpy as np
import pyarrow as pa
import pytest

from pipeline.errors import InputError
from pipeline.runs.hard_pairs import hard_rows, read_mistakes
from pipeline.runs.pair_tables import pair_table, write_pairs

PAIRS = (
    ("a", "b", "different"), ("c", "a", "same"), ("b", "e", None), ("a", "elsewhere", "different"),
)  # fmt: skip


@pytest.fixture(params=[".csv", ".parquet"])
def table(request, tmp_path):
    """Rows by id, whose paths are beside."""
    first, second, words = zip(*PAIRS, strict=True)
    rows = {
        end: pa.table({"path": list(paths), "camera": pa.nulls(len(paths), pa.string())})
        for end, paths in (("a", first), ("b", second))
    }
    columns = {"a": ["1", "2", "3", "4"], "b": ["5", "6", "7", "8"], "verdict": list(words)}
    path = tmp_path / f"pairs{request.param}"
    write_pairs(path, pair_table(columns, rows))
    return path


def test_crops_of_wrong_pairs_weigh_more_and_those_of_two_people_are_rivals(table):
    found = read_mistakes(table)
    assert found.same == (("c", "a"),)
    assert found.different == (("a", "b"), ("a", "elsewhere"))
    hard = hard_rows(found, pa.chunked_array([["b", "e", "a"], ["c", "d"]]), "crops")
    assert hard.weights.tolist() == [3, 1, 3, 3, 1]
    assert hard.rivals.tolist() == [[2, 0]]
    alone = hard_rows(found, pa.chunked_array([["c", "a"]]), "crops")
    assert alone.weights.tolist() == [3, 3] and alone.rivals.shape == (0, 2)
    assert alone.rivals.dtype == np.int64


def test_tables_that_are_of_no_use(table, tmp_path):
    with pytest.raises(InputError, match=r"no pair of the table .* is of two crops of other crops"):
        hard_rows(read_mistakes(table), pa.chunked_array([["a", "d"]]), "other crops")
    (tmp_path / "own.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match=r"own.csv is not a table of pairs"):
        read_mistakes(tmp_path / "own.csv")
    with pytest.raises(InputError, match=r"none.csv"):
        read_mistakes(tmp_path / "none.csv")
    if table.suffix == ".csv":
        table.write_bytes(table.read_bytes() + b"1,2\n")
        with pytest.raises(InputError, match=r"cannot be read: .*columns"):
            read_mistakes(table)
