"""Convolutions, poolings and resizing of JAX, beside changing every pixel in turn."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax_fields import check_receptive_field, conv, kernel, translated

from keras_gradcam.engine.graphs.graph import OPAQUE


def pool(x, function, size, strides=(2, 2), padding="VALID", start=0.0):
    return jax.lax.reduce_window(x, start, function, (1, *size, 1), (1, *strides, 1), padding)


CASES = {
    "convolution": lambda x: conv(x, (3, 2)),
    "convolution, same, strided": lambda x: conv(x, (3, 2), strides=(2, 2), padding="SAME"),
    "convolution, padded": lambda x: conv(x, (2, 2), padding=[(1, 2), (0, 1)]),
    "convolution, dilated": lambda x: conv(x, (2, 3), padding="SAME", rhs_dilation=(2, 2)),
    "convolution, depthwise": lambda x: conv(x, (2, 2), 4, groups=2),
    "convolution, transposed": lambda x: jax.lax.conv_transpose(x, kernel(3, 3, 2, 3), (2, 2), "SAME"),
    "convolution, transposed, valid": lambda x: jax.lax.conv_transpose(x, kernel(2, 3, 2, 3), (2, 3), "VALID"),
    "maximum of windows": lambda x: pool(x, jax.lax.max, (2, 2), start=-jnp.inf),
    "sum of windows, same": lambda x: pool(x, jax.lax.add, (3, 2), padding="SAME"),
    "resize": lambda x: jax.image.resize(x, (1, 4, 8, 2), "bilinear"),
    "resize, nearest": lambda x: jax.image.resize(x, (1, 12, 10, 2), "nearest"),
    "channels first": lambda x: jnp.moveaxis(
        jax.lax.reduce_window(jnp.moveaxis(x, 3, 1), -jnp.inf, jax.lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID"), 1, 3
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_receptive_field(name):
    check_receptive_field(CASES[name])


@pytest.mark.parametrize(
    "function",
    [
        lambda x: jax.lax.reduce_window(x, 0.0, jax.lax.add, (2, 1, 1, 1), (1, 1, 1, 1), "VALID"),
        lambda x: conv(x, (2, 2), padding=[(-1, 0), (0, 0)], lhs_dilation=(2, 2), strides=(2, 1)),
        lambda x: jax.lax.conv_general_dilated(
            x, kernel(2, 2, 2, 3), (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NCHW")
        ),
    ],
    ids=["over samples", "dilated and strided", "other axes"],
)
def test_what_lays_windows_otherwise_is_opaque(function):
    operations, _, _ = translated(function, np.zeros((2, 6, 5, 2), "float32"))
    assert OPAQUE in [operation.rule for operation in operations]
