"""Extraction: every work unit becomes one file of features, and a record of a few hundred bytes."""

import json
import logging
import re
from collections import Counter, deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import ray
import ray.data
import torch
from numpy.typing import NDArray

from pipeline.archive.decoding.images import decode
from pipeline.archive.faults import Rejected
from pipeline.archive.limits import MAX_BYTES, MAX_PIXELS
from pipeline.archive.listing.reading import read_image
from pipeline.archive.planning.units import Unit
from pipeline.core.crop_oddities import oddity
from pipeline.core.crop_quality import quality
from pipeline.errors import InputError, RunError
from pipeline.gallery.files import schema
from pipeline.gallery.files.rejects import REJECT_SCHEMA
from pipeline.gallery.files.unit_files import UnitRecord, UnitTarget, write_unit
from pipeline.gallery.sidecars import attempts
from pipeline.model.defaults import BATCH_SIZE
from pipeline.model.feature_models import FeatureModel, unit_features

logger = logging.getLogger(__name__)

ATTEMPTS = 3
"""How often the work on a unit may kill its worker before the unit is halved."""

_UNITS_A_ROUND = 512
_ALL_DIE = (
    "each of the first {} work units killed its worker, and none was finished: there may be too "
    "little memory for the network (give fewer `actors` or a smaller `batch_size`)"
)
_KEPT = "finished work units are kept, and the same command goes on from them"


@dataclass(frozen=True)
class Work:
    """What every worker needs to know: where images come from, how features are made and kept."""

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
    """Crops of lower quality are rejects; None where quality is not measured."""

    def __post_init__(self) -> None:
        for name in ("batch_size", "threads", "decode_threads", "max_pixels", "max_bytes"):
            if getattr(self, name) < 1:
                flag = name.replace("_", "-")
                raise InputError(f"--{flag} must be at least 1, not {getattr(self, name)}")


@dataclass(frozen=True)
class _Facts:
    """What a row keeps of an image beside its feature."""

    content_hash: bytes
    height: int
    width: int
    quality: float | None
    oddity: str | None


class Computed(NamedTuple):
    """What members of a unit become: rows, rejects, and of the rows the odd ones by kind, with how
    many there are and the path of one.
    """

    rows: pa.Table
    rejects: pa.Table
    oddities: tuple[tuple[str, int, str], ...]


@dataclass(frozen=True)
class _Crop:
    """A decoded member of a unit."""

    place: int
    pixels: NDArray[np.uint8]
    facts: _Facts


@dataclass(frozen=True)
class _Bad:
    """A member of a unit that gives no row."""

    place: int
    reason: str
    detail: str


