"""Camera proxies against loops over rows and against numerical gradients."""

import numpy as np
import pytest
import torch

from pipeline.errors import InputError
from pipeline.training.losses.camera_proxies import CameraProxies, CameraProxySettings
from tests.training.losses.test_cluster_memory import naive_update, unit


def random_batch(seed, b=14, d=5):
    """A batch, and proxies of 6 clusters under some of 4 cameras each; those of the batch exist."""
    rng = np.random.default_rng(seed)
    labels, cameras = rng.integers(0, 6, b), rng.integers(-1, 3, b)
    both = {*zip(labels.tolist(), cameras.tolist(), strict=True)}
    both |= {(int(rng.integers(6)), int(rng.integers(-1, 3))) for _ in range(8)}
    of, under = np.array(sorted(both)).T
    vectors = unit(rng.normal(size=(len(both), d)))
    return rng.normal(size=(b, d)), labels, cameras, vectors, of, under


def naive_loss(features, labels, cameras, vectors, of, under, settings):
    total = 0.0
    for f, label, camera in zip(unit(features), labels, cameras, strict=True):
        scores = [float(f @ p) / settings.temperature for p in vectors]
        places = range(len(of))
        positives = [scores[i] for i in places if of[i] == label and under[i] != camera]
        others = sorted((scores[i] for i in places if of[i] != label), reverse=True)
        for s in positives:
            rivals = positives + others[: settings.negatives]
            total += (np.log(sum(np.exp(r) for r in rivals)) - s) / len(positives)
    return total / len(features)


def tensors(arrays):
    return [torch.tensor(x) for x in arrays]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("negatives", [1, 4, 50])
def test_the_loss_and_its_gradient_equal_those_of_a_loop(seed, negatives):
    batch = random_batch(seed)
    settings = CameraProxySettings(0.3, negatives)
    x, labels, cameras, *held = tensors(batch)
    proxies = CameraProxies(*held, settings)
    loss = proxies(x, labels, cameras)
    assert loss.item() == pytest.approx(naive_loss(*batch, settings), abs=1e-12)
    assert torch.autograd.gradcheck(
        lambda x: proxies(x, labels, cameras), x.requires_grad_(), fast_mode=True
    )


@pytest.mark.parametrize("update", ["each", "hard"])
def test_proxies_move_as_in_a_loop(update):
    features, labels, cameras, vectors, of, under = random_batch(5)
    proxies = CameraProxies(
        *tensors((vectors, of, under)), CameraProxySettings(momentum=0.4, update=update)
    )
    proxies.update(*tensors((features, labels, cameras)))
    places = [
        next(i for i in range(len(of)) if of[i] == label and under[i] == camera)
        for label, camera in zip(labels, cameras, strict=True)
    ]
    expected = naive_update(features, np.array(places), vectors, 0.4, update == "hard")
    np.testing.assert_allclose(proxies.proxies.numpy(), expected, atol=1e-12)


def test_rows_that_no_other_camera_has_seen_cost_nothing_and_pull_nowhere():
    proxies = CameraProxies(torch.eye(2), torch.tensor([0, 1]), torch.tensor([1, 2]))
    x = torch.ones(2, 2, requires_grad=True)
    loss = proxies(x, torch.tensor([0, 1]), torch.tensor([1, 2]))
    loss.backward()
    assert loss.item() == 0
    assert x.grad.tolist() == [[0, 0], [0, 0]]


def test_without_other_clusters_only_positives_compete():
    proxies = CameraProxies(torch.eye(3), torch.zeros(3, dtype=torch.long), torch.arange(3))
    x = torch.tensor([[0.0, 1, 0]], requires_grad=True)
    loss = proxies(x, torch.tensor([0]), torch.tensor([0]))
    loss.backward()
    scores = torch.tensor([1 / 0.07, 0])
    assert loss.item() == pytest.approx((scores.logsumexp(0) - scores.mean()).item())
    assert torch.isfinite(x.grad).all()


def test_proxies_begin_with_the_unit_means_of_each_cluster_under_each_camera():
    features = torch.tensor([[3.0, 0], [0, 5], [9, 9], [0, -2], [4, 4]])
    made = CameraProxies.of(
        features, torch.tensor([1, 1, -1, 0, 1]), torch.tensor([7, 7, 7, 7, -1])
    )
    assert made.labels.tolist() == [0, 1, 1]
    assert made.cameras.tolist() == [7, -1, 7]
    half = 0.5**0.5
    np.testing.assert_allclose(made.proxies, [[0, -1], [half, half], [half, half]], atol=1e-6)


def test_proxies_go_on_to_the_bit_from_their_state():
    x, labels, cameras, *held = tensors(random_batch(3))
    proxies = CameraProxies(held[0].float(), *held[1:])
    proxies.update(x.float(), labels, cameras)
    again = CameraProxies(**proxies.state_dict())
    for each in (proxies, again):
        each.update(x.flip(0).float(), labels.flip(0), cameras.flip(0))
    assert torch.equal(again.proxies, proxies.proxies)
    loss = proxies(x.float(), labels, cameras)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(again(x.float(), labels, cameras), loss)


def test_proxies_and_batches_that_cannot_be():
    one, two = torch.tensor([0]), torch.tensor([0, 1])
    with pytest.raises(ValueError, match="unit length"):
        CameraProxies(torch.ones(2, 2), two, two)
    with pytest.raises(ValueError, match="label below 0"):
        CameraProxies(torch.eye(2), two - 1, two)
    with pytest.raises(ValueError, match=r"cameras must be whole numbers \[2\]"):
        CameraProxies(torch.eye(2), two, one)
    with pytest.raises(ValueError, match="two proxies are of one cluster and one camera"):
        CameraProxies(torch.eye(2), two * 0, two * 0)
    with pytest.raises(ValueError, match="no row belongs to a cluster"):
        CameraProxies.of(torch.eye(2), two - 2, two)
    proxies = CameraProxies(torch.eye(2), two, two)
    for act in (proxies, proxies.update):
        with pytest.raises(ValueError, match="label below 0"):
            act(torch.ones(1, 2), one - 1, one)
        with pytest.raises(ValueError, match=r"cameras must be whole numbers \[1\]"):
            act(torch.ones(1, 2), one, two)
    with pytest.raises(ValueError, match="cluster 0 has no proxy under camera 5"):
        proxies.update(torch.ones(2, 2), one.repeat(2), torch.tensor([0, 5]))
    with pytest.raises(InputError, match="`negatives` must be at least 1"):
        CameraProxySettings(negatives=0)
    with pytest.raises(InputError, match="`weight` must be 0 or more"):
        CameraProxySettings(weight=-1)
    with pytest.raises(InputError, match="`temperature` must be more than 0"):
        CameraProxySettings(temperature=-1)
