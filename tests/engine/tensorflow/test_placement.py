"""The places of a layer's cells, beside the pixels that a brute-force perturbation finds."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as L  # noqa: N812
from keras import ops
from numpy.testing import assert_allclose

from keras_gradcam.engine.places import Lost
from keras_gradcam.engine.tensorflow.placement import PlaceReader, layout_of
from keras_gradcam.grids import Placement

SIZE = (32, 48)


def layout(network, shape=(*SIZE, 3)):
    """How the last layer's map lies, of a network given as a function of its input."""
    inputs = keras.Input(shape)
    model = keras.Model(inputs, network(inputs))
    found = []

    def forward(picture):
        reader = PlaceReader.of_input(picture, shape)
        from keras_gradcam.engine.base import LayerCall, LayerOutput

        output = model(picture)
        found.append(layout_of(LayerOutput(LayerCall("last", "", tuple(output.shape)), None, output), reader, shape))
        return output

    tf.compat.v1.wrap_function(forward, [tf.TensorSpec((None, *shape), tf.float32)])
    return found[0]


def conv(stride=1, size=3, padding="same", **options):
    return L.Conv2D(4, size, strides=stride, padding=padding, **options)


NETWORKS = {
    "strides": lambda x: conv(2)(conv(4, 5)(x)),
    "valid": lambda x: conv(1, 5, "valid")(conv(2, 3, "valid")(x)),
    "dilated": lambda x: conv(1, 3, "valid", dilation_rate=4)(x),
    "depthwise dilated": lambda x: L.DepthwiseConv2D(3, dilation_rate=2)(L.ZeroPadding2D(2)(x)),
    "pooling": lambda x: L.AveragePooling2D(4)(L.MaxPooling2D(3, 2, padding="same")(x)),
    "transposed": lambda x: L.Conv2DTranspose(4, 3, strides=2, padding="same")(conv(4)(x)),
    "up and down": lambda x: conv(2)(L.UpSampling2D(4, interpolation="bilinear")(conv(4)(x))),
    "nearest": lambda x: conv(2)(L.UpSampling2D(4)(conv(4)(x))),
    "residual": lambda x: L.Add()([conv(2, 1)(x), conv(1)(conv(2)(x))]),
    "joined branches": lambda x: L.Concatenate()([conv(2)(x), L.MaxPooling2D(2)(x), conv(2, 7)(x)]),
    "gated": lambda x: x * L.Dense(3, activation="sigmoid")(L.GlobalAveragePooling2D(keepdims=True)(x)),
    "context beside features": lambda x: conv(1, 1)(
        L.Concatenate()([conv()(x), L.UpSampling2D(SIZE)(L.GlobalAveragePooling2D(keepdims=True)(x))])
    ),
    "normalised": lambda x: L.GroupNormalization(1)(L.LayerNormalization()(L.BatchNormalization()(conv(2)(x)))),
    "pixels into channels": lambda x: conv(1, 1)(
        ops.reshape(ops.transpose(ops.reshape(x, (-1, 8, 4, 12, 4, 3)), (0, 1, 3, 2, 4, 5)), (-1, 8, 12, 48))
    ),
    "patches": lambda x: ops.reshape(L.Dense(5)(ops.reshape(conv(4, 4, "valid")(x), (-1, 96, 4))), (-1, 8, 12, 5)),
    "attention over cells": lambda x: (lambda y: y + L.MultiHeadAttention(2, 3, attention_axes=(1, 2))(y, y))(
        conv(8)(x)
    ),
    "shifted and back": lambda x: ops.roll(conv()(ops.roll(x, 3, axis=1)), -3, axis=1),
    "resized": lambda x: conv(2)(L.Resizing(20, 20)(x)),
    "resized smoothly": lambda x: L.Resizing(20, 30, interpolation="bicubic", antialias=True)(x),
    "recurrent over channels": lambda x: ops.einsum("bhwc,cd->bhwd", x, np.ones((3, 5), "float32")),
    "inside a function": lambda x: Function()(x),
}


class Function(L.Layer):
    """Runs a function that stays one operation of the graph."""

    def call(self, x):
        return tf.function(lambda t: tf.nn.avg_pool2d(t, 4, 4, "VALID"), autograph=False)(x)


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_ordinary_networks_keep_the_plain_enlargement(network):
    assert layout(network).placement == Placement.whole(2)


CUTS = {
    "crop": (lambda x: x[:, 4:20, 12:], ((4 / 32, 20 / 32), (12 / 48, 1))),
    "crop, then valid windows": (lambda x: conv(2, 3, "valid")(x[:, 4:20, 12:]), ((4 / 32, 20 / 32), (12 / 48, 1))),
    "crop of the features": (lambda x: L.Cropping2D(2)(conv(4)(x)), ((0.25, 0.75), (1 / 6, 5 / 6))),
    "crop, padded for a convolution": (
        lambda x: conv(2, 7, "valid")(L.ZeroPadding2D(3)(x[:, :, 24:])),
        ((0, 1), (0.5, 1)),
    ),
    "padding that stays": (lambda x: conv()(L.ZeroPadding2D(((16, 0), (0, 12)))(x)), ((-0.5, 1), (0, 1.25))),
    "letters put in a box": (lambda x: L.Resizing(24, 24, pad_to_aspect_ratio=True)(x), ((-0.25, 1.25), (0, 1))),
    "resized to fill": (lambda x: L.Resizing(24, 24, crop_to_aspect_ratio=True)(x), ((0, 1), (1 / 6, 5 / 6))),
    "second half of the channels of a crop": (lambda x: conv()(x[:, 16:])[..., 2:], ((0.5, 1), (0, 1))),
    "one of several parts": (lambda x: ops.split(x, 3, axis=2)[1], ((0, 1), (1 / 3, 2 / 3))),
    "every other row from the end": (lambda x: x[:, ::-2], ((1, 0), (0, 1))),
}


@pytest.mark.parametrize(("network", "spans"), CUTS.values(), ids=CUTS)
def test_what_moves_pixels_is_followed(network, spans):
    found = layout(network)
    assert found.placement.axes == (0, 1)
    assert_allclose(found.placement.spans, spans, atol=1e-9)


def test_axes_of_series_and_volumes():
    series = layout(lambda x: L.Conv1D(4, 3, strides=2, padding="same")(x[:, 16:]), (64, 2))
    assert series.placement == Placement((0,), ((0.25, 1.0),))
    volume = layout(lambda x: L.Conv3D(4, 3, padding="same")(L.Permute((3, 1, 2, 4))(x)), (8, 12, 16, 2))
    assert volume.placement == Placement((2, 0, 1), ((0.0, 1.0),) * 3)


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (lambda x: ops.abs(ops.fft2((x[..., 0], ops.zeros_like(x[..., 0])))[0])[..., None], "operation"),
        (lambda x: ops.reshape(x, (-1, 48, 32, 3)), "regular grid"),
        (lambda x: ops.add(x, x[:, ::-1]), "regular grid"),
        (lambda x: ops.reshape(x, (-1, 16, 48, 3)), "batch"),
        (lambda x: tf.image.crop_and_resize(x, [[0, 0, 0.5, 0.5]], [0], (8, 8)), "CropAndResize"),
    ],
    ids=["spectrum", "table", "mirrored sum", "halves in the batch", "box"],
)
def test_what_cannot_be_followed_is_said(network, reason):
    wrapped = L.Lambda(network)
    found = layout(wrapped).placement
    assert isinstance(found, Lost)
    assert reason in found.reason
