"""Grad-CAM's cam_variants against their definitions, cell by cell."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from keras_gradcam import Explainer, explain
from keras_gradcam.attribution.methods.formulas import CAM_FORMULAS, saliency_map
from keras_gradcam.attribution.methods.names import CAMS, METHODS

COUSINS = ["gradcam_plus_plus", "hirescam", "xgradcam", "layercam"]


def oracle(name, activations, gradients):
    """One picture (h, w, channels), as the papers write it, in Python's own numbers."""
    height, width, channels = activations.shape
    cells = [(i, j) for i in range(height) for j in range(width)]
    found = np.zeros((height, width))
    for k in range(channels):
        a = {cell: float(activations[(*cell, k)]) for cell in cells}
        g = {cell: float(gradients[(*cell, k)]) for cell in cells}
        total = sum(a.values())
        if name == "gradcam_plus_plus":
            weight = 0.0
            for cell in cells:
                below = 2 * g[cell] ** 2 + total * g[cell] ** 3
                if below != 0:
                    weight += g[cell] ** 2 / below * max(0.0, g[cell])
            weights = dict.fromkeys(cells, weight)
        elif name == "xgradcam":
            weights = dict.fromkeys(cells, sum(a[c] / total * g[c] for c in cells) if total != 0 else 0.0)
        elif name == "layercam":
            weights = {cell: max(0.0, g[cell]) for cell in cells}
        else:
            weights = g
        for cell in cells:
            found[cell] += weights[cell] * a[cell]
    return np.maximum(found, 0)


# Multiples of 1/8 up to 4: every product and sum below is exact, and no division is by something tiny.
numbers = st.integers(-32, 32).map(lambda number: number / 8)
shapes = st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3))


