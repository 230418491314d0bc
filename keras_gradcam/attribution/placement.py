"""Checks by the gradient where on the input the cells of a map lie, wherever that is not plain."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np

from ..engine.base import InputSpec, LayerCall, Program
from ..engine.places import Layout, Lost
from ..errors import ArgumentError
from ..grids import Placement, Span, cell_edges

# The smallest share of what a step from cell to cell should move the gradient on the input. A network that mixes the
# whole picture into every cell keeps little of it.
_LEAST_STEP = 0.05

# Where the cells that are tried lie along an axis of the grid, in the middle of the others.
_POSITIONS = (0.1, 0.35, 0.65, 0.9)


def confirm_placements(program: Program, input_spec: InputSpec, explained: int) -> None:
    """Raises ArgumentError if the cells of a map lie nowhere on the input, or not where the program says.

    A map that lies over the whole input as it is needs no check.

    Args:
        program: The traced model.
        input_spec: What it takes.
        explained: Index of the explained input.
    """
    shape = input_spec.leaves[explained][0]
    for request, (layer, layout) in enumerate(zip(program.layers, program.layouts, strict=True)):
        if layer is None or layout is None or is_plain(layout):
            continue
        gradients_at = functools.partial(program.cell_gradients, request, _noise(input_spec))
        if not lies_there(placement_of(layout), shape, gradients_at):
            raise _nowhere(layer, layout.placement, shape)


def is_plain(layout: Layout) -> bool:
    """Returns whether it is known that a map lies over the whole input as it is."""
    return isinstance(layout.placement, Placement) and layout.placement.is_whole


def placement_of(layout: Layout) -> Placement:
    """Returns where a map lies that was confirmed: over the whole input where places were lost on the way."""
    return layout.placement if isinstance(layout.placement, Placement) else Placement.whole(len(layout.grid))


def lies_there(
    placement: Placement,
    shape: Sequence[int],
    gradients_at: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray, tuple[int, ...]]],
) -> bool:
    """Returns whether gradients of cells bear out a placement.

    A few cells are differentiated with respect to the input. Each must see the pixel that it lies on, and from one cell
    to the next the centre of what they see must move along the axis and in the direction that the placement says.

    Args:
        placement: To be checked.
        shape: That of the input, without the batch.
        gradients_at: Differentiates cells, see :meth:`keras_gradcam.engine.base.Program.cell_gradients`.
    """
    rows = np.eye(len(placement.axes)).repeat(len(_POSITIONS), axis=0)  # one for each cell, 1 along its axis
    gradients, cells, grid = gradients_at(
        np.where(rows, np.tile(_POSITIONS, len(rows) // len(_POSITIONS))[:, None], 0.5)
    )
    strength = np.abs(gradients.astype(np.float64))
    seen = strength.reshape(len(cells), -1).any(axis=1)
    if not seen.any():
        return True  # nothing can be said
    centers = np.full((len(cells), len(shape)), np.nan)
    for axis, extent in enumerate(shape):
        along = strength.sum(axis=tuple(i + 1 for i in range(len(shape)) if i != axis))
        total = np.where(seen, along.sum(axis=1), 1)
        centers[:, axis] = np.where(seen, along @ (np.arange(extent) + 0.5) / total, np.nan)
        if axis in placement.axes:
            which = placement.axes.index(axis)
            lies = _pixels(placement.spans[which], grid[which], extent)[cells[:, which]]
            if not all(_sees(row, *ends) for row, ends in zip(along[seen], lies[seen], strict=True)):
                return False
    return all(
        _moves(centers[rows[:, which] == 1], cells[rows[:, which] == 1, which], axis, placement, grid[which], shape)
        for which, axis in enumerate(placement.axes)
    )


def _pixels(span: Span, cells: int, extent: int) -> np.ndarray:
    """Returns where each cell begins and ends, (cells, 2), in pixels within the input."""
    edges = np.clip(cell_edges(cells, extent, span), 0, extent)
    return np.sort(np.stack([edges[:-1], edges[1:]], axis=1), axis=1)


def _sees(along: np.ndarray, first: float, last: float) -> bool:
    """Returns whether there is any gradient in the rows or columns of a cell, or on both sides of them."""
    present = np.flatnonzero(along)
    return last <= first or (present[0] < np.ceil(last) and present[-1] >= np.floor(first))


def _moves(
    centers: np.ndarray, positions: np.ndarray, axis: int, placement: Placement, cells: int, shape: Sequence[int]
) -> bool:
    """Returns whether what cells in a row see moves steadily along an axis of the input, and little along the others.

    Args:
        centers: (M, axes of the input), the centres of what they see, NaN where they see nothing.
        positions: int (M,), their positions along the axis of the map, ascending.
        axis: That of the input.
        placement: To be checked.
        cells: Number of cells along the axis of the map.
        shape: That of the input, without the batch.
    """
    apart = [number for number in range(len(positions)) if positions[number] not in positions[:number]]
    seen = [number for number in apart if not np.isnan(centers[number, axis])]
    if len(seen) < 2:
        return True  # nothing can be said
    first, last = placement.spans[placement.axes.index(axis)]
    step = (last - first) * shape[axis] / cells
    moved = np.diff(centers[seen], axis=0) / (step * np.diff(positions[seen]))[:, None]
    others = [np.abs(moved[:, other]) / shape[other] for other in placement.axes if other != axis]
    along = moved[:, axis] / shape[axis]
    return bool((moved[:, axis] >= _LEAST_STEP).all() and all(along.mean() > other.mean() for other in others))


def _noise(input_spec: InputSpec) -> list[np.ndarray]:
    """Returns one sample of noise for each input of a model."""
    generator = np.random.default_rng(0)
    return [
        (generator.random((1, *shape)) * (255 if dtype == "uint8" else 1)).astype(dtype)
        for shape, dtype in input_spec.leaves
    ]


def _nowhere(layer: LayerCall, placement: Placement | Lost, shape: Sequence[int]) -> ArgumentError:
    """Returns the error about a layer whose cells lie nowhere on the input."""
    reason, start = "the gradient of a cell shows another place", ""
    if isinstance(placement, Lost):
        reason, start = placement.reason, placement.layer
    ways_out = ["a layer before that"]
    if start and "/" not in start:
        ways_out.append(
            "a model of what comes after the last layer whose output is no picture of the input, explained on the "
            f"output of that layer: keras.Model(model.get_layer({start!r}).output, model.output)"
        )
    return ArgumentError(
        "layer",
        "have cells that lie on the input",
        f"{layer.path!r}, of which it is not known where on an input of shape {tuple(shape)} its cells lie ({reason})",
        ways_out,
    )
