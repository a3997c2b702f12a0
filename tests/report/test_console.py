"""The terminal shows the figures of the page."""

import io
from dataclasses import replace

from rich.console import Console

from pipeline.report.console import metrics_table
from pipeline.report.results import Protocol, Report
from tests.report.changing import changed


def _printed(report: Report, width: int = 80) -> str:
    out = io.StringIO()
    Console(file=out, width=width).print(metrics_table(report))
    return out.getvalue()


def test_figures_gains_and_counts(report: Report) -> None:
    lines = [line.split() for line in _printed(report).splitlines()]
    header = ["result", "mode", "mAP", "trapez.", "mINP", "R1", "R5", "R10", "R20"]
    assert lines[0] == header
    dash = "\u2013"
    assert lines[1] == [
        "baseline",
        dash,
        "61.23",
        "60.35",
        "23.46",
        "50.00",
        "87.50",
        "100.00",
        dash,
    ]
    assert lines[2][:6] == ["aqe", "query", "query", "67.48", "66.60", "17.21"]


def test_a_gain_stands_beside_its_interval(report: Report) -> None:
    text = _printed(report)
    lines = [" ".join(line.split()) for line in text.splitlines()]
    minus = "\u2212"
    assert "gain over baseline mAP 95 % R1 95 %" in lines
    query = f"aqe query +6.25 +3.25 to +8.25 +6.25 {minus}0.75 to +11.25"
    assert query in lines
    told = " ".join(text.split())
    assert "aqe query, aqe joint: the interval of the gain in R1 includes zero" in told
    assert "aqe joint: the interval of the gain in mAP" not in told


def test_a_gain_without_intervals(report: Report) -> None:
    results = tuple(replace(each, intervals=None, gains=None) for each in report.results)
    text = _printed(replace(report, bootstrap=None, results=results))
    assert "aqe query +6.25 +6.25" in " ".join(text.split())
    assert "includes zero" not in text


def test_intervals_and_open_set_figures(report: Report) -> None:
    report = changed(report, "results", 2, "open_set", to=None)
    lines = [line.split() for line in _printed(report).splitlines()]
    dash = "\u2013"
    heading = "result mAP 95 % R1 95 % EER 1e-2 1e-3 1e-4 1e-5 1e-6"
    assert " ".join(lines[9]) == heading
    row = ["baseline", f"55.1{dash}66.3", f"37.5{dash}62.5", "15.6", "43.8", "21.9"]
    assert lines[10] == [*row, dash, dash, dash]
    assert lines[12][-6:] == [dash] * 6
    text = " ".join(_printed(report).split())
    assert "95 % bootstrap intervals of 1,000 replicates" in text
    assert "over 16 positives and 1,234 negatives" in text


def test_protocol_cuhk03_is_told(report: Report) -> None:
    report = replace(report, protocol=Protocol("cuhk03", 10, 0))
    assert "R is over 10 draws of one image of each identity" in " ".join(_printed(report).split())


def test_remarks(report: Report) -> None:
    text = " ".join(_printed(report).split())
    assert "gallery 12,345 rows, 4 identities, 3 cameras, 3 rejects (truncated 2, not-" in text
    assert "means are over 8 valid queries; 1 had no match and are left out" in text
    assert "CMC curves are cut at rank 10" in text
    assert "aqe joint: transductive" in text


def test_re_ranked_lists_are_transductive(report: Report) -> None:
    reranked = replace(report.results[1], name="k-reciprocal", mode=None, parameters={"k1": 20})
    report = changed(report, "results", 1, to=reranked)
    assert "k-reciprocal, aqe joint: transductive" in " ".join(_printed(report).split())


def test_no_valid_query(no_valid_query: Report) -> None:
    assert "0 valid queries; 9 had no match" in _printed(no_valid_query)


def test_fits_a_terminal_of_80_columns(report: Report) -> None:
    assert all(len(line) <= 80 for line in _printed(report).splitlines())
    assert "…" not in _printed(report)


def test_names_are_no_markup(report: Report) -> None:
    report = changed(report, "results", 1, "name", to="[red]x[/red]")
    assert "[red]x[/red]" in _printed(report)
