"""Extraction: every work unit becomes one file of features, and a record of a few hundred bytes.

`extract_on_ray` does the same on an actor pool.
"""

import logging
import time
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.archive.limits import MAX_BYTES, MAX_PIXELS
from pipeline.archive.planning.units import Unit
from pipeline.errors import InputError, RunError
from pipeline.gallery.files import schema
from pipeline.gallery.files.unit_files import UnitRecord, UnitTarget, write_unit
from pipeline.model.defaults import BATCH_SIZE
from pipeline.model.feature_models import FeatureModel, unit_features
from pipeline.schemas import REJECT_SCHEMA
from pipeline.stages.crops import Bad, CropFacts, DecodedCrop, Decoding, decoded_crops
from pipeline.stages.execution import Step, no_step

_log = logging.getLogger(__name__)

KEPT = "finished work units are kept, and the same command goes on from them"
"""The end of a message about a run that stopped."""


@dataclass(frozen=True)
class Work:
    """All that a worker needs: the source of the images, the model, and the target of the
    features.
    """

    root: str
    target: UnitTarget
    model: FeatureModel
    batch_size: int = BATCH_SIZE
    precision: str = "float32"
    threads: int = 1
    decode_threads: int = 2
    max_pixels: int = MAX_PIXELS
    max_bytes: int = MAX_BYTES
    on_gpu: bool = False
    least_quality: float | None = None
    """Crops of lower quality are rejects; None if quality is not measured."""

    def __post_init__(self) -> None:
        for name in ("batch_size", "threads", "decode_threads", "max_pixels", "max_bytes"):
            if getattr(self, name) < 1:
                raise InputError(f"`{name}` must be at least 1, not {getattr(self, name)}")

    @property
    def decoding(self) -> Decoding:
        """How the members of units are read and decoded: at most one batch ahead."""
        return Decoding(
            root=self.root,
            threads=self.decode_threads,
            ahead=self.batch_size,
            max_pixels=self.max_pixels,
            max_bytes=self.max_bytes,
            stretch=self.model.stretch,
            least_quality=self.least_quality,
        )


class Computed(NamedTuple):
    """The results of some members of a unit.

    These are rows, rejects, and the odd ones among the rows, by kind, with their number and the
    path of one.
    """

    rows: pa.Table
    rejects: pa.Table
    oddities: tuple[tuple[str, int, str], ...]


