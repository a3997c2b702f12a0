import numpy as np
import pytest

from pipeline.core.blocks import ArrayRows
from pipeline.core.cameras.normalization import CameraNormalization, normalize_cameras
from pipeline.core.cameras.sums import camera_sums
from pipeline.core.evaluation.labels import Labels
from pipeline.core.evaluation.ranking import rank_counts
from pipeline.stages.cameras import sum_cameras
from pipeline.stages.evaluate import count_ranks
from pipeline.stages.execution import Execution
from tests.core.strategies import unit_rows
from tests.stages.making import Elsewhere

ROWS = unit_rows(90, 40, clusters=9)
CAMERA = np.random.default_rng(0).integers(-1, 3, 90)


def bytes_of(sums):
    return [column.tobytes() for column in (sums.rows, sums.sums, sums.squares)]


@pytest.fixture
def parts_of_seven(monkeypatch):
    monkeypatch.setattr("pipeline.core.cameras.sums.PART", 7)


@pytest.mark.ray
def test_workers_give_the_bits_of_the_plain_loop(cluster, parts_of_seven):
    seen = []
    reference = bytes_of(camera_sums(ROWS, CAMERA, 3))
    for kind, workers in ((Elsewhere, 1), (Elsewhere, 2), (Elsewhere, 4), (Execution, 2)):
        execution = kind(workers, progress=lambda *_: seen.append)
        assert bytes_of(sum_cameras(ArrayRows(ROWS), CAMERA, 3, execution=execution)) == reference
    assert sum(seen) == 4 * 90


def test_a_stage_reads_normalized_rows_as_any_others():
    labels = Labels(np.arange(90) % 9, CAMERA)
    sums = camera_sums(ROWS, CAMERA, 3)
    made = normalize_cameras(ROWS, CAMERA, sums, CameraNormalization())
    sides = (made, labels, made, labels)
    found = count_ranks(*sides, execution=Elsewhere(2))
    assert found.ahead.tolist() == rank_counts(*sides).ahead.tolist()


def test_a_camera_that_is_not_known_is_told():
    with pytest.raises(ValueError, match="where 2 are known"):
        sum_cameras(ArrayRows(ROWS), CAMERA, 2)
