"""Curves and drops against hand-computed numbers on a linear model, slow loops, and what must stay as it was."""

from __future__ import annotations

import math

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from keras import layers as L  # noqa: N812
from linear_models import GRID, MAPS, PICTURES, by_hand, linear, slow_curve, softmax
from models import CLASSES, SIZE, convnet, convnet_in_sequence, images
from oracles import upsample_by_hand
from snapshots import unchanged

from keras_gradcam import Class, Explainer, Unit
from keras_gradcam.metrics.faithfulness import (
    Curve,
    MaskedConfidence,
    average_drop,
    deletion,
    increase_in_confidence,
    insertion,
    masked_confidence,
)

whole_maps = arrays(np.float64, (2, *GRID), elements=st.integers(0, 5).map(float))


# -------------------------------------------------------------------------------------------------------------- curves


def test_deletion_and_insertion_by_hand():
    model = keras.Sequential([keras.Input((1, 4, 1)), L.Flatten(), L.Dense(1, use_bias=False)])
    model.layers[-1].set_weights([np.array([[1.0], [2.0], [3.0], [4.0]])])
    picture, weights = np.ones((1, 1, 4, 1)), np.array([[[0.0, 5.0, 0.0, 7.0]]])
    options = {"target": Unit(0), "steps": 4, "baseline": np.zeros(1)}
    down, up = (curve(model, picture, weights, **options) for curve in (deletion, insertion))
    # The fourth pixel goes first, then the second, then of the two zeros the one on the left.
    np.testing.assert_allclose(down.scores, [[10, 6, 4, 3, 0]])
    np.testing.assert_allclose(up.scores, [[0, 4, 6, 7, 10]])
    np.testing.assert_allclose(down.fractions, [0, 0.25, 0.5, 0.75, 1])
    assert down.auc.mean == pytest.approx((5 + 6 + 4 + 3) / 4)
    assert up.auc.mean == pytest.approx((5 + 4 + 6 + 7) / 4)
    assert repr(up) == "Curve(5 points, area PerSample(mean 5.5 of 1, 0 missing))"
    # The mean of the ones is one: removing changes nothing.
    np.testing.assert_allclose(deletion(model, picture, weights, target=Unit(0), steps=2).scores, [[10, 10, 10]])


def test_area_over_steps_of_unequal_width():
    curve = Curve(np.array([0, 0.25, 1]), np.array([[1.0, 3.0, 5.0], [np.nan] * 3]))
    np.testing.assert_allclose(curve.auc.values, [0.25 * 2 + 0.75 * 4, np.nan])


@given(whole_maps, st.integers(1, 14))
def test_curves_equal_slow_ones_on_a_linear_model(weights, steps):
    pictures = PICTURES[:2]
    for curve, falling in ((deletion, True), (insertion, False)):
        found = curve(linear(), pictures, weights, target=Unit(1), steps=steps, baseline="mean")
        for number, one in enumerate(weights):
            mean = np.broadcast_to(pictures[number].mean(axis=(0, 1)), pictures[number].shape)
            ends = (pictures[number], mean) if falling else (mean, pictures[number])
            expected = slow_curve(*ends, one, min(steps, 12), lambda picture: by_hand(picture)[1])
            if np.ptp(one) == 0:
                expected = np.full(len(expected), np.nan)
            np.testing.assert_allclose(found.scores[number], expected, atol=1e-5)
    assert found.fractions.tolist() == [round(s / min(steps, 12) * 12) / 12 for s in range(min(steps, 12) + 1)]


@given(st.permutations(range(12)), st.sampled_from([1, 2, 3, 4, 6, 12]))
def test_inserting_the_strongest_is_deleting_the_weakest_backwards(order, steps):
    weights = np.array(order, float).reshape(1, *GRID)
    options = {"target": Unit(0), "steps": steps, "baseline": "blur"}
    up = insertion(linear(), PICTURES[:1], weights, **options)
    down = deletion(linear(), PICTURES[:1], -weights, **options)
    np.testing.assert_allclose(up.scores, down.scores[:, ::-1], atol=1e-5)


def test_the_class_is_that_of_the_picture_and_not_predicted_anew():
    flipped = 0
    for curve, falling in ((deletion, True), (insertion, False)):
        found = curve(linear("softmax"), PICTURES, MAPS, steps=6, baseline=np.zeros(2))
        for number, picture in enumerate(PICTURES):
            first = by_hand(picture).argmax()
            ends = (picture, np.zeros_like(picture)) if falling else (np.zeros_like(picture), picture)
            for answer, expected in (
                (lambda changed, first=first: softmax(by_hand(changed))[first], found.scores[number]),
                (lambda changed, first=first: by_hand(changed).argmax() != first, None),
            ):
                slow = slow_curve(*ends, MAPS[number], 6, answer)
                flipped += expected is None and any(slow)
                if expected is not None:
                    np.testing.assert_allclose(expected, slow, atol=1e-5)
    assert flipped, "no prediction flips on the way: the test proves nothing"


