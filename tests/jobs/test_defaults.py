"""The defaults that help shows are those of the library: each stands in one place."""

import re
from dataclasses import MISSING, fields
from functools import cache

import pytest

from cluster.job_order import DriverSettings
from jobs import cli
from jobs.command.reference import reference
from pipeline.archive import limits
from pipeline.archive.layouts.rules import LabelSettings
from pipeline.archive.video.rules import BoxSettings
from pipeline.core.blocks import Tiling
from pipeline.core.cameras.normalization import CameraNormalization
from pipeline.core.evaluation.bootstrap import Bootstrap
from pipeline.core.expansion import Expansion
from pipeline.core.reranking.distances import Reranking
from pipeline.core.thresholds.calibration import FarRule, PercentileRule
from pipeline.gallery.upkeep import compact
from pipeline.model.defaults import BATCH_SIZE
from pipeline.runs.adapted import RoundSettings
from pipeline.runs.calibrated import CalibrationSettings
from pipeline.runs.linked import PRECISION, LinkSettings
from pipeline.runs.mined import MineSettings
from pipeline.runs.scale_plan import ScaleSettings
from pipeline.runs.search_result import SearchSettings
from pipeline.runs.settings import (
    ActorSettings,
    ExportSettings,
    FigureSettings,
    FoldSettings,
    MistakeSettings,
    UpdateSettings,
    WorkSettings,
)
from pipeline.runs.trained import SupervisedSettings
from pipeline.runs.travelled import TravelSettings
from pipeline.service.settings import ServiceSettings
from pipeline.stages.execution import MEMORY


def of(settings):
    """The defaults of some settings, by flag."""
    return {
        each.name.replace("_", "-"): each.default
        for each in fields(settings)
        if each.default is not MISSING and each.default is not None
    }


EVERYWHERE = {
    "unit-size": limits.UNIT_SIZE,
    "max-pixels": limits.MAX_PIXELS,
    "max-bytes": limits.MAX_BYTES,
    "batch-size": BATCH_SIZE,
    "query-block": Tiling().query_block,
    "gallery-block": Tiling().gallery_block,
    "memory": MEMORY / 2**30,
    "camera-rows": CameraNormalization("mean").least_rows,
    "level": Bootstrap().level,
    "replicates": Bootstrap().replicates,
    "seed": Bootstrap().seed,
    "num-cpus": 1,
    "num-gpus": 0,
    "scales": 1,
    "workers": FoldSettings.workers,
    "first-identity": LabelSettings.first_identity,
}
"""Flags that mean the same in every verb."""

OF_VERB = {
    "extract": of(BoxSettings) | of(WorkSettings) | of(UpdateSettings) | of(ActorSettings),
    "adapt": of(BoxSettings) | of(WorkSettings) | of(ActorSettings) | of(RoundSettings),
    "train": of(BoxSettings) | of(WorkSettings) | of(ActorSettings) | of(SupervisedSettings),
    "re-extract": of(WorkSettings) | of(ActorSettings),
    "search": of(SearchSettings),
    "calibrate": of(CalibrationSettings)
    | of(TravelSettings)
    | {
        "far": FarRule().far,
        "percentile": PercentileRule().percentile,
        "factor": PercentileRule().factor,
    },
    "link": of(LinkSettings) | {"group-precision": PRECISION},
    "mine": of(MineSettings) | {"group-precision": PRECISION},
    "expand": of(Expansion),
    "evaluate": of(FigureSettings)
    | of(Expansion)
    | of(Reranking)
    | {"mine-pairs": MistakeSettings().most},
    "model": of(ExportSettings),
    "submit": of(DriverSettings) | {"retries": 0},
    "plan": of(ScaleSettings),
    "serve": of(ServiceSettings),
    "compact": {"target-size": compact.TARGET_BYTES / 2**20},
}


@cache
def page():
    """The reference of all verbs, which takes seconds to make."""
    return reference()


def shown():
    """Verb, flag and default of each flag whose help shows a number, or `MiB` of them."""
    verb = None
    for line in page().replace("\n    ", " ").splitlines():
        if heading := re.match(r"#+ ([\w-]+)", line):
            verb = heading[1]
        flag = re.match(r"\* `--([\w-]+)", line)
        for default in re.findall(r"default: (\d+(?:\.\d+)?)(?:MiB)?[\])]", line) if flag else ():
            yield verb, flag[1], float(default)


def test_every_number_that_help_shows_is_the_librarys():
    found = list(shown())
    assert len(found) > 60
    for verb, flag, default in found:
        known = EVERYWHERE | OF_VERB.get(verb, {})
        assert flag in known, f"{verb} --{flag}: no setting of the library has its default"
        assert default == pytest.approx(float(known[flag])), f"{verb} --{flag}"


def test_a_flag_has_one_default_in_all_verbs():
    """But for the k of lists, of links and of expansion, which are three things."""
    defaults = {}
    for verb, flag, default in shown():
        defaults.setdefault(flag, {}).setdefault(default, []).append(verb)
    several = {flag for flag, found in defaults.items() if len(found) > 1}
    assert several <= {"k"}
    layouts = {
        verb: re.search(r"`--layout STR`.*?\[default: (\w+)\]", part, re.DOTALL)
        for verb in cli.VERBS
        for part in [page().split(f"## {verb}", 1)[-1].split("\n## ", 1)[0]]
    }
    assert {found[1] for found in layouts.values() if found} == {"none"}
