"""Predict the resources for an archive of a given size, stage by stage, before it is paid for.

The formulas are those of `docs/scaling.md`; their constants are in `scale_constants`.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Literal, TypeVar

from pipeline.archive.limits import REMOTE_READERS, UNIT_SIZE, check_unit_size
from pipeline.errors import InputError
from pipeline.runs.scale_constants import CONSTANTS, value

Number = TypeVar("Number", int, float)

_MEASURED_DIMENSION = 512
_ROWS_AT_ONCE = 2_000_000


@dataclass(frozen=True)
class ScaleSettings:
    """An archive, its features, and the machines for them; None is an assumption, told as such."""

    cameras: int | None = None
    """Cameras of the archive (assumed: 1)."""
    queries: int | None = None
    """Query crops of an evaluation and of a search (assumed: 3368, as Market-1501 has)."""
    dimension: int | None = None
    """Numbers in a feature (assumed: 512)."""
    storage: Literal["float32", "float16"] | None = None
    """Type of the stored features; float16 halves the size of the gallery (default: float32)."""
    unit_size: int = UNIT_SIZE
    """Images in a work unit, which becomes one file; a crash loses only units in progress."""
    crop_bytes: int | None = None
    """Bytes of a crop's file (assumed: 6000)."""
    crops_per_second: float | None = None
    """What one worker extracts, on one GPU, or on one CPU if the machines have none (assumed: a
    ResNet-50 with its mirrored view)."""
    machines: int = 1
    """Machines that work together."""
    cpus: int | None = None
    """CPUs of each machine (assumed: those of this one)."""
    gpus: int = 0
    """GPUs of each machine."""
    price: float | None = None
    """Price of a machine for an hour, in any currency; without it, no cost is shown."""
    bucket: bool = False
    """The crops and the gallery are in an object store, not on a disk."""

    def __post_init__(self) -> None:
        for each in fields(self):
            given, least = getattr(self, each.name), 0 if each.name in ("gpus", "price") else 1
            if isinstance(given, int | float) and not isinstance(given, bool):
                least = 0 if each.name == "crops_per_second" else least
                if not given >= least or (each.name == "crops_per_second" and given == 0):
                    what = "above 0" if each.name == "crops_per_second" else f"at least {least}"
                    raise InputError(f"`{each.name}` must be {what}, not {given}")
        check_unit_size(self.unit_size)


@dataclass(frozen=True)
class StageCost:
    """The predicted resources of one stage.

    `memory_bytes` is the most memory of one process, `disk_bytes` the remaining files of the stage,
    and `scratch_bytes` its temporary files. `limit` names the part that takes most of the time.
    `money` is None without a price.
    """

    stage: str
    seconds: float
    memory_bytes: int
    disk_bytes: int
    scratch_bytes: int
    requests: int
    money: float | None
    limit: str


@dataclass(frozen=True)
class ScalePlan:
    """The stages of an archive of `crops` crops, and the assumptions that were made."""

    crops: int
    machines: int
    stages: tuple[StageCost, ...]
    whole_seconds: float
    whole_money: float | None
    assumptions: tuple[str, ...]
    advice: tuple[str, ...]


@dataclass(frozen=True)
class _Size:
    """The settings with every assumption made."""

    crops: int
    cameras: int
    queries: int
    dimension: int
    feature_bytes: int
    units: int
    unit_size: int
    crop_bytes: int
    rate: float
    machines: int
    cpus: int
    gpus: int
    bucket: bool

    @property
    def width(self) -> float:
        """The dimensions as a share of those that were measured."""
        return self.dimension / _MEASURED_DIMENSION

    @property
    def cores(self) -> float:
        """The cores that a computation uses; several machines do not give all of their time."""
        share = value("shared") if self.machines > 1 else 1.0
        return self.machines * self.cpus * share

    @property
    def gallery_bytes(self) -> int:
        """The bytes of the row files."""
        return round(self.crops * (self.feature_bytes + value("row_bytes")))

    def requests_seconds(self, requests: float) -> float:
        """The time of requests from the driver, some of them at once."""
        return requests * value("latency") / value("requests_at_once") if self.bucket else 0.0


