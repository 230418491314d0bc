"""Which pictures a model takes, and models that take none."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from cli_models import (
    SIZE,
    network,
)
from keras import layers as L  # noqa: N812

from keras_gradcam.errors import ArgumentError
from keras_gradcam.pictures.spec import picture_spec, warn_about_pixels


@pytest.fixture(scope="module")
def model():
    return network()


def _two_inputs():
    one, other = keras.Input((*SIZE, 3), name="one"), keras.Input((*SIZE, 3), name="other")
    x = L.GlobalAveragePooling2D()(L.Conv2D(2, 3)(L.Add()([one, other])))
    return keras.Model([one, other], L.Dense(2)(x))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_two_inputs, "Received: a model with 2 inputs"),
        (
            lambda: keras.Sequential([keras.Input((7,)), L.Dense(2)]),
            r"shape \(batch, height, width, channels\). Received: \(None, 7\)",
        ),
        (lambda: network(channels=4), "Received: 4"),
        (
            lambda: keras.Sequential([keras.Input((3, 16, 12)), L.Conv2D(2, 2)]),
            "Received: 12. It looks as if its channels came first",
        ),
        (lambda: keras.Sequential([L.Dense(2)]), "Received: a model with no declared input"),
    ],
)
def test_models_that_do_not_take_a_picture(make, message):
    with pytest.raises(ArgumentError, match=message):
        picture_spec(make())


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ("32", "`size` must be what the model takes, 16x12. Received: 32x32"),
        ("big", "`size` must be HEIGHTxWIDTH"),
        ("0x5", "`size` must be HEIGHTxWIDTH"),
        ("5000", "`size` must be HEIGHTxWIDTH"),
        ("1x2x3", "`size` must be HEIGHTxWIDTH"),
        (-3, "`size` must be HEIGHTxWIDTH"),
        ((1.5, 2), "`size` must be HEIGHTxWIDTH"),
    ],
)
def test_sizes_that_do_not_fit(model, size, message):
    with pytest.raises(ArgumentError, match=message):
        picture_spec(model, size=size)


def test_sizes(model):
    assert picture_spec(model).size == picture_spec(model, size="16x12").size == SIZE
    assert picture_spec(network(size=(None, None))).size == (224, 224)
    assert picture_spec(network(size=(None, None)), size="32x48").size == (32, 48)
    assert picture_spec(network(size=(None, None)), size=(32, 48)).size == (32, 48)
    assert picture_spec(network(size=(None, None)), size=32).size == (32, 32)
    assert picture_spec(network(size=(20, None)), size="20").size == (20, 20)
    assert picture_spec(network(channels=1)).channels == 1


def test_a_preparation_for_three_channels_does_not_fit_one():
    with pytest.raises(ArgumentError, match=r"`preprocess` must fit pictures of 1 channels. Received: resnet50: "):
        picture_spec(network(channels=1), preprocess="resnet50")


def test_pixels_that_nothing_scales_are_mentioned(model):
    bare = keras.Sequential([keras.Input((*SIZE, 3)), *model.layers[1:]])
    with pytest.warns(UserWarning, match="values from 0 to 255"):
        warn_about_pixels(bare, None)
    inputs = keras.Input((*SIZE, 3))
    warn_about_pixels(bare, "none")
    warn_about_pixels(model, None)
    warn_about_pixels(keras.Model(inputs, bare(inputs / 255.0)), None)


def test_weights_that_are_no_numbers_are_mentioned():
    model = network()
    model.layers[-1].kernel.assign(np.full(model.layers[-1].kernel.shape, np.nan))
    with pytest.warns(UserWarning, match="the model's weights are not all finite numbers"):
        warn_about_pixels(model, None)


def test_a_blank_picture_is_prepared(model):
    blank = picture_spec(model, preprocess="1/127.5,-1").blank()
    assert blank.shape == (1, *SIZE, 3)
    assert (blank == -1).all()
