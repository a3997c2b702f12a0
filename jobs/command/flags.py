"""Flags that several verbs share; what they mean is checked where it is used."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Group, Parameter

from pipeline.archive.limits import MAX_PIXELS, UNIT_SIZE, check_unit_size
from pipeline.errors import InputError
from pipeline.model.defaults import BATCH_SIZE
from pipeline.runs.locations import LOCATION, Location
from pipeline.runs.resources import check_gpus

if TYPE_CHECKING:  # imported where it is used, so that --help answers at once
    from pipeline.core.blocks import Tiling


def _group(title: str) -> Group:
    """A part of a verb's help, before the flags of every verb."""
    return Group(title, sort_key=0)


@Parameter(name="*", group=_group("Recipe"))
@dataclass(frozen=True)
class RecipeFlags:
    """How crops become features; what is left out is taken from --recipe, else the default."""

    recipe: Location | None = None
    """TOML file with any of the fields below."""
    height: int | None = None
    """Pixels; the default is the network's own size, else 256."""
    width: int | None = None
    """Pixels; the default is the network's own size, else 128."""
    channels: Literal["rgb", "bgr"] | None = None
    """Order of the channels that the network wants (default: rgb)."""
    pixel_range: float | None = None
    """What white is before mean and deviation: 1 or 255 (default: 1)."""
    mean: tuple[float, float, float] | None = None
    """Mean of each channel (default: ImageNet's)."""
    std: tuple[float, float, float] | None = None
    """Standard deviation of each channel (default: ImageNet's)."""
    letterbox: bool | None = None
    """Keep the aspect ratio and pad, instead of stretching."""
    flip: bool | None = None
    """Add the mirrored view."""
    scales: tuple[float, ...] | None = None
    """Views at these sizes, each from the original crop (default: 1)."""
    fusion: Literal["unit", "raw"] | None = None
    """Mean of the views' unit vectors, or of raw features (default: unit)."""
    five_crops: bool | None = None
    """Take each view as five windows: corners and centre of a picture an eighth larger."""


@Parameter(name="*", group=_group("Where it runs"))
@dataclass(frozen=True)
class ActorFlags:
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
            raise InputError(f"--batch-size must be at least 1, not {self.batch_size}")


@Parameter(name="*", group=_group("The work"))
@dataclass(frozen=True)
class WorkFlags:
    """How the work of an extraction is cut, and what keeps an image out of the gallery."""

    storage: Literal["float32", "float16"] | None = None
    """Type of the stored features; float16 halves the gallery (default: float32)."""
    unit_size: int = UNIT_SIZE
    """Images in a work unit: the rows of a file, and what a crash can cost."""
    max_rejects: float = 0.01
    """Share of the inputs that may be rejects before the run stops; ten always may."""
    max_pixels: int = MAX_PIXELS
    """Pictures of more pixels are rejects."""
    quality: bool = False
    """Measure each crop's sharpness and exposure, and keep them as the column quality."""
    min_quality: float | None = None
    """Crops of lower quality are rejects; measures it, too (default: none are)."""

    def __post_init__(self) -> None:
        check_unit_size(self.unit_size)
        if self.max_pixels < 1:
            raise InputError(f"--max-pixels must be at least 1, not {self.max_pixels}")
        if self.min_quality is not None and not self.min_quality >= 0:
            raise InputError(f"--min-quality must be at least 0, not {self.min_quality}")
        if not 0 <= self.max_rejects <= 1:
            raise InputError(f"--max-rejects is a share from 0 to 1, not {self.max_rejects}")

    @property
    def least_quality(self) -> float | None:
        """The quality that a crop needs; None where it is not even measured."""
        return 0.0 if self.quality and self.min_quality is None else self.min_quality


@Parameter(name="*", group=_group("Beside the source"))
@dataclass(frozen=True)
class UpdateFlags:
    """How a gallery is held against its source."""

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
            raise InputError(f"--max-missing is a share from 0 to 1, not {self.max_missing}")


