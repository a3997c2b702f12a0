"""The cluster memory against loops over rows and against numerical gradients."""

import copy
import pickle

import numpy as np
import pytest
import torch

from pipeline.errors import InputError
from pipeline.training.losses.cluster_memory import ClusterMemory, ClusterMemorySettings


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def random_batch(seed, b=12, k=5, d=7):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(b, d)), rng.integers(0, k, b), unit(rng.normal(size=(k, d)))


def naive_loss(features, labels, centroids, temperature):
    total = 0.0
    for f, label in zip(unit(features), labels, strict=True):
        logits = [float(f @ c) / temperature for c in centroids]
        total += np.log(sum(np.exp(logit) for logit in logits)) - logits[label]
    return total / len(features)


def naive_update(features, labels, centroids, momentum, hard):
    """One row after the other, or for each cluster its least similar row, from the old centroid."""
    moved, features = centroids.copy(), unit(features)
    rows = range(len(labels))
    if hard:
        rows = []
        for label in dict.fromkeys(labels.tolist()):
            own = [i for i in range(len(labels)) if labels[i] == label]
            rows.append(min(own, key=lambda i, c=centroids[label]: features[i] @ c))
    for i in rows:
        moved[labels[i]] = unit(momentum * moved[labels[i]] + (1 - momentum) * features[i])
    return moved


@pytest.mark.parametrize("seed", range(4))
def test_the_loss_and_its_gradient_equal_those_of_a_loop(seed):
    features, labels, centroids = random_batch(seed)
    memory = ClusterMemory(torch.tensor(centroids), ClusterMemorySettings(0.2))
    x = torch.tensor(features, requires_grad=True)
    loss = memory(x, torch.tensor(labels))
    assert loss.item() == pytest.approx(naive_loss(features, labels, centroids, 0.2), abs=1e-12)
    assert torch.autograd.gradcheck(lambda x: memory(x, torch.tensor(labels)), x, fast_mode=True)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("update", ["each", "hard"])
def test_centroids_move_as_in_a_loop(seed, update):
    features, labels, centroids = random_batch(seed)
    memory = ClusterMemory(
        torch.tensor(centroids), ClusterMemorySettings(momentum=0.3, update=update)
    )
    memory.update(torch.tensor(features), torch.tensor(labels))
    expected = naive_update(features, labels, centroids, 0.3, update == "hard")
    np.testing.assert_allclose(memory.centroids.numpy(), expected, atol=1e-12)


def test_of_two_rows_equally_far_the_earlier_moves_the_centroid():
    memory = ClusterMemory(torch.eye(3)[:1], ClusterMemorySettings(momentum=0, update="hard"))
    memory.update(torch.tensor([[0.0, 0, 1], [0, 1, 0]]), torch.tensor([0, 0]))
    assert memory.centroids.tolist() == [[0, 0, 1]]


def test_a_memory_begins_with_the_unit_means_of_unit_features():
    features = np.array([[3.0, 0], [0, 5], [9, 9], [0, -2]])
    memory = ClusterMemory.of(torch.tensor(features), torch.tensor([0, 0, -1, 1]))
    np.testing.assert_allclose(memory.centroids, [[0.5**0.5, 0.5**0.5], [0, -1]], atol=1e-12)
    assert memory.centroids.dtype == torch.float64


def test_an_update_after_the_backward_pass_is_not_part_of_the_gradient():
    features, labels, centroids = (torch.tensor(x) for x in random_batch(1))
    memory = ClusterMemory(centroids)
    x = features.requires_grad_()
    memory(x, labels).backward()
    before = x.grad.clone()
    memory.update(x, labels)
    assert not memory.centroids.requires_grad
    assert torch.equal(x.grad, before)


def test_an_update_before_the_backward_pass_does_not_pass_unseen():
    features, labels, centroids = (torch.tensor(x) for x in random_batch(1))
    memory = ClusterMemory(centroids)
    loss = memory(features.requires_grad_(), labels)
    memory.update(features, labels)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_a_memory_goes_on_to_the_bit_from_its_state():
    features, labels, centroids = (torch.tensor(x).float() for x in random_batch(2))
    labels = labels.long()
    memory = ClusterMemory(centroids)
    memory.update(features, labels)
    again = ClusterMemory(memory.state_dict()["centroids"])
    loaded = ClusterMemory(torch.eye(7)[:5])
    loaded.load_state_dict(memory.state_dict())
    for other in (again, loaded, copy.deepcopy(memory), pickle.loads(pickle.dumps(memory))):
        assert torch.equal(other(features, labels), memory(features, labels))
        other.update(features, labels)
    memory.update(features, labels)
    for other in (again, loaded):
        assert torch.equal(other.centroids, memory.centroids)


def test_the_memory_of_another_is_not_shared():
    centroids = torch.eye(2)
    ClusterMemory(centroids).update(torch.ones(1, 2), torch.tensor([0]))
    assert torch.equal(centroids, torch.eye(2))


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_logits_are_computed_in_float32_under_autocast(kind):
    features, labels, centroids = (torch.tensor(x) for x in random_batch(3))
    memory, narrow = ClusterMemory(centroids.float()), features.to(kind)
    with torch.autocast("cpu", torch.bfloat16):
        loss = memory(narrow, labels)
    assert loss.dtype == torch.float32
    exact = ClusterMemory(centroids)(narrow.double(), labels)
    assert loss.item() == pytest.approx(exact.item(), rel=1e-5)


@pytest.mark.parametrize(
    ("features", "labels", "message"),
    [
        (torch.ones(2, 3), torch.tensor([0, -1]), "1 of 2 rows have a label below 0"),
        (torch.ones(2, 3), torch.tensor([0, 2]), "a label is 2, but there are only 2 classes"),
        (torch.ones(2, 3), torch.tensor([0]), r"labels must be whole numbers \[2\]"),
        (torch.ones(2, 3), torch.tensor([0.0, 1]), r"labels must be whole numbers \[2\]"),
        (torch.ones(0, 3), torch.tensor([], dtype=torch.long), "a batch with rows"),
        (torch.ones(2), torch.tensor([0, 1]), "a batch with rows"),
        (torch.ones(2, 3, dtype=torch.int64), torch.tensor([0, 1]), "floating numbers"),
    ],
)
def test_batches_that_cannot_be_trained_on(features, labels, message):
    memory = ClusterMemory(torch.eye(3)[:2])
    for act in (memory, memory.update):
        with pytest.raises(ValueError, match=message):
            act(features, labels)


def test_centroids_and_settings_that_cannot_be():
    with pytest.raises(ValueError, match="unit length"):
        ClusterMemory(torch.tensor([[1.0, 1.0]]))
    with pytest.raises(ValueError, match="unit length"):
        ClusterMemory(torch.tensor([[float("nan"), 1.0]]))
    with pytest.raises(ValueError, match=r"must be \[K, D\]"):
        ClusterMemory(torch.ones(0, 2))
    with pytest.raises(ValueError, match="no row belongs to a cluster"):
        ClusterMemory.of(torch.ones(2, 2), torch.tensor([-1, -1]))
    with pytest.raises(ValueError, match="only 1 of 2 groups have rows"):
        ClusterMemory.of(torch.ones(2, 2), torch.tensor([1, 1]))
    with pytest.raises(InputError, match="`temperature` must be more than 0"):
        ClusterMemorySettings(temperature=0)
    with pytest.raises(InputError, match="`momentum` must lie from 0 to 1"):
        ClusterMemorySettings(momentum=1.1)
    with pytest.raises(InputError, match="`update` must be one of each, hard"):
        ClusterMemorySettings(update="mean")
