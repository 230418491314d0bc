"""Scores of changed pictures: the class they are about, probabilities, baselines, batches, and what models take."""

from __future__ import annotations

import math

import keras
import numpy as np
import pytest
from keras import layers as L  # noqa: N812
from linear_models import BIAS, GRID, MAPS, PICTURES, WEIGHTS, by_hand, linear, slow_curve, softmax
from models import randomised

from keras_gradcam import Class, Explainer, Output, Unit
from keras_gradcam.attribution.targets.probabilities import class_probabilities
from keras_gradcam.metrics.faithfulness import deletion, insertion, masked_confidence


def test_scores_are_probabilities_where_there_is_a_class():
    picture, logits = PICTURES[:1], by_hand(PICTURES[0])
    for explainer in (linear("softmax"), linear("log_softmax"), linear()):  # raw scores go through a softmax too
        for target in (1, Class(1, logits=False), 2 * Class(1)):
            for score in ("auto", "probability"):
                found = deletion(explainer, picture, MAPS[:1], target=target, steps=1, score=score).scores[0, 0]
                assert found == pytest.approx(softmax(logits)[1], abs=1e-6)
    one = deletion(linear("softmax"), picture, MAPS[:1], target=1, steps=1, score="target").scores[0, 0]
    assert one == pytest.approx(logits[1], abs=1e-5)
    # No class is what speaks against one, what tells two apart, or a function.
    for target, expected in (
        (-Class(1), -logits[1]),
        (Class(1) - Class(0), logits[1] - logits[0]),
        (lambda outputs: 3 * outputs[:, 1], 3 * logits[1]),
    ):
        one = deletion(linear(), picture, MAPS[:1], target=target, steps=1).scores[0, 0]
        assert one == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("activation", [None, "sigmoid"])
def test_one_unit_stands_for_two_classes(activation):
    value = by_hand(PICTURES[0])[0]
    one = 1 / (1 + np.exp(-value))
    # Without a sigmoid, a loss or a class nothing says that the unit stands for classes: it is a value.
    default = max(one, 1 - one) if activation else value
    for target, expected in ((1, one), (0, 1 - one), (None, default)):
        found = deletion(linear(activation, 1), PICTURES[:1], MAPS[:1], target=target, steps=1).scores[0, 0]
        assert found == pytest.approx(expected, abs=1e-6)


def own_softmax(x):
    """One that is not found in the graph; every row is a distribution all the same."""
    return keras.ops.exp(x) / keras.ops.sum(keras.ops.exp(x), axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("ending", "units"),
    [("softmax", 2), ("log_softmax", 2), ("sigmoid", 2), (None, 2), (own_softmax, 2), ("sigmoid", 1), (None, 1)],
)
def test_probabilities_are_read_as_everywhere(ending, units):
    explainer = linear(ending, units)
    name = ending if isinstance(ending, str) else ""
    expected = class_probabilities(explainer.predict(PICTURES), name)
    for of_class in (0, 1):
        found = masked_confidence(explainer, PICTURES, MAPS, target=of_class).original
        np.testing.assert_allclose(found, expected[:, of_class], atol=1e-6)


def test_a_predicted_class_stays_the_same_in_a_sum_and_in_one_of_several_outputs():
    inputs = keras.Input((*GRID, 2))
    flat = L.Flatten()(inputs)
    heads = [L.Dense(2, name="other")(flat), L.Dense(2, activation="softmax", name="mine")(flat)]
    model = randomised(keras.Model(inputs, heads))
    model.get_layer("mine").set_weights([WEIGHTS, BIAS])
    explainer = Explainer(model, methods="gradcam", target=Output("mine"))
    expected = deletion(linear("softmax"), PICTURES, MAPS, steps=5).scores
    np.testing.assert_allclose(deletion(explainer, PICTURES, MAPS, steps=5).scores, expected, atol=1e-5)

    found = deletion(linear(), PICTURES, MAPS, target=Class() - Class(0), steps=5).scores
    for number, picture in enumerate(PICTURES):
        first, mean = by_hand(picture).argmax(), np.broadcast_to(picture.mean(axis=(0, 1)), picture.shape)
        slow = slow_curve(picture, mean, MAPS[number], 5, lambda x, first=first: by_hand(x)[first] - by_hand(x)[0])
        np.testing.assert_allclose(found[number], slow, atol=1e-5)


