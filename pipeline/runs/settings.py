"""The settings that several runs share: plain values, checked when they are created.

None stands for the default of the code that uses the setting. A message names a setting as the
field in backticks.
"""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pipeline.archive.limits import (
    MAX_BYTES,
    MAX_PIXELS,
    UNIT_SIZE,
    check_max_bytes,
    check_unit_size,
)
from pipeline.errors import InputError
from pipeline.model.defaults import BATCH_SIZE
from pipeline.runs.locations import LOCATION, Location
from pipeline.runs.resources import check_gpus

if TYPE_CHECKING:  # imported where they are used, since the command line reads this module first
    from pipeline.stages.execution import Execution, StartProgress


@dataclass(frozen=True)
class RecipeSettings:
    """How crops become features; what is None comes from `recipe`, or else is the default."""

    recipe: Location | None = None
    """TOML file with any of the fields below."""
    height: int | None = None
    """Pixels; the default is the network's own size, else 256."""
    width: int | None = None
    """Pixels; the default is the network's own size, else 128."""
    channels: Literal["rgb", "bgr"] | None = None
    """Order of the channels that the network wants (default: as its first operations tell, else
    rgb)."""
    pixel_range: float | None = None
    """What white is before mean and deviation: 1 or 255 (default: as the network's input type and
    first operations tell, else 1)."""
    mean: tuple[float, float, float] | None = None
    """Mean of each channel (default: 0 where the network subtracts one itself, else ImageNet's)."""
    std: tuple[float, float, float] | None = None
    """Standard deviation of each channel (default: as for the mean)."""
    letterbox: bool | None = None
    """Keep the aspect ratio and pad, instead of stretching."""
    flip: bool | None = None
    """Add the mirrored view."""
    scales: tuple[float, ...] | None = None
    """Views at these sizes, each from the original crop (default: 1)."""
    fusion: Literal["unit", "raw"] | None = None
    """Mean of the views' unit vectors, or of raw features (default: unit)."""
    five_crops: bool | None = None
    """Take each view as five windows: corners and center of a picture an eighth larger."""
    stretch: tuple[float, float] | None = None
    """Counts that become black and white in pictures of more than 8 bits (default: 0 and 65535)."""
    output: str | None = None
    """The network's output that is the feature, where it has several (a gallery remembers it)."""


@dataclass(frozen=True)
class ActorSettings:
    """What an extraction runs on."""

    address: str | None = None
    """Ray cluster to join (auto, host:port); without it, this machine alone."""
    actors: int | None = None
    """Workers, each with its own copy of the network; 0 for a plain loop without Ray (default:
    as many as there is room for)."""
    num_cpus: int | None = None
    """CPUs of each actor (default: 1)."""
    num_gpus: float | None = None
    """GPUs of each actor; a fraction lets actors share one (default: 0)."""
    batch_size: int = BATCH_SIZE
    """Crops that the network takes at once."""
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """Arithmetic of the network; features leave it as float32."""

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise InputError(f"`batch_size` must be at least 1, not {self.batch_size}")


@dataclass(frozen=True)
class WorkSettings:
    """How the work of an extraction is cut, and what keeps an image out of the gallery."""

    storage: Literal["float32", "float16"] | None = None
    """Type of the stored features; float16 halves the gallery (default: float32)."""
    unit_size: int = UNIT_SIZE
    """Images in a work unit: the rows of a file, and what a crash can cost."""
    max_rejects: float = 0.01
    """Share of the inputs that may be rejects before the run stops; ten always may."""
    max_pixels: int = MAX_PIXELS
    """Pictures of more pixels are rejects."""
    max_bytes: int = MAX_BYTES
    """Image files of more bytes are rejects, and are not read."""
    quality: bool = False
    """Measure each crop's sharpness and exposure, and keep them as the column quality."""
    min_quality: float | None = None
    """Crops of lower quality are rejects; measures it, too (default: none are)."""

    def __post_init__(self) -> None:
        check_unit_size(self.unit_size)
        check_max_bytes(self.max_bytes)
        if self.max_pixels < 1:
            raise InputError(f"`max_pixels` must be at least 1, not {self.max_pixels}")
        if self.min_quality is not None and not self.min_quality >= 0:
            raise InputError(f"`min_quality` must be at least 0, not {self.min_quality}")
        if not 0 <= self.max_rejects <= 1:
            raise InputError(f"`max_rejects` must be a share from 0 to 1, not {self.max_rejects}")

    @property
    def least_quality(self) -> float | None:
        """The quality that a crop needs; None where it is not even measured."""
        return 0.0 if self.quality and self.min_quality is None else self.min_quality


