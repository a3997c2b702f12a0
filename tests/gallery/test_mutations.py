"""A file of every kind is changed, cut, deleted, exchanged or copied: `verify` names it.

The changes are drawn from a seed. One small gallery has all kinds of files: several versions with
rejects and removed rows, checkpoints, thresholds, statistics of cameras, maps, a neighbor graph,
and the plan, the units and the attempts of a run that was interrupted.
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipeline.core.cameras.sums import camera_sums
from pipeline.core.maps.settings import MapSettings
from pipeline.core.neighbors.topk import search
from pipeline.gallery.log import transactions as log
from pipeline.gallery.log.lock import hold
from pipeline.gallery.map_files import GalleryMap, write_map
from pipeline.gallery.sidecars import attempts
from pipeline.gallery.sidecars.calibrations import write_calibration
from pipeline.gallery.sidecars.camera_statistics import write_camera_sums
from pipeline.gallery.sidecars.graph import About, Graph, Origin
from pipeline.gallery.sidecars.plan import write_plan
from pipeline.gallery.sidecars.seen import add_seen
from pipeline.gallery.upkeep.leftovers import clean
from pipeline.gallery.upkeep.verify import verify, verify_at
from tests.gallery.making import new_gallery, unit, unit_vectors

pytestmark = pytest.mark.slow

KINDS = {
    "rows": r"\d{12}-[^/]+\.parquet",
    "log entry": r"_delta_log/\d{20}\.json",
    "checkpoint": r"_delta_log/.*\.checkpoint\.parquet",
    "last checkpoint": r"_delta_log/_last_checkpoint",
    "record of the log": r"_checksums/_delta_log\.json",
    "record of a file": r"(_graph/[^/]+/)?_checksums/(?!_delta_log).*\.json",
    "rejects": r"_rejects/.*\.parquet",
    "rejects of a unit": r"_units/.*\.parquet",
    "attempts": r"_units/.*\.attempts",
    "threshold": r"_calibrations/.*\.json",
    "cameras": r"_cameras/.*\.parquet",
    "map": r"_maps/.*\.parquet",
    "graph": r"_graph/[^/_]+/[^/]*",
    "plan": r"_plan\.parquet",
    "seen": r"_seen\.parquet",
}
LOG_RECORD = "_checksums/_delta_log.json"
FLIPS, CUTS, DELETIONS, COPIES, EXCHANGES = 5, 3, 2, 4, 3
A_KIND = FLIPS + CUTS + DELETIONS + COPIES + EXCHANGES


def gallery_of_all_kinds(folder, *, is_cleaned):
    """The gallery, and the bytes of each of its files by name."""
    gallery = new_gallery(folder / "g")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log, "CHECKPOINT_INTERVAL", 3)
        for number in range(2):
            first = 20 * number
            units = [
                unit(gallery.target, range(first, first + 10)),
                unit(gallery.target, range(first + 10, first + 20), rejected=[first + 12]),
            ]
            gallery = gallery.commit(units, run_id=f"day {number}")
            fill_beside(gallery)
            gallery = gallery.commit([], run_id=f"out {number}", removes=[first + 3])
        fill_beside(gallery)
    if is_cleaned:
        with hold(gallery.location, "clean") as lock:
            clean(gallery, lock, keep=3)
    unfinished(gallery)
    root = Path(gallery.location)
    files = {str(path.relative_to(root)): path for path in root.rglob("*") if path.is_file()}
    assert verify(gallery, all_versions=True).findings == ()
    return root, {name: path.read_bytes() for name, path in sorted(files.items())}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return gallery_of_all_kinds(tmp_path_factory.mktemp("mutations"), is_cleaned=False)


@pytest.fixture(scope="module")
def cleaned(tmp_path_factory):
    return gallery_of_all_kinds(tmp_path_factory.mktemp("mutations"), is_cleaned=True)


def fill_beside(gallery):
    """What verbs that read a gallery keep of a version."""
    write_calibration(gallery, {"threshold": 0.9, "rule": "far"})
    names = ["c0", "c1", "c2"]
    camera = np.array([names.index(c) for c in gallery.rows(["camera"])["camera"].to_pylist()])
    write_camera_sums(gallery, names, camera_sums(gallery.features(), camera, len(names)))
    ids, version = gallery.row_ids(), gallery.version
    points = np.arange(2 * len(ids), dtype=np.float32).reshape(-1, 2)
    write_map(gallery, GalleryMap(ids, points, version, MapSettings(), 0, version))


def unfinished(gallery):
    """A graph, touched images, and a run that was interrupted."""
    rows = unit_vectors(range(25))
    about = About(Origin(gallery.location, 1, "f"), 25, rows.shape[1], 3, False, "", 10)
    graph = Graph.begin(Path(gallery.location) / "_graph" / "round-0", about, np.arange(25))
    near = search(rows, rows, 3, self_offset=0)
    for number, (start, stop) in enumerate(graph.blocks):
        graph.write(number, type(near)(near.scores[start:stop], near.rows[start:stop]))
    touched = pa.table({"row_id": [1, 2], "mtime": [datetime.now(UTC)] * 2})
    add_seen(gallery.location, touched, gallery.row_ids())
    write_plan(gallery.location, pa.table({"path": ["a", "b"], "row_id": [40, 41]}))
    unit(gallery.target, range(40, 50), rejected=[42])
    unit(gallery.target, range(50, 53), rejected=range(50, 53))
    for name in ("u53x55", "u55x57"):
        attempts.note_attempt(gallery.target, name)
    attempts.note_attempt(gallery.target, "u55x57")


@pytest.mark.parametrize("kind", KINDS)
def test_a_mutation_is_seen_and_the_file_named(made, kind):
    check_every(kind, *made)


@pytest.mark.parametrize(
    "kind", ["log entry", "checkpoint", "last checkpoint", "record of the log"]
)
def test_a_mutation_of_a_log_that_lost_its_old_versions(cleaned, kind):
    check_every(kind, *cleaned)


def check_every(kind, root, good):
    names = [name for name in good if re.fullmatch(KINDS[kind], name)]
    random = np.random.default_rng(list(KINDS).index(kind))
    count, missed = 0, []
    for what, changed, wanted in mutations(good, names, random):
        count += 1
        try:
            for name, data in changed.items():
                put(root / name, data)
            told = all_that_is_told(root)
        finally:
            for name in changed:
                put(root / name, good.get(name))
        missed += [f"{what}: {name} is not named in {told}" for name in wanted if name not in told]
    assert missed == []
    assert count == A_KIND
    assert all_that_is_told(root) == ""


def put(path: Path, data: bytes | None) -> None:
    path.unlink() if data is None else path.write_bytes(data)


def all_that_is_told(root: Path) -> str:
    found = verify_at(str(root), all_versions=True)
    return "\n".join(f"{each.file}: {each.problem}" for each in found.findings)


Mutation = tuple[str, dict[str, bytes | None], list[str]]


def mutations(
    good: dict[str, bytes], names: list[str], random: np.random.Generator
) -> Iterator[Mutation]:
    """What is done, the files as they are after it, and the files that are to be named."""

    def some(among: list[str]) -> str:
        return among[random.integers(len(among))]

    for _ in range(FLIPS):
        name = some(names)
        data = bytearray(good[name])
        data[random.integers(len(data))] ^= 1 << random.integers(8)
        yield "flip", {name: bytes(data)}, [name]
    for number in range(CUTS):
        name = some(names)
        size = (0, len(good[name]) - 1)[number] if number < 2 else random.integers(len(good[name]))
        yield f"cut to {size}", {name: good[name][:size]}, [name]
    for _ in range(DELETIONS):
        name = some(names)
        yield "delete", {name: None}, [name]
    for number in range(COPIES):
        name = some(names)
        copy = copies(name)[number]
        if copy not in good:
            yield f"copy of {name}", {copy: good[name]}, [copy]
        else:
            yield f"{name} over", {copy: good[name]}, [copy]
    for number in range(EXCHANGES):
        one = some(names)
        others = names if number < 2 and len({good[name] for name in names}) > 1 else list(good)
        # Without its record nothing is known of the log's other files.
        others = [each for each in others if each != LOG_RECORD]
        other = some([each for each in others if good[each] not in (good[one], b"")])
        yield f"exchange with {other}", {one: good[other], other: good[one]}, [one]


def copies(name: str) -> list[str]:
    """Names for copies of a file: odd ones, and one that the next file of the kind could have."""
    folder, slash, last = name.rpartition("/")
    number = re.match(r"\d+", last)
    later = f"{int(number[0]) + 1000:0{len(number[0])}d}{last[number.end() :]}" if number else last
    return [
        f"{folder}{slash}copy-of-{last}",
        f"{name}.bak",
        f"{folder}{slash}{later if later != last else 'x' + last}",
        f"copy{Path(name).suffix}",
    ]
