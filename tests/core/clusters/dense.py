"""Clustering on dense matrices, by loops: what the sparse forms must equal."""

import numpy as np

NOISE = -1


def plain_weights(features, order, k1, k2):
    """V `[N, N]` of the plain form; `order` `[N, N]` ranks all rows, the row itself first."""
    n = len(features)

    def reciprocal(i, members):
        near = order[i, :members]
        return {int(j) for j in near if i in order[j, :members]}

    v = np.zeros((n, n))
    for i in range(n):
        first = reciprocal(i, k1)
        taken = set(first)
        for j in first:
            theirs = reciprocal(j, round(k1 / 2) + 1)
            if len(theirs & first) > 2 / 3 * len(theirs):
                taken |= theirs
        v[i] = softmax_over(features, i, taken)
    return np.array([v[order[i, :k2]].mean(axis=0) for i in range(n)])


def camera_weights(features, order, cameras, settings):
    """V `[N, N]` of the camera-aware form."""
    n = len(features)

    def lists(i):
        own = [int(j) for j in order[i] if (cameras[j] == cameras[i] and cameras[i] >= 0) or j == i]
        return own, [int(j) for j in order[i] if j not in own]

    near = [lists(i) for i in range(n)]
    sizes = settings.k1_same + 1, settings.k1_other + 1
    v = np.zeros((n, n))
    for i in range(n):
        taken = {i}
        for kind, size in enumerate(sizes):
            taken |= {j for j in near[i][kind][:size] if i in near[j][kind][:size]}
        v[i] = softmax_over(features, i, taken)
    means = [[*own[: settings.k2_same], *others[: settings.k2_other]] for own, others in near]
    return np.array([v[rows].mean(axis=0) for rows in means])


def softmax_over(features, i, taken):
    columns = sorted(taken)
    raised = np.exp(-np.maximum(0, 2 - 2 * features[columns].astype(np.float64) @ features[i]))
    raised[columns.index(i)] = 1  # a row is at distance 0 from itself, whatever its length is
    out = np.zeros(len(features))
    out[columns] = raised / raised.sum()
    return out


def jaccard(v):
    """J `[N, N]` of the rows of V."""
    shared = np.array([np.minimum(row, v).sum(axis=1) for row in v])
    return np.maximum(0, 1 - shared / (2 - shared))


def dbscan(distances, eps, min_samples):
    """Labels as scikit-learn grows them: one cluster after the other, from its lowest core row."""
    n = len(distances)
    near = [np.flatnonzero(distances[i] <= eps) for i in range(n)]
    core = [len(each) >= min_samples for each in near]
    labels = np.full(n, NOISE)
    for seed in range(n):
        if not core[seed] or labels[seed] != NOISE:
            continue
        label = labels.max() + 1
        labels[seed] = label
        waiting = [seed]
        while waiting:
            row = waiting.pop()
            if core[row]:
                fresh = [int(j) for j in near[row] if labels[j] == NOISE]
                labels[fresh] = label
                waiting += fresh
    return labels
