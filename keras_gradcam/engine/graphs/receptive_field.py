"""Which pixels a layer's cells are computed from, read off the graph of a forward pass, operation by operation."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ...errors import ArgumentError
from ...grids import token_grid
from ..base import InputSpec, LayerOutput, ReceptiveBoxes
from ..boxes import Reach, as_boxes, kept, pixels, united
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
    Graph,
    Operation,
    Value,
    ancestors,
)
from .moves import moved_reaches
from .rules import (
    along_reach,
    contracted_reach,
    reduced_reach,
    reshaped_reach,
    resized_reach,
    scattered_reach,
    windowed_reach,
)

#: The functions for rules of which input 0 alone may depend on the picture.
_HANDLERS: Mapping[str, Callable[[Operation, Reach], Reach | None]] = {
    WINDOW: windowed_reach,
    TRANSPOSED_WINDOW: scattered_reach,
    RESIZE: resized_reach,
    REDUCE: reduced_reach,
    ALONG: along_reach,
    RESHAPE: reshaped_reach,
}


def receptive_boxes(
    graph: Graph, layer_output: LayerOutput, input_spec: InputSpec, explained: int, gates: bool = True
) -> ReceptiveBoxes:
    """Finds the pixels that each cell of a layer is computed from.

    Args:
        graph: The forward pass of one sample.
        layer_output: The layer, marked with the inputs that it is computed from.
        input_spec: Shapes of the inputs, all extents known.
        explained: Index of the explained input.
        gates: Whether to count what is the same for every cell.

    Raises:
        ArgumentError: If the layer has no feature map (h, w, channels), or is computed by an operation of which it is
            not known what it sees.
    """
    picture = _picture_of(layer_output, input_spec, explained)
    shape = input_spec.leaves[picture][0]
    reader = ReachReader(layer_output.info.path, gates)
    reach = reader.read(graph, graph.inputs[picture], layer_output.output)
    rank = len(reach.shape)
    # Lines are told apart by the axes they lie on: those of a map that is turned or made of tokens are none.
    down, across = (line if line and line.axis + rank == axis else None for axis, line in enumerate(reach.lines, 1))
    return ReceptiveBoxes(layer_output.info, picture, _boxes(reach, layer_output, shape), (down, across), reader.gated)


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


class ReachReader:
    """Goes through a graph from the picture to a value.

    Args:
        layer: Path of the layer, for messages.
        gates: Whether to count what is the same for every cell.
    """

    def __init__(self, layer: str, gates: bool) -> None:
        self._layer = layer
        self._gates = gates
        self._reaches: dict[int, Reach] = {}
        self._size: tuple[int, int] = (0, 0)
        #: Whether something that is the same for every cell was met.
        self.gated = False

    def read(self, graph: Graph, picture: Value, end: Value) -> Reach:
        """Returns the reach of ``end`` into ``picture``."""
        self._size = (picture.shape[1], picture.shape[2])
        self._reaches[id(picture)] = pixels(picture.shape)
        needed = ancestors([end])
        for operation in graph.operations:
            if any(id(value) in needed for value in operation.outputs):
                self._step(operation)
        return self._reaches.get(id(end)) or Reach(np.broadcast_to(np.int32(0), (4, *end.shape)))

    def _step(self, operation: Operation) -> None:
        """Notes the reach of an operation's results, where they depend on the picture."""
        inputs = [self._reaches.get(id(value)) for value in operation.inputs]
        reaches = [reach for reach in inputs if reach]
        if not reaches or all(value.origin != INPUT for value in operation.outputs):
            return
        results = self._results(operation, inputs)
        if results is None:
            # Nothing can see more than everything.
            if not all(reach.sees_all(self._size) for reach in reaches):
                raise ArgumentError(
                    "layer",
                    "be computed by operations of which it is known what they see",
                    f"{self._layer!r}, computed through {operation.name}",
                    "a layer before it",
                )
            whole = kept(reaches[0].values).reshape(4, -1)[:, 0]
            results = [
                Reach(np.broadcast_to(whole.reshape(4, *(1,) * len(value.shape)), (4, *value.shape)))
                for value in operation.outputs
            ]
        for value, result in zip(operation.outputs, results, strict=True):
            if result is not None:
                self._reaches[id(value)] = result

    def _results(self, operation: Operation, inputs: list[Reach | None]) -> list[Reach | None] | None:
        """Returns the reach of every output, or None if it is not known."""
        if operation.rule == SAME:
            return inputs
        if operation.rule == MOVE:
            return moved_reaches(operation, inputs)
        result = self._result(operation, inputs)
        if result is None:
            return None
        # The indices of a sorted or pooled tensor see as much as its values; statistics beside a result do not count.
        return [result if value.shape == operation.outputs[0].shape else None for value in operation.outputs]

    def _result(self, operation: Operation, inputs: list[Reach | None]) -> Reach | None:
        """Returns the reach of the first output, or None if it is not known."""
        reaches = [reach for reach in inputs if reach]
        if operation.rule == ELEMENTWISE:
            shape = operation.outputs[0].shape
            return united(self._without_gates(reaches, shape), shape)
        if operation.rule == CONTRACTION:
            return contracted_reach(operation, inputs)
        handler = _HANDLERS.get(operation.rule)
        if handler is None or len(reaches) != 1 or inputs[0] is None:  # a kernel that depends on the picture
            return None
        return handler(operation, reaches[0])

    def _without_gates(self, reaches: list[Reach], shape: tuple[int, ...]) -> list[Reach]:
        """Leaves out, if gates do not count, reaches that are the same for every cell of another."""
        gates = [reach for reach in reaches if any(reach.is_gate_of(other, shape) for other in reaches)]
        self.gated = self.gated or bool(gates)
        return reaches if self._gates else [reach for reach in reaches if all(reach is not gate for gate in gates)]
