"""Drift: how far an attention map moved, and what one map is like. NumPy and SciPy only.

All functions take native Grad-CAM grids, one map ``(h, w)`` or a stack ``(..., h, w)``, and return one number per map,
a float or an array of the leading shape. They use the raw maps: nothing depends on how strong a map is unless it says
so. A map with a value that is not finite is missing, and so is, for everything that compares or locates, a map that is
the same everywhere: missing is NaN, never a number that could be taken for agreement. :func:`mean_of_present` averages
the rest and counts the missing.

Drift is measured on Grad-CAM maps and never on guided ones, which barely react to the upper layers and would hide it
(Adebayo et al., Sanity Checks for Saliency Maps, NeurIPS 2018, https://arxiv.org/abs/1810.03292).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Union

import numpy as np
from scipy.stats import rankdata

#: A region of the input: a box (x0, y0, x1, y1) in pixels, upper bounds exclusive, or a mask (H, W).
Region = Union[Sequence[float], np.ndarray]


def rank_correlation(a: Any, b: Any) -> Any:
    """Spearman's rank correlation of two maps, cell by cell; ties share their mean rank.

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
        first, second = (_centered(rankdata(np.where(np.isfinite(x), x, 0), axis=-1)) for x in (a, b))
        scale = np.sqrt((first**2).sum(axis=-1) * (second**2).sum(axis=-1))
        value = np.clip((first * second).sum(axis=-1) / scale, -1, 1)
    return _where_present(value, _varies(a) & _varies(b))


def overlap(a: Any, b: Any, share: float = 0.2) -> Any:
    """Jaccard overlap of the strongest cells of two maps: |A and B| / |A or B|.

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
        ValueError: If ``share`` is out of range.

    Example:
        >>> import numpy as np
        >>> float(overlap(np.array([[9, 1, 0, 0, 0]]), np.array([[1, 9, 0, 0, 0]]), share=0.4))
        1.0
    """
    if not 0 < share <= 1:
        raise ValueError(f"`share` must be above 0 and at most 1. Received: {share!r}.")
    a, b = _paired(a, b)
    first, second = (_strongest(np.where(np.isfinite(x), x, 0), share) for x in (a, b))
    either = (first | second).sum(axis=-1)
    value = (first & second).sum(axis=-1) / np.maximum(either, 1)
    return _where_present(value, _varies(a) & _varies(b))


def center_shift(a: Any, b: Any) -> Any:
    """Distance between the centres of mass of two maps, as a fraction of the map's diagonal.

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
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    _same_grid(a, b)
    height, width = a.shape[-2:]
    (y0, x0), (y1, x1) = _center(a), _center(b)
    value = np.hypot(y0 - y1, x0 - x1) / math.hypot(height, width)
    return _where_present(value, _varies(_flat(a)) & _varies(_flat(b)))


def total_variation(a: Any, b: Any) -> Any:
    """Total variation distance of two maps, each normalised to sum 1: half the sum of absolute differences.

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
    value = np.abs(_shares(a) - _shares(b)).sum(axis=-1) / 2
    return _where_present(value, _varies(a) & _varies(b))


def focus(a: Any) -> Any:
    """The smallest share of the map's area that holds half of its mass.

    Small for attention on one spot; 0.5 for a map that is the same everywhere.

    Args:
        a: Maps >= 0, ``(..., h, w)``.

    Returns:
        Float(s) above 0, at most 0.5; NaN where a map is zero everywhere or not finite.

    Example:
        >>> import numpy as np
        >>> float(focus(np.array([[6.0, 2.0], [1.0, 1.0]])))
        0.25
    """
    flat = _flat(np.asarray(a, np.float64))
    cumulated = np.cumsum(-np.sort(-_shares(flat), axis=-1), axis=-1)
    cells = (cumulated < 0.5 - 1e-12).sum(axis=-1) + 1
    return _where_present(np.minimum(cells / flat.shape[-1], 1.0), _present(flat))


def mass(a: Any) -> Any:
    """The sum of the map: how much evidence there is, in units of the explained score.

    Args:
        a: Maps, ``(..., h, w)``.

    Returns:
        Float(s); 0 for an empty map, NaN for one that is not finite.

    Example:
        >>> import numpy as np
        >>> float(mass(np.ones((2, 3))))
        6.0
    """
    flat = _flat(np.asarray(a, np.float64))
    return _where_present(flat.sum(axis=-1), np.isfinite(flat).all(axis=-1))


def peak(a: Any) -> Any:
    """The largest value of the map.

    Args:
        a: Maps, ``(..., h, w)``.

    Returns:
        Float(s); NaN for a map that is not finite.

    Example:
        >>> import numpy as np
        >>> float(peak(np.array([[1.0, 3.0]])))
        3.0
    """
    flat = _flat(np.asarray(a, np.float64))
    return _where_present(flat.max(axis=-1), np.isfinite(flat).all(axis=-1))


