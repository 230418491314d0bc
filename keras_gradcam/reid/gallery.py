"""A gallery that is ranked again and again while a network learns."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..checks import check_whole_number
from ..explainer import Explainer
from .entries import check_cameras, portions, vectors_of
from .ranking import Ranking, ranked_and_explained, warn_of_unmatched


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