@Parameter(name="*", group=_group("Figures"))
@dataclass(frozen=True)
class FigureFlags:
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

    def __post_init__(self) -> None:
        if self.max_rank < 1:
            raise InputError(f"--max-rank must be at least 1, not {self.max_rank}")


@Parameter(name="*", group=_group("Expansion"))
@dataclass(frozen=True)
class ExpansionFlags:
    """Alpha query expansion; what is left out has the default of `pipeline.core.expansion`."""

    aqe: tuple[Literal["query", "database", "joint"], ...] = ()
    """Also rank with query expansion in this mode; give it again for another mode."""
    k: int | None = None
    """Neighbours of the expansion, the row itself included (default: 10)."""
    alpha: float | None = None
    """Power of the similarity that weighs a neighbour; 0 for a plain mean (default: 3)."""
    times: int | None = None
    """Rounds of expansion (default: 1)."""


@Parameter(name="*", group=_group("Camera normalization"))
@dataclass(frozen=True)
class CameraFlags:
    """Camera-aware normalisation; what is left out has the default of
    `pipeline.core.cameras.normalization`."""

    camera_normalize: tuple[Literal["mean", "zscore"], ...] = ()
    """Also rank features less the mean of their camera's gallery rows, with zscore divided by their
    deviation too; plain, and in every other way asked for. Give it again for the other."""
    camera_rows: int | None = None
    """Gallery rows that a camera needs for a mean of its own; one of fewer takes that of all rows
    (default: 16)."""


@Parameter(name="*", group=_group("Re-ranking"))
@dataclass(frozen=True)
class RerankingFlags:
    """k-reciprocal re-ranking; what is left out has the default of
    `pipeline.core.reranking.distances`."""

    rerank: bool = False
    """Also rank by k-reciprocal distance."""
    k1: int | None = None
    """Neighbours of the re-ranking (default: 20)."""
    k2: int | None = None
    """Rows that the re-ranking averages, the row itself included (default: 6)."""
    lam: float | None = None
    """Share of the original distance in the re-ranked one (default: 0.3)."""
    variant: Literal["zhong", "torchreid"] | None = None
    """Original distance: squared Euclidean (zhong, the default), or its square (torchreid)."""


@Parameter(name="*", group=_group("Where it runs"))
@dataclass(frozen=True)
class FoldFlags:
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
    """1 for a GPU of each worker, or of this process; 0.5 lets two share one. Neighbours are sought
    there, and the results are the same to the bit."""
    memory: float | None = None
    """GiB that the blocks in hand may take, in all workers together (default: 4)."""
    scratch: Annotated[Path, LOCATION] | None = None
    """Folder for features and graphs, seen by every worker (default: a temporary one)."""

    def __post_init__(self) -> None:
        for flag, value in (("--workers", self.workers), ("--memory", self.memory or 0)):
            if not value >= 0:
                raise InputError(f"{flag} must be at least 0, not {value}")
        check_gpus(self.num_gpus)

    def tiling(self) -> "Tiling":
        """What a fold holds at once, and where it multiplies; ValueError for what cannot be."""
        from pipeline.core.blocks import Tiling

        given = {"query_block": self.query_block, "gallery_block": self.gallery_block}
        stated = {name: value for name, value in given.items() if value is not None}
        return Tiling(**stated, gpus=self.num_gpus)


def check_scratch(folder: Path | None) -> None:
    """InputError for a --scratch that is no folder; not when the flags are read, since a submitted
    job's lies on the cluster.
    """
    if folder is not None and not folder.is_dir():
        raise InputError(f"--scratch {folder} is no folder: make it first")


def stated(flags: Any, *, without: tuple[str, ...] = ()) -> dict[str, Any]:
    """The fields of a class of flags that were given, by name.

    >>> stated(ExpansionFlags(aqe=("joint",), k=5), without=("aqe",))
    {'k': 5}
    """
    given = {each.name: getattr(flags, each.name) for each in fields(flags)}
    return {k: v for k, v in given.items() if v is not None and k not in without}
