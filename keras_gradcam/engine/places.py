"""The arithmetic of places on the input, in NumPy, for any backend.

A backend goes through the operations between input and layer and keeps the places of every tensor's elements. Places
are float64 (axes of the input, *shape of the tensor), in pixels: pixel i has the place i + 1/2. NaN says that an
element has no place: it is padding, or made of weights alone. An axis of the tensor along which places stay the same
has stride 0 and takes no memory.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..grids import Placement, Span, token_grid
from .boxes import compacted, kept

Places = np.ndarray

# How far cells may lie from a regular grid, and a map's ends from those of the input, in cells of the map.
_TOLERANCE = 0.25


@dataclass(frozen=True)
class Lost:
    """Says that it is not known where on the input the cells of a map lie.

    Attributes:
        reason: Why not, in a few words.
        layer: Path of the first layer whose output has lost them; empty if no layer's has.
    """

    reason: str
    layer: str = ""


@dataclass(frozen=True)
class Layout:
    """How the cells of a map lie in a layer's output, and where they lie on the input.

    Attributes:
        grid: Extents of the map.
        placement: Where on the input; Lost where that is not known.
        first: The first token of the map, where the output is tokens (N, tokens, channels).
    """

    grid: tuple[int, ...]
    placement: Placement | Lost
    first: int = 0


def joined(stack: Sequence[Places]) -> Places:
    """Returns the mean of several places of the same elements, along each axis of the input.

    Those that are the same for all elements (gates, statistics) say nothing where others vary.
    """
    first, *others = stack
    if all(other is first or np.array_equal(kept(other), kept(first), equal_nan=True) for other in others):
        return first
    axes = []
    for along in zip(*stack, strict=True):
        varying = [places for places in along if _varies(places)]
        axes.append(mean_of_present(np.stack(varying or along)))
    return compacted(np.stack(axes))


def _varies(places: np.ndarray) -> bool:
    present = places[~np.isnan(places)]
    return bool(present.size and present.max() > present.min())


def mean_of_present(stack: np.ndarray, axis: int | tuple[int, ...] = 0) -> np.ndarray:
    """Returns the mean of the numbers that are there, NaN where none is, without NumPy's warning."""
    present = ~np.isnan(stack)
    total = np.where(present, stack, 0).sum(axis=axis)
    count = present.sum(axis=axis)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def mean_of_channels(places: Places) -> Places:
    """Returns the places with one channel: the mean over channels, as :func:`joined` takes it."""
    if places.strides[-1] == 0 or places.shape[-1] == 1:
        return places[..., :1]
    axes = []
    for along in places:
        low, high = (extreme(along, axis=tuple(range(along.ndim - 1))) for extreme in (np.fmin.reduce, np.fmax.reduce))
        varying = high > low
        axes.append(mean_of_present(along[..., varying] if varying.any() else along, -1)[..., None])
    return compacted(np.stack(axes))


