"""The CMC curves as inline SVG whose colours are the page's own CSS variables."""

import io
import re

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MultipleLocator, NullLocator

from pipeline.report.figures import label, percent
from pipeline.report.results import Report, Result

# Matplotlib wants colours, the page wants variables (light and dark): each stands for the other.
_INK, _MUTED, _RULE = "#010001", "#010002", "#010003"
_SERIES = [f"#02000{n}" for n in range(6)]
_VARIABLES = {
    _INK: "var(--ink)",
    _MUTED: "var(--muted)",
    _RULE: "var(--rule)",
    **{colour: f"var(--series-{n})" for n, colour in enumerate(_SERIES)},
}
_MARKERS = "osD^vP"
_TICKS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000]
_MARKED = [1, 5, 10, 20]

_POINTS_PER_CHARACTER = 6.4  # of the label font, at most
_LABEL_GAP = 14.0  # points between the centres of two labels
_LABEL_DISTANCE = 16.0  # points from a label to its curve


def cmc_chart(report: Report, *, width: int, height: int, name: str) -> Markup | None:
    """The CMC curve of each result as an `<svg>`, `width` x `height` points, or None without one.

    Ranks run on a logarithmic axis, as most of a curve's story is in its first ranks. Each curve is
    labelled where it starts: there curves lie apart, further on they meet. The same report gives
    the same bytes; `name` (unique in the page) keys the ids.
    """
    curves = [(n, result) for n, result in enumerate(report["results"]) if result["cmc"]]
    if not curves:
        return None
    labels = [_label(result, width) for _, result in curves]
    last = max(2, *(len(result["cmc"]) for _, result in curves))
    starts = [100 * result["cmc"][0] for _, result in curves]
    floor = _floor(min(starts))
    left = max(map(len, labels)) * _POINTS_PER_CHARACTER + _LABEL_DISTANCE
    right, bottom, top = 46.0, 40.0, 12.0
    per_point = (100 - floor) / (height - bottom - top)
    places = spread(starts, _LABEL_GAP * per_point, floor, 100.0)
    with mpl.rc_context({"svg.hashsalt": name, "svg.fonttype": "none", "font.size": 11.0}):
        figure = Figure(figsize=(width / 72, height / 72))
        box = (left, bottom, width - left - right, height - bottom - top)
        axes = figure.add_axes((box[0] / width, box[1] / height, box[2] / width, box[3] / height))
        _frame(axes, last, floor)
        for (n, result), text, start, place in zip(curves, labels, starts, places, strict=True):
            _curve(axes, n, result["cmc"], text, (place - start) / per_point)
        buffer = io.StringIO()
        nothing = dict.fromkeys(["Date", "Creator", "Format", "Type"])
        FigureCanvasSVG(figure).print_svg(buffer, metadata=nothing)
    return _inline(buffer.getvalue(), description(report))


def _curve(axes: Axes, n: int, shares: list[float], text: str, rise: float) -> None:
    """Draw one curve in the colour and with the marker of place `n`, its label `rise` points up."""
    colour, heights = _SERIES[n % len(_SERIES)], [100 * share for share in shares]
    axes.plot(
        range(1, len(shares) + 1),
        heights,
        color=colour,
        linewidth=1.9,
        marker=_MARKERS[n % len(_MARKERS)],
        markersize=5,
        markevery=[rank - 1 for rank in _MARKED if rank <= len(shares)],
        clip_on=False,
        zorder=3 + n,
    )
    axes.annotate(
        text,
        xy=(1, heights[0]),
        xytext=(-_LABEL_DISTANCE, rise),
        textcoords="offset points",
        color=colour,
        ha="right",
        va="center",
        parse_math=False,
        annotation_clip=False,
        arrowprops={
            "arrowstyle": "-",
            "color": colour,
            "linewidth": 0.8,
            "shrinkA": 1,
            "shrinkB": 4,
            "relpos": (1, 0.5),
        },
    )


def description(report: Report) -> str:
    """The chart in words, for whoever cannot see it."""
    parts = []
    for result in report["results"]:
        at = [
            f"{percent(share)} % at rank {rank}"
            for rank, share in result["rank"].items()
            if share is not None
        ]
        if at:
            parts.append(f"{label(result)}: {', '.join(at)}")
    return f"CMC curves. {'; '.join(parts)}."


def spread(values: list[float], gap: float, low: float, high: float) -> list[float]:
    """Places near `values`, in their order and at least `gap` apart, from `low` to `high`.

    Equal values keep the order in which they came. Where the range is too small for all of them,
    the first places may pass `high`.

    >>> spread([99.0, 100.0, 60.0], gap=5.0, low=60.0, high=100.0)
    [95.0, 100.0, 60.0]
    >>> spread([60.0, 60.0], gap=5.0, low=60.0, high=100.0)
    [65.0, 60.0]
    """
    order = sorted(range(len(values)), key=lambda n: -values[n])
    places = list(values)
    room = high
    for n in order:
        places[n] = min(values[n], room)
        room = places[n] - gap
    room = low
    for n in reversed(order):
        places[n] = max(places[n], room)
        room = places[n] + gap
    return places


def _frame(axes: Axes, last: int, floor: int) -> None:
    axes.set_xscale("log")
    axes.set_xlim(1, last)
    axes.yaxis.tick_right()
    axes.set_ylim(floor, 100)
    ticks = [tick for tick in _TICKS if tick <= last]
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda rank, _: f"{rank:.0f}"))
    axes.yaxis.set_major_locator(MultipleLocator(10 if 100 - floor > 25 else 5))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{share:.0f} %"))
    axes.grid(axis="y", color=_RULE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, pad=6, labelcolor=_MUTED)
    for side in ("left", "right", "top"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(_MUTED)
    axes.set_xlabel("rank (logarithmic)", color=_MUTED, labelpad=5)
    axes.patch.set_visible(False)
    axes.figure.patch.set_visible(False)


def _floor(lowest: float) -> int:
    """Where the axis of percentages starts: the ten below `lowest`, at 80 at most."""
    return min(80, int(lowest) // 10 * 10)


def _label(result: Result, width: int) -> str:
    """The result's label with its rank-1 share, in two fifths of the chart's width at most."""
    share, text = percent(result["cmc"][0], 1), label(result)
    longest = int(0.4 * width / _POINTS_PER_CHARACTER) - len(share) - 1
    return f"{text if len(text) <= longest else text[: longest - 1] + '…'} {share}"


def _inline(svg: str, description: str) -> Markup:
    """Matplotlib's document as an element of the page: no prologue, metadata or names."""
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r"<style[^>]*>.*?</style>", "", body, flags=re.DOTALL)
    body = re.sub(r'<g id="[^"]*"', "<g", body)
    opening, rest = body.split(">", 1)
    (box,) = re.findall(r'viewBox="[^"]*"', opening)
    rest = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", rest)
    for colour, variable in _VARIABLES.items():
        rest = rest.replace(colour, variable)
    return Markup('<svg {} role="img" aria-label="{}">').format(Markup(box), description) + Markup(
        rest
    )