def test_blur_is_a_gaussian_of_a_tenth_of_the_shorter_side():
    size, deviation = (9, 12), 0.9
    picture = np.random.default_rng(0).normal(size=(1, *size, 1)).astype("float32")
    radius = int(4 * deviation + 0.5)
    kernel = np.array([math.exp(-(x**2) / (2 * deviation**2)) for x in range(-radius, radius + 1)])
    padded = np.pad(picture[0, ..., 0].astype(float), radius, mode="symmetric")
    blurred = np.zeros(size)
    for y, x in np.ndindex(*size):
        window = padded[y : y + 2 * radius + 1, x : x + 2 * radius + 1]
        blurred[y, x] = (window * np.outer(kernel, kernel)).sum() / kernel.sum() ** 2
    ramp = np.arange(108, dtype="float32").reshape(108, 1)
    model = keras.Sequential([keras.Input((*size, 1)), L.Flatten(), L.Dense(1, use_bias=False)])
    model.layers[-1].set_weights([ramp])
    found = insertion(model, picture, blurred[None], target=Unit(0), steps=1).scores[0]
    np.testing.assert_allclose(found, [blurred.ravel() @ ramp[:, 0], picture.ravel() @ ramp[:, 0]], rtol=1e-4)


def test_a_baseline_of_one_s_own():
    other = PICTURES[::-1].copy()
    found = deletion(linear(), PICTURES, MAPS, target=Unit(0), steps=1, baseline=other).scores
    np.testing.assert_allclose(found[:, 1], [by_hand(one)[0] for one in other], atol=1e-5)


def test_no_more_than_a_batch_goes_through_the_model_at_once_and_it_is_traced_once(monkeypatch):
    explainer = Explainer(linear("softmax").model, methods="gradcam", batch_size=5)
    sizes, score = [], Explainer.score
    monkeypatch.setattr(
        Explainer, "score", lambda self, given, target: sizes.append(len(given)) or score(self, given, target)
    )
    deletion(explainer, PICTURES, MAPS, steps=6)
    traced = len(explainer.runner.cache)
    assert sum(sizes) == 3 + 3 * 7
    assert max(sizes) == 5
    insertion(explainer, PICTURES, MAPS, steps=3)
    masked_confidence(explainer, PICTURES[:2], MAPS[:2])
    assert len(explainer.runner.cache) == traced == 2  # which class, and its probability


@pytest.mark.parametrize("declared", ["float32", "uint8"])
def test_whole_numbers_stay_on_their_scale(declared):
    inputs = keras.Input((*GRID, 2), dtype=declared)
    x = L.Flatten()(L.Rescaling(1 / 255)(inputs))
    dense = L.Dense(2)
    model = keras.Model(inputs, dense(x))
    dense.set_weights([WEIGHTS, BIAS])
    pictures = np.random.default_rng(0).integers(0, 256, (3, *GRID, 2), dtype=np.uint8)
    found = deletion(model, pictures, MAPS, target=1, steps=3, score="target").scores
    rounded = np.rint if declared == "uint8" else np.asarray
    for number, picture in enumerate(pictures.astype(float)):
        mean = np.broadcast_to(rounded(picture.mean(axis=(0, 1))), picture.shape)
        slow = slow_curve(picture, mean, MAPS[number], 3, lambda changed: by_hand(changed / 255)[1])
        np.testing.assert_allclose(found[number], slow, atol=1e-4)


def test_pictures_without_channels_and_beside_other_inputs():
    picture, number = keras.Input(GRID, name="picture"), keras.Input((2,), name="number")
    flat = L.Concatenate()([L.Flatten()(picture), number])
    dense = L.Dense(2)
    model = keras.Model({"picture": picture, "number": number}, dense(flat))
    dense.set_weights([WEIGHTS[:14], BIAS])
    given_pictures, numbers = PICTURES[..., 0], np.array([[1, 2], [3, 4], [5, 6]], "float32")
    found = deletion(model, {"picture": given_pictures, "number": numbers}, MAPS, target=Unit(0), steps=3).scores
    for sample, one in enumerate(given_pictures):
        slow = slow_curve(
            one,
            np.full(GRID, one.mean()),
            MAPS[sample],
            3,
            lambda changed, sample=sample: (
                np.concatenate([changed.ravel(), numbers[sample]]) @ WEIGHTS[:14, 0] + BIAS[0]
            ),
        )
        np.testing.assert_allclose(found[sample], slow, atol=1e-5)
