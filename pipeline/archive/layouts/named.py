"""Layouts: the ways to read identity, camera and time from a source's paths."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from difflib import get_close_matches

from pipeline.archive.layouts import datasets, lists, templates
from pipeline.archive.layouts.labels import (
    LayoutError,
    NameLabels,
    camera_name,
    identity_of,
    whole_number,
)
from pipeline.archive.layouts.rules import AS_THEY_ARE, LabelSettings
from pipeline.archive.layouts.suspects import is_handful, names_split_or_camera
from pipeline.errors import InputError

_IMAGE_FOLDER, _NONE = "image-folder", "none"
_UNNAMED = (_NONE, "occluded-duke")  # the latter's names are those of dukemtmc


@dataclass(frozen=True)
class Layout:
    """A way to read labels from paths: its name, and a description of the names that it expects."""

    name: str
    expects: str
    read: Callable[[str], NameLabels | None]
    # Patterns of two kinds of paths that a source must not mix, because each kind counts its
    # identities from the start.
    apart: tuple[re.Pattern[str], re.Pattern[str]] | None = None
    # The texts in a path from which labels are made, if the user said where they are.
    texts: Callable[[str], dict[str, str] | None] | None = None
    # Whether paths may name tracklets.
    tracklets: bool = False

    def parse(self, path: str) -> NameLabels:
        """The labels of the image at `path`, relative to the source's root.

        Raise LayoutError, which has the name and the expected form.

        >>> layout("market1501").parse("2024_c1/0002_c12s1_000451_03.jpg")[:4]
        (2, '12', None, 451)
        """
        try:
            labels = self.read(path)
        except LayoutError as error:
            raise LayoutError(f"{path}: {error}; layout {self.name}") from error
        if labels is None:
            raise LayoutError(f"{path} does not fit layout {self.name}: expected {self.expects}")
        return labels

    def check_apart(self, paths: Iterable[str]) -> None:
        """Raise InputError where `paths` mix two kinds whose identities are counted separately."""
        if self.apart is None:
            return
        first: list[str | None] = [None, None]
        for path in paths:
            for kind, pattern in enumerate(self.apart):
                if first[kind] is None and pattern.search(path):
                    first[kind] = path
            if first[0] and first[1]:
                raise InputError(
                    f"layout {self.name} counts the identities of {first[0]} and of {first[1]} "
                    "separately, so that one number means two people: list one of the folders"
                )


def _base_name(*patterns: str, first_identity: int = 0) -> Callable[[str], NameLabels | None]:
    """Make a reader of base names; `first_identity` is added if a data set counts people from 0."""
    compiled = [re.compile(pattern + r"(?:\.\w+)+", re.ASCII) for pattern in patterns]

    def read(path: str) -> NameLabels | None:
        name = path.rpartition("/")[2]
        for pattern in compiled:
            if found := pattern.fullmatch(name):
                frame = found.groupdict().get("frame")
                return NameLabels(
                    identity=whole_number(found["identity"], plus=first_identity),
                    camera=str(whole_number(found["camera"])),
                    frame=None if frame is None else whole_number(frame),
                )
        return None

    return read


def _folder_texts(path: str) -> dict[str, str] | None:
    folders = path.split("/")[:-1]
    if len(folders) not in (1, 2):
        return None
    return dict(zip(("identity", "camera"), reversed(folders), strict=False))


def _image_folder(path: str, settings: LabelSettings = AS_THEY_ARE) -> NameLabels | None:
    texts = _folder_texts(path)
    if texts is None:
        return None
    return NameLabels(
        identity=identity_of(texts["identity"], settings.first_identity),
        camera=camera_name(texts["camera"]) if "camera" in texts else None,
    )


_LAYOUTS = {
    known.name: known
    for known in (
        Layout(
            "market1501",
            "a base name such as 0002_c1s1_000451_03.jpg (identity, camera, sequence, frame, box)",
            _base_name(r"(?P<identity>-1|\d+)_c(?P<camera>\d+)s\d+_(?P<frame>\d+)_\d+"),
        ),
        Layout(
            "msmt17",
            "a base name such as 0000_000_01_0303morning_0015_0.jpg (identity, photo, camera, day, "
            "..) or 0781_c11_0015.jpg (identity, camera, photo); identities are stored plus 1",
            # The day has no year, and the fifth field has no documented meaning: neither becomes a
            # label.
            _base_name(
                r"(?P<identity>\d+)_\d+_(?P<camera>\d+)_\d{4}[a-z]+_\d+_\d+(?:_ex)?",
                r"(?P<identity>\d+)_c(?P<camera>\d+)_\d+",
                first_identity=1,
            ),
            apart=(
                re.compile(r"(?:^|/)(?:mask_|bounding_box_)?train(?:_v2)?/"),
                re.compile(r"(?:^|/)(?:(?:mask_|bounding_box_)?test(?:_v2)?|query|gallery)/"),
            ),
        ),
        Layout(
            "dukemtmc",
            "a base name such as 0005_c2_f0046985.jpg (identity, camera, frame)",
            _base_name(r"(?P<identity>-1|\d+)_c(?P<camera>\d+)_f(?P<frame>\d+)"),
        ),
        Layout(
            "cuhk03-np",
            "a base name such as 0001_c1_1.png (identity, camera, photo)",
            _base_name(r"(?P<identity>-1|\d+)_c(?P<camera>\d+)_\d+(?:_\d+)?"),
        ),
        Layout(
            "veri776",
            "a base name such as 0002_c002_00030600_0.jpg (identity, camera, frame, box)",
            _base_name(r"(?P<identity>-1|\d+)_c(?P<camera>\d+)_(?P<frame>\d+)_\d+"),
        ),
        *(
            Layout(each.name, each.expects, datasets.reader(each), tracklets=bool(each.tracklet))
            for each in datasets.DATA_SETS
        ),
        Layout(
            _IMAGE_FOLDER,
            "IDENTITY/FILE or CAMERA/IDENTITY/FILE below the source's root",
            _image_folder,
            texts=_folder_texts,
        ),
        Layout(_NONE, "any name", lambda _: NameLabels()),
    )
}

NAMES = (*(name for name in _LAYOUTS if name != _NONE), *lists.LISTED, _NONE)
"""The names that `layout` knows."""


def layout(name: str, source: str | None = None, settings: LabelSettings = AS_THEY_ARE) -> Layout:
    """The layout of that name, or of that path template (see `templates.reader`).

    `source` is the source folder, which is needed for data sets with labels in list files. Raise
    InputError for an unknown name, a wrong template, and settings that the layout does not use.

    >>> layout("{camera}/{identity}_{frame}.jpg").parse("north/0007_15.jpg").identity
    7
    """
    if "{" in name or "}" in name:
        read = templates.reader(name, settings)
        texts, tracklets = templates.text_reader(name), "{tracklet}" in name
        return Layout(name, "a path of that form", read, texts=texts, tracklets=tracklets)
    if name == _IMAGE_FOLDER:
        return replace(_LAYOUTS[name], read=lambda path: _image_folder(path, settings))
    if settings.first_identity != 1 and name in NAMES and name != _NONE:
        raise InputError(
            f"layout {name} knows how its people are counted: `first_identity` is for templates, "
            "image-folder and manifests"
        )
    if name in lists.LISTED:
        listed = lists.LISTED[name]
        if source is None:
            raise InputError(f"layout {name} reads list files beside the images: give the source")
        return Layout(name, listed.expects, lists.reader(listed, source))
    if name in _LAYOUTS:
        return _LAYOUTS[name]
    near = get_close_matches(name, NAMES, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise InputError(
        f"no layout is called {name!r}; {hint}there are {', '.join(NAMES)}, and templates such as "
        "{camera}/{identity}_{frame}.jpg"
    )


def fitting(paths: Iterable[str]) -> list[str]:
    """The names of the layouts that match every one of `paths`, for a hint.

    image-folder matches almost everything. It is named only if no other layout matches and the
    folders may well be people: none has the name of a split or a camera, and the images are not all
    in a few folders.

    >>> fitting(["gallery/0005_c2_f0046985.jpg"]), fitting(["gallery/alice/1.jpg"])
    (['dukemtmc'], [])
    >>> fitting(["north/alice/1.jpg", "north/bob/1.jpg"])
    ['image-folder']
    """
    examples = list(paths)

    def fits(known: Layout) -> bool:
        try:
            return all(known.read(path) for path in examples)
        except LayoutError:
            return False

    names = [known.name for known in _LAYOUTS.values() if known.name not in _UNNAMED]
    names = [name for name in names if fits(_LAYOUTS[name])]
    if names != [_IMAGE_FOLDER]:
        return [name for name in names if name != _IMAGE_FOLDER]
    texts = [_folder_texts(path) or {} for path in examples]
    people = [text["identity"] for text in texts]
    suspicious = names_split_or_camera(people, [text.get("camera", "") for text in texts])
    return [] if suspicious or is_handful(people) else names
