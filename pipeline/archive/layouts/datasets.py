"""The names of images in public data sets: a table, and the code that turns a line of it into a
reader.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from pipeline.archive.layouts.labels import NameLabels, whole_number

_FORMS = {
    "identity": r"(?P<identity>-1|\d+)",
    "camera": r"(?P<camera>\d+)",
    "letter": r"(?P<letter>[A-Za-z]+)",
    "frame": r"(?P<frame>\d+)",
    "clothes": r"(?P<clothes>\d+)",
    "group": r"(?P<group>\d+)",
    "more": r"(?P<more>\d+)",
    "last": r"(?P<last>\d+)",
    "number": r"\d+",
    "rest": r"[^/]*?",
    "word": r"[a-z]+",
    "any": r"[^/]+",
}
# CUHK03 numbers people within a pair of cameras; there are five pairs.
_PEOPLE_A_GROUP = 10_000
# In PRID 2011, both cameras see the first 200 people, and one camera each sees the others: the
# numbers of the latter repeat and mean other people.
_PRID_SHARED, _PRID_APART = 200, 10_000


@dataclass(frozen=True)
class DataSet:
    """A data set: the name of its layout, its own name, the form of its image names, and an
    example.

    A template is read as in `templates`, except for digits: {identity}, {camera}, {frame} and
    {number} are numbers, and {letter} is a camera given by letters. {more} and {last} are further
    digits of the identity. {word} and {rest} are not read, and only `clothes_reader` reads
    {clothes}. A template matches the end of a path; without a slash it matches the base name.
    `first_identity` is added if people are counted from 0. `example` is a name of that form, and
    `labels` are its labels. The pattern `tracklet` matches the beginning of a path, and its first
    group is the name of a tracklet.
    """

    name: str
    title: str
    templates: tuple[str, ...]
    example: str
    labels: NameLabels
    first_identity: int = 0
    reads: str = ""
    tracklet: str = ""

    @property
    def expects(self) -> str:
        """A description of the expected names."""
        plus = "; identities are stored plus 1" if self.first_identity else ""
        return f"a path such as {self.example}{self.reads and f' ({self.reads})'}{plus}"


DATA_SETS = (
    DataSet(
        "ltcc",
        "LTCC",
        ("{identity}_{clothes}_c{camera}_{frame}.{any}",),
        "train/094_1_c9_015923.png",
        NameLabels(95, "9", None, 15923),
        first_identity=1,
        reads="identity, clothes, camera, frame",
    ),
    DataSet(
        "prcc",
        "PRCC",
        (
            "{letter}/{identity}/cropped_rgb{frame}.{any}",
            "{identity}/{letter}_cropped_rgb{frame}.{any}",
        ),
        "rgb/test/A/001/cropped_rgb001.jpg",
        NameLabels(1, "a", None, 1),
        reads="camera, identity, frame",
    ),
    DataSet(
        "celeb-reid",
        "Celeb-reID",
        ("{identity}_{number}_{number}.{any}",),
        "query/1_2_0.jpg",
        NameLabels(1),
        reads="identity, photo; the names hold no camera",
    ),
    DataSet(
        "viper",
        "VIPeR",
        ("cam_{letter}/{identity}_{number}.{any}",),
        "cam_a/000_45.bmp",
        NameLabels(1, "a"),
        first_identity=1,
        reads="camera, identity, angle",
    ),
    DataSet(
        "grid",
        "QMUL GRID",
        ("{identity}_{camera}_{number}_{number}_{number}_{number}_{number}.{any}",),
        "probe/0005_2_25100_229_94_99_249.jpeg",
        NameLabels(5, "2"),
        reads="identity, camera, frame, box",
    ),
    DataSet(
        "prid",
        "PRID 2011",
        (
            "cam_{letter}/person_{identity}.{any}",
            "cam_{letter}/person_{identity}/{frame}.{any}",
        ),
        "single_shot/cam_a/person_0001.png",
        NameLabels(1, "a"),
        reads="camera, identity; those of camera b above 200 are others, stored plus 10000",
        tracklet=r"(.*cam_[A-Za-z]+/person_\d+)/\d+\.",
    ),
    DataSet(
        "occluded-duke",
        "Occluded-Duke",
        ("{identity}_c{camera}_f{frame}.{any}",),
        "query/0005_c2_f0046985.jpg",
        NameLabels(5, "2", None, 46985),
        reads="identity, camera, frame",
    ),
    DataSet(
        "occluded-reid",
        "Occluded-REID",
        ("{letter}_body_images/{identity}/{any}.{any}",),
        "occluded_body_images/001/001_01.tif",
        NameLabels(1, "occluded"),
        reads="occluded or whole stands for the camera, then the identity",
    ),
    DataSet(
        "p-dukemtmc",
        "P-DukeMTMC-reID",
        (
            "{letter}_body_images/{any}/{identity}_{any}.{any}",
            "{letter}_body_images/{identity}_{any}.{any}",
        ),
        "test/occluded_body_images/0005/0005_c2_f0046985.jpg",
        NameLabels(5, "occluded"),
        reads="occluded or whole stands for the camera, as in its protocol; then the identity",
    ),
    DataSet(
        "mars",
        "MARS",
        (
            "{identity}C{camera}T{number}F{frame}.{any}",
            "00{identity}C{camera}T{number}F{frame}.{any}",
        ),
        "bbox_test/0002/0002C1T0001F001.jpg",
        NameLabels(2, "1", None, 1, "0002C1T0001"),
        reads="identity (00-1 is junk), camera, tracklet, frame of the tracklet",
        tracklet=r"(?:.*/)?([^/]*T\d+)F",
    ),
    DataSet(
        "dukemtmc-videoreid",
        "DukeMTMC-VideoReID",
        (
            "{identity}C{camera}F{number}X{frame}.{any}",
            "{identity}_C{camera}_F{number}_X{frame}.{any}",
            "{identity}C{camera}F{number}D{frame}.{any}",
            "{identity}_C{camera}_F{number}_D{frame}.{any}",
        ),
        "query/0001/0003/0001_C6_F0099_X30823.jpg",
        NameLabels(1, "6", None, 30823, "query/0001/0003"),
        reads="identity, camera, frame of the tracklet and of the video; a folder is a tracklet",
        tracklet=r"((?:.*/)?(\d+)/[^/]+)/\2_?C",
    ),
    DataSet(
        "sysu-mm01",
        "SYSU-MM01",
        ("cam{camera}/{identity}/{frame}.{any}",),
        "cam1/0001/0012.jpg",
        NameLabels(1, "1", None, 12),
        reads="camera, identity, photo",
    ),
    DataSet(
        "regdb",
        "RegDB",
        ("{letter}/{identity}/{word}_{word}_{word}_{frame}_{number}.{any}",),
        "Visible/168/male_front_v_04111_168.bmp",
        NameLabels(168, "visible", None, 4111),
        reads="Visible or Thermal is the camera, then the identity",
    ),
    DataSet(
        "cuhk03-images",
        "CUHK03 as images",
        ("{group}_{identity}_{camera}_{number}.{any}",),
        "images_detected/1_002_1_03.png",
        NameLabels(10_002, "1"),
        reads="pair of cameras, identity, camera, photo; identities are pair x 10000 + number",
    ),
    DataSet(
        "ag-reid",
        "AG-ReID",
        ("P{identity}T{more}A{last}{rest}C{camera}F{frame}{rest}.{any}",),
        "query_all_c0/P0001T02190A2C0F00101.jpg",
        NameLabels(1_021_902, "0", None, 101),
        reads="the digits after P, T and A together are the identity; camera, frame",
    ),
    DataSet(
        "entire-id",
        "ENTIRe-ID",
        ("{identity}_c{camera}s{number}_{frame}.{any}", "{identity}_c{camera}_{frame}.{any}"),
        "00009_c021s0_760487.jpg",
        NameLabels(9, "21", None, 760487),
        reads="identity, camera, sequence, frame",
    ),
)
"""The data sets whose labels are entirely in the names, in addition to those of `named`."""


def reader(data_set: DataSet) -> Callable[[str], NameLabels | None]:
    """Make the function that reads a path's labels; the function returns None if the path does not
    match.
    """
    patterns = [_compiled(template) for template in data_set.templates]
    tracklet = re.compile(data_set.tracklet, re.ASCII)

    def read(path: str) -> NameLabels | None:
        for pattern in patterns:
            if found := pattern.fullmatch(path):
                labels = _labels(data_set, found.groupdict())
                if data_set.tracklet and (named := tracklet.match(path)):
                    return labels._replace(tracklet=named[1])
                return labels
        return None

    return read


CLOTHES = ("ltcc", "prcc")
"""The data sets that have labels of clothes."""


def clothes_reader(data_set: DataSet) -> Callable[[str], int | None]:
    """Make the function that reads the number of a person's outfit from a path of one of `CLOTHES`.

    In PRCC, people wear one outfit under cameras A and B, and another under C.

    >>> read = {each.name: clothes_reader(each) for each in DATA_SETS if each.name in CLOTHES}
    >>> read["ltcc"]("094_1_c9_015923.png"), read["prcc"]("rgb/test/C/001/cropped_rgb001.jpg")
    (1, 2)
    """
    patterns = [_compiled(template) for template in data_set.templates]

    def read(path: str) -> int | None:
        for pattern in patterns:
            if found := pattern.fullmatch(path):
                if data_set.name == "prcc":
                    return 2 if found["letter"] in "cC" else 1
                return whole_number(found["clothes"])
        return None

    return read


def _compiled(template: str) -> re.Pattern[str]:
    parts = re.split(r"\{([a-z]+)\}", template)
    pattern = "".join(
        _FORMS[part] if place % 2 else re.escape(part) for place, part in enumerate(parts)
    )
    return re.compile(rf"(?:.*/)?{pattern}", re.ASCII)


def _labels(data_set: DataSet, found: dict[str, str | None]) -> NameLabels:
    text = found["identity"] or ""
    identity = whole_number(text + (found.get("more") or "") + (found.get("last") or ""))
    letter, camera, frame = found.get("letter"), found.get("camera"), found.get("frame")
    if group := found.get("group"):
        identity += _PEOPLE_A_GROUP * whole_number(group)
    if data_set.name == "prid" and letter == "b" and identity > _PRID_SHARED:
        identity += _PRID_APART
    if identity >= 0:
        identity += data_set.first_identity
    return NameLabels(
        identity=identity,
        camera=letter.lower() if letter else camera and str(whole_number(camera)),
        frame=None if frame is None else whole_number(frame),
    )
