"""What people say of rows, from the library: which names, which refusals, which file."""

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import regallery
from pipeline.errors import InputError
from pipeline.runs.verdict_files import read_verdict_file
from pipeline.runs.verdict_results import GivenVerdict
from pipeline.runs.verdicts import (
    give_verdict,
    give_verdicts,
    give_verdicts_of_file,
    list_verdicts,
)
from tests.gallery.making import new_gallery, path_of, unit
from tests.gallery.test_verdicts import say


@pytest.fixture
def gallery(tmp_path):
    empty = new_gallery(tmp_path / "g")
    return empty.commit([unit(empty.target, range(8))], run_id="a")


def standing(gallery):
    return [(each.a, each.b, each.verdict) for each in list_verdicts(gallery).verdicts]


def test_a_verdict_is_given_listed_and_withdrawn(gallery):
    done = give_verdict(gallery, 5, path_of(2), "same", who="ann", comment="shoes")
    assert (done.recorded, done.unchanged, done.same, done.different) == (1, 0, 1, 0)
    found = list_verdicts(gallery)
    (only,) = found.verdicts
    assert (only.a, only.b, only.path_a, only.path_b) == (2, 5, path_of(2), path_of(5))
    assert (only.verdict, only.who, only.comment, only.seen_version) == ("same", "ann", "shoes", 1)
    assert abs((datetime.now(UTC) - only.given_at).total_seconds()) < 60
    done = give_verdict(gallery, 2, 5, "withdrawn", who="bob")
    assert (done.recorded, done.same) == (1, 0)
    found = list_verdicts(gallery)
    assert (found.verdicts, found.withdrawn, found.verdicts_without_row) == ((), 1, 0)


def test_what_stands_there_is_not_added_again(gallery):
    give_verdict(gallery, 2, 5, "same", who="ann")
    assert give_verdict(gallery, 5, 2, "same", who="ann").unchanged == 1
    assert give_verdict(gallery, 2, 5, "same", who="bob").recorded == 1
    assert give_verdict(gallery, 2, 5, "same", who="bob", comment="sure").recorded == 1
    assert give_verdict(gallery, 2, 5, "different", who="bob").recorded == 1
    assert give_verdict(gallery, 2, 5, "withdrawn", who="bob").recorded == 1
    assert give_verdict(gallery, 2, 5, "withdrawn", who="ann").unchanged == 1


def test_the_user_of_the_machine_gives_them(gallery, monkeypatch):
    monkeypatch.setenv("LOGNAME", "eve")
    give_verdicts(gallery, [GivenVerdict(0, 1, "same"), GivenVerdict(2, 3, "same", who="ann")])
    assert [each.who for each in list_verdicts(gallery).verdicts] == ["eve", "ann"]

    with pytest.raises(InputError, match="`who` has 201 characters: give 1 to 200"):
        give_verdict(gallery, 4, 5, "same", who="x" * 201)

    def nobody():
        raise KeyError("getpwuid(): uid not found: 4711")

    monkeypatch.setattr("getpass.getuser", nobody)
    with pytest.raises(InputError, match="does not name its user: give `who`"):
        give_verdict(gallery, 4, 5, "same")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([(0, 8, "same")], "has no row 8 in version 1"),
        ([(0, -1, "same")], "has no row -1 in version 1"),
        ([("x.jpg", 0, "same")], "has no row x.jpg in version 1"),
        ([(3, path_of(3), "same")], "row 3 is given twice"),
        ([(0, 1, "same"), (1, 0, "different")], "rows 0 and 1 are same and different in one list"),
        ([(0, 1, "withdrawn")], "rows 0 and 1 have no verdict to withdraw"),
        (
            [(0, 1, "same"), (2, 1, "same"), (0, 2, "different")],
            r"rows 0 \(c0/000000.jpg\) and 2 \(c2/000002.jpg\) are different by one verdict, but"
            " the same by others: 0 = 1 = 2; nothing was added",
        ),
        (
            [(n, n + 1, "same") for n in range(7)] + [(0, n, "different") for n in range(2, 8)],
            "0 = 1 = 2 = 3 = 4 = 5 = 6; and 1 more; nothing was added",
        ),
    ],
)
def test_refusals_add_nothing(gallery, given, message):
    with pytest.raises(InputError, match=message):
        give_verdicts(gallery, [GivenVerdict(6, 7, "same"), *(GivenVerdict(*g) for g in given)])
    assert standing(gallery) == []


