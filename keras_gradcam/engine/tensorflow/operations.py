"""Runs TensorFlow's operations again, on other tensors or on arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

# Where tf.raw_ops calls an argument otherwise than the operation does.
_RENAMED = {"reduction_indices": "axis", "split_dim": "axis", "squeeze_dims": "axis"}


def attribute(op: tf.Operation, name: str) -> Any:
    """Returns an attribute of an operation, or None if it has no such attribute."""
    return op.get_attr(name) if name in op.node_def.attr else None


def text(value: Any) -> Any:
    """Decodes ``value`` if it is a string as TensorFlow keeps them."""
    return value.decode() if isinstance(value, bytes) else value


def _positions(op: tf.Operation) -> list[tuple[Any, range]]:
    """Returns each argument of an operation's definition with the positions of its inputs."""
    position, result = 0, []
    for argument in op.op_def.input_arg:
        count = op.get_attr(argument.number_attr) if argument.number_attr else 1
        result.append((argument, range(position, position + count)))
        position += count
    return result


def carried(op: tf.Operation) -> set[int]:
    """Returns the positions of the inputs whose elements an operation moves; the others say where to."""
    moving = op.op_def.output_arg[0].type_attr
    return {index for argument, indices in _positions(op) if argument.type_attr == moving for index in indices}


def _attributes(op: tf.Operation) -> dict[str, Any]:
    """Returns the attributes of an operation, by name, but for those that follow from its inputs."""
    definition = op.op_def
    inferred = {name for argument in definition.input_arg for name in (argument.type_attr, argument.number_attr)}
    return {
        _RENAMED.get(attribute.name, attribute.name): text(op.get_attr(attribute.name))
        for attribute in definition.attr
        if attribute.name not in inferred
    }


def repeated(op: tf.Operation, inputs: Sequence[Any]) -> list[Any]:
    """Applies an operation to other inputs, tensors or arrays in their order; returns its results."""
    arguments = {
        _RENAMED.get(argument.name, argument.name): (
            [inputs[index] for index in indices] if argument.number_attr else inputs[indices[0]]
        )
        for argument, indices in _positions(op)
    }
    result = getattr(tf.raw_ops, op.type)(**arguments, **_attributes(op))
    return [result] if tf.is_tensor(result) else list(result)


def evaluated(op: tf.Operation, inputs: Sequence[Any]) -> list[np.ndarray]:
    """Returns the results of an operation for other inputs as arrays."""
    # Outside of the graph that is being made, if one is.
    with tf.init_scope(), tf.device("CPU:0"):
        return [tensor.numpy() for tensor in repeated(op, inputs)]
