"""Randomized layers against shuffling by hand, what the methods make of it, and weights that come back bit for bit."""

from __future__ import annotations

import pickle

import keras
import numpy as np
import pytest
from backends import numbers, tensorflow_only
from hypothesis import given
from hypothesis import strategies as st
from keras import layers as L  # noqa: N812
from models import (
    CLASSES,
    SIZE,
    ConvnetByCall,
    called,
    convnet,
    convnet_in_sequence,
    images,
    named,
    nested_convnet,
    randomised,
    transfer,
)
from oracles import slow_spearman
from randomized import shapes, trained
from snapshots import unchanged

from keras_gradcam import Class, Explainer, IntegratedGradients, Output, SmoothGrad
from keras_gradcam.attribution.methods.names import METHODS
from keras_gradcam.metrics.randomization import Randomization, learned_layers, randomization_check, restored, shuffle


def test_gradcam_changes_where_guided_backpropagation_barely_does():
    pictures, _, _ = shapes(32, seed=1)
    explainers = {name: Explainer(trained(), methods=name) for name in ("gradcam", "guided_backprop")}
    gradcam, guided = (
        np.mean([randomization_check(one, pictures, method=name, depth=3, seed=seed).mean for seed in (0, 1)], 0)
        for name, one in explainers.items()
    )
    # Down to the classes, the hidden layer and the last convolution.
    assert (guided > 0.7).all(), guided
    assert (gradcam < 0.5).all(), gradcam
    assert (guided - gradcam > 0.35).all(), (gradcam, guided)


# --------------------------------------------------------------------------------------------------- what is randomized


def by_hand(model, method, order, seed=0, target=None, anew=False):
    """The correlations of a convnet, on a copy of it whose weights are shuffled one layer after another.

    With ``anew`` every map comes from an explainer of its own, lest both sides read weights that are no longer there.
    """
    names = ["dense", "conv2", "conv1"]
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    predicted = model.predict(images(), verbose=0).argmax(axis=1) if target is None else target

    explainer = Explainer(copy, target=predicted, methods=method)

    def maps():
        used = Explainer(copy, target=predicted, methods=method) if anew else explainer
        return used(images()).maps[method]

    original, rows = maps(), []
    for position, name in enumerate(names):
        if order == "independent":
            copy.set_weights(model.get_weights())
        rng = np.random.default_rng([seed, position])
        weights = model.get_layer(name).get_weights()
        copy.get_layer(name).set_weights([rng.permutation(one.ravel()).reshape(one.shape) for one in weights])
        rows.append([slow_spearman(abs(a), abs(b)) for a, b in zip(original, maps(), strict=True)])
    return names, rows


@pytest.mark.parametrize(
    ("method", "order"),
    [
        *((method, "cascading") for method in ("gradcam", "layercam", "guided_gradcam", "saliency", "smoothgrad")),
        *((method, "independent") for method in ("gradcam", "guided_backprop")),
    ],
)
def test_correlations_equal_those_by_hand(method, order):
    model = convnet(activation="relu")
    found = randomization_check(model, images(), method=method, order=order)
    names, expected = by_hand(model, method, order, anew=method == "gradcam")
    assert found.layers == tuple(names)
    np.testing.assert_allclose(found.correlations, expected, atol=1e-5)
    assert np.isfinite(found.correlations).any()


def test_the_class_is_the_one_predicted_before_and_not_predicted_anew():
    model, pictures = convnet(activation="relu", seed=2), images(12)
    predicted = model.predict(pictures, verbose=0).argmax(axis=1)
    with restored(model.weights):
        shuffle(model.get_layer("dense").weights, np.random.default_rng([0, 0]))
        assert (model.predict(pictures, verbose=0).argmax(axis=1) != predicted).any()
    found, expected = (randomization_check(model, pictures, target=target) for target in (None, predicted))
    np.testing.assert_array_equal(found.correlations, expected.correlations)


def test_target_seed_depth_and_explainer():
    model = convnet(activation="relu")
    explainer = Explainer(model, layer="conv1", target=2, batch_size=2)
    found = randomization_check(explainer, images(), seed=3)
    assert found.correlations.shape == (3, 3)
    np.testing.assert_array_equal(found.correlations, randomization_check(explainer, images(), seed=3).correlations)
    assert not np.array_equal(
        found.correlations, randomization_check(explainer, images(), seed=4).correlations, equal_nan=True
    )
    fewer = randomization_check(explainer, images(), seed=3, depth=2)
    assert fewer.layers == found.layers[:2]
    np.testing.assert_array_equal(fewer.correlations, found.correlations[:2])
    one = randomization_check(explainer, images()[:1], seed=3)
    np.testing.assert_allclose(one.correlations[:, 0], found.correlations[:, 0], atol=1e-5)
    expected = by_hand(model, "gradcam", "cascading", target=[1, 2, 3])[1]
    found = randomization_check(model, images(), target=[1, 2, 3])
    np.testing.assert_allclose(found.correlations, expected, atol=1e-5)


