"""Learn the travel times of a gallery from pairs of rows that are almost certainly one person."""

import logging
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core.blocks import ChosenRows, FeatureRows
from pipeline.core.evaluation.labels import DISTRACTOR, JUNK
from pipeline.core.travel.learning import Learning, learn
from pipeline.core.travel.nearby import Walkable
from pipeline.errors import InputError
from pipeline.gallery.sidecars.calibrations import check_calibration
from pipeline.gallery.sidecars.capture_times import moments
from pipeline.gallery.table import Gallery
from pipeline.gallery.travel_times import named_times, write_travel_times
from pipeline.runs.link_threshold import check_evidence, link_threshold, links_among
from pipeline.runs.linked import LinkSettings
from pipeline.runs.settings import FoldSettings
from pipeline.runs.travel import excluded, list_effect, sightings
from pipeline.runs.travelled import TRAVEL, TravelLearned, TravelSettings
from pipeline.stages.execution import StartProgress

_log = logging.getLogger(__name__)


def learn_travel_times(
    gallery: Gallery,
    settings: TravelSettings = TRAVEL,
    *,
    on: FoldSettings = FoldSettings(),
    progress: StartProgress | None = None,
) -> TravelLearned:
    """Learn the travel times between a gallery's cameras, and store them with its version.

    Links are made as in `link`, at the threshold at which groups have the precision `certainty`.
    Links between two cameras show how long the way takes. Raise InputError if times or cameras are
    unknown, and if no way has enough links.
    """
    check_calibration(gallery)
    rows = gallery.rows(["row_id", "camera", "captured_at", "frame", "identity"])
    identity = pc.fill_null(rows["identity"], DISTRACTOR).to_numpy()
    kept = np.flatnonzero(identity != JUNK)
    rows, identity = rows.take(pa.array(kept)), identity[kept]
    names = sorted(rows["camera"].drop_null().unique().to_pylist())
    if len(names) < 2:
        raise InputError(f"{gallery.location} has {len(names)} cameras: a way needs two")
    seen, apart = sightings(rows, names), moments(rows)
    check_evidence(gallery, apart, identity)
    features: FeatureRows = gallery.features()
    if len(kept) < len(features):
        features = ChosenRows(features, kept)
    wanted = LinkSettings(settings.k, group_precision=settings.certainty)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="regallery-", dir=on.scratch)))
        ids, execution = rows["row_id"].to_numpy(), on.execution(progress)
        links = links_among(gallery, features, ids, settings.k, folder, execution)
    found = link_threshold(gallery, links, apart, identity, wanted)
    reached = links.from_score(found.threshold)
    first, second = seen.take(reached.first), seen.take(reached.second)
    learned = learn(first, second, len(names), Learning(fewest=settings.fewest))
    known = learned.times.is_known
    if not known.any():
        raise InputError(
            f"{gallery.location}: {len(reached):,} pairs reach the similarity"
            f" {found.threshold:.4f}, but no two cameras have {settings.fewest} of them: give a"
            " lower `certainty` or `fewest`, or a gallery with more rows"
        )
    table = named_times(names, learned.times, f"learned of version {gallery.version}")
    pairs = {(names[i], names[j]): int(learned.pairs[i, j]) for i, j in np.argwhere(known).tolist()}
    walk = Walkable(seen, learned.times)
    effect = excluded(walk, identity, table.origin)
    effect = replace(effect, lists=list_effect(features, walk, identity))
    about = {"threshold": found.threshold, "links": len(reached), "settings": asdict(settings)} | {
        "effect": asdict(effect)
    }
    file = write_travel_times(gallery, table, pairs, about)
    never = int(np.isposinf(learned.times.least).sum())
    return TravelLearned(
        gallery=gallery.location,
        version=gallery.version,
        threshold=found.threshold,
        threshold_from=found.origin,
        links=len(reached),
        ways=int(known.sum()) - never,
        unreachable=never,
        unknown=len(names) * (len(names) - 1) - int(known.sum()),
        effect=effect,
        file=str(file),
    )
