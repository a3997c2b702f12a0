"""Path templates: read {camera}/{date}/{identity}_{frame}.jpg as a layout."""

import re
from collections.abc import Callable

from pipeline.archive.layouts.labels import (
    DATE,
    MOMENT,
    TIME,
    NameLabels,
    camera_name,
    capture_time,
    identity_of,
    whole_number,
)
from pipeline.archive.layouts.rules import AS_THEY_ARE, LabelSettings
from pipeline.errors import InputError

PLACEHOLDERS = ("identity", "camera", "tracklet", "frame", "date", "time", "captured_at", "any")
ANY_DEPTH = "**/"

_FIXED_FORM = {"frame": r"\d+", "date": DATE, "time": TIME, "captured_at": MOMENT}


def reader(
    template: str, settings: LabelSettings = AS_THEY_ARE
) -> Callable[[str], NameLabels | None]:
    """Make the function that reads a path's labels by `template`; it returns None if they do not
    match.

    {identity}, {camera}, {tracklet} and {any} take the text up to the next character of the
    template and never cross a slash. If there is a camera, a tracklet is named CAMERA/TRACKLET.
    {frame} takes digits; {date}, {time} and {captured_at} take the forms of `labels.capture_time`.
    A template with a slash must match the whole path below the source's root (begin it with **/ to
    match at any depth). A template without a slash must match the base name, at any depth.

    Raise InputError for a template that is ambiguous, misspelled, or has no labels.

    >>> reader("{camera}/{date}/{identity}_{frame}.jpg")("north/2026-01-31/0007_15.jpg").camera
    'north'
    """
    texts = text_reader(template)

    def read(path: str) -> NameLabels | None:
        found = texts(path)
        return None if found is None else _labels(found, settings)

    return read


def text_reader(template: str) -> Callable[[str], dict[str, str] | None]:
    """Make the function that returns the text in a path for each placeholder of `template`.

    >>> text_reader("{camera}/{identity}_{any}.jpg")("north/0007_15.jpg")
    {'camera': 'north', 'identity': '0007'}
    """
    pattern = re.compile(_pattern(template), re.ASCII)
    base_name_only = "/" not in template

    def read(path: str) -> dict[str, str] | None:
        found = pattern.fullmatch(path.rpartition("/")[2] if base_name_only else path)
        return found.groupdict() if found else None

    return read


def _labels(texts: dict[str, str], settings: LabelSettings) -> NameLabels:
    identity, camera, frame = texts.get("identity"), texts.get("camera"), texts.get("frame")
    when = texts.get("captured_at")
    if "date" in texts:
        when = f"{texts['date']}T{texts['time']}" if "time" in texts else texts["date"]
    name, tracklet = None if camera is None else camera_name(camera), texts.get("tracklet")
    if tracklet and name:  # trackers count from the start under each camera
        tracklet = f"{name}/{tracklet}"
    return NameLabels(
        identity=None if identity is None else identity_of(identity, settings.first_identity),
        camera=name,
        captured_at=None if when is None else capture_time(when, settings.zone),
        frame=None if frame is None else whole_number(frame),
        tracklet=tracklet,
    )


def _pattern(template: str) -> str:
    anywhere = template.startswith(ANY_DEPTH)
    parts = re.split(r"(\{[^{}]*\})", template.removeprefix(ANY_DEPTH))
    names = [part[1:-1] for part in parts[1::2]]
    _check(template, parts, names)
    pattern = r"(?:.*/)?" if anywhere else ""
    for position, part in enumerate(parts):
        if position % 2 == 0:
            pattern += re.escape(part)
            continue
        name, following = part[1:-1], parts[position + 1][:1]
        form = _FIXED_FORM.get(name, f"[^/{re.escape(following)}]+")
        pattern += form if name == "any" else f"(?P<{name}>{form})"
    return pattern


def _check(template: str, parts: list[str], names: list[str]) -> None:
    def wrong(what: str) -> InputError:
        return InputError(f"layout {template!r}: {what}")

    for name in names:
        if name not in PLACEHOLDERS:
            known = ", ".join(f"{{{known}}}" for known in PLACEHOLDERS)
            raise wrong(f"{{{name}}} is not a placeholder; there are {known}")
        if name != "any" and names.count(name) > 1:
            raise wrong(f"{{{name}}} stands twice; write {{any}} where it is not to be read")
    if any(set(literal) & set("{}") for literal in parts[::2]):
        raise wrong("a brace is not closed or not opened")
    if not set(names) - {"any"}:
        raise wrong(
            "it reads no label; use {identity}, {camera}, {tracklet}, {frame}, {date} or"
            " {captured_at}"
        )
    if "time" in names and "date" not in names:
        raise wrong("{time} needs {date}, for a time of day alone is not a time")
    if "captured_at" in names and "date" in names:
        raise wrong("{captured_at} and {date} tell the same; keep one of them")
    for left, literal, right in zip(names, parts[2::2], names[1:], strict=False):
        if not literal and (left, right) != ("date", "time"):
            raise wrong(f"nothing divides {{{left}}} from {{{right}}}; put a character between")
    if "." not in parts[-1] and not re.search(r"\.\{any\}$", template):
        raise wrong("it must end with a suffix such as .jpg, or with .{any} for every suffix")
