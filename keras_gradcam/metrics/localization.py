"""Where a map points to: boxes and masks out of heatmaps, their overlap with the truth, and the pointing game.

What a map does not say is missing, NaN, and never a number: a map that is the same everywhere, or that has a value
that is not finite, has no box, no overlap and no hit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..attribution.explanation import Explanation
from ..errors import ArgumentError
from .regions import Region, bounds, mass_inside, pointing_hit, region_masks
from .statistics import PerSample, informative, maps_of


@dataclass(frozen=True, eq=False, repr=False)
class Localization:
    """Where the maps of N samples point to.

    Attributes:
        boxes: float64 (N, 4): x0, y0, x1, y1 in pixels of the map, x1 and y1 exclusive; NaN where there is no box.
        masks: bool (N, H, W), the pixels of the component in the box; False everywhere where there is none.
    """

    boxes: np.ndarray
    masks: np.ndarray

    @property
    def found(self) -> np.ndarray:
        """Bool (N,): whether there is a box."""
        return ~np.isnan(self.boxes[:, 0])

    def __len__(self) -> int:
        return len(self.boxes)

    def __repr__(self) -> str:
        return f"Localization({self.found.sum()} of {len(self)} samples have a box)"


def localize(maps: Explanation | np.ndarray, threshold: float = 0.15) -> Localization:
    """The largest connected part of each map above a share of its maximum: weakly supervised localization.

    Pixels above ``threshold * max`` that touch by a side or a corner (8-connectivity) are one part. Of several largest
    parts the one that comes first in reading order counts.

    Args:
        maps: Heatmaps (N, H, W), or an :class:`~keras_gradcam.Explanation`, whose ``heatmap`` is taken.
        threshold: Share of the map's maximum, at least 0 and below 1; the paper uses 0.15.

    Returns:
        The :class:`Localization`. A map without a positive value, the same everywhere or not finite has no box.

    Raises:
        ValueError: If ``maps`` are no maps of pictures or ``threshold`` is out of range.

    Example:
        >>> import numpy as np
        >>> found = localize(np.array([[[9.0, 0, 0, 0], [0, 0, 5, 5], [0, 0, 5, 1]]]))
        >>> found.boxes
        array([[2., 1., 4., 3.]])
        >>> found.masks[0].astype(int)
        array([[0, 0, 0, 0],
               [0, 0, 1, 1],
               [0, 0, 1, 0]])

    Source: Selvaraju et al., Grad-CAM, ICCV 2017, section 4.1, https://arxiv.org/abs/1610.02391.
    """
    if isinstance(threshold, bool) or not 0 <= threshold < 1:
        raise ArgumentError("threshold", "be at least 0 and below 1", repr(threshold))
    stack, _ = maps_of(maps)
    boxes, masks = np.full((len(stack), 4), np.nan), np.zeros(stack.shape, bool)
    for number in np.flatnonzero(informative(stack) & (stack.max(axis=(1, 2)) > 0)):
        masks[number] = _largest_part(stack[number] > threshold * stack[number].max())
        boxes[number] = bounds(masks[number])
    return Localization(boxes, masks)


def iou(one: Any, other: Any) -> Any:
    """Intersection over union of boxes with boxes or of masks with masks: |A and B| / |A or B|, element by element.

    Args:
        one: Boxes (..., 4): x0, y0, x1, y1 with exclusive ends; or boolean masks (..., H, W).
        other: The same number of boxes or masks, or one for all.

    Returns:
        Float(s) from 0 to 1; NaN where a box is NaN or a mask is False everywhere, as :func:`localize` gives for a map
        that says nothing.

    Raises:
        ValueError: If they are neither, of both kinds, or do not fit each other.

    Example:
        >>> iou((0, 0, 4, 2), (2, 0, 6, 2))
        0.3333333333333333
    """
    one, other = np.asarray(one), np.asarray(other)
    if (one.dtype == bool) != (other.dtype == bool):
        raise ValueError(
            "`one` and `other` must both be boxes or both be masks. "
            f"Received: {one.dtype} of shape {one.shape} and {other.dtype} of shape {other.shape}. "
            "Candidates: a mask is boolean, for example `mask > 0`."
        )
    axes = 2 if one.dtype == bool else 1
    try:
        shape = np.broadcast_shapes(one.shape[:-axes], other.shape[:-axes])
    except ValueError:
        shape = None
    if shape is None or min(one.ndim, other.ndim) < axes or one.shape[-axes:] != other.shape[-axes:]:
        raise ValueError(
            "`one` and `other` must fit each other, one for one or one for all. "
            f"Received: shapes {one.shape} and {other.shape}."
        )
    if axes == 2:
        common, either = ((one & other).sum(axis=(-2, -1)), (one | other).sum(axis=(-2, -1)))
        present = one.any(axis=(-2, -1)) & other.any(axis=(-2, -1))
    else:
        first, second = _boxes("one", one), _boxes("other", other)
        with np.errstate(invalid="ignore"):
            sides = np.minimum(first[..., 2:], second[..., 2:]) - np.maximum(first[..., :2], second[..., :2])
            common = np.maximum(sides, 0).prod(axis=-1)
            either = (first[..., 2:] - first[..., :2]).prod(axis=-1) - common
            either = either + (second[..., 2:] - second[..., :2]).prod(axis=-1)
        present = ~np.isnan(either)
    value = np.where(present, common / np.where(present, either, 1), np.nan)
    return value if value.ndim else float(value)


def pointing_game(
    maps: Explanation | np.ndarray,
    regions: Sequence[Region] | np.ndarray,
    tolerance: float = 15,
    input_size: Sequence[int] | None = None,
) -> PerSample:
    """The pointing game: whether the maximum of each map lies in the region or close to it.

    1 if the centre of the strongest cell is at most ``tolerance`` pixels from the region, else 0; of several strongest
    cells the first in reading order counts. The mean over the samples is the pointing game's accuracy.

    Args:
        maps: Maps (N, h, w), or an :class:`~keras_gradcam.Explanation`, whose ``gradcam`` is taken: its strongest cell
            has one centre, where the upsampled map has a plateau if the cell lies at a border.
        regions: One box (x0, y0, x1, y1) in input pixels, upper bounds exclusive, or one mask (H, W) per sample.
        tolerance: Largest distance in input pixels; 15 in the paper, for pictures of some 300 to 500 pixels.
        input_size: Height and width of the input for maps on a coarser grid; by default that of the maps.

    Returns:
        1.0 or 0.0 per sample; missing for a map that is empty, the same everywhere or not finite.

    Raises:
        ValueError: If ``regions`` do not fit the maps or ``tolerance`` is negative.

    Example:
        >>> import numpy as np
        >>> maps = np.array([[[0.0, 1.0]], [[1.0, 0.0]]])
        >>> pointing_game(maps, [(4, 0, 8, 4)] * 2, tolerance=1, input_size=(4, 8)).values
        array([1., 0.])

    Source: Zhang et al., Top-down Neural Attention by Excitation Backprop, ECCV 2016 and IJCV 2018,
    https://arxiv.org/abs/1608.00507.
    """
    if isinstance(tolerance, bool) or not tolerance >= 0:
        raise ArgumentError("tolerance", "be a number of pixels >= 0", repr(tolerance))
    stack, size = maps_of(maps, input_size, coarse=True)
    masks = region_masks(regions, len(stack), size)
    hits = [pointing_hit(one, mask, size, tolerance) for one, mask in zip(stack, masks, strict=True)]
    return PerSample(np.array(hits, np.float64))


def energy_inside(
    maps: Explanation | np.ndarray,
    regions: Sequence[Region] | np.ndarray,
    input_size: Sequence[int] | None = None,
) -> PerSample:
    """The energy-based pointing game over a set: sum of L inside the region / sum of L.

    Args:
        maps: Maps >= 0, (N, h, w), or an :class:`~keras_gradcam.Explanation`, whose ``gradcam`` is taken.
        regions: One box (x0, y0, x1, y1) in input pixels, upper bounds exclusive, or one mask (H, W) per sample.
        input_size: Height and width of the input for maps on a coarser grid; by default that of the maps.

    Returns:
        A share from 0 to 1 (best) per sample, see :func:`keras_gradcam.drift.mass_inside`; missing for a map that is
        zero everywhere or not finite. A map without any preference gets the region's share of the area.

    Raises:
        ValueError: If ``regions`` do not fit the maps.

    Example:
        >>> import numpy as np
        >>> energy_inside(np.array([[[1.0, 3.0]], [[0.0, 0.0]]]), [(1, 0, 2, 1)] * 2)
        PerSample(mean 0.75 of 1, 1 missing)

    Source: Wang et al., Score-CAM, CVPR workshops 2020, https://arxiv.org/abs/1910.01279.
    """
    stack, size = maps_of(maps, input_size, coarse=True)
    masks = region_masks(regions, len(stack), size)
    return PerSample(np.array([mass_inside(one, mask, size) for one, mask in zip(stack, masks, strict=True)]))


def _largest_part(above: np.ndarray) -> np.ndarray:
    from scipy.ndimage import label

    parts, _ = label(above, structure=np.ones((3, 3)))
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    return parts == sizes.argmax()


def _boxes(name: str, boxes: np.ndarray) -> np.ndarray:
    """Boxes as float64, checked."""
    if boxes.dtype.kind not in "fiu" or boxes.shape[-1] != 4:
        raise ValueError(
            f"`{name}` must be boxes (..., 4) or boolean masks (..., H, W). "
            f"Received: {boxes.dtype} of shape {boxes.shape}. Candidates: mask > 0."
        )
    boxes = boxes.astype(np.float64)
    known = ~np.isnan(boxes).any(axis=-1)
    if not (boxes[known, :2] < boxes[known, 2:]).all():
        wrong = boxes[known & ~(boxes[..., :2] < boxes[..., 2:]).all(axis=-1)][0]
        raise ValueError(
            f"`{name}` must be boxes (x0, y0, x1, y1) with x0 < x1 and y0 < y1. Received: {wrong.tolist()}."
        )
    return np.where(known[..., None], boxes, np.nan)
