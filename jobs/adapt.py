"""adapt: fit a network to the cameras of an archive that nobody has labeled."""

import sys
from pathlib import Path
from typing import Annotated

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from jobs.command.flags import ActorFlags, BoxFlags, LabelFlags, RecipeFlags, RoundFlags, WorkFlags
from jobs.command.progress import progress_lines
from pipeline.archive.layouts.rules import AS_THEY_ARE
from pipeline.archive.video.rules import ALL_BOXES
from pipeline.errors import RunError
from pipeline.runs.adapted import Adapted, RoundSettings
from pipeline.runs.locations import LOCATION, Location
from pipeline.runs.settings import ActorSettings, RecipeSettings, WorkSettings


def adapt(
    source: Location,
    /,
    *,
    model: Location,
    checkpoint: Location | None = None,
    out: Annotated[Path, LOCATION],
    verdicts: Location | None = None,
    mistakes: Annotated[Path, LOCATION] | None = None,
    layout: str = "none",
    labels: LabelFlags = AS_THEY_ARE,
    boxes: BoxFlags = ALL_BOXES,
    recipe: RecipeFlags = RecipeSettings(),
    rounds: RoundFlags = RoundSettings(),
    work: WorkFlags = WorkSettings(),
    on: ActorFlags = ActorSettings(),
) -> Adapted:
    """Fit a network to the cameras of an archive that nobody has labeled.

    Each round extracts features, finds clusters of crops that probably show
    one person, and trains the network on them. Tracklets that are held out
    test the last network against the first; a network that recognizes
    people less well is not written, and the exit status is 1. The network
    is not trained on identities of the source: they are used for figures,
    and for the test if there are few tracklets.

    Run the same command again after an interruption: it resumes with the
    last finished epoch.

    For example:

        regallery adapt cameras.csv --model osnet_x0_25
        --checkpoint osnet_x0_25_msmt17.pth --out adapted

    Args:
        source: What extract takes: folder, tar, manifest, or videos with boxes.
        model: Built-in network (osnet_x1_0, bnneck, torchvision:NAME, ...).
        checkpoint: File of its weights, by its path or URL.
        out: Folder for the rounds and the adapted network (network.safetensors).
        verdicts: Gallery of the same source whose verdicts say which crops show one person, and
            which do not.
        mistakes: Table of pairs that evaluate --mine wrote: their crops are drawn more often, and
            those of different people beside each other.
        layout: How camera, time, tracklet and identity are read from names, as in extract.
    """
    from pipeline.archive.listing.source import check_source

    check_source(source, layout, labels)
    with progress_lines() as progress:
        progress("loading the network, listing the source", None)
        from pipeline.gallery.table import Gallery
        from pipeline.model.fetched_networks import network_file
        from pipeline.model.trainable import TrainableFile
        from pipeline.runs.adapting import adapt as adapt_network
        from pipeline.runs.target import given_fields

        network = TrainableFile(network_file(model, checkpoint), given_fields(recipe))
        done = adapt_network(
            source,
            network,
            out,
            layout=layout,
            labels=labels,
            boxes=boxes,
            rounds=rounds,
            work=work,
            actors=on,
            verdicts=None if verdicts is None else Gallery.open(verdicts),
            mistakes=mistakes,
            progress=progress,
        )
    if done.network is None:
        raise RunError(_refusal(done))
    return done


def describe(result: Adapted) -> RenderableType:
    """The rounds, how the network compares with the one from before, and where it is."""
    table = Table(box=None, pad_edge=False)
    for head in ("round", "clusters", "in no cluster", "cameras", "eps", "B-cubed F", "loss"):
        table.add_column(head, justify="right")
    for each in result.rounds:
        known = each.agreement
        table.add_row(
            str(each.number),
            f"{each.clusters:,}",
            f"{each.noise / each.rows_clustered:.1%}",
            f"{each.cameras_per_cluster:.2f}",
            f"{each.eps:g}",
            "-" if known is None else f"{known.f_score:.3f}",
            f"{sum(each.losses[-1].values()):.3f}",
        )
    lines = [result.outcome]
    if result.test is not None and result.test.mean_ap is not None:
        lines.append(str(result.test.mean_ap))
    rejected = f" ({result.rejected:,} rejected)" if result.rejected else ""
    lines.append(
        f"{result.crops:,} crops{rejected}, {result.seconds:.0f} s: {result.network},"
        f" {result.report}"
    )
    return Group(table, *(Text(line) for line in lines))


def _refusal(result: Adapted) -> str:
    """Why no network was written, and what can be done."""
    kept = f"see {result.report}"
    if result.test is None:
        return (
            "no network is written, since it cannot be compared with the given one:"
            f" {result.untested}; to write it without a comparison, run the command again with"
            f" `untested`; {kept}"
        )
    return f"no network is written: {result.test.reason}; {kept}"


if __name__ == "__main__":
    from jobs.cli import main

    sys.exit(main(["adapt", *sys.argv[1:]]))
