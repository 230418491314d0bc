"""Finds the scores before a softmax or sigmoid, and embeddings before an L2 normalisation, in a graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import keras
import tensorflow as tf

from ..base import Outputs, Structure

_FINAL_ACTIVATIONS = {"Softmax": "softmax", "LogSoftmax": "log_softmax", "Sigmoid": "sigmoid"}

_PASS_THROUGH = {"Identity", "Cast", "StopGradient", "EnsureShape"}


# What may stand behind a normalisation without changing the direction, but for constant factors.
_RESHAPING = {*_PASS_THROUGH, "Reshape", "Squeeze", "ExpandDims"}

# What an L2 norm, or its inverse, is computed with beside squares, a sum and a root.
_NORM = {
    *("Square", "Mul", "Abs", "Sum", "Sqrt", "Rsqrt", "Reciprocal", "RealDiv", "Maximum", "Minimum", "AddV2"),
    *("Squeeze", "ExpandDims", "Reshape", "StridedSlice", "Shape", "Pack", "Const", "Identity", "Cast"),
}

_POWERS = {2.0: "Square", 0.5: "Sqrt", -0.5: "Rsqrt", -1.0: "Reciprocal"}

# What keeps a norm from zero is no larger than this.
_EPSILON = 1e-2


def _before_final_activation(output: tf.Tensor) -> tuple[tf.Tensor, str]:
    """The scores before the softmax or sigmoid that ``output`` ends in, and the name of that final_activation."""
    tensor = output
    while tensor.op.type in _PASS_THROUGH:
        tensor = tensor.op.inputs[0]
    final_activation = _FINAL_ACTIVATIONS.get(tensor.op.type, "")
    return (tensor.op.inputs[0], final_activation) if final_activation else (output, "")


def _before_normalization(output: tf.Tensor) -> tf.Tensor:
    """What stands before the L2 normalisation (and a fixed factor after it) that ``output`` ends in, or ``output``."""
    tensor = output
    while True:
        if tensor.op.type in _RESHAPING:
            tensor = tensor.op.inputs[0]
            continue
        if tensor.op.type not in ("Mul", "RealDiv", "AddV2"):
            return output
        one, other = tensor.op.inputs
        if tensor.op.type != "RealDiv" and (
            one.shape.num_elements() == 1 or _constant(one) is not None or one.shape[-1] == 1
        ):
            one, other = other, one
        constant = _constant(other)
        learned = tensor.op.type != "AddV2" and other.shape.num_elements() == 1
        if learned or (constant is not None and (constant == 0) == (tensor.op.type == "AddV2")):
            tensor = one
            continue
        return one if tensor.op.type != "AddV2" and _is_norm_of(other, one, tensor.op.type == "Mul") else output


def _constant(tensor: tf.Tensor) -> float | None:
    """The value of a tensor that is one number everywhere and always, or None."""
    value = tf.get_static_value(tensor)
    return float(value.flat[0]) if value is not None and value.size and (value == value.flat[0]).all() else None


def _is_norm_of(scale: tf.Tensor, tensor: tf.Tensor, inverse: bool) -> bool:
    """Whether ``scale`` is one number per sample, computed as the L2 norm of ``tensor`` or, if wanted, its inverse."""
    one_per_sample = scale.shape.rank == tensor.shape.rank and all(extent == 1 for extent in scale.shape[1:])
    if not one_per_sample or tensor.shape[1:].num_elements() == 1:
        return False
    types: set[str] = set()
    todo = [scale]
    while todo:
        one = todo.pop()
        if one is tensor:
            continue
        kind, inputs = one.op.type, list(one.op.inputs)
        constants = [value for value in map(_constant, inputs) if value is not None]
        if kind == "Pow":
            kind, inputs = _POWERS.get(constants[0] if constants else 0.0, "Pow"), inputs[:1]
        # More than an epsilon beside the squares, or a quotient of two things that vary, is no plain norm.
        if (kind == "AddV2" and not any(abs(value) <= _EPSILON for value in constants)) or (
            kind == "RealDiv" and _constant(inputs[0]) is None
        ):
            return False
        types.add(kind)
        todo.extend(inputs)
    inverted = "Rsqrt" in types or ("Sqrt" in types and bool(types & {"Reciprocal", "RealDiv"}))
    rooted = inverted if inverse else "Sqrt" in types and not inverted
    return rooted and "Sum" in types and bool(types & {"Square", "Mul"}) and types <= _NORM


def _model_outputs(model: Any, predictions: Structure) -> Outputs:
    flat = [tf.convert_to_tensor(leaf) for leaf in tf.nest.flatten(predictions)]
    before_activation = [_before_final_activation(leaf) for leaf in flat]
    pre_normalization = [_before_normalization(leaf) for leaf in flat]
    final_activations = [
        activation or ("" if before is leaf else "l2_normalization")
        for leaf, (_, activation), before in zip(flat, before_activation, pre_normalization, strict=True)
    ]

    def pack(leaves: Sequence[Any]) -> Structure:
        return tf.nest.pack_sequence_as(predictions, leaves)

    names = getattr(model, "output_names", None) or ()
    return Outputs(
        pack(flat),
        pack([logits for logits, _ in before_activation]),
        pack(final_activations),
        pack(pre_normalization),
        tuple(names) if len(names) == len(flat) else (),
    )


def _shapes(outputs: Outputs) -> Outputs:
    def shape(tensor: tf.Tensor) -> keras.KerasTensor:
        return keras.KerasTensor(tensor.shape, dtype=tensor.dtype.name)

    return replace(
        outputs,
        predictions=tf.nest.map_structure(shape, outputs.predictions),
        logits=tf.nest.map_structure(shape, outputs.logits),
        pre_normalization=tf.nest.map_structure(shape, outputs.pre_normalization),
    )
