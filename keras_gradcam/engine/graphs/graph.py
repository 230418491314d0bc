"""A model's forward pass as a graph of operations, in words that every backend can be translated to.

An engine records the operations of its backend one by one and says of each what the analyses of this folder need: how
the elements of its results come from those of its inputs (:attr:`Operation.rule`), which function it computes where the
name matters (:attr:`Operation.function`), and how to run it again on other inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..base import LayerCall, LayerOutput, Tensor

#: Each element of the result is computed from the elements of the inputs in the same position; shapes are broadcast.
ELEMENTWISE = "elementwise"

#: Elements are moved and nothing else. Parameters: ``moved``, the positions of the inputs whose elements are moved; the
#: other inputs say where to. What the operation adds by itself, such as padding, is zero in :attr:`Operation.run`.
MOVE = "move"

#: The same elements, in the same order, in another shape.
RESHAPE = "reshape"

#: A convolution or a pooling of input 0. Parameters: ``windows``, a mapping of each spatial axis to its
#: :class:`~keras_gradcam.engine.boxes.Window`; ``channels``, the axis of the channels; ``groups``, the number of groups
#: of channels that do not see one another, 0 where each channel is pooled by itself. Axes stay where they are.
WINDOW = "window"

#: A transposed convolution of input 0. Parameters as for WINDOW; the windows are those of the convolution that leads
#: back, from the output to the input.
TRANSPOSED_WINDOW = "transposed window"

#: A resized map of input 0. Parameter: ``weights``, a mapping of each resized axis to float (cells of the result, cells
#: of the input), the weight with which each is computed from each.
RESIZE = "resize"

#: One result for all elements of input 0 along some axes: a mean, a maximum. Parameters: ``axes``, ``keepdims``.
REDUCE = "reduce"

#: Every element is computed from all elements of input 0 along ``axes``: a softmax, a cumulative sum.
ALONG = "along"

#: A sum of products. Parameter: ``labels``, one string per input and one for the result, with a letter for each axis;
#: letters that the result lacks are summed over.
CONTRACTION = "contraction"

#: Each result is the input in the same position: what a function has returned that was left whole.
SAME = "same"

#: Anything else.
OPAQUE = "opaque"

#: Where a value comes from.
INPUT, WEIGHT, CONSTANT = "input", "weight", "constant"


@dataclass(eq=False)
class Value:
    """A tensor of a forward pass.

    Attributes:
        shape: Its shape, of the number of samples that the pass was traced with.
        dtype: Its dtype, such as "float32".
        origin: INPUT if it depends on the content of one of the model's inputs; WEIGHT if it does not, but on that of a
            weight; CONSTANT otherwise.
        content: Returns the numbers of a constant; None for any other value.
        producer: The operation that it is a result of; None for inputs, weights and constants.
        position: Which result of its producer it is.
    """

    shape: tuple[int, ...]
    dtype: str
    origin: str = INPUT
    content: Callable[[], np.ndarray] | None = None
    producer: Operation | None = None
    position: int = 0

    def number(self) -> float | None:
        """Returns the one number that a constant is everywhere, or None."""
        if self.content is None:
            return None
        array = np.asarray(self.content())
        if not array.size or not (array == array.flat[0]).all():
            return None
        return float(array.flat[0])


@dataclass(eq=False)
class Operation:
    """An operation of a forward pass.

    Attributes:
        name: What the backend calls it, for messages.
        function: What it computes where that matters to an analysis, in NumPy's words: "add", "maximum", "where",
            "relu", "relu6", "leaky_relu" (inputs x and slope), "clip" (x, low, high), "softmax", "log_softmax",
            "sigmoid", "sum", "square", "power", "rsqrt", "cast", "stop_gradient", ...; the backend's name otherwise.
        rule: How elements of the results come from those of the inputs: one of the words above.
        inputs: What it is computed from: tensors, and numbers as constants.
        outputs: Its results.
        apply: Runs it on tensors of the backend in place of the inputs, differentiably; returns all results.
        run: Runs it on arrays in place of the inputs, in their precision, of any shapes that the rule allows; returns
            all results.
        parameters: What the rule says must be known.
    """

    name: str
    function: str
    rule: str
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...] = ()
    apply: Callable[[Sequence[Tensor]], list[Tensor]] | None = None
    run: Callable[[Sequence[np.ndarray]], list[np.ndarray]] | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(eq=False)
class Graph:
    """A forward pass.

    Attributes:
        inputs: The model's inputs in flat order.
        operations: In the order in which they run.
    """

    inputs: list[Value]
    operations: list[Operation]


def origin_of(inputs: Sequence[Value]) -> str:
    """Returns where the results of an operation of these inputs come from."""
    origins = {value.origin for value in inputs}
    return next((origin for origin in (INPUT, WEIGHT) if origin in origins), CONSTANT)


def ancestors(values: Sequence[Value], without: Value | None = None) -> set[int]:
    """Returns the ids of all values that ``values`` are computed from, themselves included.

    Args:
        values: Where to start.
        without: A value to stop at: what is reached through it alone is left out.
    """
    seen: set[int] = set() if without is None else {id(without)}
    pending = list(values)
    while pending:
        value = pending.pop()
        if id(value) not in seen:
            seen.add(id(value))
            if value.producer is not None:
                pending.extend(value.producer.inputs)
    return seen


def marked(
    graph: Graph,
    layer_outputs: Sequence[LayerOutput],
    predictions: Sequence[Value],
    logits: Sequence[Value],
    ends: Sequence[Value] | None = None,
) -> list[LayerOutput]:
    """Returns layer outputs with what they come from and where they lead to.

    Args:
        graph: The forward pass.
        layer_outputs: What every layer returned, values of the graph, in the order of the calls.
        predictions: The model's outputs, without those that are None.
        logits: The same with logits in place of those that end in an activation.
        ends: What ``influences_score`` is about; the model's outputs by default.
    """
    upstream = ancestors(predictions if ends is None else ends)
    layers = [layer_output.output for layer_output in layer_outputs]
    of_inputs, of_layers = _reached(graph.inputs, graph), _reached(layers, graph)
    final = {id(value) for value in (*predictions, *logits)}
    inner = _inner_outputs(predictions, logits) if len(predictions) > 1 else set()
    return [
        replace(
            layer_output,
            influences_score=id(layer_output.output) in upstream,
            is_model_output=id(layer_output.output) in final - inner,
            inputs=tuple(_positions(of_inputs.get(id(layer_output.output), 0))),
            computed_from=frozenset(
                position
                for position in _positions(of_layers[id(layer_output.output)])
                if layers[position] is not layer_output.output
            ),
        )
        for layer_output in layer_outputs
    ]


def _reached(values: Sequence[Value], graph: Graph) -> dict[int, int]:
    """Returns, for the id of each value of a graph, which of some values it is or is computed from.

    Returns:
        Whole numbers with a bit for the position of each of ``values``, which :func:`_positions` lists.
    """
    own: dict[int, int] = {}
    for position, value in enumerate(values):
        own[id(value)] = own.get(id(value), 0) | 1 << position
    reached = dict(own)
    for operation in graph.operations:
        bits = 0
        for value in operation.inputs:
            bits |= reached.get(id(value), 0)
        for value in operation.outputs:
            reached[id(value)] = bits | own.get(id(value), 0)
    return reached


def _positions(bits: int) -> list[int]:
    """Returns the positions of the bits that are set in a whole number, the lowest first."""
    return [position for position in range(bits.bit_length()) if bits >> position & 1]


def _inner_outputs(predictions: Sequence[Value], logits: Sequence[Value]) -> set[int]:
    """Returns the ids of the outputs that another output is computed from, such as a feature map that is returned."""
    inner: set[int] = set()
    for own, scores in zip(predictions, logits, strict=True):
        others = [value for value in predictions if value is not own and value is not scores]
        inner |= {id(own), id(scores)} & (ancestors(others) - {id(value) for value in others})
    return inner


def with_free_batch(layer_output: LayerOutput, samples: int) -> LayerOutput:
    """Returns the layer output with None for the batch, if that is the one the model was traced with."""
    info: LayerCall = layer_output.info
    if info.output_shape[:1] != (samples,):
        return layer_output
    return replace(layer_output, info=replace(info, output_shape=(None, *info.output_shape[1:])))
