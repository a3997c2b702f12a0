"""demo: run every step on a small archive drawn on the spot, or adapt a network to one."""

import sys
from dataclasses import asdict, dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

from cyclopts import Parameter
from rich.console import Group, RenderableType
from rich.text import Text

from jobs.adapt import adapt
from jobs.adapt import describe as describe_adaptation
from jobs.command.progress import working
from jobs.evaluate import describe as describe_evaluation
from jobs.evaluate import evaluate
from jobs.extract import Extracted, extract
from pipeline.errors import InputError
from pipeline.runs.adapted import Adapted, RoundSettings
from pipeline.runs.locations import LOCATION
from pipeline.runs.outcomes import Evaluated
from pipeline.runs.settings import ActorSettings, ExpansionSettings

if TYPE_CHECKING:
    from pipeline.report.results import Report


@dataclass(frozen=True)
class Demonstrated:
    """The folders of the demo, and the results of the evaluation."""

    archive: Path
    drawn: dict[str, int]
    extracted_query: Extracted
    extracted_gallery: Extracted
    report_json: Path
    report_html: Path
    report: "Report"


_PEOPLE = 64
_NIGHT = RoundSettings(rounds=6, round_epochs=3, part="everything", learning_rate=1e-3)
"""How the demo's network is adapted: it is so small that all of it is trained.

The archive has no tracklets, so the test compares pairs of rows by identity: over so few tracklets,
the interval would be wide.
"""


def demo(
    show: Literal["pipeline", "adapt"] = "pipeline",
    /,
    *,
    out: Annotated[Path, LOCATION] = Path("demo-output"),
    seed: int = 0,
    actors: int | None = None,
    explore: Annotated[bool, Parameter(negative=())] = False,
) -> Demonstrated | Adapted:
    """Run every step, from crops to report, on a small archive drawn on the spot.

    Draws people who walk past four cameras, makes galleries of the queries
    and of the rest with a small network trained on other drawn people,
    evaluates with and without query expansion, and writes the report.
    Nothing is downloaded. After an interruption, run it again: it resumes.

    With `regallery demo adapt`, the cameras are such as the network has never seen (it is
    night), and the network is adapted to them without labels, within
    minutes.

    For example:

        regallery demo --out demo-output

    Args:
        show: What is shown: the pipeline, or how a network adapts.
        out: Folder for the archive, the galleries and the report.
        seed: Seed of the drawing; another seed draws other people.
        actors: Workers of the extraction on Ray; 0 for a plain loop in this process (default: as
            extract chooses).
        explore: Then show the galleries in the browser (see explore), until Ctrl-C.
    """
    if show == "adapt":
        if explore:
            raise InputError("`explore` goes with the pipeline: the adaptation has a report")
        return _adapted(out, seed, actors)
    from pipeline.archive.drawn.drawing import draw_archive

    archive = out / f"archive-{seed}"
    with working("drawing"):
        drawn = draw_archive(archive, seed=seed)
    made = {}
    with as_file(files("jobs.demo_network") / "demo.onnx") as model:
        for side, folder in (("query", "query"), ("gallery", "bounding_box_test")):
            done = extract(
                str(archive / folder),
                gallery=str(out / f"{side}-{seed}"),
                model=str(model),
                layout="market1501",
                on=ActorSettings(actors=actors),
            )
            made[side] = cast(Extracted, done)  # it was no dry run
    evaluated = evaluate(
        query=made["query"].gallery,
        gallery=(made["gallery"].gallery,),
        out=out / f"report-{seed}",
        expansion=ExpansionSettings(aqe=("query", "database", "joint")),
    )
    if explore:
        _explore([made["gallery"].gallery, made["query"].gallery])
    return Demonstrated(
        archive=archive,
        drawn=asdict(drawn),
        extracted_query=made["query"],
        extracted_gallery=made["gallery"],
        report_json=evaluated.report_json,
        report_html=evaluated.report_html,
        report=evaluated.report,
    )


def _explore(galleries: list[str]) -> None:
    """Show the galleries in the browser, until Ctrl-C."""
    from jobs.explore import explore

    with as_file(files("jobs.demo_network") / "demo.onnx") as model:
        explore(gallery=tuple(galleries), model=str(model), allow_verdicts=True, allow_erase=True)


def _adapted(out: Path, seed: int, actors: int | None) -> Adapted:
    """Draw an archive at night, and adapt the demo's network to it."""
    from pipeline.archive.drawn.passages import UNTRACKED_LAYOUT, draw_passages

    archive = out / f"night-{seed}"
    with working("drawing"):
        draw_passages(archive, identities=_PEOPLE, seed=seed, night=True)
    with as_file(files("jobs.demo_network") / "demo.safetensors") as weights:
        return adapt(
            str(archive),
            model="demo",
            checkpoint=str(weights),
            out=out / f"adapted-{seed}",
            layout=UNTRACKED_LAYOUT,
            rounds=_NIGHT,
            on=ActorSettings(actors=actors),
        )


def describe(result: Demonstrated | Adapted) -> RenderableType:
    """What was drawn, the metrics, and what to open."""
    if isinstance(result, Adapted):
        return describe_adaptation(result)
    told = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in result.drawn.items())
    evaluated = Evaluated(result.report_json, result.report_html, result.report)
    return Group(Text(f"{result.archive}: {told}"), Text(), describe_evaluation(evaluated))


if __name__ == "__main__":
    from jobs.cli import main

    sys.exit(main(["demo", *sys.argv[1:]]))
