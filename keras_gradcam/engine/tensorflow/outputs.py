"""Finds the scores before a softmax or sigmoid, and embeddings before an L2 normalisation, in a graph."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ..base import Outputs, Structure
from ..model import loss_says_classes
from .kinds import MOVES, RESHAPES
from .operations import carried, repeated

# Type of the operation -> name of the activation.
_FINAL_ACTIVATIONS = {"Softmax": "softmax", "LogSoftmax": "log_softmax", "Sigmoid": "sigmoid"}

_UNBOUNDED = (-math.inf, math.inf)

# Type of the operation -> bounds of its results, whatever its input.
_RANGES = {
    "Relu": (0.0, math.inf),
    "Relu6": (0.0, 6.0),
    "Sigmoid": (0.0, 1.0),
    "Softmax": (0.0, 1.0),
    "Square": (0.0, math.inf),
    "Tanh": (-1.0, 1.0),
}

# Operations whose largest and smallest results come from the ends of what they are computed from.
_ARITHMETIC = {
    "Add": np.add,
    "AddV2": np.add,
    "Maximum": np.maximum,
    "Minimum": np.minimum,
    "Mul": np.multiply,
    "RealDiv": np.divide,
    "Sub": np.subtract,
}

# What may stand behind a final activation.
_PASS_THROUGH = {"Identity", "Cast", "StopGradient", "EnsureShape"}

# What may stand behind a normalisation without changing the direction, but for constant factors.
_RESHAPING = {*_PASS_THROUGH, "Reshape", "Squeeze", "ExpandDims"}

# What an L2 norm, or its inverse, is computed with beside squares, a sum and a root.
_NORM = {
    *("Square", "Mul", "Abs", "Sum", "Sqrt", "Rsqrt", "Reciprocal", "RealDiv", "Maximum", "Minimum", "AddV2"),
    *("Squeeze", "ExpandDims", "Reshape", "StridedSlice", "Shape", "Pack", "Const", "Identity", "Cast"),
}

_POWERS = {2.0: "Square", 0.5: "Sqrt", -0.5: "Rsqrt", -1.0: "Reciprocal"}

# The largest number that may be added to a norm to keep it from zero.
_EPSILON = 1e-2


def _before_final_activation(output: tf.Tensor) -> tuple[tf.Tensor, str]:
    """Returns the scores before the softmax or sigmoid that ``output`` ends in and the name of that activation.

    What lies behind the activation and only casts, clips or moves its values is done to the scores too. Values that
    come from such activations but cannot be led back to scores (an average of two networks) are "probabilities".
    """
    logits, name = _logits(output)
    if name:
        return logits, name
    low, high = _range(output, {})
    return output, "probabilities" if low >= 0 and high <= 1 else ""


def _logits(tensor: tf.Tensor) -> tuple[tf.Tensor, str]:
    """Returns the scores that a tensor is made of and the activation, ("", itself) if it is made of none."""
    op = tensor.op
    if op.type in _FINAL_ACTIVATIONS:
        return op.inputs[0], _FINAL_ACTIVATIONS[op.type]
    if op.type in _PASS_THROUGH:
        return _logits_or(tensor, *_logits(op.inputs[0]))
    if op.type in ("ClipByValue", "Maximum", "Minimum"):
        content = [source for source in op.inputs if _constant(source) is None]
        return _logits_or(tensor, *_logits(content[0])) if len(content) == 1 else (tensor, "")
    if op.type not in MOVES | RESHAPES:
        return tensor, ""
    moved = carried(op) if op.type in MOVES else {0}
    parts = {position: _logits(op.inputs[position]) for position in moved}
    names = {name for _, name in parts.values()}
    # Scores before several softmaxes cannot be compared with one another.
    if len(names) != 1 or names == {""} or (len(parts) > 1 and names <= {"softmax", "log_softmax"}):
        return tensor, ""
    inputs = [parts[position][0] if position in parts else source for position, source in enumerate(op.inputs)]
    return repeated(op, inputs)[tensor.value_index], names.pop()


def _logits_or(tensor: tf.Tensor, logits: tf.Tensor, name: str) -> tuple[tf.Tensor, str]:
    return (logits, name) if name else (tensor, "")


def _range(tensor: tf.Tensor, known: dict[int, tuple[float, float]]) -> tuple[float, float]:
    """Returns bounds of a tensor's values that follow from the operations that it is computed by."""
    if id(tensor) not in known:
        known[id(tensor)] = _UNBOUNDED  # where nothing else is known
        known[id(tensor)] = _range_of(tensor, known)
    return known[id(tensor)]


def _range_of(tensor: tf.Tensor, known: dict[int, tuple[float, float]]) -> tuple[float, float]:
    op, constant = tensor.op, _constant(tensor)
    if constant is not None:
        return constant, constant
    if op.type in _RANGES:
        return _RANGES[op.type]
    if op.type in _PASS_THROUGH | RESHAPES | {"Max", "Mean", "Min"}:
        return _range(op.inputs[0], known)
    if op.type in MOVES | {"SelectV2"}:
        sources = carried(op) if op.type in MOVES else {1, 2}
        return _hull([_range(op.inputs[position], known) for position in sources])
    if op.type == "AddN":
        bounds = [_range(source, known) for source in op.inputs]
        return sum(low for low, _ in bounds), sum(high for _, high in bounds)
    if op.type in _ARITHMETIC and len(op.inputs) == 2:
        (a, b), (c, d) = (_range(source, known) for source in op.inputs)
        with np.errstate(all="ignore"):
            corners = [_ARITHMETIC[op.type](np.float64(x), np.float64(y)) for x in (a, b) for y in (c, d)]
        return (min(corners), max(corners)) if not np.isnan(corners).any() else _UNBOUNDED
    if op.type == "ClipByValue":
        low, high = _range(op.inputs[0], known)
        bottom, top = (_range(source, known) for source in op.inputs[1:])
        return min(max(low, bottom[0]), top[1]), max(min(high, top[1]), bottom[0])
    return _UNBOUNDED


