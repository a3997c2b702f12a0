"""Make an expanded gallery, or bring it up to date with its parent."""

import logging
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict
from typing import Any

from pipeline.core.cameras.normalization import CameraNormalization
from pipeline.core.expansion import Expansion
from pipeline.errors import InputError
from pipeline.gallery import opening
from pipeline.gallery.derived import check_parameters, create_derived, derivation, is_made_from
from pipeline.gallery.table import Gallery
from pipeline.runs.cameras import Cameras
from pipeline.runs.expansion import expand_gallery, tidy
from pipeline.runs.outcomes import Expanded
from pipeline.runs.reporting import reported
from pipeline.runs.resources import joined
from pipeline.runs.settings import FoldSettings, check_scratch
from pipeline.stages.execution import StartProgress, silent

_log = logging.getLogger(__name__)


def settings_of(
    parameters: Mapping[str, Any],
) -> tuple[Expansion, CameraNormalization | None]:
    """How features are expanded, from the `parameters` that an expanded gallery stores.

    Missing ones, and those that are None, get their defaults. Raise InputError for values without
    meaning.

    >>> settings_of({"mode": "database", "k": 5, "camera_normalize": None})
    (Expansion(mode='database', k=5, alpha=3.0, times=1), None)
    """
    given = {name: value for name, value in parameters.items() if value is not None}
    kind, rows = given.pop("camera_normalize", None), given.pop("camera_rows", None)
    try:
        settings = Expansion(**given)
        if kind is None:
            return settings, None
        return settings, CameraNormalization(kind, **({} if rows is None else {"least_rows": rows}))
    except ValueError as error:
        raise InputError(str(error)) from error


def update_expanded(
    parent: Gallery,
    out: str,
    settings: Expansion,
    normalization: CameraNormalization | None = None,
    *,
    on: FoldSettings = FoldSettings(),
    progress: StartProgress | None = None,
) -> Expanded:
    """Write the expanded features of `parent` to the gallery `out`, or bring it up to date.

    Raise InputError if `out` was made from another gallery or in another way, or if `parent` is
    itself an expanded gallery.
    """
    check_scratch(on.scratch)
    if parent.count == 0:
        raise InputError(f"{parent.location} has no row in version {parent.version}")
    if (held := derivation(parent)) is not None and not held.of_tracklets:
        raise InputError(f"{parent.location} is {held}: expand {held.parent} with `times` instead")
    opening.check_writable(out)
    parameters = asdict(settings) | (normalization.parameters if normalization else {})
    with ExitStack() as stack:
        stack.enter_context(joined(on.workers, on.address, on.num_gpus))
        lock = stack.enter_context(opening.lock_gallery(out, f"expand {parent.location}"))
        if not opening.exists(out):
            create_derived(out, parent, parameters, lock)
        present = Gallery.open(out)
        check_parameters(present, parent, parameters)
        report = stack.enter_context(reported(lock, progress or silent))
        execution = on.execution(report.start)
        cameras = Cameras.of(parent, normalization, execution) if normalization else None
        after = present
        if not is_made_from(present, parent):
            after = expand_gallery(parent, present, settings, cameras, on.scratch, execution, lock)
            _log.debug("neighbors: %s", execution.ledger.total)
        if cameras:
            cameras.keep_with(after)
        tidy(after, parent)
    return Expanded(
        gallery=out,
        version=after.version,
        parent=parent.location,
        parent_version=parent.version,
        parameters=parameters,
        rows=after.count,
        dimension=after.dimension,
        fingerprint=after.fingerprint,
        is_new_version=after is not present,
        products=execution.ledger.total.figures(),
    )
