"""expand: write a gallery of expanded features, or bring it up to date with its parent."""

import logging
import sys
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal

from cyclopts import Parameter
from rich.console import RenderableType
from rich.text import Text

from jobs.command.console import progress_lines
from jobs.command.flags import FoldFlags
from pipeline.errors import InputError
from pipeline.runs.locations import Location
from pipeline.runs.resources import joined
from pipeline.runs.settings import FoldSettings, check_scratch

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Expanded:
    """What a run of expand made: `version` of `gallery`, from `parent_version` of `parent`.

    `changed` is false where the gallery was up to date. `products` are the pairs by what was
    multiplied for them, and those that were scored.
    """

    gallery: str
    version: int
    parent: str
    parent_version: int
    parameters: dict[str, str | int | float]
    rows: int
    dimension: int
    fingerprint: str
    changed: bool
    products: dict[str, int | float] = field(compare=False, default_factory=dict)


def expand(
    gallery: Location,
    *,
    out: Location,
    mode: Literal["database"] = "database",
    k: Annotated[int | None, Parameter(name=("--k", "-k"))] = None,
    alpha: float | None = None,
    times: int | None = None,
    camera_normalize: Literal["mean", "zscore"] | None = None,
    camera_rows: int | None = None,
    version: int | None = None,
    on: FoldFlags = FoldSettings(),
) -> Expanded:
    """Write a gallery of expanded features, or bring it up to date.

    Every feature becomes the weighted mean of itself and its nearest rows of
    the same gallery. Rows keep their ids and columns. When the gallery has a
    new version, run the command again: it searches only what is new. After
    an interruption it resumes. To expand queries, see evaluate --aqe.

    For example:

        regallery expand --gallery galleries/test --out galleries/test-expanded
        -k 10 --alpha 3

    Args:
        gallery: Folder of the gallery whose features are expanded.
        out: Folder of the gallery of expanded features; created if it does not exist.
        mode: database: expand each row with the rows of its gallery.
        k: Neighbors averaged by the expansion, the row itself included (default: 10).
        alpha: Exponent of the similarity in a neighbor's weight; 0 for a plain mean (default: 3).
        times: Rounds of expansion (default: 1).
        camera_normalize: Before the expansion, subtract the mean of the camera from each feature;
            zscore also divides by the standard deviation.
        camera_rows: Rows that a camera needs for statistics of its own; with fewer, those of all
            rows are used (default: 16).
        version: Version of the gallery (default: the latest).
    """
    from pipeline.core.cameras.normalization import CameraNormalization
    from pipeline.core.expansion import Expansion
    from pipeline.gallery import table
    from pipeline.gallery.derived import (
        check_parameters,
        create_derived,
        derivation,
        is_made_from,
    )
    from pipeline.runs.cameras import Cameras
    from pipeline.runs.expansion import expand_gallery, tidy

    given: dict[str, Any] = {"k": k, "alpha": alpha, "times": times}
    try:
        on.execution()
        settings = Expansion(mode, **{n: v for n, v in given.items() if v is not None})
        of_cameras = {} if camera_rows is None else {"least_rows": camera_rows}
        normalization = (
            CameraNormalization(camera_normalize, **of_cameras) if camera_normalize else None
        )
    except ValueError as error:
        raise InputError(str(error)) from error
    check_scratch(on.scratch)
    parent = table.Gallery.open(gallery, version)
    if parent.count == 0:
        raise InputError(f"{parent.location} has no row in version {parent.version}")
    if (held := derivation(parent)) is not None:
        raise InputError(f"{parent.location} is {held}: expand {held.parent} with --times instead")
    table.check_writable(out)
    parameters = asdict(settings) | (normalization.parameters if normalization else {})
    with ExitStack() as stack:
        stack.enter_context(joined(on.workers, on.address, on.num_gpus))
        lock = stack.enter_context(table.lock_gallery(out, f"expand {parent.location}"))
        if not table.exists(out):
            create_derived(out, parent, parameters, lock)
        present = table.Gallery.open(out)
        check_parameters(present, parent, parameters)
        execution = on.execution(stack.enter_context(progress_lines()))
        cameras = Cameras.of(parent, normalization, execution) if normalization else None
        after = present
        if not is_made_from(present, parent):
            after = expand_gallery(parent, present, settings, cameras, on.scratch, execution, lock)
            logger.debug("neighbors: %s", execution.ledger.total)
        if cameras:
            cameras.keep_with(after)
        tidy(after, parent)
    return Expanded(
        gallery=out,
        version=after.version,
        parent=gallery,
        parent_version=parent.version,
        parameters=parameters,
        rows=after.count,
        dimension=after.dimension,
        fingerprint=after.fingerprint,
        changed=after is not present,
        products=execution.ledger.total.figures(),
    )


def describe(result: Expanded) -> RenderableType:
    """What was expanded, and where it is."""
    how = ", ".join(f"{name} {value}" for name, value in result.parameters.items())
    state = "expanded" if result.changed else "up to date"
    return Text(
        f"{result.parent}, version {result.parent_version}: {state} ({how})\n"
        f"{result.gallery}: version {result.version}, {result.rows:,} rows of"
        f" {result.dimension} dimensions"
    )


if __name__ == "__main__":
    from jobs.cli import main

    sys.exit(main(["expand", *sys.argv[1:]]))
