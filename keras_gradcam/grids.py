"""Where the cells of a map lie on the input: spatial size, the grid of tokens, placement, upsampling.

A map is enlarged over the whole input, as the Grad-CAM paper does, whatever the padding of convolutions and poolings:
of a row of n cells, cell i lies at the share (i + 1/2) / n of the axis. What the model does to the picture besides is
followed: of a model that crops, pads, flips, turns or transposes its input, the map is enlarged over the part of the
input that the model looks at, in the input's own order. A :class:`Placement` says which part that is.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
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


#: From where to where the cells of a map lie along an axis of the input, as shares of its extent.
Span = tuple[float, float]

#: Spans along all axes of a map, the first axis first; None where it lies over all of the input.
Spans = tuple[Span, ...] | None


@dataclass(frozen=True)
class Placement:
    """Where the cells of a map lie on the explained input.

    Attributes:
        axes: For each axis of the map the axis of the input, the batch not counted, along which its cells lie.
        spans: For each axis of the map where the first cell begins and the last one ends, as shares of the input's
            extent: (0, 1) for a map of the whole input, (0.25, 0.75) for one of its middle half; below 0 and above 1
            where the model pads its input; (1, 0) where the map runs against the input.

    Example:
        >>> Placement((1, 0), ((0.0, 1.0), (1.0, 0.0))).turned(np.array([[[1, 2, 3]]])).tolist()
        [[[3], [2], [1]]]
    """

    axes: tuple[int, ...]
    spans: tuple[Span, ...]

    @classmethod
    def whole(cls, axes: int) -> Placement:
        """Returns the placement of a map over the whole input, with this number of spatial axes."""
        return cls(tuple(range(axes)), ((0.0, 1.0),) * axes)

    @property
    def is_whole(self) -> bool:
        """Whether the map lies over the whole input, axis by axis in the input's order."""
        return self == Placement.whole(len(self.axes))

    def oriented(self) -> Placement:
        """Returns the placement of the map that :meth:`turned` gives: axes and cells in the order of the input."""
        order = np.argsort(self.axes)
        first, last = zip(*(sorted(self.spans[axis]) for axis in order), strict=True)
        return Placement(tuple(self.axes[axis] for axis in order), tuple(zip(first, last, strict=True)))

    def turned(self, maps: np.ndarray) -> np.ndarray:
        """Returns maps (N, *grid), or features (N, *grid, channels), with axes and cells in the order of the input."""
        backwards = tuple(axis for axis, (first, last) in enumerate(self.spans, 1) if first > last)
        order = 1 + np.argsort(self.axes)
        return np.flip(maps, backwards).transpose(0, *order, *range(1 + len(order), maps.ndim))

    def size(self, input_shape: Sequence[int]) -> tuple[int, ...]:
        """Returns the extents of the input, shape ``input_shape`` without the batch, along the axes of the map."""
        return tuple(input_shape[axis] for axis in sorted(self.axes))

    def over(self, maps: np.ndarray, rank: int) -> np.ndarray:
        """Returns maps (N, *size) with an axis of extent 1 for each other axis of an input of this rank."""
        extents = dict(zip(sorted(self.axes), maps.shape[1:], strict=True))
        return maps.reshape(len(maps), *(extents.get(axis, 1) for axis in range(rank)))

    def channels_last(self, inputs: np.ndarray) -> np.ndarray:
        """Returns inputs (N, ...), or what is shaped like them, with the axes of the map first and all others last."""
        others = [axis for axis in range(inputs.ndim - 1) if axis not in self.axes]
        return inputs.transpose(0, *(1 + axis for axis in (*sorted(self.axes), *others)))


def upsample(maps: np.ndarray, size: Sequence[int], spans: Spans = None) -> np.ndarray:
    """Resizes maps linearly along each spatial axis (bilinearly for pictures), with half-pixel centres.

    Cell i of a map of n cells has its centre at (i + 1/2) / n of its span; beyond the outermost centres values are
    constant, and outside of the span they are zero.

    Args:
        maps: ``(N, *space)``.
        size: The new extent of each spatial axis.
        spans: From where to where the map lies along each axis, as shares of it; by default over all of it.

    Returns:
        ``(N, *size)`` in the dtype of ``maps``, never outside the range of its values.

    Example:
        >>> import numpy as np
        >>> upsample(np.array([[0.0, 4.0]]), (4,))
        array([[0., 1., 3., 4.]])
        >>> upsample(np.array([[0.0, 4.0]]), (4,), ((0.5, 1.0),))
        array([[0., 0., 0., 4.]])
    """
    for axis, length in enumerate(size, start=1):
        span = (0.0, 1.0) if spans is None else spans[axis - 1]
        matrix = _linear_interpolation(maps.shape[axis], int(length), span).astype(maps.dtype, copy=False)
        maps = np.moveaxis(np.tensordot(maps, matrix, axes=([axis], [1])), -1, axis)
    return np.ascontiguousarray(maps)


def cell_edges(cells: int, extent: int, span: Span = (0.0, 1.0)) -> np.ndarray:
    """Returns where the cells of a map begin and end along an axis of a picture, in pixels.

    Args:
        cells: Number of cells.
        extent: Number of pixels.
        span: Where the cells lie along the axis.

    Returns:
        float (cells + 1,): cell i lies between edges i and i + 1.

    Example:
        >>> cell_edges(2, 8).tolist(), cell_edges(2, 8, (0.25, 0.75)).tolist()
        ([0.0, 4.0, 8.0], [2.0, 4.0, 6.0])
    """
    return np.linspace(span[0] * extent, span[1] * extent, cells + 1)


@functools.lru_cache(maxsize=64)
def _linear_interpolation(old: int, new: int, span: Span = (0.0, 1.0)) -> np.ndarray:
    """Returns the (new, old) matrix whose rows are the weights of old cells in new ones."""
    first, last = span[0] * new, span[1] * new
    inside = np.arange(new) + 0.5 - first
    position = np.clip(inside * old / (last - first) - 0.5, 0, old - 1)
    below = np.floor(position).astype(int)
    above = np.minimum(below + 1, old - 1)
    matrix = np.zeros((new, old))
    np.add.at(matrix, (np.arange(new), below), 1 - (position - below))
    np.add.at(matrix, (np.arange(new), above), position - below)
    matrix[(inside < 0) | (inside > last - first)] = 0
    matrix.setflags(write=False)  # it is kept
    return matrix
