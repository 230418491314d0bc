"""What convolutions, poolings and resizings see, beside changing every pixel in turn."""

from __future__ import annotations

import pytest
import tensorflow as tf
from tensorflow_graphs import check_reach, conv, kernel, lines_of, translated

from keras_gradcam.engine.boxes import Window
from keras_gradcam.engine.graphs.graph import OPAQUE, WINDOW


def back(x, size, strides, padding, shape):
    return tf.nn.conv2d_transpose(x, kernel(*size, 3, x.shape[-1]), (x.shape[0], *shape, 3), strides, padding)


def resize(method, size=(4, 8), **options):
    return lambda x: tf.image.resize(x, size, method, **options)


CASES = {
    "Conv2D, valid": lambda x: conv(x, (3, 2)),
    "Conv2D, same, strided": lambda x: conv(x, (3, 2), strides=2, padding="SAME"),
    "Conv2D, explicit padding": lambda x: conv(x, (2, 2), padding=[[0, 0], [1, 2], [0, 1], [0, 0]]),
    "Conv2D, dilated": lambda x: conv(x, (2, 3), padding="SAME", dilations=2),
    "DepthwiseConv2dNative": lambda x: tf.nn.depthwise_conv2d(
        tf.concat([x[..., :1], conv(x, (3, 3), 1, padding="SAME")], -1), kernel(2, 1, 2, 2), [1, 1, 1, 1], "VALID"
    ),
    "MaxPool": lambda x: tf.nn.max_pool2d(x, (2, 3), 2, "SAME"),
    "AvgPool": lambda x: tf.nn.avg_pool2d(x, 3, (1, 2), "VALID"),
    "Conv2DBackpropInput, valid": lambda x: back(x[:, ::3, ::3], (3, 2), 2, "VALID", (5, 4)),
    "Conv2DBackpropInput, same": lambda x: back(x[:, ::3, ::3], (3, 3), 2, "SAME", (4, 3)),
    "BatchToSpaceND": lambda x: tf.batch_to_space(
        conv(tf.space_to_batch(x, [2, 2], [[0, 0], [0, 1]]), (2, 2)), [2, 2], [[0, 0], [0, 0]]
    ),
    "ResizeBilinear": resize("bilinear"),
    "ResizeBicubic": resize("bicubic"),
    "ResizeNearestNeighbor": resize("nearest"),
    "ResizeArea": resize("area", (3, 2)),
    "ScaleAndTranslate": resize("bilinear", (3, 2), antialias=True),
}


@pytest.mark.parametrize("name", CASES)
def test_receptive_field_equals_brute_force(name):
    check_reach(CASES[name])


LINES = {
    "Conv2D, same, strided": [(2, 0, 3), (2, 0, 2)],
    "Conv2D, explicit padding": [(1, -1, 2), (1, 0, 2)],
    "Conv2D, dilated": [(1, -1, 3), (1, -2, 5)],
    "AvgPool": [(1, 0, 3), (2, 0, 3)],
    "Conv2DBackpropInput, same": [None, None],
    "BatchToSpaceND": [(1, 0, 3), (1, 0, 3)],
}


@pytest.mark.parametrize("name", LINES)
def test_lines(name):
    assert lines_of(CASES[name]) == LINES[name]


def test_channels_may_come_first():
    _, end = translated(lambda x: tf.nn.max_pool2d(tf.transpose(x, (0, 3, 1, 2)), 2, 2, "SAME", "NCHW"))
    assert end.producer.rule == WINDOW
    assert end.producer.parameters["channels"] == 1
    assert end.producer.parameters["windows"] == {2: Window(2, 2), 3: Window(2, 2, 1, 0, 1)}


def test_pooling_of_channels_stays_opaque():
    _, end = translated(lambda x: tf.nn.max_pool(x, (1, 1, 1, 2), (1, 1, 1, 2), "VALID"))
    assert end.producer.rule == OPAQUE
