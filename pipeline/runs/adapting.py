"""Adapt a network to an archive without labels: extract, cluster, train, and again."""

import hashlib
import json
import logging
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.archive.layouts.rules import LabelSettings
from pipeline.archive.listing.source import Listing
from pipeline.archive.video.listing import list_archive
from pipeline.archive.video.rules import BoxSettings
from pipeline.core.clusters.dbscan import NOISE
from pipeline.errors import InputError
from pipeline.gallery.table import Gallery
from pipeline.model.trainable import TrainableNetwork
from pipeline.output_files import replace_file
from pipeline.runs.acceptance import AcceptanceSettings, AcceptanceTest, compare_networks
from pipeline.runs.acceptance_pairs import held_out_rows
from pipeline.runs.adapt_report import PAGE, write_report
from pipeline.runs.adapt_rounds import (
    describe_round,
    find_clusters,
    objective_of,
    read_round,
    seen_rows,
    write_round,
)
from pipeline.runs.adapted import Adapted, AdaptRound, RoundSettings
from pipeline.runs.hard_pairs import hard_rows, read_mistakes
from pipeline.runs.network_training import NetworkSource, claim_folder, held_folder
from pipeline.runs.path_verdicts import NO_VERDICTS, PathVerdicts, verdicts_by_path
from pipeline.runs.settings import ActorSettings, WorkSettings
from pipeline.stages.execution import StartProgress, silent
from pipeline.stages.prepared_crops import drop_crops
from pipeline.stages.train import WEIGHTS, TrainingWork
from pipeline.training.parts import check_part

_log = logging.getLogger(__name__)

NETWORK = "network.safetensors"
_ABOUT = "adapt.json"
_GALLERY = "gallery"


@dataclass(frozen=True)
class AdaptPlan:
    """An adaptation: the listing of the archive, the network, and all settings."""

    listing: Listing
    network: TrainableNetwork
    out: Path
    layout: str
    rounds: RoundSettings = RoundSettings()
    work: WorkSettings = WorkSettings()
    actors: ActorSettings = ActorSettings(actors=0)
    verdicts: PathVerdicts = NO_VERDICTS
    mistakes: PathVerdicts | None = None

    def folder(self, number: int) -> Path:
        """The folder of a round; that of round 0 holds the features of the given network."""
        return self.out / f"round-{number:02d}"

    def weights(self, number: int) -> Path | None:
        """The weights after a round; None for those that the network came with."""
        return self.folder(number) / WEIGHTS if number else None

    @property
    def seen(self) -> NetworkSource:
        """The network with the crops that it sees."""
        return NetworkSource(self.listing, self.network, self.layout, self.work, self.actors)

    def about(self) -> dict[str, Any]:
        """What every run that goes on with this one must share."""
        settings = asdict(self.rounds) | {"workers": None, "untested": None}
        return self.seen.about | {
            "settings": settings,
            "verdicts": self.verdicts.digest(),
            "mistakes": None if self.mistakes is None else self.mistakes.digest(),
        }


def adapt(
    source: str,
    network: TrainableNetwork,
    out: Path,
    *,
    layout: str = "none",
    labels: LabelSettings = LabelSettings(),
    boxes: BoxSettings = BoxSettings(),
    rounds: RoundSettings = RoundSettings(),
    work: WorkSettings = WorkSettings(),
    actors: ActorSettings = ActorSettings(actors=0),
    verdicts: Gallery | None = None,
    mistakes: Path | None = None,
    progress: StartProgress = silent,
) -> Adapted:
    """Adapt a network to the crops of a source, whose identities it does not know.

    Each round extracts features, finds clusters, and trains the network on them. `out` keeps a
    folder for each round, and the features of the first and the last network; after a kill, the
    same call goes on from the last finished epoch. Identities of the source are used for figures,
    and for the test if there are few tracklets; the network is not trained on them. Verdicts of a
    gallery of the same source say which rows must and must not be of one cluster. Crops of the
    pairs in `mistakes`, a table that an evaluation wrote, come up more often (see
    `hard_pairs.hard_rows`). Raise InputError before any work if an argument cannot be used, if
    `out` is of another adaptation, or if another run is using it, and RunError if the rows fall
    into too few clusters.
    """
    listing = list_archive(source, layout, labels, boxes)
    judged = NO_VERDICTS if verdicts is None else verdicts_by_path(verdicts, listing.root)
    wrong = None if mistakes is None else read_mistakes(mistakes)
    if wrong is not None:
        hard_rows(wrong, listing.images["path"], source)
    described = labels.described(layout)
    plan = AdaptPlan(listing, network, out, described, rounds, work, actors, judged, wrong)
    return adapt_network(plan, progress)


