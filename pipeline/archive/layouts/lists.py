"""Data sets with labels in list files beside the images: VehicleID, VRIC, VeRi-Wild."""

import posixpath
import re
from collections.abc import Callable
from dataclasses import dataclass

from fsspec import AbstractFileSystem

from pipeline.archive.layouts.labels import LayoutError, NameLabels, camera_name, whole_number
from pipeline.archive.locations import locate
from pipeline.errors import InputError


@dataclass(frozen=True)
class ListedSet:
    """A data set with lists: its name, the names of the lists, and the form of their lines.

    `line` has the groups image, identity and perhaps camera. `plus` is added to an identity,
    because some lists number a vehicle 0. `kind` finds the kind of image of a list or a path, for
    data sets whose image names are unique only within a kind. `header` means that a list begins
    with a line of titles.
    """

    name: str
    files: str
    shown: str
    line: str
    form: str
    plus: int = 0
    kind: str | None = None
    header: bool = False

    @property
    def expects(self) -> str:
        """A description of the expected names."""
        return f"an image that {self.shown} names"


LISTED = {
    each.name: each
    for each in (
        ListedSet(
            "vehicleid",
            r"train_list\.txt|test_list_.*\.txt|img2vid\.txt",
            "train_list.txt, a test_list_*.txt or img2vid.txt",
            r"(?P<image>\S+)\s+(?P<identity>\d+)",
            "IMAGE VEHICLE",
            plus=1,
        ),
        ListedSet(
            "vric",
            r"vric_(?:train|probe|gallery)\.txt",
            "vric_train.txt, vric_probe.txt or vric_gallery.txt",
            r"(?P<image>\S+)\s+(?P<identity>\d+)\s+(?P<camera>\S+)",
            "IMAGE VEHICLE CAMERA",
            plus=1,
            kind=r"vric_(train|probe|gallery)\.txt$|(?:^|/)(train|probe|gallery)_images(?:/|$)",
        ),
        ListedSet(
            "veri-wild",
            r"vehicle_info\.txt",
            "vehicle_info.txt",
            r"(?P<identity>\d+)/(?P<image>[^;/]+);(?P<camera>[^;]*)(?:;.*)?",
            "VEHICLE/IMAGE;CAMERA;...",
            plus=1,
            header=True,
        ),
    )
}
"""The data sets by the names of their layouts."""


def reader(listed: ListedSet, source: str) -> Callable[[str], NameLabels | None]:
    """Make the function that reads a path's labels from the list files of the copy at `source`.

    `source` is the data set's folder or its folder of images. The lists are there, in
    `train_test_split` or `attribute`, or in the folder above. Raise InputError if the list is
    missing, or if two lists differ.
    """
    filesystem, base = locate(source)
    labels: dict[str, NameLabels] = {}
    for path in _lists(filesystem, base, re.compile(listed.files)):
        _read_list(filesystem, path, listed, labels)
    if not labels:
        raise InputError(
            f"layout {listed.name}: no {listed.shown} in {source}, in "
            "its train_test_split or attribute, or beside it"
        )

    def read(path: str) -> NameLabels | None:
        image = path.rpartition("/")[2].partition(".")[0]
        return labels.get(_kind(listed, f"{base}/{path}") + image)

    return read


def _kind(listed: ListedSet, path: str) -> str:
    found = re.findall(listed.kind, path) if listed.kind else []
    return "".join(found[-1]) + "/" if found else ""


def _lists(filesystem: AbstractFileSystem, base: str, names: re.Pattern[str]) -> list[str]:
    found = []
    for folder in (base, posixpath.dirname(base.rstrip("/"))):
        for place in (folder, f"{folder}/train_test_split", f"{folder}/attribute"):
            if filesystem.isdir(place):
                files = filesystem.ls(place, detail=False)
                found += [path for path in files if names.fullmatch(posixpath.basename(path))]
        if found:
            break
    return sorted(found)


def _read_list(
    filesystem: AbstractFileSystem, path: str, listed: ListedSet, labels: dict[str, NameLabels]
) -> None:
    pattern, kind = re.compile(listed.line), _kind(listed, path)
    lines = filesystem.cat_file(path).decode("utf-8", "replace").splitlines()
    for number, line in enumerate(lines, start=1):
        if not line.strip() or (listed.header and number == 1):
            continue
        found = pattern.fullmatch(line.strip())
        try:
            if found is None:
                raise LayoutError("it is of another form")
            identity = whole_number(found["identity"], plus=listed.plus)
        except LayoutError as error:
            raise InputError(
                f"{path}, line {number}: expected {listed.form}, got {line!r}"
            ) from error
        camera = found.groupdict().get("camera")
        read = NameLabels(identity, None if camera is None else camera_name(camera))
        image = found["image"].partition(".")[0]
        known = labels.setdefault(kind + image, read)
        if known != read:
            raise InputError(
                f"{path}, line {number}: image {image} is vehicle {found['identity']} here and "
                f"{(known.identity or 0) - listed.plus} in another list"
            )
