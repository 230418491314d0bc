"""Ranks a gallery for queries, once or again and again while a network learns."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..attribution.data_sets import Selector
from ..attribution.explainer import Explainer, as_explainer
from ..attribution.targets.embeddings import SelfSimilarity
from ..errors import ArgumentError, as_numpy, check_choice, check_flag, check_numbers, check_whole_number
from .embeddings import LabelledPictures, check_cameras, embed_pictures, embed_set
from .folders import read_folder
from .rank_maps import explained_lists
from .ranking import Ranking, rank_embeddings


@dataclass(frozen=True, eq=False)
class Gallery:
    """What a :class:`keras_gradcam.GuidedGradCAMCallback` ranks while a network learns.

    Attributes:
        pictures: ``(pictures, identities, cameras)`` or ``(pictures, identities)``; or a data set of these that can be
            read again and again. See :func:`rank`.
        query: The same for the queries; by default the probe with its labels, without cameras.
        every: Rank every so many logged epochs, and after the last one.
        top: How many of each list are shown.
        shown: How many queries are shown: the first one of each identity, and then of the others.
        image: Where samples of a data set are dicts: the key of the pictures, or a function of a sample.
        label: The same for identities.
        camera: The same for cameras.

    Raises:
        ArgumentError: If a number is not one >= 1.
    """

    pictures: Any
    query: Any = None
    every: int = 1
    top: int = 5
    shown: int = 4
    image: Selector = None
    label: Selector = None
    camera: Selector = None

    def __post_init__(self) -> None:
        for name in ("every", "top", "shown"):
            check_whole_number(name, getattr(self, name), 1)

    def sources(self) -> tuple[LabelledPictures, LabelledPictures]:
        """Returns the queries and the gallery as data sets."""
        return _sources(self.query, self.pictures, self.image, self.label, self.camera)


def check_gallery(gallery: Gallery, explainer: Explainer) -> None:
    """Raises ArgumentError if a gallery cannot be ranked; looks at its first pictures only."""
    have_cameras = []
    for source in gallery.sources():
        if source.is_read_once:
            raise ArgumentError(
                source.name,
                "be a data set that can be read again at every ranking",
                f"{type(source.data).__name__}, an iterator",
                ["arrays", "a tf.data.Dataset", "a PyDataset"],
            )
        first = next(source.batches(1))
        if isinstance(first.images, np.ndarray) and first.images.ndim == 2:
            raise ArgumentError(source.name, "hold pictures, to be embedded at every ranking", "embeddings")
        embed_pictures(source.name, first.images, explainer)
        have_cameras.append(first.extra is not None)
    check_cameras(*have_cameras)
    _warn_of_queries_in(gallery)


def rank_gallery(gallery: Gallery, explainer: Explainer, warn: bool = True) -> Ranking:
    """Ranks a gallery and explains queries of different identities.

    Args:
        gallery: With its queries.
        explainer: Explains the network.
        warn: Whether to warn of queries without a right match. They are the same each time that it is ranked.
    """
    ranking = _ranked(
        *gallery.sources(),
        explainer,
        "cosine",
        gallery.top,
        lambda identities: of_different_identities(identities, gallery.shown),
        progress=False,
    )
    if warn:
        _warn_of_unmatched(ranking)
    return ranking


def rank(
    query: Any,
    gallery: Any,
    model: Any = None,
    *,
    metric: str = "cosine",
    top: int = 10,
    explain: int | Sequence[int] = 0,
    progress: bool = True,
    image: Selector = None,
    label: Selector = None,
    camera: Selector = None,
) -> Ranking:
    r"""Ranks a gallery for every query, as in the Market-1501 protocol.

    Left out are gallery entries with the query's identity and the query's camera, and entries of identity -1 (junk).
    Without cameras only junk is left out; where both are the same pictures (one object), each query's own entry.
    Entries of equal similarity keep the order of the gallery. Memory holds all embeddings, one batch of pictures and a
    part of the matrix of similarities. Of a list with right matches at ranks :math:`p_1 < ... < p_m` (counted from 1)

    .. math:: AP = \frac{1}{m} \sum_i \frac{i}{p_i} \qquad CMC_k = \text{share of queries with } p_1 \le k

    the uninterpolated average precision, as most toolkits report it. Market-1501's own Matlab code takes the mean of
    the precision before and at each match.

    Args:
        query: ``(pictures, identities, cameras)`` or ``(pictures, identities)``, embeddings (N, D) as pictures,
            or a data set of either: a tf.data.Dataset, a PyDataset, a DataLoader, any iterable of batches. Or a
            folder: of pictures named as in Market-1501, of pictures with other names as :func:`read_folder` reads
            them, of rows with embeddings that :func:`keras_gradcam.datasets.explain_dataset` wrote.
        gallery: The same.
        model: A Keras model that returns embeddings, or an :class:`keras_gradcam.Explainer` of it; None for embeddings.
        metric: "cosine" or "euclidean".
        top: How many of each list are returned.
        explain: How many queries, from the first, or which ones get maps; data sets are read again, in the same order.
        progress: Whether to show progress bars.
        image: Where samples of a data set are dicts: the key of the pictures, or a function of a sample.
        label: The same for identities.
        camera: The same for cameras.

    Returns:
        The :class:`Ranking`.

    Raises:
        ArgumentError: If the arguments do not fit each other.

    Example:
        >>> import numpy as np
        >>> gallery = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]]), [7, 8, 7], [0, 1, 1]
        >>> rank((np.array([[1.0, 0.0]]), [7], [0]), gallery).indices[0, :2]  # the first is of the query's camera
        array([1, 2])

    Source: Zheng et al., Scalable Person Re-identification: A Benchmark, ICCV 2015.
    """
    check_choice("metric", metric, ("cosine", "euclidean"))
    check_flag("progress", progress)
    check_whole_number("top", top, 1)
    explainer = None if model is None else as_explainer(model, target=SelfSimilarity(), methods=("gradcam",))
    query, gallery = _read_folders(query, gallery, explainer)
    sources = _sources(query, gallery, image, label, camera)
    ranking = _ranked(*sources, explainer, metric, top, lambda identities: _chosen(explain, len(identities)), progress)
    _warn_of_unmatched(ranking)
    return ranking


def of_different_identities(identities: np.ndarray, count: int) -> list[int]:
    """Chooses ``count`` queries, the first one of each identity and then of the others, by their indices."""
    firsts = np.sort(np.unique(identities, return_index=True)[1])
    others = np.setdiff1d(np.arange(len(identities)), firsts)
    return sorted(np.concatenate([firsts, others])[:count].tolist())


def _read_folders(query: Any, gallery: Any, explainer: Explainer | None) -> tuple[Any, Any]:
    """Reads the folders among query and gallery; one object for both where they are one folder."""
    model = None if explainer is None else explainer.model
    are_folders = [isinstance(side, (str, os.PathLike)) for side in (query, gallery)]
    is_same = all(are_folders) and os.path.realpath(query) == os.path.realpath(gallery)
    query = read_folder(query, model) if are_folders[0] else query
    if is_same:
        return query, query
    return query, read_folder(gallery, model) if are_folders[1] else gallery


def _sources(
    query: Any, gallery: Any, image: Selector, label: Selector, camera: Selector
) -> tuple[LabelledPictures, LabelledPictures]:
    """Returns query and gallery as data sets; the same object where both are the same pictures."""
    queries = LabelledPictures("query", query, image, label, camera)
    if gallery is query or _are_same_arrays(query, gallery):
        return queries, queries
    return queries, LabelledPictures("gallery", gallery, image, label, camera)


def _ranked(
    query: LabelledPictures,
    gallery: LabelledPictures,
    explainer: Explainer | None,
    metric: str,
    top: int,
    choose: Callable[[np.ndarray], Sequence[int]],
    progress: bool,
) -> Ranking:
    """Ranks a gallery; ``choose`` returns the indices of the queries to explain, given the identities of all."""
    is_same = gallery is query
    queries = embed_set(query, explainer, progress)
    entries = queries if is_same else embed_set(gallery, explainer, progress)
    if queries.vectors.shape[1] != entries.vectors.shape[1]:
        raise ArgumentError(
            "gallery",
            "have embeddings of the query's length; both must have embeddings of one length",
            f"{queries.vectors.shape[1]} and {entries.vectors.shape[1]}",
        )
    check_cameras(queries.cameras is not None, entries.cameras is not None)
    ranking = rank_embeddings(queries, entries, metric, top, is_same)
    chosen = choose(queries.identities)
    if not chosen:
        return ranking
    if explainer is None:
        raise ArgumentError("model", "be given to explain a ranking", "None")
    return replace(ranking, explained=explained_lists(explainer, queries, entries, ranking, chosen, metric))


def _chosen(explain: int | Sequence[int], count: int) -> list[int]:
    """Returns the indices of the queries that are to be explained, out of ``count``."""
    check_numbers("explain", explain, f"name queries 0 to {count - 1}, or say how many")
    numbers = as_numpy(explain)
    if numbers.size == 0:
        return []
    is_whole = numbers.dtype.kind in "iu" and numbers.min() >= 0
    if numbers.ndim == 0:
        if not is_whole:
            raise ArgumentError("explain", "be a whole number >= 0, or numbers of queries", repr(explain))
        return list(range(min(int(numbers), count)))
    if not is_whole or numbers.ndim > 1 or numbers.max() >= count:
        raise ArgumentError("explain", f"name queries 0 to {count - 1}", repr(explain))
    return numbers.tolist()


def _are_same_arrays(query: Any, gallery: Any) -> bool:
    """Returns whether two tuples hold the very same arrays."""
    are_tuples = isinstance(query, tuple) and isinstance(gallery, tuple) and len(query) == len(gallery)
    return are_tuples and all(a is b for a, b in zip(query, gallery, strict=True))


def _warn_of_unmatched(ranking: Ranking) -> None:
    """Warns of queries without any right match, which count neither for nor against a network."""
    unmatched = int(np.isnan(ranking.average_precision).sum())
    if unmatched:
        warnings.warn(
            f"{unmatched} of {len(ranking.indices)} queries have no right match in the gallery; CMC and mAP leave them "
            "out.",
            UserWarning,
            stacklevel=3,
        )


def _warn_of_queries_in(gallery: Gallery) -> None:
    """Warns where a query is in the gallery and finds itself, as nothing but cameras would prevent."""
    sides = gallery.query, gallery.pictures
    if not all(isinstance(side, (tuple, list)) and len(side) == 2 for side in sides):
        return
    queries = {np.ascontiguousarray(picture).tobytes() for picture in gallery.query[0]}
    count = sum(np.ascontiguousarray(picture).tobytes() in queries for picture in gallery.pictures[0])
    if count:
        warnings.warn(
            f"{count} pictures of the gallery are queries too and find themselves, which flatters CMC and mAP. Leave "
            "them out of the gallery, or give cameras.",
            UserWarning,
            stacklevel=2,
        )
