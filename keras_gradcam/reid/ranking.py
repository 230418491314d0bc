"""Ranked retrieval: for each query the gallery in order of similarity, and how good that order is."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..grids import Spans
from .embeddings import EmbeddedSet

# The identity of gallery pictures that are never counted, neither right nor wrong (Market-1501's "-1").
_JUNK = -1

# The largest part of the matrix of similarities that is in memory at once, in numbers.
_MAX_NUMBERS = 16_000_000


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class RankMaps:
    """Maps of a query and of the pictures in its list.

    Attributes:
        query_map: float32 (h, w), what makes the query match the first of its list.
        maps: float32 (k, h, w), what makes each match the query.
        form: "exact" if the maps sum to the cosine similarity, "gradient" if they are Grad-CAM of the score; see
            :func:`keras_gradcam.reid.similarity_maps`.
        spans: Where the maps lie on the pictures, see :class:`keras_gradcam.grids.Placement`; None over all of them.
    """

    query_map: np.ndarray
    maps: np.ndarray
    form: str
    spans: Spans = None


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class RankList(RankMaps):
    """One query and the first of its ranking, explained: beside what :class:`RankMaps` holds, what they belong to.

    Attributes:
        index: Which query it is.
        identity: The identity of the query.
        query: The picture as the model takes it, (H, W, C).
        pictures: (k, H, W, C), the first k of the ranking.
        similarities: float32 (k,), the cosine, or the distance with a minus sign.
        identities: int (k,).
        metric: "cosine" or "euclidean".
    """

    index: int
    identity: int
    query: np.ndarray
    pictures: np.ndarray
    similarities: np.ndarray
    identities: np.ndarray
    metric: str = "cosine"

    @property
    def correct(self) -> np.ndarray:
        """Whether the identity is that of the query, bool (k,)."""
        return self.identities == self.identity

    def __repr__(self) -> str:
        return f"RankList(query {self.index}, identity {self.identity}, {self.correct.sum()} of {len(self.correct)})"


@dataclass(frozen=True, eq=False, repr=False)
class Ranking:
    """A gallery ranked for Q queries.

    Attributes:
        indices: int (Q, top), indices of the gallery, best first; -1 where the list is shorter.
        similarities: float32 (Q, top), the cosine, or the Euclidean distance with a minus sign; NaN where the list is
            shorter.
        correct: bool (Q, top), whether the identity is that of the query.
        cmc: float64 (G,), the share of queries with a right match among the first 1, 2, ... of their list.
        average_precision: float64 (Q,), NaN for queries without any right match in the gallery.
        mean_ap: Their mean.
        explained: The lists of the queries that were to be explained.
    """

    indices: np.ndarray
    similarities: np.ndarray
    correct: np.ndarray
    cmc: np.ndarray
    average_precision: np.ndarray
    mean_ap: float
    explained: tuple[RankList, ...] = field(default=())

    def __repr__(self) -> str:
        first = self.cmc[0] if len(self.cmc) else float("nan")
        return f"Ranking({len(self.indices)} queries, rank-1 {first:.3f}, mAP {self.mean_ap:.3f})"


def rank_embeddings(queries: EmbeddedSet, gallery: EmbeddedSet, metric: str, top: int, is_same: bool) -> Ranking:
    """Ranks a gallery for every query; see :func:`keras_gradcam.reid.rank`.

    Args:
        queries: The queries.
        gallery: The gallery.
        metric: "cosine" or "euclidean".
        top: How many of each list are kept.
        is_same: Whether the gallery is the queries, each of which then leaves itself out.
    """
    count, size = len(queries), len(gallery)
    indices = np.full((count, min(top, size)), -1)
    similarities = np.full(indices.shape, np.nan, np.float32)
    correct = np.zeros(indices.shape, bool)
    precision = np.full(count, np.nan)
    first_matches: list[int] = []
    rows = max(1, _MAX_NUMBERS // size)
    # In 64 bits: an untrained network gives all pictures nearly the same embedding.
    query_vectors, gallery_vectors = queries.vectors.astype(np.float64), gallery.vectors.astype(np.float64)
    if metric == "cosine":
        query_vectors, gallery_vectors = directions(query_vectors), directions(gallery_vectors)
    for start in range(0, count, rows):
        scores = _scores(query_vectors[start : start + rows], gallery_vectors, metric)
        for number, row in enumerate(scores, start=start):
            order = _order(row, _counted(queries, number, gallery, is_same))
            is_right = gallery.identities[order] == queries.identities[number]
            length = min(top, len(order))
            indices[number, :length] = order[:length]
            similarities[number, :length] = row[order[:length]]
            correct[number, :length] = is_right[:length]
            ranks = np.flatnonzero(is_right) + 1
            if len(ranks):
                first_matches.append(int(ranks[0]))
                precision[number] = np.mean(np.arange(1, len(ranks) + 1) / ranks)
    counts = np.bincount(np.array(first_matches, int), minlength=size + 1)[1:]
    cmc = np.cumsum(counts) / len(first_matches) if first_matches else np.full(size, np.nan)
    mean = float(np.nanmean(precision)) if first_matches else float("nan")
    return Ranking(indices, similarities, correct, cmc, precision, mean)


def directions(vectors: np.ndarray) -> np.ndarray:
    """Scales vectors (N, D) to length one; vectors of length zero stay zero."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1)


def _counted(queries: EmbeddedSet, number: int, gallery: EmbeddedSet, is_same: bool) -> np.ndarray:
    """Returns which of the gallery count for a query, bool (G,): no junk, none of its identity and camera."""
    counted = gallery.identities != _JUNK
    if queries.cameras is not None and gallery.cameras is not None:
        is_own = gallery.identities == queries.identities[number]
        counted &= ~(is_own & (gallery.cameras == queries.cameras[number]))
    if is_same:
        counted[number] = False
    return counted


def _order(scores: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """Returns the indices of the gallery that count, the highest score first."""
    # Equal embeddings may differ in the last bits of a product of matrices; they keep the gallery's order.
    order = np.argsort(-np.round(scores / (np.abs(scores).max() or 1.0), 12), kind="stable")
    return order[counted[order]]


def _scores(queries: np.ndarray, gallery: np.ndarray, metric: str) -> np.ndarray:
    """Returns the cosine of directions, or the Euclidean distance with a minus sign, (Q, G)."""
    if metric == "cosine":
        return queries @ gallery.T
    squares = (queries**2).sum(axis=1)[:, None] + (gallery**2).sum(axis=1)[None] - 2 * queries @ gallery.T
    return 0 - np.sqrt(np.maximum(squares, 0))