def test_the_model_is_traced_as_often_for_all_layers_as_for_one(monkeypatch):
    traces = []
    explainer = Explainer(convnet(activation="relu"), methods="gradcam")
    trace = explainer.runner.engine.trace
    monkeypatch.setattr(
        type(explainer.runner.engine), "trace", lambda self, *given: traces.append(1) or trace(*given), raising=True
    )
    randomization_check(explainer, images())
    assert len(traces) == 2  # the predicted class, and the maps


def test_layers_count_from_the_last_called():
    nested = nested_convnet()
    found = learned_layers(nested, images())
    assert [path for path, _ in found] == ["dense", "middle/conv2", "middle/inner/conv1"]
    assert [id(one) for _, owned in found for one in owned] == [
        id(one)
        for name in ("dense", "conv2", "conv1")
        for one in (named(nested, name).kernel, named(nested, name).bias)
    ]
    subclassed = called(ConvnetByCall(keras.ops.relu))
    assert [path for path, _ in learned_layers(subclassed, images())] == ["dense", "conv2", "conv1"]


@tensorflow_only
def test_layers_within_a_function_count_too():
    from tensorflow_models import ConvnetByFunction

    subclassed = called(ConvnetByFunction(keras.ops.relu))
    assert [path for path, _ in learned_layers(subclassed, images())] == ["dense", "conv2", "conv1"]


def test_shared_frozen_new_and_unlearned_layers():
    shared = L.Conv2D(3, 3, padding="same", name="shared")
    inputs = keras.Input((*SIZE, 3))
    normalization = L.Normalization(name="adapted", mean=[0.1, 0.2, 0.3], variance=[1.0, 2.0, 3.0])
    adapted = L.Normalization(name="data")
    adapted.adapt(images())
    x = shared(adapted(normalization(inputs)))
    x = L.BatchNormalization(name="new")(L.Conv2D(3, 1, name="frozen", trainable=False)(x))
    x = L.GlobalAveragePooling2D()(shared(x))
    model = keras.Model(inputs, L.Dense(CLASSES, use_bias=False, name="dense")(x))
    assert [path for path, _ in learned_layers(model, images())] == ["dense", "shared", "frozen"]
    randomised(model)
    found = learned_layers(model, images())
    assert [path for path, _ in found] == ["dense", "shared", "new", "frozen"]
    # Moving statistics are shuffled with the rest; shuffled variances stay positive.
    assert len(found[2][1]) == 4


class Cell(L.Layer):
    """Its own weight, a layer that is called in a loop only, and one that is called openly."""

    def __init__(self, **options):
        super().__init__(**options)
        self.looped, self.plain = L.Conv2D(3, 1, name="looped"), L.Conv2D(3, 1, name="plain")

    def build(self, shape):
        self.looped.build(shape)
        self.plain.build(shape)
        self.own = self.add_weight(shape=(3,), initializer="random_normal", name="own")

    def call(self, x):
        (x,) = keras.ops.while_loop(lambda y: False, lambda y: (self.looped(y),), (x,))
        return self.plain(x) * self.own


def test_layers_whose_calls_cannot_be_seen_belong_to_the_layer_around():
    inputs = keras.Input((*SIZE, 3))
    model = keras.Model(inputs, L.Dense(2, name="dense")(L.GlobalAveragePooling2D()(Cell(name="cell")(inputs))))
    found = dict(learned_layers(randomised(model), images()))
    cell = model.get_layer("cell")
    assert list(found) == ["dense", "cell", "cell/plain"]
    assert {id(one) for one in found["cell"]} == {id(cell.own), id(cell.looped.kernel), id(cell.looped.bias)}
    with unchanged(model):
        randomization_check(model, images())


