import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.blocks import Tiling
from pipeline.core.evaluation.labels import Labels
from pipeline.core.thresholds.misidentified import misidentified


def drawn(rng, n, d):
    """Rows whose products are exact, so that ties are real."""
    rows = (rng.integers(-2, 3, (n, d)) / 4 + 0.125).astype(np.float32)
    return rows, Labels(rng.integers(-1, 4, n), rng.integers(-1, 3, n))


def wrong_pairs(queries, ours, gallery, theirs, threshold, other_cameras):
    """Every wrong pair: doubt, query, row, score and whether it is a match."""
    found = []
    for q in range(len(queries)):
        for g in range(len(gallery)):
            if ours.identity[q] <= 0 or theirs.identity[g] == -1:
                continue
            score = float(queries[q].astype(np.float64) @ gallery[g])
            one_camera = ours.camera[q] == theirs.camera[g] != -1
            if ours.identity[q] == theirs.identity[g]:
                is_wrong, is_match = score < threshold and not one_camera, True
            else:
                is_wrong, is_match = score >= threshold, False
                is_wrong = is_wrong and not (other_cameras and one_camera)
            if is_wrong:
                found.append((-abs(score - threshold), q, g, score, is_match))
    return sorted(found)


@given(
    st.integers(0, 2**32 - 1), st.integers(0, 12), st.integers(0, 20), st.integers(1, 30),
    st.sampled_from([-0.5, 3 / 64, 15 / 64]), st.booleans(), st.sampled_from([(1, 3), (4, 64)]),
)  # fmt: skip
def test_the_worst_pairs_are_those_of_the_loop(seed, q, g, most, threshold, other, tiles):
    rng = np.random.default_rng(seed)
    queries, gallery = drawn(rng, q, 3), drawn(rng, g, 3)
    tiling = Tiling(query_block=tiles[0], gallery_block=tiles[1])
    found = misidentified(*queries, *gallery, threshold, most, other_cameras=other, tiling=tiling)
    every = wrong_pairs(*queries, *gallery, threshold, other)
    kinds = [[each for each in every if each[-1] == is_match] for is_match in (False, True)]
    expected = sorted([*kinds[0][:most], *kinds[1][:most]])
    assert list(
        zip(found.query.tolist(), found.row.tolist(), found.scores, found.is_match, strict=True)
    ) == [each[1:] for each in expected]
    assert (found.accepts, found.rejects) == (len(kinds[0]), len(kinds[1]))


def test_refusals():
    rows, labels = np.eye(2, dtype=np.float32), Labels(np.array([1, 2]), np.array([0, 1]))
    with pytest.raises(ValueError, match="`most` must be at least 1, not 0"):
        misidentified(rows, labels, rows, labels, 0.5, 0)
    with pytest.raises(ValueError, match="query features must be finite"):
        misidentified(rows * np.nan, labels, rows, labels, 0.5, 1)
    with pytest.raises(ValueError, match="gallery features must be finite"):
        misidentified(rows, labels, np.full_like(rows, np.inf), labels, 0.5, 1)