def test_a_verdict_that_contradicts_older_ones(gallery):
    give_verdict(gallery, 0, 1, "same")
    give_verdict(gallery, 1, 2, "same")
    with pytest.raises(InputError, match="0 = 1 = 2"):
        give_verdict(gallery, 0, 2, "different")
    give_verdict(gallery, 1, 2, "withdrawn")
    give_verdict(gallery, 0, 2, "different")
    with pytest.raises(InputError, match="0 = 1 = 2"):
        give_verdict(gallery, 1, 2, "same")


def test_contradictions_of_two_people_at_once_are_listed_and_stop_nobody(gallery):
    say(gallery, (0, 1, "same"), (1, 2, "same"))
    say(gallery, (0, 2, "different"))  # as if both had looked before the other wrote
    (told,) = list_verdicts(gallery).contradictions
    assert told.endswith("are different by one verdict, but the same by others: 0 = 1 = 2")
    assert give_verdict(gallery, 4, 5, "same").recorded == 1
    give_verdict(gallery, 1, 2, "different")
    assert list_verdicts(gallery).contradictions == ()


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"verdict": "equal"}, "the verdict 'equal' is none of same, different, withdrawn"),
        ({"who": " "}, "`who` has 1 characters"),
        ({"comment": "x" * 10_001}, "`comment` has 10,001 characters"),
        ({"comment": "", "origin": "f.csv, row 3"}, "f.csv, row 3: `comment` has 0 characters"),
    ],
)
def test_what_is_no_verdict(told, message):
    with pytest.raises(InputError, match=message):
        GivenVerdict(**{"a": 0, "b": 1, "verdict": "same", **told})


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_file_of_verdicts(gallery, tmp_path, suffix):
    path = tmp_path / f"verdicts{suffix}"
    if suffix == ".csv":
        path.write_text(
            "score,a,b,verdict,comment,who\n"
            f'0.5,0,{path_of(3)},same,"a, b",\n0.4,1,2,,,\n0.3, 4,5, different,,ann\n'
        )
    else:
        table = {
            "a": [0, 1, 4], "b": [3, 2, 5], "verdict": ["same", None, "different"],
            "comment": ["a, b", None, ""], "who": [None, "x", "ann"], "score": [0.5, 0.4, 0.3],
        }  # fmt: skip
        pq.write_table(pa.table(table), path)
    done = give_verdicts_of_file(gallery, path, who="bob")
    assert (done.recorded, done.without_verdict) == (2, 1)
    found = list_verdicts(gallery).verdicts
    assert [(v.a, v.b, v.verdict, v.who, v.comment) for v in found] == [
        (0, 3, "same", "bob", "a, b"),
        (4, 5, "different", "ann", None),
    ]
    assert give_verdicts_of_file(gallery, path, who="bob").unchanged == 2


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("v.txt", "", "verdicts are a file in .csv or .parquet"),
        ("v.csv", "a,verdict\n1,same\n", "has no column b: verdicts have the columns"),
        ("v.csv", "a,b,verdict\n1,2,\n1,,same\n", "v.csv, row 2 has no value in the column b"),
        ("v.csv", "a,b,verdict\n1,2,sane\n", "v.csv, row 1: the verdict 'sane' is none of"),
        ("v.csv", "a,b,verdict\n1,2\n", "v.csv cannot be read: "),
        ("v.parquet", "PAR1", "v.parquet cannot be read: "),
    ],
)
def test_files_that_hold_no_verdicts(tmp_path, name, text, message):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_verdict_file(path)


def test_errors_name_the_row_of_the_file(gallery, tmp_path):
    path = tmp_path / "v.csv"
    path.write_text("a,b,verdict\n1,2,same\n1,99,same\n")
    with pytest.raises(InputError, match=r"v\.csv, row 2: .* has no row 99 in version 1"):
        give_verdicts_of_file(gallery, path)


def test_the_pairs_are_arrays(gallery):
    regallery.give_verdict(gallery, 3, 1, "same")
    regallery.give_verdict(gallery, 3, 4, "different")
    found = regallery.read_verdicts(gallery)
    assert isinstance(found, regallery.Verdicts)
    assert (found.same.dtype, found.different.dtype) == (np.int64, np.int64)
    assert (found.same.tolist(), found.different.tolist()) == ([[1, 3]], [[3, 4]])
