"""Where on the input the cells of a layer's map lie, followed through the graph of a forward pass of one sample.

Every value between input and layer gets the place of each of its elements, in pixels of the input. Convolutions and
poolings keep the plain enlargement of a map over what they are applied to, whatever their padding; what moves elements
(crops, flips, transpositions, patches laid into channels, tokens) moves their places; what adds elements up lies at the
mean of their places. An operation for which no rule is known loses the places.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from ..base import LayerOutput
from ..boxes import Window, compacted, kept
from ..places import (
    Layout,
    Lost,
    Places,
    alike_but_for_channels,
    interpolated,
    joined,
    layout,
    mean_of_channels,
    mean_of_present,
    spread,
)
from .graph import (
    ALONG,
    CONTRACTION,
    ELEMENTWISE,
    INPUT,
    MOVE,
    REDUCE,
    RESHAPE,
    RESIZE,
    SAME,
    TRANSPOSED_WINDOW,
    WINDOW,
    Operation,
    Value,
)
from .moves import gathered, joined_axis, permutation, sources

# What puts elements in an order that depends on them.
_SORTING = {"sort", "argsort", "top_k"}


class PlaceReader:
    """Follows the places of an input's elements through a graph.

    Args:
        places: The places of the elements of the values from which to start, by the values' ids.
    """

    def __init__(self, places: dict[int, Places | Lost | None]) -> None:
        self._places = places
        #: Size of the batch, where the model takes batches of one size only; 1 otherwise.
        self.samples = next((known.shape[1] for known in places.values() if isinstance(known, np.ndarray)), 1)

    @classmethod
    def of_input(cls, value: Value, size: Sequence[int]) -> PlaceReader:
        """Returns the reader for an input of these extents, the batch aside: each element is its own place."""
        axes = np.meshgrid(np.zeros(value.shape[0]), *(np.arange(extent) + 0.5 for extent in size), indexing="ij")
        return cls({id(value): np.stack(axes[1:])})

    def places(self, value: Value) -> Places | Lost | None:
        """Returns the places of a value's elements; None if they do not depend on the input."""
        pending = [value]
        while pending:
            last = pending[-1]
            if id(last) in self._places or last.producer is None:
                self._places.setdefault(id(last), None)
                pending.pop()
                continue
            missing = [source for source in last.producer.inputs if id(source) not in self._places]
            pending.extend(missing)
            if not missing:
                self._step(last.producer)
        return self._places[id(value)]

    def _step(self, operation: Operation) -> None:
        """Notes the places of an operation's results."""
        inputs = [self._places[id(value)] for value in operation.inputs]
        results: Sequence[Places | Lost | None]
        # What is computed of shapes alone has no place.
        if all(places is None for places in inputs) or all(value.origin != INPUT for value in operation.outputs):
            results = [None] * len(operation.outputs)
        else:
            try:
                results = self._of_trimmed(operation) or _results(operation, inputs)
            except (ValueError, IndexError, TypeError):  # nothing has a place any more
                results = [_lost_at(operation)] * len(operation.outputs)
        self._places.update({id(value): places for value, places in zip(operation.outputs, results, strict=True)})

    def _of_trimmed(self, operation: Operation) -> list[Places] | None:
        """Returns the places of a transposed convolution that is trimmed; None if an operation does not do that."""
        source = _trimmed(operation)
        places = None if source is None else self._places.get(id(source.inputs[0]))
        if source is None or not isinstance(places, np.ndarray):
            return None
        return [_enlarged(source, places, operation.outputs[0].shape)]


def layout_of(
    layer_output: LayerOutput, reader: PlaceReader, size: Sequence[int], layer_outputs: Sequence[LayerOutput] = ()
) -> Layout:
    """Returns how the map of a layer lies in its output and on the input.

    Args:
        layer_output: The layer.
        reader: Where elements lie on the input.
        size: The input's extents.
        layer_outputs: What every layer returned; where places are lost, the first of them that has lost them is named.
    """
    found = _layout(layer_output, reader, size)
    if not isinstance(found.placement, Lost):
        return found
    lost = (
        output.info.path
        for output in layer_outputs
        if len(output.output.shape) > 2 and isinstance(_layout(output, reader, size).placement, Lost)
    )
    return replace(found, placement=replace(found.placement, layer=next(lost, "")))


def _layout(layer_output: LayerOutput, reader: PlaceReader, size: Sequence[int]) -> Layout:
    value = layer_output.output
    places = reader.places(value)
    if isinstance(places, np.ndarray) and places.shape[1] == reader.samples > 1:
        alike = np.array_equal(np.broadcast_to(places[:, :1], places.shape), places, equal_nan=True)
        places = places[:, :1] if alike else places
    return layout(tuple(value.shape[1:-1]), places, size)


def _lost_at(operation: Operation) -> Lost:
    return Lost(f"they are computed by the operation {operation.name}")


