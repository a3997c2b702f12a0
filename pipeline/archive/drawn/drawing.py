"""Draw a small labeled multi-camera archive of people, for the demo, its network and tests.

Each part of a person (torso, head, limbs, bag) is a stack of horizontal ellipses, posed in space,
turned, lit, and painted back to front with Pillow. A camera is a backdrop, a light, a color cast,
blur and noise. Every drawing has its own random stream, seeded by its subject. So the bytes of a
crop depend neither on the other crops nor on the order or the process in which they are drawn.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.archive.drawn.cameras import DrawnCamera, set_up
from pipeline.archive.drawn.crops import begin_walk, draw_crop
from pipeline.archive.drawn.palette import stream
from pipeline.archive.drawn.people import dress
from pipeline.errors import InputError
from pipeline.output_files import check_file_name, check_new_folder, name_write_errors


@dataclass(frozen=True)
class ArchiveCounts:
    """The number of crops in an archive; `gallery` includes distractors and junk."""

    identities: int
    cameras: int
    queries: int
    gallery: int
    distractors: int
    junk: int


@dataclass(frozen=True)
class Shot:
    """A crop to be drawn."""

    name: str  # folder and file name
    kind: str  # person, distractor or junk
    subject: int
    camera: int
    step: int


def draw_archive(
    root: Path,
    *,
    identities: int = 64,
    cameras: int = 4,
    crops_per_camera: int = 5,
    distractors: int = 120,
    junk: int = 40,
    seed: int = 0,
    first_identity: int = 1,
) -> ArchiveCounts:
    """Draw `root/query` and `root/bounding_box_test` as JPEG files with Market-1501 names.

    Two cameras or more see every identity, but not always all cameras. Each of them gives one query
    and `crops_per_camera` gallery crops. Distractors (`0000_...`) are strangers and empty
    backdrops; junk (`-1_...`) are badly cut crops of the listed people. The same arguments give the
    same bytes (with one Pillow, on one kind of machine); files that already have these bytes stay
    as they are.

    Raise InputError for counts out of range, and for a root that has any other file or cannot be
    written to.
    """
    for name, value, least in (
        ("identities", identities, 1),
        ("cameras", cameras, 2),
        ("crops_per_camera", crops_per_camera, 1),
        ("distractors", distractors, 0),
        ("junk", junk, 0),
        ("seed", seed, 0),
        ("first_identity", first_identity, 1),
    ):
        if value < least:
            raise InputError(f"{name} is {value}: a drawn archive needs {least} or more")
    people = range(first_identity, first_identity + identities)
    shots = [shot for person in people for shot in _seen(seed, person, cameras, crops_per_camera)]
    queries = sum(shot.name.startswith("query/") for shot in shots)
    for count, kind, label in ((distractors, "distractor", "0000"), (junk, "junk", "-1")):
        for i in range(count):
            camera = 1 + i % cameras
            name = f"bounding_box_test/{label}_c{camera}s1_{100 + 25 * i:06d}_01.jpg"
            subject = people[i % identities] if kind == "junk" else i
            shots.append(Shot(name, kind, subject, camera, i))
    _refuse_strange_files(root, {shot.name for shot in shots})
    check_new_folder(root)
    for folder in ("query", "bounding_box_test"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    setups = {number: set_up(seed, number) for number in range(1, cameras + 1)}
    write_shots(root, seed, shots, setups)
    gallery = len(shots) - queries
    return ArchiveCounts(identities, cameras, queries, gallery, distractors, junk)


def write_shots(
    root: Path, seed: int, shots: Sequence[Shot], setups: Mapping[int, DrawnCamera]
) -> None:
    """Draw crops into files below `root`; those that have these bytes already stay as they are."""
    for shot in shots:
        file, crop = root / shot.name, draw_shot(seed, shot, setups[shot.camera])
        if not file.exists() or file.read_bytes() != crop:
            with name_write_errors(file):
                file.write_bytes(crop)


def _refuse_strange_files(root: Path, names: set[str]) -> None:
    check_file_name(root)
    if root.exists() and not root.is_dir():
        raise InputError(f"{root} is a file: choose a folder to draw the archive in")
    for folder in ("query", "bounding_box_test"):
        for file in (root / folder).glob("*"):
            if f"{folder}/{file.name}" not in names:
                raise InputError(
                    f"{file} is not part of the archive to be drawn: choose a new folder"
                )


def _seen(seed: int, identity: int, cameras: int, crops: int) -> Iterator[Shot]:
    """Plan the crops of one identity, camera by camera; the first of each is its query."""
    rng = stream(seed, "visits", identity)
    met = [number for number in range(1, cameras + 1) if rng.random() < 0.85]
    if len(met) < 2:
        met = [1 + identity % cameras, 1 + (identity + 1) % cameras]
    for camera in sorted(met):
        frame = 25 * int(rng.integers(1, 4000))
        for step in range(crops + 1):
            folder = "bounding_box_test" if step else "query"
            stem = f"{identity:04d}_c{camera}s1_{frame + 12 * step:06d}_{min(step, 1):02d}"
            yield Shot(f"{folder}/{stem}.jpg", "person", identity, camera, step)


def draw_shot(seed: int, shot: Shot, camera: DrawnCamera) -> bytes:
    """Draw one crop as JPEG bytes."""
    rng = stream(seed, shot.kind, shot.subject, shot.camera, shot.step)
    if shot.kind == "distractor":
        stranger = dress(int(rng.integers(2**31)), 0) if rng.random() < 0.6 else None
        return draw_crop(stranger, camera, begin_walk(rng), rng)
    walk = begin_walk(stream(seed, "walk", shot.subject, shot.camera))
    person = dress(seed, shot.subject)
    if walk.bare_head:
        person = replace(person, hat="none")
    if walk.empty_handed:
        person = replace(person, bag="none")
    return draw_crop(person, camera, walk, rng, misplaced=shot.kind == "junk")
