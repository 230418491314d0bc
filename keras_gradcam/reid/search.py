"""Compares queries with a gallery of any size, tile by tile: the first of each list, and the rank of every match.

Most of the work is one product of matrices in 32 bits. Where its rounding errors could decide, the few embeddings in
question are compared again in 64 bits, so that the result is that of 64 bits throughout.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from .embeddings import EmbeddedSet, directions

# The identity of gallery pictures that are never counted, neither right nor wrong (Market-1501's "-1").
_JUNK = -1

# Rows of the gallery and queries that are compared at once: 64 MB of scores.
_TILE, _QUERIES = 32_768, 512

# Rows that are converted to 64 bits at once, and rows that the centre of a gallery is the mean of.
_ROWS, _SAMPLE = 512, 8_192

# Half the distance of two neighbouring numbers of 32 bits around 1.
_ROUNDOFF = 2.0**-24

# Equal embeddings may differ in the last bits of a product. Keys that agree in so many digits are equal, of which the
# scores differ by less than this.
_DIGITS, _TIE = 12, 1e-11

# The least score of an entry that counts.
_LEAST = float(np.finfo(np.float32).min)

# Queries whose scores are sorted by one call.
_TOGETHER = 16

# Scores near a match are looked for by a table of so many intervals.
_INTERVALS = 1 << 13


@dataclass(frozen=True, eq=False)
class Lists:
    """The list of each of Q queries, as far as it is asked for.

    Attributes:
        indices: int (Q, top), indices of the gallery, best first; -1 where the list is shorter.
        similarities: float32 (Q, top), the cosine, or the Euclidean distance with a minus sign; NaN where the list is
            shorter.
        match_ranks: For each query the ranks of all its right matches, counted from 1, ascending.
    """

    indices: np.ndarray
    similarities: np.ndarray
    match_ranks: list[np.ndarray]


def search(queries: EmbeddedSet, gallery: EmbeddedSet, metric: str, top: int, is_same: bool) -> Lists:
    """Finds the first of each list, and the ranks of all right matches; see :func:`keras_gradcam.reid.rank`.

    Beside the embeddings, memory holds one tile of scores and a few numbers for each entry of the result.

    Args:
        queries: The queries.
        gallery: The gallery.
        metric: "cosine" or "euclidean".
        top: How many of each list are kept.
        is_same: Whether the gallery is the queries, each of which then leaves itself out.
    """
    space = _Space(gallery, queries.vectors, metric)
    size = min(top, len(gallery))
    members = _Members(gallery.identities)
    vectors = space.comparable(queries.vectors)
    searches = [
        _Search(space, size, *_counted(queries, row, gallery, members, is_same), vector)
        for row, vector in enumerate(vectors)
    ]
    centred = (vectors - space.centre).astype(np.float32)
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        for start in range(0, len(gallery), _TILE):
            tile = space.tile(start, pool)
            for first in range(0, len(searches), _QUERIES):
                rows = slice(first, first + _QUERIES)
                _compare(searches[rows], centred[rows], tile, pool)
    indices = np.full((len(queries), size), -1)
    similarities = np.full(indices.shape, np.nan, np.float32)
    for row, found in enumerate(searches):
        best, values = found.first()
        indices[row, : len(best)], similarities[row, : len(best)] = best, values
    return Lists(indices, similarities, [np.sort(found.ranks) for found in searches])


def _compare(searches: list[_Search], centred: np.ndarray, tile: _Tile, pool: ThreadPoolExecutor) -> None:
    """Compares some queries, float32 (Q, D) less the centre of the gallery, with a tile of it."""
    scores = centred @ tile.vectors.T
    scores += tile.bias

    def ascending(rows: slice) -> np.ndarray:
        for search, row in zip(searches[rows], scores[rows], strict=True):
            search.leave_out(tile, row)
        return np.sort(scores[rows], axis=1)

    groups = [slice(first, first + _TOGETHER) for first in range(0, len(searches), _TOGETHER)]
    for rows, ordered in zip(groups, pool.map(ascending, groups), strict=True):
        for search, row, ordered_row in zip(searches[rows], scores[rows], ordered, strict=True):
            search.add(tile, row, ordered_row)


# --- which entries count --------------------------------------------------------------------------------------------


class _Members:
    """The entries of each identity of a gallery.

    Args:
        identities: int (G,).
    """

    def __init__(self, identities: np.ndarray) -> None:
        self._order = np.argsort(identities, kind="stable")
        self._sorted = identities[self._order]

    def of(self, identity: int) -> np.ndarray:
        """Returns the indices of an identity, ascending."""
        return self._order[slice(*np.searchsorted(self._sorted, [identity, identity + 1]))]


def _counted(
    queries: EmbeddedSet, row: int, gallery: EmbeddedSet, members: _Members, is_same: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the right matches of a query, and what it leaves out besides junk: itself, matches of its camera."""
    identity = int(queries.identities[row])
    own = members.of(identity)
    if queries.cameras is None or gallery.cameras is None:
        is_left_out = np.zeros(len(own), bool)
    else:
        is_left_out = gallery.cameras[own] == queries.cameras[row]
    if is_same:
        is_left_out |= own == row
    return own[~is_left_out & (identity != _JUNK)], own[is_left_out]


