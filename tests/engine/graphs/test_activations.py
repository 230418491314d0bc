"""Activations are recognised by what they compute, however a backend spells them, and called by their names."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from graph_builder import GraphBuilder

from keras_gradcam.engine.base import GuidedCoverage
from keras_gradcam.engine.graphs.activations import activations, guided_coverage
from keras_gradcam.engine.graphs.graph import MOVE, OPAQUE, REDUCE, RESHAPE

RELU, GATE, SMOOTH = ("rectifier", 1), ("gate", 1), ("smooth", 1)


class Formula(GraphBuilder):
    """Adds elementwise operations, each by a method of its name; of "add" it is ``add_``."""

    def __getattr__(self, function):
        return functools.partial(self.elementwise, function.rstrip("_"))


def prelu(b, x):
    """As Keras writes it, with a slope for each channel, on a backend that broadcasts by an operation."""
    slopes = b.add("broadcast", MOVE, b.negative(b.weight((3,))), run=lambda a: a[None].repeat(2, 0), moved=(0,))
    return b.add_(b.relu(x), b.multiply(slopes, b.relu(b.negative(x))))


def softplus(b, x):
    """As JAX writes it."""
    difference = b.subtract(x, 0.0)
    sum_ = b.add_(b.maximum(x, 0.0), b.log1p(b.exp(b.negative(b.abs(difference)))))
    return b.where(b.not_equal(difference, difference), b.add_(x, 0.0), sum_)


def elu(b, x, alpha=1.0):
    """As JAX writes it."""
    exponential = b.expm1(b.where(b.greater(x, 0.0), 0.0, x))
    return b.where(b.greater(x, 0.0), x, b.multiply(alpha, exponential))


def clipped(b, x):
    """Six times a hard sigmoid, as JAX writes it."""
    return b.minimum(b.maximum(b.add_(x, 3.0), 0.0), 6.0)


def gelu_by_tanh(b, x):
    cubic = b.add_(x, b.multiply(0.044714998453855515, b.power(x, 3.0)))
    return b.multiply(x, b.multiply(0.5, b.add_(1.0, b.tanh(b.multiply(0.79788, cubic)))))


KINDS = {
    "relu": (lambda b, x: b.relu(x), [RELU]),
    "relu by maximum": (lambda b, x: b.maximum(x, b.zeros_like(x)), [RELU]),
    "relu by where": (lambda b, x: b.where(b.less_equal(x, 0.0), 0.0, x), [RELU]),
    "relu by abs": (lambda b, x: b.divide(b.add_(x, b.abs(x)), 2.0), [RELU]),
    "relu by a mask": (lambda b, x: b.multiply(x, b.cast(b.greater(x, 0.0))), [RELU]),
    "relu6 by clipping": (lambda b, x: b.clip(x, 0.0, 6.0), [RELU]),
    "relu by clipping": (lambda b, x: b.clip(x, 0.0, np.inf), [RELU]),
    "relu by a threshold": (
        lambda b, x: b.elementwise("threshold", x, 0.0, 0.0, run=lambda a, t, v: np.where(a > t, a, v)),
        [RELU],
    ),
    "leaky relu": (lambda b, x: b.leaky_relu(x, 0.2), [RELU]),
    "leaky relu with a weight": (lambda b, x: b.leaky_relu(x, b.weight((3,))), [RELU]),
    "leaky by maximum": (lambda b, x: b.maximum(x, b.multiply(0.1, x)), [RELU]),
    "prelu": (prelu, [RELU]),
    "relu by minimum": (lambda b, x: b.negative(b.minimum(b.negative(x), 0.0)), [("rectifier", -1)]),
    "minus relu": (lambda b, x: b.minimum(x, 0.0), [("rectifier", -1)]),
    "hard sigmoid": (lambda b, x: b.divide(b.relu6(b.add_(3.0, x)), 6.0), [GATE]),
    "hard sigmoid in one": (lambda b, x: b.hard_sigmoid(x), [GATE]),
    "hard sigmoid by clipping": (lambda b, x: b.clip(b.add_(b.divide(x, 6.0), 0.5), 0.0, 1.0), [GATE]),
    "hard swish": (lambda b, x: b.divide(b.multiply(x, clipped(b, x)), 6.0), [SMOOTH]),
    "swish": (lambda b, x: b.multiply(x, b.sigmoid(x)), [SMOOTH]),
    "swish in one": (lambda b, x: b.silu(x), [SMOOTH]),
    "soft shrinkage": (
        lambda b, x: b.multiply(b.sign(x), b.relu(b.subtract(b.abs(x), 0.5))),
        [GATE],
    ),
    "relu behind a mask": (
        lambda b, x: b.where(b.constant(np.eye(3)[:2], "bool"), b.multiply(2.0, b.relu(x)), 0.0),
        [RELU],
    ),
    "relu of tanh": (lambda b, x: b.relu(b.tanh(x)), [SMOOTH, RELU]),
    "relu scaled by a weight": (lambda b, x: b.multiply(b.relu(x), b.weight((3,))), [RELU]),
    "relu of a weighted input": (lambda b, x: b.relu(b.multiply(x, b.weight((3,)))), [RELU]),
    "a product of two tensors": (lambda b, x: b.multiply(x, b.input((2, 3))), []),
    "linear": (lambda b, x: b.add_(b.multiply(x, 2.0), 1.0), []),
}


def found_in(function):
    builder = Formula()
    function(builder, builder.input((2, 3)))
    return activations(builder.graph)


@pytest.mark.parametrize(("function", "expected"), KINDS.values(), ids=KINDS)
def test_kind_of_an_activation(function, expected):
    assert [(found.kind, found.sign) for found in found_in(function)] == expected


NAMES = {
    **{name: (lambda b, x, name=name: getattr(b, name)(x)) for name in ("elu", "selu", "softplus", "softsign", "tanh")},
    **{f"{name} in one": (lambda b, x, name=name: getattr(b, name)(x)) for name in ("gelu", "silu", "hard_silu")},
    "softplus by logaddexp": softplus,
    "softplus of log_sigmoid": lambda b, x: b.elementwise("log_sigmoid", x, run=lambda a: -np.logaddexp(-a, 0)),
    "mish of softplus": lambda b, x: b.multiply(x, b.tanh(b.softplus(x))),
    "mish by logaddexp": lambda b, x: b.multiply(x, b.tanh(softplus(b, x))),
    "elu by where": elu,
    "selu by where": lambda b, x: b.multiply(1.0507, elu(b, x, 1.6732632423543772)),
    "celu by maximum": lambda b, x: b.add_(b.maximum(x, 0.0), b.expm1(b.minimum(x, 0.0))),
    "gelu by erf": lambda b, x: b.multiply(x, b.add_(1.0, b.erf(b.divide(x, 1.4142)))),
    "gelu by erfc": lambda b, x: b.multiply(b.multiply(0.5, x), b.erfc(b.multiply(b.negative(x), 0.7071))),
    "gelu by tanh": gelu_by_tanh,
    "silu by sigmoid": lambda b, x: b.multiply(x, b.sigmoid(x)),
    "softsign by abs": lambda b, x: b.divide(x, b.add_(b.abs(x), 1.0)),
    "hard_silu by minimum": lambda b, x: b.multiply(x, b.divide(clipped(b, x), 6.0)),
    "hard_silu by clipping": lambda b, x: b.multiply(x, b.clip(b.add_(x, 3.0), 0.0, 6.0)),
    "hard_silu by relu6": lambda b, x: b.multiply(x, b.relu6(b.add_(x, 3.0))),
    "hard_silu by a gate": lambda b, x: b.multiply(x, b.hard_sigmoid(x)),
}


@pytest.mark.parametrize("name", NAMES)
def test_smooth_activations_are_called_by_their_names(name):
    assert guided_coverage(found_in(NAMES[name])) == GuidedCoverage({}, 0, (name.split()[0],))


@pytest.mark.parametrize("function", ["sigmoid", "exp", "sqrt", "log"])
def test_steps_of_a_computation_have_no_name(function):
    assert guided_coverage(found_in(lambda b, x: getattr(b, function)(x))) == GuidedCoverage()


def test_an_activation_without_a_name_is_written_out():
    def silu_by_hand(b, x):
        return b.divide(x, b.add_(1.0, b.exp(b.negative(x))))

    (found,) = found_in(silu_by_hand)
    assert found.written == "divide(x, add(1, exp(negative(x))))"
    assert guided_coverage([found]).others == (found.written,)


def test_rectifiers_are_counted_by_the_names_of_their_operations():
    builder = GraphBuilder()
    x = builder.input((2, 3))
    for name in ("aten.relu", "aten.clamp_min", "aten.relu"):
        x = builder.elementwise("relu", builder.add("conv", OPAQUE, x, run=lambda a: a), name=name)
    builder.elementwise("tanh", x)
    assert guided_coverage(activations(builder.graph)) == GuidedCoverage(
        {"aten.relu": 2, "aten.clamp_min": 1}, 0, ("tanh",)
    )


def test_the_operation_that_completes_an_activation_is_given():
    found = found_in(lambda b, x: b.divide(b.add_(x, b.abs(x), name="sum"), 2.0))
    assert [activation.operation.name for activation in found] == ["sum"]


def test_an_activation_ends_where_values_are_moved_or_joined():
    builder = Formula()
    x = builder.input((2, 3))
    flat = builder.add("reshape", RESHAPE, builder.relu(x), run=lambda a: a.reshape(-1))
    total = builder.add("sum", REDUCE, flat, run=lambda a: a.sum(keepdims=True), axes=(0,), keepdims=True)
    builder.add("custom", OPAQUE, builder.maximum(builder.divide(flat, total), 0.0), run=lambda a: a)
    assert [(found.kind, found.written) for found in activations(builder.graph)] == [
        ("rectifier", "relu(x)"),
        ("rectifier", "maximum(x, 0)"),
    ]


def test_casts_between_precisions_are_looked_through():
    def function(b, x):
        half = b.elementwise("cast", x, run=lambda a: a.astype(np.float16))
        return b.elementwise("cast", b.maximum(half, b.multiply(half, 0.1)), run=lambda a: a.astype(np.float32))

    assert [(found.kind, found.written) for found in found_in(function)] == [
        ("rectifier", "maximum(x, multiply(x, 0.1))")
    ]


def test_what_cannot_be_computed_is_smooth():
    def fails(*arrays):
        if np.shape(arrays[0]) != (2, 3):
            raise RuntimeError("only for what it was made")
        return arrays[0]

    (found,) = found_in(lambda b, x: b.elementwise("maximum", x, 0.0, run=fails))
    assert found.kind == "smooth"


def test_the_first_of_several_results_may_be_an_activation():
    def log_sigmoid(b, x):
        return b.elementwise("log_sigmoid", x, run=lambda a: [-np.logaddexp(-a, 0), np.exp(-a)])

    assert guided_coverage(found_in(log_sigmoid)).others == ("softplus",)