def _hull(bounds: Sequence[tuple[float, float]]) -> tuple[float, float]:
    return min(low for low, _ in bounds), max(high for _, high in bounds)


def _before_normalization(output: tf.Tensor) -> tf.Tensor:
    """Returns what stands before the L2 normalisation (and constant factors after it) that ``output`` ends in.

    Where it ends in none, that is ``output`` itself.
    """
    tensor = output
    while True:
        if tensor.op.type in _RESHAPING:
            tensor = tensor.op.inputs[0]
            continue
        if tensor.op.type not in ("Mul", "RealDiv", "AddV2"):
            return output
        vector, scale = tensor.op.inputs
        if tensor.op.type != "RealDiv" and (
            vector.shape.num_elements() == 1 or _constant(vector) is not None or vector.shape[-1] == 1
        ):
            vector, scale = scale, vector
        constant = _constant(scale)
        is_sum = tensor.op.type == "AddV2"
        learned = not is_sum and scale.shape.num_elements() == 1
        if learned or (constant is not None and (constant == 0) == is_sum):
            tensor = vector
            continue
        return vector if not is_sum and _is_norm_of(scale, vector, tensor.op.type == "Mul") else output


def _constant(tensor: tf.Tensor) -> float | None:
    """Returns the value of a tensor that is one number everywhere and always, or None."""
    value = tf.get_static_value(tensor)
    return float(value.flat[0]) if value is not None and value.size and (value == value.flat[0]).all() else None


def _is_norm_of(scale: tf.Tensor, tensor: tf.Tensor, inverse: bool) -> bool:
    """Returns whether ``scale`` is the L2 norm of each sample of ``tensor`` or, with ``inverse``, its inverse."""
    one_per_sample = scale.shape.rank == tensor.shape.rank and all(extent == 1 for extent in scale.shape[1:])
    if not one_per_sample or tensor.shape[1:].num_elements() == 1:
        return False
    types: set[str] = set()
    pending = [scale]
    while pending:
        step = pending.pop()
        if step is tensor:
            continue
        kind, inputs = step.op.type, list(step.op.inputs)
        constants = [value for value in map(_constant, inputs) if value is not None]
        if kind == "Pow":
            kind, inputs = _POWERS.get(constants[0] if constants else 0.0, "Pow"), inputs[:1]
        # More than an epsilon beside the squares, or a quotient of two things that vary, is no plain norm.
        if (kind == "AddV2" and not any(abs(value) <= _EPSILON for value in constants)) or (
            kind == "RealDiv" and _constant(inputs[0]) is None
        ):
            return False
        types.add(kind)
        pending.extend(inputs)
    inverted = "Rsqrt" in types or ("Sqrt" in types and bool(types & {"Reciprocal", "RealDiv"}))
    rooted = inverted if inverse else "Sqrt" in types and not inverted
    return rooted and "Sum" in types and bool(types & {"Square", "Mul"}) and types <= _NORM


def model_outputs(model: Any, predictions: Structure) -> Outputs:
    """Finds logits, final activations and embeddings before normalisation in the graph of a model's outputs.

    Where the model returns None instead of an output, None stands in all of them.
    """
    flat = [None if leaf is None else tf.convert_to_tensor(leaf) for leaf in tf.nest.flatten(predictions)]
    before_activation = [(None, "") if leaf is None else _before_final_activation(leaf) for leaf in flat]
    pre_normalization = [None if leaf is None else _before_normalization(leaf) for leaf in flat]
    final_activations = [
        activation or ("" if before is leaf else "l2_normalization")
        for leaf, (_, activation), before in zip(flat, before_activation, pre_normalization, strict=True)
    ]

    def pack(leaves: Sequence[Any]) -> Structure:
        return tf.nest.pack_sequence_as(predictions, leaves)

    names = getattr(model, "output_names", None) or ()
    said = loss_says_classes(model, names, len(flat))
    final_activations = [
        "logits" if not activation and says else activation
        for activation, says in zip(final_activations, said, strict=True)
    ]
    return Outputs(
        pack(flat),
        pack([logits for logits, _ in before_activation]),
        pack(final_activations),
        pack(pre_normalization),
        tuple(names) if len(names) == len(flat) else (),
    )


def shapes_of(outputs: Outputs) -> Outputs:
    """Returns the outputs with shapes and dtypes in place of tensors, for checks on targets."""

    def shape(tensor: tf.Tensor | None) -> keras.KerasTensor | None:
        return None if tensor is None else keras.KerasTensor(tensor.shape, dtype=tensor.dtype.name)

    return replace(
        outputs,
        predictions=tf.nest.map_structure(shape, outputs.predictions),
        logits=tf.nest.map_structure(shape, outputs.logits),
        pre_normalization=tf.nest.map_structure(shape, outputs.pre_normalization),
    )
