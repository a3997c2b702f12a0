import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.blocks import Tiling, blocks
from pipeline.core.evaluation.labels import JUNK, NO_CLOTHES, Labels, same_identity_pairs
from pipeline.core.evaluation.ranking import RankCounts, matches, rank_counts
from pipeline.core.products import fold, tiles
from pipeline.core.products import int8_codes as quantize
from pipeline.core.products.kernels import pair_scores
from tests import oracles
from tests.core.products.test_int8_codes import KINDS, rows_of
from tests.core.strategies import cases, tilings, unit_rows
from tests.examples import FEW

PRODUCTS = ["auto", "principal", "int8", "float32", "float16"]


@pytest.fixture(autouse=True)
def instructions(monkeypatch):
    """`auto` codes on any machine, however few the rows."""
    monkeypatch.setattr(tiles, "fast", lambda: True)
    monkeypatch.setattr(tiles, "_WORTH_MEETING", 0)


def ranks_by_query(counts):
    ranks = counts.ranks()
    return [
        ranks[a:b].tolist() for a, b in zip(counts.offsets[:-1], counts.offsets[1:], strict=True)
    ]


def count(case, **options):
    return rank_counts(
        case.queries, case.query_labels, case.gallery, case.gallery_labels, **options
    )


def oracle(case):
    return oracles.hit_ranks(case.queries, case.query_labels, case.gallery, case.gallery_labels)


@FEW
@given(cases(), tilings, st.sampled_from(PRODUCTS))
def test_equals_the_naive_loop_in_every_tiling(case, tiling, products):
    assert ranks_by_query(count(case, tiling=tiling, products=products)) == oracle(case)


def oracle_ahead(queries, query_labels, gallery, gallery_labels, found):
    """The counts of `found` by a loop over all scores."""
    ahead = []
    for q, (start, end) in enumerate(zip(found.offsets[:-1], found.offsets[1:], strict=True)):
        columns = np.arange(len(gallery))
        scores = pair_scores(queries, gallery, np.full(len(gallery), q), columns)
        identity = gallery_labels.identity
        kept = columns[(identity != JUNK) & (identity != query_labels.identity[q])]
        for score, row in zip(found.scores[start:end], found.rows[start:end], strict=True):
            beats = (scores[kept] > score) | ((scores[kept] == score) & (kept < row))
            ahead.append(int(beats.sum()))
    return ahead


@given(
    st.sampled_from(KINDS),
    st.integers(1, 30),
    st.integers(1, 120),
    st.sampled_from([1, 2, 16, 63, 128, 300, 513, 2048]),
    st.sampled_from([Tiling(16, 64, 1), Tiling(64, 64, 2), Tiling(65, 1000, 2), Tiling()]),
    st.sampled_from(PRODUCTS),
    st.integers(0, 9),
)
def test_rows_of_every_kind_are_counted_by_score(kind, q, g, d, tiling, products, seed):
    rng = np.random.default_rng(seed)
    rows = rows_of(kind, q + g, d, seed)
    rows[rng.random(q + g) < 0.1] = 0
    labels = Labels(rng.integers(-1, 4, q + g), rng.integers(0, 3, q + g))
    sides = (
        rows[:q], Labels(labels.identity[:q], labels.camera[:q]),
        rows[q:], Labels(labels.identity[q:], labels.camera[q:]),
    )  # fmt: skip
    found = rank_counts(*sides, tiling=tiling, products=products)
    assert found.ahead.tolist() == oracle_ahead(*sides, found)


@pytest.mark.parametrize("products", PRODUCTS)
def test_queries_of_several_strips_are_counted(products):
    rng, rows = np.random.default_rng(0), rows_of("falling", 450, 64)
    labels = Labels(rng.integers(0, 9, 450), rng.integers(0, 3, 450))
    sides = (
        rows[:150], Labels(labels.identity[:150], labels.camera[:150]),
        rows[150:], Labels(labels.identity[150:], labels.camera[150:]),
    )  # fmt: skip
    found = rank_counts(*sides, tiling=Tiling(150, 200, 1), products=products)
    assert found.ahead.tolist() == oracle_ahead(*sides, found)


