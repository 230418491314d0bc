"""Finds the scores before a softmax or sigmoid, and embeddings before an L2 normalisation, in a graph."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..base import Tensor
from ..model import loss_says_classes
from .graph import CONSTANT, ELEMENTWISE, INPUT, MOVE, REDUCE, RESHAPE, WEIGHT, Operation, Value
from .trials import NOT_COMPUTED, computed, numbers_of, run_on, steps_between

# What may stand behind a final activation.
_PASS_THROUGH = {"cast", "identity", "stop_gradient"}

_CLIPS = {"clip", "maximum", "minimum"}

# Final activations that are one operation.
_FINAL_ACTIVATIONS = {"log_softmax", "sigmoid", "softmax"}

_UNBOUNDED = (-math.inf, math.inf)

# Function -> bounds of its results, whatever its input.
_RANGES = {
    "abs": (0.0, math.inf),
    "hard_sigmoid": (0.0, 1.0),
    "relu": (0.0, math.inf),
    "relu6": (0.0, 6.0),
    "sigmoid": (0.0, 1.0),
    "softmax": (0.0, 1.0),
    "square": (0.0, math.inf),
    "tanh": (-1.0, 1.0),
}

# Functions whose largest and smallest results come from the ends of what they are computed from.
_ARITHMETIC = {
    "divide": np.divide,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "multiply": np.multiply,
    "negative": np.negative,
    "subtract": np.subtract,
}

# Reductions whose results lie between the smallest and the largest number that they reduce.
_BETWEEN = {"max", "mean", "min"}

# How far rounding may carry a probability beyond 0 and 1.
_ROUNDING = 1e-5

# Lengths of the vectors that a normalisation is tried on, and how far a unit vector's may be from 1: what is added to
# a norm to keep it from zero, some thousandths at most, may change it a little.
_LENGTHS = (10.0, 20.0)
_SLACK = 2e-3

# How far a softmax that is written out may be from one.
_TOLERANCE = 1e-4


# ----------------------------------------------------------------------------------------------------------- the answer


@dataclass(frozen=True, eq=False)
class Repeated:
    """What an operation after a final activation gives if it is done to the scores before that activation.

    Attributes:
        operation: The operation, which only moves elements.
        inputs: What it is done to: scores, and whatever says where to move them.
        position: Which of its results is meant.
    """

    operation: Operation
    inputs: tuple[Rebuilt, ...]
    position: int


#: Scores before an activation: a value of the graph, or such values moved as those after the activation are.
Rebuilt = Value | Repeated


@dataclass(frozen=True, eq=False)
class FoundOutputs:
    """What was found at the end of a model, for each of its outputs in flat order.

    Attributes:
        logits: The scores before the activation that an output ends in; itself where it ends in none.
        final_activations: The name of that activation; see :class:`~keras_gradcam.engine.base.Outputs`.
        pre_normalization: The embedding before the L2 normalisation that an output ends in; itself where it ends in
            none.
        names: The names of the outputs, where the model has names for them.
    """

    logits: list[Rebuilt | None]
    final_activations: list[str]
    pre_normalization: list[Value | None]
    names: tuple[str, ...] = ()


def find_outputs(model: Any, values: Sequence[Value | None]) -> FoundOutputs:
    """Finds logits, final activations and embeddings before normalisation in the graph of a model's outputs.

    Args:
        model: The model, which may say what its outputs are called and what its loss takes them for.
        values: Its outputs in flat order; where the model returns None, None stands in the lists of the answer.
    """
    before_activation = [(None, "") if value is None else _before_final_activation(value) for value in values]
    pre_normalization = [None if value is None else _before_normalization(value) for value in values]
    final_activations = [
        activation or ("" if before is value else "l2_normalization")
        for value, (_, activation), before in zip(values, before_activation, pre_normalization, strict=True)
    ]
    names = getattr(model, "output_names", None) or ()
    said = loss_says_classes(model, names, len(values))
    return FoundOutputs(
        [logits for logits, _ in before_activation],
        ["logits" if not name and says else name for name, says in zip(final_activations, said, strict=True)],
        pre_normalization,
        tuple(names) if len(names) == len(values) else (),
    )


def rebuilt_tensor(rebuilt: Rebuilt, tensor_of: Callable[[Value], Tensor]) -> Tensor:
    """Computes scores before an activation, differentiably.

    Args:
        rebuilt: The scores.
        tensor_of: Gives the tensor that a value of the graph is in a pass of the model.
    """
    if isinstance(rebuilt, Value):
        return tensor_of(rebuilt)
    if rebuilt.operation.apply is None:
        raise TypeError(f"{rebuilt.operation.name} cannot be done to other tensors")
    return rebuilt.operation.apply([rebuilt_tensor(source, tensor_of) for source in rebuilt.inputs])[rebuilt.position]


def value_of(rebuilt: Rebuilt) -> Value:
    """Returns the value that stands for scores in the graph: themselves before they are moved, the first of several."""
    while isinstance(rebuilt, Repeated):
        rebuilt = rebuilt.inputs[min(_moved(rebuilt.operation))]
    return rebuilt


# ---------------------------------------------------------------------------------------------------- final activations


def _before_final_activation(output: Value) -> tuple[Rebuilt, str]:
    """Returns the scores before the softmax or sigmoid that ``output`` ends in and the name of that activation.

    What lies behind the activation and only casts, clips or moves its values is done to the scores too. Values that
    come from such activations but cannot be led back to scores (an average of two networks) are "probabilities".
    """
    logits, name = _logits(output)
    if name:
        return logits, name
    low, high = _range(output, {})
    return output, "probabilities" if low >= -_ROUNDING and high <= 1 + _ROUNDING else ""


def _logits(value: Value) -> tuple[Rebuilt, str]:
    """Returns the scores that a value is made of and the activation, (itself, "") if it is made of none."""
    operation = value.producer
    if operation is None:
        return value, ""
    activation = _activation(value)
    if activation is not None:
        return activation
    if operation.rule == ELEMENTWISE and operation.function in _PASS_THROUGH | _CLIPS:
        content = [source for source in operation.inputs if source.number() is None]
        logits, name = _logits(content[0]) if len(content) == 1 else (value, "")
        return (logits, name) if name else (value, "")
    parts = {position: _logits(operation.inputs[position]) for position in _moved(operation)}
    names = {name for _, name in parts.values()}
    # Scores before several softmaxes cannot be compared with one another.
    if len(names) != 1 or names == {""} or (len(parts) > 1 and names <= {"softmax", "log_softmax"}):
        return value, ""
    inputs = [parts[position][0] if position in parts else source for position, source in enumerate(operation.inputs)]
    return Repeated(operation, tuple(inputs), value.position), names.pop()


def _moved(operation: Operation) -> Sequence[int]:
    """Returns the positions of the inputs whose elements an operation moves without changing them."""
    if operation.rule == RESHAPE:
        return [0]
    return sorted(operation.parameters["moved"]) if operation.rule == MOVE else []


def _activation(value: Value) -> tuple[Value, str] | None:
    """Returns the input and the name of the final activation that a value is the result of, or None."""
    operation = value.producer
    if operation is None or value.origin != INPUT:
        return None
    if operation.function in _FINAL_ACTIVATIONS:
        return operation.inputs[0], operation.function
    # A softmax that is written out is exp(z) / sum(exp(z)), its logarithm z - log(sum(exp(z))), and z is x - max(x).
    if operation.function not in ("divide", "subtract") or len(operation.inputs) != 2:
        return None
    shifted, name = operation.inputs[0], "log_softmax"
    if operation.function == "divide":
        exponential = _without(_PASS_THROUGH, shifted).producer
        if exponential is None or exponential.function != "exp":
            return None
        shifted, name = exponential.inputs[0], "softmax"
    candidates, inner = [shifted], _without(_PASS_THROUGH, shifted).producer
    if inner is not None and inner.function == "subtract":
        candidates.insert(0, inner.inputs[0])
    return next(((scores, name) for scores in candidates if _is_softmax_of(value, scores, name)), None)


def _without(functions: set[str], value: Value) -> Value:
    """Returns what a value is before some functions of one input are applied to it."""
    while value.producer is not None and value.producer.function in functions:
        value = value.producer.inputs[0]
    return value


def _is_softmax_of(value: Value, scores: Value, name: str) -> bool:
    """Returns whether a value is the softmax, or its logarithm, of scores along one axis or all but the first."""
    if value.shape != scores.shape or len(value.shape) < 2:
        return False
    steps = steps_between(scores, value)
    if not any(step.rule == REDUCE for step in steps):
        return False
    numbers = np.random.default_rng(0).normal(size=scores.shape)
    found = computed(scores, numbers, steps, value)
    if found is None:
        return False
    rank = len(value.shape)
    for axes in (*((axis,) for axis in range(1, rank)), tuple(range(1, rank))):
        expected = numbers - np.log(np.exp(numbers).sum(axis=axes, keepdims=True))
        if np.abs(found - (np.exp(expected) if name == "softmax" else expected)).max() < _TOLERANCE:
            return True
    return False


# --------------------------------------------------------------------------------------------------------------- ranges


def _range(value: Value, known: dict[int, tuple[float, float]]) -> tuple[float, float]:
    """Returns bounds of a tensor's values that follow from the operations that it is computed by."""
    if id(value) not in known:
        known[id(value)] = _UNBOUNDED  # where nothing else is known
        known[id(value)] = _range_of(value, known)
    return known[id(value)]


