"""Finds the activations in a TensorFlow graph by what they compute, not by how they are written.

An activation is a function of one tensor, element by element: everything between a tensor x and a tensor y that is
computed from x alone, with constants. ``relu(x)``, ``where(x > 0, x, 0)``, ``x * cast(x > 0)`` and ``(x + abs(x)) / 2``
are four operations or more each, and the same function. It is evaluated on numbers to see of which kind it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from .kinds import ELEMENTWISE
from .operations import evaluated

# Operations of one tensor that may be part of an activation.
_PARTS = (ELEMENTWISE | {"OnesLike", "Select", "ZerosLike"}) - {"BiasAdd", "CheckNumerics", "StopGradient"}

# Of these, those that leave the function linear if all but one operand are constants.
_LINEAR = {"Add", "AddV2", "Cast", "EnsureShape", "Identity", "Mul", "Neg", "RealDiv", "Snapshot", "Sub"}

# Those that are linear piece by piece, and those that tell where.
_PIECEWISE = {"Abs", "ClipByValue", "LeakyRelu", "Maximum", "Minimum", "Relu", "Relu6", "Select", "SelectV2"}
_CONDITIONS = {"Equal", "Greater", "GreaterEqual", "Less", "LessEqual", "LogicalAnd", "LogicalNot", "LogicalOr"}
_CONDITIONS |= {"NotEqual", "OnesLike", "Sign", "ZerosLike"}

# What stands for a weight, such as the slope of a PReLU, while an activation is evaluated.
_WEIGHT = 0.25

# Where activations are evaluated: close together around zero, then farther and farther away.
_FAR = np.geomspace(12, 2000, 40)[1:]
_POINTS = np.concatenate([-_FAR[::-1], np.linspace(-12, 12, 481) + 1e-3, _FAR])

# The most pieces that a piecewise linear activation has, and how much slopes may differ within a piece.
_PIECES = 5
_SLOPES = 1e-4


@dataclass(frozen=True, eq=False)
class Activation:
    """An activation in a graph.

    Attributes:
        op: The operation that completes it; scaling or shifting of its result is not part of it.
        kind: "rectifier": linear piece by piece and monotone, without being the same upside down (ReLU, ReLU6, leaky
            ReLU); "gate": the same, but point symmetric, such as a hard sigmoid; "smooth": anything else.
        sign: 1 for a rectifier whose results are positive where it is steepest (ReLU), -1 for minus such a one.
        written: What it computes, for example "Relu(x)".
    """

    op: tf.Operation
    kind: str
    sign: int
    written: str


@dataclass(frozen=True, eq=False)
class _Node:
    """What is known of a tensor within an activation.

    Attributes:
        root: The tensor that it is a function of. A smooth operation begins anew: its result is the root of what
            follows, until that meets what the operation was computed from.
        bends: The operations down to the root that are not linear, by the id of their result.
    """

    root: Any
    bends: frozenset[int] = frozenset()


class _Finder:
    """Goes through a graph and notes which operations complete an activation."""

    def __init__(self, graph: tf.Graph) -> None:
        self._nodes: dict[int, _Node] = {}
        # The result of a smooth operation -> what it was computed from.
        self._below: dict[int, _Node] = {}
        #: The result's id -> operation and root.
        self.complete: dict[int, tuple[tf.Operation, Any]] = {}
        self._varying = _depend_on_inputs(graph)
        for op in graph.get_operations():
            if op.type in _PARTS and id(op.outputs[0]) in self._varying:
                self._step(op)

    def _step(self, op: tf.Operation) -> None:
        result = op.outputs[0]
        operands = [tensor for tensor in op.inputs if id(tensor) in self._varying]
        chains = [self._roots(tensor) for tensor in operands]
        root = next((one for one in chains[0] if all(any(one is other for other in chain) for chain in chains)), None)
        if root is None:
            return  # it joins two tensors that have nothing to do with each other
        bends = frozenset[int]().union(*(self._bends(tensor, root) for tensor in operands))
        rest = [tensor for tensor in op.inputs if id(tensor) not in self._varying]
        is_masked = op.type == "SelectV2" and id(op.inputs[0]) not in self._varying
        has_weight = any(_constant(tensor) is None for tensor in rest)
        if is_masked or (has_weight and not (bends and op.type in ("Mul", "SelectV2"))):
            return  # what a weight scales or shifts is another tensor; only slopes of an activation are part of it
        joins = len({id(tensor) for tensor in operands}) > 1
        if op.type in _LINEAR and not joins:
            self._nodes[id(result)] = _Node(root, bends)
        elif joins or op.type in _PIECEWISE | _CONDITIONS:
            self._nodes[id(result)] = _Node(root, bends | {id(result)})
            if op.type not in _CONDITIONS:
                for absorbed in bends:
                    self.complete.pop(absorbed, None)
                self.complete[id(result)] = (op, root)
        else:
            self._below[id(result)] = _Node(root, bends | {id(result)})
            self.complete[id(result)] = (op, root)

    def _roots(self, tensor: tf.Tensor) -> list[tf.Tensor]:
        """Returns the tensors that a tensor is a function of, the nearest first."""
        node = self._nodes.get(id(tensor))
        roots = [tensor if node is None else node.root]
        while id(roots[-1]) in self._below:
            roots.append(self._below[id(roots[-1])].root)
        return roots

    def _bends(self, tensor: tf.Tensor, root: tf.Tensor) -> frozenset[int]:
        """Returns the operations between a tensor and one of its roots that are not linear."""
        node = self._nodes.get(id(tensor)) or _Node(tensor)
        bends = node.bends
        while node.root is not root:
            node = self._below[id(node.root)]
            bends |= node.bends
        return bends


def activations(graph: tf.Graph) -> list[Activation]:
    """Returns the activations of a graph, in the order of its operations."""
    verdicts: dict[str, tuple[str, int]] = {}
    found = []
    for op, root in _Finder(graph).complete.values():
        written = _written(op.outputs[0], root)
        if written not in verdicts:
            verdicts[written] = _kind(op.outputs[0], root)
        kind, sign = verdicts[written]
        found.append(Activation(op, kind, sign, written))
    return found


def _depend_on_inputs(graph: tf.Graph) -> set[int]:
    """Returns the ids of the tensors that are not made of weights and constants alone."""
    varying: set[int] = set()
    for op in graph.get_operations():
        is_input = op.type == "Placeholder" and op.outputs[0].dtype != tf.resource
        if is_input or (op.type not in ("Shape", "ShapeN") and any(id(tensor) in varying for tensor in op.inputs)):
            varying.update(id(tensor) for tensor in op.outputs)
    return varying


def _constant(tensor: tf.Tensor) -> float | None:
    """Returns the value of a tensor that is one number everywhere and always, or None."""
    while tensor.op.type in ("BroadcastTo", "Cast", "Fill", "Identity", "Reshape"):
        tensor = tensor.op.inputs[tensor.op.type == "Fill"]
    value = tf.get_static_value(tensor)
    if value is None or not np.size(value) or not (value == np.ravel(value)[0]).all():
        return None
    return float(np.ravel(value)[0])


def _written(tensor: tf.Tensor, root: tf.Tensor) -> str:
    """Writes what is computed of x, for example "Relu(x)"; equal texts are equal functions."""
    if tensor is root:
        return "x"
    constant = _constant(tensor)
    if constant is not None:
        return f"{constant:g}"
    op = tensor.op
    if op.type not in _PARTS:
        return "w"  # a weight
    if op.type in ("Cast", "Identity"):
        return _written(op.inputs[0], root)
    slope = f"{op.get_attr('alpha'):g}, " if op.type == "LeakyRelu" else ""
    return f"{op.type}({slope}{', '.join(_written(source, root) for source in op.inputs)})"


def _value(tensor: tf.Tensor, root: tf.Tensor, known: dict[int, Any]) -> Any:
    """Returns what is computed for the numbers that ``known`` holds for the root, in double precision."""
    if id(tensor) in known:
        return known[id(tensor)]
    op, constant = tensor.op, _constant(tensor)
    value: Any
    if constant is not None:
        value = np.float64(constant)
    elif op.type not in _PARTS:
        value = np.float64(_WEIGHT)
    else:
        sources = [_value(source, root, known) for source in op.inputs]
        if op.type == "Cast":  # between the precisions of a model, or from a condition to a factor
            value = sources[0].astype(np.float64)
        else:
            value = evaluated(op, [np.broadcast_to(source, _POINTS.shape) for source in sources])[0]
    known[id(tensor)] = value
    return value


def _kind(tensor: tf.Tensor, root: tf.Tensor) -> tuple[str, int]:
    """Returns kind and sign of an activation."""
    try:
        values = np.asarray(_value(tensor, root, {id(root): _POINTS}), np.float64)
    except (TypeError, ValueError, tf.errors.OpError):  # whole numbers, conditions
        return "smooth", 1
    with np.errstate(all="ignore"):  # functions that overflow, or are not defined everywhere
        slopes = np.diff(values) / np.diff(_POINTS)
    scale = np.abs(slopes[np.isfinite(slopes)]).max(initial=0)
    changes = np.abs(np.diff(slopes)) > _SLOPES * scale
    # A piece ends within an interval between two points, which then has a slope between those beside it.
    if not np.isfinite(values).all() or not scale or changes.sum() > 2 * _PIECES or not changes.any():
        return "smooth", 1
    slack = _SLOPES * scale
    if (slopes < -slack).any() and (slopes > slack).any():
        return "smooth", 1
    middle = values + values[::-1]
    if np.abs(middle - middle[0]).max() <= 0.02 * np.ptp(values):
        return "gate", 1
    steepest = np.abs(slopes) >= scale - slack
    return "rectifier", 1 if (values[:-1] + values[1:])[steepest].sum() > 0 else -1
