"""Ranked retrieval: for each query the gallery in order of similarity, and how good that order is."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..grids import Spans
from .embeddings import EmbeddedSet
from .search import search


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
    """Ranks a gallery for every query; the arguments are those of :func:`~keras_gradcam.reid.search.search`."""
    lists = search(queries, gallery, metric, top, is_same)
    is_listed = lists.indices >= 0
    correct = is_listed & (gallery.identities[lists.indices] == queries.identities[:, None])
    precision = np.array([_average_precision(ranks) for ranks in lists.match_ranks])
    first_matches = np.array([ranks[0] for ranks in lists.match_ranks if len(ranks)], np.int64)
    if not len(first_matches):
        cmc, mean = np.full(len(gallery), np.nan), float("nan")
    else:
        cmc = np.cumsum(np.bincount(first_matches, minlength=len(gallery) + 1)[1:]) / len(first_matches)
        mean = float(np.nanmean(precision))
    return Ranking(lists.indices, lists.similarities, correct, cmc, precision, mean)


def _average_precision(ranks: np.ndarray) -> float:
    """Returns the average precision of a list with right matches at these ranks, ascending; NaN without any."""
    return float(np.mean(np.arange(1, len(ranks) + 1) / ranks)) if len(ranks) else float("nan")