def adapt_network(plan: AdaptPlan, progress: StartProgress = silent) -> Adapted:
    """Do or go on with a planned adaptation; no other run may use its folder at the same time."""
    about = plan.about()
    check_part(plan.network.module(), plan.rounds.part)
    with held_folder(plan.out, f"adapt to {plan.listing.root}"):
        claim_folder(plan.out, _ABOUT, about, "adaptation")
        return _adapted(plan, progress)


def _adapted(plan: AdaptPlan, progress: StartProgress) -> Adapted:
    """Do all rounds that are not finished, and test the last network."""
    begun = time.perf_counter()
    first = extract_round(plan, 0, progress)
    members = plan.seen.images_of(first.rows(["path"])["path"])
    done = []
    for number in range(1, plan.rounds.rounds + 1):
        told = read_round(plan.folder(number))
        done.append(_do_round(plan, number, members, progress) if told is None else told)
        _drop_features(plan, number - 1)
    last = extract_round(plan, plan.rounds.rounds, progress)
    test, untested = _tested(first, last, plan)
    drop_crops(plan.out)
    seconds = time.perf_counter() - begun
    result = _published(plan, tuple(done), first, test, untested, seconds)
    write_report(result, first, last, plan.network.name)
    return result


def extract_round(plan: AdaptPlan, number: int, progress: StartProgress) -> Gallery:
    """The gallery of a round: made, or brought up to date."""
    return plan.seen.extract(plan.weights(number), plan.folder(number) / _GALLERY, progress)


def _do_round(
    plan: AdaptPlan, number: int, members: pa.Table, progress: StartProgress
) -> AdaptRound:
    """Cluster what the last round's network sees, and train it on the clusters."""
    settings, folder = plan.rounds, plan.folder(number)
    folder.mkdir(parents=True, exist_ok=True)
    before = extract_round(plan, number - 1, progress)
    rows = seen_rows(before, members["path"], held_out_rows(before, settings.held_out))
    scratch = folder / "clusters"
    links = plan.verdicts.among(rows.path)
    found = find_clusters(rows, settings, links, scratch, first=number == 1)
    crops = plan.seen.prepare(members, plan.out, progress)
    labels = np.full(len(members), NOISE, np.int64)
    cameras = np.zeros(len(members), np.int64)
    labels[rows.crop], cameras[rows.crop] = found.labels, rows.camera
    training = TrainingWork(
        network=plan.network,
        start=plan.weights(number - 1),
        objective=objective_of(rows, found.labels),
        crops=crops,
        labels=labels,
        cameras=cameras,
        folder=folder,
        about=hashlib.sha256(labels.tobytes() + json.dumps(plan.about()).encode()).hexdigest(),
        settings=settings.training(number, plan.actors.precision),
        hard=None
        if plan.mistakes is None
        else hard_rows(plan.mistakes, members["path"], plan.listing.root),
    )
    done = plan.seen.train(training, settings.workers, progress)
    told = describe_round(number, rows, found, done.losses)
    write_round(folder, told, rows, found)
    shutil.rmtree(scratch, ignore_errors=True)
    return told


def _drop_features(plan: AdaptPlan, number: int) -> None:
    """Delete the gallery of a round between the first network and the last: it has been used."""
    if number:
        shutil.rmtree(plan.folder(number) / _GALLERY, ignore_errors=True)


def _tested(
    first: Gallery, last: Gallery, plan: AdaptPlan
) -> tuple[AcceptanceTest | None, str | None]:
    """The acceptance test, or the reason why the archive allows none."""
    settings = AcceptanceSettings(plan.rounds.held_out)
    same, different = plan.verdicts.among(first.rows(["path"])["path"])
    ids = first.row_ids()
    try:
        return compare_networks(
            first, last, settings, same=ids[same], different=ids[different]
        ), None
    except InputError as error:
        return None, str(error)


def _published(
    plan: AdaptPlan,
    rounds: tuple[AdaptRound, ...],
    first: Gallery,
    test: AcceptanceTest | None,
    untested: str | None,
    seconds: float,
) -> Adapted:
    """Put the last network into place if it may be used; delete one from before if not."""
    accepted = plan.rounds.untested if test is None else test.accepted
    network = plan.out / NETWORK
    weights = plan.weights(len(rounds))
    if accepted and weights is not None:
        data = weights.read_bytes()
        replace_file(network, lambda file: file.write(data))
    else:
        network.unlink(missing_ok=True)
    return Adapted(
        out=plan.out,
        network=network if accepted else None,
        rounds=rounds,
        crops=first.count,
        rejected=len(first.rejects()),
        test=test,
        untested=untested,
        report=plan.out / PAGE,
        seconds=seconds,
    )
