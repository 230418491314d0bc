"""How much of a map lies inside a region: a box or a mask."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Union

import numpy as np

from ..errors import ArgumentError
from .statistics import _flat, _present, _shares, _varies, _where_present

#: A region of the input: a box (x0, y0, x1, y1) in pixels, upper bounds exclusive, or a mask (H, W).
Region = Union[Sequence[float], np.ndarray]


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
        raise ArgumentError(
            "regions",
            f"be boxes (x0, y0, x1, y1) with x0 < x1 and y0 < y1, or masks of shape {(height, width)}",
            str("shape " + str(array.shape) if array.ndim != 1 else array.tolist()),
        )
    x0, y0, x1, y1 = (float(value) for value in array)
    mask = np.zeros((height, width))
    mask[max(math.floor(y0), 0) : max(math.ceil(y1), 0), max(math.floor(x0), 0) : max(math.ceil(x1), 0)] = 1
    return mask


def _cell_areas(cells: int, pixels: int) -> np.ndarray:
    """(cells, pixels): which share of a cell each pixel covers."""
    edges = np.linspace(0, pixels, cells + 1)
    lower, upper = edges[:-1, None], edges[1:, None]
    position = np.arange(pixels)
    return np.clip(np.minimum(upper, position + 1) - np.maximum(lower, position), 0, None) / (pixels / cells)


def given_regions(
    regions: Sequence[Region] | np.ndarray | None, places: Sequence[int] | np.ndarray
) -> list[Region] | None:
    """The given regions at the places of the probes."""
    if regions is None:
        return None
    if len(regions) <= max(places):
        raise ValueError(
            f"`regions` must hold one box or mask per probe. Received: {len(regions)} for {max(places) + 1} probes."
            f"{_explained_places(places)}"
        )
    for region in regions:
        box = np.asarray(region, dtype=float)
        if box.shape == (4,) and box.max() <= 1 and (box % 1 != 0).any():
            raise ArgumentError(
                "regions", "be boxes (x0, y0, x1, y1) in pixels of the input, not in fractions of it", str(box.tolist())
            )
    return [regions[place] for place in places]


def _explained_places(places: Sequence[int] | np.ndarray) -> str:
    if max(places) < len(places):
        return ""
    return (
        f" The probes are {len(places)} of the pictures given, chosen to make pairs; the last is number {max(places)}."
    )


def bounds(mask: np.ndarray) -> tuple[int, int, int, int]:
    """The smallest box (x0, y0, x1, y1) around a mask."""
    rows, columns = np.nonzero(mask)
    if not len(rows):
        raise ArgumentError("regions", "cover at least one pixel of the input", "a region outside of it")
    return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1


def region_masks(regions: Sequence[Region] | np.ndarray, samples: int, input_size: Sequence[int]) -> list[np.ndarray]:
    """One mask (H, W) of 0 and 1 per sample.

    Raises:
        ValueError: If there is not one region per sample, or one is neither box nor mask or lies outside the input.
    """
    if len(regions) != samples:
        raise ArgumentError("regions", "hold one box or mask per sample", f"{len(regions)} for {samples} samples")
    masks = [region_mask(region, input_size) for region in given_regions(regions, range(samples)) or ()]
    for mask in masks:
        bounds(mask)  # refuses a region outside of the input
    return masks