@settings(max_examples=60)
@given(st.data())
@pytest.mark.parametrize("name", COUSINS)
def test_formulas_follow_their_papers(name, data):
    shape = data.draw(shapes)
    activations = data.draw(hnp.arrays(float, (2, *shape), elements=numbers.map(abs)))
    gradients = data.draw(hnp.arrays(float, (2, *shape), elements=numbers))
    found = CAM_FORMULAS[name](activations, gradients)
    for one, a, g in zip(found, activations, gradients, strict=True):
        np.testing.assert_allclose(one, oracle(name, a, g), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", CAM_FORMULAS)
def test_tensors_give_what_arrays_give(name):
    rng = np.random.default_rng(0)
    activations, gradients = rng.random((3, 4, 2, 5), np.float32), rng.normal(size=(3, 4, 2, 5)).astype("float32")
    tensor = CAM_FORMULAS[name](keras.ops.convert_to_tensor(activations), keras.ops.convert_to_tensor(gradients))
    np.testing.assert_allclose(tensor, CAM_FORMULAS[name](activations, gradients), rtol=2e-5, atol=1e-6)
    np.testing.assert_array_equal(CAM_FORMULAS[name](np.zeros_like(activations), gradients), 0)
    np.testing.assert_array_equal(CAM_FORMULAS[name](activations, np.zeros_like(gradients)), 0)


def network(pooled=True, positive=False):
    keras.utils.set_random_seed(1)
    inputs = keras.Input((12, 8, 3))
    x = keras.layers.Conv2D(6, 3, activation="relu")(inputs)
    x = keras.layers.Conv2D(5, 3, activation="relu", name="last")(x)
    x = keras.layers.GlobalAveragePooling2D()(x) if pooled else keras.layers.Flatten()(x)
    initializer = keras.initializers.RandomUniform(0.1, 1) if positive else "glorot_uniform"
    return keras.Model(inputs, keras.layers.Dense(4, kernel_initializer=initializer)(x))


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(2).random((5, 12, 8, 3), dtype=np.float32)


def test_after_a_mean_over_space_gradients_are_equal_everywhere_and_so_are_the_maps(images):
    found = explain(network(), images, target=1, methods=["gradcam", "hirescam", "xgradcam"]).maps
    np.testing.assert_allclose(found["hirescam"], found["gradcam"], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(found["xgradcam"], found["gradcam"], rtol=1e-5, atol=1e-7)
    # LayerCAM leaves out what speaks against the class: equal where nothing does.
    assert not np.allclose(explain(network(), images, target=1, methods="layercam").cam, found["gradcam"], rtol=1e-2)
    found = explain(network(positive=True), images, target=1, methods=["gradcam", "layercam"]).maps
    np.testing.assert_allclose(found["layercam"], found["gradcam"], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", COUSINS)
def test_the_explainer_hands_the_formulas_the_gradient_of_the_layer(images, name):
    import tensorflow as tf

    model = network(pooled=False)
    features = keras.Model(model.input, model.get_layer("last").output)(images)
    with tf.GradientTape() as tape:
        tape.watch(features)
        scores = model.layers[-1](model.layers[-2](features))[:, 2]
    gradients = tape.gradient(scores, features).numpy()
    result = explain(model, images, target=2, methods=["gradcam", name])
    expected = np.stack([oracle(name, a, g) for a, g in zip(features.numpy(), gradients, strict=True)])
    np.testing.assert_allclose(result.maps[name], expected, rtol=2e-4, atol=1e-7)
    assert list(result.maps) == ["gradcam", name]
    assert result.cam is result.maps["gradcam"]
    assert explain(model, images, target=2, methods=name).heatmap.shape == (5, 12, 8)


def test_all_methods_together_are_what_each_is_alone(images):
    model = network(pooled=False)
    together = explain(model, images, methods=METHODS)
    assert tuple(together.maps) == METHODS
    for name in METHODS:
        alone = explain(model, images, methods=name)
        np.testing.assert_allclose(together.maps[name], alone.maps[name], rtol=1e-4, atol=1e-6, err_msg=name)
        assert (alone.cam is None) == (name not in CAMS)
    for one in (together[2], together[[4, 1]]):
        assert set(one.maps) == set(METHODS)
        assert all(len(array) == len(one) for array in one.maps.values())


def test_saliency_is_the_largest_slope_of_a_pixel():
    gradients = np.array([[[[1.0, -4.0, 2.0], [0.5, 0.25, 0.0]]]])
    np.testing.assert_array_equal(saliency_map(gradients), [[[4.0, 0.5]]])


# --- several questions, one forward pass ------------------------------------------------------------------------------


class Counted(keras.layers.Layer):
    """Counts how often it is traced."""

    calls = 0

    def call(self, x):
        type(self).calls += 1
        return x


def counting(model):
    inputs = keras.Input((12, 8, 3))
    counted = keras.Model(inputs, model(Counted()(inputs)))
    Counted.calls = 0
    return counted


def test_the_best_classes_share_one_forward_pass(images):
    model = counting(network())
    explainer = Explainer(model)
    found = explainer.top_classes(images, 3)
    assert Counted.calls == 1
    order = np.argsort(-model.predict(images, verbose=0), axis=1)
    for place, one in enumerate(found):
        np.testing.assert_array_equal(one.classes, order[:, place])
        alone = Explainer(model)(images, target=order[:, place])
        np.testing.assert_allclose(one.scores, alone.scores, rtol=1e-6)
        for name in ("gradcam", "guided_backprop", "guided_gradcam"):
            np.testing.assert_allclose(one.maps[name], alone.maps[name], rtol=1e-4, atol=1e-6)


def test_looking_up_a_named_layer_and_explaining_it_share_one_trace(images):
    explainer = Explainer(counting(network()), layer="last")
    explainer.runner.outputs(images)
    assert str(explainer.explained_layer(images)).endswith("last")
    explainer(images)
    assert Counted.calls == 1


def test_there_are_no_more_places_than_classes(images):
    with pytest.raises(ValueError, match="0 to 3"):
        Explainer(network()).top_classes(images, 5)


def test_several_layers_share_one_forward_pass(images):
    model = counting(network())
    found = Explainer(model, target=0, methods=["gradcam", "layercam"]).at_layers(images, ["conv2d", "last"])
    assert Counted.calls == 1
    assert [path.rsplit("/", 1)[-1][:4] for path in found] == ["conv", "last"]
    for path, one in found.items():
        alone = explain(model, images, target=0, layer=path, methods=["gradcam", "layercam"])
        assert one.layer == path
        for name in ("gradcam", "layercam"):
            np.testing.assert_allclose(one.maps[name], alone.maps[name], rtol=1e-5, atol=1e-7)
