"""The nearest embeddings of a gallery, without identities: exact, or by an approximate index of another package."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from ..errors import ArgumentError, as_numpy, check_choice, check_whole_number, described
from ..extras import import_faiss, import_usearch
from .embeddings import EmbeddedSet, LabelledPictures, directions
from .search import search

_METRICS = ("cosine", "euclidean")

# Queries (Q, D) and how many are wanted of each to candidates, int (Q, count), -1 where there are fewer.
_Find = Callable[[np.ndarray, int], np.ndarray]

# Rows that are added to an index at once.
_TILE = 32_768

# Neighbours of each node of a graph, and nodes that are looked at; benchmarks/gallery.py says what they find.
_NEIGHBOURS, _WIDTH = 32, 256


def nearest(
    queries: Any, gallery: Any, top: int = 10, *, metric: str = "cosine", index: str = "exact"
) -> tuple[np.ndarray, np.ndarray]:
    """Finds the nearest embeddings of a gallery for each query; identities and cameras do not count.

    The exact search reads the gallery tile by tile: a memory map may be larger than memory. To ask again and again,
    keep a :class:`NearestIndex`, which this function makes for one call where an index is named. For CMC and mAP see
    :func:`rank`, which needs the ranks of all matches and not the first of each list alone.

    Args:
        queries: Embeddings, (Q, D).
        gallery: Embeddings, (G, D): an array or a memory map.
        top: How many are returned for each query.
        metric: "cosine" or "euclidean".
        index: "exact", "faiss" or "usearch".

    Returns:
        Indices of the gallery, int (Q, top), best first, equal ones in the gallery's order; and similarities, float32
        (Q, top): the cosine, or the distance with a minus sign. -1 and NaN where an index has found less.

    Raises:
        ArgumentError: If the arguments do not fit each other.
        ImportError: If the index is not installed.

    Example:
        >>> import numpy as np
        >>> gallery = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]], np.float32)
        >>> nearest(np.array([[1.0, 0.05]]), gallery, 2)[0]
        array([[0, 1]])
    """
    check_whole_number("top", top, 1)
    check_choice("metric", metric, _METRICS)
    check_choice("index", index, ("exact", *_KINDS))
    if index != "exact":
        return NearestIndex(gallery, metric=metric, kind=index).nearest(queries, top)
    first, second = _embedded("queries", queries, 0), _embedded("gallery", gallery, 1)
    _check_lengths(first, second)
    lists = search(first, second, metric, top, is_same=False)
    return lists.indices, lists.similarities


class NearestIndex:
    """Finds the nearest embeddings of a gallery by an approximate index, built once (keras_gradcam[index]).

    A graph of neighbours finds most of the nearest, not always all; what it finds has exact similarities.

    Args:
        gallery: Embeddings, (G, D): an array or a memory map, which is read again for what was found.
        metric: "cosine" or "euclidean".
        kind: "faiss" or "usearch".

    Raises:
        ArgumentError: If the arguments do not fit.
        ImportError: If the index is not installed.

    Example:
        >>> import numpy as np
        >>> index = NearestIndex(np.eye(3), kind="faiss")
        >>> index.nearest(np.array([[0.0, 2.0, 0.0]]), 1)[0]
        array([[1]])

    Source: Malkov and Yashunin, Efficient and robust approximate nearest neighbor search using Hierarchical Navigable
    Small World graphs, TPAMI 2020, https://arxiv.org/abs/1603.09320.
    """

    def __init__(self, gallery: Any, *, metric: str = "cosine", kind: str = "faiss") -> None:
        check_choice("metric", metric, _METRICS)
        check_choice("kind", kind, tuple(_KINDS))
        self._gallery, self._is_cosine = _embedded("gallery", gallery, 1), metric == "cosine"
        vectors = self._gallery.vectors
        tiles = (vectors[start : start + _TILE] for start in range(0, len(vectors), _TILE))
        comparable = (_comparable(tile, self._is_cosine) for tile in tiles)
        self._find = _KINDS[kind](comparable, vectors.shape[1], self._is_cosine)

    def nearest(self, queries: Any, top: int = 10) -> tuple[np.ndarray, np.ndarray]:
        """Returns indices and similarities, as :func:`nearest` does.

        Raises:
            ArgumentError: If the arguments do not fit each other.
        """
        check_whole_number("top", top, 1)
        embedded = _embedded("queries", queries, 0)
        _check_lengths(embedded, self._gallery)
        size = min(top, len(self._gallery))
        # Some more, of which those with the best exact similarities are kept.
        found = self._find(_comparable(embedded.vectors, self._is_cosine), min(2 * size + 16, len(self._gallery)))
        return _ordered(embedded.vectors, self._gallery.vectors, found, self._is_cosine, size)


def _check_lengths(queries: EmbeddedSet, gallery: EmbeddedSet) -> None:
    lengths = gallery.vectors.shape[1], queries.vectors.shape[1]
    if lengths[0] != lengths[1]:
        raise ArgumentError("gallery", "have embeddings of the queries' length", f"{lengths[0]} and {lengths[1]}")


def _embedded(name: str, embeddings: Any, identity: int) -> EmbeddedSet:
    """Returns embeddings of one identity each for both sides, so that nothing matches and nothing is left out."""
    try:
        vectors = embeddings if isinstance(embeddings, np.ndarray) else as_numpy(embeddings)
    except ValueError:  # of rows of unequal length
        raise ArgumentError(name, "be embeddings (N, D)", described(embeddings)) from None
    if vectors.ndim != 2 or vectors.dtype.kind not in "fiu" or 0 in vectors.shape:
        raise ArgumentError(name, "be embeddings (N, D)", f"dtype {vectors.dtype}, shape {vectors.shape}")
    if vectors.dtype != np.float32:
        vectors = vectors.astype(np.float32)
    identities = np.full(len(vectors), identity)
    for start in range(0, len(vectors), _TILE):
        if not np.isfinite(vectors[start : start + _TILE]).all():
            raise ArgumentError(name, "be finite", "some that are not")
    return EmbeddedSet(LabelledPictures(name, (vectors, identities)), vectors, identities, None)


def _faiss(tiles: Iterable[np.ndarray], dimensions: int, is_cosine: bool) -> _Find:
    """Builds an index of faiss."""
    faiss = import_faiss()
    kind = faiss.METRIC_INNER_PRODUCT if is_cosine else faiss.METRIC_L2
    graph = faiss.IndexHNSWFlat(dimensions, _NEIGHBOURS, kind)
    for tile in tiles:
        graph.add(tile)

    def find(queries: np.ndarray, count: int) -> np.ndarray:
        graph.hnsw.efSearch = max(_WIDTH, count)
        return graph.search(queries, count)[1]

    return find


def _usearch(tiles: Iterable[np.ndarray], dimensions: int, is_cosine: bool) -> _Find:
    """Builds an index of usearch."""
    graph = import_usearch().Index(
        ndim=dimensions, metric="ip" if is_cosine else "l2sq", dtype="f32", connectivity=_NEIGHBOURS,
        expansion_search=_WIDTH,
    )  # fmt: skip
    for tile in tiles:
        graph.add(np.arange(len(graph), len(graph) + len(tile)), tile)

    def find(queries: np.ndarray, count: int) -> np.ndarray:
        found = np.full((len(queries), count), -1)
        for row, query in enumerate(queries):
            keys = np.asarray(graph.search(query, count).keys, np.int64)
            found[row, : len(keys)] = keys
        return found

    return find


_KINDS = {"faiss": _faiss, "usearch": _usearch}


def _comparable(vectors: np.ndarray, is_cosine: bool) -> np.ndarray:
    rows = directions(np.asarray(vectors, np.float64)) if is_cosine else vectors
    return np.ascontiguousarray(rows, np.float32)


def _ordered(
    queries: np.ndarray, gallery: np.ndarray, found: np.ndarray, is_cosine: bool, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Orders candidates by their similarity in 64 bits, equal ones by their index, as :func:`search` does."""
    indices, similarities = np.full((len(queries), size), -1), np.full((len(queries), size), np.nan, np.float32)
    for row, candidates in enumerate(found):
        candidates = np.unique(candidates[candidates >= 0])
        rows, query = gallery[candidates].astype(np.float64), queries[row].astype(np.float64)
        keys = directions(rows) @ directions(query[None])[0] if is_cosine else -np.linalg.norm(rows - query, axis=1)
        order = np.lexsort((candidates, -np.round(keys, 12)))[:size]
        indices[row, : len(order)], similarities[row, : len(order)] = candidates[order], keys[order]
    return indices, similarities
