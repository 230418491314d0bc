"""Where a map points to: boxes and masks out of heatmaps, and their overlap with the truth.

What a map does not say is missing, NaN, and never a number: a map that is the same everywhere, or that has a value
that is not finite, has no box and no overlap.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..attribution.explanation import Explanation
from ..errors import ArgumentError, as_numpy, check_number, check_numbers
from .regions import bounds
from .statistics import informative, maps_of, where_present

_BOXES_OR_MASKS = "be boxes (..., 4) or boolean masks (..., H, W)"


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
    def has_box(self) -> np.ndarray:
        """Whether there is a box, bool (N,)."""
        return ~np.isnan(self.boxes[:, 0])

    def __len__(self) -> int:
        return len(self.boxes)

    def __repr__(self) -> str:
        return f"Localization({self.has_box.sum()} of {len(self)} samples have a box)"


def localize(maps: Explanation | np.ndarray, threshold: float = 0.15) -> Localization:
    """Finds the largest connected part of each map above a share of its maximum: weakly supervised localization.

    Pixels above ``threshold * max`` that touch by a side or a corner (8-connectivity) are one part. Of several largest
    parts the one that comes first in reading order counts.

    Args:
        maps: Heatmaps (N, H, W), or an :class:`~keras_gradcam.Explanation`, whose ``heatmap`` is taken.
        threshold: Share of the map's maximum, at least 0 and below 1; the paper uses 0.15.

    Returns:
        The :class:`Localization`. A map without a positive value, the same everywhere or not finite has no box.

    Raises:
        ArgumentError: If ``maps`` are no maps of pictures or ``threshold`` is out of range.

    Example:
        >>> import numpy as np
        >>> localization = localize(np.array([[[9.0, 0, 0, 0], [0, 0, 5, 5], [0, 0, 5, 1]]]))
        >>> localization.boxes
        array([[2., 1., 4., 3.]])
        >>> localization.masks[0].astype(int)
        array([[0, 0, 0, 0],
               [0, 0, 1, 1],
               [0, 0, 1, 0]])

    Source: Selvaraju et al., Grad-CAM, ICCV 2017, section 4.1, https://arxiv.org/abs/1610.02391.
    """
    check_number("threshold", threshold, "be at least 0 and below 1", lambda threshold: 0 <= threshold < 1)
    stack, _ = maps_of(maps)
    boxes, masks = np.full((len(stack), 4), np.nan), np.zeros(stack.shape, bool)
    for number in np.flatnonzero(informative(stack) & (stack.max(axis=(1, 2)) > 0)):
        masks[number] = _largest_part(stack[number] > threshold * stack[number].max())
        boxes[number] = bounds(masks[number])
    return Localization(boxes, masks)


def iou(a: Any, b: Any) -> Any:
    """Computes intersection over union of boxes or of masks: |A and B| / |A or B|, element by element.

    Args:
        a: Boxes (..., 4): x0, y0, x1, y1 with exclusive ends; or boolean masks (..., H, W).
        b: The same number of boxes or masks, or one for all.

    Returns:
        Float(s) from 0 to 1; NaN where a box is NaN or a mask is False everywhere, as :func:`localize` gives for a map
        that says nothing.

    Raises:
        ArgumentError: If they are neither, of both kinds, or do not fit each other.

    Example:
        >>> iou((0, 0, 4, 2), (2, 0, 6, 2))
        0.3333333333333333
    """
    a, b = (
        as_numpy(value) if np.ndim(check_numbers(name, value, _BOXES_OR_MASKS)) else np.zeros(0)
        for name, value in (("a", a), ("b", b))
    )
    _check_pairs(a, b)
    if a.dtype == bool:
        common, either = ((a & b).sum(axis=(-2, -1)), (a | b).sum(axis=(-2, -1)))
        present = a.any(axis=(-2, -1)) & b.any(axis=(-2, -1))
    else:
        a, b = _boxes("a", a), _boxes("b", b)
        with np.errstate(invalid="ignore"):
            sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
            common = np.maximum(sides, 0).prod(axis=-1)
            either = (a[..., 2:] - a[..., :2]).prod(axis=-1) - common
            either = either + (b[..., 2:] - b[..., :2]).prod(axis=-1)
        present = ~np.isnan(either)
    return where_present(common / np.where(present, either, 1), present)


def _check_pairs(a: np.ndarray, b: np.ndarray) -> None:
    """Raises ArgumentError unless both are boxes or both masks, one for one or one for all."""
    if (a.dtype == bool) != (b.dtype == bool):
        raise ArgumentError(
            "b",
            "be boxes where `a` is; they must both be boxes or both be masks",
            f"{a.dtype} of shape {a.shape} and {b.dtype} of shape {b.shape}",
            "a boolean mask, for example mask > 0",
        )
    axes = 2 if a.dtype == bool else 1
    try:
        shape = np.broadcast_shapes(a.shape[:-axes], b.shape[:-axes])
    except ValueError:
        shape = None
    if shape is None or min(a.ndim, b.ndim) < axes or a.shape[-axes:] != b.shape[-axes:]:
        raise ArgumentError("b", "fit `a`, one for one or one for all", f"shapes {a.shape} and {b.shape}")


def _largest_part(above: np.ndarray) -> np.ndarray:
    """Returns the largest connected part of a mask, bool (H, W)."""
    from scipy.ndimage import label

    parts, _ = label(above, structure=np.ones((3, 3)))
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    return parts == sizes.argmax()


def _boxes(name: str, boxes: np.ndarray) -> np.ndarray:
    """Returns boxes as float64, checked; missing boxes are NaN throughout."""
    if boxes.dtype.kind not in "fiu" or boxes.shape[-1] != 4:
        raise ArgumentError(name, _BOXES_OR_MASKS, f"{boxes.dtype} of shape {boxes.shape}", "mask > 0")
    boxes = boxes.astype(np.float64)
    present = ~np.isnan(boxes).any(axis=-1)
    if not (boxes[present, :2] < boxes[present, 2:]).all():
        reversed_boxes = boxes[present & ~(boxes[..., :2] < boxes[..., 2:]).all(axis=-1)]
        raise ArgumentError(name, "be boxes (x0, y0, x1, y1) with x0 < x1 and y0 < y1", str(reversed_boxes[0].tolist()))
    return np.where(present[..., None], boxes, np.nan)
