"""Where on the input the cells of a layer's map lie, followed through TensorFlow's graph of the model.

Every tensor between input and layer gets the place of each of its elements, in pixels of the input. Convolutions and
poolings keep the plain enlargement of a map over what they are applied to, whatever their padding; what moves elements
(crops, flips, transpositions, patches laid into channels, tokens) moves their places; what adds elements up lies at the
mean of their places. An operation for which no rule is known loses the places.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tensorflow as tf

from ..base import LayerOutput
from ..boxes import compacted
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
from .kinds import (
    ALONG_LAST,
    CALLS,
    CONVOLUTIONS,
    ELEMENTWISE,
    MATRIX_PRODUCTS,
    MOVES,
    NO_CONTENT,
    NORMALIZATIONS,
    POOLINGS,
    REDUCTIONS,
    RESHAPES,
    RESIZES,
)
from .operations import attribute, carried, evaluated, rearranged, text, without_ellipsis

# Added to places while TensorFlow moves them, so that zero means "no place". A power of two, to stay exact.
_SHIFT = 2.0**20

_WINDOWS = {*CONVOLUTIONS, *POOLINGS, "Conv3D", "AvgPool3D", "MaxPool3D"}
_TRANSPOSED = {"Conv2DBackpropInput", "Conv3DBackpropInputV2"}
_ENLARGED = {*RESIZES, "ResizeNearestNeighbor"} - {"ScaleAndTranslate"}

# Branches, of which shapes often decide.
_BRANCHES = {"If", "StatelessIf"}


@dataclass(frozen=True, eq=False)
class _InBlocks(Lost):
    """Places of a tensor whose cells are gathered in blocks at the moment.

    Attributes:
        places: The places before.
    """

    places: Places = field(default_factory=lambda: np.zeros(0))


class PlaceReader:
    """Follows the places of an input's elements through a graph.

    Args:
        places: The tensors from which to start and the places of their elements.
        outside: Where the graph is the body of a function: its arguments as tensors outside, and their reader.
    """

    def __init__(
        self,
        places: dict[int, Places | Lost | None],
        outside: tuple[dict[int, tf.Tensor], PlaceReader] | None = None,
    ) -> None:
        self._places = places
        self._arguments, self._outside = outside or ({}, self)

    @classmethod
    def of_input(cls, picture: tf.Tensor, size: Sequence[int]) -> PlaceReader:
        """Returns the reader for an input of these extents, the batch aside: each element is its own place."""
        axes = np.meshgrid(np.zeros(1), *(np.arange(extent) + 0.5 for extent in size), indexing="ij")
        return cls({id(picture): np.stack(axes[1:])})

    def places(self, tensor: tf.Tensor) -> Places | Lost | None:
        """Returns the places of a tensor's elements; None if they do not depend on the input."""
        pending = [tensor]
        while pending:
            last = pending[-1]
            missing = [] if id(last) in self._places else [t for t in last.op.inputs if id(t) not in self._places]
            pending.extend(missing)
            if not missing:
                pending.pop()
                if id(last) not in self._places:
                    self._step(last.op)
        return self._places[id(tensor)]

    def shape(self, tensor: tf.Tensor) -> tuple[int, ...]:
        """Returns the shape of a tensor for one sample."""
        places = self._places.get(id(tensor))
        if isinstance(places, np.ndarray):
            return places.shape[1:]
        shape = tensor.shape.as_list()
        if None in shape[1:]:  # of what the input does not reach the value is known, and with it the shape
            return self.value(tensor).shape
        return tuple(1 if extent is None else extent for extent in shape)

    def value(self, tensor: tf.Tensor) -> np.ndarray:
        """Returns the value, for one sample, of a tensor that does not depend on the content of the input."""
        value = tf.get_static_value(tensor)
        if value is not None:
            return np.asarray(value)
        if id(tensor) in self._arguments:
            return self._outside.value(self._arguments[id(tensor)])
        if tensor.op.type == "Shape":
            return np.array(self.shape(tensor.op.inputs[0]), np.int32)
        if not tensor.op.inputs or self._places.get(id(tensor), tensor) is not None:
            raise ValueError(f"{tensor.name} is not known before the model runs.")
        return evaluated(tensor.op, [self.value(source) for source in tensor.op.inputs])[tensor.value_index]

    def _step(self, op: tf.Operation) -> None:
        """Notes the places of an operation's results."""
        inputs = [self._places[id(tensor)] for tensor in op.inputs]
        results: Sequence[Places | Lost | None]
        if op.type in NO_CONTENT or all(places is None for places in inputs):
            results = [None] * len(op.outputs)
        else:
            try:
                results = self._results(op, inputs)
            except (ValueError, IndexError, TypeError, tf.errors.OpError):  # shapes or arguments are not known
                results = [_lost_at(op)] * len(op.outputs)
        self._places.update({id(tensor): places for tensor, places in zip(op.outputs, results, strict=False)})

    def _results(self, op: tf.Operation, inputs: list[Places | Lost | None]) -> Sequence[Places | Lost | None]:
        if op.type == "IdentityN":
            return inputs
        if op.type in CALLS:
            return self._through_function(op, op.get_attr("f"), inputs)
        if op.type in _BRANCHES and inputs[0] is None:
            branch = "then_branch" if bool(self.value(op.inputs[0])) else "else_branch"
            return self._through_function(op, op.get_attr(branch), inputs[1:])
        if op.type in NORMALIZATIONS:
            return [inputs[0]] + [None] * (len(op.outputs) - 1)
        if op.type in ("SpaceToBatchND", "BatchToSpaceND"):
            return [self._in_blocks(op, inputs[0])]
        if isinstance(inputs[0], _InBlocks) and op.type in CONVOLUTIONS:
            return [inputs[0]]
        present = [places for places in inputs if isinstance(places, np.ndarray)]
        if op.type in ELEMENTWISE and present:
            shape = np.broadcast_shapes(*(places.shape for places in present))
            return [joined([np.broadcast_to(places, shape) for places in present])]
        lost = [places for places in inputs if isinstance(places, Lost)]
        if lost:
            return [lost[0]] * len(op.outputs)
        if op.type == "MirrorPad":  # what is mirrored has no place of its own
            widths = [(0, 0), *self.value(op.inputs[1]).tolist()]
            return [np.pad(present[0], widths, constant_values=np.nan)]
        if op.type in MOVES:
            return self._moved(op, inputs)
        if op.type in MATRIX_PRODUCTS:
            return [_multiplied(op, inputs, self.shape(op.outputs[0])[-1])]
        if op.type == "Einsum":
            return [self._contracted(op, inputs)]
        content = inputs[2 if op.type in _TRANSPOSED else 0]
        if len(present) > 1 or content is None:  # a kernel or an axis that depends on the picture
            return [_lost_at(op)] * len(op.outputs)
        return [self._of_one(op, present[0])] + [None] * (len(op.outputs) - 1)

    def _of_one(self, op: tf.Operation, places: Places) -> Places | Lost:
        """Returns the places of what an operation computes of one tensor."""
        if op.type in _WINDOWS | _TRANSPOSED | _ENLARGED:
            if text(attribute(op, "data_format") or "NHWC")[-1] != "C":
                return _lost_at(op)
            return self._through_windows(op, places)
        if op.type == "ScaleAndTranslate":
            return self._scaled(op, places)
        if op.type in ALONG_LAST:
            return places
        if op.type in REDUCTIONS:
            axes = tuple(int(axis) % (places.ndim - 1) + 1 for axis in np.ravel(self.value(op.inputs[1])))
            small = mean_of_present(places, axes)
            return np.expand_dims(small, axes) if op.get_attr("keep_dims") else small
        if op.type in RESHAPES:
            shape = [-1 if extent is None else extent for extent in op.outputs[0].shape.as_list()]
            if shape.count(-1) > 1:
                shape = self.value(op.inputs[1]).tolist()
            return compacted(places.reshape(len(places), *shape))
        return _lost_at(op)

    def _through_windows(self, op: tf.Operation, places: Places) -> Places:
        """Handles convolutions, poolings and resizing: a map over what they are applied to, enlarged plainly."""
        extents = op.outputs[0].shape.as_list()
        places = mean_of_channels(places)
        for axis, reach in enumerate(self._reaches(op, places.ndim - 3), start=2):
            extent = extents[axis - 1]
            if extent is None and op.type in _WINDOWS:  # not known beforehand, but for this input
                extent = -(-(places.shape[axis] - reach) // op.get_attr("strides")[axis - 1])
            places = spread(places, axis, extent, reach)
        return np.broadcast_to(places, (*places.shape[:-1], extents[-1]))

    def _in_blocks(self, op: tf.Operation, places: Places | Lost | None) -> Places | Lost:
        """Handles dilated convolutions, for which TensorFlow gathers every n-th cell in a batch of its own.

        The places stay as they are in between: what comes back is spread over them, like any convolution.
        """
        if op.type == "SpaceToBatchND" and isinstance(places, np.ndarray):
            return _InBlocks(_lost_at(op).reason, places=places)
        if not isinstance(places, _InBlocks):
            return _lost_at(op)
        result = mean_of_channels(places.places)
        extents = op.outputs[0].shape.as_list()
        for axis, extent in enumerate(extents[1:-1], start=2):
            result = spread(result, axis, extent, result.shape[axis] - extent)
        return np.broadcast_to(result, (*result.shape[:-1], extents[-1]))

    def _scaled(self, op: tf.Operation, places: Places) -> Places:
        """Handles resizing by a factor and a shift, both given for rows and columns."""
        for axis, count, factor, shift in zip((2, 3), *(self.value(tensor) for tensor in op.inputs[1:]), strict=True):
            places = interpolated(places, axis, (np.arange(count) + 0.5 - shift) / factor - 0.5)
        return places

    def _reaches(self, op: tf.Operation, axes: int) -> list[int]:
        """Returns how far the windows of an operation reach along its spatial axes, from their first cell.

        It is 0 where the operation pads its input itself, so that its windows use up no padding made before.
        """
        if op.type not in _WINDOWS or text(op.get_attr("padding")) != "VALID":
            return [0] * axes
        sizes = op.get_attr("ksize")[1:-1] if "ksize" in op.node_def.attr else self.shape(op.inputs[1])[:axes]
        dilations = (attribute(op, "dilations") or [1] * (axes + 2))[1:-1]
        return [(size - 1) * dilation for size, dilation in zip(sizes, dilations, strict=True)]

    def _moved(self, op: tf.Operation, inputs: list[Places | Lost | None]) -> list[Places | Lost]:
        """Handles what only moves elements: TensorFlow itself moves the places."""
        moves = carried(op)
        arrays = [places if isinstance(places, np.ndarray) else None for places in inputs]
        if any(array is not None for position, array in enumerate(arrays) if position not in moves):
            return [_lost_at(op)] * len(op.outputs)
        first = arrays[0]
        joins = op.type == "ConcatV2" and alike_but_for_channels(arrays[:-1], int(self.value(op.inputs[-1])))
        if first is not None and joins:
            return [np.broadcast_to(first[..., :1], (*first.shape[:-1], self.shape(op.outputs[0])[-1]))]
        shifted = [None if array is None else array + _SHIFT for array in arrays]
        outputs = rearranged(self, op, [None if array is None else np.nan_to_num(array) for array in shifted])
        return [compacted(np.where(array > 0, array - _SHIFT, np.nan)) for array in outputs]

    def _contracted(self, op: tf.Operation, inputs: list[Places | Lost | None]) -> Places:
        """Handles an Einstein sum: a result lies where the first factor that has places lies."""
        left, _, result = text(op.get_attr("equation")).replace(" ", "").partition("->")
        shape = self.shape(op.outputs[0])
        result = without_ellipsis(result, len(shape))
        terms = zip(inputs, left.split(","), strict=True)
        places, term = next((places, term) for places, term in terms if isinstance(places, np.ndarray))
        labels = without_ellipsis(term, places.ndim - 1)
        gone = tuple(position for position, label in enumerate(labels, 1) if label not in result)
        small = mean_of_present(places, gone) if gone else places
        left_over = [label for label in labels if label in result]
        ordered = small.transpose(0, *(1 + left_over.index(label) for label in result if label in left_over))
        spread_out = ordered[(slice(None), *(slice(None) if label in left_over else None for label in result))]
        return np.broadcast_to(spread_out, (len(places), *shape))

    def _through_function(
        self, op: tf.Operation, function: Any, inputs: Sequence[Places | Lost | None]
    ) -> list[Places | Lost | None]:
        """Follows the places through the body of a function."""
        graph = op.graph._get_function(function.name).graph
        arguments = list(op.inputs)[-len(inputs) :]
        inner = PlaceReader(
            {id(own): places for own, places in zip(graph.inputs, inputs, strict=True)},
            ({id(own): tensor for own, tensor in zip(graph.inputs, arguments, strict=True)}, self),
        )
        return [inner.places(tensor) for tensor in graph.outputs]


def _lost_at(op: tf.Operation) -> Lost:
    return Lost(f"they are computed by the operation {op.type}")


def _multiplied(op: tf.Operation, inputs: list[Any], columns: int) -> Places:
    """Handles a product of matrices: a result lies where its row of the left one lies, or its column of the right."""
    left, right = inputs
    turned = [
        bool(attribute(op, a) or attribute(op, b)) for a, b in (("transpose_a", "adj_x"), ("transpose_b", "adj_y"))
    ]
    if left is not None:
        rows = left.swapaxes(-1, -2) if turned[0] else left
        rows = mean_of_channels(rows)
        return np.broadcast_to(rows, (*rows.shape[:-1], columns))
    right = right.swapaxes(-1, -2) if turned[1] else right
    return np.expand_dims(mean_of_present(right, -2), -2)


def layout_of(layer_output: LayerOutput, reader: PlaceReader, size: Sequence[int]) -> Layout:
    """Returns how the map of a layer lies in its output and on the input, of these extents."""
    tensor = layer_output.output
    return layout(tuple(tensor.shape.as_list()[1:-1]), reader.places(tensor), size)
