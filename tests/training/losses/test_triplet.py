"""Minings and the triplet loss against loops over rows."""

import math

import numpy as np
import pytest
import torch

from pipeline.errors import InputError
from pipeline.training.losses.mining import (
    all_triplets,
    distance_weighted_triplets,
    hardest_triplets,
    semi_hard_triplets,
)
from pipeline.training.losses.triplet import TripletSettings, triplet_loss
from tests.training.losses.test_cluster_memory import unit


def random_batch(seed, b=13, d=4):
    """Features and labels; identity 9 has one row, and rows 0 and 1 are equal."""
    rng = np.random.default_rng(seed)
    features, labels = rng.normal(size=(b, d)), rng.integers(0, 4, b)
    features[1], labels[1], labels[2] = features[0], labels[0], 9
    return features, labels


def whole_distances(seed, b=13):
    """Symmetric distances of few values, so that there are ties; some are 0, as from itself."""
    x = np.random.default_rng(seed).integers(0, 3, (b, b)).astype(float)
    return np.tril(x, -1) + np.tril(x, -1).T


def naive_triplets(distances, labels, mining):
    rows = range(len(labels))
    found = []
    for a in rows:
        positives = [p for p in rows if labels[p] == labels[a] and p != a]
        negatives = [n for n in rows if labels[n] != labels[a]]
        if not positives or not negatives:
            continue
        if mining == "batch-all":
            found += [(a, p, n) for p in positives for n in negatives]
        elif mining == "batch-hard":
            far = max(positives, key=lambda p, a=a: distances[a][p])
            near = min(negatives, key=lambda n, a=a: distances[a][n])
            found.append((a, far, near))
        else:
            for p in positives:
                beyond = [n for n in negatives if distances[a][n] > distances[a][p]]
                if beyond:
                    n = min(beyond, key=lambda n, a=a: distances[a][n])
                else:
                    n = max(negatives, key=lambda n, a=a: distances[a][n])
                found.append((a, p, n))
    return found


def mined(distances, labels, mining):
    d, y = torch.tensor(distances), torch.tensor(labels)
    made = {
        "batch-all": lambda: all_triplets(y),
        "batch-hard": lambda: hardest_triplets(d, y),
        "semi-hard": lambda: semi_hard_triplets(d, y),
    }[mining]()
    return [tuple(each) for each in made.T.tolist()]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("mining", ["batch-all", "batch-hard", "semi-hard"])
def test_minings_find_the_triplets_of_a_loop(seed, mining):
    distances, (_, labels) = whole_distances(seed), random_batch(seed)
    assert mined(distances, labels, mining) == naive_triplets(distances, labels, mining)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("unit_length", [False, True])
@pytest.mark.parametrize("mining", ["batch-all", "batch-hard", "semi-hard"])
def test_the_loss_and_its_gradient_equal_those_of_a_loop(seed, soft, unit_length, mining):
    features, labels = random_batch(seed)
    x = unit(features) if unit_length else features
    distances = [[np.linalg.norm(a - b) for b in x] for a in x]
    costs = []
    for a, p, n in naive_triplets(distances, labels, mining):
        gap = distances[a][p] - distances[a][n]
        costs.append(math.log(1 + math.exp(gap)) if soft else max(0.0, gap + 0.4))
    if mining == "batch-all" and not soft:
        costs = [cost for cost in costs if cost > 0]
    settings = TripletSettings(mining, 0.4, soft, unit_length)
    y = torch.tensor(labels)
    loss = triplet_loss(torch.tensor(features), y, settings)
    assert loss.item() == pytest.approx(np.mean(costs), abs=2e-6)
    # Equal rows have no direction to part in: differences would not agree about them.
    x = torch.tensor(np.delete(features, 1, 0), requires_grad=True)
    y = torch.cat([y[:1], y[2:]])
    assert torch.autograd.gradcheck(lambda x: triplet_loss(x, y, settings), x, fast_mode=True)


@pytest.mark.parametrize("mining", ["batch-all", "batch-hard", "semi-hard", "distance-weighted"])
def test_equal_rows_have_a_finite_gradient(mining):
    x = torch.ones(6, 3, requires_grad=True)
    triplet_loss(x, torch.arange(6) % 3, TripletSettings(mining, unit=True)).backward()
    assert torch.isfinite(x.grad).all()


def drawn(places, d, anchors=60):
    """How often each of the other identities is drawn, by anchors at 0 that are all alike."""
    places = torch.cat([torch.zeros(anchors), torch.tensor(places)]).double()
    labels = torch.arange(len(places)).clamp_min(anchors - 1)
    distances = (places[:, None] - places).abs()
    made = distance_weighted_triplets(distances, labels, d, seed=7)
    pairs = [[a, p] for a in range(anchors) for p in range(anchors) if a != p]
    assert made[:2].T.tolist() == pairs
    return np.bincount(made[2], minlength=len(places))[anchors:] / made.shape[1]


def test_distance_weighted_negatives_come_as_often_as_the_inverse_density_says():
    places, d = np.array([0.2, 0.5, 0.8, 1.1, 1.39, 1.6]), 5
    near = np.maximum(places[:5], 0.5)  # 0.2 counts as 0.5; 1.6 never comes
    weights = 1 / (near ** (d - 2) * (1 - near**2 / 4) ** ((d - 3) / 2))
    np.testing.assert_allclose(drawn(places, d), [*(weights / weights.sum()), 0], atol=0.03)


def test_far_negatives_are_drawn_alike_where_there_are_no_others():
    np.testing.assert_allclose(drawn([1.5, 1.9], 512), [0.5, 0.5], atol=0.03)


def test_weighted_draws_are_a_function_of_the_seed():
    features, labels = random_batch(4, b=40, d=128)
    settings = TripletSettings("distance-weighted", soft=True, unit=True)
    x, y = torch.tensor(features).float(), torch.tensor(labels)
    losses = [triplet_loss(x, y, settings, seed=seed).item() for seed in (1, 1, 2)]
    assert losses[0] == losses[1] != losses[2]
    assert all(math.isfinite(loss) for loss in losses)


def test_the_loss_is_float32_under_autocast():
    x, y = torch.randn(6, 8).bfloat16(), torch.arange(6) % 3
    with torch.autocast("cpu", torch.bfloat16):
        loss = triplet_loss(x, y)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, triplet_loss(x.float(), y))


def test_what_cannot_be():
    x = torch.randn(3, 2)
    for mining in ("batch-all", "batch-hard", "semi-hard", "distance-weighted"):
        for labels in ([0, 0, 0], [0, 1, 2]):
            with pytest.raises(ValueError, match="the batch has no triplet"):
                triplet_loss(x, torch.tensor(labels), TripletSettings(mining, unit=True))
    with pytest.raises(ValueError, match="label below 0"):
        triplet_loss(x, torch.tensor([0, 0, -1]))
    with pytest.raises(InputError, match="`mining` must be one of batch-all, batch-hard"):
        TripletSettings("easy")
    with pytest.raises(InputError, match="distance-weighted is for unit vectors: set `unit`"):
        TripletSettings("distance-weighted")
    with pytest.raises(InputError, match="`margin` must be 0 or more"):
        TripletSettings(margin=-1)
    with pytest.raises(InputError, match="`weight` must be 0 or more"):
        TripletSettings(weight=-1)
