"""verdict: say that two rows are the same person or different people, or list what was said."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from jobs.command.progress import working
from pipeline.errors import InputError
from pipeline.runs.locations import LOCATION, Location
from pipeline.runs.verdict_results import VerdictList, VerdictsGiven, VerdictWord


def verdict(
    a: str | None = None,
    b: str | None = None,
    answer: VerdictWord | None = None,
    /,
    *,
    gallery: Location,
    who: str | None = None,
    comment: str | None = None,
    from_: Annotated[Path, LOCATION, Parameter(name="--from")] | None = None,
    list_: Annotated[bool, Parameter(name="--list", negative=())] = False,
    version: int | None = None,
) -> VerdictsGiven | VerdictList:
    """Say that two rows show the same person or different people.

    Verdicts are kept in a table beside the gallery, with who gave them and
    when. Nothing is overwritten: the latest verdict of a pair counts, and
    withdrawn takes it back. A verdict that contradicts others is refused.
    link keeps verdicts. Several people may work at once, also while the
    gallery is brought up to date.

    For example:

        regallery verdict 17 c3/000212.jpg same
        --gallery galleries/test --comment "the same backpack"

    Args:
        a: A row: its row id, or its path.
        b: Another row.
        answer: same, different, or withdrawn.
        gallery: Folder of the gallery.
        who: Who gives the verdict (default: the user of this machine).
        comment: Why.
        from_: Read verdicts from this .csv or .parquet file instead, with the columns a, b and
            verdict, and perhaps who and comment. Rows without a verdict are skipped. These are the
            tables of mine, with some verdicts filled in, and of evaluate --mine, as they are.
        list_: List the verdicts that count.
        version: Version whose verdicts are listed (default: the latest).
    """
    from pipeline.gallery.table import Gallery
    from pipeline.runs.verdict_files import named_row
    from pipeline.runs.verdicts import give_verdict, give_verdicts_of_file, list_verdicts

    words = [each for each in (a, b, answer) if each is not None]
    if list_ + (from_ is not None) + bool(words) != 1:
        raise InputError("give two rows and a verdict, `from_` or `list_`: one of them")
    if version is not None and not list_:
        raise InputError("`version` goes with `list_`")
    if list_:
        if who is not None or comment is not None:
            raise InputError("`who` and `comment` do not go with `list_`")
        return list_verdicts(Gallery.open(gallery, version))
    opened = Gallery.open(gallery)
    if from_ is not None:
        if comment is not None:
            raise InputError("`comment` does not go with `from_`: the file has a column for it")
        with working("recording"):
            return give_verdicts_of_file(opened, from_, who=who)
    if a is None or b is None or answer is None:
        raise InputError("a verdict is two rows, and one of same, different and withdrawn")
    return give_verdict(opened, named_row(a), named_row(b), answer, who=who, comment=comment)


def describe(result: VerdictsGiven | VerdictList) -> RenderableType:
    """What was recorded, or the verdicts that count."""
    if isinstance(result, VerdictList):
        return _listed(result)
    lines = [
        f"{result.recorded:,} recorded, {result.unchanged:,} known before,"
        f" {result.without_verdict:,} rows without a verdict",
        f"{result.gallery}, version {result.version}: {result.same:,} pairs are the same person,"
        f" {result.different:,} are different people",
    ]
    return Text("\n".join(lines))


def _listed(result: VerdictList) -> RenderableType:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("a", "b"):
        table.add_column(name, justify="right")
        table.add_column("path")
    for name in ("verdict", "who", "when (UTC)", "comment"):
        table.add_column(name)
    for each in result.verdicts:
        ends = str(each.a), each.path_a, str(each.b), each.path_b
        time = f"{each.given_at:%Y-%m-%d %H:%M:%S}"
        cells = (*ends, each.verdict, each.who, time, each.comment or "")
        table.add_row(*map(Text, cells))
    lines = [
        f"{result.gallery}, version {result.version}: {len(result.verdicts):,} verdicts count,"
        f" {result.withdrawn:,} are withdrawn, {result.verdicts_without_row:,} on rows that this"
        " version does not have",
        *(f"contradiction: {each}" for each in result.contradictions),
    ]
    summary = [Text(line) for line in lines]
    return Group(table, *summary) if result.verdicts else Group(*summary)


if __name__ == "__main__":
    from jobs.cli import main

    sys.exit(main(["verdict", *sys.argv[1:]]))
