"""Where the cells of a map lie on the input: spatial size, the grid of tokens, upsampling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Union

import numpy as np

#: A shape without or with the batch; None where an extent is not fixed.
Shape = Sequence[Union[int, None]]


def spatial_size(input_shape: Shape, output_shape: Shape) -> tuple[int | None, ...] | None:
    """Returns the spatial size of the input over which a layer's output is a map, or None if it is no map.

    Args:
        input_shape: Shape of the input without the batch, ``(*size, channels)``, or ``size`` for an input without a
            channel axis (grey pictures (28, 28), sequences of word numbers (100,)).
        output_shape: Shape of a layer's output with the batch.

    Example:
        >>> spatial_size((224, 224, 3), (None, 7, 7, 512)), spatial_size((28, 28), (None, 26, 26, 8))
        ((224, 224), (28, 28))
        >>> spatial_size((224, 224, 3), (None, 1, 1, 512)) is None
        True
    """
    axes = len(output_shape) - 2
    if axes >= 1 and axes in (len(input_shape) - 1, len(input_shape)):
        return tuple(input_shape[:axes]) if any(extent != 1 for extent in output_shape[1:-1]) else None
    return tuple(input_shape[:-1]) if token_grid(output_shape, input_shape[:-1]) else None


def token_grid(shape: Shape, size: Shape) -> tuple[int, int] | None:
    """Returns the grid that the tokens of a vision transformer form, or None if they form none.

    Tokens before the grid (a class token, register tokens) are allowed, up to eight; the grid has the input's
    proportions.

    Args:
        shape: Output shape of a layer, ``(batch, tokens, channels)``.
        size: Spatial size of the input, ``(H, W)``.

    Example:
        >>> token_grid((None, 197, 768), (224, 224))
        (14, 14)
        >>> token_grid((None, 130, 64), (256, 128))
        (16, 8)
    """
    if len(shape) != 3 or len(size) != 2:
        return None
    tokens, height, width = shape[1], size[0], size[1]
    if tokens is None or height is None or width is None:
        return None
    for patches in range(tokens, max(tokens - 9, 0), -1):
        for rows in range(2, patches // 2 + 1):
            columns, rest = divmod(patches, rows)
            if rest == 0 and rows * width == columns * height:
                return rows, columns
    return None


def upsample(maps: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Resizes maps linearly along each spatial axis (bilinearly for pictures), with half-pixel centres.

    Cell i of a map of n cells has its centre at (i + 1/2) / n of the axis; beyond the outermost centres values are
    constant.

    Args:
        maps: ``(N, *space)``.
        size: The new extent of each spatial axis.

    Returns:
        ``(N, *size)`` in the dtype of ``maps``, never outside the range of its values.

    Example:
        >>> import numpy as np
        >>> upsample(np.array([[0.0, 4.0]]), (4,))
        array([[0., 1., 3., 4.]])
    """
    for axis, length in enumerate(size, start=1):
        matrix = _linear_interpolation(maps.shape[axis], int(length)).astype(maps.dtype)
        maps = np.moveaxis(np.tensordot(maps, matrix, axes=([axis], [1])), -1, axis)
    return np.ascontiguousarray(maps)


def _linear_interpolation(old: int, new: int) -> np.ndarray:
    """Returns the (new, old) matrix whose rows are the weights of old cells in new ones."""
    position = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
    below = np.floor(position).astype(int)
    above = np.minimum(below + 1, old - 1)
    matrix = np.zeros((new, old))
    np.add.at(matrix, (np.arange(new), below), 1 - (position - below))
    np.add.at(matrix, (np.arange(new), above), position - below)
    return matrix
