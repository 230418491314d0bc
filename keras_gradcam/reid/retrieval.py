"""A gallery that is ranked again and again while a network learns."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..attribution.explainer import Explainer
from ..errors import ArgumentError, check_whole_number
from .embeddings import check_cameras, embedded, portions, vectors_of
from .rank_maps import explained_lists
from .ranking import Ranking, _ranked
from .similarity import as_explainer


@dataclass(frozen=True, eq=False)
class Gallery:
    """What a :class:`keras_gradcam.GuidedGradCAMCallback` ranks while a network learns.

    Attributes:
        pictures: ``(pictures, identities, cameras)`` or ``(pictures, identities)``; or a ``tf.data.Dataset`` of these.
        query: The same for the queries; by default the probe with its labels, without cameras.
        every: Rank every so many logged epochs, and after the last one.
        top: How many of each list are shown.
        shown: How many queries are shown: the first one of each identity, and then of the others.

    Raises:
        ValueError: If a number is not one >= 1.
    """

    pictures: Any
    query: Any = None
    every: int = 1
    top: int = 5
    shown: int = 4

    def __post_init__(self) -> None:
        for name in ("every", "top", "shown"):
            check_whole_number(name, getattr(self, name), 1)


def rank_gallery(gallery: Gallery, explainer: Explainer, warn: bool = True) -> Ranking:
    """Ranks a gallery and explains queries of different identities.

    Args:
        gallery: With its queries.
        explainer: Of the network.
        warn: Whether to warn of queries without a right match. They are the same each time that it is ranked.
    """
    ranking = ranked_and_explained(
        gallery.query,
        gallery.pictures,
        explainer,
        "cosine",
        gallery.top,
        lambda people: of_different_people(people, gallery.shown),
        progress=False,
    )
    if warn:
        warn_of_unmatched(ranking)
    return ranking


def check_gallery(gallery: Gallery, explainer: Explainer) -> None:
    """Raises ValueError if a gallery cannot be ranked; looks at its first pictures only."""
    cameras = []
    for name, given in (("query", gallery.query), ("gallery", gallery.pictures)):
        first = next(portions(name, given, 1), None)
        if first is None or not len(first[1]):
            raise ValueError(f"`{name}` must hold at least one picture. Received: none.")
        if first[0].ndim == 2:
            raise ValueError(f"`{name}` must hold pictures, to be embedded anew each time. Received: embeddings.")
        vectors_of(name, first[0][:1], explainer)
        cameras.append(first[2] is not None)
    check_cameras(*cameras)
    _warn_of_queries_in(gallery)


def _warn_of_queries_in(gallery: Gallery) -> None:
    """Without cameras a query that is in the gallery finds itself."""
    sides = gallery.query, gallery.pictures
    if not all(isinstance(side, (tuple, list)) and len(side) == 2 for side in sides):
        return
    asked = {np.ascontiguousarray(picture).tobytes() for picture in gallery.query[0]}
    found = sum(np.ascontiguousarray(picture).tobytes() in asked for picture in gallery.pictures[0])
    if found:
        warnings.warn(
            f"{found} pictures of the gallery are queries too and find themselves, which flatters CMC and mAP. Leave "
            "them out of the gallery, or give cameras.",
            UserWarning,
            stacklevel=2,
        )


def of_different_people(identities: np.ndarray, count: int) -> list[int]:
    """The numbers of ``count`` queries: the first one of each identity, and then of the others."""
    firsts = np.sort(np.unique(identities, return_index=True)[1])
    others = np.setdiff1d(np.arange(len(identities)), firsts)
    return sorted(np.concatenate([firsts, others])[:count].tolist())


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
        raise ArgumentError("metric", "be 'cosine' or 'euclidean'", repr(metric))
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
        raise ArgumentError("model", "be given to explain a ranking", "None")
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
            raise ArgumentError("explain", "be a whole number >= 0, or numbers of queries", repr(explain))
        return list(range(min(int(numbers), count)))
    if not whole or numbers.ndim > 1 or numbers.max() >= count:
        raise ArgumentError("explain", f"name queries 0 to {count - 1}", repr(explain))
    return numbers.tolist()
