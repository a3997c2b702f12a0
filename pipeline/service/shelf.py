"""The galleries of a service, each kept at its latest version, and older versions on demand."""

import logging
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.errors import InputError, RunError
from pipeline.gallery.files.places import root_of
from pipeline.gallery.files.storage import GalleryDamagedError
from pipeline.gallery.log.removed import latest_version, removed
from pipeline.gallery.table import Gallery
from pipeline.gallery.verdicts.entries import entries_state
from pipeline.service.held_gallery import ALL, HeldGallery, hold_gallery, hold_together
from pipeline.stages.execution import StartProgress, silent

_log = logging.getLogger(__name__)
_OLDER_KEPT = 2


@dataclass(frozen=True)
class GalleryNews:
    """What a gallery is at, after its version or its verdicts have changed."""

    gallery: str
    version: int
    verdict_files: int


class Shelf:
    """Galleries in memory; every request reads one version, whole, while the next is prepared.

    `refresh` picks up new versions. Raise InputError for two galleries of one name, and what
    reading the galleries raises.
    """

    def __init__(self, locations: Sequence[str], *, progress: StartProgress = silent) -> None:
        self._locations = dict(zip(gallery_names(locations), locations, strict=True))
        step = progress("reading galleries", len(locations))
        self._held: dict[str, HeldGallery] = {}
        for name, location in self._locations.items():
            self._held[name] = hold_gallery(name, Gallery.open(location))
            step(1)
        self._verdicts = {name: self._verdict_files(name) for name in self._locations}
        self._older: OrderedDict[tuple[str, int], HeldGallery] = OrderedDict()
        self._together: HeldGallery | None = None
        self._lock = threading.Lock()
        self._refreshing = threading.Lock()

    @property
    def names(self) -> list[str]:
        """The names of the galleries: those of their folders."""
        return list(self._locations)

    def get(self, name: str, version: int | None = None) -> HeldGallery:
        """A gallery at a version, the latest by default; `_all` for all of them as one.

        Raise InputError for a name or a version that is not there, and for `_all` if the recipes
        differ.
        """
        if name == ALL and len(self._held) > 1:
            return self._all(version)
        if name == ALL:
            name = next(iter(self._held))
        held = self._held.get(name)
        if held is None:
            raise InputError(
                f"the gallery {name!r} is not served here; the galleries are"
                f" {', '.join(self._held)}"
            )
        if version is None or version == held.gallery.version:
            return held
        return self._at(held, version)

    def refresh(self) -> list[GalleryNews]:
        """Pick up new versions and new verdicts; return what changed.

        A gallery that cannot be read keeps its version, and a warning is logged. Only one thread
        does this at a time.
        """
        with self._refreshing:
            return [change for name in self._locations if (change := self._refreshed(name))]

    def _refreshed(self, name: str) -> GalleryNews | None:
        held = self._held[name]
        try:
            if latest_version(root_of(self._locations[name])) == held.gallery.version:
                return self.refresh_verdicts(name)
            newer = hold_gallery(name, Gallery.open(self._locations[name]), held)
            verdicts = self._verdict_files(name)
        except (InputError, RunError, GalleryDamagedError, OSError) as error:
            _log.warning("%s: version %d is kept: %s", name, held.gallery.version, error)
            return None
        with self._lock:
            self._held[name] = newer
            self._verdicts[name] = verdicts
            self._older.clear()  # a purge may have removed them
            self._together = None
        return GalleryNews(name, newer.gallery.version, len(verdicts))

    def refresh_verdicts(self, name: str) -> GalleryNews | None:
        """Pick up new verdicts alone, which never takes long; return what changed.

        Raise what listing the files of a gallery raises.
        """
        verdicts = self._verdict_files(name)
        with self._lock:
            if verdicts == self._verdicts[name]:
                return None
            self._verdicts[name] = verdicts
            return GalleryNews(name, self._held[name].gallery.version, len(verdicts))

    def verdict_state(self, name: str) -> tuple[str, ...]:
        """A value that changes whenever someone gives a verdict on rows of a gallery."""
        return self._verdicts[name]

    def _verdict_files(self, name: str) -> tuple[str, ...]:
        return entries_state(root_of(self._locations[name]))

    def _at(self, held: HeldGallery, version: int) -> HeldGallery:
        """An older version, made on demand, and kept until the gallery changes."""
        key = held.name, version
        gone = removed(root_of(self._locations[held.name]), version)
        with self._lock:
            if gone:  # what was purged is not answered from memory either
                self._older.pop(key, None)
                raise InputError(str(gone))
            if key in self._older:
                self._older.move_to_end(key)
                return self._older[key]
        made = hold_gallery(held.name, Gallery.open(self._locations[held.name], version), held)
        with self._lock:
            self._older[key] = made
            while len(self._older) > _OLDER_KEPT:
                self._older.popitem(last=False)
        return made

    def _all(self, version: int | None) -> HeldGallery:
        if version is not None:
            raise InputError(f"{ALL} has no version of its own: leave `version` out")
        with self._lock:
            if self._together is None:
                self._together = hold_together(list(self._held.values()))
            return self._together


def gallery_names(locations: Sequence[str]) -> list[str]:
    """The name of each gallery: that of its folder.

    Raise InputError if there is none, or if two have one name.
    """
    if not locations:
        raise InputError("there is no gallery to serve: give one, or several")
    names = [_name(location) for location in locations]
    if len(set(names)) < len(names):
        raise InputError(
            "two galleries have the same folder name, and a request could not tell them apart:"
            f" {', '.join(locations)}; rename one of the folders"
        )
    return names


def _name(location: str) -> str:
    return str(root_of(location)).rstrip("/").rpartition("/")[2]
