"""The recipe of a feature: weights, preprocessing and views, and their fingerprint."""

import dataclasses
import hashlib
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pipeline.errors import InputError
from pipeline.fetched_files import fetched_text
from pipeline.input_files import parse_json, parse_toml, read_text
from pipeline.object_client import is_url

# Part of the canonical JSON: a change in the meaning of the fields must change every fingerprint.
_FORMAT = 2  # 1: another resize, a level or two of 255 from Pillow's
_LATER: dict[str, Any] = {"five_crops": False, "stretch": None, "output": None}
_LONGEST_SIDE = 4096
_LARGEST_SCALE = 8.0


@dataclass(frozen=True)
class Recipe:
    """Everything besides the crop that determines its feature; galleries compare only if it is
    equal.

    `weights` is the SHA-256 of the network (`NetworkFile.weights_hash`). `height` and `width` are
    in pixels. `mean` and `std` are per channel, in the network's channel order (`channels`) and in
    units of `pixel_range` (1.0: pixels run from 0 to 1; 255: from 0 to 255). `letterbox` keeps a
    crop's aspect ratio. The views are every scale of `scales`, each as five windows (corners and
    center of a picture an eighth larger) if `five_crops`, each also mirrored if `flip`. `fusion`
    selects the mean of unit vectors or of raw features. `scales` is stored in ascending order, so
    the given order does not matter. `stretch` has the counts that become black and white in
    pictures with more than 8 bits per pixel (thermal cameras). `output` names the network's output
    that is the feature, if it has several.

    Raise InputError for any value that is out of range or of a wrong type.

    >>> recipe = Recipe(weights="0" * 64, scales=(1.25, 1.0))
    >>> recipe.scales
    (1.0, 1.25)
    >>> recipe.fingerprint == Recipe(weights="0" * 64, scales=(1, 1.25)).fingerprint
    True
    >>> recipe.differences(Recipe(weights="0" * 64, scales=(1.0, 1.25), height=384))
    ['height: 256 here, 384 there']
    """

    weights: str
    height: int = 256
    width: int = 128
    channels: Literal["rgb", "bgr"] = "rgb"
    pixel_range: float = 1.0
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    letterbox: bool = False
    filter: Literal["bicubic"] = "bicubic"
    flip: bool = False
    scales: tuple[float, ...] = (1.0,)
    fusion: Literal["unit", "raw"] = "unit"
    five_crops: bool = False
    stretch: tuple[float, float] | None = None
    output: str | None = None

    def __post_init__(self) -> None:
        _check_hash(self.weights)
        for name in ("height", "width"):
            _check_side(name, getattr(self, name))
        _check_choice("channels", self.channels, ("rgb", "bgr"))
        _check_choice("filter", self.filter, ("bicubic",))
        _check_choice("fusion", self.fusion, ("unit", "raw"))
        for name in ("letterbox", "flip", "five_crops"):
            if not isinstance(getattr(self, name), bool):
                raise InputError(
                    f"recipe: {name} must be true or false, not {getattr(self, name)!r}"
                )
        if self.output is not None and not (isinstance(self.output, str) and self.output):
            raise InputError(f"recipe: output must be the name of an output, not {self.output!r}")
        # The class is frozen; here a list or a whole number from TOML or JSON gets its final type.
        settled = {
            "pixel_range": _number("pixel_range", self.pixel_range),
            "mean": _three("mean", self.mean),
            "std": _three("std", self.std),
            "scales": _scales(self.scales),
            "stretch": _stretch(self.stretch),
        }
        for name, value in settled.items():
            object.__setattr__(self, name, value)
        if self.pixel_range <= 0:
            raise InputError(f"recipe: pixel_range must be above 0, not {self.pixel_range:g}")
        if min(self.std) <= 0:
            raise InputError(f"recipe: std must be above 0 for every channel, not {self.std}")

    @property
    def fingerprint(self) -> str:
        """SHA-256 of `to_json()`, 64 hex digits."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def to_json(self) -> str:
        """The recipe as canonical JSON: keys sorted, no blanks; equal recipes give equal text.

        A field of _LATER is included only if it is not the default, so that older recipes keep
        their fingerprints.
        """
        fields = {"format": _FORMAT, **dataclasses.asdict(self)}
        fields = {k: v for k, v in fields.items() if k not in _LATER or v != _LATER[k]}
        return json.dumps(fields, sort_keys=True, separators=(",", ":"))

    @staticmethod
    def from_json(text: str) -> "Recipe":
        """Read the recipe that `to_json` wrote; raise InputError if the text is not one."""
        try:
            fields = parse_json(text)
        except ValueError as error:
            raise InputError(f"recipe: this is not JSON ({error})") from error
        if not isinstance(fields, dict):
            raise InputError("recipe: the JSON must be an object of named fields")
        written = fields.pop("format", None)
        if written != _FORMAT:
            raise InputError(
                f"recipe: written in format {written!r}, this version reads format {_FORMAT}: "
                "features of the two do not compare; extract them again"
            )
        names = {field.name for field in dataclasses.fields(Recipe)}
        fields = {**_LATER, **fields}
        if set(fields) != names:
            missing, unknown = sorted(names - set(fields)), sorted(set(fields) - names)
            raise InputError(f"recipe: fields missing {missing}, unknown {unknown}")
        return Recipe(**fields)

    def differences(self, other: Any) -> list[str]:
        """List every difference between the two recipes, with both values; empty if they are equal.

        The other recipe may be of another kind (`pipeline.model.imported`).
        """
        return differences(self, other)


def differences(first: Any, second: Any) -> list[str]:
    """List every field in which two recipes (dataclasses) differ, with both values.

    If two kinds share no field, only the first field of each is listed, which says what made the
    features.
    """
    here, there = dataclasses.asdict(first), dataclasses.asdict(second)
    if here.keys().isdisjoint(there):
        here, there = (dict([next(iter(each.items()))]) for each in (here, there))
    return [
        f"{name}: {_shown(here.get(name))} here, {_shown(there.get(name))} there"
        for name in dict.fromkeys([*here, *there])
        if here.get(name) != there.get(name)
    ]


def recipe_fields() -> list[str]:
    """The names of the fields that a user may set: all except `weights`."""
    return [field.name for field in dataclasses.fields(Recipe) if field.name != "weights"]


def check_fields(fields: Mapping[str, Any], where: str) -> None:
    """Raise InputError for a name in `fields` that a user may not set.

    All of Recipe's fields may be set except `weights`, which is measured and never stated.
    """
    known = recipe_fields()
    unknown = sorted(set(fields) - set(known))
    if unknown:
        raise InputError(
            f"{where}: unknown recipe field {', '.join(unknown)}; known are {', '.join(known)}"
        )


def load_recipe_fields(path: str) -> dict[str, Any]:
    """Read the recipe fields at the top level of a TOML file, checked, for `default_recipe`.

    The file may be a URL of an object store. Raise InputError for a file that cannot be read, that
    is not TOML, or that has an unknown or wrong field.
    """
    try:
        fields = parse_toml(fetched_text(path) if is_url(path) else read_text(path))
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"{path}: this is not TOML ({error})") from error
    check_fields(fields, path)
    try:
        checked = Recipe(weights="0" * 64, **fields)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return {name: getattr(checked, name) for name in fields}


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    return f"{value[:12]}..." if isinstance(value, str) and len(value) == 64 else str(value)


def _check_hash(weights: Any) -> None:
    digits = set("0123456789abcdef")
    if not (isinstance(weights, str) and len(weights) == 64 and set(weights) <= digits):
        raise InputError(f"recipe: weights must be a SHA-256 of 64 hex digits, not {weights!r}")


def _check_side(name: str, value: Any) -> None:
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not (whole and 1 <= value <= _LONGEST_SIDE):
        raise InputError(
            f"recipe: {name} must be a whole number of pixels from 1 to {_LONGEST_SIDE}, "
            f"not {value!r}"
        )


def _check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InputError(f"recipe: {name} must be {' or '.join(choices)}, not {value!r}")


def _number(name: str, value: Any) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    # A whole number may have more digits than the floating-point type has.
    if not is_number or not abs(value) <= sys.float_info.max:
        raise InputError(f"recipe: {name} must be a finite number, not {value!r}")
    return float(value) + 0.0  # -0.0 equals 0.0, and must be the same in JSON


def _three(name: str, value: Any) -> tuple[float, float, float]:
    if not isinstance(value, list | tuple) or len(value) != 3:
        raise InputError(f"recipe: {name} must be three numbers, one a channel, not {value!r}")
    first, second, third = (_number(name, part) for part in value)
    return first, second, third


def _stretch(value: Any) -> tuple[float, float] | None:
    if value is None:
        return None
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise InputError(f"recipe: stretch must be two numbers, LOW and HIGH, not {value!r}")
    low, high = (_number("stretch", part) for part in value)
    if low >= high:
        raise InputError(f"recipe: stretch must go from a lower to a higher count, not {value!r}")
    return low, high


def _scales(value: Any) -> tuple[float, ...]:
    if not isinstance(value, list | tuple) or not value:
        raise InputError(f"recipe: scales must be a list of at least one number, not {value!r}")
    scales = tuple(sorted(_number("scales", part) for part in value))
    if scales[0] <= 0 or scales[-1] > _LARGEST_SCALE:
        raise InputError(
            f"recipe: scales must be above 0 and at most {_LARGEST_SCALE:g}, not {scales}"
        )
    if len(set(scales)) < len(scales):
        raise InputError(f"recipe: scales names one scale twice: {scales}")
    return scales
