"""What adaptation and supervised training share: the folder, features, crops, and the training."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.archive.listing.source import Listing
from pipeline.errors import InputError
from pipeline.gallery.log.lock import hold
from pipeline.gallery.table import Gallery
from pipeline.input_files import parse_json
from pipeline.model.trainable import TrainableNetwork
from pipeline.output_files import check_new_folder, replace_file
from pipeline.runs.extraction import UpdatePlan, update_gallery
from pipeline.runs.resources import joined
from pipeline.runs.settings import ActorSettings, UpdateSettings, WorkSettings
from pipeline.runs.target import GallerySpec
from pipeline.stages.crops import Decoding
from pipeline.stages.execution import StartProgress
from pipeline.stages.prepared_crops import images_hash, prepare_crops
from pipeline.stages.train import Trained, TrainingWork, train_here, train_on_ray


@dataclass(frozen=True)
class NetworkSource:
    """A network, the crops that it sees, and how these are read."""

    listing: Listing
    network: TrainableNetwork
    layout: str
    work: WorkSettings
    actors: ActorSettings

    @property
    def about(self) -> dict[str, Any]:
        """What decides about the features and the crops, in JSON."""
        images = self.listing.images
        labels = [images[name].to_pylist() for name in ("camera", "tracklet")]
        return {
            "source": self.listing.root,
            "listing": images_hash(images, *labels),
            "network": self.network.identity(),
            "precision": self.actors.precision,
        }

    def extract(self, weights: Path | None, location: Path, progress: StartProgress) -> Gallery:
        """The gallery of the features with some weights: made, or brought up to date."""
        spec = GallerySpec(
            str(location),
            self.network.model(weights),
            self.layout,
            self.actors.precision,
            self.work.storage,
        )
        update_gallery(
            UpdatePlan(self.listing, spec, UpdateSettings(), self.work, self.actors), progress
        )
        return Gallery.open(spec.location)

    def images_of(self, paths: pa.ChunkedArray) -> pa.Table:
        """The images of the listing that have these paths, in its order."""
        images = self.listing.images
        return images.filter(
            pc.is_in(images["path"], value_set=paths.combine_chunks())
        ).combine_chunks()

    def prepare(self, members: pa.Table, folder: Path, progress: StartProgress) -> Path:
        """The file of the crops of some images, read as for extraction."""
        how = Decoding(
            root=self.listing.root,
            max_pixels=self.work.max_pixels,
            max_bytes=self.work.max_bytes,
            stretch=self.network.recipe().stretch,
        )
        step = progress("preparing crops", len(members))
        return prepare_crops(members, how, self.network.recipe(), folder, step)

    def train(self, training: TrainingWork, workers: int, progress: StartProgress) -> Trained:
        """Train in this process, or with workers on Ray."""
        gpus = self.actors.num_gpus or 0
        with joined(workers, self.actors.address, gpus):
            if workers:
                return train_on_ray(training, workers, gpus)
            return train_here(training, "cuda" if gpus else "cpu", progress)


@contextmanager
def held_folder(folder: Path, purpose: str) -> Iterator[None]:
    """Keep other runs out of a folder, which is made if necessary.

    Raise InputError if another run holds it, or if no file can be written there.
    """
    check_new_folder(folder)
    with hold(str(folder), purpose):
        yield


def claim_folder(folder: Path, name: str, about: dict[str, Any], what: str) -> None:
    """Write to the file `name` what a held folder is of, or check that it is of the same.

    Raise InputError, which calls it `what`, if the folder is of another one.
    """
    path = folder / name
    if path.exists():
        held = parse_json(path.read_bytes())
        if different := [key for key in about if held.get(key) != about[key]]:
            raise InputError(
                f"{folder} is of another {what} (its {', '.join(different)} differ): give"
                " another folder, or delete this one"
            )
        return
    text = json.dumps(about, indent=2).encode()
    replace_file(path, lambda file: file.write(text))
