"""report.json and report.html: one evaluation for programs and for people."""

import json
import os
from functools import partial
from pathlib import Path

from pipeline.errors import InputError
from pipeline.input_files import why
from pipeline.output_files import check_new_folder, check_replaceable, has_mark, replace_file
from pipeline.report.charts import cmc_chart, roc_chart
from pipeline.report.plain import plain
from pipeline.report.results import Report
from pipeline.report.templates import MARK, fill_template
from pipeline.report.thumbnails import Thumbnails

FILES = {"report.json": b'"regallery": ', "report.html": MARK}
"""The files of a report, and the text near their beginning that identifies them as ours."""
_EMPTY = Thumbnails()


def render_report(report: Report, thumbnails: Thumbnails = _EMPTY) -> str:
    """Make the report as one self-contained HTML page; a crop without a thumbnail shows a
    placeholder.

    The page loads nothing from the network, and the same input gives the same bytes.
    """
    return fill_template(
        "report.html",
        report=report,
        thumbnails=thumbnails,
        title=_title(report),
        wide=cmc_chart(report, width=816, height=340, name="wide"),
        narrow=cmc_chart(report, width=340, height=270, name="narrow"),
        wide_roc=roc_chart(report, width=816, height=340, name="wide-roc"),
        narrow_roc=roc_chart(report, width=340, height=270, name="narrow-roc"),
        settings={
            "regallery": report.regallery,
            "feature dimension": report.dimension,
            "gallery storage": report.storage,
            **report.settings,
            **_drawn(report),
        },
        reasons=sorted(report.query.rejects.keys() | report.gallery.rejects.keys()),
    )


def write_page(
    report: Report, out_dir: str | Path, thumbnails: Thumbnails = _EMPTY
) -> tuple[Path, Path]:
    """Write report.json and report.html into `out_dir` (made if missing), and return their paths.

    Each file appears complete or not at all; files of an older report are replaced. The JSON is
    strict (no NaN), its keys are in the order of `Report`, and it has no pictures. Raise the errors
    of `check_place`, and RunError for a file that cannot be written.
    """
    check_place(out_dir)
    page = render_report(report, thumbnails)
    data = json.dumps(plain(report), indent=2, allow_nan=False) + "\n"
    folder = Path(out_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: the folder cannot be made ({why(error)})") from error
    json_path, html_path = (folder / name for name in FILES)
    replace_file(json_path, lambda file: file.write(data.encode()))
    replace_file(html_path, lambda file: file.write(page.encode()))
    return json_path, html_path


def check_place(out_dir: str | Path) -> None:
    """Check, before the work, that a report can be written to `out_dir`.

    Raise InputError if `out_dir` is not a folder or is read-only, and if it has a report.json or
    report.html that no evaluation wrote. Raise RunError if the disk is full.
    """
    folder = Path(out_dir)
    if os.path.lexists(folder) and not os.path.isdir(folder):  # noqa: PTH112 - never raises
        raise InputError(f"{folder}: is not a folder; choose another one for the report")
    check_new_folder(folder)
    for name, mark in FILES.items():
        check_replaceable(folder / name, "out", partial(has_mark, mark=mark))


def _drawn(report: Report) -> dict[str, str]:
    """The random draws of the report, and their settings."""
    protocol, bootstrap = report.protocol, report.bootstrap
    draws = f", {protocol.repeats} draws, seed {protocol.seed}"
    drawn = {"protocol": protocol.name + (draws if protocol.repeats else "")}
    if bootstrap:
        drawn["confidence intervals"] = (
            f"{100 * bootstrap.level:g} %, {bootstrap.replicates} replicates, seed {bootstrap.seed}"
        )
    return drawn


def _title(report: Report) -> str:
    query, gallery = (_last_part(side.location) for side in (report.query, report.gallery))
    return f"{query} against {gallery}"


def _last_part(location: str) -> str:
    return location.rstrip("/").rsplit("/", 1)[-1] or location
