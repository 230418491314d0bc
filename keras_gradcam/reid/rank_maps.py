"""Ranked lists with maps: what makes the first pictures of a list match their query."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..attribution.explainer import Explainer
from ..attribution.targets.embeddings import Distance, Similarity
from ..errors import ArgumentError
from .embeddings import Entries
from .ranking import RankList
from .similarity import parts

if TYPE_CHECKING:
    from .ranking import Ranking


_Maps = tuple[np.ndarray, np.ndarray]


def explained_lists(
    explainer: Explainer, queries: Entries, gallery: Entries, ranking: Ranking, chosen: Sequence[int], metric: str
) -> tuple[RankList, ...]:
    """The lists of some queries with maps, exact ones where the network and the metric allow it."""
    wanted = {int(place) for number in chosen for place in ranking.indices[number] if place >= 0}
    asked = queries.pictures_at(set(chosen), explainer)
    shown = gallery.pictures_at(wanted, explainer)
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
                identity=int(queries.identities[number]),
                query=query,
                query_map=query_map,
                pictures=pictures,
                maps=maps,
                similarities=ranking.similarities[number, : len(places)],
                identities=gallery.identities[places],
                correct=ranking.correct[number, : len(places)],
                form="exact" if explaining is _exact else "gradient",
                metric=metric,
            )
        )
    return tuple(lists)


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
    of_query = explainer(query[None], explainer.target.on_same_output(score(others[:1])))
    of_pictures = explainer(pictures, explainer.target.on_same_output(score(one)))
    if of_query.cam is None or of_pictures.cam is None:
        raise ArgumentError(
            "model", "be an Explainer that computes 'gradcam' or a cousin", f"methods={explainer.methods}"
        )
    return of_query.cam[0], of_pictures.cam