def _range_of(value: Value, known: dict[int, tuple[float, float]]) -> tuple[float, float]:
    constant, operation = value.number(), value.producer
    if constant is not None:
        return constant, constant
    if operation is None or not operation.inputs:
        return _UNBOUNDED
    function, inputs = operation.function, operation.inputs
    if function in _RANGES:
        return _RANGES[function]
    if function == "power" and len(inputs) == 2 and (inputs[1].number() or 1.0) % 2 == 0:
        return _RANGES["square"]
    if _moved(operation):
        return _hull([_range(inputs[position], known) for position in _moved(operation)])
    if function == "where":
        return _hull([_range(source, known) for source in inputs[1:]])
    if function in _PASS_THROUGH or (operation.rule == REDUCE and function in _BETWEEN):
        return _range(inputs[0], known)
    activation = _activation(value)
    if activation is not None:
        return _RANGES.get(activation[1], _UNBOUNDED)
    if function == "sum" and operation.rule == REDUCE:
        count = math.prod(inputs[0].shape) / max(math.prod(value.shape), 1)
        low, high = _range(inputs[0], known)
        return low * count, high * count
    if function == "clip":
        low, high = _range(inputs[0], known)
        bottom, top = (_range(source, known) for source in inputs[1:])
        return min(max(low, bottom[0]), top[1]), max(min(high, top[1]), bottom[0])
    if function == "add":  # of any number of terms
        bounds = [_range(source, known) for source in inputs]
        return sum(low for low, _ in bounds), sum(high for _, high in bounds)
    if function in _ARITHMETIC:
        ends = [[np.float64(end) for end in _range(source, known)] for source in inputs]
        with np.errstate(all="ignore"):
            corners = [_ARITHMETIC[function](*corner) for corner in itertools.product(*ends)]
        return (float(min(corners)), float(max(corners))) if not np.isnan(corners).any() else _UNBOUNDED
    return _UNBOUNDED