# ------------------------------------------------------------------------------------------------- masked by their maps


def test_drop_and_increase_by_hand():
    model = keras.Sequential([keras.Input((1, 2, 1)), L.Flatten(), L.Dense(1, use_bias=False)])
    model.layers[-1].set_weights([np.array([[1.0], [1.0]])])
    pictures = np.array([[3, 1], [3, -1], [-3, 1], [2, 2], [2, 2], [2, 2]], "float32").reshape(6, 1, 2, 1)
    weights = np.array([[4, 1], [1, 0], [1, 0], [0, 0], [-2, -1], [-1, 2]], float).reshape(6, 1, 2)
    found = masked_confidence(model, pictures, weights, target=Unit(0))
    np.testing.assert_allclose(found.original, [4, 2, -2, 4, 4, 4])
    np.testing.assert_allclose(found.masked, [3.25, 3, -3, np.nan, np.nan, 2])
    # The third has no share to lose, the fourth and fifth no map; values below zero hide a pixel and do not turn it.
    np.testing.assert_allclose(found.drop.values, [0.75 / 4, 0, np.nan, np.nan, np.nan, 0.5])
    np.testing.assert_allclose(found.increase.values, [0, 1, 0, np.nan, np.nan, 0])
    assert found.drop.mean == pytest.approx((0.1875 + 0 + 0.5) / 3)
    assert (found.drop.missing, found.increase.missing) == (3, 2)
    for metric, expected in ((average_drop, found.drop), (increase_in_confidence, found.increase)):
        np.testing.assert_array_equal(metric(model, pictures, weights, target=Unit(0)).values, expected.values)


@given(whole_maps, st.sampled_from([1e-30, 0.5, 1e30]))
def test_masked_scores_equal_slow_ones_at_any_strength(weights, factor):
    found = masked_confidence(linear("softmax"), PICTURES[:2], weights * factor)
    for number, one in enumerate(weights):
        picture = PICTURES[number].astype(float)
        of_class = by_hand(picture).argmax()
        assert found.original[number] == pytest.approx(softmax(by_hand(picture))[of_class], abs=1e-5)
        if np.ptp(one) == 0:
            assert math.isnan(found.masked[number])
            continue
        for cell in np.ndindex(*GRID):
            picture[cell] *= one[cell] / one.max()
        assert found.masked[number] == pytest.approx(softmax(by_hand(picture))[of_class], abs=1e-5)


@given(arrays(np.float64, 4, elements=st.floats(0, 1)), arrays(np.float64, 4, elements=st.floats(0, 1)))
def test_drops_are_shares(original, masked):
    found = MaskedConfidence(original, masked)
    np.testing.assert_array_equal(np.isnan(found.drop.values), original <= 0)
    known = found.drop.values[original > 0]
    assert ((known >= 0) & (known <= 1)).all()
    # What falls does not rise.
    assert not ((found.drop.values > 0) & (found.increase.values > 0)).any()


# -------------------------------------------------------------------------------------- maps, pictures, batches, models


METRICS = {
    "deletion": lambda *given, **options: deletion(*given, steps=4, **options).scores,
    "insertion": lambda *given, **options: insertion(*given, steps=4, **options).scores,
    "masked": lambda *given, **options: masked_confidence(*given, **options).masked,
}
metrics = pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)


@metrics
def test_a_batch_equals_its_samples_however_it_is_cut(metric):
    together = metric(linear("softmax"), PICTURES, MAPS)
    for size in (1, 2, 7):
        np.testing.assert_allclose(metric(linear("softmax", 2, size), PICTURES, MAPS), together, atol=1e-6)
    for number in range(3):
        one = slice(number, number + 1)
        np.testing.assert_allclose(metric(linear("softmax"), PICTURES[one], MAPS[one])[0], together[number], atol=1e-6)
        chosen = metric(linear("softmax"), PICTURES[one], MAPS[one], target=[number % 2])[0]
        several = metric(linear("softmax"), PICTURES, MAPS, target=[0, 1, 0])[number]
        np.testing.assert_allclose(chosen, several, atol=1e-6)


