"""How much of a map lies inside a region: a box or a mask."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Union

import numpy as np

from ..attribution.explanation import Explanation
from ..errors import ArgumentError, check_list, check_number, check_numbers, described
from ..grids import Spans, cell_edges
from .statistics import PerSample, check_size, flattened, has_mass, informative, maps_of, shares, where_present

_WHOLE = ((0.0, 1.0), (0.0, 1.0))

#: A region of the input: a box (x0, y0, x1, y1) in pixels, upper bounds exclusive, or a mask (H, W).
Region = Union[Sequence[float], np.ndarray]


def mass_inside(
    maps: Explanation | Any,
    regions: Sequence[Region] | Region,
    input_size: Sequence[int] | None = None,
    spans: Spans = None,
) -> Any:
    """Measures the share of each map's mass inside a region; a cell counts by the share of its area that is inside.

    Also known as the energy-based pointing game.

    Args:
        maps: Maps >= 0, (N, h, w), or an :class:`~keras_gradcam.Explanation`, whose map on the layer's grid is taken;
            or a single map (h, w).
        regions: One box (x0, y0, x1, y1) in input pixels, upper bounds exclusive, or one mask (H, W) per sample; for a
            single map one region.
        input_size: Height and width of the input for maps on a coarser grid; by default that of the maps.
        spans: Where such maps lie on the input, see :class:`keras_gradcam.grids.Placement`; by default over all of it.
            An explanation knows its own.

    Returns:
        A share from 0 to 1 (best) per sample, as :class:`~keras_gradcam.metrics.PerSample`; a float for a single map.
        Missing (NaN) for a map that is zero everywhere or not finite. A map without any preference gets the region's
        share of the area.

    Raises:
        ArgumentError: If ``regions`` do not fit the maps.

    Example:
        >>> import numpy as np
        >>> mass_inside(np.array([[[1.0, 3.0]], [[0.0, 0.0]]]), [(1, 0, 2, 1)] * 2)
        PerSample(mean 0.75 of 1, 1 missing)
        >>> mass_inside(np.array([[1.0, 3.0]]), (0, 0, 6, 4), (4, 8))  # the left cell and half of the right one
        0.625

    Source: Wang et al., Score-CAM, CVPR workshops 2020, https://arxiv.org/abs/1910.01279.
    """
    _check_spans(spans)
    if not _is_single(maps):
        stack, masks, spans = _with_masks(maps, regions, input_size, spans)
        return PerSample(np.array([_share_inside(a, mask, spans) for a, mask in zip(stack, masks, strict=True)]))
    stack, size = maps_of(np.asarray(maps)[None], input_size)
    return _share_inside(stack[0], region_mask(regions, size), spans)  # type: ignore[arg-type]


def pointing_game(
    maps: Explanation | Any,
    regions: Sequence[Region] | Region,
    input_size: Sequence[int] | None = None,
    tolerance: float = 15,
    spans: Spans = None,
) -> Any:
    """Scores the pointing game: whether the maximum of each map lies in its region or close to it.

    1 if the centre of the strongest cell is at most ``tolerance`` pixels from the region, else 0; of several strongest
    cells the first in reading order counts. The mean over the samples is the pointing game's accuracy.

    Args:
        maps: Maps (N, h, w), or an :class:`~keras_gradcam.Explanation`, whose map on the layer's grid is taken: its
            strongest cell has one centre, where the upsampled map has a plateau if the cell lies at a border; or a
            single map (h, w).
        regions: One box (x0, y0, x1, y1) in input pixels, upper bounds exclusive, or one mask (H, W) per sample; for a
            single map one region.
        input_size: Height and width of the input for maps on a coarser grid; by default that of the maps.
        tolerance: Largest distance in input pixels; 15 in the paper, for pictures of some 300 to 500 pixels.
        spans: Where such maps lie on the input, as for :func:`mass_inside`.

    Returns:
        1.0 or 0.0 per sample, as :class:`~keras_gradcam.metrics.PerSample`; a float for a single map. Missing (NaN)
        for a map that is empty, the same everywhere or not finite.

    Raises:
        ArgumentError: If ``regions`` do not fit the maps or ``tolerance`` is negative.

    Example:
        >>> import numpy as np
        >>> maps = np.array([[[0.0, 1.0]], [[1.0, 0.0]]])
        >>> pointing_game(maps, [(4, 0, 8, 4)] * 2, input_size=(4, 8), tolerance=1).values
        array([1., 0.])
        >>> pointing_game(maps[0], (4, 0, 8, 4), (4, 8), tolerance=0)
        1.0

    Source: Zhang et al., Top-down Neural Attention by Excitation Backprop, ECCV 2016 and IJCV 2018,
    https://arxiv.org/abs/1608.00507.
    """
    check_number("tolerance", tolerance, "be a number of pixels >= 0", lambda tolerance: tolerance >= 0)
    _check_spans(spans)
    if not _is_single(maps):
        stack, masks, spans = _with_masks(maps, regions, input_size, spans)
        return PerSample(np.array([_hit(a, mask, tolerance, spans) for a, mask in zip(stack, masks, strict=True)]))
    stack, size = maps_of(np.asarray(maps)[None], input_size)
    return _hit(stack[0], region_mask(regions, size), tolerance, spans)  # type: ignore[arg-type]


def region_mask(region: Region, input_size: Sequence[int]) -> np.ndarray:
    """Draws a region as a mask of the input, float (H, W) of 0 and 1; a box's borders round outwards.

    Raises:
        ArgumentError: If ``region`` is neither a box in pixels with x0 < x1 and y0 < y1 nor a mask of the input's size.

    Example:
        >>> region_mask((1, 0, 3, 1), (2, 4)).tolist()
        [[0.0, 1.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0]]
    """
    height, width = check_size(input_size)
    array = check_numbers("regions", region, f"be boxes (x0, y0, x1, y1) or masks of shape {(height, width)}")
    if array.shape == (height, width):
        return (array > 0).astype(np.float64)
    check_box(array, (height, width))
    x0, y0, x1, y1 = (float(value) for value in array)
    mask = np.zeros((height, width))
    mask[max(math.floor(y0), 0) : max(math.ceil(y1), 0), max(math.floor(x0), 0) : max(math.ceil(x1), 0)] = 1
    return mask


def check_box(array: np.ndarray, size: tuple[int, int]) -> None:
    """Raises ArgumentError unless an array is a box (x0, y0, x1, y1) in pixels of an input of this size."""
    if array.shape != (4,) or not np.isfinite(array).all() or not (array[:2] < array[2:]).all():
        raise ArgumentError(
            "regions",
            f"be boxes (x0, y0, x1, y1) with x0 < x1 and y0 < y1, or masks of shape {size}",
            f"shape {array.shape}" if array.ndim != 1 else str(array.tolist()),
        )
    if array.max() <= 1 and (array % 1 != 0).any():
        raise ArgumentError(
            "regions", "be boxes (x0, y0, x1, y1) in pixels of the input, not in fractions of it", str(array.tolist())
        )


def bounds(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Returns the smallest box (x0, y0, x1, y1) around a mask.

    Raises:
        ArgumentError: If the mask is empty.
    """
    rows, columns = np.nonzero(mask)
    if not len(rows):
        raise ArgumentError("regions", "cover at least one pixel of the input", "a region outside of it")
    return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1


