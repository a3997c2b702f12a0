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
from pipeline.runs.selection import ALL_ROWS, RowFilter

if TYPE_CHECKING:  # imported where they are used, since the command line reads this module first
    from pipeline.stages.execution import Execution, StartProgress

ImportFormat = Literal["npy", "mat", "fast-reid", "faiss"]
"""What `import` reads: an array, layumi's .mat, fast-reid's folder, or a flat index of faiss."""


@dataclass(frozen=True)
class RecipeSettings:
    """How crops become features; None means the value in `recipe`, or else the default."""

    recipe: Location | None = None
    """TOML file with any of the fields below, by its path or URL."""
    height: int | None = None
    """Pixels; the default is the network's own size, else 256."""
    width: int | None = None
    """Pixels; the default is the network's own size, else 128."""
    channels: Literal["rgb", "bgr"] | None = None
    """Order of the channels that the network expects (default: read from its first operations,
    else rgb)."""
    pixel_range: float | None = None
    """Value of white before mean and deviation: 1 or 255 (default: read from the network's input
    type and first operations, else 1)."""
    mean: tuple[float, float, float] | None = None
    """Mean of each channel (default: 0 if the network subtracts one itself, else ImageNet's)."""
    std: tuple[float, float, float] | None = None
    """Standard deviation of each channel (default: as for the mean)."""
    letterbox: bool | None = None
    """Keep the aspect ratio and pad instead of stretching."""
    flip: bool | None = None
    """Add the mirrored view."""
    scales: tuple[float, ...] | None = None
    """Views at these sizes, each from the original crop (default: 1)."""
    fusion: Literal["unit", "raw"] | None = None
    """Average the views as unit vectors (unit) or as raw features (raw) (default: unit)."""
    five_crops: bool | None = None
    """Take five crops of each view: corners and center of the image enlarged by an eighth."""
    stretch: tuple[float, float] | None = None
    """Pixel values that become black and white in images of more than 8 bits (default: 0 and
    65535)."""
    output: str | None = None
    """Output to use as the feature, if the network has several (the gallery remembers it)."""


@dataclass(frozen=True)
class ActorSettings:
    """What an extraction runs on."""

    address: str | None = None
    """Ray cluster to join: auto or host:port (default: this machine alone)."""
    actors: int | None = None
    """Workers on Ray, each with its own copy of the network; 0 for a plain loop in this process
    (default: this process for work that is done before Ray has started, else as many as the
    machines have room for)."""
    num_cpus: int | None = None
    """CPUs of each actor (default: 1)."""
    num_gpus: float | None = None
    """GPUs of each actor; a fraction lets actors share one (default: 0)."""
    autoscale: bool = False
    """Begin with the room that there is, and let the cluster's autoscaler add machines until all
    `actors` have room."""
    batch_size: int = BATCH_SIZE
    """Crops in one batch of the network."""
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """Arithmetic of the network; its features are converted to float32."""

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise InputError(f"`batch_size` must be at least 1, not {self.batch_size}")
        if self.autoscale and not self.actors:
            raise InputError("`autoscale` needs `actors`: how many workers to make room for")


@dataclass(frozen=True)
class WorkSettings:
    """How the work of an extraction is divided, and which images are rejected."""

    storage: Literal["float32", "float16"] | None = None
    """Type of the stored features; float16 halves the size of the gallery (default: float32)."""
    unit_size: int = UNIT_SIZE
    """Images in a work unit, which becomes one file; a crash loses only units in progress."""
    max_rejects: float = 0.01
    """Stop when more than this share of the inputs is rejected; ten are always tolerated."""
    max_pixels: int = MAX_PIXELS
    """Reject images with more pixels than this."""
    max_bytes: int = MAX_BYTES
    """Reject image files with more bytes than this, without reading them."""
    quality: bool = False
    """Measure each crop's sharpness and exposure; store the result in the column quality."""
    min_quality: float | None = None
    """Measure the quality, and reject crops below this value (default: reject none)."""

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
        """The least quality of a crop; None if quality is not measured."""
        return 0.0 if self.quality and self.min_quality is None else self.min_quality


@dataclass(frozen=True)
class UpdateSettings:
    """How a gallery is compared with its source."""

    verify: bool = False
    """Compare the bytes of every image, not only of those whose size or modification time
    differs."""
    delete_missing: bool = False
    """Remove the rows and rejects whose image has disappeared from the source."""
    max_missing: float = 0.1
    """Refuse to remove more than this share of the rows in one run (protects against an unmounted
    source)."""
    dry_run: bool = False
    """Report what would be done; write nothing."""

    def __post_init__(self) -> None:
        if not 0 <= self.max_missing <= 1:
            raise InputError(f"`max_missing` must be a share from 0 to 1, not {self.max_missing}")


