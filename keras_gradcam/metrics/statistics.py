"""Numbers that describe one map, and the arithmetic that all measures of maps share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..attribution.explanation import Explanation
from ..errors import ArgumentError, check_numbers, described


def focus(a: Any) -> Any:
    """Returns the smallest share of the map's area that holds half of its mass.

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
    flat = flattened(check_maps("a", a))
    cumulated = np.cumsum(-np.sort(-shares(flat), axis=-1), axis=-1)
    cells = (cumulated < 0.5 - 1e-12).sum(axis=-1) + 1
    return where_present(np.minimum(cells / flat.shape[-1], 1.0), has_mass(flat))


def center_of_mass(a: Any) -> np.ndarray:
    """Returns the centre of mass of the map: where on the average its evidence lies.

    Args:
        a: Maps >= 0, ``(..., h, w)``.

    Returns:
        float64 ``(..., 2)``: the distance from the top and from the left, as shares of the map's height and width; NaN
        where a map is zero everywhere or not finite.

    Example:
        >>> import numpy as np
        >>> center_of_mass(np.array([[0.0, 0.0], [0.0, 5.0]])).tolist()
        [0.75, 0.75]
    """
    maps = check_maps("a", a)
    weights = shares(flattened(maps)).reshape(maps.shape)
    y, x = ((np.arange(extent) + 0.5) / extent for extent in maps.shape[-2:])
    center = np.stack([(weights.sum(axis=-1) * y).sum(axis=-1), (weights.sum(axis=-2) * x).sum(axis=-1)], axis=-1)
    return np.where(has_mass(flattened(maps))[..., None], center, np.nan)


def mass(a: Any) -> Any:
    """Returns the sum of the map: how much evidence there is, in units of the explained score.

    Args:
        a: Maps, ``(..., h, w)``.

    Returns:
        Float(s); 0 for an empty map, NaN for one that is not finite.

    Example:
        >>> import numpy as np
        >>> float(mass(np.ones((2, 3))))
        6.0
    """
    flat = flattened(check_maps("a", a))
    return where_present(flat.sum(axis=-1), np.isfinite(flat).all(axis=-1))


def mean_of_present(values: Any) -> tuple[float, int]:
    """Returns the mean of the values that are there, and how many are missing (NaN); (NaN, count) if all are.

    Example:
        >>> mean_of_present([1.0, float("nan"), 3.0])
        (2.0, 1)
    """
    array = check_numbers("values", values).ravel()
    present = array[~np.isnan(array)]
    return (float(present.mean()) if len(present) else math.nan), len(array) - len(present)


@dataclass(frozen=True, eq=False, repr=False)
class PerSample:
    """One number per sample; the mean leaves out missing numbers.

    Attributes:
        values: float64 (N,), NaN where the number is missing.

    Example:
        >>> import numpy as np
        >>> PerSample(np.array([1.0, np.nan, 0.0]))
        PerSample(mean 0.5 of 2, 1 missing)
    """

    values: np.ndarray

    @property
    def mean(self) -> float:
        """The mean of the numbers that are there; NaN if none is."""
        return mean_of_present(self.values)[0]

    @property
    def missing(self) -> int:
        """How many numbers are missing."""
        return mean_of_present(self.values)[1]

    def __len__(self) -> int:
        return len(self.values)

    def __repr__(self) -> str:
        return f"PerSample(mean {self.mean:.4g} of {len(self) - self.missing}, {self.missing} missing)"


def maps_of(
    maps: Explanation | np.ndarray, input_size: Sequence[int] | None = None, *, coarse: bool = False
) -> tuple[np.ndarray, tuple[int, int]]:
    """Returns the maps of some pictures, float64 (N, h, w), and the height and width of the input.

    Args:
        maps: Maps, or an explanation.
        input_size: Height and width of the input, where the maps do not have them.
        coarse: Whether to take an explanation's map on the layer's own grid rather than on the input's.

    Raises:
        ArgumentError: If they are no maps of pictures.
    """
    size = input_size
    if isinstance(maps, Explanation):
        if maps.cam is None or maps.heatmap is None:
            raise ArgumentError(
                "maps", "hold a Grad-CAM map", repr(maps), ["methods=('gradcam',)", "an array (N, H, W)"]
            )
        size = maps.heatmap.shape[1:]
        maps = maps.cam if coarse else maps.heatmap
    stack = check_numbers("maps", maps, "be real numbers of shape (N, H, W)")
    if stack.ndim != 3 or 0 in stack.shape:
        raise ArgumentError(
            "maps",
            "be real numbers of shape (N, H, W)",
            f"shape {stack.shape}",
            ["maps[None] for one map", "abs(maps).sum(axis=-1) for maps with channels"],
        )
    return stack, check_size(stack.shape[1:] if size is None else size)


def check_maps(name: str, maps: Any) -> np.ndarray:
    """Returns maps ``(..., h, w)`` as float64; raises ArgumentError for anything else."""
    array = check_numbers(name, maps, "be maps (..., h, w) of real numbers")
    if array.ndim < 2 or 0 in array.shape[-2:]:
        raise ArgumentError(name, "be maps (..., h, w)", f"shape {array.shape}")
    return array


def check_size(size: Any) -> tuple[int, int]:
    """Returns height and width of the input; raises ArgumentError for anything else."""
    array = check_numbers("input_size", size, "be height and width in pixels")
    if array.shape != (2,) or not (array >= 1).all() or (array % 1 != 0).any():
        raise ArgumentError("input_size", "be height and width in pixels", described(size), "(224, 224)")
    return int(array[0]), int(array[1])


def informative(maps: np.ndarray) -> np.ndarray:
    """Returns which maps ``(..., h, w)`` say anything, bool (...): they are finite and vary from cell to cell."""
    finite = np.isfinite(maps).all(axis=(-2, -1))
    values = np.where(finite[..., None, None], maps, 0)
    return finite & (values.max(axis=(-2, -1)) > values.min(axis=(-2, -1)))


def flattened(a: np.ndarray) -> np.ndarray:
    """Returns maps ``(..., h, w)`` as rows of cells, ``(..., h * w)``."""
    return a.reshape(*a.shape[:-2], a.shape[-2] * a.shape[-1])


def has_mass(flat: np.ndarray) -> np.ndarray:
    """Returns which rows of cells are finite and have a sum above zero."""
    finite = np.isfinite(flat).all(axis=-1)
    return finite & (np.where(finite[..., None], flat, 0).sum(axis=-1) > 0)


def shares(flat: np.ndarray) -> np.ndarray:
    """Returns rows of cells as shares of their sum; rows without a sum stay zero."""
    values = np.where(np.isfinite(flat), flat, 0)
    # Divide by the largest value first: sums of very small or very large values stay exact.
    largest = values.max(axis=-1, keepdims=True)
    values = values / np.where(largest > 0, largest, 1)
    total = values.sum(axis=-1, keepdims=True)
    return values / np.where(total > 0, total, 1)


def where_present(value: Any, present: Any) -> Any:
    """Returns ``value`` with NaN where nothing is present; a float where there is one number alone."""
    result = np.where(present, value, np.nan)
    return result if result.ndim else float(result)
