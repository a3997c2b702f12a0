import pickle

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.core.blocks import ArrayRows
from pipeline.core.cameras.normalization import CameraNormalization, normalize_cameras
from pipeline.core.cameras.sums import CameraSums, camera_sums, part_sums
from tests import oracles
from tests.core.strategies import unit_rows

MODES = ("mean", "zscore")


def drawn(seed, n, d, known):
    """Unit rows of cameras that shift and stretch them, and of none."""
    rng = np.random.default_rng(seed)
    camera = rng.integers(-1, known, n)
    raw = (
        rng.standard_normal((n, d)) * (camera[:, None] + 2)
        + 3 * rng.standard_normal((known + 1, d))[camera]
    )
    return (raw / np.linalg.norm(raw, axis=1, keepdims=True)).astype(np.float32), camera


@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 60),
    st.sampled_from([2, 3, 17, 64]),
    st.integers(1, 4),
    st.sampled_from(MODES),
    st.integers(1, 12),
)
@example(0, 1, 2, 1, "zscore", 1)
def test_rows_are_normalized_as_in_two_passes(seed, n, d, known, mode, least_rows):
    gallery, gallery_camera = drawn(seed, n, d, known)
    queries, camera = drawn(seed + 1, 9, d, known + 1)  # the last camera is not in the gallery
    sums = camera_sums(gallery, gallery_camera, known + 1)
    settings = CameraNormalization(mode, least_rows)
    for rows, of in ((gallery, gallery_camera), (queries, camera)):
        found = normalize_cameras(rows, of, sums, settings)
        wanted = oracles.camera_normalized(rows, of, gallery, gallery_camera, mode, least_rows)
        np.testing.assert_allclose(found.read(0, len(rows)), wanted, atol=3e-6)
        assert (len(found), found.dimension) == rows.shape


@given(st.integers(0, 2**32 - 1), st.integers(0, 50), st.integers(1, 20), st.integers(1, 9))
def test_sums_depend_on_no_reading_and_on_no_way_to_join_the_parts(seed, n, at_once, part):
    rows, camera = drawn(seed, n, 5, 3)
    held = ArrayRows(rows)
    whole = part_sums(held, camera, 3, (0, n))
    piecewise = part_sums(held, camera, 3, (0, n), at_once)
    assert whole.sums.tobytes() == piecewise.sums.tobytes()
    assert whole.squares.tobytes() == piecewise.squares.tobytes()
    for entry in (*range(3), -1):
        theirs = rows[camera == entry].astype(np.float64)
        assert whole.rows[entry] == len(theirs)
        np.testing.assert_allclose(whole.sums[entry], theirs.sum(axis=0), atol=1e-12)
        np.testing.assert_allclose(whole.squares[entry], (theirs**2).sum(axis=0), atol=1e-12)
    parts = [part_sums(held, camera, 3, (a, min(a + part, n))) for a in range(0, n, part)]
    joined = sum(parts, CameraSums.nothing(3, 5))
    np.testing.assert_allclose(joined.sums, whole.sums, atol=1e-12)
    assert joined.rows.tolist() == whole.rows.tolist()


def test_parts_are_cut_by_position_and_added_in_order(monkeypatch):
    rows, camera = drawn(0, 40, 6, 2)
    monkeypatch.setattr("pipeline.core.cameras.sums.PART", 7)
    total = CameraSums.nothing(2, 6)
    for start in range(0, 40, 7):
        total = total + part_sums(ArrayRows(rows), camera, 2, (start, min(start + 7, 40)))
    assert camera_sums(rows, camera, 2).squares.tobytes() == total.squares.tobytes()
    at_once = part_sums(ArrayRows(rows), camera, 2, (0, 40))
    assert at_once.squares.tobytes() != total.squares.tobytes()  # so the cuts do matter


def test_a_case_by_hand():
    gallery = np.array([[0.6, 0.8], [0.8, 0.6], [1, 0], [0, -1]], np.float32)
    camera = np.array([0, 0, 1, 1])
    sums = camera_sums(gallery, camera, 2)
    # Camera 0 has mean (0.7, 0.7) and deviations (0.1, 0.1); camera 1 has (0.5, -0.5), (0.5, 0.5).
    query = np.array([[1, 0], [1, 0]], np.float32)
    mean = normalize_cameras(query, np.array([0, 1]), sums, CameraNormalization("mean", 2))
    np.testing.assert_allclose(
        mean.read(0, 2), [[0.3 / 0.58**0.5, -0.7 / 0.58**0.5], [0.5**0.5, 0.5**0.5]], atol=1e-6
    )
    stretched = np.array([[0, 1], [1, 0], [0, -1], [-1, 0]], np.float32) * [[1, 0.5]]
    sums = camera_sums(stretched.astype(np.float32), np.zeros(4, np.int64), 1)
    found = normalize_cameras(query, np.array([0, -1]), sums, CameraNormalization("zscore", 2))
    assert found.read(0, 2).tolist() == [[1, 0], [1, 0]]
    diagonal = np.array([[0.8, 0.6]], np.float32)
    found = normalize_cameras(diagonal, np.array([0]), sums, CameraNormalization("zscore"))
    np.testing.assert_allclose(found.read(0, 1), [[0.8 / 2.08**0.5, 1.2 / 2.08**0.5]], atol=1e-6)


