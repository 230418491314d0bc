"""Layers of neutral graphs, of operations on NumPy arrays: what the backends' layers are translated to."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from graph_builder import GraphBuilder

from keras_gradcam.engine.boxes import Window
from keras_gradcam.engine.graphs.graph import (
    ALONG,
    CONTRACTION,
    MOVE,
    REDUCE,
    RESHAPE,
    RESIZE,
    TRANSPOSED_WINDOW,
    WINDOW,
    Value,
)

Windows = Mapping[int, Window]


def loud(*shape: int) -> np.ndarray:
    """Weights under which nothing cancels."""
    return np.random.default_rng(0).uniform(0.5, 1.5, shape)


# -------------------------------------------------------------------------------------------------------- computations


def taps(x: np.ndarray, windows: Windows, padding: float = 0.0) -> Iterator[tuple[tuple[int, ...], np.ndarray]]:
    """The cells under each position of a window."""
    widths = [(0, 0)] * x.ndim
    for axis, window in windows.items():
        widths[axis] = (window.before, window.after)
    padded = np.pad(x, widths, constant_values=padding)
    for tap in itertools.product(*(range(window.size) for window in windows.values())):
        index = [slice(None)] * x.ndim
        for place, (axis, window) in zip(tap, windows.items(), strict=True):
            start = place * window.dilation
            last = padded.shape[axis] - (window.size - 1 - place) * window.dilation
            index[axis] = slice(start, last, window.stride)
        yield tap, padded[tuple(index)]


def convolved(x: np.ndarray, kernel: np.ndarray, windows: Windows, channels: int, groups: int = 1) -> np.ndarray:
    """A convolution; the kernel is (*sizes, channels of a group, channels of the result)."""
    parts = []
    for part, own in zip(np.split(x, groups, channels), np.split(kernel, groups, -1), strict=True):
        cells = [np.moveaxis(np.tensordot(c, own[tap], (channels, 0)), -1, channels) for tap, c in taps(part, windows)]
        parts.append(np.sum(cells, axis=0))
    return np.concatenate(parts, channels)


def scattered(x: np.ndarray, kernel: np.ndarray, windows: Windows, channels: int, shape: Sequence[int]) -> np.ndarray:
    """A transposed convolution to a result of this shape, by adding every cell times the kernel to its window."""
    room = list(shape)
    for axis, window in windows.items():
        room[axis] = shape[axis] + window.before + x.shape[axis] * window.stride + window.size * window.dilation
    result = np.zeros(room)
    for tap in itertools.product(*(range(window.size) for window in windows.values())):
        index = [slice(None)] * x.ndim
        for place, (axis, window) in zip(tap, windows.items(), strict=True):
            start = place * window.dilation
            index[axis] = slice(start, start + (x.shape[axis] - 1) * window.stride + 1, window.stride)
        result[tuple(index)] += np.moveaxis(np.tensordot(x, kernel[tap], (channels, 0)), -1, channels)
    cut = [slice(None)] * x.ndim
    for axis, window in windows.items():
        cut[axis] = slice(window.before, window.before + shape[axis])
    return result[tuple(cut)]


def linear_weights(count: int, extent: int) -> np.ndarray:
    """The weights of linear resizing between the middles of cells."""
    position = np.clip((np.arange(count) + 0.5) * extent / count - 0.5, 0, extent - 1)
    return np.maximum(1 - np.abs(position[:, None] - np.arange(extent)), 0)


# -------------------------------------------------------------------------------------------------------------- layers


class Layers(GraphBuilder):
    """Adds layers to a graph."""

    def conv(
        self, x: Value, channels: int, windows: Windows | int, groups: int = 1, channel_axis: int = -1, name: str = ""
    ) -> Value:
        """A convolution; a number for the windows is the size of one with padding "same" along all spatial axes."""
        axis, windows = self._windows(x, windows, channel_axis)
        kernel = loud(*(w.size for w in windows.values()), x.shape[axis] // groups, channels)
        return self.add(
            "convolution",
            WINDOW,
            x,
            self.constant(kernel),
            run=lambda x, kernel: convolved(x, kernel, windows, axis, groups),
            name=name,
            windows=windows,
            channels=axis,
            groups=groups,
        )

    def pool(self, x: Value, windows: Windows | int, function: str = "max", channel_axis: int = -1) -> Value:
        """A pooling; a number for the windows is the size and the stride along all spatial axes."""
        if isinstance(windows, int):
            windows = {a: Window(windows, windows) for a in range(1, len(x.shape)) if a != channel_axis % len(x.shape)}
        axis, windows = self._windows(x, windows, channel_axis)
        lowest = -1e30 if function == "max" else 0.0

        def run(x):
            return getattr(np, function)([cells for _, cells in taps(x, windows, lowest)], axis=0)

        return self.add(function, WINDOW, x, run=run, windows=windows, channels=axis, groups=0)

    def back(
        self, x: Value, channels: int, windows: Windows, extents: Mapping[int, int], channel_axis: int = -1
    ) -> Value:
        """A transposed convolution to some extents."""
        axis, windows = self._windows(x, windows, channel_axis)
        shape = [channels if a == axis else extents.get(a, extent) for a, extent in enumerate(x.shape)]
        kernel = loud(*(w.size for w in windows.values()), x.shape[axis], channels)
        return self.add(
            "convolution_transpose",
            TRANSPOSED_WINDOW,
            x,
            self.constant(kernel),
            run=lambda x, kernel: scattered(x, kernel, windows, axis, shape),
            windows=windows,
            channels=axis,
            groups=1,
        )

    def _windows(self, x: Value, windows: Windows | int, channel_axis: int) -> tuple[int, Windows]:
        rank = len(x.shape)
        axis = channel_axis % rank
        if isinstance(windows, int):
            size = windows
            windows = {a: Window.same(size, 1, 1, x.shape[a]) for a in range(1, rank) if a != axis}
        return axis, windows

    def move(self, function: str, *inputs: Value, run, moved: Sequence[int] = (0,), name: str = "") -> Value:
        """Moves elements."""
        return self.add(function, MOVE, *inputs, run=run, moved=tuple(moved), name=name)

    def transpose(self, x: Value, *order: int) -> Value:
        """Puts the axes into another order."""
        return self.move("transpose", x, run=lambda x: x.transpose(order))

    def pad(self, x: Value, *widths: tuple[int, int], mode: str = "constant") -> Value:
        """Pads all axes."""
        return self.move("pad", x, run=lambda x: np.pad(x, widths, mode))

    def index(self, x: Value, *index) -> Value:
        """Takes a part of a tensor."""
        return self.move("slice", x, run=lambda x: x[index])

    def concatenate(self, *inputs: Value, axis: int = -1) -> Value:
        """Joins tensors along an axis."""
        return self.move(
            "concatenate", *inputs, run=lambda *arrays: np.concatenate(arrays, axis), moved=range(len(inputs))
        )

    def reshape(self, x: Value, *shape: int) -> Value:
        """The same elements in another shape."""
        return self.add("reshape", RESHAPE, x, run=lambda x: x.reshape(shape))

    def reduce(self, x: Value, *axes: int, function: str = "mean", keepdims: bool = False) -> Value:
        """One result for all elements along some axes."""
        return self.add(
            function,
            REDUCE,
            x,
            run=lambda x: getattr(np, function)(x, axis=axes, keepdims=keepdims),
            axes=axes,
            keepdims=keepdims,
        )

    def along(self, x: Value, *axes: int, function: str = "softmax") -> Value:
        """A softmax, or another function, along some axes."""

        def softmax(x):
            powers = np.exp(x - x.max(axes, keepdims=True))
            return powers / powers.sum(axes, keepdims=True)

        run = softmax if function == "softmax" else lambda x: getattr(np, function)(x, axis=axes[0])
        return self.add(function, ALONG, x, run=run, axes=axes)

    def contract(self, equation: str, *inputs: Value | np.ndarray) -> Value:
        """A sum of products, of values and of arrays as weights."""
        factors = [x if isinstance(x, Value) else self.constant(x) for x in inputs]
        labels = (*equation.partition("->")[0].split(","), equation.partition("->")[2])
        return self.add(
            "einsum", CONTRACTION, *factors, run=lambda *arrays: np.einsum(equation, *arrays), labels=labels
        )

    def resize(self, x: Value, weights: Mapping[int, np.ndarray]) -> Value:
        """A resized map."""

        def run(x):
            for axis, matrix in weights.items():
                x = np.moveaxis(np.tensordot(matrix, x, (1, axis)), 0, axis)
            return x

        return self.add("resize", RESIZE, x, run=run, weights=dict(weights))

    def repeat(self, x: Value, factor: int) -> Value:
        """A map enlarged by repeating its cells along both spatial axes."""
        return self.move("repeat", x, run=lambda x: x.repeat(factor, 1).repeat(factor, 2))
