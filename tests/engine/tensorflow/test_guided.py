"""Rectifiers that TensorFlow's own functions and graphs hold, loops, and that the rule stays where it belongs."""

from __future__ import annotations

import sys
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as L  # noqa: N812
from models import ConvnetByCall, ConvnetByHand, block_convnet, called, convnet, images
from oracles import assert_close, input_gradient, rectifier
from rectifiers import (
    OF_CLASS,
    Case,
    check_gradcam_is_ordinary,
    check_guided_backprop,
    check_the_oracle_differs_from_plain_backpropagation,
)
from tensorflow_models import BlockByFunction, ConvnetByAutograph, ConvnetByFunction

from keras_gradcam import Explainer, explain

CASES = {
    "tf.nn.relu": Case(lambda: called(ConvnetByCall(tf.nn.relu)), rectifier()),
    "tf.nn.relu in a Lambda": Case(lambda: convnet(lambda position: L.Lambda(tf.nn.relu)), rectifier()),
    "tf.nn.relu6 in a Lambda": Case(
        lambda: convnet(lambda position: L.Lambda(lambda x: tf.nn.relu6(x))), rectifier(max_value=6.0)
    ),
    "model's call is a tf.function": Case(lambda: called(ConvnetByFunction(tf.nn.relu)), rectifier()),
    "model's call is a tf.function, PReLU by ops": Case(
        lambda: called(ConvnetByFunction(lambda x: keras.ops.relu(x) - 0.4 * keras.ops.relu(-x))),
        rectifier(negative_slope=0.4),
    ),
    "model's call is a tf.function with `if`": Case(lambda: called(ConvnetByAutograph(tf.nn.relu)), rectifier()),
    "layer's call is a tf.function": Case(
        lambda: block_convnet(BlockByFunction(keras.activations.relu, name="block")), rectifier()
    ),
}


@pytest.fixture(scope="module", params=CASES, ids=str)
def explained(request):
    """A case, its model, and the maps that one pass gives together."""
    case = CASES[request.param]
    try:
        model = case.build()
    except tf.errors.OperatorNotAllowedInGraphError:
        # The model cannot even be called: TensorFlow 2.21's AutoGraph does not work on Python 3.13.
        if sys.version_info < (3, 13):
            raise
        pytest.skip("AutoGraph does not convert functions on this Python")
    return case, model, explain(model, images(), target=OF_CLASS, layer="conv2")


def test_guided_backprop_equals_a_network_of_custom_gradients(explained):
    check_guided_backprop(*explained)


def test_the_guided_oracle_differs_from_plain_backpropagation(explained):
    check_the_oracle_differs_from_plain_backpropagation(*explained[:2])


def test_gradcam_keeps_ordinary_gradients(explained):
    check_gradcam_is_ordinary(*explained)


def test_smooth_function_in_a_subclassed_model_is_named():
    model = called(ConvnetByCall(tf.nn.tanh))
    with pytest.warns(UserWarning, match=r"tanh"):
        explain(model, images(), target=OF_CLASS, methods="guided_backprop")


def _while_loop(x):
    return tf.while_loop(lambda i, _: i < 2, lambda i, x: (i + 1, tf.nn.relu(x)), (0, x), maximum_iterations=2)[1]


def _keras_while_loop(x):
    loop = keras.ops.while_loop
    return loop(lambda i, _: i < 2, lambda i, x: (i + 1, keras.ops.relu(x)), (0, x), maximum_iterations=2)[1]


def _while_loop_of_maxima(x):
    loop = tf.while_loop
    return loop(lambda i, _: i < 2, lambda i, x: (i + 1, tf.maximum(x, 0.0)), (0, x), maximum_iterations=2)[1]


LOOPS = {
    "tf.while_loop": _while_loop,
    "keras.ops.while_loop": _keras_while_loop,
    "written out": _while_loop_of_maxima,
}


@pytest.mark.parametrize("name", LOOPS)
def test_relu_in_a_loop_beside_another_warns_and_keeps_its_ordinary_gradient(name):
    model = convnet(lambda position: L.ReLU() if position == 1 else L.Lambda(LOOPS[name]))
    with pytest.warns(UserWarning, match=r"1 ReLU operation.* inside a loop or a branch"):
        result = explain(model, images(), target=OF_CLASS, layer="conv2")
    by_hand = ConvnetByHand(model, [rectifier().guided(), rectifier().ordinary()])
    assert_close(result.guided_backprop, input_gradient(by_hand.score(OF_CLASS), images()))


@pytest.mark.parametrize("name", LOOPS)
def test_relu_in_loops_alone_warns(name):
    model = called(ConvnetByCall(LOOPS[name]))
    with pytest.warns(UserWarning, match=r"ReLU"):
        explain(model, images(), target=OF_CLASS, layer="conv2", methods="guided_backprop")


@pytest.mark.skipif(not hasattr(keras, "remat"), reason="this Keras has no remat")
def test_relu_recomputed_in_the_backward_pass_is_guided_or_warned_about():
    """`keras.remat` runs its function again while it differentiates, where the rule may not reach."""

    def rematerialised(x):
        return keras.remat(tf.nn.relu)(x)

    model = called(ConvnetByCall(rematerialised))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = explain(model, images(), target=OF_CLASS, layer="conv2", methods="guided_backprop")
    if not caught:
        by_hand = ConvnetByHand(model, [rectifier().guided()] * 2)
        assert_close(result.guided_backprop, input_gradient(by_hand.score(OF_CLASS), images()))


def test_guided_rule_does_not_leak_into_the_users_own_gradients():
    model = convnet(activation="relu")
    plain = ConvnetByHand(model, [rectifier().ordinary()] * 2, fused=True)
    expected = input_gradient(plain.score(OF_CLASS), images())

    def own():
        x = tf.convert_to_tensor(images())
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(x)
            logits = tf.math.log(model(x))
            score = logits[:, OF_CLASS]
        return tape.gradient(score, x), score

    before, _ = own()
    Explainer(model)(images())
    after, _ = own()
    np.testing.assert_array_equal(before, after)
    assert np.abs(expected).max() > 0
