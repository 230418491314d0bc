"""The formulas on plain arrays: hand-computed, compared with explicit loops, and by property."""

from __future__ import annotations

import warnings

import keras
import numpy as np
import pytest
from backends import numbers, tensor
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from models import small_network
from oracles import assert_close, gradcam_by_hand, guided_gradcam_by_hand, score_and_gradient

from keras_gradcam import Explainer, GradCAMResult, explain, gradcam
from keras_gradcam.attribution.methods.formulas import CAM_FORMULAS, gradcam_map, guided_gradcam, saliency_map
from keras_gradcam.attribution.methods.names import CAMS, METHODS


class TorchLike:
    """A tensor that must be detached and brought to the CPU before NumPy may read it."""

    def __init__(self, array, state="attached"):
        self.array, self.state = array, state

    def detach(self):
        return TorchLike(self.array, "detached")

    def cpu(self):
        assert self.state == "detached", "cpu() before detach()"
        return TorchLike(self.array, "on cpu")

    def __array__(self, dtype=None, copy=None):
        assert self.state == "on cpu", "read before detach().cpu()"
        return np.asarray(self.array, dtype)


def normal(rng, *shape, dtype="float32"):
    return rng.normal(size=shape).astype(dtype)


# -------------------------------------------------------------------------------------------------------------- by hand


def test_hand_computed_picture():
    activations = np.array([[[1.0, 4.0], [2.0, 0.0]], [[0.0, 1.0], [3.0, 5.0]]])
    gradients = np.array([[[1.0, 0.0], [1.0, -2.0]], [[4.0, -2.0], [2.0, 0.0]]])
    # means over the four cells: a = (2, -1); 2*A_0 - A_1 = [[-2, 4], [-1, 1]]
    np.testing.assert_array_equal(gradcam(activations, gradients).gradcam, [[0, 4], [0, 1]])


def test_hand_computed_guided_gradcam():
    activations = np.array([[[0.0], [4.0]]])  # one row, two cells
    gradients = np.ones((1, 2, 1))
    guided = np.array([[[1.0], [2.0], [-3.0], [10.0]]])  # one row, four pixels
    result = gradcam(activations, gradients, guided)
    # upsampled to four cells: 0, 1, 3, 4
    np.testing.assert_array_equal(result.guided_gradcam[0, :, 0], [0, 2, -9, 40])
    np.testing.assert_array_equal(result.guided_backprop, guided)


@pytest.mark.parametrize("space", [(7,), (5, 3), (2, 4, 3)], ids=["series", "pictures", "volumes"])
def test_gradcam_map_equals_explicit_loops(rng, space):
    activations, gradients = normal(rng, 3, *space, 4), normal(rng, 3, *space, 4)
    assert_close(gradcam_map(activations, gradients), gradcam_by_hand(activations, gradients), 1e-6)


@pytest.mark.parametrize("space", [(5, 3), (2, 4, 3)], ids=["pictures", "volumes"])
def test_gradcam_on_a_batch_equals_explicit_loops(rng, space):
    activations, gradients = normal(rng, 2, *space, 4), normal(rng, 2, *space, 4)
    guided = normal(rng, 2, *(2 * extent + 1 for extent in space), 3)
    result = gradcam(activations, gradients, guided)
    expected = gradcam_by_hand(activations, gradients)
    assert_close(result.gradcam, expected, 1e-6)
    assert_close(result.guided_gradcam, guided_gradcam_by_hand(guided, expected), 1e-6)


