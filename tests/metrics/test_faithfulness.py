"""Curves and drops against hand-computed numbers on a linear model, slow loops, and what must stay as it was."""

from __future__ import annotations

import math
from functools import cache

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from keras import layers as L  # noqa: N812
from models import CLASSES, SIZE, convnet, convnet_in_sequence, images, randomised
from oracles import upsample_by_hand
from snapshots import unchanged

from keras_gradcam import Class, Explainer, Output, Unit
from keras_gradcam.attribution.targets.classes import class_probabilities
from keras_gradcam.metrics.faithfulness import (
    Curve,
    MaskedConfidence,
    average_drop,
    deletion,
    increase_in_confidence,
    insertion,
    masked_confidence,
)

GRID = (3, 4)
RNG = np.random.default_rng(5)
WEIGHTS = RNG.normal(size=(24, 2)).astype("float32")
BIAS = np.array([0.5, -0.25], "float32")
PICTURES = RNG.uniform(-1, 1, (3, *GRID, 2)).astype("float32")
MAPS = np.stack([RNG.permutation(12).reshape(GRID) for _ in range(3)]).astype(float)

whole_maps = arrays(np.float64, (2, *GRID), elements=st.integers(0, 5).map(float))


@cache
def linear(activation=None, units=2, batch_size=32):
    """sum_i w_i x_i + b, then perhaps an activation; explained by one Explainer for all tests."""
    dense = L.Dense(units, activation=activation)
    model = keras.Sequential([keras.Input((*GRID, 2)), L.Flatten(), dense])
    dense.set_weights([WEIGHTS[:, :units], BIAS[:units]])
    return Explainer(model, methods="gradcam", batch_size=batch_size)


def by_hand(picture):
    return picture.astype(float).ravel() @ WEIGHTS + BIAS


def softmax(row):
    return np.exp(row - row.max()) / np.exp(row - row.max()).sum()


def slow_curve(begin, end, weights, steps, score):
    """Changes the strongest cells one after another, the first in reading order of equal ones."""
    cells = sorted(np.ndindex(*weights.shape), key=lambda cell: -weights[cell])  # Python's sort is stable
    curve = []
    for step in range(steps + 1):
        picture = begin.copy()
        for cell in cells[: round(step / steps * len(cells))]:
            picture[cell] = end[cell]
        curve.append(score(picture))
    return curve


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
    one = 1 / (1 + np.exp(-by_hand(PICTURES[0])[0]))
    for target, expected in ((1, one), (0, 1 - one), (None, max(one, 1 - one))):
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


# ----------------------------------------------------------------------------------------------------------- baselines


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


def test_no_more_than_a_batch_goes_through_the_model_at_once_and_it_is_traced_once(monkeypatch):
    explainer = Explainer(linear("softmax").model, methods="gradcam", batch_size=5)
    sizes, score = [], Explainer.score
    monkeypatch.setattr(
        Explainer, "score", lambda self, given, target: sizes.append(len(given)) or score(self, given, target)
    )
    deletion(explainer, PICTURES, MAPS, steps=6)
    traced = len(explainer._programs)
    assert sum(sizes) == 3 + 3 * 7
    assert max(sizes) == 5
    insertion(explainer, PICTURES, MAPS, steps=3)
    masked_confidence(explainer, PICTURES[:2], MAPS[:2])
    assert len(explainer._programs) == traced == 2  # which class, and its probability


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
