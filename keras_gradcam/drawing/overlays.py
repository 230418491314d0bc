"""Lays maps on pictures, so that a map can be told from any picture below it, and by any eye."""

from __future__ import annotations

import functools

import numpy as np

from ..grids import Spans, upsample
from .colormaps import color_table
from .pixels import Style

#: The opacity of a map where it is strongest.
_OPACITY = 0.75

#: The picture is grey where a map's opacity is at least the inverse of this.
_GREYING = 4.0

# Luminance of red, green and blue (ITU-R BT.601).
_LUMINANCE = (0.299, 0.587, 0.114)

# The contour encloses what is at least this share of the map's maximum; a little less than a half, so that rounding
# does not move it where values are equal.
_CONTOUR = 0.4999

#: The longer side of a picture per pixel of the contour's width.
_PER_LINE = 512

#: A map whose maximum is a smaller share of its scale is called faint.
_FAINT = 0.25


def overlay(
    picture: np.ndarray,
    gradcam: np.ndarray,
    vmax: float | None = None,
    style: Style | None = None,
    spans: Spans = None,
) -> np.ndarray:
    """Lays a Grad-CAM map on a picture, and encloses what is above half of the map's maximum with a line.

    With the share ``s`` of ``vmax`` in steps of 1/255, the opacity ``a = 0.75 s`` and ``g = min(1, 4 a)``, a pixel is
    ``(1 - a) ((1 - g) picture + g grey) + a colour(s)``: where the map is zero the picture keeps its colours, and where
    the map shows, all colour comes from the map. The line is white inside and black outside. It follows the map's own
    maximum, so that the place of a faint map is seen too.

    Args:
        picture: uint8 (H, W, 3).
        gradcam: (h, w) raw map on any grid.
        vmax: The value drawn with the strongest colour; by default the map's own maximum.
        style: Colormap.
        spans: From where to where the map lies along height and width, as shares of them; by default over all.

    Returns:
        uint8 (H, W, 3).

    Example:
        >>> import numpy as np
        >>> grey = np.full((2, 2, 3), 100, np.uint8)
        >>> bool((overlay(grey, np.zeros((1, 1))) == grey).all())
        True
    """
    vmax = float(np.nanmax(gradcam, initial=0)) if vmax is None else vmax
    share = upsample(np.nan_to_num(gradcam.astype(np.float64))[None], picture.shape[:2], spans)[0]
    share /= vmax if vmax > 0 else 1.0
    np.clip(share, 0, 1, out=share)
    kept, greyed, tinted = _blending((style or Style()).colormap)
    index = np.rint(share * 255).astype(np.uint8)
    # Channels first: NumPy is several times as fast where its innermost axis is long.
    planes = np.moveaxis(picture, -1, 0).astype(np.float32, order="C")
    red, green, blue = (weight * plane for weight, plane in zip(_LUMINANCE, planes, strict=True))
    grey = (red + green + blue) * np.take(greyed, index)
    planes *= np.take(kept, index)
    planes += grey
    for plane, tint in zip(planes, tinted, strict=True):
        plane += np.take(tint, index)
    drawn = np.rint(planes, out=planes).astype(np.uint8)
    _enclose(drawn, share)
    return np.stack(list(drawn), axis=-1)


@functools.lru_cache(maxsize=16)
def _blending(colormap: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns, for 256 shares, the weights of the picture and of its grey, and the map's own part of a pixel."""
    opacity = _OPACITY * np.arange(256) / 255
    grey = np.minimum(1, _GREYING * opacity)
    weights = ((1 - opacity) * (1 - grey), (1 - opacity) * grey, opacity * color_table(colormap).T)
    kept, greyed, tinted = (weight.astype(np.float32) for weight in weights)
    return kept, greyed, tinted


def _enclose(planes: np.ndarray, share: np.ndarray) -> None:
    """Draws a line around what is at least half of the maximum on a picture, uint8 (3, H, W)."""
    top = float(share.max(initial=0))
    if top == 0:
        return
    inside = share >= _CONTOUR * top
    width = max(1, round(max(share.shape) / _PER_LINE))
    # Masks as numbers: NumPy multiplies faster than it selects.
    planes *= ~(_grown(inside, width) & ~inside)
    planes |= np.where(_grown(~inside, width) & inside, np.uint8(255), np.uint8(0))


def _grown(mask: np.ndarray, steps: int) -> np.ndarray:
    """Returns a mask with all pixels that are at most so many steps to the side, up or down away from it."""
    for _ in range(steps):
        larger = mask.copy()
        larger[1:] |= mask[:-1]
        larger[:-1] |= mask[1:]
        larger[:, 1:] |= mask[:, :-1]
        larger[:, :-1] |= mask[:, 1:]
        mask = larger
    return mask


def remark(gradcam: np.ndarray, vmax: float) -> str:
    """Says what the colours of a map cannot show: that it is zero, faint or not finite; "" for any other map.

    Args:
        gradcam: (h, w) raw map.
        vmax: The value drawn with the strongest colour.

    Example:
        >>> import numpy as np
        >>> remark(np.array([[0.0, 0.1]]), 1.0)
        'peak 10 % of scale'
    """
    if not np.isfinite(gradcam).all():
        return "map is not finite"
    if not gradcam.any():
        return "map is zero"
    share = float(gradcam.max()) / vmax if vmax > 0 else 0.0
    if not 0 < share < _FAINT:
        return ""
    return f"peak {100 * share:.0f} % of scale" if share >= 0.01 else "peak below 1 % of scale"
