"""Turns inputs and signed maps into pixels: display of inputs, style, relief, resizing, encoding.

Pictures are uint8 (H, W, 3).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import as_numpy, check_choice, check_type
from .colormaps import color_table

#: Limits of the longer side of a picture in a panel, in pixels.
_CELL_MIN, _CELL_MAX = 192, 256

#: A signed map is white or black at this percentile of its absolute value.
_PERCENTILE = 99.5


# What may be drawn for TensorBoard's Images tab.
_IMAGES = (None, "overview", "panels")


@dataclass(frozen=True)
class Style:
    """How maps are drawn.

    Attributes:
        colormap: Any of matplotlib's colormaps; perceptually uniform ones ("inferno", "viridis") show strength
            truthfully, "jet" is offered because many know it.
        scale: "run" draws each probe on one scale for the whole run, up to its largest value so far, so that strength
            can be compared across epochs; "frame" stretches every map to its own maximum.
        images: What a callback draws for TensorBoard's Images tab: "panels", a panel with all maps of each probe, an
            overview and filmstrips; "overview" leaves out the panels, which cost most of the time and of the bytes;
            None draws nothing for that tab. The Grad-CAM tab needs none of them.
        scalars: What a callback logs for TensorBoard's Scalars tab: "probes", the means and the numbers of each probe,
            or "means" alone.

    Raises:
        ArgumentError: If one of them is unknown.

    Example:
        >>> Style(colormap="viridis").scale
        'run'
    """

    colormap: str = "inferno"
    scale: str = "run"
    images: str | None = "panels"
    scalars: str = "probes"

    def __post_init__(self) -> None:
        check_choice("images", self.images, _IMAGES, "say what is drawn")
        check_choice("scalars", self.scalars, ("probes", "means"))
        check_choice("scale", self.scale, ("run", "frame"))
        check_type("colormap", self.colormap, str, "be the name of one of matplotlib's", "'inferno'")
        color_table(self.colormap)


#: The `style` argument: a style, the name of a colormap alone, or None for the default.
StyleLike = Style | str | None


def as_style(style: Any) -> Style:
    """Returns a style; of the name of a colormap, one with that colormap.

    Raises:
        ArgumentError: If it is neither.

    Example:
        >>> as_style("jet")
        Style(colormap='jet', scale='run', images='panels', scalars='probes')
    """
    if style is None or isinstance(style, str):
        return Style() if style is None else Style(colormap=style)
    check_type("style", style, Style, "be a Style, or the name of a colormap", "Style(colormap='viridis')")
    return style


def displayed(images: np.ndarray) -> np.ndarray:
    """Turns model inputs into pictures to look at.

    One rule for the whole batch, so that pictures stay comparable: integers are taken as 0 to 255; floating point
    within 0 to 1 or within -1 to 1, give or take a tenth of it (what resizing and augmentation overshoot, which is cut
    off), is read as that range, and what lies within 0 to 255 and goes beyond 2 as that; anything else (mean
    subtraction, standardisation) is stretched from the smallest to the largest value of the batch. One channel is grey,
    three are red, green, blue, a fourth is dropped, any other number is averaged to grey.

    Args:
        images: (N, H, W, C) or (N, H, W).

    Returns:
        uint8 (N, H, W, 3).

    Example:
        >>> import numpy as np
        >>> displayed(np.array([[[[-1.0], [1.0]]]]))[0, 0].tolist()
        [[0, 0, 0], [255, 255, 255]]
    """
    pictures = as_numpy(images)
    whole = np.issubdtype(pictures.dtype, np.integer)
    if pictures.ndim == 3:
        pictures = pictures[..., None]
    if pictures.shape[-1] == 4:
        pictures = pictures[..., :3]
    elif pictures.shape[-1] != 3:
        pictures = pictures.mean(axis=-1, keepdims=True)
    pictures = np.nan_to_num(pictures.astype(np.float32))
    low, high = _range(float(pictures.min(initial=0)), float(pictures.max(initial=0)), whole) or (
        float(pictures.min()),
        float(pictures.max(initial=0)),
    )
    pictures = np.clip((pictures - low) / max(high - low, 1e-12), 0, 1)
    pictures = np.rint(pictures * 255).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(pictures, (*pictures.shape[:-1], 3)))


def _range(low: float, high: float, whole: bool) -> tuple[float, float] | None:
    """Returns the range of values that pictures are given in, or None if it is none of the usual ones."""
    if whole:
        return (0.0, 255.0) if low >= 0 and high <= 255 else None
    for start, end in ((0.0, 1.0), (-1.0, 1.0)):
        slack = 0.1 * (end - start)
        if low >= start - slack and high <= end + slack:
            return start, end
    # Standardised pictures go below zero, and hardly beyond 10.
    slack = 25 if high > 10 else 0
    return (0.0, 255.0) if high > 2 and low >= -slack and high <= 255 + slack else None


def relief(gradient: np.ndarray) -> np.ndarray:
    """Draws a signed map (guided backpropagation, guided Grad-CAM): zero is mid-grey.

    The scale is symmetric and ends at the 99.5th percentile of the absolute value. Three channels keep their colours,
    others are averaged.

    Args:
        gradient: (H, W, C) or (H, W), raw.

    Returns:
        uint8 (H, W, 3).

    Example:
        >>> import numpy as np
        >>> relief(np.zeros((1, 1, 3))).tolist()
        [[[128, 128, 128]]]
    """
    values = np.nan_to_num(gradient.astype(np.float64))
    if values.ndim == 2:
        values = values[..., None]
    if values.shape[-1] != 3:
        values = values.mean(axis=-1, keepdims=True)
    strength = np.abs(values)
    # In a sparse map the percentile may be zero although the map is not.
    top = np.percentile(strength, _PERCENTILE) or strength.max() or 1.0
    grey = np.rint(128 + 127 * np.clip(values / top, -1, 1)).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(grey, (*grey.shape[:2], 3)))


def cell_size(height: int, width: int) -> tuple[int, int]:
    """Returns the size of a picture in a panel: a small one grows by a whole factor, a large one shrinks.

    Example:
        >>> cell_size(28, 28), cell_size(224, 224), cell_size(1000, 500)
        ((252, 252), (224, 224), (256, 128))
    """
    longest = max(height, width)
    if longest < _CELL_MIN:
        factor = _CELL_MAX // longest
        return height * factor, width * factor
    if longest <= _CELL_MAX:
        return height, width
    return tuple(max(1, round(side * _CELL_MAX / longest)) for side in (height, width))  # type: ignore[return-value]


def resized(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes a picture: nearest neighbour when it grows, averages when it shrinks."""
    from PIL import Image

    if picture.shape[:2] == tuple(size):
        return picture
    grows = size[0] >= picture.shape[0] and size[1] >= picture.shape[1]
    method = Image.Resampling.NEAREST if grows else Image.Resampling.BOX
    return np.asarray(Image.fromarray(picture).resize((size[1], size[0]), method))


def no_larger_than_a_cell(pictures: np.ndarray) -> np.ndarray:
    """Resizes pictures (N, H, W, 3) to the size of a panel's cell; smaller ones stay as they are."""
    size = cell_size(*pictures.shape[1:3])
    return pictures if size[0] >= pictures.shape[1] else np.stack([resized(picture, size) for picture in pictures])


def encoded(picture: np.ndarray, quality: int | None = None) -> bytes:
    """Encodes a picture as PNG, fast rather than small, or as JPEG of a quality from 1 to 100."""
    import io

    from PIL import Image

    buffer = io.BytesIO()
    if quality is None:
        Image.fromarray(picture).save(buffer, "png", compress_level=1)
    else:
        Image.fromarray(picture).save(buffer, "jpeg", quality=quality)
    return buffer.getvalue()
