"""The charts of a report, as inline SVG whose colors are the page's own CSS variables."""

from markupsafe import Markup
from matplotlib.axes import Axes

from pipeline.report.drawing import Curve, draw, floor_of, horizontal, shortened
from pipeline.report.figures import label, percent, power
from pipeline.report.results import Report

_RANKS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000]
_MARKED = [1, 5, 10, 20]
_DECADES = [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1]


def cmc_chart(report: Report, *, width: int, height: int, name: str) -> Markup | None:
    """Draw the CMC curve of each result as an `<svg>`, `width` x `height` points; None without one.

    The axis of ranks is logarithmic, because the first ranks are the most informative. Each curve
    is named at its start, because curves are far apart there and meet later.
    """
    curves = [
        Curve(
            place=place,
            name=shortened(label(result), f" {percent(result.cmc[0], 1)}", width),
            x=range(1, len(result.cmc) + 1),
            shares=[100 * share for share in result.cmc],
            marked=[rank - 1 for rank in _MARKED if rank <= len(result.cmc)],
        )
        for place, result in enumerate(report.results)
        if result.cmc
    ]
    if not curves:
        return None
    last = max(2, *(len(curve.x) for curve in curves))

    def frame(axes: Axes) -> None:
        axes.set_xlim(1, last)
        ticks = [rank for rank in _RANKS if rank <= last]
        horizontal(axes, ticks, lambda rank: f"{rank:.0f}", "rank (logarithmic)")

    return draw(
        curves,
        size=(width, height),
        side="left",
        floor=floor_of(min(curve.shares[0] for curve in curves)),
        frame=frame,
        name=name,
        description=description(report),
    )


def roc_chart(report: Report, *, width: int, height: int, name: str) -> Markup | None:
    """Draw the TAR of each result at the false-accept rates that its negatives can measure.

    The result is an `<svg>`, or None if no result has two such rates. Curves are named at their
    ends.
    """
    curves = []
    for place, result in enumerate(report.results):
        points = result.open_set.points if result.open_set else ()
        told = [(each.wanted, each.tar) for each in points if each.tar is not None]
        if len(told) > 1:
            rates = [rate for rate, _ in told]
            curves.append(
                Curve(
                    place=place,
                    name=shortened(label(result), "", width),
                    x=rates,
                    shares=[100 * share for _, share in told],
                    marked=[n for n, rate in enumerate(rates) if rate in _DECADES],
                )
            )
    if not curves:
        return None
    first, last = min(curve.x[0] for curve in curves), max(curve.x[-1] for curve in curves)

    def frame(axes: Axes) -> None:
        axes.set_xlim(first, last)
        ticks = [rate for rate in _DECADES if first <= rate <= last]
        horizontal(axes, ticks, power, "false-accept rate (logarithmic)")

    return draw(
        curves,
        size=(width, height),
        side="right",
        floor=floor_of(min(min(curve.shares) for curve in curves)),
        frame=frame,
        name=name,
        description=roc_description(report),
    )


def description(report: Report) -> str:
    """Describe the chart in words, for people who cannot see it."""
    parts = []
    for result in report.results:
        at = [
            f"{percent(share)} % at rank {rank}"
            for rank, share in result.rank.items()
            if share is not None
        ]
        if at:
            parts.append(f"{label(result)}: {', '.join(at)}")
    return f"CMC curves. {'; '.join(parts)}."


def roc_description(report: Report) -> str:
    """Describe the ROC chart in words."""
    parts = []
    for result in report.results:
        points = result.open_set.points if result.open_set else ()
        at = [
            f"{percent(each.tar)} % at {each.wanted:g}"
            for each in points
            if each.tar is not None and each.wanted in _DECADES
        ]
        if at:
            parts.append(f"{label(result)}: {', '.join(at)}")
    return f"True-accept rate at false-accept rates. {'; '.join(parts)}."
