"""What is done to pixels: as keras.applications does it, and undone for people."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from keras_gradcam.errors import ArgumentError
from keras_gradcam.pictures.preprocessing import NONE, modules, read_preprocessing


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1/255,0", lambda x: x / 255),
        ("2,-3.5", lambda x: 2 * x - 3.5),
        ("mobilenet_v2", lambda x: x / 127.5 - 1),
        ("none", lambda x: x),
        ("None", lambda x: x),
        ("resnet50", lambda x: x[..., ::-1] - np.array([103.939, 116.779, 123.68])),
    ],
)
def test_preparation(text, expected, rng):
    pixels = rng.integers(0, 256, (2, 5, 4, 3)).astype("float32")
    prepared = read_preprocessing(text)(pixels)
    assert prepared.dtype == np.float32
    np.testing.assert_allclose(prepared, expected(pixels), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("text", ["none", "1/255,0", "2,-7.5", "mobilenet_v2", "resnet50", "densenet", "efficientnet"])
def test_preparation_can_be_undone(text, rng):
    pixels = rng.integers(0, 256, (2, 5, 4, 3))
    prepared = read_preprocessing(text)(pixels.astype("float32"))
    np.testing.assert_array_equal(read_preprocessing(text).undo(prepared), pixels)


def test_preparation_leaves_its_argument_alone(rng):
    pixels = rng.uniform(0, 255, (2, 5, 4, 3)).astype("float32")
    before = pixels.copy()
    for name in modules():
        read_preprocessing(name)(pixels)
    np.testing.assert_array_equal(pixels, before)
    assert NONE(pixels) is not pixels


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mobilenetv2", "Candidates: mobilenet_v2"),
        ("vgg", "Candidates: vgg1"),
        ("?", "Candidates: convnext, densenet"),
        ("imagenet_utils", "must be none"),
        ("1/0,2", "two numbers"),
        ("1,2,3", "two numbers"),
        ("a,b", "two numbers"),
        ("1,", "two numbers"),
        ("nan,0", "two numbers"),
        ("", "must be none"),
        (7, "Candidates: a function"),
    ],
)
def test_preparations_that_are_none(text, message):
    with pytest.raises(ArgumentError, match=message):
        read_preprocessing(text)


def test_a_function_is_a_preparation(rng):
    pixels = rng.uniform(0, 255, (2, 5, 4, 3)).astype("float32")
    prepared = read_preprocessing(np.negative)
    np.testing.assert_array_equal(prepared(pixels), -pixels)
    assert read_preprocessing(prepared) is prepared
    assert read_preprocessing(None) is NONE


@pytest.mark.parametrize("text", ["none", "1/255,0", "mobilenet_v2"])
def test_preparations_can_be_sent_to_another_process(text, rng):
    pixels = rng.uniform(0, 255, (2, 5, 4, 3)).astype("float32")
    prepared = read_preprocessing(text)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(prepared))(pixels), prepared(pixels))