@dataclass(frozen=True)
class UpdateSettings:
    """How a gallery is compared with its source."""

    verify: bool = False
    """Read every image and compare its bytes, not only those whose size or time differ."""
    delete_missing: bool = False
    """Remove the rows and rejects whose image is gone from the source."""
    max_missing: float = 0.1
    """Share of the rows that may be removed so: a source that is not mounted empties nothing."""
    dry_run: bool = False
    """Tell what would be done, and write nothing."""

    def __post_init__(self) -> None:
        if not 0 <= self.max_missing <= 1:
            raise InputError(f"`max_missing` must be a share from 0 to 1, not {self.max_missing}")


@dataclass(frozen=True)
class FigureSettings:
    """Which figures an evaluation gives; what is left out has the default of `pipeline.core`."""

    protocol: Literal["market1501", "cuhk03"] = "market1501"
    """CMC on whole lists (market1501), or on 10 draws of one image of each identity (cuhk03)."""
    max_rank: int = 50
    """Length of the CMC curve."""
    open_set: bool = True
    """TAR at FAR and the equal-error rate; two more passes over the gallery."""
    camera_pairs: bool = True
    """Figures by pair of cameras; one more pass over the gallery."""
    replicates: int | None = None
    """Replicates of the bootstrap; 0 for no confidence intervals (default: 1000)."""
    level: float | None = None
    """Confidence level of the intervals (default: 0.95)."""
    seed: int | None = None
    """Seed of the bootstrap and of the draws of cuhk03 (default: 0)."""
    same_place: tuple[str, ...] = ()
    """Cameras that are one place, such as 2,3 of SYSU-MM01: a match must come from another place.
    Give it again for another place."""
    clothes_changed: bool = False
    """A match must show other clothes, too: the cloth-changing protocol of LTCC and PRCC."""

    def __post_init__(self) -> None:
        if self.max_rank < 1:
            raise InputError(f"`max_rank` must be at least 1, not {self.max_rank}")


@dataclass(frozen=True)
class ExpansionSettings:
    """Alpha query expansion; what is left out has the default of `pipeline.core.expansion`."""

    aqe: tuple[Literal["query", "database", "joint"], ...] = ()
    """Also rank with query expansion in this mode; give it again for another mode."""
    k: int | None = None
    """Neighbors of the expansion, the row itself included (default: 10)."""
    alpha: float | None = None
    """Power of the similarity that weighs a neighbor; 0 for a plain mean (default: 3)."""
    times: int | None = None
    """Rounds of expansion (default: 1)."""


@dataclass(frozen=True)
class CameraSettings:
    """Camera-aware normalization; what is left out has the default of
    `pipeline.core.cameras.normalization`."""

    camera_normalize: tuple[Literal["mean", "zscore"], ...] = ()
    """Also rank features less the mean of their camera's gallery rows, with zscore divided by their
    deviation too; plain, and in every other way asked for. Give it again for the other."""
    camera_rows: int | None = None
    """Gallery rows that a camera needs for a mean of its own; one of fewer takes that of all rows
    (default: 16)."""


@dataclass(frozen=True)
class RerankingSettings:
    """k-reciprocal re-ranking; what is left out has the default of
    `pipeline.core.reranking.distances`."""

    rerank: bool = False
    """Also rank by k-reciprocal distance."""
    k1: int | None = None
    """Neighbors of the re-ranking (default: 20)."""
    k2: int | None = None
    """Rows that the re-ranking averages, the row itself included (default: 6)."""
    lam: float | None = None
    """Share of the original distance in the re-ranked one (default: 0.3)."""
    variant: Literal["zhong", "torchreid"] | None = None
    """Original distance: squared Euclidean (zhong, the default), or its square (torchreid)."""


