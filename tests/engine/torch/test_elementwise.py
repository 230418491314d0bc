"""What operators compute element by element."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch_models import recorded, run_graph

from keras_gradcam.engine.graphs.graph import ELEMENTWISE

X = np.linspace(-4, 7, 12).reshape(3, 4)

#: How it is written, and the functions that are recorded.
FUNCTIONS = {
    "relu": (torch.relu, ["relu"]),
    "relu_": (lambda x: (x * 1).relu_(), ["multiply", "relu"]),
    "relu6": (F.relu6, ["relu6"]),
    "hardtanh": (lambda x: F.hardtanh(x, 0, 2), ["clip"]),
    "leaky_relu": (lambda x: F.leaky_relu(x, 0.3), ["leaky_relu"]),
    "prelu": (lambda x: F.prelu(x, torch.full((1,), 0.25, dtype=x.dtype)), ["leaky_relu"]),
    "threshold": (lambda x: F.threshold(x, 1.0, -2.0), ["threshold"]),
    "clamp": (lambda x: x.clamp(-1, 2), ["clip"]),
    "clamp of tensors": (lambda x: x.clamp(torch.tensor(-1.0), torch.tensor(2.0)), ["clip"]),
    "clamp from below": (lambda x: x.clamp(min=0), ["maximum"]),
    "clamp from above": (lambda x: x.clamp(max=2), ["minimum"]),
    "maximum": (lambda x: torch.maximum(x, torch.tensor(0.0, dtype=x.dtype)), ["maximum"]),
    "max of two": (lambda x: torch.max(x, 2 * x), ["multiply", "maximum"]),
    "where": (lambda x: torch.where(x > 0, x, 0.0), ["greater", "where"]),
    "masked_fill": (lambda x: x.masked_fill(x < 0, 0.0), ["less", "where"]),
    "abs": (lambda x: (x + x.abs()) / 2, ["abs", "add", "divide"]),
    "rsub": (lambda x: 1 - x, ["subtract"]),
    "alpha": (lambda x: torch.add(x, x, alpha=2), ["add, 2"]),
    "rounded division": (lambda x: torch.div(x, 2, rounding_mode="floor"), ["div, floor"]),
    "power": (lambda x: x**2, ["power"]),
    "powers of a number": (lambda x: 2**x, ["power"]),
    "rsqrt": (lambda x: (x * x + 1).rsqrt(), ["multiply", "add", "rsqrt"]),
    "reciprocal": (lambda x: 1 / (x + 10), ["add", "reciprocal", "multiply"]),
    "sigmoid": (torch.sigmoid, ["sigmoid"]),
    "silu": (F.silu, ["silu"]),
    "gelu": (F.gelu, ["gelu"]),
    "gelu, approximately": (lambda x: F.gelu(x, approximate="tanh"), ["gelu"]),
    "elu": (lambda x: F.elu(x, 1.5), ["elu"]),
    "selu": (F.selu, ["selu"]),
    "softplus": (lambda x: F.softplus(x, 2.0), ["softplus"]),
    "hardswish": (F.hardswish, ["hard_silu"]),
    "hardsigmoid": (F.hardsigmoid, ["hard_sigmoid"]),
    "mish": (F.mish, ["mish"]),
    "tanh": (torch.tanh, ["tanh"]),
    "conditions": (lambda x: (x > 0) & ~(x == 2) | (x <= -3), None),
    "addcmul": (lambda x: torch.addcmul(x, x, x, value=0.5), ["addcmul"]),
    "lerp": (lambda x: torch.lerp(x, 2 * x, 0.25), ["multiply", "lerp"]),
    "cast": (lambda x: x.to(torch.float32).to(torch.float64), ["cast", "cast"]),
    "clone": (lambda x: x.clone(), ["identity"]),
    "copy_": (lambda x: torch.zeros(3, 4, dtype=torch.float64).copy_(x), ["identity"]),
    "stop_gradient": (lambda x: x.detach() * 1, ["stop_gradient", "multiply"]),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function_is_recognised_and_computed(name):
    function, names = FUNCTIONS[name]
    recorder, (tensor,), result = recorded(function, X)
    operations = recorder.graph.operations
    assert all(operation.rule == ELEMENTWISE for operation in operations)
    assert names is None or [operation.function for operation in operations] == names
    found = run_graph(recorder, [X], recorder.value(result))
    np.testing.assert_allclose(found.astype(float), function(tensor).numpy().astype(float), rtol=1e-6)


def test_numbers_are_inputs():
    recorder, _, _ = recorded(lambda x: F.leaky_relu(x, 0.3), X)
    (operation,) = recorder.graph.operations
    assert [value.number() for value in operation.inputs] == [None, 0.3]
    recorder, _, _ = recorded(lambda x: 3.0 - x, X)
    (operation,) = recorder.graph.operations
    assert [value.number() for value in operation.inputs] == [3.0, None]


def test_one_of_two_results_of_what_has_more_is_no_function_of_one_tensor():
    recorder, _, _ = recorded(lambda x: torch.max(x, 1), X)
    assert [operation.rule for operation in recorder.graph.operations] == ["reduce"]
