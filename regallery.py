"""Exact, bounded and restartable feature galleries for person re-identification.

    import regallery as rg

    query, gallery = rg.Gallery.open("galleries/query"), rg.Gallery.open("galleries/test")
    print(rg.evaluate(query, gallery))

A name is loaded when it is first used, so importing this module is quick. docs/python.md shows
every name with an example.
"""

import importlib
import sys
from importlib import metadata
from importlib.machinery import PathFinder
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.archive.layouts.rules import LabelSettings as LabelSettings
    from pipeline.archive.listing.source import list_source as list_source
    from pipeline.core.blocks import Tiling as Tiling
    from pipeline.core.cameras.normalization import CameraNormalization as CameraNormalization
    from pipeline.core.clusters.encoding import CameraEncoding as CameraEncoding
    from pipeline.core.clusters.encoding import PlainEncoding as PlainEncoding
    from pipeline.core.clusters.stability import EpsGrid as EpsGrid
    from pipeline.core.evaluation.labels import Labels as Labels
    from pipeline.core.evaluation.metrics import Summary as Summary
    from pipeline.core.evaluation.metrics import summarize as summarize
    from pipeline.core.evaluation.ranking import RankCounts as RankCounts
    from pipeline.core.expansion import Expansion as Expansion
    from pipeline.core.identities.linking import Linking as Linking
    from pipeline.core.identities.verdicts import Verdicts as Verdicts
    from pipeline.core.maps.settings import MapSettings as MapSettings
    from pipeline.core.neighbors.topk import TopK as TopK
    from pipeline.core.reranking.distances import Reranking as Reranking
    from pipeline.core.vectors import unit_vectors as unit_vectors
    from pipeline.errors import InputError as InputError
    from pipeline.errors import RunError as RunError
    from pipeline.gallery.map_files import GalleryMap as GalleryMap
    from pipeline.gallery.table import Gallery as Gallery
    from pipeline.gallery.verdicts.counting import read_verdicts as read_verdicts
    from pipeline.model.functions import NetworkFunction as NetworkFunction
    from pipeline.model.networks import NetworkFile as NetworkFile
    from pipeline.model.recipe import Recipe as Recipe
    from pipeline.model.trainable import TrainableFile as TrainableFile
    from pipeline.model.trainable import TrainableModule as TrainableModule
    from pipeline.runs.acceptance import AcceptanceSettings as AcceptanceSettings
    from pipeline.runs.acceptance import compare_networks as compare_networks
    from pipeline.runs.adapted import RoundSettings as RoundSettings
    from pipeline.runs.adapting import adapt as adapt
    from pipeline.runs.arrays import expand as expand
    from pipeline.runs.arrays import k_reciprocal as k_reciprocal
    from pipeline.runs.arrays import make_labels as make_labels
    from pipeline.runs.arrays import neighbors as neighbors
    from pipeline.runs.arrays import rank_counts as rank_counts
    from pipeline.runs.arrays import search as search
    from pipeline.runs.clustering import ClusterSettings as ClusterSettings
    from pipeline.runs.clustering import cluster_gallery as cluster_gallery
    from pipeline.runs.clustering import jaccard_clusters as jaccard_clusters
    from pipeline.runs.copying import merge as merge
    from pipeline.runs.copying import split as split
    from pipeline.runs.evaluating import evaluate_to_report as evaluate_to_report
    from pipeline.runs.expanding import update_expanded as update_expanded
    from pipeline.runs.extraction import extract as extract
    from pipeline.runs.linked import LinkSettings as LinkSettings
    from pipeline.runs.linking import link as link
    from pipeline.runs.mapping import gallery_map as gallery_map
    from pipeline.runs.measuring import Evaluation as Evaluation
    from pipeline.runs.measuring import evaluate as evaluate
    from pipeline.runs.measuring import measure as measure
    from pipeline.runs.mined import MineSettings as MineSettings
    from pipeline.runs.mining import mine as mine
    from pipeline.runs.ranked_rows import RankedRows as RankedRows
    from pipeline.runs.ranked_rows import ranked_rows as ranked_rows
    from pipeline.runs.selection import RowFilter as RowFilter
    from pipeline.runs.settings import EvaluationSettings as EvaluationSettings
    from pipeline.runs.settings import FigureSettings as FigureSettings
    from pipeline.runs.settings import MistakeSettings as MistakeSettings
    from pipeline.runs.settings import RecipeSettings as RecipeSettings
    from pipeline.runs.travel_learning import learn_travel_times as learn_travel_times
    from pipeline.runs.travelled import TravelSettings as TravelSettings
    from pipeline.runs.verdict_results import GivenVerdict as GivenVerdict
    from pipeline.runs.verdicts import give_verdict as give_verdict
    from pipeline.runs.verdicts import give_verdicts as give_verdicts
    from pipeline.runs.verdicts import list_verdicts as list_verdicts
    from pipeline.stages.execution import Execution as Execution