def test_batch_equals_single_pictures(rng):
    activations, gradients, guided = normal(rng, 4, 3, 5, 6), normal(rng, 4, 3, 5, 6), normal(rng, 4, 7, 9, 3)
    batch = gradcam(activations, gradients, guided)
    for n in range(4):
        single = gradcam(activations[n], gradients[n], guided[n])
        np.testing.assert_allclose(single.gradcam, batch.gradcam[n], rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(single.guided_gradcam, batch.guided_gradcam[n], rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(single.guided_backprop, guided[n])


def test_gradients_are_not_pooled_over_the_batch(rng):
    activations, gradients = normal(rng, 2, 3, 3, 2), normal(rng, 2, 3, 3, 2)
    alone = gradcam_map(activations[:1], gradients[:1])
    gradients[1] *= 1000
    np.testing.assert_allclose(gradcam_map(activations, gradients)[:1], alone, rtol=1e-6)


def test_map_of_zeros_is_a_result(rng):
    activations = np.abs(normal(rng, 2, 3, 3, 4))
    result = gradcam(activations, -np.ones_like(activations), normal(rng, 2, 6, 6, 3))
    np.testing.assert_array_equal(result.gradcam, np.zeros((2, 3, 3)))
    np.testing.assert_array_equal(result.guided_gradcam, np.zeros((2, 6, 6, 3)))


def test_without_guided_gradient_the_guided_results_are_none(rng):
    result = gradcam(normal(rng, 3, 3, 2), normal(rng, 3, 3, 2))
    assert isinstance(result, GradCAMResult)
    assert result.guided_backprop is None
    assert result.guided_gradcam is None


# -------------------------------------------------------------------------------------------------- arrays of all kinds


@pytest.mark.parametrize("convert", [tensor, TorchLike, np.ndarray.tolist], ids=["tensors", "torch-like", "lists"])
def test_arrays_of_any_framework_give_the_same_numpy_results(rng, convert):
    arrays = [normal(rng, 2, 3, 5, 4, dtype="float64"), normal(rng, 2, 3, 5, 4, dtype="float64")]
    arrays.append(normal(rng, 2, 6, 9, 3, dtype="float64"))
    if convert is tensor:  # JAX has no double precision unless it is asked for
        arrays = [array.astype("float32") for array in arrays]
    for actual, expected in zip(gradcam(*map(convert, arrays)), gradcam(*arrays), strict=True):
        assert type(actual) is np.ndarray
        np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("dtype", ["int32", "uint8", "bool"])
def test_integers_are_computed_as_floating_point(rng, dtype):
    activations, gradients = (
        rng.integers(0, 3, (2, 3, 3, 2)).astype(dtype),
        rng.integers(0, 3, (2, 3, 3, 2)).astype(dtype),
    )
    result = gradcam(activations, gradients)
    assert result.gradcam.dtype == np.float32
    assert_close(result.gradcam, gradcam_by_hand(activations, gradients), 1e-6)


def test_double_precision_stays(rng):
    activations, gradients = normal(rng, 3, 3, 2, dtype="float64"), normal(rng, 3, 3, 2, dtype="float64")
    result = gradcam(activations, gradients, normal(rng, 6, 6, 1, dtype="float64"))
    assert result.gradcam.dtype == result.guided_gradcam.dtype == np.float64
    assert_close(result.gradcam[None], gradcam_by_hand(activations[None], gradients[None]), 1e-14)


def test_backend_tensors_stay_tensors(rng):
    activations, gradients, guided = normal(rng, 2, 3, 5, 4), normal(rng, 2, 3, 5, 4), normal(rng, 2, 3, 5, 1)
    heatmap = gradcam_map(tensor(activations), tensor(gradients))
    assert keras.ops.is_tensor(heatmap)
    assert_close(numbers(heatmap), gradcam_by_hand(activations, gradients), 1e-6)
    weighted = guided_gradcam(tensor(guided), heatmap)
    assert keras.ops.is_tensor(weighted)
    assert_close(numbers(weighted), guided * gradcam_by_hand(activations, gradients)[..., None], 1e-6)


@pytest.mark.parametrize("writeable", [True, False])
@pytest.mark.parametrize("single", [True, False])
def test_arguments_are_never_modified(rng, writeable, single):
    arrays = [normal(rng, 2, 3, 3, 4), normal(rng, 2, 3, 3, 4), normal(rng, 2, 6, 6, 3)]
    arrays = [array[0] if single else array for array in arrays]
    before = [array.copy() for array in arrays]
    for array in arrays:
        array.flags.writeable = writeable
    gradcam(*arrays)
    gradcam_map(*(array[None] if single else array for array in arrays[:2]))
    for array, copy in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_strided_views_give_the_same_as_copies(rng):
    activations, gradients = normal(rng, 6, 8, 10, 4)[::2, ::-1, 1::3], normal(rng, 3, 8, 3, 8)[..., ::2]
    np.testing.assert_allclose(
        gradcam(activations, gradients).gradcam,
        gradcam(activations.copy(), gradients.copy()).gradcam,
        rtol=1e-5,
        atol=1e-6,
    )


# --------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("activations", "gradients"),
    [((3, 3, 4), (3, 3, 5)), ((3, 3), (3, 3)), ((2, 3, 3, 4), (3, 3, 4)), ((1, 1, 1, 1, 1, 1), (1, 1, 1, 1, 1, 1))],
)
def test_feature_maps_that_do_not_fit_are_named_with_their_shapes(activations, gradients):
    with pytest.raises(ValueError, match=r"conv_activations.*one shape") as caught:
        gradcam(np.ones(activations), np.ones(gradients))
    assert f"{activations} and {gradients}" in str(caught.value)


@pytest.mark.parametrize(
    ("activations", "guided"),
    [((3, 3, 4), (2, 6, 6, 3)), ((2, 3, 3, 4), (6, 6, 3)), ((2, 3, 3, 4), (3, 6, 6, 3)), ((3, 3, 4), (6, 6))],
)
def test_guided_gradients_of_other_pictures_are_named_with_their_shapes(activations, guided):
    with pytest.raises(ValueError, match=r"guided_backprop") as caught:
        gradcam(np.ones(activations), np.ones(activations), np.ones(guided))
    assert str(guided) in str(caught.value)
    assert str(activations) in str(caught.value)


# ------------------------------------------------------------------------------------------------------- by property

extents = st.integers(1, 6)
reals = st.floats(-1e3, 1e3, width=32)


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_gradcam_map_is_not_negative_and_scales_with_the_gradients(data):
    shape = (data.draw(st.integers(1, 3)), data.draw(extents), data.draw(extents), data.draw(st.integers(1, 4)))
    activations = data.draw(hnp.arrays("float64", shape, elements=reals))
    gradients = data.draw(hnp.arrays("float64", shape, elements=reals))
    factor = data.draw(st.floats(1 / 16, 16))
    result = gradcam_map(activations, gradients)
    assert result.min() >= 0
    size = np.abs(activations).max() * np.abs(gradients).max() * shape[-1]
    np.testing.assert_allclose(
        gradcam_map(activations, factor * gradients), factor * result, rtol=1e-9, atol=1e-9 * (1 + size)
    )


COUSINS = ["gradcam_plus_plus", "hirescam", "xgradcam", "layercam"]


def oracle(name, activations, gradients):
    """One picture (h, w, channels), as the papers write it, in Python's own numbers."""
    height, width, channels = activations.shape
    cells = [(i, j) for i in range(height) for j in range(width)]
    found = np.zeros((height, width))
    for k in range(channels):
        a = {cell: float(activations[(*cell, k)]) for cell in cells}
        g = {cell: float(gradients[(*cell, k)]) for cell in cells}
        total, size = max(0.0, sum(a.values())), sum(map(abs, a.values()))
        if name == "gradcam_plus_plus":
            weight = 0.0
            for cell in cells:
                below = 2 * g[cell] ** 2 + total * g[cell] ** 3
                if below != 0:
                    weight += g[cell] ** 2 / below * max(0.0, g[cell])
            weights = dict.fromkeys(cells, weight)
        elif name == "xgradcam":
            weights = dict.fromkeys(cells, sum(abs(a[c]) / size * g[c] for c in cells) if size else 0.0)
        elif name == "layercam":
            weights = {cell: max(0.0, g[cell]) for cell in cells}
        else:
            weights = g
        for cell in cells:
            found[cell] += weights[cell] * a[cell]
    return np.maximum(found, 0)


# Multiples of 1/8 up to 4: every product and sum below is exact, and no division is by something tiny.
eighths = st.integers(-32, 32).map(lambda number: number / 8)


shapes = st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3))