@metrics
def test_maps_that_say_nothing_are_missing_and_the_model_is_not_run_for_them(metric, monkeypatch):
    weights = MAPS.copy()
    weights[0], weights[1] = 0, 3
    found = metric(linear(), PICTURES, weights)
    assert np.isnan(found[:2]).all()
    np.testing.assert_allclose(found[2:], metric(linear(), PICTURES[2:], weights[2:]), atol=1e-6)
    weights[2, 0, 0] = np.nan
    passes = []
    score = Explainer.score
    monkeypatch.setattr(Explainer, "score", lambda self, *given: passes.append(given) or score(self, *given))
    assert np.isnan(metric(linear(), PICTURES, weights)).all()
    assert len(passes) <= 2  # which class, and the pictures themselves
    weights[2, 0, 0] = np.inf
    assert np.isnan(metric(linear(), PICTURES, weights)).all()


@metrics
def test_coarse_maps_and_explanations_are_upsampled(metric):
    explainer = Explainer(convnet_in_sequence(), methods="gradcam")
    explanation = explainer(images())
    expected = metric(explainer, images(), upsample_by_hand(explanation.gradcam, SIZE).astype("float32"))
    assert np.isfinite(expected).any()
    np.testing.assert_allclose(metric(explainer, images(), explanation), expected, atol=1e-5)
    np.testing.assert_allclose(metric(explainer, images(), explanation.gradcam), expected, atol=1e-5)


@metrics
def test_an_explanation_is_measured_by_the_classes_it_is_about(metric):
    explainer = Explainer(convnet_in_sequence(), methods="gradcam")
    explanation = explainer(images(), target=[2, 0, 1])
    expected = metric(explainer, images(), explanation.heatmap, target=[2, 0, 1])
    np.testing.assert_array_equal(metric(explainer, images(), explanation), expected)
    with pytest.raises(ValueError, match=r"`target` must be given .*without classes"):
        metric(explainer, images(), explainer(images(), target=-Class(2)))
    minus = Explainer(explainer.model, methods="gradcam", target=-Class(2))
    with pytest.raises(ValueError, match=r"`target` must be given .*of classes"):
        metric(minus, images(), explanation)
    np.testing.assert_array_equal(
        metric(minus, images(), minus(images())), metric(minus, images(), minus(images()).heatmap, target=-Class(2))
    )


@metrics
def test_measuring_leaves_the_model_as_it_was(metric):
    model = convnet()
    model.compile("adam", "sparse_categorical_crossentropy")
    pictures, weights = images(), np.random.default_rng(0).uniform(size=(3, *SIZE))
    kept = pictures.copy(), weights.copy()
    with unchanged(model):
        metric(model, pictures, weights)
        with pytest.raises(ValueError, match="class"):
            metric(model, pictures, weights, target=CLASSES)
    np.testing.assert_array_equal(pictures, kept[0])
    np.testing.assert_array_equal(weights, kept[1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, r"`steps` must be a whole number >= 1. Received: 0"),
        ({"steps": 2.5}, r"`steps` must"),
        ({"score": "logit"}, r"`score` must .*Received: 'logit'. Candidates: auto, probability, target"),
        ({"score": "probability", "target": Unit(0)}, r"`score` must .*Unit\(0\), which has no class"),
        ({"baseline": "black"}, r"`baseline` must .*Received: 'black'. Candidates: 'mean', 'blur'"),
        ({"baseline": np.zeros(5)}, r"`baseline` must .*\(3, 3, 4, 2\)"),
        ({"target": 7}, r"`target` must name classes"),
        ({"maps": MAPS[:2]}, r"`maps` must be one for each picture.*\(2, 3, 4\)"),
        ({"maps": np.ones((3, 5, 5))}, r"`maps` must be one for each picture, at most as large"),
        ({"maps": MAPS[0]}, r"`maps` must be real numbers of shape \(N, H, W\)"),
        ({"images": PICTURES[0]}, r"`images` must have the shape"),
        ({"explainer": "model"}, r"`model` must be a Keras 3 model"),
    ],
)
@pytest.mark.parametrize("curve", [deletion, insertion])
def test_curves_refuse(curve, options, message):
    arguments = {"explainer": linear(), "images": PICTURES, "maps": MAPS, **options}
    with pytest.raises(ValueError, match=message):
        curve(**arguments)


def test_only_pictures_have_curves():
    model = keras.Sequential([keras.Input((4, 3)), L.Flatten(), L.Dense(2)])
    volume = keras.Sequential([keras.Input((2, 2, 2, 1)), L.Flatten(), L.Dense(2)])
    with pytest.raises(ValueError, match=r"`images` must be pictures.*\(1, 2, 2, 2, 1\)"):
        deletion(volume, np.ones((1, 2, 2, 2, 1)), np.ones((1, 2, 2)))
    assert deletion(model, np.ones((1, 4, 3)), np.eye(4)[None, :, :3], steps=2).scores.shape == (1, 3)