class UnitExtractor:
    """Turns units into files: reads, decodes ahead on threads, runs the network, checks, writes."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._extractor = work.model.load(
            batch_size=work.batch_size,
            device=_device(work.on_gpu),
            threads=work.threads,
            precision=work.precision,
        )

    def extract(self, unit: Unit) -> UnitRecord:
        """Write one unit's file; rows + rejects are its members."""
        rows, rejects, oddities = self.compute(unit.members)
        record = write_unit(self._work.target, unit.id, unit.row_ids, rows, rejects)
        return replace(record, oddities=oddities)

    def compute(self, members: pa.Table) -> Computed:
        """The rows, in the target's schema, and the rejects that members of a unit become."""
        vectors = np.empty((len(members), self._work.target.dimension), np.float32)
        facts: dict[int, _Facts] = {}
        bad: list[_Bad] = []

        def crops() -> Iterator[tuple[tuple[int, _Facts], NDArray[np.uint8]]]:
            for member in self._decoded(members):
                if isinstance(member, _Bad):
                    bad.append(member)
                else:
                    yield (member.place, member.facts), member.pixels

        for batch, rows, wrong in unit_features(crops(), self._extractor):
            for row, (place, about) in enumerate(batch):
                if row in wrong:
                    bad.append(_Bad(place, "bad-feature", wrong[row]))
                else:
                    facts[place], vectors[place] = about, rows[row]
        found = self._rows(members, dict(sorted(facts.items())), vectors)
        rejects = _rejects(members, sorted(bad, key=lambda member: member.place))
        return Computed(found, rejects, _oddities(members, facts))

    def _decoded(self, members: pa.Table) -> Iterator[_Crop | _Bad]:
        """Members in order, read and decoded ahead of the network by at most one batch."""
        columns = [members[name].to_pylist() for name in ("path", "offset", "size")]
        waiting = iter(enumerate(zip(*columns, strict=True)))
        ahead: deque[Future[_Crop | _Bad]] = deque()
        with ThreadPoolExecutor(self._work.decode_threads) as pool:
            for place, member in islice(waiting, self._work.batch_size):
                ahead.append(pool.submit(self._decode, place, *member))
            while ahead:
                decoded = ahead.popleft().result()
                for place, member in islice(waiting, 1):
                    ahead.append(pool.submit(self._decode, place, *member))
                yield decoded

    def _decode(self, place: int, path: str, offset: int | None, size: int | None) -> _Crop | _Bad:
        in_tar = None if offset is None or size is None else (offset, size)
        try:
            most = self._work.max_bytes
            data = read_image(self._work.root, path, in_tar, size=size, max_bytes=most)
            pixels = decode(
                data, max_pixels=self._work.max_pixels, stretch=self._work.model.stretch
            )
        except Rejected as error:
            return _Bad(place, error.reason, error.detail)
        measured, least = None, self._work.least_quality
        if least is not None:
            measured = quality(pixels)
            if measured < least:
                detail = f"its quality is {measured:.4g}, and {least:g} was asked for"
                return _Bad(place, "low-quality", detail)
        height, width = pixels.shape[:2]
        hashed = schema.content_hash(data)
        return _Crop(place, pixels, _Facts(hashed, height, width, measured, oddity(pixels)))

    def _rows(
        self, members: pa.Table, facts: dict[int, _Facts], vectors: NDArray[np.float32]
    ) -> pa.Table:
        """The rows of the members whose `facts` are known, in order."""
        target = self._work.target
        places = np.array(list(facts), np.int64)
        told = list(facts.values())
        kept = members.take(pa.array(places))
        columns = {name: kept[name] for name in kept.column_names}
        columns |= {
            "content_hash": pa.array([each.content_hash for each in told], pa.binary()),
            "height": pa.array([each.height for each in told], pa.int32()),
            "width": pa.array([each.width for each in told], pa.int32()),
            "quality": pa.array([each.quality for each in told], pa.float32()),
            "feature": schema.encode_features(vectors[places], target.dtype),
        }
        wanted = target.schema
        return pa.table([columns[name] for name in wanted.names], names=wanted.names).cast(wanted)


