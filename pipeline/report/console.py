"""The report's figures for the terminal."""

from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table
from rich.text import Text

from pipeline.report.figures import (
    ABSENT,
    SHOWN_RATES,
    count,
    figure,
    gain,
    gain_interval,
    gain_span,
    is_transductive,
    label,
    may_be_chance,
    operating_point,
    percent,
    points,
    ranks,
    span,
)

if TYPE_CHECKING:
    from pipeline.report.results import QuerySet, RankingResult, Report


def metrics_table(report: "Report") -> Group:
    """A table of every result in percent, with the counts behind its means."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1))
    table.add_column("result", overflow="fold")
    table.add_column("mode")
    shown = ranks(report)
    for heading in ("mAP", "trapez.", "mINP", *(f"R{rank}" for rank in shown)):
        table.add_column(heading, justify="right", no_wrap=True)
    for result in report.results:
        table.add_row(
            Text(result.name),
            result.mode or ABSENT,
            Text(percent(result.mean_ap), style="bold"),
            percent(result.mean_ap_trapezoid),
            percent(result.mean_inp),
            *(percent(figure(result, rank)) for rank in shown),
        )
    parts: list[Table | Text] = [table, Text()]
    if report.results[0].valid and len(report.results) > 1:
        parts += [_gains_table(report), Text()]
    if any(result.intervals or result.open_set for result in report.results):
        parts += [_certainty_table(report), Text()]
    notes = [_set("query", report.query), _set("gallery", report.gallery), *_remarks(report)]
    return Group(*parts, *(Text(note) for note in notes))


def _gains_table(report: "Report") -> Table:
    """The gains of each result over the first, each difference beside its interval."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1))
    table.add_column(f"gain over {report.results[0].name}", overflow="fold")
    drawn = report.bootstrap is not None
    level = f"{100 * report.bootstrap.level:g} %" if report.bootstrap else ""
    for heading in ("mAP", "R1"):
        table.add_column(heading, justify="right", no_wrap=True)
        if drawn:
            table.add_column(level, justify="right", no_wrap=True)
    for result in report.results[1:]:
        cells = [Text(result.name)]
        for metric in ("mAP", "1"):
            change, ends = gain(report, result, metric), gain_interval(result, metric)
            style = ""
            if change and not may_be_chance(ends):
                style = "green" if change > 0 else "red"
            cells.append(Text(points(change), style=style))
            if drawn:
                cells.append(Text(gain_span(ends) if ends else ABSENT, style="dim"))
        table.add_row(*cells)
    return table


def _certainty_table(report: "Report") -> Table:
    """Confidence intervals and open-set figures of every result that has them."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1))
    table.add_column("result", overflow="fold")
    level = f" {100 * report.bootstrap.level:g} %" if report.bootstrap else ""
    rates = (f"{rate:.0e}".replace("e-0", "e-") for rate in SHOWN_RATES)
    for heading in (f"mAP{level}", f"R1{level}", "EER", *rates):
        table.add_column(heading, justify="right", no_wrap=True)
    for result in report.results:
        ends, found = result.intervals, result.open_set
        table.add_row(
            Text(result.name),
            span(ends.mean_ap) if ends else ABSENT,
            span(ends.rank1) if ends else ABSENT,
            percent(found.equal_error_rate if found else None, 1),
            *(_accepted(result, rate) for rate in SHOWN_RATES),
        )
    return table


def _accepted(result: "RankingResult", rate: float) -> str:
    point = operating_point(result, rate)
    return percent(point.tar if point else None, 1)


def _set(side: str, table: "QuerySet") -> str:
    rejects = {reason: number for reason, number in table.rejects.items() if number}
    parts = [
        count(table.rows, "row"),
        count(table.identities, "identity", "identities"),
        count(table.cameras, "camera"),
        count(sum(rejects.values()), "reject"),
    ]
    reasons = ", ".join(f"{reason} {number:,}" for reason, number in rejects.items())
    return f"{side:<8}{', '.join(parts)}" + (f" ({reasons})" if reasons else "")


def _remarks(report: "Report") -> list[str]:
    """Remarks for readers of the table: invalid queries, a cut curve, a transductive mode."""
    remarks = [
        "percent; R1 is CMC at rank 1; trapez. is mAP by the trapezoid rule",
    ]
    if len(report.results) > 1:
        remarks.append(
            "gains are in percentage points; their intervals draw the same queries for both"
        )
    for metric, name in (("mAP", "mAP"), ("1", "R1")):
        unsure = [
            label(result)
            for result in report.results[1:]
            if may_be_chance(gain_interval(result, metric))
        ]
        if unsure:
            remarks.append(
                f"{', '.join(unsure)}: the interval of the gain in {name} includes zero, so the "
                "difference may be chance"
            )
    first = report.results[0]
    bootstrap, found = report.bootstrap, first.open_set
    if bootstrap and first.intervals:
        remarks.append(
            f"mAP and R1 from {ABSENT} to: {100 * bootstrap.level:g} % bootstrap intervals of"
            f" {bootstrap.replicates:,} replicates"
        )
    if found:
        remarks.append(
            f"EER, and TAR at FAR 1e-2 to 1e-6: over {count(found.positives, 'positive')} and"
            f" {count(found.negatives, 'negative')}; {ABSENT} where those are too few"
        )
    if report.protocol.name == "cuhk03":
        remarks.append(
            f"protocol cuhk03: R is over {count(report.protocol.repeats or 0, 'draw')} of one"
            " image of each identity"
        )
    if how := report.settings.get("multi_query"):
        one = "their unit mean" if how == "mean" else "the best of their similarities counts"
        remarks.append(
            f"a query is all images of one identity under one camera ({one}):"
            f" {count(report.query.rows, 'image')} make {count(first.queries, 'query', 'queries')}"
        )
    remarks.append(
        f"means are over {count(first.valid, 'valid query', 'valid queries')}; "
        f"{first.invalid:,} had no match and are left out"
    )
    cut = next((result.cmc_cut for result in report.results if result.cmc_cut), None)
    if cut is not None:
        remarks.append(f"CMC curves are cut at rank {cut}: the gallery holds no more")
    joint = [label(result) for result in report.results if is_transductive(result)]
    if joint:
        remarks.append(f"{', '.join(joint)}: transductive, uses all queries together")
    return remarks
