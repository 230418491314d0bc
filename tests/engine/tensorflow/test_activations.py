"""Activations are recognised by what they compute, however they are written."""

from __future__ import annotations

import pytest
import tensorflow as tf

from keras_gradcam.engine.tensorflow.activations import activations

KINDS = {
    "relu by maximum": (lambda x: tf.maximum(x, tf.zeros_like(x)), [("rectifier", 1)]),
    "relu by where": (lambda x: tf.where(x <= 0.0, 0.0, x), [("rectifier", 1)]),
    "relu by abs": (lambda x: (x + tf.abs(x)) / 2.0, [("rectifier", 1)]),
    "relu by a mask": (lambda x: x * tf.cast(x > 0.0, x.dtype), [("rectifier", 1)]),
    "relu6 by clipping": (lambda x: tf.clip_by_value(x, 0.0, 6.0), [("rectifier", 1)]),
    "leaky by maximum": (lambda x: tf.maximum(x, 0.1 * x), [("rectifier", 1)]),
    "relu by minimum": (lambda x: -tf.minimum(-x, 0.0), [("rectifier", -1)]),
    "minus relu": (lambda x: tf.minimum(x, 0.0), [("rectifier", -1)]),
    "hard sigmoid": (lambda x: tf.nn.relu6(3.0 + x) / 6.0, [("gate", 1)]),
    "hard sigmoid by clipping": (lambda x: tf.clip_by_value(x / 6.0 + 0.5, 0.0, 1.0), [("gate", 1)]),
    "hard swish": (lambda x: x * tf.nn.relu6(x + 3.0) / 6.0, [("smooth", 1)]),
    "celu": (lambda x: tf.maximum(x, 0.0) + tf.math.expm1(tf.minimum(x, 0.0)), [("smooth", 1)]),
    "swish": (lambda x: x * tf.sigmoid(x), [("smooth", 1)]),
    "soft shrinkage": (lambda x: tf.sign(x) * tf.nn.relu(tf.abs(x) - 0.5), [("gate", 1)]),
    "relu behind a mask": (
        lambda x: tf.where(tf.random.uniform(tf.shape(x)) > 0.5, 2.0 * tf.nn.relu(x), 0.0),
        [("rectifier", 1)],
    ),
    "relu of tanh": (lambda x: tf.nn.relu(tf.tanh(x)), [("smooth", 1), ("rectifier", 1)]),
}


@pytest.mark.parametrize(("function", "expected"), KINDS.values(), ids=KINDS)
def test_kind_of_an_activation(function, expected):
    with tf.Graph().as_default() as graph:
        function(tf.compat.v1.placeholder(tf.float32, (None, 3)))
    assert [(found.kind, found.sign) for found in activations(graph)] == expected
