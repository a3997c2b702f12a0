"""Format a figure for a reader: the same on the page and in the terminal."""

from collections.abc import Mapping
from math import isnan
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # every verb writes figures, but few need what these import
    from pipeline.core.evaluation.bootstrap import Interval
    from pipeline.core.thresholds.open_set import OperatingPoint
    from pipeline.report.results import RankingResult, Report, Scalar

ABSENT = "–"  # noqa: RUF001  (an en dash: there is no figure; also that of a span)
MINUS = "\u2212"


def percent(share: float | None, digits: int = 2) -> str:
    """Format a share as a percentage without its sign, or a dash for None and NaN.

    >>> percent(0.61234), percent(1, digits=1), percent(None) == ABSENT
    ('61.23', '100.0', True)
    """
    return ABSENT if share is None or isnan(share) else f"{100 * share:.{digits}f}"


def points(gain: float | None, digits: int = 2) -> str:
    """Format a difference of two shares in percentage points, signed unless it rounds to zero.

    >>> points(0.0631), points(-0.02, digits=1) == MINUS + "2.0", points(-0.00001)
    ('+6.31', True, '0.00')
    """
    if gain is None:
        return ABSENT
    text = f"{abs(100 * gain):.{digits}f}"
    if float(text) == 0:
        return text
    return ("+" if gain > 0 else MINUS) + text


def gain(report: "Report", result: "RankingResult", metric: str) -> float | None:
    """The gain of `result` over the report's first result in `metric`, as a difference of shares.

    `metric` is "mAP", "mAP_trapezoid", "mINP" or a rank ("1"). It is None for the first result
    itself, and if either has no figure.
    """
    first = report.results[0]
    here, there = figure(result, metric), figure(first, metric)
    if result.name == first.name or here is None or there is None:
        return None
    return here - there


def gain_interval(result: "RankingResult", metric: str) -> "Interval | None":
    """The interval of a result's gain in "mAP", "1" or "mINP"; None if it was not computed."""
    if result.gains is None:
        return None
    gains = result.gains
    return {"mAP": gains.mean_ap, "1": gains.rank1, "mINP": gains.mean_inp}[metric]


def may_be_chance(interval: "Interval | None") -> bool:
    """Whether the interval of a difference includes zero.

    >>> from pipeline.core.evaluation.bootstrap import Interval
    >>> may_be_chance(Interval(-0.01, 0.2)), may_be_chance(Interval(0.01, 0.2))
    (True, False)
    """
    return interval is not None and interval.low <= 0 <= interval.high


def gain_span(interval: "Interval", digits: int = 2) -> str:
    """Format the interval of a difference in percentage points.

    >>> from pipeline.core.evaluation.bootstrap import Interval
    >>> gain_span(Interval(0.0121, 0.2))
    '+1.21 to +20.00'
    """
    return f"{points(interval.low, digits)} to {points(interval.high, digits)}"


def figure(result: "RankingResult", metric: str) -> float | None:
    """The share of `metric`: "mAP", "mAP_trapezoid", "mINP" or a rank ("1"); None without one."""
    if metric.isdigit():
        return result.rank.get(metric)
    share = {
        "mAP": result.mean_ap,
        "mAP_trapezoid": result.mean_ap_trapezoid,
        "mINP": result.mean_inp,
    }[metric]
    return None if isnan(share) else share


SHOWN_RATES = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
"""The false-accept rates of the tables."""


def span(interval: "Interval", digits: int = 1) -> str:
    """Format an interval in percent.

    >>> from pipeline.core.evaluation.bootstrap import Interval
    >>> span(Interval(0.5547, 0.671)) == f"55.5{ABSENT}67.1"
    True
    """
    return f"{percent(interval.low, digits)}{ABSENT}{percent(interval.high, digits)}"


def operating_point(result: "RankingResult", rate: float) -> "OperatingPoint | None":
    """The operating point of a result at a false-accept rate; None if that cannot be measured."""
    reached = result.open_set.points if result.open_set else ()
    return next((each for each in reached if each.wanted == rate and each.far is not None), None)


def power(rate: float) -> str:
    """Format a power of ten.

    >>> power(0.01), power(1e-6)
    ('10⁻²', '10⁻⁶')
    """
    exponent = f"{rate:.0e}".split("e")[1]
    return "10" + str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def label(result: "RankingResult") -> str:
    """The result's name with its expansion mode beside it, unless the name already says it."""
    if result.mode is None or result.mode in result.name.split():
        return result.name
    return f"{result.name} ({result.mode})"


def is_transductive(result: "RankingResult") -> bool:
    """Whether a query's list depends on the other queries: joint expansion, k-reciprocal lists."""
    return result.mode == "joint" or "k1" in result.parameters


def ranks(report: "Report") -> list[str]:
    """Every rank that some result reports, ascending."""
    return sorted({rank for result in report.results for rank in result.rank}, key=int)


def pairs(values: "Mapping[str, Scalar]") -> str:
    """Format a flat mapping in one line.

    >>> pairs({"k": 10, "alpha": 3.0})
    'k 10, alpha 3'
    """
    return ", ".join(f"{key} {scalar(value)}" for key, value in values.items())


def scalar(value: object) -> str:
    """Format one setting as text.

    >>> scalar(True), scalar(3.0), scalar(None), scalar([0.485, 1])
    ('yes', '3', 'none', '0.485, 1')
    """
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.12g}"
    if isinstance(value, list | tuple):
        return ", ".join(scalar(element) for element in value)
    return str(value)


def count(number: int, one: str, many: str | None = None) -> str:
    """Format a number with its noun.

    >>> count(1, "query", "queries"), count(19732, "row")
    ('1 query', '19,732 rows')
    """
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def counts_line(counts: Mapping[str, int]) -> str:
    """Format counts by name in one line.

    >>> counts_line({"c1": 1200, "": 3})
    'c1 1,200, (unknown) 3'
    """
    return ", ".join(f"{name or '(unknown)'} {number:,}" for name, number in counts.items())


def seconds(duration: float) -> str:
    """Format a duration: three significant digits up to a minute, then minutes and hours.

    >>> seconds(0.8123), seconds(75), seconds(7320)
    ('0.81 s', '1 min 15 s', '2 h 02 min')
    """
    if duration < 9.95:
        return f"{duration:.2f} s"
    if duration < 59.5:
        return f"{duration:.0f} s"
    whole = round(duration)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