def entropy(a: Any) -> Any:
    """Shannon entropy of the map normalised to sum 1, divided by its largest possible value, log(cells).

    Args:
        a: Maps >= 0, ``(..., h, w)``, more than one cell.

    Returns:
        Float(s) from 0 (one cell) to 1 (the same everywhere); NaN where a map is zero everywhere or not finite.

    Example:
        >>> import numpy as np
        >>> float(entropy(np.array([[1.0, 1.0], [0.0, 0.0]])))
        0.5

    Source: Shannon 1948.
    """
    flat = _flat(np.asarray(a, np.float64))
    shares = _shares(flat)
    logarithms = np.log(np.where(shares > 0, shares, 1))
    value = -(shares * logarithms).sum(axis=-1) / math.log(max(flat.shape[-1], 2))
    return _where_present(value, _present(flat))


def mass_inside(a: Any, region: Region, input_size: Sequence[int]) -> Any:
    """The share of the map's mass inside a region of the input; a cell counts by the share of its area that is inside.

    Args:
        a: Maps >= 0, ``(..., h, w)``.
        region: A box (x0, y0, x1, y1) in input pixels, upper bounds exclusive, or a mask (H, W).
        input_size: Height and width of the input.

    Returns:
        Float(s) from 0 to 1; NaN where a map is zero everywhere or not finite.

    Raises:
        ValueError: If the region is neither.

    Example:
        >>> import numpy as np
        >>> float(mass_inside(np.array([[1.0, 3.0]]), (0, 0, 6, 4), (4, 8)))  # the left cell and half of the right one
        0.625

    Source: the energy-based pointing game of Wang et al., Score-CAM, CVPR workshops 2020,
    https://arxiv.org/abs/1910.01279.
    """
    a = np.asarray(a, np.float64)
    mask = region_mask(region, input_size)
    height, width = a.shape[-2:]
    inside = _cell_areas(height, mask.shape[0]) @ mask @ _cell_areas(width, mask.shape[1]).T
    value = (_shares(_flat(a)) * inside.ravel()).sum(axis=-1)
    return _where_present(np.clip(value, 0, 1), _present(_flat(a)))