_MODULES = {
    "pipeline.archive.layouts.rules": ("LabelSettings",),
    "pipeline.archive.listing.source": ("list_source",),
    "pipeline.core.blocks": ("Tiling",),
    "pipeline.core.cameras.normalization": ("CameraNormalization",),
    "pipeline.core.clusters.encoding": (
        "CameraEncoding",
        "PlainEncoding",
    ),
    "pipeline.core.clusters.stability": ("EpsGrid",),
    "pipeline.core.evaluation.metrics": (
        "Summary",
        "summarize",
    ),
    "pipeline.core.evaluation.labels": ("Labels",),
    "pipeline.core.evaluation.ranking": ("RankCounts",),
    "pipeline.core.expansion": ("Expansion",),
    "pipeline.core.identities.linking": ("Linking",),
    "pipeline.core.identities.verdicts": ("Verdicts",),
    "pipeline.core.maps.settings": ("MapSettings",),
    "pipeline.core.neighbors.topk": ("TopK",),
    "pipeline.core.reranking.distances": ("Reranking",),
    "pipeline.core.vectors": ("unit_vectors",),
    "pipeline.errors": (
        "InputError",
        "RunError",
    ),
    "pipeline.gallery.map_files": ("GalleryMap",),
    "pipeline.gallery.table": ("Gallery",),
    "pipeline.gallery.verdicts.counting": ("read_verdicts",),
    "pipeline.model.functions": ("NetworkFunction",),
    "pipeline.model.networks": ("NetworkFile",),
    "pipeline.model.recipe": ("Recipe",),
    "pipeline.model.trainable": (
        "TrainableFile",
        "TrainableModule",
    ),
    "pipeline.runs.acceptance": (
        "AcceptanceSettings",
        "compare_networks",
    ),
    "pipeline.runs.adapted": ("RoundSettings",),
    "pipeline.runs.adapting": ("adapt",),
    "pipeline.runs.arrays": (
        "expand",
        "k_reciprocal",
        "make_labels",
        "neighbors",
        "rank_counts",
        "search",
    ),
    "pipeline.runs.clustering": (
        "ClusterSettings",
        "cluster_gallery",
        "jaccard_clusters",
    ),
    "pipeline.runs.copying": (
        "merge",
        "split",
    ),
    "pipeline.runs.evaluating": ("evaluate_to_report",),
    "pipeline.runs.expanding": ("update_expanded",),
    "pipeline.runs.extraction": ("extract",),
    "pipeline.runs.mapping": ("gallery_map",),
    "pipeline.runs.measuring": (
        "Evaluation",
        "evaluate",
        "measure",
    ),
    "pipeline.runs.linking": ("link",),
    "pipeline.runs.linked": ("LinkSettings",),
    "pipeline.runs.mined": ("MineSettings",),
    "pipeline.runs.mining": ("mine",),
    "pipeline.runs.ranked_rows": (
        "RankedRows",
        "ranked_rows",
    ),
    "pipeline.runs.selection": ("RowFilter",),
    "pipeline.runs.settings": (
        "EvaluationSettings",
        "FigureSettings",
        "MistakeSettings",
        "RecipeSettings",
    ),
    "pipeline.runs.travel_learning": ("learn_travel_times",),
    "pipeline.runs.travelled": ("TravelSettings",),
    "pipeline.runs.verdict_results": ("GivenVerdict",),
    "pipeline.runs.verdicts": (
        "give_verdict",
        "give_verdicts",
        "list_verdicts",
    ),
    "pipeline.stages.execution": ("Execution",),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}

__all__ = ["__version__", *sorted(_HOMES)]

# A file of each package that no other distribution has.
_PACKAGES = {"pipeline": "errors.py", "jobs": "cli.py", "cluster": "connect.py"}
_MARK = "Regallery"


def _intruder() -> str | None:
    """What is in the way of the packages that lie beside this module; None where nothing is.

    They have names that other distributions and files of users have too.
    """
    here = Path(__file__).resolve().parent
    for name, own in _PACKAGES.items():
        ours = here / name
        loaded = sys.modules.get(name)
        found = getattr(loaded, "__file__", None) if loaded else None
        if found is None:
            spec = PathFinder.find_spec(name)
            # A folder without __init__.py, or none on the path: ours is found by other means.
            found = spec.origin if spec else str(ours / "__init__.py")
        place = Path(found).resolve() if found else ours / "__init__.py"
        if place.parent != ours:
            return f"{place} hides the package {name!r} of regallery"
        if not (ours / own).is_file() or _MARK not in place.read_text(encoding="utf-8"):
            return f"{ours} was overwritten by another distribution that has a package {name!r}"
    return None


def _check_packages() -> None:
    if (intruder := _intruder()) is not None:
        raise ImportError(
            f"{intruder}: rename or remove it, or install regallery in an environment of its own"
            " (from its repository: uv tool install ., or pipx install .)"
        )


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return metadata.version("regallery")
    if name not in _HOMES:
        raise AttributeError(f"module 'regallery' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


def main() -> int:
    """Run the command line; see `regallery --help`."""
    from jobs.cli import main as run

    return run()


try:
    _check_packages()
except ImportError as error:
    if __name__ == "__main__" or Path(sys.argv[0]).stem == "regallery":
        # The command: one line, not a traceback.
        sys.exit(f"error: {error}")
    raise

if __name__ == "__main__":
    sys.exit(main())
