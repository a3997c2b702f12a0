"""Settings for reading labels from names and manifests, in addition to the layout."""

from dataclasses import dataclass
from datetime import UTC, tzinfo
from zoneinfo import ZoneInfo

from pipeline.errors import InputError

LABELS = ("identity", "camera", "captured_at", "frame", "tracklet")
"""The labels that a manifest may have for an image."""


@dataclass(frozen=True)
class LabelSettings:
    """The settings for reading labels from names and manifests."""

    first_identity: int = 1
    """Number of the first person. Give 0 for labels that count people from 0: each is stored plus
    1, because identity 0 means a distractor. For templates, image-folder and manifests."""
    time_zone: str = "UTC"
    """Time zone, such as Europe/Berlin, of times without one. Of an hour that occurs twice when
    clocks are set back, the first is used."""
    columns: tuple[str, ...] = ()
    """Columns of a manifest under other names: identity=label captured_at=date path=file."""
    only: tuple[str, ...] = ()
    """Take only the rows of a manifest with these values: split=validation is_query=true."""

    allow_root: tuple[str, ...] = ()
    """Let a manifest read only its own folder and what is below these folders or URLs, also through
    links (default: anything but hidden folders and those of the system)."""

    def __post_init__(self) -> None:
        if self.first_identity not in (0, 1):
            raise InputError(f"`first_identity` must be 0 or 1, not {self.first_identity}")
        for name in self.renamed:
            if name not in ("path", *LABELS):
                raise InputError(f"`columns`: {name} is not one of path, {', '.join(LABELS)}")
        _ = self.zone, self.required_values

    @property
    def zone(self) -> tzinfo:
        """The time zone; raise InputError for an unknown name."""
        if self.time_zone == "UTC":
            return UTC
        try:
            return ZoneInfo(self.time_zone)
        except (OSError, ValueError, KeyError) as error:
            raise InputError(
                f"`time_zone`: unknown time zone {self.time_zone!r}; give a name such as "
                "Europe/Berlin or Asia/Shanghai"
            ) from error

    @property
    def renamed(self) -> dict[str, str]:
        """The manifest's column for each of our names."""
        return _pairs("columns", "identity=label", self.columns)

    @property
    def required_values(self) -> dict[str, str]:
        """The value that a manifest's column must have for a row to be taken."""
        return _pairs("only", "split=query", self.only)

    def described(self, layout: str) -> str:
        """The name of a layout with the settings that differ from the defaults, as a gallery stores
        it.

        >>> LabelSettings(first_identity=0).described("image-folder")
        'image-folder, first_identity 0'
        >>> LabelSettings().described("none")
        'none'
        """
        said = [layout]
        if self.first_identity != 1:
            said.append(f"first_identity {self.first_identity}")
        if self.time_zone != "UTC":
            said.append(f"time_zone {self.time_zone}")
        said += [f"columns {' '.join(self.columns)}"] if self.columns else []
        return ", ".join(said)


def _pairs(setting: str, example: str, given: tuple[str, ...]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise InputError(f"`{setting}`: {text!r} is not of the form {example}")
        if name in pairs:
            raise InputError(f"`{setting}` names {name} twice")
        pairs[name] = value
    return pairs


AS_THEY_ARE = LabelSettings()
"""Labels as they are written: people count from 1, times are in UTC, columns have our names."""
