"""Operations are run again, and say what they are."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_graphs import SHAPE, conv

from keras_gradcam.engine.tensorflow.operations import attribute, carried, evaluated, repeated, text


def operation(function, kind):
    traced = tf.compat.v1.wrap_function(function, [tf.TensorSpec((1, *SHAPE), tf.float32)])
    return next(op for op in traced.graph.get_operations() if op.type == kind)


def test_attributes_and_text():
    op = operation(lambda x: conv(x, (3, 2)), "Conv2D")
    assert text(attribute(op, "padding")) == "VALID"
    assert attribute(op, "keep_dims") is None
    assert text(3) == 3


@pytest.mark.parametrize(
    ("function", "kind", "positions"),
    [
        (lambda x: tf.transpose(x, (0, 2, 1, 3)), "Transpose", {0}),
        (lambda x: tf.concat([x, x], 1), "ConcatV2", {0, 1}),
        (lambda x: tf.split(x, 3, axis=1), "Split", {1}),
        (lambda x: tf.gather(x, [0], axis=1), "GatherV2", {0}),
    ],
)
def test_inputs_whose_elements_are_moved_are_told_from_those_that_say_where_to(function, kind, positions):
    assert carried(operation(function, kind)) == positions


def test_operations_are_run_in_the_precision_of_other_inputs():
    op = operation(lambda x: tf.reduce_sum(x, [1, 2], keepdims=True), "Sum")
    pictures = np.random.default_rng(0).random((3, *SHAPE))
    expected = pictures.sum((1, 2), keepdims=True)
    (found,) = evaluated(op, [pictures, np.array([1, 2])])
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(repeated(op, [tf.constant(pictures), [1, 2]])[0], expected)
