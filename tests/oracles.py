"""Naive loops: slow, obvious, and the truth that every fast path is held against."""

from itertools import pairwise

import numpy as np


def sorted_rows(scores, rows):
    """Rows in the total order: similarity descending, then row ascending."""
    return sorted(rows, key=lambda row: (-scores[row], row))


def top_k(queries, gallery, k, self_offset=None, may_meet=None):
    """The k best rows of every query as lists of (score, row)."""
    found, exact = [], gallery.astype(np.float64)
    for i, query in enumerate(queries.astype(np.float64)):
        scores = [float(np.dot(query, row)) for row in exact]
        rows = [r for r in range(len(gallery)) if self_offset is None or r != self_offset + i]
        rows = [r for r in rows if may_meet is None or may_meet(i, r)]
        found.append([(scores[r], r) for r in sorted_rows(scores, rows)[:k]])
    return found


def kept_rows(identity, camera, gallery_labels):
    """The gallery rows that are no junk to a query, and those of them that match it."""
    kept, matching = [], []
    for row in range(len(gallery_labels)):
        same_identity = gallery_labels.identity[row] == identity and identity > 0
        same_camera = gallery_labels.camera[row] == camera and camera >= 0
        if gallery_labels.identity[row] != -1 and not (same_identity and same_camera):
            kept.append(row)
            if same_identity:
                matching.append(row)
    return kept, matching


def hit_ranks(queries, query_labels, gallery, gallery_labels):
    """For every query the 1-based ranks of its matches among the kept rows."""
    ranks, exact = [], gallery.astype(np.float64)
    for i, query in enumerate(queries.astype(np.float64)):
        scores = [float(np.dot(query, row)) for row in exact]
        kept, matching = kept_rows(query_labels.identity[i], query_labels.camera[i], gallery_labels)
        order = sorted_rows(scores, kept)
        ranks.append([place + 1 for place, row in enumerate(order) if row in matching])
    return ranks


def average_precision(ranks):
    """Mean of i / R_i."""
    return sum((i + 1) / rank for i, rank in enumerate(ranks)) / len(ranks)


def average_precision_trapezoid(ranks):
    """The loop of the Oxford and Market-1501 code."""
    total = 0.0
    for i, rank in enumerate(ranks):
        new = (i + 1) / rank
        old = 1.0 if rank == 1 else i / (rank - 1)
        total += (1.0 / len(ranks)) * (old + new) / 2
    return total


def cmc(all_ranks, length):
    """Share of the queries with a match whose first match has rank <= r, for r = 1 .. length."""
    valid = [ranks for ranks in all_ranks if ranks]
    return [sum(ranks[0] <= r for ranks in valid) / len(valid) for r in range(1, length + 1)]


def expand(rows, among, k, alpha, self_offset=None):
    """Weighted mean of a row and its k - 1 best rows of `among`, at unit length."""
    expanded = []
    for row, best in zip(rows, top_k(rows, among, k - 1, self_offset), strict=True):
        total = row.astype(np.float64)
        for score, neighbor in best:
            total = total + max(score, 0.0) ** alpha * among[neighbor]
        expanded.append(total / np.linalg.norm(total))
    return np.array(expanded)


def fastreid_aqe(queries, gallery, qe_times, qe_k, alpha):
    """fast-reid's full-matrix `aqe`, by its definition: union, self included.

    Neighbors are found by direction, and their mean is that of the vectors as they are: from the
    second round on, a vector counts by its length, too.
    """
    union = np.vstack([queries, gallery]).astype(np.float64)
    for _ in range(qe_times):
        directions = union / np.linalg.norm(union, axis=1, keepdims=True)
        similarity = directions @ directions.T
        new = np.empty_like(union)
        for i in range(len(union)):
            best = np.argsort(-similarity[i], kind="stable")[:qe_k]
            weights = similarity[i, best] ** alpha
            new[i] = (weights[:, None] * union[best]).mean(axis=0)
        union = new
    union /= np.linalg.norm(union, axis=1, keepdims=True)
    return union[: len(queries)], union[len(queries) :]