@settings(max_examples=60)
@given(st.data())
@pytest.mark.parametrize("name", COUSINS)
def test_formulas_follow_their_papers(name, data):
    shape = data.draw(shapes)
    activations = data.draw(hnp.arrays(float, (2, *shape), elements=eighths))
    if data.draw(st.booleans()):  # as after a ReLU, where the formulas are those of the papers
        activations = abs(activations)
    gradients = data.draw(hnp.arrays(float, (2, *shape), elements=eighths))
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


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(2).random((5, 12, 8, 3), dtype=np.float32)


def test_after_a_mean_over_space_gradients_are_equal_everywhere_and_so_are_the_maps(images):
    found = explain(small_network(), images, target=1, methods=["gradcam", "hirescam", "xgradcam"]).maps
    np.testing.assert_allclose(found["hirescam"], found["gradcam"], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(found["xgradcam"], found["gradcam"], rtol=1e-5, atol=1e-7)
    # LayerCAM leaves out what speaks against the class: equal where nothing does.
    assert not np.allclose(
        explain(small_network(), images, target=1, methods="layercam").cam, found["gradcam"], rtol=1e-2
    )
    found = explain(small_network(positive=True), images, target=1, methods=["gradcam", "layercam"]).maps
    np.testing.assert_allclose(found["layercam"], found["gradcam"], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", COUSINS)
def test_the_explainer_hands_the_formulas_the_gradient_of_the_layer(images, name):
    model = small_network(pooled=False)
    features = keras.Model(model.input, model.get_layer("last").output)(images)
    _, gradients = score_and_gradient(lambda given: model.layers[-1](model.layers[-2](given))[:, 2], features)
    result = explain(model, images, target=2, methods=["gradcam", name])
    expected = np.stack([oracle(name, a, g) for a, g in zip(numbers(features), numbers(gradients), strict=True)])
    np.testing.assert_allclose(result.maps[name], expected, rtol=2e-4, atol=1e-7)
    assert list(result.maps) == ["gradcam", name]
    assert result.cam is result.maps["gradcam"]
    assert explain(model, images, target=2, methods=name).heatmap.shape == (5, 12, 8)


def test_all_methods_together_are_what_each_is_alone(images):
    model = small_network(pooled=False)
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


@pytest.mark.parametrize("name", ["gradcam_plus_plus", "xgradcam"])
def test_denominators_near_zero_do_not_blow_up_weights(name):
    rng = np.random.default_rng(0)
    gradients = rng.normal(size=(1, 4, 4, 1))
    activations = rng.normal(size=(1, 4, 4, 1))
    for total in (0.0, 1e-9, -1e-9, -2 / gradients.max(), -2 / gradients.max() + 1e-9):
        shifted = activations - activations.mean() + total / 16
        strongest = np.abs(shifted).max() * np.maximum(gradients, 0).sum()
        assert CAM_FORMULAS[name](shifted, gradients).max() <= strongest


SIGNED = {
    "linear projection": lambda x: keras.layers.Conv2D(4, 1, name="explained")(x),
    "residual sum": lambda x: keras.layers.Add(name="explained")([x, keras.layers.Conv2D(3, 1)(x)]),
    "normalisation": lambda x: keras.layers.BatchNormalization(name="explained")(x - 0.5),
    "elu": lambda x: keras.layers.Conv2D(4, 1, activation="elu", name="explained")(x - 0.5),
}


@pytest.mark.parametrize("build", SIGNED.values(), ids=SIGNED)
@pytest.mark.parametrize("name", ["gradcam_plus_plus", "xgradcam"])
def test_formulas_for_relus_warn_of_other_activations_once(build, name):
    keras.utils.set_random_seed(2)
    inputs = keras.Input((6, 5, 3))
    x = build(inputs)
    after = keras.layers.ReLU(name="after")(x)
    model = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(after)))
    pictures = np.random.default_rng(0).random((2, 6, 5, 3), dtype=np.float32)
    title = {"gradcam_plus_plus": r"Grad-CAM\+\+", "xgradcam": "XGrad-CAM"}[name]
    explainer = Explainer(model, layer="explained", methods=[name, "hirescam"])
    with pytest.warns(UserWarning, match=rf"{title} assumes activations >= 0.*'explained' go down to -\d"):
        result = explainer(pictures)
    assert list(result.maps) == [name, "hirescam"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        explainer(pictures)
        for layer, method in (("after", name), ("explained", "hirescam"), ("explained", "gradcam")):  # the ways out
            assert explain(model, pictures, layer=layer, methods=method).cam.shape == (2, 6, 5)
