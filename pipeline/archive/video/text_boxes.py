"""Read boxes from text: MOTChallenge, one file per video, and YOLO, one file per frame."""

import math
import re
from collections.abc import Iterable

from pipeline.archive.video.boxes import Boxes, box_table
from pipeline.errors import InputError

_MOT = "frame,id,left,top,width,height[,confidence,class,visibility]"
_FRAME_OF_FILE = re.compile(r"(?:^|\D)(\d+)\.txt$")


def read_mot(text: str, name: str) -> Boxes:
    """Read the boxes of a MOTChallenge file.

    Frames and corners count from 1; an id of -1 means no track, and a confidence of -1 means
    unknown. Raise InputError for a line of another form.
    """
    rows = [_numbers(line, name, number, ",") for number, line in _lines(text)]
    for (number, _), row in zip(_lines(text), rows, strict=True):
        if len(row) < 6 or row[0] != int(row[0]) or row[0] < 1:
            raise InputError(f"{name}, line {number}: not of the form {_MOT}, frames from 1")
    columns = {
        "frame": [int(row[0]) - 1 for row in rows],
        "track": [None if row[1] < 0 else _name(row[1]) for row in rows],
        "x": [row[2] - 1 for row in rows],
        "y": [row[3] - 1 for row in rows],
        "width": [row[4] for row in rows],
        "height": [row[5] for row in rows],
        "confidence": [row[6] if len(row) > 6 and row[6] >= 0 else None for row in rows],
        "class": [_name(row[7]) if len(row) > 7 and row[7] >= 0 else None for row in rows],
    }
    return Boxes(box_table(columns, len(rows)))


def read_yolo(files: Iterable[tuple[str, str]]) -> Boxes:
    """Read the boxes of YOLO files, given as name and text.

    A line is `class x y width height`, with the center and the size as shares of the frame, then a
    confidence, a track, or both. The number at the end of a file's name is its frame, from 1. A
    sixth number is a confidence unless all of them are whole. Raise InputError for a line or a name
    of another form.
    """
    rows: list[tuple[int, list[float], bool]] = []
    for name, text in files:
        found = _FRAME_OF_FILE.search(name)
        if found is None or int(found[1]) < 1:
            raise InputError(f"{name}: the name does not end in the number of a frame, from 1")
        for number, line in _lines(text):
            row = _numbers(line, name, number, None)
            if not 5 <= len(row) <= 7:
                raise InputError(
                    f"{name}, line {number}: not of the form class x y width height, and confidence"
                    " or track"
                )
            whole = len(row) == 6 and re.fullmatch(r"\d+", line.split()[5]) is not None
            rows.append((int(found[1]) - 1, row, whole))
    has_tracks = all(whole for _, row, whole in rows if len(row) == 6)

    def confidence(row: list[float]) -> float | None:
        return row[5] if len(row) == 7 or (len(row) == 6 and not has_tracks) else None

    def track(row: list[float]) -> str | None:
        last = row[6] if len(row) == 7 else row[5] if len(row) == 6 and has_tracks else None
        return None if last is None else _name(last)

    columns = {
        "frame": [frame for frame, _, _ in rows],
        "class": [_name(row[0]) for _, row, _ in rows],
        "x": [row[1] - row[3] / 2 for _, row, _ in rows],
        "y": [row[2] - row[4] / 2 for _, row, _ in rows],
        "width": [row[3] for _, row, _ in rows],
        "height": [row[4] for _, row, _ in rows],
        "confidence": [confidence(row) for _, row, _ in rows],
        "track": [track(row) for _, row, _ in rows],
    }
    return Boxes(box_table(columns, len(rows)), relative=True)


def _lines(text: str) -> list[tuple[int, str]]:
    numbered = enumerate(text.splitlines(), start=1)
    return [(number, line) for number, line in numbered if line.strip()]


def _numbers(line: str, name: str, number: int, mark: str | None) -> list[float]:
    parts = line.strip().rstrip(",").split(mark)
    try:
        found = [float(part) for part in parts]
    except ValueError as error:
        raise InputError(f"{name}, line {number}: {line.strip()[:60]!r} has no numbers") from error
    if not all(map(math.isfinite, found)):
        raise InputError(f"{name}, line {number}: {line.strip()[:60]!r} has a number without end")
    return found


def _name(value: float) -> str:
    return str(int(value)) if value == int(value) else str(value)