def spread(places: Places, axis: int, count: int, reach: int) -> Places:
    """Lays ``count`` cells evenly over the cells of an axis.

    Cells without a place at both ends are padding. As much of it as the windows reach belongs to them, as it does with
    the padding "same"; what is padded beyond that widens the map.
    """
    before, after = _padding(places, axis)
    margin = min(before, (reach + 1) // 2)
    margins = (margin, min(after, reach - min(margin, reach // 2)))
    cells = np.moveaxis(places, axis, 0)
    cells = cells[margins[0] : len(cells) - margins[1]]
    before, after = before - margins[0], after - margins[1]
    if len(cells) == count and not before and not after:
        return np.moveaxis(cells, 0, axis)
    position = (np.arange(count) + 0.5) * len(cells) / count - 0.5
    placed = cells[before : len(cells) - after]
    laid = interpolated(np.moveaxis(placed, 0, axis), axis, position - before)
    padding = (position < before - 0.5) | (position > len(cells) - after - 0.5)
    return np.where(padding.reshape([-1 if i == axis else 1 for i in range(places.ndim)]), np.nan, laid)


def _padding(places: Places, axis: int) -> tuple[int, int]:
    """Returns how many cells at both ends of an axis have no place."""
    present = np.flatnonzero((~np.isnan(np.moveaxis(places, axis, 0))).reshape(places.shape[axis], -1).any(axis=1))
    if not len(present):
        raise ValueError("Nothing has a place.")
    return int(present[0]), places.shape[axis] - 1 - int(present[-1])


def interpolated(places: Places, axis: int, position: np.ndarray) -> Places:
    """Returns the places at some positions along an axis, in cells, between its cells and beyond its ends."""
    cells = np.moveaxis(places, axis, 0)
    below = np.clip(np.floor(position).astype(int), 0, max(len(cells) - 2, 0))
    share = (position - below).reshape(-1, *(1,) * (cells.ndim - 1))
    above = np.minimum(below + 1, len(cells) - 1)
    # In this form places that are the same stay the same to the last digit, and so are told from those that vary.
    return np.moveaxis(cells[below] + (cells[above] - cells[below]) * share, 0, axis)


def alike_but_for_channels(arrays: Sequence[Places | None], axis: int) -> bool:
    """Returns whether tensors that are joined along their channels have the same places, the same for all channels."""
    first = arrays[0]
    if first is None or axis % (first.ndim - 1) != first.ndim - 2:
        return False
    return all(
        array is not None
        and (array.strides[-1] == 0 or array.shape[-1] == 1)
        and np.array_equal(array[..., 0], first[..., 0])
        for array in arrays
    )


def layout(grid: tuple[int, ...], places: Places | Lost | None, size: Sequence[int]) -> Layout:
    """Returns how the map of a layer lies in its output and on the input.

    Args:
        grid: The axes of the layer's output between batch and channels: those of a map, or the tokens of a picture.
        places: Those of its elements; None where it is not computed from the input.
        size: Extents of the input, the batch aside.
    """
    if isinstance(places, np.ndarray) and places.shape[1] != 1:
        places = Lost("the model lays something else than samples into the batch")
    cells = None
    if isinstance(places, np.ndarray):
        grid = places.shape[2:-1]  # an engine may not know an extent beforehand
        cells = np.broadcast_to(mean_of_channels(places)[:, 0, ..., 0], (len(places), *grid))
    if len(grid) == 1 and len(size) == 3:
        found = None if cells is None else _tokens(cells, size)
        return found or _guessed(
            grid[0], places if isinstance(places, Lost) else Lost("the tokens lie on no grid"), size
        )
    if places is None:  # the map of another input
        return Layout(grid, Placement.whole(len(grid)))
    if cells is None:
        return Layout(grid, places)  # type: ignore[arg-type]
    return Layout(grid, fitted(cells, size) or Lost("they lie on no regular grid"))


def _tokens(cells: np.ndarray, size: Sequence[int]) -> Layout | None:
    """Returns the layout of tokens (axes, tokens) that lie on a grid over two axes of the input, or None."""
    present = np.flatnonzero(~np.isnan(cells).any(axis=0))
    if not len(present):
        return None
    placed = cells[:, present[0] : present[-1] + 1]
    for rows in range(2, placed.shape[1] // 2 + 1):
        columns, rest = divmod(placed.shape[1], rows)
        placement = None if rest else fitted(placed.reshape(len(cells), rows, columns), size)
        if placement is not None:
            return Layout((rows, columns), placement, int(present[0]))
    return None


def _guessed(tokens: int, lost: Lost, size: Sequence[int]) -> Layout:
    """Returns the layout of tokens whose places were lost: the last ones, on a grid with the input's proportions."""
    grid = token_grid((None, tokens, None), size[:-1]) or (tokens,)
    return Layout(grid, lost, tokens - math.prod(grid))


def fitted(cells: np.ndarray, size: Sequence[int]) -> Placement | None:
    """Returns the placement of cells on a regular grid over the input, or None where they lie on none.

    Args:
        cells: Their places in pixels, (axes of the input, *grid).
        size: Extents of the input.
    """
    grid = cells.shape[1:]
    rows = [
        mean_of_present(cells, tuple(i for i in range(1, cells.ndim) if i != axis)) for axis in range(1, cells.ndim)
    ]
    lines = [[_line(along) for along in row] for row in rows]
    axes: dict[int, int] = {}
    for which in sorted(range(len(grid)), key=lambda which: grid[which] == 1):  # axes of one cell take what is left
        moved = np.array([abs(line.step) / extent for line, extent in zip(lines[which], size, strict=True)])
        moved[list(axes.values())] = -1
        axes[which] = int(moved.argmax())
        if grid[which] > 1 and not moved.max() > 1e-6:
            return None
    spans = []
    for which, axis in sorted(axes.items()):
        line, extent = lines[which][axis], size[axis]
        even = line.first + line.step * np.arange(grid[which])
        off = np.nanmax(np.abs(cells[axis] - even.reshape([-1 if i == which else 1 for i in range(len(grid))])))
        allowed = (_TOLERANCE + (line.repeats - 1) / 2) * abs(line.step) if grid[which] > 1 else _TOLERANCE * extent
        if not off <= allowed:
            return None
        spans.append(_span(line, grid[which], extent))
    return Placement(tuple(axes[which] for which in range(len(grid))), tuple(spans))


@dataclass(frozen=True)
class _Line:
    """Evenly spaced places: cell i lies at ``first + step * i``.

    Attributes:
        first: The place of cell 0.
        step: From one cell to the next.
        repeats: How many cells have the same place, as after enlarging a map by whole factors.
    """

    first: float
    step: float
    repeats: int


def _line(row: np.ndarray) -> _Line:
    """Returns the line on which the places (n,) of a row of cells lie that have one; it ends where they end."""
    present = np.flatnonzero(~np.isnan(row))
    if not len(present):
        return _Line(math.nan, 0.0, 1)
    places = row[present]
    repeats = 1
    for same in np.split(np.diff(places), np.flatnonzero(np.abs(np.diff(places)) > 1e-6)):
        repeats = max(repeats, int((np.abs(same) <= 1e-6).sum()) + 1)
    step = (places[-1] - places[0]) / max(len(places) - repeats, 1)
    return _Line(float(places[0] - step * (present[0] + (repeats - 1) / 2)), float(step), repeats)


def _span(line: _Line, cells: int, extent: int) -> Span:
    """Returns from where to where cells lie along an axis, as shares of it; ends close to those of the input are those.

    A single cell, of which the extent is not known, lies over as much as has it in its middle.
    """
    step = line.step if cells > 1 else 2 * min(line.first, extent - line.first)
    ends = [line.first - step / 2, line.first + step * (cells - 0.5)]
    first, last = (
        next(
            (float(edge) for edge in (0, 1) if abs(end - edge * extent) <= _TOLERANCE * abs(step)), float(end / extent)
        )
        for end in ends
    )
    return first, last
