"""Embeddings, similarities and rankings once more, slowly and in float64. Nothing here imports the package."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

# ------------------------------------------------------------------------------------------------------------- vectors


def dot(one, other) -> float:
    return sum(float(x) * float(y) for x, y in zip(one, other, strict=True))


def length(vector) -> float:
    return math.sqrt(dot(vector, vector))


def cosine(one, other) -> float:
    """Zero where a vector is."""
    lengths = length(one) * length(other)
    return dot(one, other) / lengths if lengths else 0.0


def distance(one, other) -> float:
    return length([float(x) - float(y) for x, y in zip(one, other, strict=True)])


# --------------------------------------------------------------------------------------------------------------- heads


class Affine:
    """What follows the mean of a feature map: z -> (z W + b - mean) * gamma / sqrt(variance + eps) + beta."""

    def __init__(self, dense: Sequence | None = None, norm: Sequence | None = None, epsilon: float = 1e-3):
        """``dense`` is (kernel, bias), ``norm`` (gamma, beta, moving mean, moving variance), as Keras lists them."""
        self.kernel, self.bias = (None, None) if dense is None else [np.asarray(w, "float64") for w in dense]
        if norm is None:
            self.slope, self.shift = 1.0, 0.0
        else:
            gamma, beta, mean, variance = (np.asarray(w, "float64") for w in norm)
            self.slope = gamma / np.sqrt(variance + epsilon)
            self.shift = beta - mean * self.slope

    def linear(self, z):
        return (z if self.kernel is None else z @ self.kernel) * self.slope

    def constant(self, channels: int):
        bias = 0.0 if self.bias is None else self.bias
        size = channels if self.kernel is None else self.kernel.shape[1]
        return np.broadcast_to(bias * self.slope + self.shift, (size,))

    def __call__(self, features):
        """Feature maps (N, h, w, K) to embeddings (N, D)."""
        mean = np.asarray(features, "float64").mean(axis=(1, 2))
        return self.linear(mean) + self.constant(mean.shape[-1])

    def cells(self, features):
        """(N, h, w, D): the share of each cell, with an even part of what does not depend on the picture."""
        features = np.asarray(features, "float64")
        count = features.shape[1] * features.shape[2]
        result = np.empty((*features.shape[:3], len(self.constant(features.shape[-1]))))
        for index in np.ndindex(*features.shape[:3]):
            result[index] = (self.linear(features[index]) + self.constant(features.shape[-1])) / count
        return result


def flattened_cells(features, kernel, bias):
    """The same for Flatten and Dense: every cell has rows of the kernel of its own."""
    features, kernel = np.asarray(features, "float64"), np.asarray(kernel, "float64")
    samples, height, width, channels = features.shape
    rows = kernel.reshape(height, width, channels, -1)
    result = np.empty((samples, height, width, kernel.shape[1]))
    for n, i, j in np.ndindex(samples, height, width):
        result[n, i, j] = features[n, i, j] @ rows[i, j] + np.asarray(bias, "float64") / (height * width)
    return result


def pair_matrix(cells_a, cells_b) -> np.ndarray:
    """<F_i, G_j> / (|f| |g|) for pairs of pictures, one cell of the first after the other."""
    result = np.empty((*cells_a.shape[:3], *cells_b.shape[1:3]))
    for n, i, j in np.ndindex(*cells_a.shape[:3]):
        f, g = cells_a[n].sum(axis=(0, 1)), cells_b[n].sum(axis=(0, 1))
        result[n, i, j] = cells_b[n] @ cells_a[n, i, j] / (length(f) * length(g))
    return result


# ----------------------------------------------------------------------------------------------------------- gradients


def numeric_gradient(score: Callable, features, step: float = 1e-5) -> np.ndarray:
    """d(score of each sample)/d(features) by central differences, one number of the feature map at a time."""
    features = np.array(features, "float64")
    gradient = np.empty_like(features)
    for index in np.ndindex(*features.shape):
        kept = features[index]
        sides = []
        for moved in (kept + step, kept - step):
            features[index] = moved
            sides.append(score(features)[index[0]])
        features[index] = kept
        gradient[index] = (sides[0] - sides[1]) / (2 * step)
    return gradient


# ------------------------------------------------------------------------------------------------------------- ranking


class Ranked:
    """The ranking of one query: positions in the gallery, best first, whether they are right, and their scores."""

    def __init__(self, indices: list[int], right: list[bool], scores: list[float]):
        self.indices, self.right, self.scores = indices, right, scores

    def average_precision(self) -> float | None:
        """The mean, over the right ones, of the share of right ones down to there."""
        precisions = [sum(self.right[: n + 1]) / (n + 1) for n, hit in enumerate(self.right) if hit]
        return sum(precisions) / len(precisions) if precisions else None

    def found_within(self, count: int) -> bool:
        return any(self.right[:count])


def market1501(query, gallery, score: Callable = cosine, same: bool = False) -> list[Ranked]:
    """The protocol from its definition: junk is what has identity -1, or the query's identity and camera.

    Args:
        query: (vectors, identities, cameras or None).
        gallery: The same.
        score: Of two vectors; the higher, the better.
        same: Whether the gallery is the query, whose entries do not look for themselves.
    """
    rankings = []
    for q, (vector, identity) in enumerate(zip(query[0], query[1], strict=True)):
        left = []
        for g, (other, known) in enumerate(zip(gallery[0], gallery[1], strict=True)):
            if known == -1 or (same and g == q):
                continue
            if query[2] is not None and known == identity and query[2][q] == gallery[2][g]:
                continue
            left.append((-score(vector, other), g))
        left.sort()  # equal scores by the position in the gallery
        rankings.append(
            Ranked(
                [g for _, g in left],
                [bool(gallery[1][g] == identity) for _, g in left],
                [-negative for negative, _ in left],
            )
        )
    return rankings


def cmc(rankings: Sequence[Ranked], size: int) -> list[float]:
    """Of the queries that have a right match at all, the share that have one among the first 1, 2, ... ``size``."""
    counted = [ranking for ranking in rankings if any(ranking.right)]
    return [sum(ranking.found_within(k) for ranking in counted) / len(counted) for k in range(1, size + 1)]


# -------------------------------------------------------------------------------------------------- rankings by sorting


def sorted_lists(queries, gallery, metric, left_out):
    """For each query the indices that count and their similarities, best first: a full sort in 64 bits.

    Scores that agree to 12 digits of the largest are equal and keep the order of the gallery.
    """
    queries, gallery = np.asarray(queries, np.float64), np.asarray(gallery, np.float64)
    for row, query in enumerate(queries):
        if metric == "cosine":
            lengths = np.linalg.norm(gallery, axis=1) * np.linalg.norm(query)
            scores = gallery @ query / np.where(lengths > 0, lengths, 1)
        else:
            scores = -np.linalg.norm(gallery - query, axis=1)
        order = np.argsort(-np.round(scores / (np.abs(scores).max() or 1), 12), kind="stable")
        order = order[~left_out[row][order]]
        yield order, scores[order]
