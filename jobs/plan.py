"""plan: predict the time, memory, disk, requests and money of each stage of an archive."""

import sys

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from jobs.command.flags import ScaleFlags
from pipeline.runs.scale_plan import ScalePlan, ScaleSettings


def plan(*, crops: int, of: ScaleFlags = ScaleSettings()) -> ScalePlan:
    """Predict what an archive takes, before it is paid for.

    Nothing is read or written. The time, memory, disk, requests and money of
    each stage follow from constants that were measured, and from what you
    say of the archive and the machines; what you leave out is assumed, and
    named as an assumption. docs/scaling.md has the formulas.

    For example:

        regallery plan --crops 10000000 --cameras 200 --machines 4 --cpus 16
        --gpus 1 --price 2.5 --bucket

    Args:
        crops: Crops of the archive.
    """
    from pipeline.runs.scale_plan import predict

    return predict(crops, of)


def describe(result: ScalePlan) -> RenderableType:
    """The stages as a table, then the assumptions."""
    from pipeline.report.figures import count

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("stage")
    for name in ("time", "memory", "disk", "scratch", "requests", "money"):
        table.add_column(name, justify="right")
    table.add_column("most of the time")
    for each in result.stages:
        table.add_row(
            each.stage,
            _duration(each.seconds),
            _size(each.memory_bytes),
            _size(each.disk_bytes),
            _size(each.scratch_bytes),
            f"{each.requests:,}",
            _money(each.money),
            each.limit,
        )
    table.add_row(
        "all", _duration(result.whole_seconds), "", "", "", "", _money(result.whole_money), ""
    )
    machines = count(result.machines, "machine")
    told = [f"assumed: {each}" for each in result.assumptions]
    told += [f"note: {each}" for each in result.advice]
    title = Text(f"{result.crops:,} crops on {machines}, predicted", style="bold")
    return Group(title, table, *(Text(line, style="dim") for line in told))


def _duration(seconds: float) -> str:
    """A time for people.

    >>> _duration(0.2), _duration(90), _duration(7300), _duration(400_000)
    ('<1 s', '90 s', '2.0 h', '4.6 d')
    """
    if seconds < 1:
        return "<1 s"
    for length, unit, until in ((1, "s", 120), (60, "min", 7200), (3600, "h", 172_800)):
        if seconds < until:
            return f"{seconds / length:.{0 if length == 1 else 1}f} {unit}"
    return f"{seconds / 86_400:,.1f} d"


def _size(size: int) -> str:
    """Bytes for people.

    >>> _size(0), _size(3_000_000), _size(2_500_000_000_000)
    ('', '3 MB', '2,500 GB')
    """
    if not size:
        return ""
    return f"{size / 1e6:,.0f} MB" if size < 2e9 else f"{size / 1e9:,.0f} GB"


def _money(money: float | None) -> str:
    return "" if money is None else f"{money:,.2f}"


if __name__ == "__main__":
    from jobs.cli import main

    sys.exit(main(["plan", *sys.argv[1:]]))