@pytest.mark.parametrize("products", PRODUCTS)
@pytest.mark.parametrize("many", [510, 512, 514, 900])
def test_a_query_may_have_any_number_of_matches(many, products):
    """Few enough to be counted at once, and too many, deep among the others."""
    rows = unit_rows(1700, 24)
    identity = np.where(np.arange(1697) < many, 7, 0)
    np.random.default_rng(many).shuffle(identity)
    sides = (
        rows[:3], Labels(np.full(3, 7), np.zeros(3, np.int64)),
        rows[3:], Labels(identity, np.ones(1697, np.int64)),
    )  # fmt: skip
    found = rank_counts(*sides, products=products, tiling=Tiling(64, 512))
    assert np.diff(found.offsets).tolist() == [many] * 3
    assert found.ahead.tolist() == oracle_ahead(*sides, found)


def test_tiles_that_codes_leave_open_are_given_up(monkeypatch):
    """Queries whose matches lie among the others are counted by float32, the rest by codes."""
    gallery = unit_rows(1024, 64)
    queries = np.concatenate([gallery[:64], unit_rows(64, 64, seed=5)])
    identity = np.arange(1, 129)
    sides = (
        queries, Labels(identity, np.zeros(128, np.int64)),
        gallery, Labels(np.r_[identity[:64], 65 + np.arange(960) % 64], np.ones(1024, np.int64)),
    )  # fmt: skip
    tiling = Tiling(64, 64, 1)
    given_up = rank_counts(*sides, products="float32", tiling=tiling)
    seen = {name: [] for name in ("_codes", "_floats")}
    for name, calls in seen.items():
        plain = getattr(fold.Fold, name)
        monkeypatch.setattr(
            fold.Fold,
            name,
            lambda self, *args, plain=plain, calls=calls: calls.append(args) or plain(self, *args),
        )
    found = rank_counts(*sides, tiling=tiling)
    assert found.ahead.tobytes() == given_up.ahead.tobytes()
    # Two blocks of queries, sixteen of the gallery.
    assert 10 < len(seen["_floats"]) < 20
    assert 16 < len(seen["_codes"]) < 22


@pytest.mark.parametrize("side", ["query", "gallery row"])
@pytest.mark.parametrize(
    ("value", "message"), [(np.nan, "3 is not finite"), (1e19, "3 has length 2e\\+19")]
)
def test_rows_whose_scores_float32_cannot_hold_are_told(side, value, message):
    queries, gallery = unit_rows(5, 4), unit_rows(5, 4)
    labels = Labels(np.array([0, 0, 0, 7, 0]), np.arange(5)), Labels(np.full(5, 7), np.full(5, 9))
    found = matches(queries, labels[0], gallery, labels[1])
    (queries if side == "query" else gallery)[3] = value
    with pytest.raises(ValueError, match=f"^{side} {message}"):
        rank_counts(queries, labels[0], gallery, labels[1], found=found)


@given(cases(min_gallery=2), st.data())
def test_parts_add_in_any_order(case, data):
    size = data.draw(st.integers(1, len(case.gallery)))
    parts = data.draw(st.permutations(list(blocks(len(case.gallery), size))))
    found = matches(case.queries, case.query_labels, case.gallery, case.gallery_labels)
    total = found
    for part in parts:
        total = count(case, found=found, part=part) + total
    assert ranks_by_query(total) == oracle(case)


@pytest.mark.parametrize(
    ("tiling", "count"),  # the smallest tiles are slow: few rows have many of them
    [(Tiling(3, 5), 120), (Tiling(7, 7), 240), (Tiling(64, 64), 500), (Tiling(999, 9999), 500)],
)
def test_real_features_rank_alike_in_every_tiling(tiling, count):
    rng = np.random.default_rng(3)
    gallery, queries = unit_rows(count, 100, clusters=30), unit_rows(40, 100, seed=9, clusters=30)
    labels = Labels(rng.integers(-1, 30, 40 + count), rng.integers(0, 4, 40 + count))
    q = Labels(labels.identity[:40], labels.camera[:40])
    g = Labels(labels.identity[40:], labels.camera[40:])
    reference = rank_counts(queries, q, gallery, g, products="float32")
    for products in PRODUCTS:
        found = rank_counts(queries, q, gallery, g, tiling=tiling, products=products)
        assert found.scores.tobytes() == reference.scores.tobytes()
        assert found.ahead.tolist() == reference.ahead.tolist()


