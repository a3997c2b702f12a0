"""Two networks on one archive: which pairs are compared, and who is accepted."""

import datetime
import itertools

import numpy as np
import pytest

from pipeline.core.evaluation.bootstrap import Bootstrap
from pipeline.core.thresholds.acceptance import AcceptanceRule
from pipeline.core.tracklets import is_held_out
from pipeline.errors import InputError
from pipeline.runs import acceptance_pairs
from pipeline.runs.acceptance import AcceptanceSettings, compare_networks
from pipeline.runs.acceptance_pairs import compared_pairs, held_out_rows
from tests.core.strategies import unit_rows
from tests.jobs.labeled import labeled_gallery, people

FEW_DRAWS = AcceptanceRule(resampling=Bootstrap(100))
HALF = AcceptanceSettings(held_out=0.5, rule=FEW_DRAWS)
START = datetime.datetime(2026, 1, 1, 8, tzinfo=datetime.UTC)


def walks(
    location,
    spread,
    *,
    weights="0" * 64,
    count=60,
    without=(),
    identity=(None,),
    camera=("7",),
    **columns,
):
    """Tracklets of 4 to 9 boxes, in an order that is not that of time; up to 3 boxes a moment."""
    rng = np.random.default_rng(3)
    lengths = rng.integers(4, 10, count)
    owner = np.repeat(np.arange(count), lengths)
    second = np.concatenate([number // 3 * 20 + np.arange(n) for number, n in enumerate(lengths)])
    features = unit_rows(count, 16, seed=1)[owner] + spread * rng.standard_normal((len(owner), 16))
    features = (features / np.linalg.norm(features, axis=1, keepdims=True)).astype(np.float32)
    rows = np.setdiff1d(rng.permutation(len(owner)), without, assume_unique=True)
    columns = {
        "tracklet": [f"v:{owner[row]}" if owner[row] % 10 else None for row in rows],
        "captured_at": [START + datetime.timedelta(seconds=int(second[row])) for row in rows],
        "path": [f"{row:04d}.jpg" for row in rows],
    } | columns
    kept = {name: values for name, values in columns.items() if values is not None}
    own = [identity[n % len(identity)] for n in range(len(rows))]
    by = [camera[n // len(identity) % len(camera)] for n in range(len(rows))]
    return labeled_gallery(location, features[rows], own, by, weights, **kept)


def pairs_by_loops(gallery, share):
    """Positive and negative pairs, each as a set, by every pair of rows."""
    rows = gallery.rows().to_pylist()
    held = [bool(row["tracklet"]) and is_held_out(row["tracklet"], share) for row in rows]
    positives = set()
    for name in {row["tracklet"] for row, own in zip(rows, held, strict=True) if own}:
        places = [place for place, row in enumerate(rows) if row["tracklet"] == name]
        places.sort(key=lambda place: (rows[place]["captured_at"], place))
        half = len(places) // 2
        positives |= set(zip(places[:half], places[len(places) - half :], strict=True))
    negatives = {
        frozenset((a, b))
        for a, b in itertools.combinations(range(len(rows)), 2)
        if rows[a]["captured_at"] == rows[b]["captured_at"] and (held[a] or held[b])
        and (rows[a]["tracklet"] is None or rows[a]["tracklet"] != rows[b]["tracklet"])
    }  # fmt: skip
    return held, positives, negatives


def test_pairs_are_the_halves_of_held_out_tracklets_and_rows_of_one_moment(tmp_path):
    gallery = walks(tmp_path / "g", 0.2)
    held, positives, negatives = pairs_by_loops(gallery, 0.5)
    assert held_out_rows(gallery, 0.5).tolist() == held
    found = compared_pairs(gallery, 0.5)
    assert found.basis == "tracklets"
    assert {tuple(pair) for pair in found.positives.tolist()} == positives
    assert len(found.positives) == len(positives) > 50
    assert {frozenset(pair) for pair in found.negatives.tolist()} == negatives
    assert len(found.negatives) == len(negatives) > 50
    names = gallery.rows()["tracklet"].to_pylist()
    of = {}
    for pairs, owners in ((found.positives, found.groups.positives),
                          (found.negatives, found.groups.negatives)):  # fmt: skip
        for (a, b), group in zip(pairs.tolist(), owners.tolist(), strict=True):
            name = of.setdefault(group, names[a] if held[a] else names[b])
            assert name in {names[place] for place in (a, b) if held[place]}
    assert len(set(of.values())) == len(of)


def test_verdicts_about_held_out_rows_are_pairs_too(tmp_path):
    gallery = walks(tmp_path / "g", 0.2)
    held, ids = held_out_rows(gallery, 0.5), gallery.rows()["row_id"].to_numpy()
    a, b = np.flatnonzero(held)[[0, -1]]
    c, d = np.flatnonzero(~held)[[0, -1]]
    plain = compared_pairs(gallery, 0.5)
    found = compared_pairs(gallery, 0.5, same=ids[[[c, a], [c, d]]], different=[ids[[b, d]]])
    assert found.positives[len(plain.positives) :].tolist() == [[c, a]]
    assert found.negatives[len(plain.negatives) :].tolist() == [[b, d]]
    with pytest.raises(InputError, match="`same` names row 99999, which the gallery does not"):
        compared_pairs(gallery, 0.5, same=[[0, 99999]])


def test_long_tracklets_and_many_pairs_are_thinned(tmp_path, monkeypatch):
    gallery = walks(tmp_path / "g", 0.2)
    whole = compared_pairs(gallery, 0.5)
    monkeypatch.setattr(acceptance_pairs, "_A_TRACKLET", 1)
    monkeypatch.setattr(acceptance_pairs, "_MOST_PAIRS", 40)
    found = compared_pairs(gallery, 0.5)
    tracklets = len(set(whole.groups.positives.tolist()))
    assert len(found.positives) == min(40, tracklets) and len(found.negatives) == 40
    for few, many in ((found.positives, whole.positives), (found.negatives, whole.negatives)):
        assert {tuple(pair) for pair in few.tolist()} <= {tuple(pair) for pair in many.tolist()}
    monkeypatch.setattr(acceptance_pairs, "_MOST_PAIRS", 12)  # rows are left out, not only pairs
    assert len(compared_pairs(gallery, 0.9).negatives) == 12


def test_the_better_network_is_accepted_and_the_worse_is_not(tmp_path):
    good = walks(tmp_path / "good", 0.1)
    bad = walks(tmp_path / "bad", 0.6, weights="1" * 64, without=[3])
    same = compare_networks(good, good, HALF)
    assert same.accepted and same.rates.difference == 0 and same.mean_ap is None
    assert same.rates.before.tmr > 0.9
    worse = compare_networks(good, bad, HALF)
    assert not worse.accepted and worse.left_out == 1
    assert worse.rates.positives in (same.rates.positives, same.rates.positives - 1)
    assert worse.reason.startswith("the new network is not accepted: at a false-match rate of 0.0")
    better = compare_networks(bad, good, HALF)
    assert better.accepted and better.reason.startswith("the new network is accepted")
    names, held = good.rows()["tracklet"].to_pylist(), held_out_rows(good, 0.5)
    told = {name for name, own in zip(names, held, strict=True) if own}
    assert same.rates.tracklets == len(told)


def test_labels_are_used_where_there_are_no_tracklets(tmp_path, monkeypatch):
    monkeypatch.setattr(acceptance_pairs, "_MOST_PAIRS", 9000)
    features, identity, camera = people(40, 400)
    good = labeled_gallery(tmp_path / "good", features, identity, camera)
    noise = features + 0.4 * unit_rows(len(features), features.shape[1], seed=9)
    noise = (noise / np.linalg.norm(noise, axis=1, keepdims=True)).astype(np.float32)
    bad = labeled_gallery(tmp_path / "bad", noise, identity, camera, "1" * 64)
    assert not held_out_rows(good).any()
    pairs = compared_pairs(good)
    assert pairs.basis == "labels"
    people_of, cameras = np.array(identity), np.array(camera)
    wanted = {
        (a, b) for a, b in itertools.combinations(range(400), 2)
        if people_of[a] == people_of[b] > 0 and cameras[a] != cameras[b]
    }  # fmt: skip
    assert {tuple(pair) for pair in pairs.positives.tolist()} == wanted
    first, second = people_of[pairs.negatives.T]
    assert (first > 0).all() and (second > 0).all() and (first != second).all()
    assert len({tuple(pair) for pair in pairs.negatives.tolist()}) == len(pairs.negatives) > 5000
    assert compared_pairs(good, seed=1).negatives.tolist() != pairs.negatives.tolist()
    found = compare_networks(good, bad, AcceptanceSettings(rule=FEW_DRAWS))
    assert (found.basis, found.accepted, found.rates.fmr) == ("labels", False, 1e-3)
    change = found.mean_ap
    assert change.after < change.before
    assert change.interval.low <= change.after - change.before <= change.interval.high < 0
    assert 300 < change.queries < 400


def test_mean_ap_is_that_of_every_labeled_row_as_a_query(tmp_path):
    import regallery

    features, identity, camera = people(15, 90)
    gallery = labeled_gallery(tmp_path / "g", features, identity, camera)
    found = compare_networks(gallery, gallery, AcceptanceSettings(rule=FEW_DRAWS)).mean_ap
    wanted = regallery.evaluate(gallery, gallery).baseline.summary
    assert (found.queries, found.before) == (wanted.valid, pytest.approx(wanted.mean_ap))


def test_verdicts_alone_are_enough(tmp_path):
    gallery = walks(tmp_path / "g", 0.2, tracklet=None, captured_at=None)
    ids = gallery.rows()["row_id"].to_numpy()
    found = compared_pairs(
        gallery, same=ids[:40].reshape(-1, 2), different=ids[40:80].reshape(-1, 2)
    )
    assert (found.basis, len(found.positives), len(found.groups)) == ("tracklets", 20, 40)


def test_few_held_out_tracklets_give_way_to_labels(tmp_path):
    gallery = walks(tmp_path / "g", 0.2, identity=list(range(1, 13)), camera=["7", "8"])
    assert compared_pairs(gallery, 0.5).basis == "tracklets"
    assert compared_pairs(gallery, 0.04).basis == "labels"


def test_what_cannot_be_compared_is_told(tmp_path):
    bare = walks(tmp_path / "bare", 0.2, tracklet=None)
    with pytest.raises(InputError, match=r"0 held-out tracklets .*, and 0 pairs .*; 0 people"):
        compare_networks(bare, bare)
    still = walks(tmp_path / "still", 0.2, captured_at=None)
    with pytest.raises(InputError, match=r"\d\d held-out tracklets .*, and 0 pairs of boxes"):
        compare_networks(still, still, HALF)
    gallery = walks(tmp_path / "g", 0.2)
    with pytest.raises(InputError, match=r"here. \d held-out tracklets .* needs 10 tracklets"):
        compare_networks(gallery, gallery, AcceptanceSettings(held_out=0.08))
    with pytest.raises(InputError, match="lies between 0 and 1, not 1"):
        held_out_rows(gallery, 1)
    few = labeled_gallery(tmp_path / "few", *people(5, 50))
    with pytest.raises(InputError, match=r"; 5 people with identities are seen by two"):
        compare_networks(few, few)
    with pytest.raises(InputError, match="hold no row of one path"):
        compare_networks(gallery, few, HALF)
    rows = gallery.rows()
    held = np.flatnonzero(held_out_rows(gallery, 0.5)).tolist()
    paths = [path if n not in held else f"else/{n}" for n, path in
             enumerate(rows["path"].to_pylist())]  # fmt: skip
    other = walks(tmp_path / "other", 0.2, path=paths)
    with pytest.raises(InputError, match="share no pairs of rows"):
        compare_networks(gallery, other, HALF)