# --- scores ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Tile:
    """Some rows of a gallery, ready to be compared.

    Attributes:
        start: The index of the first row.
        vectors: float32 (rows, D), less the centre of the gallery.
        bias: float32 (rows,), added to the product with a query; minus infinity where nothing is to be counted.
        length: The greatest length of a vector.
        offset: The greatest finite bias, without its sign.
    """

    start: int
    vectors: np.ndarray
    bias: np.ndarray
    length: float
    offset: float


class _Space:
    """The embeddings of a gallery and what is nearest in them.

    With the centre c of the gallery, x = g - c and y = q - c, entries are in the order of y.x + c.x by the cosine (of q
    and g of length one), and in the order of y.x - x.x/2 by the distance. An untrained network gives all pictures
    nearly the same embedding; less their centre, 32 bits are enough to tell most of them apart. For the distance all
    are scaled to a length of at most 1, so that their squares are within the range of 32 bits.

    Args:
        gallery: The gallery.
        queries: float32 (Q, D), what will be compared with it.
        metric: "cosine" or "euclidean".
    """

    def __init__(self, gallery: EmbeddedSet, queries: np.ndarray, metric: str) -> None:
        self.is_cosine = metric == "cosine"
        self._vectors = gallery.vectors
        self._scale = 1.0
        self._is_junk = gallery.identities == _JUNK
        if not self.is_cosine:
            most = max(_greatest(queries), _greatest(self._vectors)) * self._vectors.shape[1] ** 0.5
            self._scale = 1 / most if most > 0 else 1.0
        # Any centre will do, so that a sample is enough.
        sample = np.unique(np.linspace(0, len(gallery) - 1, _SAMPLE).astype(np.int64))
        self.centre = self.rows(sample).mean(axis=0)
        # Rounding errors of a sum of d products stay below d times the roundoff, and below 8 sqrt(d) times with
        # near certainty (Higham and Mary 2019). A few more steps: to 32 bits, less the centre, with the bias.
        dimensions = self._vectors.shape[1]
        self._error = (min(dimensions, 8 * dimensions**0.5) + 6) * _ROUNDOFF

    def rows(self, index: slice | np.ndarray) -> np.ndarray:
        """Returns some rows of the gallery in 64 bits, for the cosine of length one."""
        return self.comparable(self._vectors[index])

    def comparable(self, vectors: np.ndarray) -> np.ndarray:
        """Returns vectors (N, D) in 64 bits, for the cosine of length one; those of length zero stay zero."""
        rows = vectors.astype(np.float64)
        return directions(rows) if self.is_cosine else rows * self._scale

    def similarities(self, keys: np.ndarray) -> np.ndarray:
        """Returns the similarities of embeddings that have these keys."""
        return keys / self._scale

    def tile(self, start: int, pool: ThreadPoolExecutor) -> _Tile:
        """Returns the rows from ``start`` on, ready to be compared."""
        stop = min(start + _TILE, len(self._vectors))
        vectors = np.empty((stop - start, self._vectors.shape[1]), np.float32)
        bias, squares = np.empty(stop - start), np.empty(stop - start)

        def fill(first: int) -> None:
            rows = self.rows(slice(start + first, min(start + first + _ROWS, stop))) - self.centre
            here = slice(first, first + len(rows))
            vectors[here], squares[here] = rows, np.einsum("nd,nd->n", rows, rows)
            bias[here] = rows @ self.centre if self.is_cosine else -squares[here] / 2

        list(pool.map(fill, range(0, stop - start, _ROWS)))
        offset = float(np.abs(bias).max())
        bias[self._is_junk[start:stop]] = -np.inf
        return _Tile(start, vectors, bias.astype(np.float32), float(squares.max()) ** 0.5, offset)

    def keys(self, query: np.ndarray, indices: np.ndarray) -> np.ndarray:
        """Returns the cosine, or the scaled distance with a minus sign, of a query and some rows, in 64 bits."""
        keys = np.empty(len(indices))
        for start in range(0, len(indices), _ROWS):
            rows = self.rows(indices[start : start + _ROWS])
            if self.is_cosine:
                keys[start : start + _ROWS] = rows @ query
            else:
                rows -= query
                keys[start : start + _ROWS] = 0 - np.sqrt(np.einsum("nd,nd->n", rows, rows))
        return np.round(keys, _DIGITS)

    def error(self, length: float, tile: _Tile) -> float:
        """Returns by how much a score in 32 bits may be off, of a centred query of some length."""
        return self._error * (length * tile.length + tile.offset) + _TIE


