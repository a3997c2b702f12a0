"""Arrays of this process and read-only ones, as Ray's workers have them, share compiled kernels."""

import numpy as np
import pytest

from pipeline.core import expansion
from pipeline.core.blocks import ArrayRows
from pipeline.core.clusters import encoding, jaccard
from pipeline.core.evaluation import ranking
from pipeline.core.evaluation.labels import Labels
from pipeline.core.neighbors.pairs import neighbors
from pipeline.core.neighbors.topk import TopK
from pipeline.core.reranking import reciprocal
from tests.core.strategies import unit_rows

KERNELS = {
    "pairs": (jaccard._compare, reciprocal._expanded, reciprocal._means, reciprocal._normalized),
    "cameras": (encoding._reciprocal_of_both,),
    "ranks": (ranking._count_tile,),
    "expansion": (expansion._weighted_means,),
}


def frozen(array):
    view = array.view()
    view.flags.writeable = False
    return view


def computed(what, given):
    """Compute something from arrays as `given` returns them."""
    x = given(unit_rows(40, 8))
    found = neighbors(x, 12)
    near = TopK(given(found.scores), given(found.rows))
    if what == "pairs":
        plain = encoding.encode(ArrayRows(x), near, encoding.PlainEncoding(k1=6, k2=3))
        held = reciprocal.SparseRows(*(given(each) for each in plain.arrays))
        return jaccard.jaccard_pairs(held, 0.6).distances
    if what == "cameras":
        sizes = encoding.CameraEncoding(k1_same=4, k1_other=5, k2_same=2, k2_other=2)
        return encoding.encode_by_camera(near, near, sizes).values
    if what == "ranks":
        labels = [Labels(given(np.arange(n) % 5), given(np.arange(n) % 3)) for n in (10, 40)]
        return ranking.rank_counts(x[:10], labels[0], x, labels[1]).ahead
    return expansion.average(x, near, ArrayRows(x), 3.0)


@pytest.mark.parametrize("what", KERNELS)
def test_what_is_read_only_is_not_compiled_again(what):
    plain = computed(what, lambda array: array.copy())
    before = [len(kernel.signatures) for kernel in KERNELS[what]]
    assert all(before)
    np.testing.assert_array_equal(computed(what, frozen), plain)
    assert [len(kernel.signatures) for kernel in KERNELS[what]] == before
