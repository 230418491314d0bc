"""Lengths, directions and distances of embeddings of any size, beside double precision."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from backends import numbers, tensor
from keras import layers as L  # noqa: N812
from oracles import score_and_gradient

from keras_gradcam import Distance, Norm, SelfSimilarity, Similarity, Triplet, explain
from keras_gradcam.attribution.targets.vectors import direction, distance, length

SCALES = [1.0, 1e-19, 1e-30, 1e19, 1e30]
PICTURES, OTHERS, THIRD = np.random.default_rng(1).random((3, 3, 12, 10, 3), "float32")
V, W = np.random.default_rng(0).normal(size=(2, 3, 5))


def value_and_gradient(function, *arrays):
    first, *others = (tensor(array, "float32") for array in arrays)
    value, gradient = score_and_gradient(lambda given: function(given, *others), first)
    return numbers(value), numbers(gradient)


@pytest.mark.parametrize("scale", SCALES)
def test_lengths_and_distances_have_values_and_gradients_at_any_size(scale):
    v, w = V * scale, W * scale
    found, gradient = value_and_gradient(length, v)
    norms = np.linalg.norm(V, axis=1, keepdims=True)
    np.testing.assert_allclose(found, norms * scale, rtol=1e-5)
    np.testing.assert_allclose(gradient, V / norms, rtol=1e-4)
    found, gradient = value_and_gradient(distance, v, w)
    between = np.linalg.norm(V - W, axis=1)
    np.testing.assert_allclose(found, between * scale, rtol=1e-5)
    np.testing.assert_allclose(gradient, (V - W) / between[:, None], rtol=1e-4)
    np.testing.assert_allclose(numbers(direction(tensor(v, "float32"))), V / norms, rtol=1e-5)


def test_zero_has_no_direction_and_its_length_no_gradient():
    np.testing.assert_array_equal(numbers(direction(keras.ops.zeros((2, 4)))), np.zeros((2, 4)))
    for function, expected in ((lambda v: distance(v, keras.ops.zeros_like(v)), 0), (length, 1)):
        value, gradient = value_and_gradient(function, np.zeros((2, 4)))
        np.testing.assert_array_equal(value, np.full(value.shape, expected))
        np.testing.assert_array_equal(gradient, 0)


def embedding(scale, dtype=None):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((12, 10, 3))
    x = L.GlobalAveragePooling2D()(L.Conv2D(8, 3, activation="relu", name="conv", dtype=dtype)(inputs))
    head = L.Dense(6, kernel_initializer=keras.initializers.RandomNormal(stddev=scale), dtype=dtype)
    return keras.Model(inputs, head(x))


@pytest.mark.parametrize("scale", [1e-19, 1e-25, 1e19, 1e25])
@pytest.mark.parametrize(
    ("target", "grows"),
    [
        (lambda r, s: Similarity(r), 0),
        (lambda r, s: Distance(r), 1),
        (lambda r, s: Triplet(r, s), 1),
        (lambda r, s: Norm(), 1),
        (lambda r, s: SelfSimilarity(), 1),
    ],
    ids=["Similarity", "Distance", "Triplet", "Norm", "SelfSimilarity"],
)
def test_very_small_and_very_large_embeddings_are_explained_as_others(scale, target, grows):
    plain = explain(embedding(1.0), PICTURES, target=target(OTHERS, THIRD), methods="gradcam")
    result = explain(embedding(scale), PICTURES, target=target(OTHERS, THIRD), methods="gradcam")
    assert plain.gradcam.max() > 0
    np.testing.assert_allclose(result.scores / scale**grows, plain.scores, rtol=1e-3)
    np.testing.assert_allclose(result.gradcam / scale**grows, plain.gradcam, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision_embeddings_are_near_those_in_full(dtype):
    full, half = embedding(1.0), embedding(1.0, dtype)
    half.set_weights(full.get_weights())
    expected, found = (explain(model, PICTURES, target=Similarity(OTHERS), methods="gradcam") for model in (full, half))
    np.testing.assert_allclose(found.scores, expected.scores, atol=0.02)
