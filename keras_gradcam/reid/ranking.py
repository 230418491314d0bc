"""Ranked retrieval: for each query the gallery in order of similarity, and how good that order is."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .embeddings import Entries

#: The identity of gallery pictures that are never counted, neither right nor wrong (Market-1501's "-1").
JUNK = -1

# So many numbers of the matrix of similarities are in memory at once.
_PORTION = 16_000_000


@dataclass(frozen=True, eq=False, repr=False)
class Ranking:
    """A gallery ranked for Q queries.

    Attributes:
        indices: int (Q, top), positions in the gallery, best first; -1 where the list is shorter.
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


def _ranked(queries: Entries, entries: Entries, metric: str, top: int, same: bool) -> Ranking:
    count, size = len(queries), len(entries)
    indices = np.full((count, min(top, size)), -1)
    similarities = np.full(indices.shape, np.nan, np.float32)
    correct = np.zeros(indices.shape, bool)
    precision = np.full(count, np.nan)
    firsts: list[int] = []
    portion = max(1, _PORTION // size)
    # In 64 bits: an untrained network gives all pictures nearly the same embedding.
    asked, known = queries.vectors.astype(np.float64), entries.vectors.astype(np.float64)
    if metric == "cosine":
        asked, known = directions(asked), directions(known)
    for start in range(0, count, portion):
        scores = _scores(asked[start : start + portion], known, metric)
        for number, row in enumerate(scores, start=start):
            counted = entries.identities != JUNK
            if queries.cameras is not None and entries.cameras is not None:
                own = entries.identities == queries.identities[number]
                counted &= ~(own & (entries.cameras == queries.cameras[number]))
            if same:
                counted[number] = False
            # Equal embeddings may differ in the last bits of a product of matrices; they keep the gallery's order.
            order = np.argsort(-np.round(row / (np.abs(row).max() or 1.0), 12), kind="stable")
            order = order[counted[order]]
            right = entries.identities[order] == queries.identities[number]
            length = min(top, len(order))
            indices[number, :length] = order[:length]
            similarities[number, :length] = row[order[:length]]
            correct[number, :length] = right[:length]
            places = np.flatnonzero(right) + 1
            if len(places):
                firsts.append(int(places[0]))
                precision[number] = np.mean(np.arange(1, len(places) + 1) / places)
    found = np.bincount(np.array(firsts, int), minlength=size + 1)[1:]
    cmc = np.cumsum(found) / len(firsts) if firsts else np.full(size, np.nan)
    mean = float(np.nanmean(precision)) if firsts else float("nan")
    return Ranking(indices, similarities, correct, cmc, precision, mean)


def _scores(one: np.ndarray, other: np.ndarray, metric: str) -> np.ndarray:
    """(len(one), len(other)): the cosine of directions, or the Euclidean distance with a minus sign."""
    if metric == "cosine":
        return one @ other.T
    squares = (one**2).sum(axis=1)[:, None] + (other**2).sum(axis=1)[None] - 2 * one @ other.T
    return 0 - np.sqrt(np.maximum(squares, 0))


def directions(vectors: np.ndarray) -> np.ndarray:
    """Vectors of length one; those of length zero stay zero."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1)


@dataclass(frozen=True, eq=False, repr=False)
class RankList:
    """One query and the first of its ranking, explained.

    Attributes:
        index: Which query it is.
        identity: Of the query.
        query: The picture as the model takes it, (H, W, C).
        query_map: float32 (h, w), what makes the query match the first of its list.
        pictures: (k, H, W, C), the first k of the ranking.
        maps: float32 (k, h, w), what makes each match the query.
        similarities: float32 (k,), the cosine, or the distance with a minus sign.
        identities: int (k,).
        correct: bool (k,), whether the identity is that of the query.
        form: "exact" if the maps sum to the cosine similarity, "gradient" if they are Grad-CAM of the score; see
            :func:`keras_gradcam.reid.similarity_maps`.
        metric: "cosine" or "euclidean".
    """

    index: int
    identity: int
    query: np.ndarray
    query_map: np.ndarray
    pictures: np.ndarray
    maps: np.ndarray
    similarities: np.ndarray
    identities: np.ndarray
    correct: np.ndarray
    form: str
    metric: str = "cosine"

    def __repr__(self) -> str:
        return f"RankList(query {self.index}, identity {self.identity}, {self.correct.sum()} of {len(self.correct)})"