@dataclass(frozen=True)
class FoldSettings:
    """What an evaluation runs on, and what it may hold."""

    workers: int = 0
    """Ray tasks at once; 0 works in this process, on all its CPUs."""
    address: str | None = None
    """Ray cluster to join (auto, host:port, ray://...); without it, this machine alone."""
    query_block: int | None = None
    """Queries of a tile (default: 1024)."""
    gallery_block: int | None = None
    """Gallery rows of a tile: with the former, what bounds the memory (default: 4096)."""
    num_gpus: float = 0
    """1 for a GPU of each worker, or of this process; 0.5 lets two share one. Neighbors and ranks
    are computed there, with the same results to the bit; the open-set figures and those by camera
    come from the CPU."""
    memory: float | None = None
    """GiB that the blocks in hand may take, in all workers together (default: 4)."""
    scratch: Annotated[Path, LOCATION] | None = None
    """Folder for features and graphs, seen by every worker (default: a temporary one). A run that
    was interrupted goes on from what it left there."""

    def __post_init__(self) -> None:
        if self.workers < 0:
            raise InputError(f"`workers` must be at least 0, not {self.workers}")
        if self.memory is not None and not self.memory > 0:
            raise InputError(f"`memory` must be above 0 GiB, not {self.memory}")
        check_gpus(self.num_gpus)

    def execution(self, progress: "StartProgress | None" = None) -> "Execution":
        """How the folds run; ValueError for blocks that cannot be."""
        from pipeline.core.blocks import Tiling
        from pipeline.stages.execution import MEMORY, Execution, silent

        given = {"query_block": self.query_block, "gallery_block": self.gallery_block}
        blocks = {name: value for name, value in given.items() if value is not None}
        return Execution(
            workers=self.workers,
            tiling=Tiling(**blocks, gpus=self.num_gpus),
            memory=MEMORY if self.memory is None else int(self.memory * 2**30),
            progress=progress or silent,
        )


@dataclass(frozen=True)
class ExportSettings:
    """What `export` writes, and what it is measured on."""

    to: Literal["onnx", "openvino", "torchscript"] | None = None
    """Kind of file to write."""
    out: Path | None = None
    """File to write: .onnx, .xml (its weights beside it as .bin), or .pt."""
    quantize: Literal["int8"] | None = None
    """Also make its weights and activations 8-bit numbers: another network, of another recipe."""
    sample: Location | None = None
    """Crops to measure on, and to calibrate 8-bit ranges with: your own (default: drawn ones)."""
    sample_size: int = 128
    """Crops taken from the sample, evenly spread."""
    query: Location | None = None
    """Labeled queries, to measure what 8-bit numbers cost; none of them in the sample."""
    gallery: Location | None = None
    """Labeled gallery to go with the queries."""
    layout: str = "market1501"
    """How the names of queries and gallery tell identity and camera (see extract)."""


@dataclass(frozen=True)
class RuleSettings:
    """What makes a threshold; what is left out has the default of
    `pipeline.core.thresholds.calibration`."""

    far: float | None = None
    """Share of the negative pairs that may match (default: 0.0001)."""
    percentile: float | None = None
    """Percentile of the distances within identities, with the rule percentile (default: 95)."""
    factor: float | None = None
    """How many times that distance, with the rule percentile (default: 1)."""


@dataclass(frozen=True)
class ResamplingSettings:
    """Confidence intervals, by resampling identities."""

    samples: int | None = None
    """Resamples (default: 1000)."""
    seed: int | None = None
    """Seed of the resamples, and of the choice of queries (default: 0)."""
    confidence: float | None = None
    """Share of the resamples that an interval holds (default: 0.95)."""


def check_scratch(folder: Path | None) -> None:
    """InputError for a `scratch` that is not a folder.

    Not checked when the settings are created, since that of a submitted job lies on the cluster.
    """
    if folder is not None and not folder.is_dir():
        raise InputError(f"`scratch` {folder} is not a folder; create it first")


def stated(settings: Any, *, without: tuple[str, ...] = ()) -> dict[str, Any]:
    """The fields of some settings that are not None, by name.

    >>> stated(ExpansionSettings(aqe=("joint",), k=5), without=("aqe",))
    {'k': 5}
    """
    given = {each.name: getattr(settings, each.name) for each in fields(settings)}
    return {k: v for k, v in given.items() if v is not None and k not in without}