@dataclass(frozen=True)
class FigureSettings:
    """Which figures an evaluation computes; None stands for the default of `pipeline.core`."""

    protocol: Literal["market1501", "cuhk03"] = "market1501"
    """CMC on whole ranked lists (market1501), or over 10 draws of one gallery image of each
    identity (cuhk03)."""
    max_rank: int = 50
    """Length of the CMC curve."""
    open_set: bool = True
    """Compute TAR at FAR and the equal-error rate, in two more passes over the gallery."""
    camera_pairs: bool = True
    """Compute figures for each pair of cameras, in one more pass over the gallery."""
    replicates: int | None = None
    """Bootstrap replicates; 0 for no confidence intervals (default: 1000)."""
    level: float | None = None
    """Confidence level of the intervals (default: 0.95)."""
    seed: int | None = None
    """Seed of the bootstrap and of the draws of the protocol cuhk03 (default: 0)."""
    same_place: tuple[str, ...] = ()
    """Cameras at one place, such as 2,3 in SYSU-MM01: a match must come from another place. Repeat
    for further places."""
    clothes_changed: bool = False
    """Count a match only if the person wears other clothes: the cloth-changing protocol of LTCC and
    PRCC."""

    multi_query: Literal["mean", "best"] | None = None
    """Make one query of all images of one identity under one camera: their mean, or the best of
    their similarities to each row (best, without open-set figures and pairs of cameras)."""

    def __post_init__(self) -> None:
        if self.max_rank < 1:
            raise InputError(f"`max_rank` must be at least 1, not {self.max_rank}")


@dataclass(frozen=True)
class ExpansionSettings:
    """Alpha query expansion; None stands for the default of `pipeline.core.expansion`."""

    aqe: tuple[Literal["query", "database", "joint"], ...] = ()
    """Also rank with query expansion in this mode; repeat for further modes."""
    k: int | None = None
    """Neighbors averaged by the expansion, the row itself included (default: 10)."""
    alpha: float | None = None
    """Exponent of the similarity in a neighbor's weight; 0 for a plain mean (default: 3)."""
    times: int | None = None
    """Rounds of expansion (default: 1)."""


@dataclass(frozen=True)
class CameraSettings:
    """Camera-aware normalization; None stands for the default of
    `pipeline.core.cameras.normalization`."""

    camera_normalize: tuple[Literal["mean", "zscore"], ...] = ()
    """Also rank with normalized features, plainly and in every other requested way: mean subtracts
    the mean of the camera's gallery rows, zscore also divides by their standard deviation. Repeat
    for both."""
    camera_rows: int | None = None
    """Gallery rows that a camera needs for statistics of its own; with fewer, those of all rows are
    used (default: 16)."""


@dataclass(frozen=True)
class RerankingSettings:
    """k-reciprocal re-ranking; None stands for the default of
    `pipeline.core.reranking.distances`."""

    rerank: bool = False
    """Also rank by k-reciprocal distance."""
    k1: int | None = None
    """Size of the k-reciprocal neighborhoods (default: 20)."""
    k2: int | None = None
    """Rows averaged by the local query expansion, the row itself included (default: 6)."""
    lam: float | None = None
    """Weight of the original distance in the re-ranked distance (default: 0.3)."""
    variant: Literal["zhong", "torchreid"] | None = None
    """Original distance: squared Euclidean (zhong, the default), or its square (torchreid)."""


@dataclass(frozen=True)
class MistakeSettings:
    """The pairs that an evaluation gets wrong, as a table for people and for training."""

    mine: bool = False
    """Also write misidentified.csv: pairs of two people that reach the threshold, and matches that
    do not, those farthest from it first. verdict --from reads it."""
    mine_threshold: float | None = None
    """Least similarity of a match (default: the gallery's calibrated threshold)."""
    mine_pairs: int | None = None
    """Pairs of each of both kinds (default: 1000)."""

    def __post_init__(self) -> None:
        if self.mine_threshold is not None and not -1 <= self.mine_threshold <= 1:
            raise InputError(
                f"`mine_threshold` is a cosine similarity from -1 to 1, not {self.mine_threshold}"
            )
        if self.mine_pairs is not None and self.mine_pairs < 1:
            raise InputError(f"`mine_pairs` must be at least 1, not {self.mine_pairs}")

    @property
    def most(self) -> int:
        """The number of pairs of each kind."""
        return 1000 if self.mine_pairs is None else self.mine_pairs


