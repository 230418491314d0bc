"""Ranked retrieval: for each query the gallery in order of similarity, and how good that order is."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..checks import check_whole_number
from ..explainer import Explainer
from .entries import Entries, check_cameras, embedded
from .lists import RankList, explained_lists
from .pairs import as_explainer

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


def rank(
    query: Any,
    gallery: Any,
    model: Any = None,
    *,
    metric: str = "cosine",
    top: int = 10,
    explain: int | Sequence[int] = 0,
    progress: bool = True,
) -> Ranking:
    r"""Ranks a gallery for every query, as in the Market-1501 protocol.

    Gallery entries with the query's identity and the query's camera are left out, and so are those of identity -1
    (junk). Without cameras nothing but junk is left out; where both are the same pictures (one object), each query's
    own entry. Entries of equal similarity keep the order of the gallery.

    Of a list with right matches at positions :math:`p_1 < ... < p_m` (counted from 1, in what is left of the gallery)

    .. math:: AP = \frac{1}{m} \sum_i \frac{i}{p_i} \qquad CMC_k = \text{share of queries with } p_1 \le k

    the uninterpolated average precision that most toolkits report. The Matlab code published with Market-1501 takes the
    mean of the precision before and at each match instead, which gives slightly other values.

    Pictures are embedded in portions: memory holds all embeddings, but only one portion of pictures and of the matrix
    of similarities.

    Args:
        query: ``(pictures, identities, cameras)`` or ``(pictures, identities)``, where embeddings (N, D) may stand
            for pictures; or a ``tf.data.Dataset`` of either, batched or not.
        gallery: The same.
        model: A Keras model that returns embeddings, or an :class:`keras_gradcam.Explainer` of it; not needed where
            embeddings are given.
        metric: "cosine", or "euclidean".
        top: How many of each list are returned.
        explain: How many queries, from the first, or which ones to explain: their first ``top`` get maps. A dataset
            is read once more for it, and has to give the same order again.
        progress: Whether to show progress bars.

    Returns:
        The :class:`Ranking`.

    Raises:
        ValueError: If the arguments do not fit each other.

    Example:
        >>> import numpy as np
        >>> gallery = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]]), [7, 8, 7], [0, 1, 1]
        >>> rank((np.array([[1.0, 0.0]]), [7], [0]), gallery).indices[0, :2]  # the first is of the query's camera
        array([1, 2])

    Source: Zheng et al., Scalable Person Re-identification: A Benchmark, ICCV 2015.
    """
    if metric not in ("cosine", "euclidean"):
        raise ValueError(f"`metric` must be 'cosine' or 'euclidean'. Received: {metric!r}.")
    check_whole_number("top", top, 1)
    explainer = None if model is None else as_explainer(model)
    ranking = ranked_and_explained(
        query, gallery, explainer, metric, top, lambda people: _chosen(explain, len(people)), progress
    )
    warn_of_unmatched(ranking)
    return ranking


def ranked_and_explained(
    query: Any,
    gallery: Any,
    explainer: Explainer | None,
    metric: str,
    top: int,
    choose: Callable[[np.ndarray], Sequence[int]],
    progress: bool,
) -> Ranking:
    """Ranks; ``choose`` says which queries to explain, given the identities of all."""
    queries = embedded("query", query, explainer, progress)
    same = gallery is query or _alike(query, gallery)
    entries = queries if same else embedded("gallery", gallery, explainer, progress)
    if queries.vectors.shape[1] != entries.vectors.shape[1]:
        raise ValueError(
            "`query` and `gallery` must have embeddings of one length. "
            f"Received: {queries.vectors.shape[1]} and {entries.vectors.shape[1]}."
        )
    check_cameras(queries.cameras is not None, entries.cameras is not None)
    ranking = _ranked(queries, entries, metric, top, same)
    chosen = choose(queries.identities)
    if not chosen:
        return ranking
    if explainer is None:
        raise ValueError("`model` must be given to explain a ranking. Received: None.")
    return replace(ranking, explained=explained_lists(explainer, queries, entries, ranking, chosen, metric))


def warn_of_unmatched(ranking: Ranking) -> None:
    """Queries without any right match count neither for nor against a network."""
    unmatched = int(np.isnan(ranking.average_precision).sum())
    if unmatched:
        warnings.warn(
            f"{unmatched} of {len(ranking.indices)} queries have no right match in the gallery; CMC and mAP leave them "
            "out.",
            UserWarning,
            stacklevel=3,
        )


def _alike(query: Any, gallery: Any) -> bool:
    """Whether two tuples hold the very same arrays."""
    tuples = isinstance(query, tuple) and isinstance(gallery, tuple) and len(query) == len(gallery)
    return tuples and all(one is other for one, other in zip(query, gallery, strict=True))


def _chosen(explain: int | Sequence[int], count: int) -> list[int]:
    """The numbers of the queries that are to be explained."""
    numbers = np.asarray(explain)
    if numbers.size == 0:
        return []
    whole = numbers.dtype.kind in "iu" and numbers.min() >= 0
    if numbers.ndim == 0:
        if not whole:
            raise ValueError(f"`explain` must be a whole number >= 0, or numbers of queries. Received: {explain!r}.")
        return list(range(min(int(numbers), count)))
    if not whole or numbers.ndim > 1 or numbers.max() >= count:
        raise ValueError(f"`explain` must name queries 0 to {count - 1}. Received: {explain!r}.")
    return numbers.tolist()


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