def k_reciprocal(queries, gallery, k1, k2, lam, variant):
    """Final distances [Q, G] by the definition, set by set and over full matrices."""
    union = np.vstack([queries, gallery]).astype(np.float64)
    n = len(union)
    similarity = union @ union.T
    d = np.maximum(2 - 2 * similarity, 0)
    if variant == "torchreid":
        d = d**2
    np.fill_diagonal(d, 0)
    greatest = d.max(axis=0)
    near = [
        [i, *sorted_rows(similarity[i], [row for row in range(n) if row != i])] for i in range(n)
    ]

    def share(i, j):
        return d[i, j] / greatest[i] if greatest[i] > 0 else 0.0

    def reciprocal(i, k):
        return {j for j in near[i][: k + 1] if i in near[j][: k + 1]}

    weights = np.zeros((n, n))
    for i in range(n):
        members = reciprocal(i, k1)
        expanded = set(members)
        for j in members:
            theirs = reciprocal(j, round(k1 / 2))
            if 3 * len(theirs & members) > 2 * len(theirs):
                expanded |= theirs
        for j in expanded:
            weights[i, j] = np.exp(-share(i, j))
        weights[i] /= weights[i].sum()
    weights = np.array([weights[near[i][:k2]].mean(axis=0) for i in range(n)])
    final = np.empty((len(queries), len(gallery)))
    for i in range(len(queries)):
        for j in range(len(queries), n):
            m = np.minimum(weights[i], weights[j]).sum()
            final[i, j - len(queries)] = (1 - lam) * (1 - m / (2 - m)) + lam * share(i, j)
    return final


def open_set(positives, negatives, rates):
    """Equal-error rate and its threshold, and (threshold, FAR, TAR) at each rate, by trying all.

    Scores are rounded down to steps of 2^-24, and thresholds are such steps.
    """
    positives, negatives = (np.floor(np.array(s) * 2.0**24) for s in (positives, negatives))
    steps = np.unique(np.concatenate([positives, negatives]))
    # Shares that are equal must be so to the bit: what is rejected is counted, not 1 - TAR.
    curve = [
        (step, float(np.mean(negatives >= step)), float(np.mean(positives < step)))
        for step in np.unique(np.concatenate([steps, steps + 1]))
    ]
    points = [
        next(((t / 2**24, far, 1 - lost) for t, far, lost in curve if far <= rate), None)
        if rate * len(negatives) >= 1
        else None
        for rate in rates
    ]
    (_, far_before, lost_before), (step, far, lost) = next(
        (before, after) for before, after in pairwise(curve) if after[2] >= after[1]
    )
    # The polygon from (far_before, 1 - lost_before) to (far, 1 - lost) meets lost = far.
    behind, ahead = far_before - lost_before, lost - far
    rate = far + (far_before - far) * ahead / (ahead + behind)
    return rate, step / 2**24, points


def bootstrap(values, replicates, level, seed):
    """Percentile interval of the mean, one replicate after another."""
    random = np.random.default_rng(seed)
    draws = [random.integers(0, len(values), len(values)) for _ in range(replicates)]
    means = [np.mean([values[i] for i in draw]) for draw in draws]
    return np.quantile(means, (1 - level) / 2), np.quantile(means, (1 + level) / 2)


def camera_normalized(rows, camera, gallery, gallery_camera, mode, least_rows):
    """Each row without the mean (and the deviation) of its camera's gallery rows, in two passes."""
    normalized, spreads = [], {}
    for row, own in zip(rows, camera, strict=True):
        if own not in spreads:
            theirs = gallery[gallery_camera == own].astype(np.float64)
            if own < 0 or len(theirs) < least_rows:
                theirs = gallery.astype(np.float64)
            mean = sum(theirs) / len(theirs)
            squares = sum((each - mean) ** 2 for each in theirs) / len(theirs)
            spreads[own] = mean, np.sqrt(squares)
        mean, deviation = spreads[own]
        left = row - mean
        if np.linalg.norm(left) < 1e-6:
            normalized.append(row)
            continue
        if mode == "zscore":
            left = left / np.where(deviation > 1e-5, deviation, 1)
        normalized.append(left / np.linalg.norm(left))
    return np.array(normalized).reshape(rows.shape)


