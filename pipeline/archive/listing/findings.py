"""The labels that a listing found, in a form for people, and warnings about odd ones."""

import logging
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.archive.layouts.labels import looks_like_number
from pipeline.archive.layouts.named import Layout
from pipeline.archive.layouts.rules import LabelSettings
from pipeline.archive.layouts.suspects import names_split_or_camera
from pipeline.archive.listing import tars

JUNK, DISTRACTOR = -1, 0
_SHOWN = 5
_READ_AT_ONCE = 1_000_000

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FoundLabels:
    """The numbers of identities and cameras, the first few of each, and one image's labels.

    `identities` counts people; `junk`, `distractors` and `unknown` count images whose identity is
    -1, 0 or null.
    """

    identities: int
    first_identities: tuple[int, ...]
    cameras: int
    first_cameras: tuple[str, ...]
    junk: int
    distractors: int
    unknown: int
    example: str
    example_identity: int | None
    example_camera: str | None


def found_labels(images: pa.Table) -> FoundLabels | None:
    """The labels of the rows of a manifest; None if no row has an identity or a camera."""
    identity, camera = images["identity"], images["camera"]
    if not len(images) or identity.null_count == camera.null_count == len(images):
        return None
    people = pc.unique(identity).drop_null()
    people = people.filter(pc.greater(people, DISTRACTOR)).sort()
    names = pc.unique(camera).drop_null().sort()
    counts = {value: pc.sum(pc.equal(identity, value)).as_py() or 0 for value in (JUNK, DISTRACTOR)}
    shown = pc.index(pc.is_valid(identity if len(people) else camera), True).as_py()
    example = images.slice(shown, 1).to_pylist()[0]
    return FoundLabels(
        identities=len(people),
        first_identities=tuple(people[:_SHOWN].to_pylist()),
        cameras=len(names),
        first_cameras=tuple(_by_number(names.to_pylist())[:_SHOWN]),
        junk=counts[JUNK],
        distractors=counts[DISTRACTOR],
        unknown=identity.null_count,
        example=example["path"],
        example_identity=example["identity"],
        example_camera=example["camera"],
    )


def warn(
    root: str,
    images: pa.Table,
    found: FoundLabels,
    layout: Layout,
    settings: LabelSettings,
    *,
    of_manifest: bool,
    inside: str = "",
) -> None:
    """Warn of odd labels in a listing; their identities may come from a manifest.

    `inside` is the common beginning of all paths, which the layout does not read.
    """
    of_user = of_manifest or layout.texts is not None
    if found.distractors and found.identities and of_user and settings.first_identity == 1:
        _log.warning(
            "%s: %d images of identity 0 are distractors, which match nobody; if these labels count"
            " people from 0, give `first_identity` 0", root, found.distractors
        )  # fmt: skip
    if layout.texts is None or of_manifest:
        return
    identities, cameras = _texts(images, layout, inside)
    if suspicious := names_split_or_camera(identities, cameras):
        _log.warning(
            "%s: folders called %s are read as labels by layout %s, and hardly name people or"
            " cameras; the example is %s", root, ", ".join(suspicious[:_SHOWN]), layout.name,
            found.example,
        )  # fmt: skip
    if odd := [text for text in identities if looks_like_number(text)]:
        _log.warning(
            "%s: %d identities look like numbers and cannot be read as such; each is taken for a"
            " name: %s", root, len(odd), ", ".join(odd[:_SHOWN])
        )  # fmt: skip


def _texts(images: pa.Table, layout: Layout, inside: str) -> tuple[list[str], list[str]]:
    """The texts in the paths that are read as identities and as cameras, each text once.

    For each identity under each camera, one path is read per million images.
    """
    identities: dict[str, None] = {}
    cameras: dict[str, None] = {}
    for start in range(0, len(images), _READ_AT_ONCE):
        part = images.select(["path", "identity", "camera"]).slice(start, _READ_AT_ONCE)
        first = part.group_by(["identity", "camera"]).aggregate([("path", "min")])
        for path in first["path_min"].to_pylist():
            seen = tars.as_folder(path).removeprefix(inside)
            texts = (layout.texts(seen) if layout.texts else None) or {}
            for of_kind, text in (
                (identities, texts.get("identity")),
                (cameras, texts.get("camera")),
            ):
                if text:
                    of_kind[text] = None
    return list(identities), list(cameras)


def _by_number(names: list[str]) -> list[str]:
    """Sort names, numbers first and by their value.

    >>> _by_number(["10", "2", "north"])
    ['2', '10', 'north']
    """
    return sorted(
        names, key=lambda name: (not name.isdecimal(), int(name) if name.isdecimal() else 0, name)
    )