def _results(operation: Operation, inputs: list[Places | Lost | None]) -> Sequence[Places | Lost | None]:
    """Returns the places of the results of an operation, from those of its inputs."""
    count = len(operation.outputs)
    present = [places for places in inputs if isinstance(places, np.ndarray)]
    if operation.rule == ELEMENTWISE and present:
        return _alike(operation, joined([_aligned(places, operation.outputs[0].shape) for places in present]))
    if operation.rule == SAME:
        return inputs
    lost = [places for places in inputs if isinstance(places, Lost)]
    if lost:
        return [lost[0]] * count
    if operation.rule == MOVE:
        return _moved(operation, inputs)
    if operation.rule == CONTRACTION:
        return _alike(operation, _contracted(operation, inputs))
    handler = _HANDLERS.get(operation.rule)
    if handler is None or len(present) > 1 or inputs[0] is None:  # a kernel that depends on the picture
        return [_lost_at(operation)] * count
    return _alike(operation, handler(operation, present[0]))


def _alike(operation: Operation, places: Places) -> list[Places | None]:
    """Returns the places of the first result for all of its shape; other results are indices or statistics."""
    shape = operation.outputs[0].shape
    return [places if value.shape == shape else None for value in operation.outputs]


def _aligned(places: Places, shape: Sequence[int]) -> Places:
    """Returns places broadcast to a shape."""
    missing = len(shape) - places.ndim + 1
    return np.broadcast_to(places[(slice(None), *(None,) * missing)], (len(places), *shape))


# --------------------------------------------------------------------------------------------- what is computed of one


def _windowed(operation: Operation, places: Places) -> Places:
    """Handles convolutions and poolings."""
    return _enlarged(operation, places, operation.outputs[0].shape)


def _enlarged(operation: Operation, places: Places, shape: Sequence[int]) -> Places:
    """Returns the places of a map over what a window is applied to, enlarged plainly.

    A window that reaches into padding made before uses it up, less what the operation pads itself.
    """
    windows, channels = operation.parameters["windows"], operation.parameters["channels"]
    places = np.moveaxis(mean_of_channels(np.moveaxis(places, channels + 1, -1)), -1, channels + 1)
    for axis, window in windows.items():
        reach = 0 if operation.rule == TRANSPOSED_WINDOW else _reach(window)
        places = spread(places, axis + 1, shape[axis], reach)
    return np.broadcast_to(places, (len(places), *shape))


def _reach(window: Window) -> int:
    """Returns how many cells of what was there before a window takes up beyond the one of its result.

    What an operation with a stride pads itself may lie anywhere in its reach: all of that counts as its own.
    """
    if window.stride > 1 and (window.before or window.after):
        return 0
    return max((window.size - 1) * window.dilation - window.before - window.after, 0)


def _trimmed(operation: Operation) -> Operation | None:
    """Returns the transposed convolution, channels first, to whose extents the steps up to an operation trim a map.

    PyTorch's windows lie the same distance from both ends; Keras has it compute too much and trims that.
    """
    source: Operation | None = operation
    while source is not None and source.rule == MOVE and source.function in ("slice", "pad"):
        source = source.inputs[0].producer
    shape = operation.outputs[0].shape
    if source is None or source is operation or source.rule != TRANSPOSED_WINDOW or source.parameters["channels"] != 1:
        return None
    windows, full = source.parameters["windows"], source.outputs[0].shape
    spare = {axis: max((window.size - 1) * window.dilation, window.stride - 1) for axis, window in windows.items()}
    trims = len(shape) == len(full) and 1 not in windows
    trims = trims and all(abs(full[axis] - extent) <= spare.get(axis, 0) for axis, extent in enumerate(shape))
    return source if trims else None


def _resized(operation: Operation, places: Places) -> Places:
    """Handles resizing: a map over the one that is resized, enlarged plainly, unless the weights say something else."""
    weights = {axis: np.asarray(matrix) for axis, matrix in operation.parameters["weights"].items()}
    small = places[
        tuple(
            slice(0, 1) if stride == 0 and axis - 1 not in weights else slice(None)
            for axis, stride in enumerate(places.strides)
        )
    ]
    for axis, matrix in weights.items():
        at = _positions(matrix)
        small = spread(small, axis + 1, len(matrix), 0) if at is None else interpolated(small, axis + 1, at)
    return compacted(np.broadcast_to(small, (len(places), *operation.outputs[0].shape)))


def _positions(matrix: np.ndarray) -> np.ndarray | None:
    """Returns where the cells of a resized axis lie, in cells of the input; None if they lie over all of it.

    Args:
        matrix: (cells of the result, cells of the input), the weights from each to each.
    """
    count, extent = matrix.shape
    total = matrix.sum(axis=1)
    used = np.abs(total) > 1e-6
    inner = used & (np.abs(matrix[:, [0, -1]]) < 1e-6).all(axis=1)
    rows = np.flatnonzero(inner if inner.sum() > 1 else used)
    if len(rows) < 2:
        return None
    step, start = np.polyfit(rows, matrix[rows] @ np.arange(extent) / total[rows], 1)
    position = start + step * np.arange(count)
    plain = (np.arange(count) + 0.5) * extent / count - 0.5
    return None if np.abs(position - plain).max() <= 0.5 * max(1, extent / count) else position