def _hull(bounds: Sequence[tuple[float, float]]) -> tuple[float, float]:
    return min(low for low, _ in bounds), max(high for _, high in bounds)


# -------------------------------------------------------------------------------------------------------- normalisation


def _before_normalization(output: Value) -> Value:
    """Returns what stands before the L2 normalisation (and constant factors after it) that ``output`` ends in.

    Where it ends in none, that is ``output`` itself.
    """
    value = output
    while value.producer is not None and value.origin == INPUT:
        operation = value.producer
        function, inputs = operation.function, operation.inputs
        if function in _PASS_THROUGH or operation.rule == RESHAPE or _adds_axes(operation):
            value = inputs[0]
            continue
        if function not in ("multiply", "divide", "add") or len(inputs) != 2:
            break
        orders = (inputs,) if function == "divide" else (inputs, inputs[::-1])
        inner = next((vector for vector, other in orders if _keeps_direction(function, vector, other)), None)
        if inner is None:
            return next((vector for vector, scale in orders if _is_normalized(function, vector, scale)), output)
        value = inner
    return output


def _adds_axes(operation: Operation) -> bool:
    """Returns whether an operation moves all elements of one tensor to where they were but for axes of length one."""
    if operation.rule != MOVE or list(_moved(operation)) != [0] or len(operation.outputs) > 1:
        return False
    source, result = operation.inputs[0], operation.outputs[0]
    if [extent for extent in source.shape if extent != 1] != [extent for extent in result.shape if extent != 1]:
        return False
    numbers = np.arange(float(math.prod(source.shape))).reshape(source.shape)
    moved = run_on(operation, [numbers, *(numbers_of(other) for other in operation.inputs[1:])])
    return moved is not None and np.array_equal(np.ravel(moved[0]), np.ravel(numbers))


