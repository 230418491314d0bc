"""Activations that guided backpropagation leaves aside are named; rectifiers, gates and final activations are not."""

from __future__ import annotations

import warnings

import keras
import pytest
from keras import layers as L  # noqa: N812
from models import CLASSES, SIZE, images

from keras_gradcam import explain


def rectified_and(activation):
    inputs = keras.Input((*SIZE, 3))
    x = L.Conv2D(4, 3, activation="relu", name="conv1")(inputs)
    x = L.Activation(activation)(L.Conv2D(4, 3, name="conv2")(x))
    return keras.Model(inputs, L.Dense(CLASSES, activation="softmax")(L.GlobalAveragePooling2D()(x)))


def silu_by_hand(x):
    return x / (1 + keras.ops.exp(-x))


def hard_silu_by_hand(x):
    return x * keras.ops.relu6(x + 3) / 6


@pytest.mark.parametrize(
    ("activation", "name"),
    [
        ("silu", "silu"),
        ("hard_silu", "hard_silu"),
        (hard_silu_by_hand, "hard_silu"),
        (silu_by_hand, r"divide\(x, "),
        ("gelu", "gelu"),
        ("elu", "elu"),
        ("celu", "celu"),
        ("mish", "mish"),
        ("tanh", "tanh"),
    ],
)
def test_activations_that_the_guided_rule_leaves_aside_are_named(activation, name):
    with pytest.warns(UserWarning, match=rf"ReLUs of the model alone.*ordinary gradient: {name}"):
        result = explain(rectified_and(activation), images(), methods="guided_backprop")
    assert result.guided_backprop.any()


@pytest.mark.parametrize(
    "activation", ["relu", "relu6", "leaky_relu", "hard_sigmoid", "sigmoid", "linear", "hard_tanh", "soft_shrink"]
)
def test_rectifiers_and_gates_need_no_warning(activation):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = explain(rectified_and(activation), images(), methods="guided_backprop")
    assert result.guided_backprop.any()
