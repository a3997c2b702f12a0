"""VehicleID, whose images are only numbered: its labels stand in list files beside them."""

import posixpath
from collections.abc import Callable

from fsspec import AbstractFileSystem

from pipeline.archive.layouts.labels import Labels, LayoutError, whole_number
from pipeline.archive.locations import locate
from pipeline.errors import InputError

NAME = "vehicleid"
EXPECTS = "an image that train_list.txt, a test_list_*.txt or img2vid.txt names"


def reader(source: str) -> Callable[[str], Labels | None]:
    """The function that reads a path's labels by the list files of the VehicleID copy at `source`.

    `source` is the dataset's folder or its folder `image`. The lists (`train_list.txt`,
    `test_list_*.txt`, `img2vid.txt`) stand there, or in `train_test_split` and `attribute`; a line
    is `IMAGE VEHICLE`. The dataset tells no camera. Vehicles are stored plus 1, for 0 would be a
    distractor. Raises InputError where there is no list, or where two lists differ.
    """
    filesystem, base = locate(source)
    vehicles: dict[str, int] = {}
    for path in _lists(filesystem, base):
        _read_list(filesystem, path, vehicles)
    if not vehicles:
        raise InputError(
            f"layout vehicleid: no train_list.txt, test_list_*.txt or img2vid.txt in {source}, in "
            "its train_test_split or attribute, or beside it"
        )

    def read(path: str) -> Labels | None:
        vehicle = vehicles.get(path.rpartition("/")[2].partition(".")[0])
        return None if vehicle is None else Labels(identity=vehicle)

    return read


def _lists(filesystem: AbstractFileSystem, base: str) -> list[str]:
    found = []
    for folder in (base, posixpath.dirname(base.rstrip("/"))):
        for place in (folder, f"{folder}/train_test_split", f"{folder}/attribute"):
            if not filesystem.isdir(place):
                continue
            for path in filesystem.ls(place, detail=False):
                name = posixpath.basename(path)
                if name in ("train_list.txt", "img2vid.txt") or (
                    name.startswith("test_list_") and name.endswith(".txt")
                ):
                    found.append(path)
        if found:
            break
    return sorted(found)


def _read_list(filesystem: AbstractFileSystem, path: str, vehicles: dict[str, int]) -> None:
    lines = filesystem.cat_file(path).decode("utf-8", "replace").splitlines()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            image, text = line.split()
            vehicle = whole_number(text, plus=1)
        except (ValueError, LayoutError) as error:
            raise InputError(
                f"{path}, line {number}: expected IMAGE VEHICLE, got {line!r}"
            ) from error
        image = image.partition(".")[0]
        if vehicles.setdefault(image, vehicle) != vehicle:
            raise InputError(
                f"{path}, line {number}: image {image} is vehicle {text} here and "
                f"{vehicles[image] - 1} in another list"
            )
