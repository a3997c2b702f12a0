"""Train a network on crops of known people: list, extract, train, and measure on other people."""

import hashlib
import json
import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from pipeline.archive.layouts.rules import LabelSettings
from pipeline.archive.video.listing import list_archive
from pipeline.archive.video.rules import BoxSettings
from pipeline.core.blocks import ChosenRows
from pipeline.core.evaluation.bootstrap import Bootstrap, Interval, intervals
from pipeline.errors import InputError
from pipeline.gallery.labels import camera_numbers
from pipeline.gallery.table import Gallery
from pipeline.model.trainable import TrainableNetwork, UntrainedNetwork
from pipeline.output_files import replace_file
from pipeline.runs.hard_pairs import hard_rows, read_mistakes
from pipeline.runs.network_training import NetworkSource, claim_folder, held_folder
from pipeline.runs.path_verdicts import PathVerdicts
from pipeline.runs.self_ranking import KnownPeople
from pipeline.runs.settings import ActorSettings, WorkSettings
from pipeline.runs.trained import HeldOutFigures, SupervisedResult, SupervisedSettings
from pipeline.runs.training_people import (
    LabeledPeople,
    check_people,
    held_out_people,
    labeled_people,
)
from pipeline.stages.execution import StartProgress, silent
from pipeline.stages.prepared_crops import drop_crops, images_hash
from pipeline.stages.train import Trained, TrainingWork, finished_training
from pipeline.training.objectives import IdentityObjective
from pipeline.training.parts import check_part

_log = logging.getLogger(__name__)

INITIAL = "initial.safetensors"
_ABOUT = "train.json"
_NOT_TRAINED = -1


def train(
    source: str,
    network: TrainableNetwork | UntrainedNetwork,
    out: Path,
    *,
    layout: str = "none",
    labels: LabelSettings = LabelSettings(),
    boxes: BoxSettings = BoxSettings(),
    settings: SupervisedSettings = SupervisedSettings(),
    work: WorkSettings = WorkSettings(),
    actors: ActorSettings = ActorSettings(actors=0),
    verdicts: Gallery | None = None,
    mistakes: Path | None = None,
    progress: StartProgress = silent,
) -> SupervisedResult:
    """Train a network on the crops of a source whose identities are known.

    Some people are held out, and the network is measured on them before and after. `out` keeps the
    features, a checkpoint of each epoch, and at last network.safetensors; after a kill, the same
    call goes on from the last finished epoch. A network without weights gets random ones, in
    initial.safetensors. Verdicts of a gallery of the same source join identities (see
    `training_people.labeled_people`). Crops of the pairs in `mistakes`, a table that an evaluation
    wrote, come up more often (see `hard_pairs.hard_rows`). Raise InputError before any work if an
    argument cannot be used, if there are too few people, if verdicts and identities contradict each
    other, or if `out` is of another training.
    """
    listing = list_archive(source, layout, labels, boxes)
    people = labeled_people(listing, verdicts)
    check_people(people.listing, settings)
    if not isinstance(network, UntrainedNetwork):
        check_part(network.module(), settings.part)
    wrong = None if mistakes is None else read_mistakes(mistakes)
    if wrong is not None:
        images = people.listing.images
        trained = images.filter(pc.invert(held_out_people(images, settings)))
        hard_rows(wrong, trained["path"], source)
    with held_folder(out, f"train on {source}"):
        first = _with_weights(network, out, settings.seed)
        seen = NetworkSource(people.listing, first, labels.described(layout), work, actors)
        is_new = isinstance(network, UntrainedNetwork)
        return _learned(_Plan(seen, out, settings, people, wrong, is_new), progress)


@dataclass(frozen=True)
class _Plan:
    """A training: a network `is_new` if its weights are random."""

    seen: NetworkSource
    out: Path
    settings: SupervisedSettings
    people: LabeledPeople
    mistakes: PathVerdicts | None
    is_new: bool

    def about(self) -> dict[str, Any]:
        """What every run that goes on with this one must share."""
        images = self.seen.listing.images
        return self.seen.about | {
            "identities": images_hash(images, images["identity"].to_pylist()),
            "mistakes": None if self.mistakes is None else self.mistakes.digest(),
            "settings": asdict(self.settings) | {"workers": None},
        }


