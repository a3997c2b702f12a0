import numpy as np
import pytest

from pipeline.core.blocks import ArrayRows, Tiling
from pipeline.core.clusters.encoding import (
    CameraEncoding,
    PlainEncoding,
    encode,
    encode_by_camera,
)
from pipeline.core.clusters.jaccard import jaccard_pairs
from pipeline.core.neighbors.by_camera import neighbors_by_camera
from pipeline.core.neighbors.pairs import neighbors
from pipeline.core.neighbors.topk import TopK
from pipeline.gallery.pair_files import PairFiles
from pipeline.stages import clusters as stage
from pipeline.stages.clusters import encode_rows, encode_rows_by_camera, near_pairs
from pipeline.stages.execution import Execution
from tests.core.strategies import unit_rows

ROWS = unit_rows(150, 16, clusters=12)
CAMERAS = np.random.default_rng(1).integers(-1, 3, len(ROWS))
NEAR = neighbors(ROWS, PlainEncoding().neighbors)
SPLIT = neighbors_by_camera(ROWS, CAMERAS, *CameraEncoding().neighbors)
WEIGHTS = encode(ArrayRows(ROWS), NEAR)
PAIRS = jaccard_pairs(WEIGHTS, 0.7)


class Crash(BaseException):
    """Not an Exception: nothing on the way may take it for an error to be handled."""


@pytest.fixture(autouse=True)
def small_files(monkeypatch):
    monkeypatch.setattr(stage, "_ROWS_A_FILE", 40)


def bytes_of(found):
    arrays = found.arrays if hasattr(found, "arrays") else vars(found).values()
    return [each.tobytes() for each in arrays]


def paired(folder, eps=0.7, weights=WEIGHTS, **options):
    execution = Execution(**{"tiling": Tiling(threads=2)} | options)
    return bytes_of(near_pairs(weights, eps, folder, execution=execution))


@pytest.mark.ray
def test_any_workers_give_the_bits_of_the_whole(cluster, tmp_path):
    for workers in (0, 2):
        on = Execution(workers)
        assert bytes_of(encode_rows(ArrayRows(ROWS), NEAR, execution=on)) == bytes_of(WEIGHTS)
        found = encode_rows_by_camera(*SPLIT, execution=on)
        assert bytes_of(found) == bytes_of(encode_by_camera(*SPLIT))
        assert paired(tmp_path / str(workers), workers=workers) == bytes_of(PAIRS)
    assert len(PAIRS.rows) > 500


@pytest.mark.parametrize("rows", [7, 40, 1000])
def test_blocks_of_any_size_give_the_bits_of_one_call(tmp_path, monkeypatch, rows):
    monkeypatch.setattr(stage, "_ROWS_A_FILE", rows)
    seen = []
    assert paired(tmp_path, progress=lambda *_: seen.append) == bytes_of(PAIRS)
    assert sum(seen) == len(ROWS)
    assert len(list(tmp_path.glob("pairs-*/rows-*.npz"))) == -(-len(ROWS) // rows)


def watched(monkeypatch, most=99):
    """The blocks that are searched from now on; the search is killed after `most` of them."""
    searched, real = [], stage._pairs_part

    def part(*arguments):
        if len(searched) == most:
            raise Crash
        searched.append(arguments[-2])
        return real(*arguments)

    monkeypatch.setattr(stage, "_pairs_part", part)
    return searched


@pytest.mark.parametrize("most", [0, 1, 3])
def test_a_killed_search_resumes(tmp_path, monkeypatch, caplog, most):
    caplog.set_level("INFO")
    with monkeypatch.context() as patch, pytest.raises(Crash):
        watched(patch, most)
        paired(tmp_path)
    searched = watched(monkeypatch)
    assert paired(tmp_path) == bytes_of(PAIRS)
    assert searched == [0, 40, 80, 120][most:]
    told = f"near pairs: {most} of 4 blocks taken over from an earlier run"
    assert (told in caplog.text) == (most > 0)


@pytest.mark.parametrize("damage", ["changed", "cut short", "gone"])
def test_a_damaged_file_is_made_again(tmp_path, monkeypatch, caplog, damage):
    paired(tmp_path)
    (path,) = tmp_path.glob("pairs-*/rows-40-*.npz")
    before = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(before[:-30] + (bytes(30) if damage == "changed" else b""))
    searched = watched(monkeypatch)
    assert paired(tmp_path) == bytes_of(PAIRS)
    assert searched == [40] and path.read_bytes() == before
    if damage != "gone":
        assert f"a block of near pairs is made again: {path}: its bytes" in caplog.text


def test_pairs_of_other_weights_or_of_another_eps_are_not_taken(tmp_path):
    paired(tmp_path)
    other = encode_by_camera(*SPLIT)
    assert paired(tmp_path, weights=other) == bytes_of(jaccard_pairs(other, 0.7))
    assert paired(tmp_path, eps=0.5) == bytes_of(jaccard_pairs(WEIGHTS, 0.5))
    assert len(list(tmp_path.glob("pairs-*"))) == 1


@pytest.mark.parametrize("count", [0, 1])
def test_no_row_and_one_row_have_no_pairs(tmp_path, count):
    weights = encode_rows(ArrayRows(ROWS[:count]), TopK.none(count, 29))
    found = near_pairs(weights, 0.6, tmp_path)
    assert (len(found), len(found.rows)) == (count, 0)


def test_a_file_that_is_damaged_while_it_is_read_is_told(tmp_path):
    files = PairFiles.begin(tmp_path, [ROWS], 1)
    assert not files.has(0, 5)
    with pytest.raises(RuntimeError, match="the file is gone"):
        files.read(0, 5)
