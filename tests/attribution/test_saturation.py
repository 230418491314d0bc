"""A gradient that vanished because probabilities are 0 or 1 is said to have, with a way out that works."""

from __future__ import annotations

import warnings

import keras
import numpy as np
import pytest
from keras import layers as L  # noqa: N812
from models import images, randomised

from keras_gradcam import Class, Explainer, Function, Output, Unit

STEEP = 3000.0


def classifier(end=lambda scores: L.Softmax()(scores), scale=STEEP, units=4):
    """Its weights are so large, or small, that probabilities are 0 and 1, or not."""
    inputs = keras.Input((12, 10, 3))
    x = L.GlobalAveragePooling2D()(L.Conv2D(6, 3, activation="relu", name="conv")(inputs))
    scores = L.Dense(units, name="scores")(x)
    model = randomised(keras.Model(inputs, end(scores)), 3)
    model.get_layer("scores").kernel.assign(model.get_layer("scores").kernel * scale)
    return model


def largest(outputs):
    return keras.ops.max(outputs, axis=-1)


def two_networks(scores):
    return L.Average()([L.Softmax()(scores), L.Softmax()(1.1 * scores)])


def with_flat_copy(scores):
    probabilities = L.Softmax(name="p")(scores)
    return {"p": probabilities, "half": 0.5 * scores}


@pytest.mark.parametrize(
    ("end", "target"),
    [
        (L.Softmax(), largest),
        (L.Softmax(), Function(largest)),
        (L.Softmax(), Class(logits=False)),
        (L.Softmax(), Unit(1)),
        (L.Activation("sigmoid"), Class(0, logits=False)),
        (L.Activation("sigmoid"), -Unit(2)),
        (two_networks, Class()),
        (two_networks, Class(2) - Class(1)),
        (with_flat_copy, Output("p", largest)),
        (with_flat_copy, Output("p", Class(logits=False))),
    ],
)
def test_vanished_gradients_are_warned_about(end, target):
    with pytest.warns(UserWarning, match=r"maps of 3 of 3 samples are zero.*gradient has vanished"):
        explanation = Explainer(classifier(end), target=target, methods="gradcam")(images())
    assert np.abs(explanation.gradcam).max() < 1e-3


@pytest.mark.parametrize("target", [Class(), Class(2), Function(largest, logits=True), Class(1) - Class(0)])
@pytest.mark.parametrize("end", [L.Softmax(), lambda scores: L.Flatten()(L.Softmax()(L.Reshape((1, 4))(scores)))])
def test_what_the_warning_proposes_has_maps(end, target):
    explanation = Explainer(classifier(end), target=target, methods="gradcam")(images())
    assert (explanation.gradcam.max(axis=(1, 2)) > 1).any()
    assert np.abs(explanation.scores).min() > 1


@pytest.mark.parametrize(
    ("end", "target"),
    [(L.Softmax(), largest), (L.Softmax(), Unit(1)), (L.Activation("sigmoid"), largest), (two_networks, Class())],
)
def test_probabilities_between_zero_and_one_are_not_warned_about(end, target):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = Explainer(classifier(end, scale=1.0), target=target, methods="gradcam")(images())
    assert ((result.scores > 0) & (result.scores < 1)).all()