def pointing_hit(a: Any, region: Region, input_size: Sequence[int], tolerance: float = 0) -> Any:
    """The pointing game: 1 if the centre of the strongest cell lies in the region, else 0.

    Of several strongest cells the first in reading order counts.

    Args:
        a: Maps, ``(..., h, w)``.
        region: A box (x0, y0, x1, y1) in input pixels, upper bounds exclusive, or a mask (H, W).
        input_size: Height and width of the input.
        tolerance: A centre at most so many pixels from the region is a hit too; the paper allows 15.

    Returns:
        1.0 or 0.0; NaN where a map is constant or not finite.

    Raises:
        ValueError: If the region is neither.

    Example:
        >>> import numpy as np
        >>> float(pointing_hit(np.array([[0.0, 1.0]]), (4, 0, 8, 4), (4, 8)))
        1.0

    Source: Zhang et al., Top-down Neural Attention by Excitation Backprop, ECCV 2016,
    https://arxiv.org/abs/1608.00507.
    """
    a = np.asarray(a, np.float64)
    mask = region_mask(region, input_size)
    flat = _flat(a)
    cell = np.where(np.isfinite(flat), flat, -np.inf).argmax(axis=-1)
    y = (cell // a.shape[-1] + 0.5) * mask.shape[0] / a.shape[-2]
    x = (cell % a.shape[-1] + 0.5) * mask.shape[1] / a.shape[-1]
    rows, columns = np.nonzero(mask)
    if not len(rows):
        return _where_present(np.zeros(cell.shape), _varies(flat))
    # A pixel covers [i, i + 1): the distance to it is zero inside.
    dy = np.maximum(np.maximum(rows - y[..., None], y[..., None] - rows - 1), 0)
    dx = np.maximum(np.maximum(columns - x[..., None], x[..., None] - columns - 1), 0)
    return _where_present((np.hypot(dy, dx).min(axis=-1) <= tolerance).astype(float), _varies(flat))


def settled_epoch(maps: Any, tolerance: float = 0.1) -> int | None:
    """The first epoch from which on the map stays within ``tolerance`` of the last one, in total variation.

    Args:
        maps: A series of maps of one picture, ``(epochs, h, w)``.
        tolerance: Largest total variation distance to the last map, 0 to 1.

    Returns:
        A position in the series; the last position means that the map was still moving. None if the last map is
        missing.

    Example:
        >>> import numpy as np
        >>> settled_epoch(np.array([[[9.0, 1]], [[1, 9]], [[1.05, 9]], [[1, 9.1]]]))
        1
    """
    series = np.asarray(maps, np.float64)
    if not len(series) or not _varies(_flat(series[-1])):
        return None
    distances = total_variation(series, np.broadcast_to(series[-1], series.shape))
    moving = np.flatnonzero(~(distances <= tolerance))  # a missing map is not a settled one
    return int(moving[-1]) + 1 if len(moving) else 0


def mean_of_present(values: Any) -> tuple[float, int]:
    """The mean of the values that are there, and how many are missing (NaN); (NaN, count) if all are.

    Example:
        >>> mean_of_present([1.0, float("nan"), 3.0])
        (2.0, 1)
    """
    array = np.asarray(values, np.float64).ravel()
    present = array[~np.isnan(array)]
    return (float(present.mean()) if len(present) else math.nan), len(array) - len(present)


def region_mask(region: Region, input_size: Sequence[int]) -> np.ndarray:
    """A region as a mask of the input, float (H, W) of 0 and 1; a box's borders round outwards.

    Raises:
        ValueError: If ``region`` is neither a box with x0 < x1 and y0 < y1 nor a mask of the input's size.

    Example:
        >>> region_mask((1, 0, 3, 1), (2, 4)).tolist()
        [[0.0, 1.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0]]
    """
    array = np.asarray(region)
    height, width = (int(extent) for extent in input_size)
    if array.shape == (height, width):
        return (array > 0).astype(np.float64)
    if array.shape != (4,) or not np.isfinite(array.astype(float)).all() or not (array[:2] < array[2:]).all():
        raise ValueError(
            f"`regions` must be boxes (x0, y0, x1, y1) with x0 < x1 and y0 < y1, or masks of shape {(height, width)}. "
            f"Received: {'shape ' + str(array.shape) if array.ndim != 1 else array.tolist()}."
        )
    x0, y0, x1, y1 = (float(value) for value in array)
    mask = np.zeros((height, width))
    mask[max(math.floor(y0), 0) : max(math.ceil(y1), 0), max(math.floor(x0), 0) : max(math.ceil(x1), 0)] = 1
    return mask


def _paired(a: Any, b: Any) -> tuple[np.ndarray, np.ndarray]:
    """Two stacks of maps, flattened to (..., cells)."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    _same_grid(a, b)
    return _flat(a), _flat(b)


def _same_grid(a: np.ndarray, b: np.ndarray) -> None:
    if a.ndim < 2 or a.shape[-2:] != b.shape[-2:]:
        raise ValueError(f"`a` and `b` must be maps (..., h, w) of one grid. Received: shapes {a.shape} and {b.shape}.")


def _flat(a: np.ndarray) -> np.ndarray:
    return a.reshape(*a.shape[:-2], -1)


def _varies(flat: np.ndarray) -> np.ndarray:
    finite = np.isfinite(flat).all(axis=-1)
    known = np.where(finite[..., None], flat, 0)
    return finite & (known.max(axis=-1) > known.min(axis=-1))


def _present(flat: np.ndarray) -> np.ndarray:
    finite = np.isfinite(flat).all(axis=-1)
    return finite & (np.where(finite[..., None], flat, 0).sum(axis=-1) > 0)


def _where_present(value: Any, present: Any) -> Any:
    result = np.where(present, value, np.nan)
    return result if result.ndim else float(result)


def _shares(flat: np.ndarray) -> np.ndarray:
    known = np.where(np.isfinite(flat), flat, 0)
    # Divide by the largest value first: sums of very small or very large values stay exact.
    top = known.max(axis=-1, keepdims=True)
    known = known / np.where(top > 0, top, 1)
    total = known.sum(axis=-1, keepdims=True)
    return known / np.where(total > 0, total, 1)


def _centered(ranks: np.ndarray) -> np.ndarray:
    return ranks - ranks.mean(axis=-1, keepdims=True)


def _strongest(flat: np.ndarray, share: float) -> np.ndarray:
    count = max(1, math.ceil(share * flat.shape[-1] - 1e-9))
    threshold = -np.sort(-flat, axis=-1)[..., count - 1 : count]
    return (flat >= threshold) & (flat > flat.min(axis=-1, keepdims=True))


def _center(a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    shares = _shares(_flat(a)).reshape(a.shape)
    y, x = (np.arange(extent) + 0.5 for extent in a.shape[-2:])
    return (shares.sum(axis=-1) * y).sum(axis=-1), (shares.sum(axis=-2) * x).sum(axis=-1)


def _cell_areas(cells: int, pixels: int) -> np.ndarray:
    """(cells, pixels): which share of a cell each pixel covers."""
    edges = np.linspace(0, pixels, cells + 1)
    lower, upper = edges[:-1, None], edges[1:, None]
    position = np.arange(pixels)
    return np.clip(np.minimum(upper, position + 1) - np.maximum(lower, position), 0, None) / (pixels / cells)
