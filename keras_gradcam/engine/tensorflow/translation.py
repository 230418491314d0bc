"""Translates a TensorFlow graph into the words of :mod:`keras_gradcam.engine.graphs.graph`, while it grows.

The batch, of which TensorFlow knows no size, is one sample there.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from ..graphs.graph import (
    ALONG,
    CONSTANT,
    ELEMENTWISE,
    INPUT,
    MOVE,
    OPAQUE,
    REDUCE,
    RESHAPE,
    SAME,
    WEIGHT,
    Graph,
    Operation,
    Value,
    origin_of,
)
from . import kinds
from .operations import attribute, carried, evaluated, repeated, text
from .products import product
from .windows import dilated, window

#: Type of an operation -> what it computes, where it has another name in a graph.
_FUNCTIONS = {
    "Abs": "abs",
    "Add": "add",
    "AddN": "add",
    "AddV2": "add",
    "BiasAdd": "add",
    "Cast": "cast",
    "CheckNumerics": "identity",
    "ClipByValue": "clip",
    "ConcatV2": "concatenate",
    "Div": "divide",
    "Elu": "elu",
    "EnsureShape": "identity",
    "Equal": "equal",
    "Erf": "erf",
    "Erfc": "erfc",
    "Exp": "exp",
    "Expm1": "expm1",
    "Greater": "greater",
    "GreaterEqual": "greater_equal",
    "Identity": "identity",
    "LeakyRelu": "leaky_relu",
    "Less": "less",
    "LessEqual": "less_equal",
    "Log": "log",
    "Log1p": "log1p",
    "LogSoftmax": "log_softmax",
    "LogicalAnd": "logical_and",
    "LogicalNot": "logical_not",
    "LogicalOr": "logical_or",
    "Max": "max",
    "Maximum": "maximum",
    "Mean": "mean",
    "Min": "min",
    "Minimum": "minimum",
    "MirrorPad": "pad",
    "Mul": "multiply",
    "Neg": "negative",
    "NotEqual": "not_equal",
    "OnesLike": "ones_like",
    "Pad": "pad",
    "PadV2": "pad",
    "Pow": "power",
    "RealDiv": "divide",
    "Relu": "relu",
    "Relu6": "relu6",
    "Rsqrt": "rsqrt",
    "Select": "where",
    "SelectV2": "where",
    "Selu": "selu",
    "Sigmoid": "sigmoid",
    "Sign": "sign",
    "Snapshot": "identity",
    "Softmax": "softmax",
    "Softplus": "softplus",
    "Softsign": "softsign",
    "Sqrt": "sqrt",
    "Square": "square",
    "StopGradient": "stop_gradient",
    "Sub": "subtract",
    "Sum": "sum",
    "Tanh": "tanh",
    "Transpose": "transpose",
    "ZerosLike": "zeros_like",
}

# Moves of which the analyses know more if they have no input but what they move.
_OF_PARTS = {"ConcatV2", "Transpose"}

# What running an operation by itself may raise: tf.raw_ops does not have it, or it does not take these tensors.
_NOT_RUN = (AttributeError, TypeError, ValueError, tf.errors.OpError)


class Translation:
    """A TensorFlow graph and what it is translated to.

    Args:
        graph: The graph.
        inputs: The model's inputs in flat order, of that graph.
    """

    def __init__(self, graph: tf.Graph, inputs: Sequence[tf.Tensor]) -> None:
        self._graph = graph
        self._values: dict[int, Value] = {}
        self._tensors: dict[int, tf.Tensor] = {}
        self._inputs = {id(tensor) for tensor in inputs}
        self._translated = 0
        self._operations: list[Operation] = []

    def graph(self, inputs: Sequence[tf.Tensor]) -> Graph:
        """Returns all that is in the graph by now, with these tensors as the inputs of the model."""
        self._go_on()
        return Graph([self._values[id(tensor)] for tensor in inputs], self._operations)

    def value(self, tensor: tf.Tensor) -> Value:
        """Returns the value that a tensor is translated to."""
        if id(tensor) not in self._values:
            self._go_on()
        return self._values[id(tensor)]

    def tensor(self, value: Value) -> tf.Tensor:
        """Returns the tensor that a value was translated from."""
        return self._tensors[id(value)]

    def _go_on(self) -> None:
        """Translates what has been added to the graph."""
        operations = self._graph.get_operations()
        for op in operations[self._translated :]:
            self._add(op)
        self._translated = len(operations)

    def _add(self, op: tf.Operation) -> None:
        inputs = tuple(self._values[id(tensor)] for tensor in op.inputs)
        shapes = _shapes(op, inputs)
        operation = Operation(op.type, _FUNCTIONS.get(op.type, op.type), OPAQUE, inputs)
        operation.apply = lambda tensors: repeated(op, tensors)
        operation.run = lambda arrays: _run(op, arrays)
        body = self._body(op, inputs)
        if body is not None:
            operation.rule, operation.inputs, shapes = SAME, body, [value.shape for value in body]
        elif op.type == "IdentityN":
            operation.rule = SAME
        else:
            _set_rule(operation, op, shapes)
        self._operations.append(operation)
        origin = self._origin(op, inputs)
        contents = _contents(op, inputs) if origin == CONSTANT else [None] * len(shapes)
        operation.outputs = tuple(
            Value(shape, tensor.dtype.name, origin, content, operation, position)
            for position, (tensor, shape, content) in enumerate(zip(op.outputs, shapes, contents, strict=True))
        )
        for tensor, value in zip(op.outputs, operation.outputs, strict=True):
            self._values[id(tensor)], self._tensors[id(value)] = value, tensor

    def _origin(self, op: tf.Operation, inputs: Sequence[Value]) -> str:
        if any(id(tensor) in self._inputs for tensor in op.outputs):
            return INPUT
        if op.type in kinds.OF_SHAPES or op.type == "Const":
            return CONSTANT
        return origin_of(inputs) if inputs else WEIGHT

    def _body(self, op: tf.Operation, inputs: Sequence[Value]) -> tuple[Value, ...] | None:
        """Translates the function that an operation calls; returns its results, None if it calls none that is known."""
        if op.type in kinds.CALLS:
            called = op.get_attr("f")
        elif op.type in kinds.BRANCHES and inputs[0].content is not None:
            called = op.get_attr("then_branch" if inputs[0].content() else "else_branch")
            inputs = inputs[1:]
        else:
            return None
        graph = op.graph._get_function(called.name).graph
        arguments = {id(tensor) for tensor in graph.inputs}
        self._values.update((id(tensor), value) for tensor, value in zip(graph.inputs, inputs, strict=True))
        for inner in graph.get_operations():
            if not any(id(tensor) in arguments for tensor in inner.outputs):
                self._add(inner)
        return tuple(self._values[id(tensor)] for tensor in graph.outputs)


def _set_rule(operation: Operation, op: tf.Operation, shapes: Sequence[tuple[int, ...]]) -> None:
    """Says how elements of the results of an operation come from those of its inputs."""
    if op.type == "LeakyRelu":
        slope = np.array(op.get_attr("alpha"), np.float64)
        _bind(operation, op, [0])
        operation.rule = ELEMENTWISE
        operation.inputs = (*operation.inputs, Value((), "float64", CONSTANT, lambda: slope))
    elif op.type in kinds.ELEMENTWISE:
        operation.rule = ELEMENTWISE
    elif op.type in kinds.NORMALIZATIONS:
        _normalization(operation, op)
    elif op.type in kinds.RESHAPES:
        operation.rule = RESHAPE
        operation.run = lambda arrays: [np.reshape(arrays[0], shapes[0])]
    elif op.type == "BatchToSpaceND" and dilated(operation):
        return
    elif op.type in kinds.MOVES:
        moved = sorted(carried(op))
        if op.type in _OF_PARTS and _bind(operation, op, moved):
            moved = list(range(len(moved)))
        operation.rule, operation.parameters = MOVE, {"moved": tuple(moved)}
    elif op.type in kinds.ALONG_LAST:
        operation.rule, operation.parameters = ALONG, {"axes": (-1,)}
    elif op.type in kinds.REDUCTIONS and operation.inputs[1].content is not None:
        axes = tuple(np.ravel(operation.inputs[1].content()).tolist())
        _bind(operation, op, [0])
        operation.rule, operation.parameters = REDUCE, {"axes": axes, "keepdims": op.get_attr("keep_dims")}
    elif all(tensor.shape.rank is not None for tensor in op.inputs):
        window(operation, op, shapes[0] if shapes else ())
        product(operation, op, shapes[0] if shapes else ())


def _normalization(operation: Operation, op: tf.Operation) -> None:
    """Says that a batch normalisation takes each element by itself, or mixes those of a batch by its own statistics."""
    operation.rule, operation.function = ELEMENTWISE, "batch_norm"
    if op.get_attr("is_training"):
        channels = text(attribute(op, "data_format")).index("C")
        axes = tuple(axis for axis in range(len(operation.inputs[0].shape)) if axis != channels)
        operation.rule, operation.parameters = ALONG, {"axes": axes}


def _bind(operation: Operation, op: tf.Operation, kept: Sequence[int]) -> bool:
    """Leaves an operation some of its inputs, if the others are known; returns whether they are.

    For one sample the others are constants; where it is done to other tensors, they are what they are in its graph.
    """
    contents = [None if position in kept else value.content for position, value in enumerate(operation.inputs)]
    if any(content is None for position, content in enumerate(contents) if position not in kept):
        return False

    def every(given: Sequence[Any], others: Sequence[Any]) -> list[Any]:
        known = dict(zip(kept, given, strict=False))
        return [known.get(position, other) for position, other in enumerate(others)]

    operation.inputs = tuple(operation.inputs[position] for position in kept)
    operation.apply = lambda tensors: repeated(op, every(tensors, op.inputs))
    operation.run = lambda arrays: _run(op, every(arrays, [content and content() for content in contents]))
    return True


def _shapes(op: tf.Operation, inputs: Sequence[Value]) -> list[tuple[int, ...]]:
    """Returns the shapes of an operation's results for one sample."""
    static = [tensor.shape for tensor in op.outputs]
    if all(shape.is_fully_defined() for shape in static):
        return [tuple(shape.as_list()) for shape in static]
    try:
        if op.type in kinds.ELEMENTWISE:
            return [tuple(np.broadcast_shapes(*(value.shape for value in inputs)))]
        if inputs:
            static = [tensor.shape for tensor in _again(op, inputs)]
    except _NOT_RUN:
        pass  # extents are free
    return [
        () if shape.rank is None else tuple(1 if extent is None else extent for extent in shape.as_list())
        for shape in static
    ]


