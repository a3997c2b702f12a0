"""The report's figures for the terminal."""

from rich.console import Group
from rich.table import Table
from rich.text import Text

from pipeline.report.figures import ABSENT, count, figure, gain, label, percent, points, ranks
from pipeline.report.results import QuerySet, Report


def metrics_table(report: Report) -> Group:
    """A table of every result in percent, with the counts that its means stand on."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1))
    table.add_column("result", overflow="fold")
    table.add_column("mode")
    shown = ranks(report)
    for heading in ("mAP", "gain", "trapez.", "mINP", *(f"R{rank}" for rank in shown)):
        table.add_column(heading, justify="right", no_wrap=True)
    for result in report["results"]:
        change = gain(report, result, "mAP")
        style = "" if change is None else "green" if change > 0 else "red" if change < 0 else ""
        table.add_row(
            Text(result["name"]),
            result["mode"] or ABSENT,
            percent(result["mAP"]),
            Text(points(change) if change is not None else "", style=style),
            percent(result["mAP_trapezoid"]),
            percent(result["mINP"]),
            *(percent(figure(result, rank)) for rank in shown),
        )
    notes = [_set("query", report["query"]), _set("gallery", report["gallery"]), *_remarks(report)]
    return Group(table, Text(), *(Text(note) for note in notes))


def _set(side: str, table: QuerySet) -> str:
    rejects = {reason: number for reason, number in table["rejects"].items() if number}
    parts = [
        count(table["rows"], "row"),
        count(table["identities"], "identity", "identities"),
        count(table["cameras"], "camera"),
        count(sum(rejects.values()), "reject"),
    ]
    reasons = ", ".join(f"{reason} {number:,}" for reason, number in rejects.items())
    return f"{side:<8}{', '.join(parts)}" + (f" ({reasons})" if reasons else "")


def _remarks(report: Report) -> list[str]:
    """What a reader of the table must know: invalid queries, a cut curve, a transductive mode."""
    remarks = [
        "percent; R1 is CMC at rank 1; trapez. is mAP by the trapezoid rule",
        "gain is in points of mAP over the first row",
    ]
    first = report["results"][0]
    remarks.append(
        f"means are over {count(first['valid'], 'valid query', 'valid queries')}; "
        f"{first['invalid']:,} had no match and are left out"
    )
    cut = next((result["cmc_cut"] for result in report["results"] if result["cmc_cut"]), None)
    if cut is not None:
        remarks.append(f"CMC curves are cut at rank {cut}: the gallery holds no more")
    joint = [label(result) for result in report["results"] if result["mode"] == "joint"]
    if joint:
        remarks.append(f"{', '.join(joint)}: transductive, uses all queries together")
    return remarks
