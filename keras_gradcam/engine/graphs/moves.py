"""Where operations move elements to, found by letting them move the elements' numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..boxes import Line, Reach, compacted, joined_lines, kept
from .graph import Operation

# Extents of an array by which the axes of a transposed one are told apart.
_PROBE = (2, 3, 5, 4, 6, 7, 8, 9)

# Whole numbers up to this one are exact in single precision.
_EXACT_IN_SINGLE = 2**24


def permutation(operation: Operation) -> tuple[int, ...] | None:
    """Returns the order of the axes that an operation transposes, or None if that is not all it does."""
    if operation.function != "transpose" or operation.run is None or len(operation.inputs) != 1:
        return None
    shape = operation.inputs[0].shape
    extents = _PROBE[: len(shape)]
    (result,) = operation.run([np.zeros(extents)])
    if sorted(result.shape) != sorted(extents):
        return None
    order = tuple(extents.index(extent) for extent in result.shape)
    return order if tuple(shape[axis] for axis in order) == tuple(operation.outputs[0].shape) else None


def joined_axis(operation: Operation) -> int | None:
    """Returns the axis along which an operation joins all its inputs, or None if it does something else."""
    shape = tuple(operation.outputs[0].shape)
    shapes = [tuple(value.shape) for value in operation.inputs]
    if operation.function != "concatenate" or len(operation.parameters["moved"]) < len(shapes):
        return None
    for axis in range(len(shape)):
        others = {(*extents[:axis], *extents[axis + 1 :]) for extents in shapes if len(extents) == len(shape)}
        joined = sum(extents[axis] for extents in shapes if len(extents) == len(shape))
        if others == {(*shape[:axis], *shape[axis + 1 :])} and joined == shape[axis]:
            return axis
    return None


def moved_numbers(operation: Operation) -> list[np.ndarray] | None:
    """Returns which element an operation of the rule MOVE brings to each place of its results.

    Returns:
        For each result whole numbers: the elements of all moved inputs are counted through, from 1 on; 0 for what the
        operation adds by itself. None if it is not known where elements are moved to.
    """
    arrays: list[np.ndarray] = []
    count = 0
    for position, value in enumerate(operation.inputs):
        if position in operation.parameters["moved"]:
            size = math.prod(value.shape)
            arrays.append(np.arange(count + 1, count + size + 1, dtype=np.float64).reshape(value.shape))
            count += size
        elif value.content is not None:
            arrays.append(np.asarray(value.content()))
    if operation.run is None or len(arrays) < len(operation.inputs):
        return None
    results = [np.asarray(result) for result in operation.run(arrays)]
    if count > _EXACT_IN_SINGLE and any(result.dtype.itemsize < 8 for result in results):
        return None
    return [result.astype(np.int32) for result in results]


def sources(operation: Operation, small: Sequence[tuple[int, ...] | None]) -> list[np.ndarray] | None:
    """Returns from where an operation of the rule MOVE takes each element of its results.

    Args:
        operation: The operation.
        small: For each input the shape in which something is known of its elements, with extent 1 along axes on which
            it is the same; None where nothing is known, as of what the operation adds by itself.

    Returns:
        For each result whole numbers, with stride 0 along axes on which they are the same: the entries of all ``small``
        are counted through, from 1 on; 0 where nothing is known. None if it is not known where elements are moved to.
    """
    results = moved_numbers(operation)
    if results is None:
        return None
    entries, count = [np.zeros(1, np.int32)], 0
    for position, (value, shape) in enumerate(zip(operation.inputs, small, strict=True)):
        if position not in operation.parameters["moved"]:
            continue
        if shape is None:
            entries.append(np.zeros(math.prod(value.shape), np.int32))
            continue
        size = math.prod(shape)
        own = np.arange(count + 1, count + size + 1, dtype=np.int32).reshape(shape)
        entries.append(np.broadcast_to(own, value.shape).ravel())
        count += size
    table = np.concatenate(entries)
    return [compacted(table[result][None])[0] for result in results]


def gathered(table: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Returns the columns of a table (k, entries) that some numbers say, (k, *numbers), in as little memory as they."""
    return np.broadcast_to(table[:, kept(numbers)], (len(table), *numbers.shape))


