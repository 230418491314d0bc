"""The guided backpropagation rule for TensorFlow operations.

Guided backpropagation (Springenberg et al. 2015, https://arxiv.org/abs/1412.6806) lets only positive upstream
gradients through a rectifier and then applies the rectifier's own derivative:

    guided(g) = f'(x) * max(g, 0)

For ReLU that is the familiar "upstream gradient positive and unit active"; on the plateau of ReLU6 nothing passes;
below the threshold of a leaky ReLU the slope times the positive part of g passes. The rule is attached to
operations of a graph after the forward pass has been traced, so it does not matter who created them, and it is
applied only inside :func:`guided`: the same operations give ordinary gradients otherwise.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from ..base import GuidedCoverage

# Marks the operations of the rule itself among those of a model.
_GATE = "keras_gradcam_gate"

_guided = contextvars.ContextVar("keras_gradcam_guided", default=False)

# Operations whose body is another graph, which the rule does not reach.
_CONTROL_FLOW = {"If", "StatelessIf", "While", "StatelessWhile", "Case", "PartitionedCall", "StatefulPartitionedCall"}

# Rectifiers that can be told by the type of the operation alone.
_PLAIN = {"Relu", "Relu6", "LeakyRelu"}

# Smooth activations, to say what a model without rectifiers has instead.
_SMOOTH = {"Elu": "elu", "Selu": "selu", "Tanh": "tanh", "Erf": "gelu", "Softplus": "softplus", "Softsign": "softsign"}


@contextlib.contextmanager
def guided() -> Iterator[None]:
    """Makes gradients that are taken inside this context follow the guided rule."""
    token = _guided.set(True)
    try:
        yield
    finally:
        _guided.reset(token)


def _gate(gradient: tf.Tensor) -> tf.Tensor:
    return tf.nn.relu(gradient, name=_GATE) if _guided.get() else gradient


def _relu_gradient(op: tf.Operation, gradient: tf.Tensor) -> tf.Tensor:
    factor = negative_part_factor(op)
    if _guided.get() and factor is not None:
        # This is the lower half of a two-sided rectifier, reached by factor * g instead of g.
        gradient = tf.where(gradient * factor > 0, gradient, tf.zeros_like(gradient))
    else:
        gradient = _gate(gradient)
    return tf.raw_ops.ReluGrad(gradients=gradient, features=op.outputs[0])


def _relu6_gradient(op: tf.Operation, gradient: tf.Tensor) -> tf.Tensor:
    return tf.raw_ops.Relu6Grad(gradients=_gate(gradient), features=op.outputs[0])


def _leaky_relu_gradient(op: tf.Operation, gradient: tf.Tensor) -> tf.Tensor:
    return tf.raw_ops.LeakyReluGrad(gradients=_gate(gradient), features=op.inputs[0], alpha=op.get_attr("alpha"))


def _select_gradient(op: tf.Operation, gradient: tf.Tensor) -> tuple[None, tf.Tensor, None]:
    condition, x, _ = op.inputs
    return None, tf.where(condition, _gate(gradient), tf.zeros_like(x)), None


def _masked_gradient(op: tf.Operation, gradient: tf.Tensor) -> list[tf.Tensor | None]:
    data, mask = _masked_operands(op) or (0, 1)
    result: list[tf.Tensor | None] = [None, None]
    result[data] = _gate(gradient) * op.inputs[mask]
    return result


def _maximum_gradient(op: tf.Operation, gradient: tf.Tensor) -> list[tf.Tensor | None]:
    data = 1 if _is_constant(op.inputs[0], 0.0) else 0
    result: list[tf.Tensor | None] = [None, None]
    # At x == 0 TensorFlow's own rule lets the gradient of the first operand through.
    active = op.inputs[data] >= 0 if data == 0 else op.inputs[data] > 0
    result[data] = tf.where(active, _gate(gradient), tf.zeros_like(gradient))
    return result


def _is_constant(tensor: tf.Tensor, value: float | None = None) -> bool:
    while tensor.op.type in {"Cast", "Identity"}:
        tensor = tensor.op.inputs[0]
    if tensor.op.type != "Const":
        return False
    if value is None:
        return True
    array = tf.make_ndarray(tensor.op.get_attr("value"))
    return array.size == 1 and float(np.asarray(array, "float64").reshape(())) == value


def _is_greater_than_constant(condition: tf.Tensor, x: tf.Tensor) -> bool:
    op = condition.op
    return op.type == "Greater" and op.inputs[0] is x and _is_constant(op.inputs[1])


def _is_thresholded_select(op: tf.Operation) -> bool:
    """Returns whether ``op`` is ``where(x > threshold, x, 0)``."""
    condition, x, otherwise = op.inputs
    return _is_constant(otherwise, 0.0) and _is_greater_than_constant(condition, x)


def _masked_operands(op: tf.Operation) -> tuple[int, int] | None:
    """Returns the positions of x and the mask in ``x * cast(x > threshold)``, or None if ``op`` is something else."""
    for data, mask in ((0, 1), (1, 0)):
        cast = op.inputs[mask].op
        if cast.type == "Cast" and _is_greater_than_constant(cast.inputs[0], op.inputs[data]):
            return data, mask
    return None


def _is_hard_sigmoid(op: tf.Operation) -> bool:
    """Returns whether ``op`` is ``relu6(x + 3)``: a cheap sigmoid, which multiplies features and rectifies none."""
    add = op.inputs[0].op
    return add.type in {"Add", "AddV2"} and any(_is_constant(operand, 3.0) for operand in add.inputs)


def _source(tensor: tf.Tensor) -> tf.Tensor:
    """Returns the x in ``relu(x)``, ``relu6(x)``, ``where(x > t, x, 0)``, ``x * (x > t)``, also clipped."""
    for _ in range(4):
        op = tensor.op
        if op.type in {"Maximum", "Minimum"}:
            tensor = op.inputs[0]
        elif op.type in {"Relu", "Relu6"}:
            return op.inputs[0]
        elif op.type == "SelectV2":
            return op.inputs[1]
        elif op.type == "Mul" and (operands := _masked_operands(op)) is not None:
            return op.inputs[operands[0]]
        else:
            break
    return tensor


def negative_part_factor(op: tf.Operation) -> tf.Tensor | None:
    """Returns the factor by which a two-sided rectifier multiplies its lower half, or None if ``op`` is not that half.

    Keras writes leaky rectifiers with a threshold or a maximum as ``positive(x) - slope * relu(threshold - x)`` and
    PReLU as ``relu(x) + (-alpha) * relu(-x)``. The ReLU in the second term is no unit of its own.
    """
    x = op.inputs[0].op
    if x.type in {"Add", "AddV2"} and x.inputs[0].op.type == "Neg":
        x = x.inputs[0].op
    if x.type != "Neg":
        return None
    # Backward passes that were taken before this one have added consumers of their own, so all are looked at.
    for product in op.outputs[0].consumers():
        if product.type != "Mul":
            continue
        factor = product.inputs[1] if product.inputs[0] is op.outputs[0] else product.inputs[0]
        for total in product.outputs[0].consumers():
            if total.type in {"Sub", "AddV2", "Add"}:
                position = 0 if total.inputs[0] is product.outputs[0] else 1
                if _source(total.inputs[1 - position]) is x.inputs[0]:
                    return -factor if total.type == "Sub" and position == 1 else factor
    return None


def _always(op: tf.Operation) -> bool:
    return True


# Type of the operation -> (is it a rectifier?, its guided gradient, the name the gradient is registered under)
_RULES: dict[str, tuple[Callable[[Any], bool], Callable[..., Any], str]] = {
    "Relu": (_always, _relu_gradient, "KerasGradcamRelu"),
    "Relu6": (lambda op: not _is_hard_sigmoid(op), _relu6_gradient, "KerasGradcamRelu6"),
    "LeakyRelu": (_always, _leaky_relu_gradient, "KerasGradcamLeakyRelu"),
    "SelectV2": (_is_thresholded_select, _select_gradient, "KerasGradcamSelect"),
    "Mul": (lambda op: _masked_operands(op) is not None, _masked_gradient, "KerasGradcamMask"),
    "Maximum": (
        lambda op: any(_is_constant(operand, 0.0) for operand in op.inputs),
        _maximum_gradient,
        "KerasGradcamMaximum",
    ),
}

for _, _function, _name in _RULES.values():
    tf.RegisterGradient(_name)(_function)


def attach_guided_rule(graph: tf.Graph) -> GuidedCoverage:
    """Gives every rectifying operation of ``graph`` the gradient of this module and returns what was found."""
    reached: Counter[str] = Counter()
    others: set[str] = set()
    control_flow = False
    for op in graph.get_operations():
        control_flow = control_flow or op.type in _CONTROL_FLOW
        if op.type in _SMOOTH:
            others.add(_SMOOTH[op.type])
        if op.type in _RULES:
            is_rectifier, _, name = _RULES[op.type]
            if is_rectifier(op):
                op._set_attr("_gradient_op_type", tf.compat.v1.AttrValue(s=name.encode()))
                reached[op.type] += 1
    unreached = 0
    if control_flow:
        for function in graph.as_graph_def().library.function:
            unreached += sum(node.op in _PLAIN for node in function.node_def)
    return GuidedCoverage(dict(reached), unreached, tuple(sorted(others)))


def count_recomputed(graph: tf.Graph, forward_operations: int) -> int:
    """Counts the rectifiers that a backward pass has added to a graph after the operations of its forward pass.

    ``keras.remat`` runs a part of the model again in the backward pass and differentiates that, out of reach.
    """
    later = graph.get_operations()[forward_operations:]
    return sum(op.type in _PLAIN and _GATE not in op.name for op in later)
