"""Programs for series, volumes, tokens and pictures of any size, beside a plain tape."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers as L  # noqa: N812
from models import (
    CLASSES,
    SIZE,
    ClassToken,
    images,
    logits,
    randomised,
)
from oracles import (
    assert_close,
    gradcam_by_hand,
    input_gradient,
    plain_gradcam,
    rectifier,
    upsample_by_hand,
)
from tapes import check_gradcam, mean

from keras_gradcam import Explainer, explain


@pytest.mark.parametrize(
    ("size", "conv", "pool", "strides"),
    [((21,), L.Conv1D, L.GlobalAveragePooling1D, 2), ((6, 7, 8), L.Conv3D, L.GlobalAveragePooling3D, 2)],
    ids=["series", "volumes"],
)
def test_series_and_volumes(size, conv, pool, strides):
    model = keras.Sequential(
        [
            keras.Input((*size, 2)),
            conv(4, 3, padding="same", activation="relu", name="conv1"),
            conv(5, 3, strides=strides, padding="same", activation="relu", name="conv2"),
            pool(),
            L.Dense(CLASSES, activation="softmax", name="dense"),
        ]
    )
    randomised(model)
    conv1, conv2, dense = (model.get_layer(name) for name in ("conv1", "conv2", "dense"))
    pictures = images(2, size, 2)
    result = explain(model, pictures, target=2)
    assert result.gradcam.shape == (2, *(-(-extent // strides) for extent in size))
    check_gradcam(result, lambda x: conv2(conv1(x)), lambda a: logits(dense, mean(a))[:, 2], pictures)
    gate = rectifier().guided()

    def score(x):
        for layer, step in ((conv1, 1), (conv2, strides)):
            x = gate(keras.ops.conv(x, layer.kernel, step, "same") + layer.bias)
        return logits(dense, mean(x))[:, 2]

    assert_close(result.guided_backprop, input_gradient(score, pictures))


def vision_transformer():
    """16 x 8 patches and a class token; one block; the class is read from the class token."""
    inputs = keras.Input((32, 16, 3))
    tokens = L.Reshape((128, 8))(L.Conv2D(8, 2, strides=2, name="patches")(inputs))
    tokens = ClassToken(name="tokens")(tokens)
    normed = L.LayerNormalization(name="norm1")(tokens)
    mixed = L.MultiHeadAttention(2, 4, name="attention")(normed, normed)
    tokens = L.LayerNormalization(name="norm2")(L.Add()([tokens, mixed]))
    return randomised(keras.Model(inputs, L.Dense(CLASSES, name="dense")(tokens[:, 0])))


def test_tokens_of_a_vision_transformer_on_a_picture_that_is_not_square():
    model = vision_transformer()
    pictures = images(2, (32, 16))
    patches, tokens, norm1, attention, norm2, dense = (
        model.get_layer(name) for name in ("patches", "tokens", "norm1", "attention", "norm2", "dense")
    )
    all_tokens = tokens(keras.ops.reshape(patches(pictures), (2, 128, 8)))

    def head(a):
        return logits(dense, norm2(all_tokens + attention(a, a))[:, 0])[:, 1]

    result = explain(model, pictures, target=1, layer="norm1", methods="gradcam")
    expected = plain_gradcam(lambda x: norm1(all_tokens), head, pictures)
    on_grid = [array[:, 1:].reshape(2, 16, 8, 8) for array in (expected.activations, expected.gradients)]
    assert result.gradcam.shape == (2, 16, 8)
    assert_close(result.gradcam, gradcam_by_hand(*on_grid))
    assert_close(result.heatmap, upsample_by_hand(gradcam_by_hand(*on_grid), (32, 16)))


def test_fully_convolutional_model_takes_pictures_of_any_size():
    inputs = keras.Input((None, None, 3))
    x = L.Conv2D(4, 3, activation="relu", name="conv1")(inputs)
    x = L.Conv2D(5, 3, strides=2, activation="relu", name="conv2")(x)
    model = randomised(keras.Model(inputs, L.Dense(CLASSES, name="dense")(L.GlobalAveragePooling2D()(x))))
    conv1, conv2, dense = (model.get_layer(name) for name in ("conv1", "conv2", "dense"))
    explainer = Explainer(model, target=1)
    for size in ((12, 10), (9, 15), (12, 10)):
        result = explainer(images(size=size))
        assert result.heatmap.shape == (3, *size)
        assert result.guided_backprop.shape == (3, *size, 3)
        check_gradcam(result, lambda x: conv2(conv1(x)), lambda a: logits(dense, mean(a))[:, 1], images(size=size))


def test_map_of_a_score_over_space():
    """A segmentation model: the score is the mean logit of a class inside a mask."""
    inputs = keras.Input((*SIZE, 3))
    features = L.Conv2D(4, 3, padding="same", activation="relu", name="features")(inputs)
    final = L.Conv2D(2, 1, activation="softmax", name="final")
    model = randomised(keras.Model(inputs, final(features)))
    mask = np.zeros(SIZE, "float32")
    mask[2:5, 6:9] = 1

    def inside(outputs):
        return keras.ops.sum(outputs[..., 1] * mask, axis=(1, 2))

    result = explain(model, images(), target=inside, methods="gradcam")
    assert result.layer == "features"
    check_gradcam(result, model.get_layer("features"), lambda a: inside(final(a)), images())
