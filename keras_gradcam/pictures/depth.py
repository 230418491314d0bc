"""Grey pictures of more than 8 bits: which of their values are black and white."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import ArgumentError, PictureError, described

#: The values that become 0 and 255. They may be given for pictures of more than 8 bits.
Range = tuple[float, float]

# Values that stay what they are.
_RAW: Range = (0.0, 255.0)


def read_range(value_range: str | Sequence[float] | None) -> Range | None:
    """Reads two numbers, ``(LOW, HIGH)`` or as text ``"LOW,HIGH"``, or ``"raw"``; None where nothing was given.

    Raises:
        ArgumentError: If it is none of these.

    Example:
        >>> read_range("0,4095"), read_range((-1000, 3000)), read_range("raw")
        ((0.0, 4095.0), (-1000.0, 3000.0), (0.0, 255.0))
    """
    if value_range is None:
        return None
    if isinstance(value_range, str) and value_range.lower() == "raw":
        return _RAW
    parts = value_range.split(",") if isinstance(value_range, str) else value_range
    try:
        low, high = (float(part) for part in parts)
    except (TypeError, ValueError):
        low = high = float("nan")
    if not (np.isfinite([low, high]).all() and low < high):
        raise ArgumentError(
            "value_range",
            "have two numbers, LOW,HIGH, or be raw",
            described(value_range),
            ["0,4095", "-1000,3000", "raw"],
        )
    return low, high


def scaled(values: np.ndarray, wanted: Range | None) -> tuple[np.ndarray, str]:
    """Scales grey values of 16 or 32 bits so that black is 0 and white 255; nothing is rounded.

    Args:
        values: (H, W), whole numbers or floating point.
        wanted: What is black and white; by default 0 and 65535 for 16 bits, and of floating point 0 and 1, or 0 and
            255 where something is above 1.

    Returns:
        float32 (H, W), and what was done, in words.

    Raises:
        PictureError: If it is not known what is white.
    """
    low, high = float(values.min()), float(values.max())
    if wanted is None:
        wanted = _usual_range(values, low, high)
    black, white = wanted
    result = ((values.astype(np.float64) - black) * (255 / (white - black))).astype(np.float32)
    done = "taken as they are" if wanted == _RAW else f"scaled: {black:g} to 0 and {white:g} to 255"
    return result, f"values from {low:g} to {high:g} of {8 * values.dtype.itemsize} bits were {done}"


def _usual_range(values: np.ndarray, low: float, high: float) -> Range:
    most = 255 if values.dtype.kind == "f" else 65535
    if not (low >= 0 and high <= most):  # not a number is neither
        raise PictureError(
            f"has grey values from {low:g} to {high:g}, of which it is not known what is white. Candidates: "
            "`value_range` LOW,HIGH; `value_range` raw"
        )
    if values.dtype.kind == "f":
        return (0.0, 1.0) if high <= 1 else _RAW
    return _RAW if values.dtype.itemsize > 2 and high <= 255 else (0.0, 65535.0)


def stretched(values: np.ndarray) -> np.ndarray:
    """Returns grey values as a picture to look at, uint8 (H, W): stretched from the smallest to the largest."""
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    return np.rint(np.nan_to_num((values - low) / max(high - low, 1e-12)) * 255).astype(np.uint8)