def _learned(plan: _Plan, progress: StartProgress) -> SupervisedResult:
    """Train or go on in a held folder, and measure after, and before unless weights are random."""
    begun = time.perf_counter()
    seen, out, labeled = plan.seen, plan.out, plan.seen.listing
    claim_folder(out, _ABOUT, plan.about(), "training")
    gallery = seen.extract(None, out / "before", progress)
    crops = _crops(plan, gallery)
    done = finished_training(out) or _trained(plan, crops, progress)
    drop_crops(out)
    held_out = replace(seen, listing=replace(labeled, images=crops.held_out))
    after = None
    if len(crops.held_out):
        after = _figures(held_out.extract(done.weights, out / "after", progress), None)
    unread, left_out = len(labeled.images) - gallery.count, plan.people.left_out
    return SupervisedResult(
        out=out,
        network=done.weights,
        people=crops.people,
        crops=len(crops.members),
        left_out=replace(left_out, rejected=left_out.rejected + unread),
        identities_merged=plan.people.identities_merged,
        crops_identified=plan.people.crops_identified,
        losses=done.losses,
        before=None if plan.is_new else _figures(gallery, crops.held_out["path"]),
        after=after,
        seconds=time.perf_counter() - begun,
    )


@dataclass(frozen=True)
class _Crops:
    """Images of a listing: `members` are trained on, with the number of each one's person from 0
    and of its camera, int64 `[N]` each; `held_out` are others.
    """

    members: pa.Table
    person: NDArray[np.int64]
    camera: NDArray[np.int64]
    held_out: pa.Table

    @property
    def people(self) -> int:
        """How many people are trained on."""
        return int(self.person.max(initial=_NOT_TRAINED)) + 1


def _with_weights(
    network: TrainableNetwork | UntrainedNetwork, out: Path, seed: int
) -> TrainableNetwork:
    """A network with weights: its own, or random ones, which are written to the folder."""
    if not isinstance(network, UntrainedNetwork):
        return network
    path, data = out / INITIAL, network.weights(seed)
    if path.exists() and path.read_bytes() == data:
        return network.with_weights(path)
    if path.exists() or (out / _ABOUT).exists():
        raise InputError(
            f"{out} is of another training, which began with other weights: give another folder,"
            " or delete this one"
        )
    replace_file(path, lambda file: file.write(data))
    return network.with_weights(path)


def _crops(plan: _Plan, gallery: Gallery) -> _Crops:
    """The images that could be read, those to train on apart from those held out."""
    images = plan.seen.images_of(gallery.rows(["path"])["path"])
    held = held_out_people(images, plan.settings)
    members = images.filter(pc.invert(held)).combine_chunks()
    person = np.unique(members["identity"].to_numpy(), return_inverse=True)[1]
    cameras = members["camera"]
    known: Sequence[str] = cameras.drop_null().unique().sort().to_pylist()
    return _Crops(
        members,
        person.astype(np.int64),
        camera_numbers(cameras, known),
        images.filter(held).combine_chunks(),
    )


def _trained(plan: _Plan, crops: _Crops, progress: StartProgress) -> Trained:
    """Train, or go on from the last epoch."""
    seen, settings, hard = plan.seen, plan.settings, None
    if plan.mistakes is not None:
        hard = hard_rows(plan.mistakes, crops.members["path"], seen.listing.root)
    with torch.inference_mode():
        recipe = seen.network.recipe()
        probe = torch.zeros(2, 3, recipe.height, recipe.width)
        dimension = seen.network.module().eval()(probe).flatten(1).shape[1]
    generator = torch.Generator().manual_seed(settings.seed)
    told = crops.person.tobytes() + json.dumps(plan.about()).encode()
    training = TrainingWork(
        network=seen.network,
        start=None,
        objective=IdentityObjective(
            dimension, crops.people, settings.objective(), generator=generator
        ),
        crops=seen.prepare(crops.members, plan.out, progress),
        labels=crops.person,
        cameras=crops.camera,
        folder=plan.out,
        about=hashlib.sha256(told).hexdigest(),
        settings=settings.training(seen.actors.precision),
        hard=hard,
    )
    return seen.train(training, settings.workers, progress)


def _figures(gallery: Gallery, paths: pa.ChunkedArray | None) -> HeldOutFigures | None:
    """mAP and rank 1 among the rows of a gallery that have these paths; None without a match."""
    rows = gallery.rows(["path", "identity", "camera"])
    places = np.arange(len(rows))
    if paths is not None:
        chosen = pc.is_in(rows["path"], value_set=paths.combine_chunks())
        places = np.flatnonzero(chosen.to_numpy())
    known = KnownPeople.of(rows.take(pa.array(places)))
    if not known.count:
        return None
    found = known.rank(ChosenRows(gallery.features(), places))
    low, high = intervals(found.average_precision[None], Bootstrap())[0]
    return HeldOutFigures(
        people=known.people,
        queries=found.valid,
        mean_ap=found.mean_ap,
        rank_1=float(np.nanmean(found.rank1)),
        interval=Interval(float(low), float(high)),
    )
