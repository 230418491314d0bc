"""Kernels become pictures that say what the weights are: numbers by hand, and networks of every kind."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers as L  # noqa: N812
from models import SIZE, ConvnetByCall, backbone, images, nested_convnet
from snapshots import unchanged

from keras_gradcam.filters.kernels import filter_kernels


def convolution(kernels, **options):
    """A model of one convolution with these kernels, (h, w, inputs, filters)."""
    kernels = np.asarray(kernels, "float32")
    inputs = keras.Input((*SIZE, kernels.shape[2]))
    layer = L.Conv2D(kernels.shape[-1], kernels.shape[:2], use_bias=False, name="conv", **options)
    model = keras.Model(inputs, L.Flatten()(layer(inputs)))
    layer.set_weights([kernels])
    return model


def random_kernels(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


# --------------------------------------------------------------------------------------------------------------- tiles


def test_three_inputs_are_red_green_and_blue():
    kernels = np.zeros((1, 2, 3, 2))
    kernels[0, 0, :, 0] = [1.0, -1.0, 0.5]
    kernels[0, 1, :, 1] = [0.0, 0.2, 0.0]
    found = filter_kernels(convolution(kernels), sort=None)
    assert found.tiles().tolist() == [[[[255, 1, 192], [128] * 3]], [[[128] * 3, [128, 255, 128]]]]
    assert found.tiles("common")[1].tolist() == [[[128] * 3, [128, 153, 128]]]


def test_one_input_is_grey():
    found = filter_kernels(convolution(np.array([[2.0, -1.0, 0.0]])[:, :, None, None]))
    assert found.tiles().tolist() == [[[[255] * 3, [64] * 3, [128] * 3]]]


def test_other_inputs_are_drawn_by_their_norm():
    kernels = np.zeros((1, 2, 4, 1))
    kernels[0, 0, :2, 0] = [3.0, -4.0]
    kernels[0, 1, 2, 0] = -2.5
    assert filter_kernels(convolution(kernels)).tiles().tolist() == [[[[255] * 3, [128] * 3]]]


def test_kernels_of_nothing_are_mid_grey():
    assert (filter_kernels(convolution(np.zeros((3, 3, 3, 2)))).tiles() == 128).all()


def test_negligible_kernels_are_not_blown_up():
    kernels = random_kernels(3, 3, 3, 2)
    kernels[..., 1] *= 1e-6
    found = filter_kernels(convolution(kernels))
    assert abs(found.tiles()[1].astype(int) - 128).max() <= 1
    assert found.draw().shape == filter_kernels(convolution(random_kernels(3, 3, 3, 2))).draw().shape


def test_weights_that_are_not_finite_do_not_spoil_the_others():
    kernels = random_kernels(3, 3, 3, 3)
    kernels[0, 0, 0, 1] = np.nan
    for sort in ("norm", "similarity", None):
        found = filter_kernels(convolution(kernels), sort=sort)
        assert sorted(found.order) == [0, 1, 2]
        assert found.draw().dtype == np.uint8
    assert list(filter_kernels(convolution(kernels)).order)[-1] == 1


# --------------------------------------------------------------------------------------------------------------- order


def test_largest_norm_comes_first_and_equal_ones_keep_their_order():
    kernels = random_kernels(3, 3, 3, 1).repeat(5, axis=-1) * [1, 3, 2, 3, 0.5]
    found = filter_kernels(convolution(kernels))
    assert found.order.tolist() == [1, 3, 2, 0, 4]
    np.testing.assert_allclose(found.norms, np.linalg.norm(kernels.reshape(-1, 5), axis=0), rtol=1e-6)
    np.testing.assert_array_equal(found.kernels, kernels.astype("float32"))
    assert filter_kernels(convolution(kernels), sort=None).order.tolist() == [0, 1, 2, 3, 4]


def test_similar_kernels_stand_side_by_side():
    directions = random_kernels(3, 27)
    rng = np.random.default_rng(1)
    families = rng.permutation(np.repeat(np.arange(3), 6))
    rows = directions[families] * rng.uniform(0.1, 9, (18, 1)) + 0.01 * rng.normal(size=(18, 27))
    found = filter_kernels(convolution(rows.T.reshape(3, 3, 3, 18)), sort="similarity")
    assert sorted(found.order) == list(range(18))
    assert (np.diff(families[found.order]) != 0).sum() == 2  # three runs


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_kernels_by_similarity(count):
    assert sorted(filter_kernels(convolution(random_kernels(3, 3, 3, count)), sort="similarity").order) == list(
        range(count)
    )


def test_kernels_without_direction_come_last():
    kernels = random_kernels(3, 3, 3, 5)
    kernels[..., [0, 3]] = 0
    assert filter_kernels(convolution(kernels), sort="similarity").order[-2:].tolist() == [0, 3]


# -------------------------------------------------------------------------------------------------------------- layers


def test_first_convolution_is_the_first_that_is_called():
    inputs = keras.Input((*SIZE, 3))
    late, early = L.Conv2D(2, 3, name="late"), L.Conv2D(5, 3, name="early")
    model = keras.Sequential([keras.Input((*SIZE, 3)), early, late])

    class Model(keras.Model):
        def __init__(self, **options):
            super().__init__(**options)
            self.late, self.early = late, early

        def call(self, x):
            return self.late(self.early(x))

    assert filter_kernels(model).layer == "early"
    # Defined the other way round, called in this order.
    outer = keras.Model(inputs, Model(name="inner")(inputs))
    assert filter_kernels(outer).layer == "inner/early"


def test_model_that_does_not_know_its_input_falls_back_to_the_order_of_definition():
    model = ConvnetByCall(keras.ops.relu)
    with pytest.raises(ValueError, match=r"`model` must have its weights.*'conv1'.*Candidates: the model after"):
        filter_kernels(model)
    model(images(1))
    assert filter_kernels(model).layer == "conv1"


def test_layers_by_name_path_and_object():
    model = nested_convnet()
    (conv2,) = [layer for layer in model._flatten_layers() if layer.name == "conv2"]
    assert filter_kernels(model).layer == "middle/inner/conv1"
    for layer in ("conv2", "middle/conv2", conv2):
        found = filter_kernels(model, layer)
        assert (found.layer, found.kernels.shape) == ("middle/conv2", (3, 3, 4, 5))


def test_depthwise_convolution_has_one_input_per_filter():
    inputs = keras.Input((*SIZE, 3))
    model = keras.Model(inputs, L.DepthwiseConv2D(3, depth_multiplier=2, name="depth")(inputs))
    found = filter_kernels(model, sort=None)
    assert found.kernels.shape == (3, 3, 1, 6)
    weights = keras.ops.convert_to_numpy(model.get_layer("depth").kernel)
    np.testing.assert_array_equal(found.kernels[:, :, 0, 3], weights[:, :, 1, 1])
    assert filter_kernels(backbone()).layer == "conv2d"


@pytest.mark.parametrize("policy", ["bfloat16", "float16", "mixed_float16"])
def test_half_precision(policy):
    keras.config.set_dtype_policy(policy)
    assert filter_kernels(convolution(random_kernels(3, 3, 3, 4))).draw().dtype == np.uint8


@pytest.mark.parametrize("layer", ["conv", "dense", "no such layer", 3])
def test_layer_without_kernels_is_answered_with_candidates(layer):
    with pytest.raises(ValueError, match=r"`layer` must name one Conv2D.*Received: .*Candidates: 'middle/inner/conv1'"):
        filter_kernels(nested_convnet(), layer)


def test_name_that_several_layers_bear_is_answered_with_candidates():
    def block(name):
        inputs = keras.Input((*SIZE, 3))
        return keras.Model(inputs, L.Conv2D(3, 3, padding="same", name="conv")(inputs), name=name)

    model = keras.Sequential([keras.Input((*SIZE, 3)), block("a"), block("b")])
    with pytest.raises(ValueError, match=r"Received: 'conv'. Candidates: 'a/conv', 'b/conv'"):
        filter_kernels(model, "conv")
    assert filter_kernels(model, "b/conv").layer == "b/conv"


def test_model_without_convolutions():
    model = keras.Sequential([keras.Input((4,)), L.Dense(2)])
    with pytest.raises(ValueError, match=r"Candidates: none: the model has no such layer"):
        filter_kernels(model)


def test_unknown_options_are_refused():
    model = convolution(random_kernels(3, 3, 3, 4))
    with pytest.raises(ValueError, match=r"`sort` must be .*Received: 'size'"):
        filter_kernels(model, sort="size")
    with pytest.raises(ValueError, match=r"`scale` must be .*Received: 'log'"):
        filter_kernels(model).draw("log")
    for columns in (0, 2.5, True):
        with pytest.raises(ValueError, match=r"`columns` must be a whole number"):
            filter_kernels(model).draw(columns=columns)


def test_looking_leaves_the_model_as_it_was():
    model = nested_convnet()
    with unchanged(model):
        filter_kernels(model, sort="similarity").draw()


# ------------------------------------------------------------------------------------------------------------- picture


@pytest.mark.parametrize(("shape", "columns"), [((3, 3, 3, 7), None), ((11, 5, 1, 4), 2), ((1, 1, 8, 3), 1)])
def test_every_tile_stands_in_the_grid(shape, columns):
    found = filter_kernels(convolution(random_kernels(*shape)))
    picture = found.draw(columns=columns)
    assert picture.dtype == np.uint8
    assert picture.ndim == 3
    factor = 60 // max(shape[:2])
    for tile in found.tiles():
        # The tile without its outline, wherever it stands.
        inner = tile.repeat(factor, axis=0).repeat(factor, axis=1)[1:-1, 1:-1, 0]
        windows = np.lib.stride_tricks.sliding_window_view(picture[..., 0], inner.shape)
        corners = (windows[..., 0, 0] == inner[0, 0]) & (windows[..., -1, -1] == inner[-1, -1])
        assert any((window == inner).all() for window in windows[corners])


def test_repr():
    found = filter_kernels(convolution(random_kernels(3, 5, 3, 4)))
    assert repr(found) == "Kernels('conv', kernels (3, 5, 3, 4))"
