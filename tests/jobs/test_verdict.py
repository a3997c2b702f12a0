"""The verb `verdict`, as the command line runs it."""

import pytest

from tests.jobs.galleries import labeled_gallery, people
from tests.jobs.running import refused, result, run


@pytest.fixture
def gallery(tmp_path):
    labeled_gallery(tmp_path / "g", *people(4, 12, dimension=8))
    return tmp_path / "g"


def test_given_listed_and_withdrawn(capsys, gallery):
    on = ("--gallery", gallery, "--who", "ann")
    done = result(capsys, "verdict", "3", "crops/000005.jpg", "same", *on, "--comment", "shoes")
    assert (done["recorded"], done["same"], done["different"]) == (1, 1, 0)
    found = result(capsys, "verdict", "--gallery", gallery, "--list")
    (only,) = found["verdicts"]
    assert (only["a"], only["b"], only["verdict"], only["who"]) == (3, 5, "same", "ann")
    status, out, _ = run(capsys, "verdict", "--gallery", gallery, "--list")
    assert status == 0 and "crops/000005.jpg" in out and "shoes" in out
    assert "1 verdicts count, 0 are withdrawn" in out
    status, out, _ = run(capsys, "verdict", "5", "3", "withdrawn", *on)
    assert status == 0 and "0 pairs are the same person" in out
    assert result(capsys, "verdict", "--gallery", gallery, "--list")["withdrawn"] == 1
    at_first = result(capsys, "verdict", "--gallery", gallery, "--list", "--version", 0)
    assert (at_first["verdicts"], at_first["verdicts_without_row"]) == ([], 2)


def test_many_from_a_file(capsys, gallery, tmp_path):
    (tmp_path / "v.csv").write_text("a,b,verdict\n0,1,different\n2,3,\n4,5,same\n")
    done = result(capsys, "verdict", "--gallery", gallery, "--from", tmp_path / "v.csv")
    assert (done["recorded"], done["without_verdict"], done["same"], done["different"]) == (
        2,
        1,
        1,
        1,
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give two rows and a verdict, --from or --list: one of them"),
        (("1", "2", "same", "--list"), "one of them"),
        (("1", "2"), "a verdict is two rows, and one of same, different and withdrawn"),
        (("1", "2", "equal"), "equal"),
        (("1", "99", "same"), "has no row 99 in version 1"),
        (("--list", "--who", "ann"), "--who and --comment do not go with --list"),
        (("--from", "v.csv", "--comment", "x"), "--comment does not go with --from"),
        (("--from", "v.csv"), "v.csv: no such file"),
        (("1", "2", "same", "--version", "0"), "--version goes with --list"),
    ],
)
def test_refusals(capsys, gallery, arguments, message):
    assert message in refused(capsys, "verdict", *arguments, "--gallery", gallery)


def test_contradictions_are_listed(capsys, gallery):
    from pipeline.gallery.table import Gallery
    from tests.gallery.test_verdicts import say

    opened = Gallery.open(str(gallery))
    say(opened, (0, 1, "same"), (1, 2, "same"), (0, 2, "different"))
    _, out, _ = run(capsys, "verdict", "--gallery", gallery, "--list")
    assert "contradiction: rows 0 (crops/000000.jpg) and 2 (crops/000002.jpg) are" in out


def test_an_erasure_reaches_them(capsys, gallery):
    run(capsys, "verdict", "0", "1", "same", "--gallery", gallery)
    erasing = ("erase", "--gallery", gallery, "--ids", "1", "--purge", "--yes")
    status, out, _ = run(capsys, *erasing)
    assert status == 0 and "removed: 1 verdict on rows that are gone" in out
    found = result(capsys, "verdict", "--gallery", gallery, "--list")
    assert (found["verdicts"], found["verdicts_without_row"]) == ([], 0)