def _reduced(operation: Operation, places: Places) -> Places:
    axes = tuple(int(axis) % (places.ndim - 1) + 1 for axis in operation.parameters["axes"])
    return mean_of_present(places, axes).reshape(len(places), *operation.outputs[0].shape)


def _along(operation: Operation, places: Places) -> Places:
    if operation.function not in _SORTING:
        return places
    axes = tuple(int(axis) % (places.ndim - 1) + 1 for axis in operation.parameters["axes"])
    return np.broadcast_to(np.expand_dims(mean_of_present(places, axes), axes), places.shape)


def _reshaped(operation: Operation, places: Places) -> Places:
    return compacted(places.reshape(len(places), *operation.outputs[0].shape))


_HANDLERS: Mapping[str, Callable[[Operation, Places], Places]] = {
    WINDOW: _windowed,
    TRANSPOSED_WINDOW: _windowed,
    RESIZE: _resized,
    REDUCE: _reduced,
    ALONG: _along,
    RESHAPE: _reshaped,
}


# --------------------------------------------------------------------------------------------- what is computed of many


def _moved(operation: Operation, inputs: list[Places | Lost | None]) -> Sequence[Places | Lost | None]:
    """Handles what only moves elements: their places are moved as they are."""
    arrays = [places if isinstance(places, np.ndarray) and places.size else None for places in inputs]
    if not any(array is not None for array in arrays):  # of no elements nothing is moved
        return [None] * len(operation.outputs)
    if any(array is not None for position, array in enumerate(arrays) if position not in operation.parameters["moved"]):
        return [_lost_at(operation)] * len(operation.outputs)
    order = permutation(operation)
    if order is not None and arrays[0] is not None:
        return [arrays[0].transpose(0, *(axis + 1 for axis in order))]
    shape = operation.outputs[0].shape
    if joined_axis(operation) == len(shape) - 1:
        parts = [array for array, value in zip(arrays, operation.inputs, strict=True) if 0 not in value.shape]
        first = parts[0]
        if first is not None and alike_but_for_channels(parts, len(shape) - 1):
            return [np.broadcast_to(first[..., :1], (len(first), *shape))]
    small = [None if array is None else kept(array) for array in arrays]
    numbers = sources(operation, [None if array is None else array.shape[1:] for array in small])
    if numbers is None:
        return [_lost_at(operation)] * len(operation.outputs)
    columns = [array.reshape(len(array), -1) for array in small if array is not None]
    table = np.concatenate([np.full((len(columns[0]), 1), np.nan), *columns], axis=1)
    if "pad" in operation.function and small[0] is not None and len(columns) == 1:
        numbers = [np.where(_repeated(result, small[0].shape[1:]), 0, result) for result in numbers]
        numbers = [compacted(result[None])[0] for result in numbers]
    return [compacted(gathered(table, result)) for result in numbers]


def _repeated(numbers: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Returns which elements of a padded tensor repeat others, as at a reflected border: they have no own place.

    Args:
        numbers: From where each element was taken, see :func:`sources`.
        shape: Extents of what is padded; 1 along axes on which places are the same.
    """
    result = np.zeros(numbers.shape, bool)
    coordinates = np.unravel_index(np.maximum(kept(numbers) - 1, 0), shape)
    for axis, (coordinate, extent) in enumerate(zip(coordinates, shape, strict=True)):
        row = coordinate.max(axis=tuple(other for other in range(coordinate.ndim) if other != axis))
        starts = (start for start in range(len(row) - extent + 1) if (row[start:][:extent] == np.arange(extent)).all())
        start = next(starts, None)
        if extent > 1 and start is not None:
            rows = np.moveaxis(result, axis, 0)
            rows[:start], rows[start + extent :] = True, True
    return result


def _contracted(operation: Operation, inputs: Sequence[Places | Lost | None]) -> Places:
    """Handles a sum of products: a result lies where the first factor lies of which elements lie apart."""
    *terms, result = operation.parameters["labels"]
    factors = [
        _factor(places, labels, result, operation.outputs[0].shape)
        for places, labels in zip(inputs, terms, strict=True)
        if isinstance(places, np.ndarray)
    ]
    return next((places for places in factors if _lie_apart(places)), factors[0])


def _factor(places: Places, labels: str, result: str, shape: Sequence[int]) -> Places:
    """Returns the places of a sum of products as one of its factors has them."""
    small = kept(places)
    gone = tuple(position for position, label in enumerate(labels, 1) if label not in result)
    if gone == (len(labels),):
        small = mean_of_channels(small)[..., 0]
    elif gone:
        small = mean_of_present(small, gone)
    left = [label for label in labels if label in result]
    ordered = small.transpose(0, *(1 + left.index(label) for label in result if label in left))
    laid = ordered[(slice(None), *(slice(None) if label in left else None for label in result))]
    return np.broadcast_to(laid, (len(places), *shape))


def _lie_apart(places: Places) -> bool:
    """Returns whether not all elements that have a place have the same."""
    return any(np.fmax.reduce(along, axis=None) > np.fmin.reduce(along, axis=None) for along in kept(places))
