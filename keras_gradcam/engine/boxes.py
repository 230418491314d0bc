"""The arithmetic of receptive fields, in NumPy, for any backend.

A backend goes through the operations between picture and layer and keeps a :class:`Reach` for every tensor: the pixels
that each of its elements is computed from.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Window:
    """The window of a convolution or a pooling along one axis.

    Attributes:
        size: Number of cells that the window holds.
        stride: Cells from one window to the next.
        dilation: Cells from one cell of a window to the next.
        before: Cells of padding before the first cell of the axis.
        after: Cells of padding after the last.
    """

    size: int
    stride: int = 1
    dilation: int = 1
    before: int = 0
    after: int = 0

    @classmethod
    def same(cls, size: int, stride: int, dilation: int, extent: int) -> Window:
        """Returns the window with Keras' padding "same" of an axis of this extent: the odd cell comes after."""
        missing = max((-(-extent // stride) - 1) * stride + (size - 1) * dilation + 1 - extent, 0)
        return cls(size, stride, dilation, missing // 2, missing - missing // 2)


@dataclass(frozen=True)
class Line:
    """How the receptive fields of cells follow one another along an axis, were there no border.

    Cell i along the axis sees ``size`` pixels, the first of them at ``first + stride * i``.

    Attributes:
        axis: The axis, counted from the last (-1).
        stride: Pixels from the field of one cell to that of the next.
        first: Where the field of cell 0 begins; negative where it begins in the padding.
        size: Pixels in the field.
        held: Why the cells are not in this order at the moment: ("folded", shape, axis), the axis is folded together
            with others of a tensor of this shape without its last axis, as dense layers do. Empty otherwise.
    """

    axis: int
    stride: int = 1
    first: int = 0
    size: int = 1
    held: tuple[Any, ...] = ()

    def cut(self, start: int, step: int = 1) -> Line | None:
        """Returns the line of every ``step``-th cell from cell ``start`` on; a negative start adds cells before."""
        if self.held:
            return None
        return replace(self, first=self.first + start * self.stride, stride=self.stride * step)

    def through(self, window: Window) -> Line | None:
        """Returns the line of the cells that a window computes from these, or None if they lie on none."""
        wider = (window.size - 1) * window.dilation * self.stride
        line = self.cut(-window.before, window.stride)
        return line and replace(line, size=self.size + wider)

    def joined(self, other: Line) -> Line | None:
        """Returns the line of cells that see what the cells of both lines see, or None if they lie on none."""
        if (self.axis, self.stride, self.held) != (other.axis, other.stride, other.held):
            return None
        first = min(self.first, other.first)
        return replace(self, first=first, size=max(self.first + self.size, other.first + other.size) - first)


#: The lines along the height and the width of the picture; None where there is none.
Lines = tuple["Line | None", "Line | None"]

NO_LINES: Lines = (None, None)


@dataclass(frozen=True, eq=False)
class Reach:
    """The pixels that each element of a tensor is computed from, as boxes.

    A box (top, bottom, left, right), ends exclusive, in a picture of H x W pixels is held as (H - top, bottom,
    W - left, right). In this form the box around several boxes is their maximum, and zero is the box around nothing:
    what padding adds.

    Attributes:
        values: int32 (4, *shape), where ``shape`` is that of the tensor. An axis along which nothing changes has
            stride 0 and takes no memory.
        lines: The order that the boxes follow.
    """

    values: np.ndarray
    lines: Lines = NO_LINES

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape[1:]

    def is_gate_of(self, other: Reach, shape: Sequence[int]) -> bool:
        """Returns whether this is one box for all cells of the map ``other``, when both are broadcast to ``shape``."""
        uniform = all(extent == 1 for extent in kept(self.values).shape[1:])
        missing = len(shape) - len(other.shape)
        varying = {axis + missing for axis, extent in enumerate(kept(other.values).shape[1:]) if extent > 1}
        # Where every cell sees the whole picture, nothing varies, but the cells still lie on lines.
        varying |= {line.axis + len(shape) for line in other.lines if line and shape[line.axis] > 1 and not line.held}
        own = (1,) * (len(shape) - len(self.shape)) + self.shape
        return uniform and bool(varying) and all(own[axis] == 1 != shape[axis] for axis in varying)

    def sees_all(self, size: tuple[int, int]) -> bool:
        """Returns whether every element sees the whole picture, of this height and width."""
        whole = np.array([size[0], size[0], size[1], size[1]]).reshape(4, *(1,) * len(self.shape))
        return bool((kept(self.values) == whole).all())


def pixels(shape: Sequence[int]) -> Reach:
    """Returns the reach of the picture itself, shape (1, H, W, C) or (1, H, W): every pixel sees itself."""
    height, width = shape[1:3]
    rows, columns = np.mgrid[:height, :width]
    values = np.stack([height - rows, rows + 1, width - columns, columns + 1]).astype(np.int32)
    values = values.reshape(4, 1, height, width, *(1,) * (len(shape) - 3))
    return Reach(np.broadcast_to(values, (4, *shape)), (Line(1 - len(shape)), Line(2 - len(shape))))


def kept(values: np.ndarray) -> np.ndarray:
    """Returns ``values`` with one entry along every axis on which nothing changes."""
    return values[tuple(slice(0, 1) if stride == 0 else slice(None) for stride in values.strides)]


def compacted(values: np.ndarray) -> np.ndarray:
    """Returns ``values`` with stride 0 along the axes of the tensor on which nothing changes."""
    small = kept(values)
    for axis in range(1, values.ndim):
        if small.shape[axis] > 1:
            first = small.take([0], axis)
            small = first if (small == first).all() else small
    return np.broadcast_to(small, values.shape)


def united(reaches: Sequence[Reach], shape: Sequence[int]) -> Reach:
    """Returns the reach of elements computed from the elements in the same position, broadcast to ``shape``."""
    parts = []
    for reach in reaches:
        small = kept(reach.values)
        parts.append(small.reshape(4, *(1,) * (len(shape) - len(reach.shape)), *small.shape[1:]))
    values = np.broadcast_to(functools.reduce(np.maximum, parts), (4, *shape))
    return Reach(values, joined_lines(reaches, shape))


def joined_lines(reaches: Sequence[Reach], shape: Sequence[int]) -> Lines:
    """Returns the lines of cells that see what the cells of all ``reaches`` in the same position see."""

    def along(which: int) -> Line | None:
        lines = [reach.lines[which] for reach in reaches]
        line = lines[0]
        for next_line in lines[1:]:
            line = line.joined(next_line) if line and next_line else None
        alike = line and all(reach.shape[line.axis] == shape[line.axis] for reach in reaches)
        return line if alike else None

    return along(0), along(1)


def windowed(values: np.ndarray, axis: int, window: Window) -> np.ndarray:
    """Returns what the cells of a convolution or a pooling see, of which this is one axis."""
    padding = [(0, 0)] * values.ndim
    padding[axis] = (window.before, window.after)
    padded = np.moveaxis(np.pad(values, padding), axis, 0)
    last = (window.size - 1) * window.dilation
    count = (len(padded) - last - 1) // window.stride + 1
    taps = [
        padded[start : start + (count - 1) * window.stride + 1 : window.stride]
        for start in range(0, last + 1, window.dilation)
    ]
    return np.moveaxis(functools.reduce(np.maximum, taps), 0, axis)


def scattered(values: np.ndarray, axis: int, window: Window, extent: int) -> np.ndarray:
    """Returns what the cells of a transposed convolution see, of which this is one axis.

    Args:
        values: What the cells of its input see, (4, *shape).
        axis: The axis, counted from the last (-1).
        window: The window of the convolution that leads back, from the output to the input.
        extent: Number of cells along this axis of the output.
    """
    cells = np.moveaxis(values, axis, 0)
    span = (len(cells) - 1) * window.stride + 1
    length = max(span + (window.size - 1) * window.dilation, window.before + extent)
    result = np.zeros((length, *cells.shape[1:]), values.dtype)
    for start in range(0, (window.size - 1) * window.dilation + 1, window.dilation):
        under_window = result[start : start + span : window.stride]
        np.maximum(under_window, cells, out=under_window)
    return np.moveaxis(result[window.before : window.before + extent], 0, axis)


def mixed(values: np.ndarray, axis: int, sees: np.ndarray) -> np.ndarray:
    """Returns what cells see that are computed from a choice of cells along an axis.

    Args:
        values: What the cells of the input see, (4, *shape).
        axis: The axis, counted from the last (-1).
        sees: bool (outputs, inputs), which cells of the input each cell of the output is computed from.
    """
    cells = np.moveaxis(values, axis, 0)
    return np.moveaxis(np.stack([cells[row].max(axis=0, initial=0) for row in sees]), 0, axis)


def summed(values: np.ndarray, labels: str, result: str) -> np.ndarray:
    """Returns what one factor contributes to a sum of products, in the order of the result's axes.

    Args:
        values: (4, *shape).
        labels: One letter per axis of the tensor.
        result: One letter per axis of the result; axes that the factor does not have get length 1.
    """
    gone = tuple(position + 1 for position, label in enumerate(labels) if label not in result)
    left = [label for label in labels if label in result]
    reduced = values.max(axis=gone)
    ordered = reduced.transpose(0, *(left.index(label) + 1 for label in result if label in left))
    return ordered[(slice(None), *(slice(None) if label in left else None for label in result))]


def as_boxes(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns the values of a reach into a picture of this size as boxes (x0, y0, x1, y1), int32 (*shape, 4)."""
    above, bottom, left, right = values
    boxes = np.stack([size[1] - left, size[0] - above, right, bottom], axis=-1)
    return np.where((bottom > 0)[..., None], boxes, 0).astype(np.int32)
