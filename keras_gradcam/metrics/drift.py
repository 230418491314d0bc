"""Drift: how far an attention map moved. NumPy and SciPy only.

All functions take native Grad-CAM grids, one map ``(h, w)`` or a stack ``(..., h, w)``, and return one number per map,
a float or an array of the leading shape. They use the raw maps: nothing depends on how strong a map is unless it says
so. A map with a value that is not finite is missing, and so is a map that is the same everywhere: missing is NaN, never
a number that could be taken for agreement. :func:`keras_gradcam.metrics.mean_of_present` averages the rest and counts
the missing.

Drift is measured on Grad-CAM maps and never on guided ones, which barely react to the upper layers and would hide it
(Adebayo et al., Sanity Checks for Saliency Maps, NeurIPS 2018, https://arxiv.org/abs/1810.03292).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.stats import rankdata

from ..errors import ArgumentError, check_number
from .statistics import center_of_mass, check_maps, flattened, informative, shares, where_present


def rank_correlation(a: Any, b: Any) -> Any:
    """Computes Spearman's rank correlation of two maps, cell by cell; ties share their mean rank.

    1 for the same order of cells, -1 for the reverse; unchanged by any increasing function of either map.

    Args:
        a: Maps, ``(..., h, w)``.
        b: Maps of the same grid.

    Returns:
        Float(s) from -1 to 1; NaN where a map is constant or not finite.

    Example:
        >>> import numpy as np
        >>> float(rank_correlation(np.array([[1, 2], [3, 4]]), np.array([[10, 20], [30, 99]])))
        1.0

    Source: Spearman 1904; for maps over training and randomisation, Adebayo et al. 2018.
    """
    a, b = _paired(a, b)
    with np.errstate(invalid="ignore", divide="ignore"):
        first, second = (_centered(rankdata(_finite_cells(x), axis=-1)) for x in (a, b))
        scale = np.sqrt((first**2).sum(axis=-1) * (second**2).sum(axis=-1))
        value = np.clip((first * second).sum(axis=-1) / scale, -1, 1)
    return where_present(value, informative(a) & informative(b))


def overlap(a: Any, b: Any, share: float = 0.2) -> Any:
    """Computes the Jaccard overlap of the strongest cells of two maps: |A and B| / |A or B|.

    The strongest cells are the ``ceil(share * cells)`` largest. Cells as large as the last of them count too, so that
    no arbitrary order decides; cells at the map's minimum never do, so that a map with few cells above zero is not
    filled up with empty ones.

    Args:
        a: Maps, ``(..., h, w)``.
        b: Maps of the same grid.
        share: Share of the cells, above 0 and at most 1.

    Returns:
        Float(s) from 0 to 1; NaN where a map is constant or not finite.

    Raises:
        ArgumentError: If ``share`` is out of range.

    Example:
        >>> import numpy as np
        >>> float(overlap(np.array([[9, 1, 0, 0, 0]]), np.array([[1, 9, 0, 0, 0]]), share=0.4))
        1.0
    """
    check_number("share", share, "be above 0 and at most 1", lambda share: 0 < share <= 1)
    a, b = _paired(a, b)
    first, second = (_strongest(_finite_cells(x), share) for x in (a, b))
    either = (first | second).sum(axis=-1)
    value = (first & second).sum(axis=-1) / np.maximum(either, 1)
    return where_present(value, informative(a) & informative(b))


def center_shift(a: Any, b: Any) -> Any:
    """Measures the distance between the centres of mass of two maps, as a fraction of the map's diagonal.

    Args:
        a: Maps >= 0, ``(..., h, w)``.
        b: Maps of the same grid.

    Returns:
        Float(s) from 0 to 1; NaN where a map is constant or not finite.

    Example:
        >>> import numpy as np
        >>> float(center_shift(np.eye(2)[:1], np.eye(2)[1:]))  # one cell to the right on a grid of 1 x 2
        0.4472135954999579
    """
    a, b = _paired(a, b)
    height, width = a.shape[-2:]
    apart = (center_of_mass(a) - center_of_mass(b)) * (height, width)
    value = np.hypot(apart[..., 0], apart[..., 1]) / math.hypot(height, width)
    return where_present(value, informative(a) & informative(b))


def total_variation(a: Any, b: Any) -> Any:
    """Computes the total variation distance: half the sum of absolute differences of two maps, each of sum 1.

    0 for the same distribution of attention, 1 for no cell in common.

    Args:
        a: Maps >= 0, ``(..., h, w)``.
        b: Maps of the same grid.

    Returns:
        Float(s) from 0 to 1; NaN where a map is constant or not finite.

    Example:
        >>> import numpy as np
        >>> float(total_variation(np.array([[3.0, 1.0]]), np.array([[1.0, 3.0]])))
        0.5
    """
    a, b = _paired(a, b)
    value = np.abs(shares(flattened(a)) - shares(flattened(b))).sum(axis=-1) / 2
    return where_present(value, informative(a) & informative(b))


def settled_epoch(maps: Any, tolerance: float = 0.1) -> int | None:
    """Finds the first epoch from which on the map stays within ``tolerance`` of the last one, in total variation.

    Args:
        maps: A series of maps of one picture, ``(epochs, h, w)``.
        tolerance: Largest total variation distance to the last map, 0 to 1.

    Returns:
        An index of the series; the last one means that the map was still moving. None if the last map is
        missing.

    Example:
        >>> import numpy as np
        >>> settled_epoch(np.array([[[9.0, 1]], [[1, 9]], [[1.05, 9]], [[1, 9.1]]]))
        1
    """
    check_number("tolerance", tolerance, "be a number from 0 to 1", lambda tolerance: 0 <= tolerance <= 1)
    series = check_maps("maps", maps)
    if series.ndim != 3:
        raise ArgumentError("maps", "be maps of one picture, (epochs, h, w)", f"shape {series.shape}")
    if not len(series) or not informative(series[-1]):
        return None
    distances = total_variation(series, np.broadcast_to(series[-1], series.shape))
    moving = np.flatnonzero(~(distances <= tolerance))  # a missing map is not a settled one
    return int(moving[-1]) + 1 if len(moving) else 0


def _paired(a: Any, b: Any) -> tuple[np.ndarray, np.ndarray]:
    """Returns two stacks of maps of one grid as float64."""
    a, b = check_maps("a", a), check_maps("b", b)
    try:
        np.broadcast_shapes(a.shape, b.shape)
        is_one_grid = a.shape[-2:] == b.shape[-2:]
    except ValueError:
        is_one_grid = False
    if not is_one_grid:
        raise ArgumentError("b", "be maps (..., h, w) of one grid with `a`", f"shapes {a.shape} and {b.shape}")
    return a, b


def _finite_cells(a: np.ndarray) -> np.ndarray:
    """Returns maps as rows of cells, zero where they are not finite."""
    flat = flattened(a)
    return np.where(np.isfinite(flat), flat, 0)


def _centered(ranks: np.ndarray) -> np.ndarray:
    return ranks - ranks.mean(axis=-1, keepdims=True)


def _strongest(flat: np.ndarray, share: float) -> np.ndarray:
    """Returns which cells are among the strongest, bool (..., cells); see :func:`overlap`."""
    count = max(1, math.ceil(share * flat.shape[-1] - 1e-9))
    threshold = -np.sort(-flat, axis=-1)[..., count - 1 : count]
    return (flat >= threshold) & (flat > flat.min(axis=-1, keepdims=True))