def test_ids_beyond_float32_stay_apart():
    features = np.array([[1, 0], [1, 0]], np.float32)
    query = Labels(np.array([16_777_217]), np.array([0]))
    gallery = Labels(np.array([16_777_216, 16_777_217]), np.array([1, 1]))
    assert matches(features[:1], query, features, gallery).rows.tolist() == [1]


def test_ties_are_broken_by_row():
    features = np.ones((4, 2), np.float32)
    query = Labels(np.array([5]), np.array([0]))
    for place in range(4):
        identity = np.full(4, 9)
        identity[place] = 5
        gallery = Labels(identity, np.ones(4, np.int64))
        found = rank_counts(features[:1], query, features, gallery)
        assert found.ranks().tolist() == [place + 1]


def test_junk_is_left_out_and_distractors_are_kept():
    line = np.array([[1.0], [0.9], [0.8], [0.7], [0.6]], np.float32)
    query = Labels(np.array([5]), np.array([0]))
    # junk, own camera, distractor, unknown camera of another person, then the match
    gallery = Labels(np.array([-1, 5, 0, 6, 5]), np.array([1, 0, 1, -1, 1]))
    assert rank_counts(line[:1], query, line, gallery).ranks().tolist() == [3]


def test_queries_of_no_identity_have_no_match():
    line = np.ones((3, 2), np.float32)
    labels = Labels(np.array([-1, 0, 7]), np.array([0, 0, 0]))
    gallery = Labels(np.array([-1, 0, 7]), np.array([1, 1, 1]))
    assert ranks_by_query(rank_counts(line, labels, line, gallery)) == [[], [], [2]]


def test_unknown_cameras_equal_no_camera():
    line = np.ones((2, 2), np.float32)
    unknown = Labels(np.array([7, 7]), np.array([-1, -1]))
    assert len(matches(line, unknown, line, unknown).rows) == 4


@pytest.mark.parametrize(
    ("identity", "camera", "message"),
    [
        (np.zeros(2), np.zeros(2, np.int64), "identity must be int64"),
        (np.zeros(2, np.int64), np.zeros((2, 1), np.int64), "camera must be int64"),
        (np.zeros(2, np.int64), np.zeros(3, np.int64), "do not go with"),
        (np.full(2, -2), np.zeros(2, np.int64), "below -1"),
    ],
)
def test_wrong_labels_are_told(identity, camera, message):
    with pytest.raises(ValueError, match=message):
        Labels(identity, camera)


def test_wrong_arguments_are_told():
    two = Labels(np.array([1, 2]), np.array([0, 0]))
    with pytest.raises(ValueError, match="3 gallery features do not go with 2 labels"):
        matches(unit_rows(2, 4), two, unit_rows(3, 4), two)
    with pytest.raises(ValueError, match="4 dimensions, the gallery 5"):
        matches(unit_rows(2, 4), two, unit_rows(2, 5), two)


def test_wrong_counts_cannot_be_made_or_added():
    ends, rows = np.array([0, 2]), np.array([3, 4])
    good = RankCounts(ends, rows, np.array([0.9, 0.8], np.float32), np.array([0, 1]))
    with pytest.raises(ValueError, match="out of order"):
        RankCounts(ends, rows, good.scores[::-1], good.ahead)
    with pytest.raises(ValueError, match="fewer rows before it"):
        RankCounts(ends, rows, good.scores, good.ahead[::-1])
    with pytest.raises(ValueError, match="need as many"):
        RankCounts(ends, rows[:1], good.scores, good.ahead)
    with pytest.raises(ValueError, match="different matches"):
        good + RankCounts(ends, rows + 1, good.scores, good.ahead)


