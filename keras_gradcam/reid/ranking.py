"""Ranked retrieval: for each query the gallery in order of similarity, how good that order is, and why."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..checks import check_whole_number
from ..embedding_targets import Distance, Similarity
from ..explainer import Explainer
from .pairs import as_explainer, parts

#: The identity of gallery pictures that are never counted, neither right nor wrong (Market-1501's "-1").
JUNK = -1
# So many numbers of the matrix of similarities are in memory at once.
_PORTION = 16_000_000


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

    def __repr__(self) -> str:
        return f"RankList(query {self.index}, identity {self.identity}, {self.correct.sum()} of {len(self.correct)})"


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


@dataclass(frozen=True, eq=False)
class Gallery:
    """What a :class:`keras_gradcam.GuidedGradCAMCallback` ranks while a network learns.

    Attributes:
        pictures: ``(pictures, identities, cameras)`` or ``(pictures, identities)``; or a ``tf.data.Dataset`` of these.
        query: The same for the queries; by default the probe with its labels, without cameras.
        every: Rank every so many logged epochs, and after the last one.
        top: How many of each list are shown.
        shown: How many queries are shown.

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
    queries = _embedded("query", query, explainer, progress)
    same = gallery is query or _alike(query, gallery)
    entries = queries if same else _embedded("gallery", gallery, explainer, progress)
    if queries.vectors.shape[1] != entries.vectors.shape[1]:
        raise ValueError(
            "`query` and `gallery` must have embeddings of one length. "
            f"Received: {queries.vectors.shape[1]} and {entries.vectors.shape[1]}."
        )
    _check_cameras(queries.cameras is not None, entries.cameras is not None)
    ranking = _ranked(queries, entries, metric, top, same)
    chosen = _chosen(explain, len(queries))
    if not chosen:
        return ranking
    if explainer is None:
        raise ValueError("`model` must be given to explain a ranking. Received: None.")
    explained = _explained(explainer, (query, queries), (gallery, entries), ranking, chosen, metric)
    return Ranking(**{**vars(ranking), "explained": explained})


def check_gallery(gallery: Gallery, explainer: Explainer) -> None:
    """Raises ValueError if a gallery cannot be ranked; looks at its first pictures only."""
    cameras = []
    for name, given in (("query", gallery.query), ("gallery", gallery.pictures)):
        first = next(_portions(name, given, 1), None)
        if first is None or not len(first[1]):
            raise ValueError(f"`{name}` must hold at least one picture. Received: none.")
        if first[0].ndim == 2:
            raise ValueError(f"`{name}` must hold pictures, to be embedded anew each time. Received: embeddings.")
        _vectors(name, first[0][:1], explainer)
        cameras.append(first[2] is not None)
    _check_cameras(*cameras)
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