class WithOwnHead(keras.Model):
    """The classes come from a weight of the model itself."""

    def __init__(self):
        super().__init__(name="whole")
        self.conv = L.Conv2D(4, 3, activation="relu", name="conv")
        self.head = self.add_weight(shape=(4, 3), initializer="glorot_uniform", name="head")

    def call(self, x):
        return keras.ops.matmul(keras.ops.mean(self.conv(x), axis=(1, 2)), self.head)


def test_weights_of_the_model_itself_are_randomized_first():
    model = WithOwnHead()
    model(images())
    randomised(model)
    found = learned_layers(model, images())
    assert [path for path, _ in found] == ["whole", "conv"]
    assert found[0][1] == [model.head]
    with unchanged(model):
        check = randomization_check(model, images())
    assert check.layers == ("whole", "conv")
    # Other weights of the channels give other maps.
    assert np.isfinite(check.correlations[0]).any()
    assert check.correlations[0][np.isfinite(check.correlations[0])].max() < 1


def test_layers_that_the_score_does_not_depend_on_have_no_number():
    inputs = keras.Input((*SIZE, 3))
    x = L.GlobalAveragePooling2D()(L.Conv2D(4, 3, activation="relu", name="conv")(inputs))
    model = randomised(keras.Model(inputs, [L.Dense(3, name="mine")(x), L.Dense(3, name="other")(x)]))
    for order in ("cascading", "independent"):
        found = randomization_check(model, images(), target=Output("mine"), order=order)
        rows = dict(zip(found.layers, found.correlations, strict=True))
        assert set(rows) == {"other", "mine", "conv"}
        assert np.isnan(rows["other"]).all()
        assert np.isfinite(rows["mine"]).any()
        assert found.missing[found.layers.index("other")] == 3


def test_a_model_that_has_learned_nothing_gives_an_empty_table():
    model = keras.Sequential([keras.Input((4, 4, 3)), L.AveragePooling2D(1), L.GlobalAveragePooling2D()])
    found = randomization_check(model, np.ones((2, 4, 4, 3)), target=1)
    assert found.layers == ()
    assert found.correlations.shape == (0, 2)
    assert found.mean.shape == found.missing.shape == (0,)


def test_table():
    found = Randomization("gradcam", "cascading", ("dense", "a|b"), np.array([[0.5, 0.25], [np.nan, np.nan]]))
    assert found.table() == (
        "| randomized down to | rank correlation | missing of 2 |\n|---|---|---|\n"
        "| dense | 0.38 | 0 |\n"
        "| a b | - | 2 |\n"
    )
    assert repr(found) == "Randomization(gradcam, cascading, 2 layers)"


@given(st.lists(st.integers(0, 3), min_size=1, max_size=6), st.integers(0, 5))
def test_shuffling_keeps_the_values_and_changes_their_order(values, seed):
    variable = keras.Variable(np.array(values, "float32").reshape(1, -1), name="some")
    shuffle([variable], np.random.default_rng(seed))
    found = numbers(variable).ravel().tolist()
    assert sorted(found) == sorted(values)
    assert (found != values) == (len(set(values)) > 1)


# ------------------------------------------------------------------------------------------------------------ restoring


@pytest.mark.parametrize(
    ("build", "order"),
    [
        (convnet, "cascading"),
        (lambda: transfer(frozen=True), "cascading"),
        (nested_convnet, "independent"),
    ],
)
def test_weights_optimizer_and_random_states_are_as_before(build, order):
    model = build()
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "sparse_categorical_crossentropy")
    model.fit(images(), np.arange(3), verbose=0)
    weights = [np.array(one).tobytes() for one in model.get_weights()]
    optimizer = pickle.dumps([numbers(one) for one in model.optimizer.variables])
    state = np.random.get_state()[1].copy()
    following = numbers(keras.src.random.seed_generator.global_seed_generator().state).copy()
    with unchanged(model):
        found = randomization_check(model, images(), order=order)
    assert len(found.layers) > 1
    assert [np.array(one).tobytes() for one in model.get_weights()] == weights
    assert pickle.dumps([numbers(one) for one in model.optimizer.variables]) == optimizer
    np.testing.assert_array_equal(np.random.get_state()[1], state)
    np.testing.assert_array_equal(numbers(keras.src.random.seed_generator.global_seed_generator().state), following)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_every_bit_comes_back(dtype):
    bits = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-7, 3.0, -1.0], "float32")
    variable = keras.Variable(bits, dtype=dtype, name="some")
    before = np.array(keras.ops.convert_to_numpy(variable)).tobytes()
    with restored([variable]) as restore:
        shuffle([variable], np.random.default_rng(0))
        assert np.array(keras.ops.convert_to_numpy(variable)).tobytes() != before
        restore()
        assert np.array(keras.ops.convert_to_numpy(variable)).tobytes() == before
        variable.assign(np.ones(8))
    assert np.array(keras.ops.convert_to_numpy(variable)).tobytes() == before


