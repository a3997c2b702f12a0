"""Shared parts of the charts: the page's colors, curves with their names, and inline SVG."""

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MultipleLocator, NullLocator

# Matplotlib needs colors, but the page needs variables (light and dark), so each color stands for a
# variable.
_INK, _MUTED, _RULE = "#010001", "#010002", "#010003"
_SERIES = [f"#02000{n}" for n in range(6)]
_VARIABLES = {
    _INK: "var(--ink)",
    _MUTED: "var(--muted)",
    _RULE: "var(--rule)",
    **{color: f"var(--series-{n})" for n, color in enumerate(_SERIES)},
}
_MARKERS = "osD^vP"

_POINTS_PER_CHARACTER = 6.4  # of the label font, at most
_LABEL_GAP = 14.0  # points between the centers of two labels
_LABEL_DISTANCE = 16.0  # points from a label to its curve
_AXIS, _BOTTOM, _TOP = 46.0, 40.0, 12.0  # points that the axes' own labels take


@dataclass(frozen=True)
class Curve:
    """A curve of shares in percent over `x`, with marks at the places `marked`.

    `place` is the result's place in the report, which determines the color.
    """

    place: int
    name: str
    x: Sequence[float]
    shares: Sequence[float]
    marked: list[int]


def draw(
    curves: Sequence[Curve],
    *,
    size: tuple[int, int],
    side: Literal["left", "right"],
    floor: int,
    frame: Callable[[Axes], None],
    name: str,
    description: str,
) -> Markup:
    """Draw curves as an `<svg>` of `size` points, named on the `side` of their beginning or end.

    The vertical axis is on the other side and runs from `floor` to 100 %; `frame` sets the
    horizontal one. The same input gives the same bytes; `name` (unique in the page) is part of the
    ids.
    """
    width, height = size
    ends = [curve.shares[0 if side == "left" else -1] for curve in curves]
    named = max(len(curve.name) for curve in curves) * _POINTS_PER_CHARACTER + _LABEL_DISTANCE
    left = named if side == "left" else _AXIS
    box = (left, _BOTTOM, width - named - _AXIS, height - _BOTTOM - _TOP)
    per_point = (100 - floor) / box[3]
    places = spread_apart(ends, _LABEL_GAP * per_point, floor, 100.0)
    with mpl.rc_context({"svg.hashsalt": name, "svg.fonttype": "none", "font.size": 11.0}):
        figure = Figure(figsize=(width / 72, height / 72))
        axes = figure.add_axes((box[0] / width, box[1] / height, box[2] / width, box[3] / height))
        _frame(axes, floor, side)
        frame(axes)
        for curve, end, place in zip(curves, ends, places, strict=True):
            _plot(axes, curve)
            _name(axes, curve, side, end, (place - end) / per_point)
        buffer = io.StringIO()
        nothing = dict.fromkeys(["Date", "Creator", "Format", "Type"])
        FigureCanvasSVG(figure).print_svg(buffer, metadata=nothing)
    return _inline(buffer.getvalue(), description)


def horizontal(
    axes: Axes, ticks: Sequence[float], text: Callable[[float], str], title: str
) -> None:
    """Draw a logarithmic horizontal axis with a label at each of `ticks`."""
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: text(value)))
    axes.set_xlabel(title, color=_MUTED, labelpad=5)


def shortened(text: str, tail: str, width: int) -> str:
    """Shorten `text` so that it fits, with `tail`, into two fifths of the chart's width."""
    longest = int(0.4 * width / _POINTS_PER_CHARACTER) - len(tail)
    return f"{text if len(text) <= longest else text[: longest - 1] + '…'}{tail}"


def floor_of(lowest: float) -> int:
    """The start of an axis of percentages: the ten below `lowest`, but at most 80."""
    return min(80, int(lowest) // 10 * 10)


def spread_apart(values: list[float], gap: float, low: float, high: float) -> list[float]:
    """Places near `values`, in their order and at least `gap` apart, from `low` to `high`.

    Equal values keep their given order. If the range is too small for all of them, the first places
    may exceed `high`.

    >>> spread_apart([99.0, 100.0, 60.0], gap=5.0, low=60.0, high=100.0)
    [95.0, 100.0, 60.0]
    >>> spread_apart([60.0, 60.0], gap=5.0, low=60.0, high=100.0)
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


def _frame(axes: Axes, floor: int, names: Literal["left", "right"]) -> None:
    axes.set_xscale("log")
    if names == "left":
        axes.yaxis.tick_right()
    axes.set_ylim(floor, 100)
    axes.yaxis.set_major_locator(MultipleLocator(10 if 100 - floor > 25 else 5))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{share:.0f} %"))
    axes.grid(axis="y", color=_RULE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, pad=6, labelcolor=_MUTED)
    for side in ("left", "right", "top"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(_MUTED)
    axes.patch.set_visible(False)
    axes.figure.patch.set_visible(False)


def _plot(axes: Axes, curve: Curve) -> None:
    axes.plot(
        curve.x,
        curve.shares,
        color=_SERIES[curve.place % len(_SERIES)],
        linewidth=1.9,
        marker=_MARKERS[curve.place % len(_MARKERS)],
        markersize=5,
        markevery=curve.marked,
        clip_on=False,
        zorder=3 + curve.place,
    )


def _name(
    axes: Axes, curve: Curve, side: Literal["left", "right"], height: float, rise: float
) -> None:
    """Write a curve's name beside its end, `rise` points above it, with a line between them."""
    color = _SERIES[curve.place % len(_SERIES)]
    away, end = (-1, curve.x[0]) if side == "left" else (1, curve.x[-1])
    axes.annotate(
        curve.name,
        xy=(end, height),
        xytext=(away * _LABEL_DISTANCE, rise),
        textcoords="offset points",
        color=color,
        ha="right" if side == "left" else "left",
        va="center",
        parse_math=False,
        annotation_clip=False,
        arrowprops={
            "arrowstyle": "-",
            "color": color,
            "linewidth": 0.8,
            "shrinkA": 1,
            "shrinkB": 4,
            "relpos": (1 if side == "left" else 0, 0.5),
        },
    )


def _inline(svg: str, description: str) -> Markup:
    """Matplotlib's document as an element of the page: no prologue, metadata or names."""
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r"<style[^>]*>.*?</style>", "", body, flags=re.DOTALL)
    body = re.sub(r'<g id="[^"]*"', "<g", body)
    opening, rest = body.split(">", 1)
    (box,) = re.findall(r'viewBox="[^"]*"', opening)
    rest = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", rest)
    for color, variable in _VARIABLES.items():
        rest = rest.replace(color, variable)
    return Markup('<svg {} role="img" aria-label="{}">').format(Markup(box), description) + Markup(
        rest
    )