@dataclass(frozen=True)
class FoldSettings:
    """What a computation on galleries runs on, and how much memory it may use."""

    workers: int = 0
    """Ray tasks that run at once; 0 to use this process alone, on all its CPUs."""
    address: str | None = None
    """Ray cluster to join: auto, host:port or ray://... (default: this machine alone)."""
    query_block: int | None = None
    """Queries in a tile (default: 1024)."""
    gallery_block: int | None = None
    """Gallery rows in a tile; together with the queries in a tile, this bounds the memory (default:
    4096)."""
    num_gpus: float = 0
    """GPUs of each worker, or of this process: 1, or a fraction such as 0.5 to share one. Neighbors
    and ranks are computed there, with results equal to the bit; open-set figures and those by
    camera are computed on the CPU."""
    memory: float | None = None
    """GiB that blocks of features may take, in all workers together (default: 4)."""
    scratch: Annotated[Path, LOCATION] | None = None
    """Folder for intermediate features and graphs, visible to every worker (default: the
    folder of the output). An interrupted run resumes from what it left there."""

    def __post_init__(self) -> None:
        if self.workers < 0:
            raise InputError(f"`workers` must be at least 0, not {self.workers}")
        for name in ("query_block", "gallery_block"):
            if (rows := getattr(self, name)) is not None and rows < 1:
                raise InputError(f"`{name}` must be at least 1, not {rows}")
        if self.memory is not None and not self.memory > 0:
            raise InputError(f"`memory` must be above 0 GiB, not {self.memory}")
        check_gpus(self.num_gpus)

    def execution(self, progress: "StartProgress | None" = None) -> "Execution":
        """The execution that these settings describe."""
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
class EvaluationSettings:
    """What an evaluation computes, and in which ways it ranks in addition to the plain one."""

    figures: FigureSettings = FigureSettings()
    cameras: CameraSettings = CameraSettings()
    expansion: ExpansionSettings = ExpansionSettings()
    reranking: RerankingSettings = RerankingSettings()
    select: RowFilter = ALL_ROWS
    mistakes: MistakeSettings = MistakeSettings()


@dataclass(frozen=True)
class ExportSettings:
    """What `model export` writes, and the crops that it is measured on."""

    to: Literal["onnx", "openvino", "torchscript"] | None = None
    """Kind of file to write."""
    out: Path | None = None
    """File to write: .onnx, .xml (its weights beside it as .bin), or .pt."""
    quantize: Literal["int8"] | None = None
    """Also quantize weights and activations to 8 bits: the copy is another network, with its own
    recipe."""
    prune: float | None = None
    """Remove this share of the channels, between 0 and 1, of a network that is built here: the copy
    is another network, with its own recipe. Needs a sample, queries and a gallery."""
    recover: int = 10
    """Epochs in which a pruned network learns its source's features on the sample (0: none)."""
    max_loss: float | None = None
    """Refuse a copy whose mAP may fall by this much: the lower end of the difference's interval
    must lie above it, negated (default: 0.01 where channels are removed, no limit otherwise)."""
    sample: Location | None = None
    """Your crops to measure on, to calibrate 8-bit ranges and to train a pruned network with
    (default: drawn crops; int8 and pruning need your own)."""
    sample_size: int = 128
    """Crops taken from the sample, evenly spaced."""
    query: Location | None = None
    """Labeled queries, to measure the loss of accuracy; none of them may be in the sample."""
    gallery: Location | None = None
    """Labeled gallery to go with the queries."""
    layout: str = "none"
    """How identity and camera are read from the names of queries and gallery (see extract)."""


@dataclass(frozen=True)
class RuleSettings:
    """The rule for a threshold; None stands for the default of
    `pipeline.core.thresholds.calibration`."""

    far: float | None = None
    """False-match rate: share of the negative pairs that may match (default: 0.0001)."""
    percentile: float | None = None
    """Percentile of the distances within identities, with the rule percentile (default: 95)."""
    factor: float | None = None
    """Factor by which that distance is multiplied, with the rule percentile (default: 1)."""


@dataclass(frozen=True)
class ResamplingSettings:
    """Confidence intervals, by resampling identities."""

    replicates: int | None = None
    """Bootstrap replicates (default: 1000)."""
    seed: int | None = None
    """Seed of the bootstrap and of the choice of queries (default: 0)."""
    level: float | None = None
    """Confidence level of the intervals (default: 0.95)."""


def check_scratch(folder: Path | None) -> None:
    """Raise InputError for a `scratch` that is not a folder.

    Not checked when the settings are created, since the folder of a submitted job is on the
    cluster.
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
