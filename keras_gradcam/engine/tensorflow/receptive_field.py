"""Which pixels a layer's cells are computed from, read off TensorFlow's graph of the model, operation by operation."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from ...errors import ArgumentError
from ...grids import token_grid
from ..base import InputSpec, LayerOutput, ReceptiveBoxes, Request
from ..boxes import Reach, as_boxes, kept, pixels, united
from ..passes import build
from .graph import ancestors, input_specs, trace_forward
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
from .operations import (
    Reader,
    along_last,
    contracted,
    convolved,
    deconvolved,
    moved,
    multiplied,
    normalized,
    pooled,
    reduced,
    reshaped,
    resized,
)

_HANDLERS: tuple[tuple[set[str], Callable[[Reader, tf.Operation, Reach], Reach | None]], ...] = (
    (CONVOLUTIONS, convolved),
    (POOLINGS, pooled),
    ({"Conv2DBackpropInput"}, deconvolved),
    (RESIZES, resized),
    (REDUCTIONS, reduced),
    (ALONG_LAST, along_last),
    (NORMALIZATIONS, normalized),
    (RESHAPES, reshaped),
)


def receptive_boxes(model: Any, input_spec: InputSpec, request: Request, gates: bool = True) -> ReceptiveBoxes:
    """Finds the pixels that each cell of a layer is computed from: ``Engine.receptive_field``."""
    build(model, input_spec)
    selected: list[LayerOutput] = []

    def forward(inputs: Sequence[tf.Tensor]) -> tf.Tensor:
        selected.append(request.select(trace_forward(model, input_spec, inputs, request.explained_input).marked()))
        return selected[0].output

    specs = input_specs(input_spec, samples=1)
    traced = tf.compat.v1.wrap_function(forward, [specs])
    layer_output = selected[0]
    explained = _picture_of(layer_output, input_spec, request.explained_input)
    shape = input_spec.leaves[explained][0]
    reader = GraphReader(traced, len(specs), layer_output.info.path, gates)
    reach = reader.read(traced.inputs[explained], (1, *shape), layer_output.output)
    rank = layer_output.output.shape.rank
    # Lines are told apart by the axes they lie on: those of a map that is turned or made of tokens are none.
    down, across = (line if line and line.axis + rank == axis else None for axis, line in enumerate(reach.lines, 1))
    boxes = _boxes(reach, layer_output, shape)
    return ReceptiveBoxes(layer_output.info, explained, boxes, (down, across), reader.gated)


def _picture_of(layer_output: LayerOutput, input_spec: InputSpec, explained: int) -> int:
    """Returns the index of the explained input, or that of another picture if the layer sees only that one."""
    rank = len(input_spec.leaves[explained][0])
    pictures = [index for index in layer_output.inputs if len(input_spec.leaves[index][0]) == rank]
    return explained if explained in pictures or not pictures else pictures[0]


def _boxes(reach: Reach, layer_output: LayerOutput, shape: Sequence[int]) -> np.ndarray:
    """Returns the boxes of a feature map (h, w, channels, 4); tokens are laid out on their grid."""
    values, rank, channels = reach.values, len(reach.shape), reach.shape[-1]
    grid = token_grid(layer_output.info.output_shape, shape[:-1]) if rank == 3 else None
    if values.shape[1] != 1 or not (rank == 4 or grid):
        raise ArgumentError(
            "layer",
            "return one feature map (h, w, channels) per picture, or tokens on a grid",
            f"{layer_output.info.path!r}, which returns shape {reach.shape} for one picture",
        )
    values = (values if values.strides[-1] else values[..., :1])[:, 0]
    if grid:
        values = values[:, values.shape[1] - math.prod(grid) :].reshape(4, *grid, values.shape[-1])
    boxes = as_boxes(values, (shape[0], shape[1]))
    return np.broadcast_to(boxes, (*boxes.shape[:2], channels, 4))


class GraphReader:
    """Goes through a graph from the picture to a tensor.

    Args:
        traced: The function that was traced.
        count: How many inputs the model has; the variables that the function captures come after them.
        layer: Path of the layer, for messages.
        gates: Whether to count what is the same for every cell.
        outside: Where the operations are the body of a function: its arguments as tensors outside, and their reader.
    """

    def __init__(
        self,
        traced: Any,
        count: int,
        layer: str,
        gates: bool,
        outside: tuple[dict[int, tf.Tensor], GraphReader] | None = None,
    ) -> None:
        self._traced = traced
        self._inputs = traced.inputs[:count]
        self._layer = layer
        self._gates = gates
        self._reaches: dict[str, Reach] = {}
        self._arguments, self._outside = outside or ({}, self)
        self._size: tuple[int, int] = outside[1]._size if outside else (0, 0)
        #: Whether something that is the same for every cell was met.
        self.gated = False

    def read(self, picture: tf.Tensor, shape: tuple[int, ...], end: tf.Tensor) -> Reach:
        """Returns the reach of ``end`` into ``picture``, of this shape."""
        self._size = (shape[1], shape[2])
        self._reaches[picture.name] = pixels(shape)
        needed = ancestors([end])
        for op in self._traced.graph.get_operations():
            if any(id(tensor) in needed for tensor in op.outputs):
                self._step(op)
        if end.name in self._reaches:
            return self._reaches[end.name]
        return Reach(np.broadcast_to(np.int32(0), (4, *self.shape(end))))

    def shape(self, tensor: tf.Tensor) -> tuple[int, ...]:
        """Returns the shape of a tensor for one picture."""
        if tensor.shape.is_fully_defined():
            return tuple(tensor.shape.as_list())
        if id(tensor) in self._arguments:
            return self._outside.shape(self._arguments[id(tensor)])
        return tuple(self._run(tensor).shape)

    def value(self, tensor: tf.Tensor) -> np.ndarray:
        """Returns the value of a tensor that does not depend on the picture: an axis, a shape."""
        value = tf.get_static_value(tensor)
        if value is None and id(tensor) in self._arguments:
            return self._outside.value(self._arguments[id(tensor)])
        return self._run(tensor) if value is None else np.asarray(value)

    def _run(self, tensor: tf.Tensor) -> np.ndarray:
        pruned = self._traced.prune(self._inputs, [tensor])
        (value,) = pruned(*(tf.zeros(tensor.shape, tensor.dtype) for tensor in self._inputs))
        return value.numpy()

    def _step(self, op: tf.Operation) -> None:
        """Notes the reach of an operation's results, where they depend on the picture."""
        inputs = [self._reaches.get(tensor.name) for tensor in op.inputs]
        reaches = [reach for reach in inputs if reach]
        if not reaches or op.type in NO_CONTENT:
            return
        results = self._results(op, inputs)
        if results is None:
            # Nothing can see more than everything.
            if not all(reach.sees_all(self._size) for reach in reaches):
                raise ArgumentError(
                    "layer",
                    "be computed by operations of which it is known what they see",
                    f"{self._layer!r}, computed through {op.type} (operation {op.name!r})",
                    "a layer before it",
                )
            whole = kept(reaches[0].values).reshape(4, -1)[:, 0]
            results = [Reach(np.broadcast_to(_column(whole, out), (4, *out))) for out in map(self.shape, op.outputs)]
        self._reaches.update({tensor.name: reach for tensor, reach in zip(op.outputs, results, strict=False) if reach})

    def _results(self, op: tf.Operation, inputs: list[Reach | None]) -> list[Reach | None] | None:
        """Returns the reach of every output, or None if it is not known."""
        reaches = [reach for reach in inputs if reach]
        if op.type == "IdentityN":
            return inputs
        if op.type in CALLS:
            return self._through_function(op, inputs)
        if op.type in ELEMENTWISE:
            shape = self.shape(op.outputs[0])
            return [united(self._without_gates(reaches, shape), shape)]
        if op.type in MATRIX_PRODUCTS:
            return [multiplied(op, inputs, self.shape(op.outputs[0]))]
        if op.type == "Einsum":
            return contracted(op, inputs, self.shape(op.outputs[0]))
        if op.type in MOVES:
            return moved(self, op, inputs)
        content = 2 if op.type == "Conv2DBackpropInput" else 0
        if len(reaches) != 1 or inputs[content] is None:  # a kernel or an axis that depends on the picture
            return None
        for types, handler in _HANDLERS:
            if op.type in types:
                result = handler(self, op, reaches[0])
                return None if result is None else [result]
        return None

    def _through_function(self, op: tf.Operation, inputs: list[Reach | None]) -> list[Reach | None]:
        """Reads the body of a function that was left whole."""
        graph = op.graph._get_function(op.get_attr("f").name).graph
        arguments = {id(own): tensor for own, tensor in zip(graph.inputs, op.inputs, strict=True)}
        inner = GraphReader(self._traced, len(self._inputs), self._layer, self._gates, (arguments, self))
        for own, reach in zip(graph.inputs, inputs, strict=True):
            if reach is not None:
                inner._reaches[own.name] = reach
        for step in graph.get_operations():
            inner._step(step)
        self.gated = self.gated or inner.gated
        return [inner._reaches.get(tensor.name) for tensor in graph.outputs]

    def _without_gates(self, reaches: list[Reach], shape: tuple[int, ...]) -> list[Reach]:
        """Leaves out, if gates do not count, reaches that are the same for every cell of another."""
        gates = [reach for reach in reaches if any(reach.is_gate_of(other, shape) for other in reaches)]
        self.gated = self.gated or bool(gates)
        return reaches if self._gates else [reach for reach in reaches if all(reach is not gate for gate in gates)]


def _column(values: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    return values.reshape(4, *(1,) * len(shape))
