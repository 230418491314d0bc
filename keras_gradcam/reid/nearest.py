"""The nearest embeddings of a gallery, without identities: exact, or by an approximate index of another package."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import ArgumentError, check_choice, check_whole_number, described
from ..extras import import_faiss, import_usearch
from .embeddings import EmbeddedSet, LabelledPictures, directions
from .search import search

INDICES = ("exact", "faiss", "usearch")

# Rows that are added to an index at once.
_TILE = 32_768

# Neighbours of each node of a graph, and nodes that are looked at; benchmarks/gallery.py says what they find.
_NEIGHBOURS, _WIDTH = 32, 256


def nearest(
    queries: Any, gallery: Any, top: int = 10, *, metric: str = "cosine", index: str = "exact"
) -> tuple[np.ndarray, np.ndarray]:
    """Finds the nearest embeddings of a gallery for each query; identities and cameras do not count.

    The exact search reads the gallery tile by tile: a memory map may be larger than memory. An index (pip install
    'keras_gradcam[index]') is a graph of neighbours (Malkov and Yashunin 2018), which is built at every call and finds
    most of the nearest, not always all; what it finds has exact similarities. For CMC and mAP see :func:`rank`, which
    needs the ranks of all matches and not the first of each list alone.

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

    Source: Malkov and Yashunin, Efficient and robust approximate nearest neighbor search using Hierarchical Navigable
    Small World graphs, TPAMI 2020, https://arxiv.org/abs/1603.09320.
    """
    check_whole_number("top", top, 1)
    check_choice("metric", metric, ("cosine", "euclidean"))
    check_choice("index", index, INDICES)
    first, second = _embedded("queries", queries, 0), _embedded("gallery", gallery, 1)
    if first.vectors.shape[1] != second.vectors.shape[1]:
        received = f"{second.vectors.shape[1]} and {first.vectors.shape[1]}"
        raise ArgumentError("gallery", "have embeddings of the queries' length", received)
    if index == "exact":
        lists = search(first, second, metric, top, is_same=False)
        return lists.indices, lists.similarities
    size = min(top, len(second))
    find = _faiss if index == "faiss" else _usearch
    found = find(first.vectors, second.vectors, metric == "cosine", min(2 * size + 16, len(second)))
    return _ordered(first.vectors, second.vectors, found, metric == "cosine", size)


def _embedded(name: str, embeddings: Any, identity: int) -> EmbeddedSet:
    """Returns embeddings of one identity each for both sides, so that nothing matches and nothing is left out."""
    try:
        vectors = embeddings if isinstance(embeddings, np.ndarray) else np.asarray(embeddings)
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


def _faiss(queries: np.ndarray, gallery: np.ndarray, is_cosine: bool, count: int) -> np.ndarray:
    """Returns candidates for each query, int (Q, count), -1 where there are fewer."""
    faiss = import_faiss()
    kind = faiss.METRIC_INNER_PRODUCT if is_cosine else faiss.METRIC_L2
    graph = faiss.IndexHNSWFlat(gallery.shape[1], _NEIGHBOURS, kind)
    graph.hnsw.efSearch = max(_WIDTH, count)
    for start in range(0, len(gallery), _TILE):
        graph.add(_comparable(gallery[start : start + _TILE], is_cosine))
    return graph.search(_comparable(queries, is_cosine), count)[1]


def _usearch(queries: np.ndarray, gallery: np.ndarray, is_cosine: bool, count: int) -> np.ndarray:
    """Returns candidates for each query, int (Q, count), -1 where there are fewer."""
    usearch = import_usearch()
    graph = usearch.Index(
        ndim=gallery.shape[1],
        metric="ip" if is_cosine else "l2sq",
        dtype="f32",
        connectivity=_NEIGHBOURS,
        expansion_search=max(_WIDTH, count),
    )
    for start in range(0, len(gallery), _TILE):
        rows = _comparable(gallery[start : start + _TILE], is_cosine)
        graph.add(np.arange(start, start + len(rows)), rows)
    found = np.full((len(queries), count), -1)
    for row, query in enumerate(_comparable(queries, is_cosine)):
        keys = np.asarray(graph.search(query, count).keys, np.int64)
        found[row, : len(keys)] = keys
    return found


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
