"""Re-identification: which parts of two pictures make them match, and ranked lists that show it."""

from __future__ import annotations

from .figures import pair_figure, rank_list
from .gallery import Gallery
from .lists import RankList
from .pairs import SimilarityMaps, activation_energy, similarity_maps
from .ranking import Ranking, rank

__all__ = [
    "Gallery",
    "RankList",
    "Ranking",
    "SimilarityMaps",
    "activation_energy",
    "pair_figure",
    "rank",
    "rank_list",
    "similarity_maps",
]