def linked_groups(
    features, moments, k, threshold, may_meet=None, in_group=None, same=(), different=()
):
    """The smallest row of every row's group, and the links refused: set by set.

    Pairs that are the `same` are joined first, whatever forbids it.
    """
    near = [{row for _, row in best} for best in top_k(features, features, k, 0, may_meet)]
    links = []
    for i in range(len(features)):
        for j in range(i + 1, len(features)):
            score = float(np.dot(features[i].astype(np.float64), features[j]))
            if j in near[i] and i in near[j] and score >= threshold:
                links.append((-score, i, j))
    groups = [{row} for row in range(len(features))]
    refused = 0
    apart = [set(pair) for pair in different]
    forced = [(None, *pair) for pair in same]
    for score, i, j in [*forced, *sorted(links)]:
        first = next(group for group in groups if i in group)
        second = next(group for group in groups if j in group)
        if first is second:
            continue
        forbidden = in_group and any(not in_group(a, b) for a in first for b in second)
        together = first | second
        ours, theirs = ({moments[row] for row in each} - {-1} for each in (first, second))
        meet = bool(ours & theirs) or any(pair <= together for pair in apart)
        if score is not None and (meet or forbidden):
            refused += 1
            continue
        groups = [group for group in groups if group is not first and group is not second]
        groups.append(first | second)
    smallest = {row: min(group) for group in groups for row in group}
    return [smallest[row] for row in range(len(features))], refused


def groups_of(rows, pairs):
    """The smallest row that each row is connected with by pairs, round by round."""
    group = {row: row for row in rows}
    for _ in group:
        for a, b in pairs:
            group[a] = group[b] = min(group[a], group[b])
    return group


def b_cubed(group, identity):
    """Precision and recall, row by row."""
    precision = recall = 0.0
    for i in range(len(group)):
        mine = [j for j in range(len(group)) if group[j] == group[i]]
        same = [j for j in range(len(group)) if identity[j] == identity[i]]
        precision += len(set(mine) & set(same)) / len(mine) / len(group)
        recall += len(set(mine) & set(same)) / len(same) / len(group)
    return precision, recall


def mutual_information(first, second):
    """Normalized by the mean entropy, from the table of joint shares."""
    joint = np.zeros((max(first) + 1, max(second) + 1))
    for a, b in zip(first, second, strict=True):
        joint[a, b] += 1
    joint /= len(first)  # a single part has a share of 1, and no rounding
    rows, columns = joint.sum(axis=1), joint.sum(axis=0)
    mean = sum(-p * np.log(p) for p in (*rows, *columns) if p > 0) / 2
    if mean == 0:
        return 1.0
    return sum(
        joint[a, b] * np.log(joint[a, b] / (rows[a] * columns[b]))
        for a in range(len(rows))
        for b in range(len(columns))
        if joint[a, b] > 0
    ) / mean  # fmt: skip


def pair_scores(queries, query_labels, gallery, gallery_labels):
    """The similarities of every query's positive and negative pairs, as two lists of lists."""
    positives, negatives = [], []
    exact = gallery.astype(np.float64)
    for i, query in enumerate(queries.astype(np.float64)):
        identity, camera = query_labels.identity[i], query_labels.camera[i]
        if identity <= 0:
            continue
        positives.append([])
        negatives.append([])
        for row, other in enumerate(exact):
            score = float(np.dot(query, other))
            if gallery_labels.identity[row] == identity:
                if camera == -1 or gallery_labels.camera[row] != camera:
                    positives[-1].append(score)
            elif gallery_labels.identity[row] != -1:
                negatives[-1].append(score)
    return positives, negatives


def camera_pair_ranks(queries, query_labels, gallery, gallery_labels):
    """For every pair of cameras the ranks of each query's matches in that gallery camera alone."""
    pairs = {}
    for camera in np.unique(gallery_labels.camera):
        rows = np.flatnonzero(gallery_labels.camera == camera)
        labels = type(gallery_labels)(gallery_labels.identity[rows], gallery_labels.camera[rows])
        for i, ranks in enumerate(hit_ranks(queries, query_labels, gallery[rows], labels)):
            if ranks:
                pairs.setdefault((int(query_labels.camera[i]), int(camera)), []).append(ranks)
    return pairs


def single_shot_rank(scores, identity, camera, gallery_labels, order):
    """The rank of a query's match among one kept row of each identity: the first in `order`."""
    kept = {}
    for row in np.argsort(order):
        other, place = gallery_labels.identity[row], gallery_labels.camera[row]
        if other == -1 or (other == identity and place == camera >= 0):
            continue
        kept.setdefault(f"distractor {row}" if other == 0 else other, row)
    ranked = sorted_rows(scores, kept.values())
    return ranked.index(kept[identity]) + 1 if identity in kept else 0