@pytest.mark.parametrize("products", PRODUCTS)
def test_what_a_product_would_count_wrongly_is_counted_by_score(products):
    """Rows a rounding apart: the product of blocks alone, without its slack, fails here."""
    rng = np.random.default_rng(0)
    rows = unit_rows(1, 512) + rng.standard_normal((2000, 512)).astype(np.float32) * 2e-8
    query, columns = unit_rows(1, 512, seed=5), np.arange(2000)
    labels = Labels(np.where(columns % 50 == 0, 5, 9), np.ones(2000, np.int64))
    exact = pair_scores(query, rows, np.zeros(2000, np.int64), columns)
    order = oracles.sorted_rows(exact, columns)
    sides = query, Labels(np.array([5]), np.array([0])), rows, labels
    found = rank_counts(*sides, products=products)
    expected = [place + 1 for place, row in enumerate(order) if row % 50 == 0]
    assert found.ranks().tolist() == expected


@pytest.mark.parametrize("sign", [1, -1])
def test_a_bound_a_hair_too_small_is_noticed(sign, monkeypatch):
    """A query whose residual lies along a row: the codes see 0, and the error reaches the bound."""
    monkeypatch.setattr(quantize, "_worth_rotating", lambda *_: False)
    query = np.full((1, 512), sign * 0.49 * 10 / 127, np.float32)
    query[0, :4] = 10
    gallery = np.ones((2, 512), np.float32)
    gallery[:, :4] = 0
    gallery[1] *= np.float32(
        0.999
    )  # the match: worse than the row where the sign is +, else better
    labels = Labels(np.array([5]), np.array([0])), Labels(np.array([9, 5]), np.array([1, 1]))

    def rank(products):
        sides = query, labels[0], gallery, labels[1]
        return rank_counts(*sides, products=products, tiling=Tiling(1, 1)).ranks().tolist()

    assert rank("float32") == rank("int8") == [2 if sign > 0 else 1]
    bound = quantize.Codes.bound
    monkeypatch.setattr(quantize.Codes, "bound", lambda *tile: 0.998 * bound(*tile))
    assert rank("int8") == [1 if sign > 0 else 2]


def test_same_clothes_are_junk_as_the_same_camera_is():
    query = Labels(np.array([5, 5, 6]), np.array([0, 0, 0]), np.array([1, NO_CLOTHES, 1]))
    rows = Labels(
        np.array([5, 5, 5, 6, 5]), np.array([0, 1, 1, 1, 2]), np.array([2, 1, 2, 1, NO_CLOTHES])
    )
    owner, found, junk = same_identity_pairs(query, rows)
    pairs = list(zip(owner.tolist(), found.tolist(), junk.tolist(), strict=True))
    assert [pair[2] for pair in pairs if pair[0] == 0] == [True, True, False, False]
    assert [pair[2] for pair in pairs if pair[0] == 1] == [True, False, False, False]
    assert [pair[2] for pair in pairs if pair[0] == 2] == [True]
    whole = query.take(np.array([0, 2]))
    assert whole.clothes.tolist() == [1, 1]
    with pytest.raises(ValueError, match="3 identities need as many clothes"):
        Labels(query.identity, query.camera, np.array([1]))


def test_ranks_in_the_cloth_changing_protocol_are_those_without_the_rows_left_out():
    rng = np.random.default_rng(0)
    queries, gallery = unit_rows(12, 8, seed=1), unit_rows(90, 8, seed=2)
    sides = [
        Labels(rng.integers(-1, 5, n), rng.integers(0, 3, n), rng.integers(-1, 3, n))
        for n in (len(queries), len(gallery))
    ]
    counted = rank_counts(queries, sides[0], gallery, sides[1]).ranks()
    expected = []
    for q, feature in enumerate(queries):
        identity, camera, worn = (
            each[q] for each in (sides[0].identity, sides[0].camera, sides[0].clothes)
        )
        own = sides[1].identity == identity
        left_out = own & ((sides[1].camera == camera) | ((sides[1].clothes == worn) & (worn >= 0)))
        kept = np.flatnonzero((sides[1].identity != -1) & ~left_out)
        order = kept[np.argsort(-(gallery[kept] @ feature), kind="stable")]
        if identity > 0:
            expected += (np.flatnonzero(sides[1].identity[order] == identity) + 1).tolist()
    assert counted.tolist() == expected