# ----------------------------------------------------------------------------------------------------- receptive fields


def moved_reaches(operation: Operation, inputs: Sequence[Reach | None]) -> list[Reach | None] | None:
    """Handles operations that only move elements: what elements see is moved as they are."""
    moves = operation.parameters["moved"]
    if any(reach for position, reach in enumerate(inputs) if position not in moves):
        return None  # where elements are moved to depends on the picture
    inputs = [reach if reach and reach.values.size else None for reach in inputs]  # of no elements nothing is moved
    reaches = [reach for reach in inputs if reach]
    if not reaches:
        return [None] * len(operation.outputs)
    order = permutation(operation)
    if order is not None:
        return [_transposed(reaches[0], order)]
    axis = joined_axis(operation)
    if axis is not None and all(line is None or line.axis + len(reaches[0].shape) != axis for line in _lines(reaches)):
        return [_joined(operation, inputs, axis)]
    small = [None if reach is None else _small(reach) for reach in inputs]
    results = sources(operation, [None if values is None else values.shape[1:] for values in small])
    if results is None:
        return None
    columns = [values.reshape(4, -1) for values in small if values is not None]
    table = np.concatenate([np.zeros((4, 1), np.int32), *columns], axis=1)
    return [
        Reach(compacted(gathered(table, numbers)), (moved_line(reaches, numbers, 0), moved_line(reaches, numbers, 1)))
        for numbers in results
    ]


def _transposed(reach: Reach, order: tuple[int, ...]) -> Reach:
    rank = len(order)
    down, across = (
        replace(line, axis=order.index(line.axis + rank) - rank) if line and not line.held else None
        for line in reach.lines
    )
    return Reach(reach.values.transpose(0, *(axis + 1 for axis in order)), (down, across))


def _lines(reaches: Sequence[Reach]) -> list[Line | None]:
    return [line for reach in reaches for line in reach.lines]


def _joined(operation: Operation, inputs: Sequence[Reach | None], axis: int) -> Reach:
    """Handles tensors that are joined along an axis on which no line runs: the same as by numbers, but faster."""
    shape = tuple(operation.outputs[0].shape)
    reaches = [reach for reach in inputs if reach is not None]
    extents = tuple(
        1 if other != axis and all(reach.values.strides[other + 1] == 0 for reach in reaches) else extent
        for other, extent in enumerate(shape)
    )
    parts = []
    for value, reach in zip(operation.inputs, inputs, strict=True):
        if len(value.shape) == len(shape):
            own = (*extents[:axis], value.shape[axis], *extents[axis + 1 :])
            part = np.zeros((4, *value.shape), np.int32) if reach is None else reach.values
            parts.append(part[(slice(None), *(slice(0, extent) for extent in own))])
    values = np.broadcast_to(np.concatenate(parts, axis + 1), (4, *shape))
    return Reach(compacted(values), joined_lines(reaches, shape))


def _small(reach: Reach) -> np.ndarray:
    """Returns the values of a reach with one entry along axes on which nothing changes and no line runs."""
    lined = {line.axis + reach.values.ndim for line in reach.lines if line}
    return reach.values[
        tuple(
            slice(0, 1) if stride == 0 and axis not in lined else slice(None)
            for axis, stride in enumerate(reach.values.strides)
        )
    ]


