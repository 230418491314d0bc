"""How the graph is gone through: what is refused, what is looked up, and which picture a layer sees."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from contract import ask, spec_of
from keras import layers as L  # noqa: N812
from models import images

from keras_gradcam.engine.boxes import as_boxes
from keras_gradcam.engine.tensorflow.receptive_field import GraphReader, receptive_boxes

SHAPE = (6, 5, 2)


def reader_of(function, *shapes, gates=True):
    specs = [tf.TensorSpec((1, *shape), tf.float32) for shape in shapes or (SHAPE,)]
    traced = tf.compat.v1.wrap_function(function, specs)
    return traced, GraphReader(traced, len(specs), "a/layer", gates)


def read(function, gates=True):
    traced, reader = reader_of(function, gates=gates)
    return reader.read(traced.inputs[0], (1, *SHAPE), traced.outputs[0]), reader


def test_operation_that_is_not_known_is_named():
    with pytest.raises(ValueError, match=r"`layer` must be computed by.*'a/layer', computed through Cumsum.*before it"):
        read(lambda x: tf.cumsum(x, axis=1))


def test_operation_that_is_not_known_sees_everything_of_everything():
    reach, _ = read(lambda x: tf.cumsum(x + tf.reduce_mean(x), axis=1))
    assert reach.sees_all(SHAPE[:2])
    assert reach.shape == (1, *SHAPE)


@pytest.mark.parametrize(
    ("function", "operation"),
    [
        (lambda x: tf.gather(x, tf.cast(x[0, :3, 0, 0], tf.int32), axis=1), "GatherV2"),
        (lambda x: tf.nn.conv2d(x, x[0, :3, :3, :, None], 1, "SAME"), "Conv2D"),
        (lambda x: tf.nn.max_pool2d(tf.transpose(x, (0, 3, 1, 2)), 2, 2, "SAME", "NCHW"), "MaxPool"),
        (lambda x: tf.while_loop(lambda i, _: i < 3, lambda i, y: (i + 1, tf.nn.relu(y)), [0, x])[1], "While"),
        (lambda x: tf.einsum("bhwc,bhhc->bhwc", x, x[:, :5, :5])[:, :5], "Einsum"),
    ],
)
def test_what_depends_on_the_picture_in_an_unknown_way_is_refused(function, operation):
    with pytest.raises(ValueError, match=operation):
        read(function)


def test_shapes_and_zeros_depend_on_no_pixel():
    reach, _ = read(lambda x: tf.zeros_like(x) + tf.cast(tf.shape(x)[1], tf.float32))
    assert not as_boxes(reach.values, SHAPE[:2]).any()
    assert reach.shape == (1, *SHAPE)


def test_values_and_shapes_that_only_running_tells():
    def reshaped(x, rows):
        return tf.reshape(x, tf.stack([1, tf.cast(rows[0], tf.int32) + 10, -1]))

    traced, reader = reader_of(reshaped, SHAPE, ())
    (result,) = traced.outputs
    assert not result.shape.is_fully_defined()
    assert reader.shape(result) == (1, 10, 6)
    assert reader.read(traced.inputs[0], (1, *SHAPE), result).shape == (1, 10, 6)


def test_gates_are_left_out_and_told():
    def gated(x):
        return x * tf.reduce_mean(x, (1, 2), keepdims=True)

    with_gates, reader = read(gated)
    assert reader.gated
    assert with_gates.sees_all(SHAPE[:2])
    without, reader = read(gated, gates=False)
    assert reader.gated
    np.testing.assert_array_equal(as_boxes(without.values, SHAPE[:2])[0, 3, 2, 0], [2, 3, 3, 4])


def test_layer_of_another_picture_sees_that_one():
    left, right = keras.Input((12, 10, 3), name="left"), keras.Input((8, 8, 1), name="right")
    towers = [L.Conv2D(2, 3, name=name)(x) for name, x in (("of_left", left), ("of_right", right))]
    model = keras.Model([left, right], [L.Flatten()(tower) for tower in towers])
    spec = spec_of([images(1), images(1, (8, 8), 1)])
    for layer, index, size in (("of_left", 0, (10, 8)), ("of_right", 1, (6, 6))):
        traced = receptive_boxes(model, spec, ask(layer=layer))
        assert (traced.explained_input, traced.boxes.shape[:2]) == (index, size)


def test_model_that_was_never_called_is_built():
    model = keras.Sequential([L.Conv2D(2, 3, name="conv"), L.GlobalAveragePooling2D()])
    assert receptive_boxes(model, spec_of(images(1)), ask(layer="conv")).boxes.shape == (10, 8, 2, 4)
