"""Draw a small archive of tracked people: crops by camera, with their tracklets and times.

Four people at a time walk past a camera, so that every crop has others of the same moment. At night
all cameras show colors that the demo's network has never seen.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pipeline.archive.drawn.cameras import set_up
from pipeline.archive.drawn.drawing import Shot, write_shots
from pipeline.archive.drawn.palette import stream
from pipeline.errors import InputError
from pipeline.output_files import check_new_folder

PASSAGE_LAYOUT = "{camera}/{captured_at}_{identity}_{tracklet}_{frame}.jpg"
"""The layout of a drawn archive of passages."""
UNTRACKED_LAYOUT = "{camera}/{captured_at}_{identity}_{any}_{frame}.jpg"
"""The same without tracklets, as of an archive of single pictures."""

_BEGIN = datetime(2026, 3, 2, 20, tzinfo=UTC)
_AT_ONCE = 4
_BETWEEN = timedelta(minutes=1)
_SHARE_SEEN = 0.85


@dataclass(frozen=True)
class PassageCounts:
    """The contents of an archive of passages."""

    identities: int
    cameras: int
    tracklets: int
    crops: int


def draw_passages(
    root: Path,
    *,
    identities: int = 64,
    cameras: int = 4,
    crops: int = 8,
    seed: int = 0,
    night: bool = False,
) -> PassageCounts:
    """Draw `root/CAMERA/*.jpg`, with names of `PASSAGE_LAYOUT`: `crops` of each passage.

    Most cameras see every identity. The same arguments give the same bytes. Raise InputError for
    counts that are too small, for a root that has any other file, and if it cannot be written to.
    """
    for name, value, least in (
        ("identities", identities, _AT_ONCE),
        ("cameras", cameras, 2),
        ("crops", crops, 2),
    ):
        if value < least:
            raise InputError(f"{name} is {value}: a drawn archive needs {least} or more")
    shots = list(_shots(seed, identities, cameras, crops))
    _refuse_others(root, {shot.name for shot in shots})
    check_new_folder(root)
    for camera in range(1, cameras + 1):
        (root / f"c{camera}").mkdir(parents=True, exist_ok=True)
    setups = {number: set_up(seed, number, night=night) for number in range(1, cameras + 1)}
    write_shots(root, seed, shots, setups)
    return PassageCounts(identities, cameras, len(shots) // crops, len(shots))


def _shots(seed: int, identities: int, cameras: int, crops: int) -> Iterator[Shot]:
    """The crops of each camera, in groups of people who pass at the same time."""
    tracklet = 0
    for camera in range(1, cameras + 1):
        rng = stream(seed, "passages", camera)
        seen = [person for person in range(1, identities + 1) if rng.random() < _SHARE_SEEN]
        order = [seen[place] for place in rng.permutation(len(seen))]
        for place, person in enumerate(order):
            tracklet += 1
            begin = _BEGIN + place // _AT_ONCE * _BETWEEN
            for step in range(crops):
                moment = f"{begin + timedelta(seconds=step):%Y%m%dT%H%M%S}"
                name = f"c{camera}/{moment}_{person:04d}_{tracklet:04d}_{step:02d}.jpg"
                yield Shot(name, "person", person, camera, step)


def _refuse_others(root: Path, names: set[str]) -> None:
    for file in root.rglob("*.jpg") if root.is_dir() else ():
        if file.relative_to(root).as_posix() not in names:
            raise InputError(f"{file} is not part of the archive to be drawn: choose a new folder")