@pytest.mark.parametrize("mode", MODES)
def test_few_rows_and_no_camera_take_the_statistics_of_all_rows(mode):
    rows = unit_rows(30, 8)
    camera = np.repeat([0, 1, -1], [5, 4, 21])
    sums = camera_sums(rows, camera, 3)
    settings = CameraNormalization(mode, least_rows=5)
    assert settings.own_statistics(sums).tolist() == [True, False, False, False]
    every = CameraNormalization(mode, least_rows=31)
    own, common = (normalize_cameras(rows, camera, sums, each) for each in (settings, every))
    differs = (own.read(0, 30) != common.read(0, 30)).any(axis=1)
    assert differs.tolist() == [True] * 5 + [False] * 25


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("noise", [False, True])
def test_a_row_that_is_its_cameras_mean_stays_as_it_is(mode, noise):
    same = unit_rows(1, 16)[[0] * 20]
    if noise:  # what rounding leaves of a row is not a direction
        largest = np.abs(same[0]).argmax()
        same[::2, largest] = np.nextafter(same[0, largest], np.float32(2))
    rows = np.concatenate([same, unit_rows(20, 16, seed=1)])
    camera = np.repeat([0, 1], 20)
    settings = CameraNormalization(mode)
    found = normalize_cameras(rows, camera, camera_sums(rows, camera, 2), settings).read(0, 40)
    assert np.array_equal(found[:20], same)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("value", [0.0, 0.1, 0.7])
def test_a_dimension_that_does_not_vary_is_not_stretched(value):
    # So many rows that the rounding of their sums leaves a variance.
    turn = np.linspace(0, 7, 100_000)
    rows = np.stack([np.full(len(turn), value), 0.5 * np.cos(turn), 0.5 * np.sin(turn)], axis=1)
    rows = rows.astype(np.float32)
    camera = np.zeros(len(rows), np.int64)
    found = normalize_cameras(rows, camera, camera_sums(rows, camera, 1), CameraNormalization())
    assert np.abs(found.read(0, 100)[:, 0]).max() < 1e-6
    assert found.scales[0, 0] == 1


def test_the_noise_of_a_dead_dimension_is_not_stretched():
    rows = unit_rows(60, 9)
    rows[:, 0] = np.random.default_rng(1).uniform(0, 3e-5, 60)
    camera = np.zeros(60, np.int64)
    found = normalize_cameras(rows, camera, camera_sums(rows, camera, 1), CameraNormalization())
    assert np.abs(found.read(0, 60)[:, 0]).max() < 3e-5
    assert (found.scales[0] > 1).tolist() == [False] + [True] * 8


def test_a_rows_bits_do_not_depend_on_how_it_is_read():
    rows, camera = drawn(3, 50, 33, 3)
    made = normalize_cameras(rows, camera, camera_sums(rows, camera, 3), CameraNormalization())
    whole = made.read(0, 50)
    assert whole.dtype == np.float32
    for size in (1, 7, 50):
        pieces = [made.read(start, min(start + size, 50)) for start in range(0, 50, size)]
        assert np.concatenate(pieces).tobytes() == whole.tobytes()
    positions = np.append(np.arange(50)[::-1], [7, 7])
    assert made.take(positions).tobytes() == whole[positions].tobytes()
    again = pickle.loads(pickle.dumps(made))
    assert again.read(0, 50).tobytes() == whole.tobytes()


def test_what_a_camera_adds_to_all_its_features_is_taken_out():
    people = unit_rows(200, 32)
    camera = np.repeat([0, 1], 100)
    biased = people + np.where(camera[:, None] == 0, 1, -1) * unit_rows(1, 32, seed=5)
    biased = (biased / np.linalg.norm(biased, axis=1, keepdims=True)).astype(np.float32)

    def gap(rows):
        similarity = rows @ rows.T
        same = camera[:, None] == camera
        return similarity[same].mean() - similarity[~same].mean()

    for mode in MODES:
        made = normalize_cameras(
            biased, camera, camera_sums(biased, camera, 2), CameraNormalization(mode)
        )
        assert gap(biased) > 0.9
        assert abs(gap(made.read(0, 200))) < 0.05


ROWS, CAMERA = unit_rows(3, 4), np.array([0, 0, -1])
SUMS = camera_sums(ROWS, CAMERA, 1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: CameraNormalization("median"), "mode must be mean or zscore"),
        (lambda: CameraNormalization(least_rows=0), "least_rows must be at least 1"),
        (lambda: CameraSums(SUMS.rows, SUMS.sums, SUMS.squares[:1]), "must be one shape"),
        (lambda: CameraSums(SUMS.rows[:1], SUMS.sums, SUMS.squares), "1 counts do not go with 2"),
        (lambda: SUMS + CameraSums.nothing(2, 4), "cannot be added"),
        (lambda: camera_sums(ROWS, CAMERA[:2], 1), "3 features do not go with 2 cameras"),
        (lambda: camera_sums(ROWS, CAMERA + 1, 1), "cameras from 0 to 1, where 1 are known"),
        (lambda: camera_sums(ROWS, CAMERA - 1, 1), "cameras from -2 to -1"),
        (
            lambda: normalize_cameras(ROWS, CAMERA + 1, SUMS, CameraNormalization()),
            "where 1 are known",
        ),
        (
            lambda: normalize_cameras(unit_rows(3, 5), CAMERA, SUMS, CameraNormalization()),
            "features have 5 dimensions, the sums of the gallery 4",
        ),
        (
            lambda: normalize_cameras(
                ROWS, CAMERA, CameraSums.nothing(1, 4), CameraNormalization()
            ),
            "no row whose mean",
        ),
    ],
)
def test_wrong_input_is_told(call, message):
    with pytest.raises(ValueError, match=message):
        call()