class UnitExtractor:
    """Convert units to files: read, decode ahead on threads, run the network, check, write."""

    def __init__(self, work: Work) -> None:
        self.seconds: dict[str, float] = {}
        """The time of the last unit: waiting for pictures (`decode`), the `network`, `write`."""
        self._waited = 0.0
        self._work = work
        self._extractor = work.model.load(
            batch_size=work.batch_size,
            device=_device(work.on_gpu),
            threads=work.threads,
            precision=work.precision,
        )

    def extract(self, unit: Unit, step: Step = no_step) -> UnitRecord:
        """Write one unit's file; its rows and rejects together are its members, and the sum of the
        steps.
        """
        begun = time.perf_counter()
        rows, rejects, oddities = self.compute(unit.members, step)
        computed = time.perf_counter()
        record = write_unit(self._work.target, unit.id, unit.row_ids, rows, rejects)
        self.seconds = {
            "decode": self._waited,
            "network": computed - begun - self._waited,
            "write": time.perf_counter() - computed,
        }
        return replace(record, oddities=oddities)

    def compute(self, members: pa.Table, step: Step = no_step) -> Computed:
        """Compute the rows, in the target's schema, and the rejects of a unit's members.

        `step(n)` is called after each batch of the network with the number of finished members.
        """
        taken = reported = 0
        self._waited = 0.0
        vectors = np.empty((len(members), self._work.target.dimension), np.float32)
        facts: dict[int, CropFacts] = {}
        bad: list[Bad] = []

        def crops() -> Iterator[tuple[tuple[int, CropFacts], NDArray[np.uint8]]]:
            nonlocal taken
            decoded = decoded_crops(members, self._work.decoding)
            while (member := self._next(decoded)) is not None:
                taken += 1
                if isinstance(member, Bad):
                    bad.append(member)
                else:
                    yield (member.place, member.facts), member.pixels

        for batch, rows, wrong in unit_features(crops(), self._extractor):
            for row, (place, about) in enumerate(batch):
                if row in wrong:
                    bad.append(Bad(place, "bad-feature", wrong[row]))
                else:
                    facts[place], vectors[place] = about, rows[row]
            step(taken - reported)
            reported = taken
        step(len(members) - reported)
        found = self._rows(members, dict(sorted(facts.items())), vectors)
        rejects = rejects_of(members, sorted(bad, key=lambda member: member.place))
        return Computed(found, rejects, _oddities(members, facts))

    def _next(self, decoded: Iterator[DecodedCrop | Bad]) -> DecodedCrop | Bad | None:
        """The next member, or None at the end; counts the seconds of waiting for it."""
        begun = time.perf_counter()
        member = next(decoded, None)
        self._waited += time.perf_counter() - begun
        return member

    def _rows(
        self, members: pa.Table, facts: dict[int, CropFacts], vectors: NDArray[np.float32]
    ) -> pa.Table:
        """The rows of the members with known `facts`, in order."""
        target = self._work.target
        places = np.array(list(facts), np.int64)
        known = list(facts.values())
        kept = members.take(pa.array(places))
        wanted = target.schema
        columns = {field.name: pa.nulls(len(known), field.type) for field in wanted}
        columns |= {name: kept[name] for name in kept.column_names}
        columns |= {
            "content_hash": pa.array([each.content_hash for each in known], pa.binary()),
            "height": pa.array([each.height for each in known], pa.int32()),
            "width": pa.array([each.width for each in known], pa.int32()),
            "quality": pa.array([each.quality for each in known], pa.float32()),
            "feature": schema.encode_features(vectors[places], target.dtype),
        }
        return pa.table([columns[name] for name in wanted.names], names=wanted.names).cast(wanted)


def extract_here(units: Sequence[Unit], work: Work, step: Step = no_step) -> Generator[UnitRecord]:
    """Extract units one after the other in this process: the plain loop.

    `step(n)` is called after each batch of the network with the number of finished images. Raise
    RunError if a file cannot be written; finished work stays on disk.
    """
    extractor = UnitExtractor(work)
    for unit in units:
        try:
            record = extractor.extract(unit, step)
        except OSError as error:
            raise RunError(f"extraction stopped: {error}; {KEPT}") from error
        yield record


def rejects_of(members: pa.Table, bad: Sequence[Bad]) -> pa.Table:
    """The rejects for some members of a unit."""
    rejects = members.select(["path", "size", "mtime"]).take(
        pa.array([member.place for member in bad], pa.int64())
    )
    rejects = rejects.append_column("reason", pa.array([each.reason for each in bad], pa.string()))
    rejects = rejects.append_column("detail", pa.array([each.detail for each in bad], pa.string()))
    return rejects.cast(REJECT_SCHEMA)


def _oddities(members: pa.Table, facts: dict[int, CropFacts]) -> tuple[tuple[str, int, str], ...]:
    """The number of odd images, by kind, and the path of the first of each."""
    odd = {place: fact.oddity for place, fact in sorted(facts.items()) if fact.oddity}
    first = {kind: place for place, kind in reversed(odd.items())}
    counts = sorted(Counter(odd.values()).items())
    return tuple((kind, n, members["path"][first[kind]].as_py()) for kind, n in counts)


def _device(on_gpu: bool) -> str:
    if on_gpu:
        import torch  # takes seconds to import, which a worker with a network function can save

        if torch.cuda.is_available():
            return "cuda:0"  # Ray shows each actor only its own GPUs, numbered from 0
        _log.warning("a GPU was assigned, but torch sees none: extracting on the CPU")
    return "cpu"