class ExtractUnit:
    """`UnitExtractor` as an actor of Ray Data: a row with a unit in, a row with its record out."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._extractor = UnitExtractor(work)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[bytes]]:
        """Extract the unit, unless it has killed its worker too often: then say so.

        An error that the reader can do something about comes back as text: Ray would bury it.
        """
        unit = _unpacked(batch["unit"][0], batch["members"][0])
        try:
            if attempts.begin(self._work.target, unit.id) > ATTEMPTS:
                return _answer(None)
            record = self._extractor.extract(unit)
            attempts.end(self._work.target, unit.id)
        except (OSError, InputError, RunError) as error:
            return _answer({"error": str(error)})
        return _answer(asdict(record))


def extract_here(units: Sequence[Unit], work: Work) -> Generator[UnitRecord]:
    """Extract units one after the other in this process: the plain loop.

    RunError where a file cannot be written: what was finished stays on disk.
    """
    extractor = UnitExtractor(work)
    for unit in units:
        try:
            record = extractor.extract(unit)
        except OSError as error:
            raise RunError(f"extraction stopped: {error}; {_KEPT}") from error
        yield record


def extract_on_ray(
    units: Sequence[Unit],
    work: Work,
    *,
    actors: int,
    cpus_per_actor: float = 1,
    gpus_per_actor: float = 0,
    environment: dict[str, str] | None = None,
) -> Generator[UnitRecord]:
    """Extract units on an actor pool of Ray Data, in the order in which they end.

    A worker that dies is started again, and its unit with it. A unit that was begun `ATTEMPTS`
    times without an end is halved until the image that kills is found: it becomes a reject. Yields
    the same records as `extract_here`, but for units that were halved. RunError where a worker
    raises, and where the first units all kill theirs: what was finished stays on disk.
    """
    options = {
        "num_cpus": cpus_per_actor,
        "num_gpus": gpus_per_actor,
        "runtime_env": {"env_vars": environment or {}},
    }
    waiting = deque(units)
    finished, killers = 0, 0
    while waiting:
        turn = [waiting.popleft() for _ in range(min(_UNITS_A_ROUND, len(waiting)))]
        unfinished = {unit.id: unit for unit in turn}
        for row in _rows_of_round(turn, work, min(actors, len(turn)), options):
            about = json.loads(row["record"])
            if about is None:
                killers += 1
                if not finished and killers > actors + 1:
                    raise RunError(f"extraction stopped: {_ALL_DIE.format(killers)}; {_KEPT}")
                continue
            if "error" in about:
                raise RunError(f"extraction stopped: {about['error']}; {_KEPT}")
            about["oddities"] = tuple(map(tuple, about["oddities"]))
            record = UnitRecord(**about)
            del unfinished[record.unit_id]
            finished += 1
            yield record
        for unit in unfinished.values():
            if len(unit.members) > 1:
                logger.warning("unit %s keeps killing its worker: halving it", unit.id)
                waiting.extend(unit.halves(work.target.fingerprint))
            else:
                yield _reject_killer(unit, work)


def _rows_of_round(
    units: Sequence[Unit], work: Work, actors: int, options: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    # One block a unit, and one unit at an actor: a record is told as soon as its unit is finished.
    extracted = ray.data.from_arrow([_packed(unit) for unit in units]).map_batches(
        ExtractUnit,
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=actors, max_tasks_in_flight_per_actor=1),
        fn_constructor_args=(work,),
        **options,
    )
    for name in ("ray.data", "ray"):  # it tells of itself at every step
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        yield from extracted.iter_rows()
    except ray.exceptions.RayError as error:
        raise RunError(f"extraction stopped: {_cause(error)}; {_KEPT}") from error


def _cause(error: BaseException) -> str:
    """The line of a worker's traceback that names the exception, out of all that Ray tells."""
    named = re.findall(
        r"^(?:\w+\.)*\w*(?:Error|Exception|Interrupt)\b.*$", str(error), re.MULTILINE
    )
    ours = [line for line in named if not line.startswith("ray.")]
    return (ours or [type(error).__name__])[-1]


def _answer(about: dict[str, Any] | None) -> dict[str, list[bytes]]:
    return {"record": [json.dumps(about).encode()]}


def _reject_killer(unit: Unit, work: Work) -> UnitRecord:
    path = unit.members["path"][0].as_py()
    detail = f"its worker died {ATTEMPTS} times over this image alone"
    logger.warning("%s: %s", path, detail)
    empty = work.target.schema.empty_table()
    rejects = _rejects(unit.members, [_Bad(0, "kills-worker", detail)])
    record = write_unit(work.target, unit.id, unit.row_ids, empty, rejects)
    attempts.end(work.target, unit.id)
    return record


def _rejects(members: pa.Table, bad: Sequence[_Bad]) -> pa.Table:
    told = members.select(["path", "size", "mtime"]).take(
        pa.array([member.place for member in bad], pa.int64())
    )
    told = told.append_column("reason", pa.array([each.reason for each in bad], pa.string()))
    told = told.append_column("detail", pa.array([each.detail for each in bad], pa.string()))
    return told.cast(REJECT_SCHEMA)


def _oddities(members: pa.Table, facts: dict[int, _Facts]) -> tuple[tuple[str, int, str], ...]:
    """How many images are odd, by kind, and the path of the first of each."""
    odd = {place: told.oddity for place, told in sorted(facts.items()) if told.oddity}
    first = {kind: place for place, kind in reversed(odd.items())}
    counts = sorted(Counter(odd.values()).items())
    return tuple((kind, n, members["path"][first[kind]].as_py()) for kind, n in counts)


def _packed(unit: Unit) -> pa.Table:
    """A unit as one row of two columns, its members as an Arrow stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, unit.members.schema) as stream:
        stream.write_table(unit.members)
    return pa.table({"unit": [unit.id], "members": [sink.getvalue().to_pybytes()]})


def _unpacked(name: str, members: bytes) -> Unit:
    return Unit(str(name), pa.ipc.open_stream(members).read_all().combine_chunks())


def _device(on_gpu: bool) -> str:
    if on_gpu and torch.cuda.is_available():
        return "cuda:0"  # Ray shows each actor its own GPUs, numbered from 0
    if on_gpu:
        logger.warning("a GPU was assigned, but torch sees none: extracting on the CPU")
    return "cpu"
