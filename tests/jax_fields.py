"""Functions of JAX arrays translated to graphs, and receptive fields read off these."""

from __future__ import annotations

import jax
import numpy as np
from fields import changed_boxes

from keras_gradcam.engine.base import InputSpec, LayerCall, LayerOutput
from keras_gradcam.engine.graphs.graph import OPAQUE, Graph, Value
from keras_gradcam.engine.graphs.receptive_field import receptive_boxes
from keras_gradcam.engine.jax.tracing import Translation

SHAPE = (6, 5, 2)


def kernel(*shape):
    return np.random.default_rng(0).uniform(0.5, 1.5, shape).astype("float32")


def conv(x, size, channels=3, strides=(1, 1), padding="VALID", groups=1, **options):
    return jax.lax.conv_general_dilated(
        x,
        kernel(*size, x.shape[-1] // groups, channels),
        strides,
        padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
        **options,
    )


def translated(function, *arrays):
    """The operations of a function, and the values of its inputs and of its first result."""
    closed = jax.make_jaxpr(function)(*arrays)
    translation = Translation()
    inputs = [Value(np.shape(array), str(array.dtype)) for array in arrays]
    (result, *_) = translation.body(closed.jaxpr, closed.consts, inputs, translation.steps)
    return translation.operations, inputs, result


def check_receptive_field(function, step=1e4):
    """What is read off equals what changing every pixel in turn shows."""
    operations, inputs, result = translated(function, np.zeros((1, *SHAPE), "float32"))
    assert not [operation.name for operation in operations if operation.rule == OPAQUE]
    layer = LayerOutput(LayerCall("layer", "Layer", (None, *result.shape[1:])), None, result, inputs=(0,))
    boxes = receptive_boxes(Graph(inputs, operations), layer, InputSpec(0, ((SHAPE, "float32"),)), 0, True).boxes
    one_by_one = jax.jit(jax.vmap(lambda picture: function(picture[None])[0]))
    np.testing.assert_array_equal(boxes, changed_boxes(one_by_one, SHAPE, step))
