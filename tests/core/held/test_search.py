import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.blocks import Tiling, blocks
from pipeline.core.held import rows as held_rows
from pipeline.core.held.rows import hold
from pipeline.core.held.search import HeldPart, search_held
from pipeline.core.neighbors.topk import search
from pipeline.core.products.int8_codes import Codes
from pipeline.core.products.tiles import here
from tests import oracles
from tests.core.neighbors.test_topk import as_lists
from tests.core.products.test_int8_codes import KINDS, rows_of
from tests.core.strategies import cases


@pytest.fixture(params=["codes", "float32"], autouse=True)
def instructions(request, monkeypatch):
    """Every test with codes, on any machine, and without."""
    monkeypatch.setattr(held_rows, "is_coded", lambda _: request.param == "codes")


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(held_rows, "_BLOCK", 7)


def parts_of(gallery, size, order=None):
    order = np.arange(len(gallery)) if order is None else order
    parts = []
    for start, stop in blocks(len(gallery), size):
        positions = np.sort(order[start:stop])
        parts.append(HeldPart(hold(np.ascontiguousarray(gallery[positions])), positions))
    return parts


@given(cases(), st.integers(1, 50), st.integers(1, 40), st.randoms(use_true_random=False))
def test_equals_the_naive_loop_for_parts_that_interleave(case, k, size, random):
    order = np.array(random.sample(range(len(case.gallery)), len(case.gallery)), np.int64)
    found = search_held(case.queries, parts_of(case.gallery, size, order), k, run=here)
    assert as_lists(found) == oracles.top_k(case.queries, case.gallery, k)


@given(cases(), st.integers(1, 20), st.integers(1, 40), st.integers(0, 2**32 - 1), st.data())
def test_finds_only_what_is_allowed(case, k, size, seed, data):
    share = data.draw(st.sampled_from([0.0, 0.03, 0.5, 1.0]))
    allowed = np.random.default_rng(seed).random(len(case.gallery)) < share
    found = search_held(case.queries, parts_of(case.gallery, size), k, run=here, allowed=allowed)
    wanted = oracles.top_k(case.queries, case.gallery, k, may_meet=lambda _i, row: allowed[row])
    assert as_lists(found) == wanted


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("few", [False, True])
def test_equals_a_search_to_the_bit_on_threads(kind, few):
    rng = np.random.default_rng(3)
    gallery, queries = rows_of(kind, 500, 96, seed=1), rows_of(kind, 9, 96, seed=2)
    allowed = rng.random(500) < (0.05 if few else 0.8)
    places = np.flatnonzero(allowed)
    with Tiling(threads=3).workers() as run:
        found = search_held(queries, parts_of(gallery, 64), 6, run=run, allowed=allowed)
    wanted = search(queries, np.ascontiguousarray(gallery[places]), 6)
    assert (found.scores == wanted.scores).all()
    assert (found.rows == places[wanted.rows]).all()


def test_mapped_rows_may_start_at_any_byte(tmp_path):
    rows = rows_of("normal", 40, 33)
    (tmp_path / "file").write_bytes(b"abc" + rows.tobytes())
    mapped = np.memmap(tmp_path / "file", np.float32, "r", 3, rows.shape)
    part = HeldPart(hold(rows, mapped=mapped), np.arange(40))
    assert part.rows.features is mapped
    found = search_held(rows[:5], [part], 4, run=here)
    assert as_lists(found) == as_lists(search(rows[:5], rows, 4))
    in_memory = hold(rows).bytes_in_memory
    assert in_memory - part.rows.bytes_in_memory == rows.nbytes


def test_a_bound_that_is_a_little_small_is_noticed(monkeypatch):
    """The tests above hold the bound of the codes: without most of it, they would fail."""
    if not held_rows.is_coded(64):
        pytest.skip("without codes there is no bound")
    monkeypatch.setattr(Codes, "bound", lambda *_: 0.0)
    wrong = 0
    for seed in range(20):
        gallery = rows_of("normal", 300, 64, seed)
        found = search_held(gallery[:20], parts_of(gallery, 50), 10, run=here)
        wrong += as_lists(found) != as_lists(search(gallery[:20], gallery, 10))
    assert wrong


def test_nothing_to_search():
    none = np.empty((0, 4), np.float32)
    assert search_held(none, [HeldPart(hold(none), np.arange(0))], 3, run=here).rows.shape == (0, 3)
    one = np.eye(4, dtype=np.float32)[:1]
    assert search_held(one, [HeldPart(hold(none), np.arange(0))], 2, run=here).rows.tolist() == [
        [-1, -1]
    ]
    assert search_held(one, [], 1, run=here).rows.tolist() == [[-1]]


def test_faults_are_named():
    rows = np.eye(3, dtype=np.float32)
    part = HeldPart(hold(rows), np.arange(3))
    with pytest.raises(ValueError, match="k must be at least 1"):
        search_held(rows, [part], 0, run=here)
    with pytest.raises(ValueError, match="a query is not finite"):
        search_held(rows * np.nan, [part], 1, run=here)
    with pytest.raises(ValueError, match=r"several dimensions: \[3, 4\]"):
        search_held(np.eye(4, dtype=np.float32), [part], 1, run=here)
    with pytest.raises(ValueError, match="contiguous float32"):
        hold(rows.astype(np.float64))
    with pytest.raises(ValueError, match=r"mapped rows are \[2, 3\], and not \[3, 3\]"):
        hold(rows, mapped=rows[:2])
    with pytest.raises(ValueError, match="must be finite"):
        hold(np.full((2, 2), np.inf, np.float32))
