"""Ranked lists with maps: what makes the first pictures of a list match their query."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..attribution.explainer import Explainer
from ..attribution.targets.embeddings import Distance, Similarity
from ..errors import ArgumentError
from .embeddings import EmbeddedSet
from .ranking import Ranking, RankList, RankMaps
from .similarity import parts


def explained_lists(
    explainer: Explainer,
    queries: EmbeddedSet,
    gallery: EmbeddedSet,
    ranking: Ranking,
    chosen: Sequence[int],
    metric: str,
) -> tuple[RankList, ...]:
    """Explains the lists of some queries, with exact maps where the network and the metric allow it.

    Args:
        explainer: Explains the network.
        queries: All queries.
        gallery: The gallery.
        ranking: The gallery ranked for the queries.
        chosen: The indices of the queries to explain; those with an empty list are left out.
        metric: "cosine" or "euclidean".
    """
    lists = {number: [int(index) for index in ranking.indices[number] if index >= 0] for number in chosen}
    query_pictures = queries.pictures_at(set(chosen), explainer)
    gallery_pictures = gallery.pictures_at({index for indices in lists.values() for index in indices}, explainer)
    explained, is_exact = [], metric == "cosine"
    for number in chosen:
        indices = lists[number]
        if not indices:
            continue
        query, pictures = query_pictures[number], np.stack([gallery_pictures[index] for index in indices])
        maps = _exact(explainer, query, pictures) if is_exact else None
        if maps is None:
            is_exact = False
            maps = _gradient(explainer, query, pictures, metric)
        explained.append(
            RankList(
                index=number,
                identity=int(queries.identities[number]),
                query=query,
                pictures=pictures,
                similarities=ranking.similarities[number, : len(indices)],
                identities=gallery.identities[indices],
                metric=metric,
                **vars(maps),
            )
        )
    return tuple(explained)


def _exact(explainer: Explainer, query: np.ndarray, pictures: np.ndarray) -> RankMaps | None:
    """Returns what each cell adds to the cosine, <F_i, g> / (|f| |g|), or None where the head is not linear."""
    try:
        of_query, of_pictures = parts(explainer, query[None]), parts(explainer, pictures)
    except ValueError:
        return None
    f, g = of_query.embeddings[0], of_pictures.embeddings
    lengths = np.linalg.norm(f) * np.linalg.norm(g, axis=1)
    lengths = np.where(lengths > 0, lengths, 1)
    maps = of_pictures.cells @ f / lengths[:, None, None]
    query_map = of_query.cells[0] @ g[0] / lengths[0]
    return RankMaps(
        query_map=query_map.astype(np.float32), maps=maps.astype(np.float32), form="exact", spans=of_pictures.spans
    )


def _gradient(explainer: Explainer, query: np.ndarray, pictures: np.ndarray, metric: str) -> RankMaps:
    """Returns Grad-CAM of the score, on the query and on the pictures, with the embedding of the other one fixed."""
    score: Callable[[Any], Any] = Similarity if metric == "cosine" else Distance
    query_vector, vectors = explainer.embed(query[None]), explainer.embed(pictures)
    of_query = explainer(query[None], explainer.target.on_same_output(score(vectors[:1])))
    of_pictures = explainer(pictures, explainer.target.on_same_output(score(query_vector)))
    if of_query.cam is None or of_pictures.cam is None:
        raise ArgumentError(
            "model", "be an Explainer that computes 'gradcam' or a variant of it", f"methods={explainer.methods}"
        )
    return RankMaps(query_map=of_query.cam[0], maps=of_pictures.cam, form="gradient", spans=of_pictures.spans)