def _again(op: tf.Operation, inputs: Sequence[Value]) -> list[tf.Tensor]:
    """Returns the results of an operation in a graph of its own, in which inputs have the shapes of one sample."""
    contents = [None if value.content is None else value.content() for value in inputs]
    with tf.Graph().as_default():
        arguments = [
            tf.compat.v1.placeholder(value.dtype, value.shape) if content is None else tf.constant(content, value.dtype)
            for value, content in zip(inputs, contents, strict=True)
        ]
        return repeated(op, arguments)


def _contents(op: tf.Operation, inputs: Sequence[Value]) -> list[Callable[[], np.ndarray] | None]:
    """Returns functions that give the numbers of results of constants, where these are known before the model runs."""
    static = [tf.get_static_value(tensor) for tensor in op.outputs]
    if all(array is not None for array in static):
        return [functools.partial(np.asarray, array) for array in static]
    if op.op_def.is_stateful or not inputs or op.type in kinds.CALLS | kinds.BRANCHES:
        return [None] * len(static)
    if op.type not in kinds.OF_SHAPES and any(value.content is None for value in inputs):
        return [None] * len(static)

    known = [np.zeros(value.shape, bool) if value.content is None else value.content() for value in inputs]
    try:
        return [functools.partial(np.asarray, array) for array in evaluated(op, known)]
    except _NOT_RUN:  # for one sample
        return [None] * len(static)


def _run(op: tf.Operation, arrays: Sequence[Any]) -> list[np.ndarray]:
    """Runs an operation on arrays; raises ValueError if it does not take them."""
    try:
        return evaluated(op, arrays)
    except tf.errors.OpError as error:
        raise ValueError(f"{op.type} does not take these arrays") from error
