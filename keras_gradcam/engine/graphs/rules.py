"""The receptive fields of what operations compute: a function for each rule of a graph.

It takes the :class:`Reach` of an operation's inputs and returns that of its result. "Element A sees B" means that A is
computed from B.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..boxes import (
    NO_LINES,
    Line,
    Lines,
    Reach,
    Window,
    compacted,
    kept,
    mixed,
    scattered,
    summed,
    united,
    windowed,
)
from .graph import Operation

# Weights of a resized picture below this are rounding.
_NO_WEIGHT = 1e-6


# ------------------------------------------------------------------------------------------- convolutions and poolings


def _by_group(values: np.ndarray, axis: int, groups: int) -> np.ndarray:
    """Returns what each group of channels sees; one entry where all see the same.

    Args:
        values: (4, *shape).
        axis: Which of its axes is that of the channels.
        groups: Number of groups; 0 where each channel is one.
    """
    channels = np.moveaxis(values, axis, -1)
    if channels.strides[-1] == 0:
        channels = channels[..., :1]
    elif groups == 1:
        channels = channels.max(axis=-1, keepdims=True)
    elif groups:
        channels = channels.reshape(*channels.shape[:-1], groups, -1).max(axis=-1)
    return np.moveaxis(channels, -1, axis)


def _to_channels(values: np.ndarray, axis: int, shape: Sequence[int]) -> np.ndarray:
    """Returns what the channels of a result of this shape see, from what their groups do."""
    groups = values.shape[axis]
    if groups > 1:
        values = values.repeat(shape[axis - 1] // groups, axis=axis)
    return compacted(np.broadcast_to(values, (4, *shape)))


def _cropped(values: np.ndarray, axis: int, window: Window) -> tuple[np.ndarray, Window]:
    """Returns the cells and the window without padding that takes cells away instead of adding some."""
    before, after = max(-window.before, 0), max(-window.after, 0)
    cells = np.moveaxis(values, axis, 0)
    cells = cells[before : len(cells) - after]
    return np.moveaxis(cells, 0, axis), replace(window, before=max(window.before, 0), after=max(window.after, 0))


def windowed_reach(operation: Operation, reach: Reach) -> Reach:
    """Handles a convolution or a pooling: a cell sees its window, of the channels of its group."""
    shape, rank = operation.outputs[0].shape, len(reach.shape)
    windows, channels = operation.parameters["windows"], operation.parameters["channels"]
    values = _by_group(reach.values, channels + 1, operation.parameters["groups"])
    for axis, window in windows.items():
        values, padding = _cropped(values, axis + 1, window)
        values = windowed(values, axis + 1, padding)

    def follow(line: Line | None) -> Line | None:
        if line is None or line.axis + rank == channels:
            return None
        window = windows.get(line.axis + rank)
        return line.cut(0) if window is None else line.through(window)

    return Reach(_to_channels(values, channels + 1, shape), (follow(reach.lines[0]), follow(reach.lines[1])))


def scattered_reach(operation: Operation, reach: Reach) -> Reach | None:
    """Handles a transposed convolution: each cell of the input is seen by all cells under its window."""
    shape, channels = operation.outputs[0].shape, operation.parameters["channels"]
    values = _by_group(reach.values, channels + 1, operation.parameters["groups"])
    for axis, window in operation.parameters["windows"].items():
        if window.before < 0:
            return None
        values = scattered(values, axis + 1, window, shape[axis])
    return Reach(_to_channels(values, channels + 1, shape))


def resized_reach(operation: Operation, reach: Reach) -> Reach:
    """Handles smooth resizing, which treats the axes apart."""
    weights, values = operation.parameters["weights"], reach.values
    small = tuple(
        slice(0, 1) if stride == 0 and axis - 1 not in weights else slice(None)
        for axis, stride in enumerate(values.strides)
    )
    values = values[small]
    for axis, matrix in weights.items():
        values = mixed(values, axis + 1, np.abs(np.asarray(matrix)) > _NO_WEIGHT)
    return Reach(compacted(np.broadcast_to(values, (4, *operation.outputs[0].shape))))


# --------------------------------------------------------------------------------------------------- sums and products


def reduced_reach(operation: Operation, reach: Reach) -> Reach:
    """Handles a mean, a maximum, ... along some axes."""
    rank = len(reach.shape)
    axes = {int(axis) % rank for axis in operation.parameters["axes"]}
    small = kept(reach.values).max(axis=tuple(axis + 1 for axis in axes), keepdims=True)
    kept_shape = tuple(1 if axis in axes else extent for axis, extent in enumerate(reach.shape))
    values = np.broadcast_to(small, (4, *kept_shape)).reshape(4, *operation.outputs[0].shape)

    def follow(line: Line | None) -> Line | None:
        if line is None or line.held or line.axis + rank in axes:
            return None
        gone = 0 if operation.parameters["keepdims"] else sum(axis > line.axis + rank for axis in axes)
        return replace(line, axis=line.axis + gone)

    return Reach(compacted(values), (follow(reach.lines[0]), follow(reach.lines[1])))


def along_reach(operation: Operation, reach: Reach) -> Reach:
    """Handles what is computed from everything along some axes: a softmax."""
    rank = len(reach.shape)
    axes = {int(axis) % rank for axis in operation.parameters["axes"]}
    small = kept(reach.values).max(axis=tuple(axis + 1 for axis in axes), keepdims=True)
    lines = [line if line and line.axis + rank not in axes else None for line in reach.lines]
    return Reach(np.broadcast_to(small, reach.values.shape), (lines[0], lines[1]))


def contracted_reach(operation: Operation, inputs: Sequence[Reach | None]) -> Reach | None:
    """Handles a sum of products: an element sees each factor, along the axes that are summed over."""
    *terms, result = operation.parameters["labels"]
    shape, parts, lines = operation.outputs[0].shape, [], NO_LINES
    for reach, labels in zip(inputs, terms, strict=True):
        if reach is None:
            continue
        if len(set(labels)) != len(labels):
            return None
        parts.append(Reach(summed(_materialized(reach, labels, result), labels, result)))
        lines = NO_LINES if len(parts) > 1 else _contracted_lines(reach, labels, result)
    return Reach(compacted(united(parts, shape).values), lines)


def _materialized(reach: Reach, labels: str, result: str) -> np.ndarray:
    """Returns the values of a factor with one entry along axes that are summed over and on which nothing changes."""
    values = reach.values
    small = [
        slice(0, 1) if stride == 0 and label not in result else slice(None)
        for label, stride in zip(labels, values.strides[1:], strict=True)
    ]
    return values[(slice(None), *small)]


def _contracted_lines(reach: Reach, labels: str, result: str) -> Lines:
    """Returns the lines of the one factor that depends on the picture, along axes that the result keeps."""

    def follow(line: Line | None) -> Line | None:
        if line is None:
            return None
        label = labels[line.axis]
        if label not in result:
            return None
        axis = result.index(label) - len(result)
        if line.held and (axis != line.axis or len(labels) != len(result)):
            return None
        return replace(line, axis=axis)

    return follow(reach.lines[0]), follow(reach.lines[1])


# ------------------------------------------------------------------------------------------------------------ reshapes


def reshaped_reach(operation: Operation, reach: Reach) -> Reach:
    """Handles the same elements in another shape."""
    before, after = reach.shape, tuple(operation.outputs[0].shape)

    def follow(line: Line | None) -> Line | None:
        if line is None:
            return None
        if line.held:
            kind, *rest = line.held
            return replace(line, axis=rest[1], held=()) if kind == "folded" and after[:-1] == rest[0] else None
        axis = _same_axis(before, after, line.axis + len(before))
        if axis is not None:
            return replace(line, axis=axis - len(after))
        if after == (math.prod(before[:-1]), before[-1]):
            return replace(line, axis=-2, held=("folded", before[:-1], line.axis))
        return None

    values = compacted(reach.values.reshape(4, *after))
    return Reach(values, (follow(reach.lines[0]), follow(reach.lines[1])))


def _same_axis(before: tuple[int, ...], after: tuple[int, ...], axis: int) -> int | None:
    """Returns which axis of a reshaped tensor one of the axes before has become, or None if none."""
    if after[: axis + 1] == before[: axis + 1]:
        return axis
    later = len(before) - axis
    if later <= len(after) and after[len(after) - later :] == before[axis:]:
        return len(after) - later
    candidates = [
        position
        for position, extent in enumerate(after)
        if extent == before[axis] > 1 and math.prod(after[:position]) == math.prod(before[:axis])
    ]
    return candidates[0] if candidates else None
