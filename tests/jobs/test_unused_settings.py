"""Settings that change nothing, because what they are for was not asked for, are told."""

import logging

import pytest

from pipeline.runs.evaluating import _warn_of_unused
from pipeline.runs.settings import (
    CameraSettings,
    EvaluationSettings,
    ExpansionSettings,
    FoldSettings,
    RerankingSettings,
)
from tests.jobs.running import SIZE, result
from tests.stages.making import save_network, save_source

NOTHING = (ExpansionSettings(), CameraSettings(), RerankingSettings(), FoldSettings())


def tell_unused(expansion, cameras, reranking, on):
    settings = EvaluationSettings(expansion=expansion, cameras=cameras, reranking=reranking)
    _warn_of_unused(settings, on)


@pytest.mark.parametrize(
    ("place", "settings", "message"),
    [
        (0, ExpansionSettings(alpha=2, k=5), "`k`, `alpha` has no effect without `aqe`"),
        (1, CameraSettings(camera_rows=3), "`camera_rows` has no effect without"),
        (2, RerankingSettings(k1=5), "`k1` has no effect without `rerank`"),
        (3, FoldSettings(address="auto"), "`address` has no effect without `workers`"),
    ],
)
def test_settings_without_effect_are_told(caplog, place, settings, message):
    given = [*NOTHING]
    given[place] = settings
    tell_unused(*given)
    assert message in caplog.text


@pytest.mark.parametrize(
    "given",
    [
        NOTHING,
        (ExpansionSettings(aqe=("joint",), alpha=2), *NOTHING[1:3], FoldSettings(num_gpus=1)),
        (*NOTHING[:2], RerankingSettings(rerank=True, k1=5), FoldSettings(num_gpus=1)),
        (*NOTHING[:3], FoldSettings(workers=2, address="auto")),
    ],
)
def test_settings_with_effect_are_not(caplog, given):
    tell_unused(*given)
    assert caplog.text == ""


def test_an_address_without_actors_is_told(capsys, tmp_path, caplog):
    source, network = save_source(tmp_path / "source", 4), save_network(tmp_path).path
    arguments = ("extract", source, "--gallery", tmp_path / "g", "--model", network, *SIZE)
    with caplog.at_level(logging.WARNING):
        result(capsys, *arguments, "--address", "nobody.invalid:6379")
    assert "`address` has no effect with `actors` 0" in caplog.text