def _keeps_direction(function: str, vector: Value, other: Value) -> bool:
    """Returns whether a vector is multiplied or divided by one number, learned perhaps, or has zeros added."""
    number = other.number()
    if vector.origin != INPUT or function == "add":
        return vector.origin == INPUT and number == 0
    return number is not None or (other.origin in (WEIGHT, CONSTANT) and math.prod(_unmoved(other).shape) == 1)


def _unmoved(value: Value) -> Value:
    """Returns the value that a value is a copy of, in other places: before it was broadcast."""
    while value.producer is not None and (
        value.producer.function in _PASS_THROUGH or list(_moved(value.producer)) == [0]
    ):
        value = value.producer.inputs[0]
    return value


def _is_normalized(function: str, vector: Value, scale: Value) -> bool:
    """Returns whether ``vector``, multiplied or divided by ``scale``, is the unit vector of each sample, many times.

    It is if it comes out as one for any vectors, the scale being computed from the vector alone.
    """
    if function == "add" or vector.shape[0:1] in ((), (0,)) or math.prod(vector.shape[1:]) <= 1:
        return False
    scale = _without_factors(scale)
    steps = steps_between(vector, scale)
    if not steps or any(step.function == "stop_gradient" for step in steps):
        return False
    samples = (len(_LENGTHS), vector.shape[0])
    directions = np.random.default_rng(0).normal(size=(*samples, math.prod(vector.shape[1:])))
    directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
    for length, units in zip(_LENGTHS, directions, strict=True):
        lengths = np.linspace(length, 1.5 * length, vector.shape[0])[:, None]
        numbers = (units * lengths).reshape(vector.shape)
        factor = computed(vector, numbers, steps, scale)
        try:
            with np.errstate(all="ignore"):
                unit = numbers * factor if function == "multiply" else numbers / factor
        except NOT_COMPUTED:
            return False
        if unit.shape != vector.shape or not np.abs(unit.reshape(units.shape) - units).max() <= _SLACK:
            return False
    return True


def _without_factors(scale: Value) -> Value:
    """Returns what a scale is but for constant factors."""
    while (operation := scale.producer) is not None and operation.function in ("multiply", "divide"):
        one, other = operation.inputs
        if other.number() is not None:
            scale = one
        elif one.number() is not None and operation.function == "multiply":
            scale = other
        else:
            break
    return scale
