"""What is done to pixels from 0 to 255 before the model sees them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from types import ModuleType
from typing import Any

import numpy as np

from ..errors import ArgumentError, check_type


@dataclass(frozen=True)
class Preprocessing:
    """What is done to pixels before the model sees them.

    Attributes:
        name: How it is written as text.
        function: (N, H, W, C) float32 from 0 to 255 to what the model takes; may change its argument.
    """

    name: str
    function: Callable[[np.ndarray], np.ndarray]

    def __call__(self, pictures: np.ndarray) -> np.ndarray:
        """Returns the pictures as the model takes them; the argument stays as it is."""
        return np.asarray(self.function(pictures.copy()), np.float32)

    def undo(self, pictures: np.ndarray) -> np.ndarray:
        """Returns preprocessed pictures (..., C) as people see them, uint8.

        Every preprocessing scales, shifts and reorders channels, so that black and each channel's full brightness
        determine the inverse.
        """
        channels = pictures.shape[-1]
        colors = np.zeros((1, 1, channels + 1, channels), np.float32)
        colors[0, 0, 1:] = 255 * np.eye(channels)
        black, *full = self(colors)[0, 0].astype(np.float64)
        pixels = (pictures - black) @ np.linalg.inv(np.array(full) - black) * 255
        return np.rint(np.clip(pixels, 0, 255)).astype(np.uint8)


def read_preprocessing(preprocess: Any) -> Preprocessing:
    """Reads ``none``, ``SCALE,OFFSET`` or the name of a module of keras.applications; or takes a function.

    Raises:
        ArgumentError: If it is none of these.

    Example:
        >>> read_preprocessing("1/127.5,-1")(np.array([0.0, 255.0])).tolist()
        [-1.0, 1.0]
    """
    if preprocess is None or isinstance(preprocess, Preprocessing):
        return preprocess or NONE
    if callable(preprocess):
        return Preprocessing(getattr(preprocess, "__qualname__", type(preprocess).__name__), preprocess)
    requirement = "be none, SCALE,OFFSET or a module of keras.applications"
    check_type("preprocess", preprocess, str, requirement, "a function of pixels")
    if preprocess.lower() == "none":
        return NONE
    if "," in preprocess:
        scale, offset = _numbers(preprocess)
        return Preprocessing(preprocess, _Affine(scale, offset))
    by_name = modules()
    if preprocess not in by_name:
        near = difflib.get_close_matches(preprocess.lower(), by_name, 3, 0.5)
        raise ArgumentError("preprocess", requirement, repr(preprocess), near or sorted(by_name))
    return Preprocessing(preprocess, by_name[preprocess].preprocess_input)


@dataclass(frozen=True)
class _Affine:
    """Multiplies pixels and adds to them; other than a lambda it can be sent to another process."""

    scale: float
    offset: float

    def __call__(self, pictures: np.ndarray) -> np.ndarray:
        return pictures.astype(np.float64) * self.scale + self.offset


def _unchanged(pictures: np.ndarray) -> np.ndarray:
    """Returns pictures as they are."""
    return pictures


NONE = Preprocessing("none", _unchanged)


def modules() -> dict[str, Any]:
    """Returns the modules of keras.applications by name, each with its own ``preprocess_input``."""
    from keras import applications

    return {
        name: module
        for name, module in vars(applications).items()
        if isinstance(module, ModuleType) and hasattr(module, "preprocess_input") and name != "imagenet_utils"
    }


def _numbers(text: str) -> tuple[float, float]:
    try:
        scale, offset = (_number(part.strip()) for part in text.split(","))
    except (ValueError, ZeroDivisionError):
        scale = offset = float("nan")
    if not np.isfinite([scale, offset]).all():
        raise ArgumentError("preprocess", "have two numbers, SCALE,OFFSET", repr(text), ["1/255,0", "1/127.5,-1"])
    return scale, offset


def _number(text: str) -> float:
    above, _, below = text.partition("/")
    if below and re.fullmatch(r"[\d.]+", below):
        return float(Fraction(above) / Fraction(below))
    return float(text)
