"""Colour maps: tables of 256 colours."""

from __future__ import annotations

import functools

import numpy as np

from ..errors import ArgumentError


@functools.lru_cache(maxsize=16)
def color_table(name: str) -> np.ndarray:
    """Returns the 256 colours of a matplotlib colormap, uint8 (256, 3).

    Raises:
        ArgumentError: If matplotlib has no such colormap.

    Example:
        >>> color_table("gray")[[0, 255]].tolist()
        [[0, 0, 0], [255, 255, 255]]
    """
    import matplotlib

    if name not in matplotlib.colormaps:
        raise ArgumentError(
            "colormap",
            "be one of matplotlib's",
            repr(name),
            "'inferno', 'viridis', 'magma', 'cividis', 'turbo', 'jet', ..",
        )
    table = np.rint(matplotlib.colormaps[name](np.linspace(0, 1, 256))[:, :3] * 255).astype(np.uint8)
    table.flags.writeable = False
    return table
