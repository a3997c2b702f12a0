"""Folder names that are probably not people: splits of a data set, or cameras."""

import re
from collections.abc import Iterable, Sequence

_SPLIT = re.compile(
    r"(?:multi[-_]?|gt[-_])?(?:train|trainval|val|valid|validation|test|query|gallery|probe)"
    r"(?:[-_. ].*|set|ing|v?\d+)?"
    r"|(?:bbox|bounding[-_]box|mask)[-_].*"
    r"|.*[-_](?:train|val|test|query|gallery|probe|images|imgs|crops|split)"
    r"|images?|imgs?|crops?|data|jpg|png|rgb|distractors?",
    re.IGNORECASE,
)
_CAMERA = re.compile(
    r"(?:cam|camera)[-_ ]?(?:\d+|[a-z])?|c\d+(?:s\d+)?|visible|thermal|infrared", re.IGNORECASE
)
_FEW, _MANY = 3, 20


def is_split(text: str) -> bool:
    """Whether a folder has the usual name of a split of a data set or a container of images.

    >>> [is_split(text) for text in ("query", "bounding_box_test", "bbox_train", "teresa", "0007")]
    [True, True, True, False, False]
    """
    return _SPLIT.fullmatch(text) is not None


def names_split_or_camera(identities: Iterable[str], cameras: Iterable[str]) -> list[str]:
    """The texts that are probably not identities: splits, and cameras read as people.

    >>> names_split_or_camera(["cam_a", "cam_b", "alice"], ["north", "query"])
    ['cam_a', 'cam_b', 'query']
    """
    found = [text for text in identities if is_split(text) or _CAMERA.fullmatch(text)]
    return list(dict.fromkeys([*found, *filter(is_split, cameras)]))


def is_handful(people: Sequence[str]) -> bool:
    """Whether there are so few folders with so many images that they are probably not people."""
    distinct = len(set(people))
    return distinct < _FEW and len(people) > _MANY * distinct