def predict(crops: int, settings: ScaleSettings = ScaleSettings()) -> ScalePlan:
    """Predict listing, extraction, commit, neighbors, expansion, evaluation and search of `crops`
    crops.

    Raise InputError if there is no crop.

    >>> [each.stage for each in predict(1000).stages][:3]
    ['listing', 'extraction', 'commit']
    """
    if crops < 1:
        raise InputError(f"`crops` must be at least 1, not {crops}")
    size, assumed = _with_assumptions(crops, settings)
    stages = tuple(_stages(size, settings.price))
    money = None
    if settings.price is not None:
        money = sum(each.money or 0.0 for each in stages)
    return ScalePlan(
        crops=crops,
        machines=settings.machines,
        stages=stages,
        whole_seconds=sum(each.seconds for each in stages),
        whole_money=money,
        assumptions=tuple(assumed),
        advice=tuple(_advice(size, stages)),
    )


def _with_assumptions(crops: int, given: ScaleSettings) -> tuple[_Size, list[str]]:
    assumed: list[str] = []

    def known(name: str, told: Number | None, otherwise: Number, why: str) -> Number:
        if told is None:
            assumed.append(f"{name} {otherwise:,}: {why}")
            return otherwise
        return told

    dimension = known("dimension", given.dimension, _MEASURED_DIMENSION, "not given")
    of_gpu = given.gpus > 0
    rate = CONSTANTS["gpu_rate" if of_gpu else "cpu_rate"]
    size = _Size(
        crops=crops,
        cameras=known("cameras", given.cameras, 1, "not given"),
        queries=known("queries", given.queries, 3368, "not given"),
        dimension=dimension,
        feature_bytes=dimension * (2 if given.storage == "float16" else 4),
        units=-(-crops // given.unit_size),
        unit_size=given.unit_size,
        crop_bytes=known("crop_bytes", given.crop_bytes, int(value("crop_bytes")), "a small JPEG"),
        rate=known("crops_per_second", given.crops_per_second, rate.value, rate.source),
        machines=given.machines,
        cpus=known("cpus", given.cpus, len(os.sched_getaffinity(0)), "those of this machine"),
        gpus=given.gpus,
        bucket=given.bucket,
    )
    assumed.append("cores as fast as those of the constants (docs/scaling.md), and not shared")
    if given.bucket:
        names = ("bucket_speed", "latency", "put_price", "get_price")
        assumed += [f"{name} {value(name):g} {CONSTANTS[name].unit}" for name in names]
    if given.machines > 1:
        share = f"{value('shared'):.0%} {CONSTANTS['shared'].unit}"
        assumed.append(f"{share}; every machine is paid for during every stage")
    return size, assumed


def _stages(size: _Size, price: float | None) -> Iterator[StageCost]:
    yield _cost(size, price, "listing", _listing(size), memory=_driver_memory(size),
                scratch=size.crops * value("mapped_row"), lists=_lists(size))  # fmt: skip
    reads, writes = (size.crops, value("unit_writes") * size.units) if size.bucket else (0, 0)
    workers = size.machines * (size.gpus or size.cpus)
    yield _cost(size, price, "extraction", _extraction(size, workers),
                memory=value("worker_memory"), disk=size.gallery_bytes,
                reads=reads, lists=writes)  # fmt: skip
    yield _cost(size, price, "commit", _commit(size), memory=_driver_memory(size),
                disk=size.units * value("log_unit"), scratch=size.crops * value("mapped_row") / 2,
                reads=value("unit_reads") * size.units if size.bucket else 0)  # fmt: skip
    whole = size.crops + size.queries
    features = 4 * size.dimension * whole
    fetched = size.units * 2 if size.bucket else 0
    memory = value("evaluate_memory") + value("evaluate_row_memory") * whole
    yield _cost(size, price, "neighbors", _neighbors(size, whole), memory=memory,
                scratch=value("scratch_share") * features, reads=fetched)  # fmt: skip
    yield _cost(size, price, "expansion",
                {"cores": value("expand_row") * size.width * whole / size.cores},
                memory=memory, scratch=features)  # fmt: skip
    yield _cost(size, price, "evaluation", _evaluation(size), memory=memory, scratch=features)
    yield _cost(size, price, "search", _search(size),
                memory=value("evaluate_memory"), reads=fetched)  # fmt: skip


def _cost(
    size: _Size,
    price: float | None,
    stage: str,
    seconds: dict[str, float],
    *,
    memory: float,
    disk: float = 0,
    scratch: float = 0,
    reads: float = 0,
    lists: float = 0,
) -> StageCost:
    """A stage whose time has these parts; what is done at the same time is one part."""
    whole = sum(seconds.values())
    money = None
    if price is not None:
        money = whole / 3600 * price * size.machines
        money += reads * value("get_price") + lists * value("put_price")
    return StageCost(
        stage=stage,
        seconds=whole,
        memory_bytes=round(memory),
        disk_bytes=round(disk),
        scratch_bytes=round(scratch),
        requests=round(reads + lists),
        money=money,
        limit=max(seconds, key=lambda part: seconds[part]),
    )


def _driver_memory(size: _Size) -> float:
    share = min(1.0, size.crops / (5 * _ROWS_AT_ONCE))
    rest = value("driver_memory") - 0.4e9
    return 0.4e9 + share * rest + size.units * value("driver_unit_memory")


def _lists(size: _Size) -> float:
    """Requests that list a bucket: 1,000 names each, and each camera a folder at least."""
    return max(size.crops / 1000, size.cameras) if size.bucket else 0


def _listing(size: _Size) -> dict[str, float]:
    looking = 2 * value("list_files") * size.crops / min(size.cpus, 8)
    if size.bucket:
        looking = size.requests_seconds(_lists(size))
    rows = (value("sort_rows") + value("plan_rows")) * size.crops
    return {"file system": looking, "one core of the driver": rows}


def _extraction(size: _Size, workers: int) -> dict[str, float]:
    network = size.crops / (size.rate * workers)
    around = size.crops / (value("free_rate") * size.machines * size.cpus)
    speed = value("bucket_speed") if size.bucket else value("read_speed")
    moved = (size.crops * size.crop_bytes + size.gallery_bytes) / speed / size.machines
    waiting = 0.0
    if size.bucket:
        waiting = size.crops * value("latency") / (REMOTE_READERS * workers)
    parts = {
        "network": network,
        "reading and decoding": around,
        "latency of the bucket": waiting,
        "transfer": moved,
    }
    slowest = max(parts, key=lambda part: parts[part])
    start = value("ray_start") if workers > 1 and network > value("ray_start") else 0.0
    last = 0.5 * size.unit_size / size.rate if size.units > workers else 0.0
    return {slowest: parts[slowest], "start of Ray": start, "the last unit": last}


def _commit(size: _Size) -> dict[str, float]:
    waiting = size.requests_seconds(value("unit_reads") * size.units)
    return {"one core of the driver": value("commit_unit") * size.units, "requests": waiting}


def _neighbors(size: _Size, whole: int) -> dict[str, float]:
    pairs = float(whole) ** 2 * size.width
    copied = value("copy_row") * whole * size.width / size.cpus
    if size.gpus:
        cards = size.machines * size.gpus * (value("shared") if size.machines > 1 else 1)
        return {"GPUs": value("neighbor_pair_gpu") * pairs / cards, "copy": copied}
    return {"cores": value("neighbor_pair") * pairs / size.cores, "copy": copied}


def _evaluation(size: _Size) -> dict[str, float]:
    """Plain figures, those after expansion, and those after re-ranking."""
    pairs = float(size.queries) * size.crops
    ranks = 2 * value("rank_pair") * size.width * pairs / size.cores
    return {
        "ranks": ranks,
        "re-ranking": value("rerank_pair") * pairs / size.cores,
        "start": value("start"),
    }


def _search(size: _Size) -> dict[str, float]:
    pairs = float(size.queries) * size.crops
    speed = value("bucket_speed") if size.bucket else value("read_speed")
    return {
        "cores": value("search_pair") * size.width * pairs / size.cores,
        "reading the gallery": size.gallery_bytes / speed,
    }


def _advice(size: _Size, stages: tuple[StageCost, ...]) -> Iterator[str]:
    by_name = {each.stage: each for each in stages}
    neighbors, extraction = by_name["neighbors"], by_name["extraction"]
    day = 86_400
    if neighbors.seconds > day and not size.gpus:
        ratio = value("neighbor_pair") / size.cpus / value("neighbor_pair_gpu")
        yield (
            f"neighbors grow with the square of the crops: a GPU takes a {ratio:,.0f}th of the"
            " time of one of these machines, or split the archive, by day or by site"
        )
    if extraction.limit == "latency of the bucket":
        yield "extraction waits for the bucket: give more workers than CPUs, or a mounted copy"
    if extraction.seconds > day:
        needed = -(-extraction.seconds * size.machines // day)
        yield f"extraction within a day needs {needed:,.0f} such machines"
    if neighbors.memory_bytes > 64 * 2**30:
        yield (
            f"an evaluation of {size.crops:,} rows holds {neighbors.memory_bytes / 2**30:,.0f} GiB"
            " in one process: evaluate on a sample of the gallery"
        )