def _check_cameras(of_query: bool, of_gallery: bool) -> None:
    if of_query != of_gallery:
        raise ValueError(
            "`query` and `gallery` must both come with cameras or both without. "
            f"Received: cameras of the {'query' if of_query else 'gallery'} alone. "
            "Candidates: Gallery((pictures, identities, cameras), query=(pictures, identities, cameras))."
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


@dataclass(frozen=True, eq=False)
class _Entries:
    """Embeddings (N, D) with identities (N,) and cameras (N,) or None."""

    vectors: np.ndarray
    identities: np.ndarray
    cameras: np.ndarray | None

    def __len__(self) -> int:
        return len(self.vectors)


def _ranked(queries: _Entries, entries: _Entries, metric: str, top: int, same: bool) -> Ranking:
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
    if len(firsts) < count:
        warnings.warn(
            f"{count - len(firsts)} of {count} queries have no right match in the gallery; CMC and mAP leave them out.",
            UserWarning,
            stacklevel=3,
        )
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


# --- reading what was given -----------------------------------------------------------------------------------------


def _embedded(name: str, given: Any, explainer: Explainer | None, progress: bool) -> _Entries:
    """Embeds what was given, a portion at a time."""
    import keras

    total = _length(given)
    portion = explainer.batch_size if explainer is not None else 1024
    bar = keras.utils.Progbar(total) if progress and (total is None or total > portion) else None
    vectors, identities, cameras = [], [], []
    done = 0
    for pictures, people, views in _portions(name, given, portion):
        vectors.append(_vectors(name, pictures, explainer))
        identities.append(people)
        if views is not None:
            cameras.append(views)
        done += len(people)
        if bar is not None:
            bar.update(done)
    if not done:
        raise ValueError(f"`{name}` must hold at least one picture. Received: none.")
    if bar is not None and total is None:
        bar.update(done, finalize=True)
    rows = np.concatenate(vectors)
    if not np.isfinite(rows).all():
        raise ValueError(f"`{name}` must have finite embeddings. Received: some that are not.")
    return _Entries(rows, np.concatenate(identities), np.concatenate(cameras) if cameras else None)


def _vectors(name: str, pictures: np.ndarray, explainer: Explainer | None) -> np.ndarray:
    if pictures.ndim == 2:
        return pictures.astype(np.float32)
    if explainer is None:
        raise ValueError(f"`model` must be given to embed pictures. Received: None, and pictures as `{name}`.")
    return explainer.embed(pictures)


def _length(given: Any) -> int | None:
    """How many entries there are, where that can be known beforehand."""
    return len(given[0]) if isinstance(given, (tuple, list)) and given and hasattr(given[0], "__len__") else None


def _portions(name: str, given: Any, size: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray | None]]:
    """Pictures, identities and cameras, about ``size`` at a time."""
    if isinstance(given, (tuple, list)) and len(given) in (2, 3):
        pictures, *labels = given
        if not (hasattr(pictures, "__len__") and hasattr(pictures, "__getitem__")):
            raise ValueError(
                f"`{name}` must hold pictures or embeddings as an array. Received: {type(pictures).__name__}. "
                "Candidates: a NumPy array, a tf.data.Dataset of (pictures, identities, cameras)."
            )
        columns = [_labels(name, column) for column in labels]
        if any(len(column) != len(pictures) for column in columns):
            raise ValueError(
                f"`{name}` must have one identity and one camera per picture. "
                f"Received: {len(pictures)} pictures, {', '.join(str(len(column)) for column in columns)}."
            )
        for start in range(0, len(pictures), size):
            part = slice(start, start + size)
            cut = [column[part] for column in columns]
            yield np.asarray(pictures[part]), cut[0], cut[1] if len(cut) > 1 else None
        return
    if not hasattr(given, "element_spec"):
        raise ValueError(
            f"`{name}` must be (pictures, identities, cameras), (pictures, identities) or a tf.data.Dataset of these. "
            f"Received: {type(given).__name__}."
        )
    spec = given.element_spec
    if not isinstance(spec, tuple) or len(spec) not in (2, 3) or not all(hasattr(one, "shape") for one in spec):
        raise ValueError(
            f"`{name}` must give (pictures, identities) or (pictures, identities, cameras). Received: {spec}."
        )
    batched = given if spec[1].shape.rank else given.batch(size)
    for pictures, *labels in batched.as_numpy_iterator():
        columns = [_labels(name, column) for column in labels]
        yield pictures, columns[0], columns[1] if len(columns) > 1 else None


def _labels(name: str, column: Any) -> np.ndarray:
    numbers = np.asarray(column)
    if numbers.ndim != 1 or numbers.dtype.kind not in "iub":
        raise ValueError(
            f"`{name}` must have whole numbers for identities and cameras. "
            f"Received: dtype {numbers.dtype}, shape {numbers.shape}."
        )
    return numbers.astype(np.int64)


# --- explaining -----------------------------------------------------------------------------------------------------


