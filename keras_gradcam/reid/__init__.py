"""Re-identification: which parts of two pictures make them match, and ranked lists that show it."""

from __future__ import annotations

from .figures import pair_figure, rank_figure
from .folders import PictureFolder, read_folder
from .nearest import NearestIndex, nearest
from .ranking import Ranking, RankList
from .retrieval import Gallery, rank
from .similarity import SimilarityMaps, similarity_maps

__all__ = [
    "Gallery",
    "NearestIndex",
    "PictureFolder",
    "RankList",
    "Ranking",
    "SimilarityMaps",
    "nearest",
    "pair_figure",
    "rank",
    "rank_figure",
    "read_folder",
    "similarity_maps",
]
