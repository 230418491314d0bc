"""The gate of guided backpropagation."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from contract import spec_of
from keras import layers as L  # noqa: N812
from models import convnet, images

from keras_gradcam.engine.graphs.activations import activations
from keras_gradcam.engine.jax.guided import gates
from keras_gradcam.engine.jax.tracing import trace_forward


def gate_of(model):
    found = gates(activations(trace_forward(model, spec_of(images()), 1).graph))
    assert len(found) == 2
    return next(iter(found.values()))


def test_gate_lets_positive_gradients_pass():
    gate = gate_of(convnet(lambda position: L.ReLU()))
    value, pull = jax.vjp(gate, jnp.array([1.0, 2.0, 3.0]))
    np.testing.assert_array_equal(value, [1, 2, 3])
    np.testing.assert_array_equal(pull(jnp.array([-4.0, 0.0, 5.0]))[0], [0, 0, 5])


def test_gate_of_minus_a_rectifier_lets_negative_gradients_pass():
    gate = gate_of(convnet(lambda position: lambda x: -L.ReLU()(-x) if position == 1 else jnp_minimum(x)))
    _, pull = jax.vjp(gate, jnp.array([1.0, 2.0]))
    assert {tuple(map(float, pull(jnp.array([-4.0, 5.0]))[0]))} <= {(-4.0, 0.0), (0.0, 5.0)}


def jnp_minimum(x):
    return L.Lambda(lambda x: jnp.minimum(x, 0.0))(x)


def test_smooth_activations_have_no_gate():
    model = convnet(lambda position: L.Activation("gelu"))
    assert gates(activations(trace_forward(model, spec_of(images()), 1).graph)) == {}
