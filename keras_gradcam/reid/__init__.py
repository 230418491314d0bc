"""Re-identification: which parts of two pictures make them match, and ranked lists that show it."""

from __future__ import annotations

from .figures import pair_figure, rank_figure
from .ranking import Ranking, RankList
from .retrieval import Gallery, rank
from .similarity import SimilarityMaps, similarity_maps

__all__ = [
    "Gallery",
    "RankList",
    "Ranking",
    "SimilarityMaps",
    "pair_figure",
    "rank",
    "rank_figure",
    "similarity_maps",
]