def _greatest(vectors: np.ndarray) -> float:
    """Returns the greatest number of an array, without its sign."""
    parts = (vectors[start : start + _TILE] for start in range(0, len(vectors), _TILE))
    return max(max(float(part.max()), -float(part.min())) for part in parts)


class _Search:
    """One query: the best entries so far, and how many entries are better than each of its right matches.

    Args:
        space: The gallery.
        top: How many of the best entries are kept.
        matches: The right matches, ascending.
        left_out: Entries that do not count, besides junk.
        query: float64 (D,), the query's embedding, comparable with those of the gallery.
    """

    def __init__(self, space: _Space, top: int, matches: np.ndarray, left_out: np.ndarray, query: np.ndarray) -> None:
        self._space, self._top, self._matches, self._left_out = space, top, matches, left_out
        self._query = query
        self._length = float(np.linalg.norm(query - space.centre))
        self._match_keys = space.keys(query, matches)
        self._better = np.zeros(len(matches), np.int64)
        # Keys as scores: the cosine of q and g is s + q.c, the square of their distance y.y - 2 s.
        if space.is_cosine:
            self._match_scores = self._match_keys - self._query @ space.centre
        else:
            self._match_scores = (self._length**2 - self._match_keys**2) / 2
        # The best entries so far, with the least that their scores may be.
        self._best, self._least = np.empty(0, np.int64), np.empty(0)
        self._floor = -np.inf

    @property
    def ranks(self) -> np.ndarray:
        """The rank of each right match, counted from 1."""
        return self._better + 1

    def leave_out(self, tile: _Tile, scores: np.ndarray) -> None:
        """Sets the scores of entries that do not count to minus infinity."""
        begin, end = np.searchsorted(self._left_out, [tile.start, tile.start + len(scores)])
        scores[self._left_out[begin:end] - tile.start] = -np.inf

    def add(self, tile: _Tile, scores: np.ndarray, ascending: np.ndarray) -> None:
        """Compares the query with a tile of the gallery.

        Args:
            tile: The tile.
            scores: float32 (rows,), the scores of its rows.
            ascending: The same, sorted.
        """
        error = self._space.error(self._length, tile)
        self._keep_best(tile, scores, ascending, error)
        if len(self._matches):
            self._count_better(tile, scores, ascending, error)

    # --- the best entries -------------------------------------------------------------------------------------------

    def _keep_best(self, tile: _Tile, scores: np.ndarray, ascending: np.ndarray, error: float) -> None:
        floor = self._floor - error
        if len(ascending) >= self._top:
            floor = max(floor, float(ascending[-self._top]) - 2 * error)
        if not max(floor, _LEAST) <= float(ascending[-1]):
            return
        new = np.flatnonzero(scores >= np.nextafter(np.float32(max(floor, _LEAST)), np.float32(_LEAST)))
        self._best = np.concatenate([self._best, new + tile.start])
        self._least = np.concatenate([self._least, scores[new] - error])
        if len(self._best) > self._top:
            # What may be better than the worst of those that surely are the best.
            self._floor = float(np.partition(self._least, -self._top)[-self._top])
            stays = self._least + 2 * error >= self._floor
            self._best, self._least = self._best[stays], self._least[stays]
        if len(self._best) > 2 * self._top + 256:
            keep, _ = self._order()
            self._best, self._least = self._best[keep], self._least[keep]

    def _order(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns which of the best entries are kept, best first, and their keys."""
        keys = self._space.keys(self._query, self._best)
        order = np.lexsort((self._best, -keys))[: self._top]
        return order, keys[order]

    def first(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the indices of the best entries and their similarities, best first."""
        order, keys = self._order()
        return self._best[order], self._space.similarities(keys)

    # --- the ranks of matches ---------------------------------------------------------------------------------------

    def _count_better(self, tile: _Tile, scores: np.ndarray, ascending: np.ndarray, error: float) -> None:
        lowest, highest = self._bands(error)
        above = len(ascending) - np.searchsorted(ascending, highest, side="right")
        self._better += above
        if (len(ascending) - np.searchsorted(ascending, lowest, side="left") == above).all():
            return
        # Entries nearer to a match than the error are compared in 64 bits. Above, they count where they are not near.
        near = self._near(scores, lowest, highest)
        near_scores = np.sort(scores[near])
        self._better -= len(near) - np.searchsorted(near_scores, highest, side="right")
        self._better += self._exactly_better(near + tile.start)

    def _bands(self, error: float) -> tuple[np.ndarray, np.ndarray]:
        """Returns between which scores an entry may be as good as each match, float32."""
        width = error + 2 * _ROUNDOFF * np.abs(self._match_scores)
        return (self._match_scores - width).astype(np.float32), (self._match_scores + width).astype(np.float32)

    def _near(self, scores: np.ndarray, lowest: np.ndarray, highest: np.ndarray) -> np.ndarray:
        """Returns where scores lie in one of the bands."""
        least = np.float32(lowest.min())
        scale = np.float32(_INTERVALS / max(highest.max() - least, np.finfo(np.float32).tiny * _INTERVALS))

        def interval(values: np.ndarray) -> np.ndarray:
            """Returns the interval of each value, counted from 2; 0 or the last one for those beyond."""
            numbers = values - least
            numbers *= scale
            numbers += np.float32(2)
            np.clip(numbers, 0, _INTERVALS + 4, out=numbers)
            return numbers.astype(np.uint16)

        # One more on either side, for rounding errors.
        table = np.zeros(_INTERVALS + 5, np.int32)
        np.add.at(table, interval(lowest) - 1, 1)
        np.add.at(table, interval(highest) + 2, -1)
        near = np.flatnonzero((np.cumsum(table) > 0).take(interval(scores)))
        # Bands begin and end in the same order.
        order = np.argsort(lowest)
        ends = np.concatenate([[np.nan], np.maximum.accumulate(highest[order])])
        return near[scores[near] <= ends[np.searchsorted(lowest[order], scores[near], side="right")]]

    def _exactly_better(self, indices: np.ndarray) -> np.ndarray:
        """Counts which of some entries are better than each match: a higher key, or the same and earlier."""
        keys = self._space.keys(self._query, indices)
        position = np.minimum(np.searchsorted(self._matches, indices), len(self._matches) - 1)
        is_match = self._matches[position] == indices
        keys[is_match] = self._match_keys[position[is_match]]
        count = len(indices)
        is_entry = np.arange(count + len(self._matches)) < count
        both = np.concatenate([indices, self._matches])
        # A match itself is not better than itself: it comes before the entry that it is.
        order = np.lexsort((is_entry, both, -np.concatenate([keys, self._match_keys])))
        before = np.cumsum(is_entry[order])
        better = np.empty(len(both), np.int64)
        better[order] = before
        return better[count:]
