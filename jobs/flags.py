"""Flags that several verbs share; what they mean is checked where it is used."""

from dataclasses import dataclass, fields
from typing import Any, Literal

from cyclopts import Parameter

from jobs.arguments import Location


@Parameter(name="*")
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

    def stated(self) -> dict[str, Any]:
        """The recipe fields that are given as flags."""
        given = {each.name: getattr(self, each.name) for each in fields(self)}
        return {k: v for k, v in given.items() if v is not None and k != "recipe"}


@Parameter(name="*")
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
    batch_size: int = 32
    """Crops that the network takes at once."""
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """Arithmetic of the network; features leave it as float32."""
