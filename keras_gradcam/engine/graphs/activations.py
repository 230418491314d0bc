"""Finds the activations in a graph by what they compute, not by how they are written.

An activation is a function of one tensor, element by element: everything between a tensor x and a tensor y that is
computed from x alone, with constants. ``relu(x)``, ``where(x > 0, x, 0)``, ``x * cast(x > 0)`` and ``(x + abs(x)) / 2``
are four operations or more each, and the same function. It is evaluated on numbers to see of which kind it is.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..base import GuidedCoverage
from .graph import ELEMENTWISE, INPUT, MOVE, RESHAPE, WEIGHT, Graph, Operation, Value
from .trials import NOT_COMPUTED

# Elementwise operations that are no part of an activation.
_NO_PARTS = {"batch_norm", "stop_gradient"}

# Those that leave their input as it is, but for its precision.
_UNCHANGED = {"cast", "identity"}

# Those that leave the function linear if all but one operand are constants.
_LINEAR = _UNCHANGED | {"add", "divide", "multiply", "negative", "subtract"}

# Those that are linear piece by piece, and those that tell where.
_PIECEWISE = {"abs", "clip", "hard_shrink", "hard_sigmoid", "hard_tanh", "leaky_relu", "maximum", "minimum", "relu"}
_PIECEWISE |= {"relu6", "soft_shrink", "threshold", "where"}
_CONDITIONS = {"equal", "greater", "greater_equal", "less", "less_equal", "logical_and", "logical_not", "logical_or"}
_CONDITIONS |= {"not_equal", "ones_like", "sign", "zeros_like"}

# Those that may take a weight as the slope of an activation.
_SLOPES_OF = {"multiply", "where"}

# What stands for a weight, such as the slope of a PReLU, while an activation is evaluated.
_WEIGHT = 0.25

# Where activations are evaluated: close together around zero, then farther and farther away.
_FAR = np.geomspace(12, 2000, 40)[1:]
_POINTS = np.concatenate([-_FAR[::-1], np.linspace(-12, 12, 481) + 1e-3, _FAR])

# The most pieces that a piecewise linear activation has, and how much slopes may differ within a piece.
_PIECES = 5
_SLOPES = 1e-4

# Smooth activations that are one operation, which bear its name but for one, which is minus the softplus of minus x.
_NAMED = ("celu", "elu", "gelu", "hard_silu", "mish", "selu", "silu", "softplus", "softsign", "tanh")
_SMOOTH = {name: name for name in _NAMED} | {"log_sigmoid": "softplus"}

# What those are called that are several: the name, and texts of which all are part of what is computed. The first that
# fits counts.
_COMPOSITE = (
    ("mish", "softplus(", "tanh("),
    ("mish", "log1p(", "exp(", "tanh("),
    ("softplus", "softplus("),
    ("softplus", "log1p(", "exp("),
    ("gelu", "erf("),
    ("gelu", "erfc("),
    ("gelu", "0.044715"),
    ("silu", "sigmoid("),
    ("selu", "expm1(", "1.67326"),
    ("celu", "expm1(", "minimum("),
    ("elu", "expm1(", "where("),
    ("celu", "expm1("),
    ("hard_silu", "relu6("),
    ("hard_silu", "hard_sigmoid("),
    ("hard_silu", "minimum(maximum(add(x, 3), 0), 6)"),
    ("hard_silu", "clip(add(x, 3), 0, 6)"),
    ("softsign", "divide(x, add(abs(x), 1))"),
    ("softsign", "divide(x, add(1, abs(x)))"),
)


@dataclass(frozen=True, eq=False)
class Activation:
    """An activation in a graph.

    Attributes:
        operation: The operation that completes it; scaling or shifting of its result is not part of it.
        kind: "rectifier": linear piece by piece and monotone, without being the same upside down (ReLU, ReLU6, leaky
            ReLU); "gate": the same, but point symmetric, such as a hard sigmoid; "smooth": anything else.
        sign: 1 for a rectifier whose results are positive where it is steepest (ReLU), -1 for minus such a one.
        written: What it computes, for example "relu(x)".
    """

    operation: Operation
    kind: str
    sign: int
    written: str


@dataclass(frozen=True, eq=False)
class _Node:
    """What is known of a value within an activation.

    Attributes:
        root: The value that it is a function of. A smooth operation begins anew: its result is the root of what
            follows, until that meets what the operation was computed from.
        bends: The operations down to the root that are not linear, by the id of their result.
    """

    root: Value
    bends: frozenset[int] = frozenset()


class _Finder:
    """Goes through a graph and notes which operations complete an activation."""

    def __init__(self, graph: Graph) -> None:
        self._nodes: dict[int, _Node] = {}
        # The result of a smooth operation -> what it was computed from.
        self._below: dict[int, _Node] = {}
        #: The result's id -> operation and root.
        self.complete: dict[int, tuple[Operation, Value]] = {}
        for operation in graph.operations:
            if _is_part(operation) and operation.outputs[0].origin == INPUT:
                self._step(operation)

    def _step(self, operation: Operation) -> None:
        function, result = operation.function, operation.outputs[0]
        operands = [value for value in operation.inputs if value.origin == INPUT]
        chains = [self._roots(value) for value in operands]
        root = next((one for one in chains[0] if all(any(one is other for other in chain) for chain in chains)), None)
        if root is None:
            return  # it joins two tensors that have nothing to do with each other
        bends = frozenset[int]().union(*(self._bends(value, root) for value in operands))
        rest = [value for value in operation.inputs if value.origin != INPUT]
        is_masked = function == "where" and operation.inputs[0].origin != INPUT
        has_weight = any(value.number() is None for value in rest)
        is_slope = function == "leaky_relu" or bool(bends and function in _SLOPES_OF)
        if is_masked or (has_weight and not is_slope):
            return  # what a weight scales or shifts is another tensor; only slopes of an activation are part of it
        joins = len({id(value) for value in operands}) > 1
        if function in _LINEAR and not joins:
            self._nodes[id(result)] = _Node(root, bends)
        elif joins or function in _PIECEWISE | _CONDITIONS:
            self._nodes[id(result)] = _Node(root, bends | {id(result)})
            if function not in _CONDITIONS:
                for absorbed in bends:
                    self.complete.pop(absorbed, None)
                self.complete[id(result)] = (operation, root)
        else:
            self._below[id(result)] = _Node(root, bends | {id(result)})
            self.complete[id(result)] = (operation, root)

    def _roots(self, value: Value) -> list[Value]:
        """Returns the values that a value is a function of, the nearest first."""
        node = self._nodes.get(id(value))
        roots = [value if node is None else node.root]
        while id(roots[-1]) in self._below:
            roots.append(self._below[id(roots[-1])].root)
        return roots

    def _bends(self, value: Value, root: Value) -> frozenset[int]:
        """Returns the operations between a value and one of its roots that are not linear."""
        node = self._nodes.get(id(value)) or _Node(value)
        bends = node.bends
        while node.root is not root:
            node = self._below[id(node.root)]
            bends |= node.bends
        return bends


def activations(graph: Graph) -> list[Activation]:
    """Returns the activations of a graph, in the order of its operations."""
    verdicts: dict[str, tuple[str, int]] = {}
    found = []
    for operation, root in _Finder(graph).complete.values():
        written = _written(operation.outputs[0], root)
        if written not in verdicts:
            verdicts[written] = _kind(operation.outputs[0], root)
        kind, sign = verdicts[written]
        found.append(Activation(operation, kind, sign, written))
    return found


def guided_coverage(found: Sequence[Activation]) -> GuidedCoverage:
    """Returns what the guided rule does with the activations of a graph if it reaches all rectifiers among them."""
    reached = Counter(activation.operation.name for activation in found if activation.kind == "rectifier")
    others = {name for activation in found if activation.kind == "smooth" for name in _names(activation.written)}
    return GuidedCoverage(dict(reached), 0, tuple(sorted(others)))


def _names(written: str) -> list[str]:
    """Returns what a smooth activation is called, as one name; none for a step of a computation, such as a root."""
    functions = re.findall(r"\w+\(", written)
    if len(re.findall(r"\bx\b", written)) <= 1:
        return [_SMOOTH[function[:-1]] for function in functions if function[:-1] in _SMOOTH][:1]
    for name, *parts in _COMPOSITE:
        if all(part in functions if re.fullmatch(r"\w+\(", part) else part in written for part in parts):
            return [name]
    return [written]


def _is_part(operation: Operation) -> bool:
    """Returns whether an operation may be part of an activation."""
    return operation.rule == ELEMENTWISE and operation.function not in _NO_PARTS


def _source(value: Value, root: Value) -> Value:
    """Returns what a value within an activation is a copy of: in another precision or, if a weight, in other places."""
    while value is not root and value.producer is not None:
        operation = value.producer
        is_moved = value.origin == WEIGHT and (
            operation.rule == RESHAPE or (operation.rule == MOVE and tuple(operation.parameters["moved"]) == (0,))
        )
        if not is_moved and not (operation.rule == ELEMENTWISE and operation.function in _UNCHANGED):
            break
        value = operation.inputs[0]
    return value


def _written(value: Value, root: Value) -> str:
    """Writes what is computed of x, for example "relu(x)"; equal texts are equal functions."""
    value = _source(value, root)
    if value is root:
        return "x"
    constant = value.number()
    if constant is not None:
        return f"{constant:g}"
    if value.producer is None or not _is_part(value.producer):
        return "w"  # a weight
    return f"{value.producer.function}({', '.join(_written(source, root) for source in value.producer.inputs)})"


def _evaluated(value: Value, root: Value, known: dict[int, Any]) -> Any:
    """Returns what is computed for the numbers that ``known`` holds for the root, in double precision."""
    if id(value) in known:
        return known[id(value)]
    constant, operation = value.number(), value.producer
    result: Any
    if constant is not None:
        result = np.bool_(constant) if value.dtype == "bool" else np.float64(constant)
    elif operation is None or not _is_part(operation):
        source = _source(value, root)
        result = np.float64(_WEIGHT) if source is value else _evaluated(source, root, known)
    else:
        sources = [_evaluated(source, root, known) for source in operation.inputs]
        if operation.function == "cast":  # between the precisions of a model, or from a condition to a factor
            result = sources[0].astype(np.float64)
        elif operation.run is None:
            raise TypeError(f"{operation.name} cannot be run on numbers")
        else:
            result = operation.run([np.broadcast_to(source, _POINTS.shape) for source in sources])[value.position]
    known[id(value)] = result
    return result


def _kind(value: Value, root: Value) -> tuple[str, int]:
    """Returns kind and sign of an activation."""
    try:
        values = np.asarray(_evaluated(value, root, {id(root): _POINTS}), np.float64)
    except NOT_COMPUTED:
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
