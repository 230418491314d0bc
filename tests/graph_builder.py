"""Builds neutral graphs by hand, of operations on NumPy arrays."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from keras_gradcam.engine.graphs.graph import CONSTANT, ELEMENTWISE, WEIGHT, Graph, Operation, Value, origin_of

_erf = np.vectorize(math.erf, otypes=[np.float64])

#: What functions compute that NumPy does not have by their name.
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "identity": lambda x: x,
    "stop_gradient": lambda x: x,
    "cast": lambda x: x.astype(np.float32),
    "clip": lambda x, low, high: np.minimum(np.maximum(x, low), high),
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "softplus": lambda x: np.logaddexp(x, 0),
    "softsign": lambda x: x / (1 + np.abs(x)),
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "selu": lambda x: 1.0507 * np.where(x > 0, x, 1.67326 * np.expm1(np.minimum(x, 0))),
    "erf": lambda x: _erf(x).astype(x.dtype),
    "erfc": lambda x: (1 - _erf(x)).astype(x.dtype),
    "gelu": lambda x: x * (1 + _erf(x / np.sqrt(2))) / 2,
    "silu": lambda x: x / (1 + np.exp(-x)),
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    "leaky_relu": lambda x, slope: np.where(x > 0, x, slope * x),
    "hard_sigmoid": lambda x: np.clip(x + 3, 0, 6) / 6,
    "hard_silu": lambda x: x * np.clip(x + 3, 0, 6) / 6,
    "softmax": lambda x: np.exp(x) / np.exp(x).sum(-1, keepdims=True),
    "log_softmax": lambda x: x - np.log(np.exp(x).sum(-1, keepdims=True)),
}


class GraphBuilder:
    """Adds operations to a graph one by one; a function is by default what :data:`FUNCTIONS` or NumPy says.

    Attributes:
        graph: What has been built.
    """

    def __init__(self) -> None:
        self.graph = Graph([], [])

    def input(self, shape: Sequence[int], dtype: str = "float32") -> Value:
        """Adds an input of the model."""
        value = Value(tuple(shape), dtype)
        self.graph.inputs.append(value)
        return value

    def weight(self, shape: Sequence[int] = (), dtype: str = "float32") -> Value:
        """Makes a weight."""
        return Value(tuple(shape), dtype, WEIGHT)

    def constant(self, content: Any, dtype: str = "float32") -> Value:
        """Makes a constant of numbers."""
        array = np.asarray(content, dtype)
        return Value(array.shape, dtype, CONSTANT, lambda: array)

    def add(
        self,
        function: str,
        rule: str = ELEMENTWISE,
        *inputs: Value | float,
        run: Callable[..., Any] | None = None,
        name: str = "",
        **parameters: Any,
    ) -> Any:
        """Adds an operation and returns its result, a list of them where ``run`` returns a list.

        Args:
            function: What it computes.
            rule: How; see :mod:`keras_gradcam.engine.graphs.graph`.
            *inputs: Values, or numbers for constants.
            run: Computes it from as many arrays.
            name: The operation's name; that of the function by default.
            **parameters: Those of the rule.
        """
        values = tuple(value if isinstance(value, Value) else self.constant(value) for value in inputs)
        compute = run or FUNCTIONS.get(function) or getattr(np, function)

        def on_arrays(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
            with np.errstate(all="ignore"):
                results = compute(*arrays)
            return [np.asarray(result) for result in (results if isinstance(results, list) else [results])]

        operation = Operation(name or function, function, rule, values, (), on_arrays, on_arrays, parameters)
        origin = origin_of(values)
        results = on_arrays([np.ones(v.shape, v.dtype) if v.content is None else v.content() for v in values])
        operation.outputs = tuple(
            Value(
                array.shape,
                array.dtype.name,
                origin,
                (lambda array=array: array) if origin == CONSTANT else None,
                None if origin == CONSTANT else operation,
                position,
            )
            for position, array in enumerate(results)
        )
        if origin != CONSTANT:
            self.graph.operations.append(operation)
        return operation.outputs[0] if len(operation.outputs) == 1 else list(operation.outputs)

    def elementwise(self, function: str, *inputs: Value | float, **options: Any) -> Any:
        """Adds an elementwise operation."""
        return self.add(function, ELEMENTWISE, *inputs, **options)

    def computed(self, arrays: dict[Value, np.ndarray]) -> Callable[[Value], np.ndarray]:
        """Computes the graph for arrays in place of inputs; returns what a value is then. Other values are ones."""
        known = dict(arrays)

        def of(value: Value) -> np.ndarray:
            if value.content is not None:
                return value.content()
            return known[value] if value in known else np.ones(value.shape, value.dtype)

        for operation in self.graph.operations:
            known.update(zip(operation.outputs, operation.apply([of(v) for v in operation.inputs]), strict=True))
        return of