def moved_line(reaches: Sequence[Reach], numbers: np.ndarray, which: int) -> Line | None:
    """Returns the line of cells that were moved, read off where they have gone.

    Args:
        reaches: The reaches of what is moved.
        numbers: From where each element was taken, see :func:`sources`, of reaches that are told apart along lines.
        which: 0 for the line down the picture, 1 for that across.
    """
    lines = [None if line is None or line.held else line for line in (reach.lines[which] for reach in reaches)]
    known = [line for line in lines if line]
    if not numbers.size or not known or any(line.stride != known[0].stride for line in known):
        return None
    cells, start, entries = [], 1, kept(numbers)
    for reach, line in zip(reaches, lines, strict=True):
        shape = _small(reach).shape[1:]
        own = entries - start
        inside = (own >= 0) & (own < math.prod(shape))
        start += math.prod(shape)
        place = np.unravel_index(np.where(inside, own, 0), shape)[line.axis] if line else 0
        cells.append(np.where(inside, place, -1))
    usual = lines.index(known[0])
    axis_before = known[0].axis + len(reaches[usual].shape)
    for axis in sorted(range(numbers.ndim), key=lambda axis: axis != axis_before):
        line = _line_along(axis, numbers.shape, cells, lines)
        if line:
            return line
    if len(reaches) == 1 and numbers.ndim == len(reaches[0].shape):
        return _line_of_one(axis_before, numbers.shape[axis_before], cells[0], known[0])
    return None


def _line_along(
    axis: int, shape: Sequence[int], cells: Sequence[np.ndarray], lines: Sequence[Line | None]
) -> Line | None:
    """Returns the line along an axis on which the cells of some lines lie, beside or behind one another; None if none.

    Args:
        axis: The axis.
        shape: The shape of the tensor.
        cells: For each line the cell of it that lies in each place, -1 where none does.
        lines: The lines; None for cells that lie on none, which may only be a border.
    """
    others = tuple(other for other in range(len(shape)) if other != axis)
    first, end, astray = np.full(shape[axis], np.inf), np.full(shape[axis], -np.inf), np.zeros(shape[axis], bool)
    for own, line in zip(cells, lines, strict=True):
        high = np.broadcast_to(own.max(axis=others), shape[axis])
        low = np.broadcast_to(np.where(own < 0, own.max(), own).min(axis=others), shape[axis])
        present = high >= 0
        if line is None:
            astray |= present
        elif (low != high)[present].any():
            return None
        else:
            begin = line.first + line.stride * high
            first = np.where(present, np.minimum(first, begin), first)
            end = np.where(present, np.maximum(end, begin + line.size), end)
    return _even(axis - len(shape), first, end, astray)


def _even(axis: int, first: np.ndarray, end: np.ndarray, astray: np.ndarray) -> Line | None:
    """Returns the line of fields of one size that follow one another evenly, or None if they do not.

    Cells at the ends may repeat others in the order back, as a reflected border does, or lie on no line.

    Args:
        axis: The axis along which the cells lie, counted from the last.
        first: The first pixel of each; infinite where a cell is padding.
        end: The pixel after the last.
        astray: Which cells lie on no line.
    """
    present = np.flatnonzero(np.isfinite(first) & ~astray)
    steps = np.diff(first[present]) / np.diff(present)
    edges = np.flatnonzero(np.diff([False, *(steps > 0), False]))
    if len(edges) != 2:
        return None
    inner = present[edges[0] : edges[1] + 1]
    step, sizes = steps[edges[0]], (end - first)[inner]
    if step % 1 or (steps[edges[0] : edges[1]] != step).any() or (sizes != sizes[0]).any():
        return None
    begins = first[present]
    if begins.min() < first[inner[0]] or begins.max() > first[inner[-1]]:  # rolled over, not repeated
        return None
    seeing = np.isfinite(first) | astray
    before, after = seeing[: inner[0]].sum(), seeing[inner[-1] + 1 :].sum()
    if max(before, after) >= len(inner) or astray[inner[0] : inner[-1]].any():
        return None
    return Line(axis, int(step), int(first[inner[0]] - step * inner[0]), int(sizes[0]))


def _line_of_one(axis: int, extent: int, cells: np.ndarray, line: Line) -> Line | None:
    """Returns the line of a single cell, which stays on its axis, with padding around it or none."""
    row = np.broadcast_to(cells.max(axis=tuple(other for other in range(cells.ndim) if other != axis)), extent)
    present = np.flatnonzero(row >= 0)
    if len(present) != 1 or len(np.unique(cells[cells >= 0])) != 1:
        return None
    return line.cut(int(row[present[0]] - present[0]))
