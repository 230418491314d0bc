"""The receptive field of every kind of operation, called by itself, beside changing every pixel in turn."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from fields import changed_boxes

from keras_gradcam.engine.boxes import as_boxes
from keras_gradcam.engine.tensorflow.operations import attribute, text
from keras_gradcam.engine.tensorflow.receptive_field import GraphReader

SHAPE = (6, 5, 2)


def kernel(*shape):
    return tf.constant(np.random.default_rng(0).uniform(0.5, 1.5, shape), tf.float32)


def reach_of(function, shape=SHAPE):
    traced = tf.compat.v1.wrap_function(function, [tf.TensorSpec((1, *shape), tf.float32)])
    return GraphReader(traced, 1, "layer", gates=True).read(traced.inputs[0], (1, *shape), traced.outputs[0])


def one_by_one(function):
    """Runs a function of pictures one by one, so that what is laid into the batch stays apart; on every CPU."""

    def features(pictures):
        try:
            return np.concatenate([function(tf.constant(picture[None])) for picture in pictures])
        except (tf.errors.UnimplementedError, tf.errors.InvalidArgumentError):
            compiled = tf.function(lambda x: tf.map_fn(lambda one: function(one[None])[0], x), jit_compile=True)
            return compiled(tf.constant(pictures)).numpy()

    return features


def conv(x, size, channels=3, strides=1, padding="VALID", **options):
    return tf.nn.conv2d(x, kernel(*size, x.shape[-1], channels), strides, padding, **options)


def back(x, size, strides, padding, shape):
    return tf.nn.conv2d_transpose(x, kernel(*size, 3, x.shape[-1]), (x.shape[0], *shape, 3), strides, padding)


def resize(method, size=(4, 8), **options):
    return lambda x: tf.image.resize(x, size, method, **options)


CASES = {
    # convolved
    "Conv2D, valid": lambda x: conv(x, (3, 2)),
    "Conv2D, same, strided": lambda x: conv(x, (3, 2), strides=2, padding="SAME"),
    "Conv2D, explicit padding": lambda x: conv(x, (2, 2), padding=[[0, 0], [1, 2], [0, 1], [0, 0]]),
    "Conv2D, dilated": lambda x: conv(x, (2, 3), padding="SAME", dilations=2),
    "DepthwiseConv2dNative": lambda x: tf.nn.depthwise_conv2d(
        tf.concat([x[..., :1], conv(x, (3, 3), 1, padding="SAME")], -1), kernel(2, 1, 2, 2), [1, 1, 1, 1], "VALID"
    ),
    # pooled
    "MaxPool": lambda x: tf.nn.max_pool2d(x, (2, 3), 2, "SAME"),
    "AvgPool": lambda x: tf.nn.avg_pool2d(x, 3, (1, 2), "VALID"),
    # deconvolved
    "Conv2DBackpropInput, valid": lambda x: back(x[:, ::3, ::3], (3, 2), 2, "VALID", (5, 4)),
    "Conv2DBackpropInput, same": lambda x: back(x[:, ::3, ::3], (3, 3), 2, "SAME", (4, 3)),
    # reduced, along the last axis, normalized
    "Mean, kept": lambda x: tf.reduce_mean(x, 2, keepdims=True) + 0.0,
    "Max of the last axis": lambda x: tf.reduce_max(x, -1),
    "Sum of rows": lambda x: tf.reduce_sum(x, [1]),
    "Softmax": lambda x: tf.nn.softmax(tf.concat([conv(x, (3, 3), 1, padding="SAME"), x[..., :1]], -1) * 1e-5, axis=-1),
    "FusedBatchNorm": lambda x: tf.compat.v1.nn.fused_batch_norm(
        x, kernel(2), kernel(2), kernel(2), kernel(2), is_training=False
    )[0],
    # products
    "MatMul": lambda x: tf.matmul(x[:, :, :, 0], kernel(1, 5, 4)),
    "MatMul of a transposed": lambda x: tf.matmul(x[:, :, :, 0], kernel(1, 6, 4), transpose_a=True),
    "MatMul of two": lambda x: tf.matmul(x[:, :, :, 0], x[:, :, :, 1], transpose_b=True),
    "Einsum": lambda x: tf.einsum("bhwc,cd->bwhd", x, kernel(2, 3)),
    "Einsum with an ellipsis": lambda x: tf.einsum("b...c,cd->b...d", x, kernel(2, 3)),
    "Einsum of two": lambda x: tf.einsum("bhc,bwc->bhw", x[:, :, 0], x[:, 2]),
    # moved
    "Transpose": lambda x: tf.transpose(x, (0, 2, 1, 3)),
    "Pad": lambda x: tf.pad(x, [[0, 0], [1, 0], [0, 2], [0, 0]]),
    "MirrorPad": lambda x: tf.pad(x, [[0, 0], [1, 0], [0, 2], [0, 0]], "SYMMETRIC"),
    "Slice": lambda x: tf.slice(x, [0, 1, 2, 0], [1, 3, -1, 1]),
    "StridedSlice": lambda x: x[:, 4:0:-2, None, ..., 1],
    "ReverseV2 and Roll": lambda x: tf.roll(tf.reverse(x, [1]), 2, 2),
    "Tile": lambda x: tf.tile(x, (1, 1, 2, 1)),
    "Pack and Unpack": lambda x: tf.stack(tf.unstack(x, axis=2)[::-1], axis=1),
    "Split and ConcatV2": lambda x: tf.concat(tf.split(x, 3, axis=1)[::-1], axis=2),
    "SplitV": lambda x: tf.split(x, [1, 4, 1], axis=1)[1],
    "GatherV2": lambda x: tf.gather(x, [4, 0, 0], axis=1),
    "GatherNd": lambda x: tf.gather_nd(x, [[[0, 4], [0, 1]]]),
    "SpaceToDepth": lambda x: tf.nn.space_to_depth(x[:, :, :4], 2),
    "BatchToSpaceND": lambda x: tf.batch_to_space(
        conv(tf.space_to_batch(x, [2, 2], [[0, 0], [0, 1]]), (2, 2)), [2, 2], [[0, 0], [0, 0]]
    ),
    # reshaped
    "Reshape": lambda x: tf.reshape(x, (1, 3, 2, 5, 2)),
    "ExpandDims and Squeeze": lambda x: tf.squeeze(tf.expand_dims(x[:, :1], 3), 1),
    # resized, and moved as patches
    "ResizeBilinear": resize("bilinear"),
    "ResizeBicubic": resize("bicubic"),
    "ResizeNearestNeighbor": resize("nearest"),
    "ResizeArea": resize("area", (3, 2)),
    "ScaleAndTranslate": resize("bilinear", (3, 2), antialias=True),
    "ExtractImagePatches": lambda x: tf.image.extract_patches(x, [1, 2, 3, 1], [1, 2, 1, 1], [1] * 4, "SAME"),
}


@pytest.mark.parametrize("name", CASES)
def test_operation(name):
    reach = reach_of(CASES[name])
    expected = changed_boxes(one_by_one(CASES[name]), SHAPE)
    np.testing.assert_array_equal(as_boxes(reach.values, SHAPE[:2])[0], expected)


LINES = {
    "Conv2D, same, strided": [(2, 0, 3), (2, 0, 2)],
    "Conv2D, explicit padding": [(1, -1, 2), (1, 0, 2)],
    "Conv2D, dilated": [(1, -1, 3), (1, -2, 5)],
    "AvgPool": [(1, 0, 3), (2, 0, 3)],
    "Pad": [(1, -1, 1), (1, 0, 1)],
    "Slice": [(1, 1, 1), (1, 2, 1)],
    "Tile": [None, None],
    "Conv2DBackpropInput, same": [None, None],
    "Mean, kept": [(1, 0, 1), None],
    "BatchToSpaceND": [(1, 0, 3), (1, 0, 3)],
}


@pytest.mark.parametrize("name", LINES)
def test_lines_of_an_operation(name):
    lines = reach_of(CASES[name]).lines
    assert [line and (line.stride, line.first, line.size) for line in lines] == LINES[name]


def test_attributes_and_text():
    traced = tf.compat.v1.wrap_function(lambda x: conv(x, (3, 2)), [tf.TensorSpec((1, *SHAPE), tf.float32)])
    (op,) = [op for op in traced.graph.get_operations() if op.type == "Conv2D"]
    assert text(attribute(op, "padding")) == "VALID"
    assert attribute(op, "keep_dims") is None
    assert text(3) == 3
