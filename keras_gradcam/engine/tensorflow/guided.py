"""The guided backpropagation rule for TensorFlow operations.

Guided backpropagation (Springenberg et al. 2015, https://arxiv.org/abs/1412.6806) lets only positive upstream
gradients through a rectifier f and then applies the rectifier's own derivative:

    guided(g) = f'(x) * max(g, 0)

For ReLU that is the familiar "upstream gradient positive and unit active"; on the plateau of ReLU6 nothing passes;
below the threshold of a leaky ReLU the slope times the positive part of g passes. Where minus a rectifier is computed,
such as min(x, 0) = -relu(-x), it is the negative gradient that passes. The rule is attached to the operation that
completes a rectifier after the forward pass has been traced, so it does not matter who created it, and it is applied
only inside :func:`guided`: the same operations give ordinary gradients otherwise.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import tensorflow as tf
from tensorflow.python.framework.ops import gradient_registry

from ..base import GuidedCoverage
from ..graphs.activations import Activation, activations, guided_coverage
from .translation import Translation

# Marks the operations of the rule itself among those of a model.
_GATE = "keras_gradcam_gate"

# Names of gradients that are registered, which TensorFlow allows once.
_registered: set[str] = set()

_guided = contextvars.ContextVar("keras_gradcam_guided", default=False)

# Operations whose body is another graph, which the rule does not reach.
_CONTROL_FLOW = {"If", "StatelessIf", "While", "StatelessWhile", "Case", "PartitionedCall", "StatefulPartitionedCall"}

# Rectifiers that are one operation.
_PLAIN = {"Relu", "Relu6", "LeakyRelu"}


@contextlib.contextmanager
def guided() -> Iterator[None]:
    """Makes gradients that are taken inside this context follow the guided rule."""
    token = _guided.set(True)
    try:
        yield
    finally:
        _guided.reset(token)


def _gated(op: tf.Operation, gradient: tf.Tensor, sign: int) -> Any:
    """Differentiates an operation, of which a rectifier is the result, by the guided rule inside :func:`guided`."""
    if _guided.get():
        gradient = sign * tf.nn.relu(sign * gradient, name=_GATE)
    return gradient_registry.lookup(op.type)(op, gradient)


def _name_of_gradient(op_type: str, sign: int) -> str:
    """Returns the name under which the gradient of a rectifying operation is registered, now at the latest."""
    name = f"KerasGradcam{'Minus' if sign < 0 else ''}{op_type}"
    if name not in _registered:
        tf.RegisterGradient(name)(functools.partial(_gated, sign=sign))
        _registered.add(name)
    return name


def attach_guided_rule(graph: tf.Graph, translation: Translation) -> GuidedCoverage:
    """Gives every rectifier of ``graph`` the gradient of this module and returns what was found."""
    found = _activations_of(graph, translation)
    for activation in found:
        if activation.kind == "rectifier":
            op = translation.tensor(activation.operation.outputs[0]).op
            name = _name_of_gradient(op.type, activation.sign)
            op._set_attr("_gradient_op_type", tf.compat.v1.AttrValue(s=name.encode()))
    return replace(guided_coverage(found), unreached=_count_inside(graph))


def _activations_of(graph: tf.Graph, translation: Translation) -> list[Activation]:
    """Returns the activations of a graph; those inside of functions that were left whole are not among them."""
    found = activations(translation.graph([]))
    return [one for one in found if translation.tensor(one.operation.outputs[0]).graph is graph]


def _count_inside(graph: tf.Graph) -> int:
    """Counts the rectifiers in loops, branches and functions of a graph."""
    if not any(op.type in _CONTROL_FLOW for op in graph.get_operations()):
        return 0
    bodies = [graph._get_function(function.signature.name).graph for function in graph.as_graph_def().library.function]
    found = [one for body in bodies for one in _activations_of(body, Translation(body, body.inputs))]
    return sum(activation.kind == "rectifier" for activation in found)


def count_recomputed(graph: tf.Graph, forward_operations: int) -> int:
    """Counts the rectifiers that a backward pass has added to a graph after the operations of its forward pass.

    ``keras.remat`` runs a part of the model again in the backward pass and differentiates that, out of reach.
    """
    later = graph.get_operations()[forward_operations:]
    return sum(op.type in _PLAIN and _GATE not in op.name for op in later)
