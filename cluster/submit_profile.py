"""Profiles for submitting jobs: TOML files of defaults, one for each cluster.

Keys at the top are defaults of the submission (its address, the names of variables, the driver's
reservations). A table for each verb has defaults of that verb (such as its workers' resources). A
profile has no secrets: of a variable it has only the name.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import InputError
from pipeline.input_files import parse_toml, read_text

SUFFIX = ".toml"


@dataclass(frozen=True)
class SubmitProfile:
    """A profile: its file, defaults of the submission, and those of verbs by verb."""

    file: Path
    submission: Mapping[str, Any]
    verbs: Mapping[str, Mapping[str, Any]]

    def arguments(self, verb: str, given: Sequence[str]) -> Iterator[str]:
        """The verb's defaults as arguments, without flags that are among the `given` ones.

        >>> profile = SubmitProfile(Path("p"), {}, {"extract": {"num-gpus": 1, "flip": False}})
        >>> list(profile.arguments("extract", ["--num-gpus"]))
        ['--no-flip']
        """
        for key, value in self.verbs.get(verb, {}).items():
            name = key.replace("_", "-")
            if {f"--{name}", f"--no-{name}"}.isdisjoint(given):
                yield from _as_arguments(name, value)


def profile_folder() -> Path:
    """The folder of profiles that are given by name: `~/.config/regallery`, or as XDG says."""
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path("~/.config").expanduser()) / "regallery"


def read_profile(name: str) -> SubmitProfile:
    """Read a profile, given by name or as a file (`*.toml`).

    Raise InputError if there is none, or if it does not have the form of a profile.
    """
    file = Path(name) if name.endswith(SUFFIX) else profile_folder() / f"{name}{SUFFIX}"
    if not file.exists():
        known = sorted(path.stem for path in profile_folder().glob(f"*{SUFFIX}"))
        others = f"; the profiles there are {', '.join(known)}" if known else ""
        raise InputError(f"`profile` {name}: there is no file {file}{others}")
    try:
        content = parse_toml(read_text(file))
    except ValueError as error:
        raise InputError(f"`profile` {name}: {file} cannot be read: {error}") from error
    tables = {key: value for key, value in content.items() if isinstance(value, dict)}
    for verb, table in tables.items():
        for key, value in table.items():
            if isinstance(value, dict):
                raise InputError(
                    f"`profile` {name}: {file}: [{verb}.{key}] is a table in a table, and holds no"
                    " default"
                )
    flat = {key: value for key, value in content.items() if key not in tables}
    return SubmitProfile(file, flat, tables)


def _as_arguments(name: str, value: Any) -> Iterator[str]:
    if isinstance(value, bool):
        yield f"--{name}" if value else f"--no-{name}"
    elif isinstance(value, list):
        for each in value:
            yield f"--{name}={each}"
    else:
        yield f"--{name}={value}"
