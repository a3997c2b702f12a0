"""Adapt a network to an archive without labels: extract, cluster, train, and again."""

import hashlib
import json
import logging
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.archive.layouts.rules import LabelSettings
from pipeline.archive.listing.source import Listing
from pipeline.archive.video.listing import list_archive
from pipeline.archive.video.rules import BoxSettings
from pipeline.core.clusters.dbscan import NOISE
from pipeline.errors import InputError
from pipeline.gallery.table import Gallery
from pipeline.input_files import parse_json
from pipeline.model.trainable import TrainableNetwork
from pipeline.output_files import check_new_folder, replace_file
from pipeline.runs.acceptance import AcceptanceSettings, AcceptanceTest, compare_networks
from pipeline.runs.acceptance_pairs import held_out_rows
from pipeline.runs.adapt_rounds import (
    describe_round,
    find_clusters,
    objective_of,
    read_round,
    seen_rows,
    write_round,
)
from pipeline.runs.adapted import Adapted, AdaptRound, RoundSettings
from pipeline.runs.extraction import UpdatePlan, update_gallery
from pipeline.runs.resources import joined
from pipeline.runs.settings import ActorSettings, UpdateSettings, WorkSettings
from pipeline.runs.target import GallerySpec
from pipeline.stages.crops import Decoding
from pipeline.stages.execution import StartProgress, silent
from pipeline.stages.prepared_crops import drop_crops, prepare_crops
from pipeline.stages.train import WEIGHTS, TrainingWork, train_here, train_on_ray

_log = logging.getLogger(__name__)

NETWORK = "network.safetensors"
_ABOUT = "adapt.json"
NO_LINKS = (np.empty((0, 2), np.int64), np.empty((0, 2), np.int64))


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

    def folder(self, number: int) -> Path:
        """The folder of a round; that of round 0 holds the features of the given network."""
        return self.out / f"round-{number:02d}"

    def weights(self, number: int) -> Path | None:
        """The weights after a round; None for those that the network came with."""
        return self.folder(number) / WEIGHTS if number else None

    @property
    def decoding(self) -> Decoding:
        """How crops are read for training: as for extraction."""
        return Decoding(
            root=self.listing.root,
            max_pixels=self.work.max_pixels,
            max_bytes=self.work.max_bytes,
            stretch=self.network.recipe().stretch,
        )

    def about(self) -> dict[str, Any]:
        """What every run that goes on with this one must share."""
        return {
            "source": self.listing.root,
            "listing": _listing_hash(self.listing),
            "network": self.network.identity(),
            "settings": asdict(self.rounds) | {"workers": None, "untested": None},
            "precision": self.actors.precision,
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
    progress: StartProgress = silent,
) -> Adapted:
    """Adapt a network to the crops of a source, whose identities it does not know.

    Each round extracts features, finds clusters, and trains the network on them. `out` keeps a
    folder for each round; after a kill, the same call goes on from the last finished epoch. Labels
    of the source are read only for figures. Raise InputError before any work if an argument cannot
    be used or `out` is of another adaptation, and RunError if the rows fall into too few clusters.
    """
    listing = list_archive(source, layout, labels, boxes)
    plan = AdaptPlan(listing, network, out, labels.described(layout), rounds, work, actors)
    return adapt_network(plan, progress)


def adapt_network(plan: AdaptPlan, progress: StartProgress = silent) -> Adapted:
    """Do or go on with a planned adaptation."""
    begun = time.perf_counter()
    _claim(plan)
    first = extract_round(plan, 0, progress)
    paths = first.rows(["path"])["path"].combine_chunks()
    members = plan.listing.images
    members = members.filter(pc.is_in(members["path"], value_set=paths)).combine_chunks()
    done = []
    for number in range(1, plan.rounds.rounds + 1):
        told = read_round(plan.folder(number))
        done.append(_do_round(plan, number, members, progress) if told is None else told)
    last = extract_round(plan, plan.rounds.rounds, progress)
    test, untested = _tested(first, last, plan)
    drop_crops(plan.out)
    return _published(plan, tuple(done), test, untested, time.perf_counter() - begun)


def extract_round(plan: AdaptPlan, number: int, progress: StartProgress) -> Gallery:
    """The gallery of a round: made, or brought up to date."""
    spec = GallerySpec(
        str(plan.folder(number) / "gallery"),
        plan.network.model(plan.weights(number)),
        plan.layout,
        plan.actors.precision,
        plan.work.storage,
    )
    update_gallery(
        UpdatePlan(plan.listing, spec, UpdateSettings(), plan.work, plan.actors), progress
    )
    return Gallery.open(spec.location)


def _do_round(
    plan: AdaptPlan, number: int, members: pa.Table, progress: StartProgress
) -> AdaptRound:
    """Cluster what the last round's network sees, and train it on the clusters."""
    settings, folder = plan.rounds, plan.folder(number)
    folder.mkdir(parents=True, exist_ok=True)
    before = extract_round(plan, number - 1, progress)
    rows = seen_rows(before, members["path"], held_out_rows(before, settings.held_out))
    found = find_clusters(rows, settings, NO_LINKS, first=number == 1)
    step = progress("preparing crops", len(members))
    crops = prepare_crops(members, plan.decoding, plan.network.recipe(), plan.out, step)
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
    )
    gpus = plan.actors.num_gpus or 0
    with joined(settings.workers, plan.actors.address, gpus):
        if settings.workers:
            done = train_on_ray(training, settings.workers, gpus)
        else:
            done = train_here(training, "cuda" if gpus else "cpu", progress)
    told = describe_round(number, rows, found, done.losses)
    write_round(folder, told, rows, found)
    return told


def _claim(plan: AdaptPlan) -> None:
    """Write what this adaptation is of, or check that the folder is of the same one."""
    about = plan.about()
    path = plan.out / _ABOUT
    if path.exists():
        held = parse_json(path.read_bytes())
        if different := [name for name in about if held.get(name) != about[name]]:
            raise InputError(
                f"{plan.out} is of another adaptation (its {', '.join(different)} differ): give"
                " another folder, or delete this one"
            )
        return
    check_new_folder(plan.out)
    plan.out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(about, indent=2).encode()
    replace_file(path, lambda file: file.write(text))


def _tested(
    first: Gallery, last: Gallery, plan: AdaptPlan
) -> tuple[AcceptanceTest | None, str | None]:
    """The acceptance test, or the reason why the archive allows none."""
    settings = AcceptanceSettings(plan.rounds.held_out)
    try:
        return compare_networks(first, last, settings), None
    except InputError as error:
        return None, str(error)


def _published(
    plan: AdaptPlan,
    rounds: tuple[AdaptRound, ...],
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
        rows=rounds[-1].rows,
        test=test,
        untested=untested,
        seconds=seconds,
    )


def _listing_hash(listing: Listing) -> str:
    """A hash of the images of a listing: another one means that the source has changed."""
    found = hashlib.blake2b(digest_size=16)
    for name in ("path", "size", "mtime"):
        texts = listing.images[name].cast(pa.string()).to_pylist()
        found.update("\n".join(map(str, texts)).encode() + b"\0")
    return found.hexdigest()