def _explained(
    explainer: Explainer,
    queries: tuple[Any, _Entries],
    gallery: tuple[Any, _Entries],
    ranking: Ranking,
    chosen: Sequence[int],
    metric: str,
) -> tuple[RankList, ...]:
    wanted = {int(place) for number in chosen for place in ranking.indices[number] if place >= 0}
    asked = _pictures_at("query", queries, set(chosen), explainer)
    shown = _pictures_at("gallery", gallery, wanted, explainer)
    lists, explaining = [], _exact if metric == "cosine" else _gradient
    for number in chosen:
        places = [int(place) for place in ranking.indices[number] if place >= 0]
        if not places:
            continue
        query, pictures = asked[number], np.stack([shown[place] for place in places])
        try:
            query_map, maps = explaining(explainer, query, pictures, metric)
        except ValueError:
            if explaining is _gradient:
                raise
            explaining = _gradient
            query_map, maps = _gradient(explainer, query, pictures, metric)
        lists.append(
            RankList(
                index=number,
                identity=int(queries[1].identities[number]),
                query=query,
                query_map=query_map,
                pictures=pictures,
                maps=maps,
                similarities=ranking.similarities[number, : len(places)],
                identities=gallery[1].identities[places],
                correct=ranking.correct[number, : len(places)],
                form="exact" if explaining is _exact else "gradient",
            )
        )
    return tuple(lists)


_Maps = tuple[np.ndarray, np.ndarray]


def _exact(explainer: Explainer, query: np.ndarray, pictures: np.ndarray, metric: str) -> _Maps:
    """What each cell adds to the cosine: <F_i, g> / (|f| |g|)."""
    one, others = parts(explainer, query[None]), parts(explainer, pictures)
    f, g = one.embeddings[0], others.embeddings
    lengths = np.linalg.norm(f) * np.linalg.norm(g, axis=1)
    lengths = np.where(lengths > 0, lengths, 1)
    maps = others.cells @ f / lengths[:, None, None]
    return (one.cells[0] @ g[0] / lengths[0]).astype(np.float32), maps.astype(np.float32)


def _gradient(explainer: Explainer, query: np.ndarray, pictures: np.ndarray, metric: str) -> _Maps:
    """Grad-CAM of the score, with the other picture fixed."""
    score: Callable[[Any], Any] = Similarity if metric == "cosine" else Distance
    one, others = explainer.embed(query[None]), explainer.embed(pictures)
    of_query = explainer(query[None], explainer.target.instead(score(others[:1])))
    of_pictures = explainer(pictures, explainer.target.instead(score(one)))
    if of_query.cam is None or of_pictures.cam is None:
        raise ValueError(
            f"`model` must be an Explainer that computes 'gradcam' or a cousin. Received: methods={explainer.methods}."
        )
    return of_query.cam[0], of_pictures.cam


def _pictures_at(name: str, given: tuple[Any, _Entries], wanted: set[int], explainer: Explainer) -> dict[int, Any]:
    """The pictures at some positions. A dataset is read again, and may not give another order than the first time."""
    source, entries = given
    if not wanted:
        return {}
    if isinstance(source, (tuple, list)):
        found = {place: np.asarray(source[0][place]) for place in wanted}
    else:
        found, position = {}, 0
        for pictures, _, _ in _portions(name, source, explainer.batch_size):
            found.update(
                {place: pictures[place - position] for place in wanted if 0 <= place - position < len(pictures)}
            )
            position += len(pictures)
            if len(found) == len(wanted):
                break
    if any(picture.ndim < 2 for picture in found.values()):
        raise ValueError(f"`{name}` must hold pictures to be explained. Received: embeddings.")
    places = sorted(found)
    again = explainer.embed(np.stack([found[place] for place in places]))
    before = entries.vectors[places]
    if len(found) < len(wanted) or not np.allclose(again, before, rtol=1e-2, atol=1e-3 * np.abs(before).max()):
        raise ValueError(
            f"`{name}` must give the same pictures in the same order each time it is read, to be explained. "
            "Received: a dataset that does not. Candidates: a dataset without shuffling and augmentation."
        )
    return found
