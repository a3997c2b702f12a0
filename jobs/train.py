"""train: fit a network to crops of known people."""

import sys
from dataclasses import fields
from pathlib import Path
from typing import Annotated

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from jobs.command.flags import (
    ActorFlags,
    BoxFlags,
    LabelFlags,
    RecipeFlags,
    SupervisedFlags,
    WorkFlags,
)
from jobs.command.progress import progress_lines
from pipeline.archive.layouts.rules import AS_THEY_ARE
from pipeline.archive.video.rules import ALL_BOXES
from pipeline.runs.locations import LOCATION, Location
from pipeline.runs.settings import ActorSettings, RecipeSettings, WorkSettings
from pipeline.runs.trained import HeldOutFigures, SupervisedResult, SupervisedSettings


def train(
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
    settings: SupervisedFlags = SupervisedSettings(),
    work: WorkFlags = WorkSettings(),
    on: ActorFlags = ActorSettings(),
) -> SupervisedResult:
    """Train a network on crops whose identities are known.

    Some people are held out; the network is measured on them before and
    after. Junk, distractors and crops of unknown identity are left out.

    Run the same command again after an interruption: it resumes with the
    last finished epoch.

    For example:

        regallery train market/bounding_box_train --layout market1501
        --model osnet_x0_25 --checkpoint osnet_x0_25_imagenet.pth --out trained

    Args:
        source: What extract takes: folder, tar, manifest, or videos with boxes.
        model: Built-in network (demo, osnet_x1_0, bnneck, torchvision:NAME, ...).
        checkpoint: File of its weights, by its path or URL (default: random weights, for
            networks whose shape no checkpoint decides).
        out: Folder for the checkpoints and the trained network (network.safetensors).
        verdicts: Gallery of the same source whose verdicts say which crops show one person, and
            which do not.
        mistakes: Table of pairs that evaluate --mine wrote: their crops are drawn more often, and
            those of different people beside each other.
        layout: How identity, camera, time and tracklet are read from names, as in extract.
    """
    from pipeline.archive.listing.source import check_source

    check_source(source, layout, labels)
    with progress_lines() as progress:
        progress("loading the network, listing the source", None)
        from pipeline.gallery.table import Gallery
        from pipeline.model.fetched_networks import network_file
        from pipeline.model.trainable import TrainableFile, UntrainedNetwork
        from pipeline.runs.target import given_fields
        from pipeline.runs.training import train as train_network

        given = given_fields(recipe)
        return train_network(
            source,
            UntrainedNetwork(model, given)
            if checkpoint is None
            else TrainableFile(network_file(model, checkpoint), given),
            out,
            layout=layout,
            labels=labels,
            boxes=boxes,
            settings=settings,
            work=work,
            actors=on,
            verdicts=None if verdicts is None else Gallery.open(verdicts),
            mistakes=mistakes,
            progress=progress,
        )


def describe(result: SupervisedResult) -> RenderableType:
    """The first and last losses, the figures on held-out people, and where the network is."""
    table = Table(box=None, pad_edge=False)
    table.add_column("epoch", justify="right")
    for name in result.losses[0]:
        table.add_column(name, justify="right")
    for epoch in sorted({1, len(result.losses)}):
        values = result.losses[epoch - 1].values()
        table.add_row(str(epoch), *(f"{value:.3f}" for value in values))
    lines = [_figures("before", result.before), _figures("after", result.after)]
    if result.after is None:
        lines.append("not measured: no held-out person is seen by two cameras")
    counts = {each.name: getattr(result.left_out, each.name) for each in fields(result.left_out)}
    if any(counts.values()):
        lines.append("left out: " + ", ".join(f"{n:,} {name}" for name, n in counts.items() if n))
    if result.identities_merged or result.crops_identified:
        lines.append(
            f"by verdicts: {result.identities_merged:,} identities merged into others,"
            f" {result.crops_identified:,} crops without a person identified"
        )
    lines.append(
        f"{result.crops:,} crops of {result.people:,} people, {result.seconds:.0f} s:"
        f" {result.network}"
    )
    return Group(table, *(Text(line) for line in lines if line))


def _figures(when: str, found: HeldOutFigures | None) -> str:
    if found is None:
        return ""
    low, high = 100 * found.interval.low, 100 * found.interval.high
    return (
        f"{when}: mAP {100 * found.mean_ap:.2f} ({low:.2f} to {high:.2f}), rank 1"
        f" {100 * found.rank_1:.2f}, over {found.queries:,} crops of {found.people:,} held-out"
        " people"
    )


if __name__ == "__main__":
    from jobs.cli import main

    sys.exit(main(["train", *sys.argv[1:]]))
