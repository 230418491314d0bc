"""Functions of TensorFlow as graphs of all backends, and what their results see of their input."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from fields import changed_boxes

from keras_gradcam.engine.boxes import as_boxes
from keras_gradcam.engine.graphs.receptive_field import ReachReader
from keras_gradcam.engine.tensorflow.translation import Translation

SHAPE = (6, 5, 2)


def kernel(*shape):
    return tf.constant(np.random.default_rng(0).uniform(0.5, 1.5, shape), tf.float32)


def conv(x, size, channels=3, strides=1, padding="VALID", **options):
    return tf.nn.conv2d(x, kernel(*size, x.shape[-1], channels), strides, padding, **options)


def translated(function, *shapes, batch=1):
    """Translates a function of tensors; returns the graph and the value of its result."""
    with tf.__internal__.FuncGraph("function").as_default() as graph:
        inputs = [tf.compat.v1.placeholder(tf.float32, (batch, *shape)) for shape in shapes or (SHAPE,)]
        result = tf.convert_to_tensor(function(*inputs))
        translation = Translation(graph, inputs)
        return translation.graph(inputs), translation.value(result)


def read(function, gates=True):
    """Returns the reach of a function's result, and the reader that has found it."""
    graph, end = translated(function)
    reader = ReachReader("a/layer", gates)
    return reader.read(graph, graph.inputs[0], end), reader


def lines_of(function):
    return [line and (line.stride, line.first, line.size) for line in read(function)[0].lines]


def check_reach(function):
    """Compares what a function's result sees with what changes where pixels are changed in turn."""
    reach, _ = read(function)
    np.testing.assert_array_equal(as_boxes(reach.values, SHAPE[:2])[0], changed_boxes(_one_by_one(function), SHAPE))


def _one_by_one(function):
    """Runs a function of pictures one by one, so that what is laid into the batch stays apart; on every CPU."""

    def features(pictures):
        try:
            return np.concatenate([function(tf.constant(picture[None])) for picture in pictures])
        except (tf.errors.UnimplementedError, tf.errors.InvalidArgumentError):
            compiled = tf.function(lambda x: tf.map_fn(lambda one: function(one[None])[0], x), jit_compile=True)
            return compiled(tf.constant(pictures)).numpy()

    return features