@pytest.fixture(scope="module")
def explainer():
    """One explainer, whose model is as before after each test."""
    return Explainer(convnet(activation="relu"), methods="gradcam")


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("at", [0, 1, 2, 3])
def test_weights_come_back_after_an_error(explainer, error, at, monkeypatch):
    model, calls = explainer.model, []
    explain = Explainer.__call__

    def failing(self, *given):
        if len(calls) == at:
            raise error("in the middle")
        calls.append(1)
        return explain(self, *given)

    monkeypatch.setattr(Explainer, "__call__", failing)
    with unchanged(model), pytest.raises(error, match="in the middle"):
        randomization_check(explainer, images())


def test_weights_come_back_when_shuffling_itself_fails(monkeypatch):
    model = convnet(activation="relu")
    broken = named(model, "conv2").bias
    assign, calls = type(broken).assign, []

    def failing(self, value):
        if self is broken and not calls:
            calls.append(1)
            raise RuntimeError("disk full")
        return assign(self, value)

    monkeypatch.setattr(type(broken), "assign", failing)
    with unchanged(model), pytest.raises(RuntimeError, match="disk full"):
        randomization_check(model, images())


def test_interrupting_the_restoring_does_not_stop_it():
    class Impatient:
        """Its owner presses Ctrl-C at the second assignment."""

        def __init__(self):
            self.variable, self.count = keras.Variable(np.arange(3.0), name="some"), 0

        def __array__(self, dtype=None, copy=None):
            return np.asarray(numbers(self.variable), dtype)

        def assign(self, value):
            self.count += 1
            if self.count == 2:
                raise KeyboardInterrupt
            self.variable.assign(value)

    impatient = Impatient()
    with pytest.raises(KeyboardInterrupt), restored([impatient]):
        impatient.assign(np.zeros(3))
    assert numbers(impatient.variable).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "lime"}, r"`method` must be one that is known. Received: 'lime'. Candidates: gradcam"),
        ({"order": "bottom up"}, r"`order` must .*Candidates: cascading, independent"),
        ({"depth": 0}, r"`depth` must be a whole number >= 1"),
        ({"depth": True}, r"`depth` must"),
        ({"seed": -1}, r"`seed` must be a whole number >= 0"),
        ({"seed": None}, r"`seed` must"),
        ({"target": Class(9)}, r"`target` must name classes"),
    ],
)
def test_refuses(options, message):
    model = convnet()
    with unchanged(model), pytest.raises(ValueError, match=message):
        randomization_check(model, images(), **options)


def test_an_explainer_must_compute_the_method():
    with pytest.raises(ValueError, match=r"`method` must be one that the explainer computes.*Candidates: gradcam\."):
        randomization_check(Explainer(convnet(), methods="gradcam"), images(), method="guided_backprop")


@pytest.mark.parametrize(
    "method", [*METHODS, SmoothGrad(samples=3), IntegratedGradients(steps=16)], ids=lambda method: str(method)[:20]
)
@pytest.mark.parametrize("target", [[0, 2, 1], lambda outputs: outputs[:, 0]], ids=["labels", "function"])
def test_every_method_can_be_checked_for_every_target(method, target):
    model = convnet_in_sequence()
    explainer = Explainer(model, methods=method)
    (name,) = explainer.methods
    check = randomization_check(explainer, images(), method=name, target=target, depth=2)
    assert check.layers == ("dense", "conv2")
    # By hand: the variables of the last layer shuffled in the same way, and the rank correlation of the maps.
    fixed = Explainer(model, methods=method)
    before, weights = fixed(images(), target).maps[name], model.get_weights()
    shuffle(list(model.get_layer("dense").variables), np.random.default_rng([0, 0]))
    after = fixed(images(), target).maps[name]
    model.set_weights(weights)
    expected = [
        slow_spearman(np.abs(one).ravel(), np.abs(other).ravel()) for one, other in zip(before, after, strict=True)
    ]
    found = check.correlations[0]
    present = np.isfinite(found)  # a map that is flat has no ranks
    np.testing.assert_allclose(found[present], np.array(expected)[present], atol=1e-5)
    assert present.any() or not after.any() or not before.any()
