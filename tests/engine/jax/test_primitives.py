"""What is known of every kind of primitive, beside JAX itself and beside changing every pixel in turn."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax_fields import check_receptive_field, conv, kernel, translated

from keras_gradcam.engine.graphs.graph import CONSTANT, ELEMENTWISE, INPUT, OPAQUE, WEIGHT, Value
from keras_gradcam.engine.jax.tracing import Translation

X = np.array([[-2.5, -0.75, 0.25], [0.5, 1.5, 3.0]], "float32")
UNIT = np.array([[0.1, 0.35, 0.5], [0.6, 0.75, 0.9]], "float32")

# Numbers in place of x, for which functions must come out as JAX computes them.
FUNCTIONS = {
    "abs": jnp.abs,
    "add": lambda x: x + 2,
    "arctan2": lambda x: jnp.arctan2(x, 2.0),
    "cbrt": jnp.cbrt,
    "ceil": jnp.ceil,
    "clip": lambda x: jax.lax.clamp(-1.0, x, 1.0),
    "cos": jnp.cos,
    "cosh": jnp.cosh,
    "divide": lambda x: 2 / x,
    "erf": jax.scipy.special.erf,
    "erfc": jax.scipy.special.erfc,
    "exp": jnp.exp,
    "exp2": jnp.exp2,
    "expm1": jnp.expm1,
    "floor": jnp.floor,
    "fmod": lambda x: jax.lax.rem(x, 2.0),
    "log": lambda x: jnp.log(x + 4),
    "log1p": lambda x: jnp.log1p(x + 4),
    "maximum": lambda x: jnp.maximum(x, 0.5),
    "minimum": lambda x: jnp.minimum(x, 0.5),
    "multiply": lambda x: x * 3,
    "negative": jnp.negative,
    "power": lambda x: x**3,
    "round": jnp.round,
    "rsqrt": lambda x: jax.lax.rsqrt(x + 4),
    "sigmoid": jax.nn.sigmoid,
    "sign": jnp.sign,
    "sin": jnp.sin,
    "sinh": jnp.sinh,
    "sqrt": lambda x: jnp.sqrt(x + 4),
    "square": jnp.square,
    "stop_gradient": jax.lax.stop_gradient,
    "subtract": lambda x: 1 - x,
    "tan": jnp.tan,
    "tanh": jnp.tanh,
    "where": lambda x: jnp.where(x > 0.3, x, -2 * x),
    "cast": lambda x: x.astype("float16"),
    "greater": lambda x: x > 0.5,
    "greater_equal": lambda x: x >= 0.5,
    "less": lambda x: x < 0.5,
    "less_equal": lambda x: x <= 0.5,
    "equal": lambda x: x == 0.5,
    "not_equal": lambda x: x != 0.5,
    "logical_and": lambda x: (x > 0) & (x < 2),
    "logical_or": lambda x: (x > 0) | (x < 2),
    "logical_not": lambda x: ~(x > 0),
}


def computed(operations, inputs, arrays, result):
    """Goes through operations in NumPy."""
    known = dict(zip(map(id, inputs), arrays, strict=True))
    for operation in operations:
        taken = [known[id(v)] if id(v) in known else v.content() for v in operation.inputs]
        known.update(zip(map(id, operation.outputs), operation.run(taken), strict=True))
    return known[id(result)]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_of_elements_are_computed_as_jax_computes_them(name):
    operations, inputs, result = translated(FUNCTIONS[name], X)
    assert name in [operation.function for operation in operations]
    assert all(operation.rule == ELEMENTWISE for operation in operations if operation.function == name)
    np.testing.assert_allclose(
        computed(operations, inputs, [X], result), FUNCTIONS[name](X), rtol=1e-3 if name == "cast" else 1e-5, atol=1e-6
    )


@pytest.mark.parametrize("name", ["clip", "power", "where"])
def test_inputs_in_another_order_are_put_back_where_jax_wants_them(name):
    operations, _, _ = translated(FUNCTIONS[name], X)
    (operation,) = [operation for operation in operations if operation.function == name]
    given = {"clip": [X, -1, 1], "power": [X, 3], "where": [X > 0.3, X, -2 * X]}[name]
    (applied,) = operation.apply([jnp.asarray(array, None if np.ndim(array) else "float32") for array in given])
    np.testing.assert_allclose(applied, operation.run(given)[0], rtol=1e-6)


def test_constants_and_weights_keep_their_origin():
    closed = jax.make_jaxpr(lambda w: (w * 2, jnp.zeros(3) + 1))(X)
    translation = Translation()
    weight = Value(X.shape, "float32", WEIGHT)
    scaled, ones = translation.body(closed.jaxpr, closed.consts, [weight], [])
    assert (scaled.origin, scaled.content, ones.origin) == (WEIGHT, None, CONSTANT)
    assert ones.number() == 1


# ---------------------------------------------------------------------------------------------------- receptive fields

FIELDS = {
    "product": lambda x: x @ kernel(2, 4),
    "einsum": lambda x: jnp.einsum("nhwc,hk->nkwc", x, kernel(6, 3)),
    "mean": lambda x: x + jnp.mean(x, axis=1, keepdims=True),
    "transpose": lambda x: jnp.transpose(x, (0, 2, 1, 3)),
    "slice": lambda x: x[:, 1:5:2, ::-1],
    "pad": lambda x: jnp.pad(x, ((0, 0), (1, 2), (0, 1), (0, 0))),
    "reflect": lambda x: jnp.pad(x, ((0, 0), (2, 1), (1, 1), (0, 0)), mode="reflect"),
    "edge": lambda x: jnp.pad(x, ((0, 0), (2, 0), (1, 1), (0, 0)), mode="edge"),
    "concatenate": lambda x: jnp.concatenate([x, conv(x, (3, 3), padding="SAME")], axis=-1),
    "take": lambda x: jnp.take(x, np.array([3, 0, 5]), axis=1),
    "roll": lambda x: jnp.roll(x, 2, axis=1),
    "tile": lambda x: jnp.tile(x, (1, 2, 1, 1)),
    "repeat": lambda x: jnp.repeat(x, 2, axis=2),
    "space to depth": lambda x: x.reshape(1, 3, 2, 5, 2).transpose(0, 1, 3, 2, 4).reshape(1, 3, 5, 4),
    "stack": lambda x: jnp.stack([x, conv(x, (3, 3), 2, padding="SAME")], axis=1).reshape(1, 12, 5, 2),
    "unstack": lambda x: jnp.stack(list(jax.numpy.unstack(x, axis=1))[::-1], axis=1),
    "split": lambda x: jnp.split(x, 2, axis=1)[1],
    "relu": lambda x: jax.nn.relu(conv(x, (2, 2))),
    "softmax": lambda x: jax.nn.softmax(x * np.array([1, 2]), axis=-1),
    "jit": lambda x: jax.jit(lambda x: conv(x, (3, 3)))(x),
    "checkpoint": lambda x: jax.checkpoint(lambda x: conv(x, (3, 3)))(x),
}


@pytest.mark.parametrize("name", FIELDS)
def test_receptive_field(name):
    # Of a softmax far from zero, nothing is left.
    check_receptive_field(FIELDS[name], {"softmax": 0.5}.get(name, 1e4))


@pytest.mark.parametrize("function", [lambda x: jnp.cumsum(x, axis=1), lambda x: jnp.sort(x, axis=1)])
def test_what_sees_less_than_all_or_more_than_is_known_stays_opaque(function):
    operations, _, _ = translated(function, X)
    assert [operation.rule for operation in operations] == [OPAQUE]


@pytest.mark.parametrize("mode", ["constant", "reflect", "symmetric", "edge"])
def test_padding_is_one_operation(mode):
    operations, _, _ = translated(lambda x: jnp.pad(x, 1, mode=mode), X)
    moves = [operation.function for operation in operations if operation.outputs[0].origin == INPUT]
    assert moves == ["pad"]


def test_a_loop_is_not_looked_into():
    operations, _, _ = translated(lambda x: jax.lax.fori_loop(0, 3, lambda _, y: jax.nn.relu(y), x), X)
    assert [(operation.name, operation.rule) for operation in operations] == [("scan", OPAQUE)]