def region_masks(regions: Sequence[Region] | np.ndarray, samples: int, input_size: Sequence[int]) -> list[np.ndarray]:
    """Draws one mask (H, W) of 0 and 1 per sample.

    Raises:
        ArgumentError: If there is not one region per sample, or one is neither box nor mask or lies outside the input.
    """
    regions = check_list("regions", regions, "hold one box or mask per sample")
    if len(regions) != samples:
        raise ArgumentError("regions", "hold one box or mask per sample", f"{len(regions)} for {samples} samples")
    masks = [region_mask(region, input_size) for region in regions]
    for mask in masks:
        bounds(mask)  # refuses a region outside of the input
    return masks


def _is_single(maps: Explanation | Any) -> bool:
    return not isinstance(maps, Explanation) and check_numbers("maps", maps).ndim == 2


def _check_spans(spans: Any) -> None:
    """Raises ArgumentError unless ``spans`` are None or two pairs of shares of the input."""
    if spans is None:
        return
    requirement = "be None or where the maps lie along height and width, as shares of the input"
    array = check_numbers("spans", spans, requirement)
    if array.shape != (2, 2) or not np.isfinite(array).all() or not (array[:, 0] < array[:, 1]).all():
        raise ArgumentError("spans", requirement, described(spans), "((0.0, 1.0), (0.0, 1.0))")


def _with_masks(
    maps: Explanation | np.ndarray, regions: Any, input_size: Sequence[int] | None, spans: Spans
) -> tuple[np.ndarray, list[np.ndarray], Spans]:
    """Returns the maps of N samples on their own grid, the mask of the region of each, and where the maps lie."""
    stack, size = maps_of(maps, input_size, coarse=True)
    if isinstance(maps, Explanation):
        spans = maps.spans
    return stack, region_masks(regions, len(stack), size), spans


def _share_inside(a: np.ndarray, mask: np.ndarray, spans: Spans) -> float:
    """Returns the share of one map's mass inside a mask; see :func:`mass_inside`."""
    down, across = (
        _cell_areas(cell_edges(*ends), ends[1]) for ends in zip(a.shape, mask.shape, spans or _WHOLE, strict=True)
    )
    inside = down @ mask @ across.T
    value = (shares(flattened(a)) * inside.ravel()).sum()
    return where_present(np.clip(value, 0, 1), has_mass(flattened(a)))


def _hit(a: np.ndarray, mask: np.ndarray, tolerance: float, spans: Spans) -> float:
    """Returns whether the strongest cell of one map lies in or near a mask, 1.0 or 0.0; see :func:`pointing_game`."""
    cell = divmod(int(np.where(np.isfinite(a), a, -np.inf).argmax()), a.shape[1])
    y, x = (
        cell_edges(cells, extent, span)[index : index + 2].mean()
        for index, cells, extent, span in zip(cell, a.shape, mask.shape, spans or _WHOLE, strict=True)
    )
    rows, columns = np.nonzero(mask)
    # A pixel covers [i, i + 1): the distance to it is zero inside.
    dy = np.maximum(np.maximum(rows - y, y - rows - 1), 0)
    dx = np.maximum(np.maximum(columns - x, x - columns - 1), 0)
    return where_present(float(np.hypot(dy, dx).min(initial=np.inf) <= tolerance), informative(a))


def _cell_areas(edges: np.ndarray, pixels: int) -> np.ndarray:
    """Returns which share of a cell each pixel covers, (cells, pixels)."""
    lower, upper = edges[:-1, None], edges[1:, None]
    pixel = np.arange(pixels)
    return np.clip(np.minimum(upper, pixel + 1) - np.maximum(lower, pixel), 0, None) / (upper - lower)
