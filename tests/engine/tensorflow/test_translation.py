"""TensorFlow graphs in the words of all backends: what they see, where they lie, what is activated, what is known."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as L  # noqa: N812
from keras import ops
from numpy.testing import assert_allclose
from tensorflow_graphs import SHAPE, check_reach, conv, kernel, lines_of, read, translated

from keras_gradcam.engine.base import LayerCall, LayerOutput
from keras_gradcam.engine.boxes import as_boxes
from keras_gradcam.engine.graphs.activations import activations
from keras_gradcam.engine.graphs.graph import CONSTANT, ELEMENTWISE, INPUT, WEIGHT
from keras_gradcam.engine.graphs.placement import PlaceReader, layout_of
from keras_gradcam.engine.places import Lost
from keras_gradcam.engine.tensorflow.translation import Translation
from keras_gradcam.grids import Placement

# ---------------------------------------------------------------------------------------------------- receptive fields

OPERATIONS = {
    "Mean, kept": lambda x: tf.reduce_mean(x, 2, keepdims=True) + 0.0,
    "Max of the last axis": lambda x: tf.reduce_max(x, -1),
    "Sum of rows": lambda x: tf.reduce_sum(x, [1]),
    "Softmax": lambda x: tf.nn.softmax(tf.concat([conv(x, (3, 3), 1, padding="SAME"), x[..., :1]], -1) * 1e-5, axis=-1),
    "FusedBatchNorm": lambda x: tf.compat.v1.nn.fused_batch_norm(
        x, kernel(2), kernel(2), kernel(2), kernel(2), is_training=False
    )[0],
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
    "Reshape": lambda x: tf.reshape(x, (1, 3, 2, 5, 2)),
    "ExpandDims and Squeeze": lambda x: tf.squeeze(tf.expand_dims(x[:, :1], 3), 1),
    "ExtractImagePatches": lambda x: tf.image.extract_patches(x, [1, 2, 3, 1], [1, 2, 1, 1], [1] * 4, "SAME"),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_receptive_field_equals_brute_force(name):
    check_reach(OPERATIONS[name])


LINES = {
    "Pad": [(1, -1, 1), (1, 0, 1)],
    "Slice": [(1, 1, 1), (1, 2, 1)],
    "Tile": [(1, 0, 1), None],
    "Mean, kept": [(1, 0, 1), None],
}


@pytest.mark.parametrize("name", LINES)
def test_lines(name):
    assert lines_of(OPERATIONS[name]) == LINES[name]


def test_operation_that_is_not_known_is_named():
    with pytest.raises(ValueError, match=r"`layer` must be computed by.*'a/layer', computed through Cumsum.*before it"):
        read(lambda x: tf.cumsum(x, axis=1))


def test_operation_that_is_not_known_sees_everything_of_everything():
    reach, _ = read(lambda x: tf.cumsum(x + tf.reduce_mean(x), axis=1))
    assert reach.sees_all(SHAPE[:2])
    assert reach.shape == (1, *SHAPE)


@pytest.mark.parametrize(
    ("function", "operation"),
    [
        (lambda x: tf.gather(x, tf.cast(x[0, :3, 0, 0], tf.int32), axis=1), "GatherV2"),
        (lambda x: tf.nn.conv2d(x, x[0, :3, :3, :, None], 1, "SAME"), "Conv2D"),
        (lambda x: tf.while_loop(lambda i, _: i < 3, lambda i, y: (i + 1, tf.nn.relu(y)), [0, x])[1], "While"),
        (lambda x: tf.einsum("bhwc,bhhc->bhwc", x, x[:, :5, :5])[:, :5], "Einsum"),
    ],
)
def test_what_depends_on_the_picture_in_an_unknown_way_is_refused(function, operation):
    with pytest.raises(ValueError, match=operation):
        read(function)


def test_shapes_and_zeros_depend_on_no_pixel():
    reach, _ = read(lambda x: tf.zeros_like(x) + tf.cast(tf.shape(x)[1], tf.float32))
    assert not as_boxes(reach.values, SHAPE[:2]).any()
    assert reach.shape == (1, *SHAPE)


def test_gates_are_left_out_and_told():
    def gated(x):
        return x * tf.reduce_mean(x, (1, 2), keepdims=True)

    with_gates, reader = read(gated)
    assert reader.gated
    assert with_gates.sees_all(SHAPE[:2])
    without, reader = read(gated, gates=False)
    assert reader.gated
    np.testing.assert_array_equal(as_boxes(without.values, SHAPE[:2])[0, 3, 2, 0], [2, 3, 3, 4])


# --------------------------------------------------------------------------------------------------------------- places

SIZE = (32, 48)


def layout(network, shape=(*SIZE, 3)):
    """How the last layer's map lies, of a network given as a function of its input."""
    inputs = keras.Input(shape)
    model = keras.Model(inputs, network(inputs))
    graph, end = translated(model, shape, batch=None)
    output = LayerOutput(LayerCall("last", "", end.shape), None, end)
    return layout_of(output, PlaceReader.of_input(graph.inputs[0], shape), shape)


def conv2d(stride=1, size=3, padding="same", **options):
    return L.Conv2D(4, size, strides=stride, padding=padding, **options)


NETWORKS = {
    "strides": lambda x: conv2d(2)(conv2d(4, 5)(x)),
    "valid": lambda x: conv2d(1, 5, "valid")(conv2d(2, 3, "valid")(x)),
    "dilated": lambda x: conv2d(1, 3, "valid", dilation_rate=4)(x),
    "depthwise dilated": lambda x: L.DepthwiseConv2D(3, dilation_rate=2)(L.ZeroPadding2D(2)(x)),
    "pooling": lambda x: L.AveragePooling2D(4)(L.MaxPooling2D(3, 2, padding="same")(x)),
    "transposed": lambda x: L.Conv2DTranspose(4, 3, strides=2, padding="same")(conv2d(4)(x)),
    "up and down": lambda x: conv2d(2)(L.UpSampling2D(4, interpolation="bilinear")(conv2d(4)(x))),
    "nearest": lambda x: conv2d(2)(L.UpSampling2D(4)(conv2d(4)(x))),
    "residual": lambda x: L.Add()([conv2d(2, 1)(x), conv2d(1)(conv2d(2)(x))]),
    "joined branches": lambda x: L.Concatenate()([conv2d(2)(x), L.MaxPooling2D(2)(x), conv2d(2, 7)(x)]),
    "gated": lambda x: x * L.Dense(3, activation="sigmoid")(L.GlobalAveragePooling2D(keepdims=True)(x)),
    "context beside features": lambda x: conv2d(1, 1)(
        L.Concatenate()([conv2d()(x), L.UpSampling2D(SIZE)(L.GlobalAveragePooling2D(keepdims=True)(x))])
    ),
    "normalised": lambda x: L.GroupNormalization(1)(L.LayerNormalization()(L.BatchNormalization()(conv2d(2)(x)))),
    "pixels into channels": lambda x: conv2d(1, 1)(
        ops.reshape(ops.transpose(ops.reshape(x, (-1, 8, 4, 12, 4, 3)), (0, 1, 3, 2, 4, 5)), (-1, 8, 12, 48))
    ),
    "patches": lambda x: ops.reshape(L.Dense(5)(ops.reshape(conv2d(4, 4, "valid")(x), (-1, 96, 4))), (-1, 8, 12, 5)),
    "attention over cells": lambda x: (lambda y: y + L.MultiHeadAttention(2, 3, attention_axes=(1, 2))(y, y))(
        conv2d(8)(x)
    ),
    "shifted and back": lambda x: ops.roll(conv2d()(ops.roll(x, 3, axis=1)), -3, axis=1),
    "resized": lambda x: conv2d(2)(L.Resizing(20, 20)(x)),
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
    "crop, then valid windows": (
        lambda x: conv2d(2, 3, "valid")(x[:, 4:20, 12:]),
        ((4 / 32, 20 / 32), (12 / 48, 1)),
    ),
    "crop of the features": (lambda x: L.Cropping2D(2)(conv2d(4)(x)), ((0.25, 0.75), (1 / 6, 5 / 6))),
    "crop, padded for a convolution": (
        lambda x: conv2d(2, 7, "valid")(L.ZeroPadding2D(3)(x[:, :, 24:])),
        ((0, 1), (0.5, 1)),
    ),
    "padding that stays": (lambda x: conv2d()(L.ZeroPadding2D(((16, 0), (0, 12)))(x)), ((-0.5, 1), (0, 1.25))),
    "letters put in a box": (lambda x: L.Resizing(24, 24, pad_to_aspect_ratio=True)(x), ((-0.25, 1.25), (0, 1))),
    "resized to fill": (lambda x: L.Resizing(24, 24, crop_to_aspect_ratio=True)(x), ((0, 1), (1 / 6, 5 / 6))),
    "second half of the channels of a crop": (lambda x: conv2d()(x[:, 16:])[..., 2:], ((0.5, 1), (0, 1))),
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


# ---------------------------------------------------------------------------------------------------------- activations

KINDS = {
    "relu by maximum": (lambda x: tf.maximum(x, tf.zeros_like(x)), [("rectifier", 1)]),
    "relu by where": (lambda x: tf.where(x <= 0.0, 0.0, x), [("rectifier", 1)]),
    "relu by abs": (lambda x: (x + tf.abs(x)) / 2.0, [("rectifier", 1)]),
    "relu by a mask": (lambda x: x * tf.cast(x > 0.0, x.dtype), [("rectifier", 1)]),
    "relu6 by clipping": (lambda x: tf.clip_by_value(x, 0.0, 6.0), [("rectifier", 1)]),
    "leaky by maximum": (lambda x: tf.maximum(x, 0.1 * x), [("rectifier", 1)]),
    "relu by minimum": (lambda x: -tf.minimum(-x, 0.0), [("rectifier", -1)]),
    "minus relu": (lambda x: tf.minimum(x, 0.0), [("rectifier", -1)]),
    "hard sigmoid": (lambda x: tf.nn.relu6(3.0 + x) / 6.0, [("gate", 1)]),
    "hard sigmoid by clipping": (lambda x: tf.clip_by_value(x / 6.0 + 0.5, 0.0, 1.0), [("gate", 1)]),
    "hard swish": (lambda x: x * tf.nn.relu6(x + 3.0) / 6.0, [("smooth", 1)]),
    "celu": (lambda x: tf.maximum(x, 0.0) + tf.math.expm1(tf.minimum(x, 0.0)), [("smooth", 1)]),
    "swish": (lambda x: x * tf.sigmoid(x), [("smooth", 1)]),
    "soft shrinkage": (lambda x: tf.sign(x) * tf.nn.relu(tf.abs(x) - 0.5), [("gate", 1)]),
    "relu behind a mask": (
        lambda x: tf.where(tf.random.uniform(tf.shape(x)) > 0.5, 2.0 * tf.nn.relu(x), 0.0),
        [("rectifier", 1)],
    ),
    "relu of tanh": (lambda x: tf.nn.relu(tf.tanh(x)), [("smooth", 1), ("rectifier", 1)]),
}


@pytest.mark.parametrize(("function", "expected"), KINDS.values(), ids=KINDS)
def test_kind_of_an_activation(function, expected):
    with tf.Graph().as_default() as graph:
        x = tf.compat.v1.placeholder(tf.float32, (None, 3))
        function(x)
    found = activations(Translation(graph, [x]).graph([x]))
    assert [(activation.kind, activation.sign) for activation in found] == expected


# ------------------------------------------------------------------------------------------------------ what is known


def test_shapes_are_those_of_one_sample():
    _, end = translated(lambda x: tf.reshape(x, (-1, x.shape[-1])), batch=None)
    assert end.shape == (SHAPE[0] * SHAPE[1], SHAPE[2])
    _, end = translated(lambda x: tf.concat([x, x], 0)[:, 1:], batch=None)
    assert end.shape == (2, SHAPE[0] - 1, *SHAPE[1:])
    _, end = translated(lambda x: tf.reshape(x, tf.stack([tf.shape(x)[0], -1])), batch=None)
    assert end.shape == (1, np.prod(SHAPE))


def test_where_values_come_from():
    with tf.__internal__.FuncGraph("function").as_default() as graph:
        x, other = (tf.compat.v1.placeholder(tf.float32, (None, 3)) for _ in range(2))
        results = x + other, other * 2.0, tf.cast(tf.shape(x)[1], tf.float32) + 1.0, tf.random.uniform((3,))
        translation = Translation(graph, [x])
        values = [translation.value(tensor) for tensor in results]
    assert [value.origin for value in values] == [INPUT, WEIGHT, CONSTANT, CONSTANT]
    assert [value.number() for value in values] == [None, None, 4.0, None]


def test_what_is_added_to_a_graph_later_is_translated_too():
    with tf.Graph().as_default() as graph:
        x = tf.compat.v1.placeholder(tf.float32, (None, 3))
        translation = Translation(graph, [x])
        before = translation.value(x)
        y = tf.nn.relu(x)
        after = translation.value(y)
    assert after.producer.inputs == (before,)
    assert translation.tensor(after) is y


def test_operations_are_done_to_other_tensors_with_the_batch_that_these_have():
    with tf.Graph().as_default() as graph:
        x = tf.compat.v1.placeholder(tf.float32, (None, 6))
        y = tf.reshape(x, tf.stack([tf.shape(x)[0], 2, 3]))
        translation = Translation(graph, [x])
        operation = translation.value(y).producer
        (again,) = operation.apply([x * 2.0, translation.tensor(operation.inputs[1])])
    pictures = np.random.default_rng(0).random((4, 6), "float32")
    with tf.compat.v1.Session(graph=graph) as session:
        np.testing.assert_array_equal(session.run(again, {x: pictures}), 2 * pictures.reshape(4, 2, 3))


def test_leaky_relu_has_its_slope_as_an_input():
    _, end = translated(lambda x: tf.nn.leaky_relu(x, 0.125))
    assert end.producer.rule == ELEMENTWISE
    assert end.producer.inputs[1].number() == 0.125
    np.testing.assert_array_equal(end.producer.run([np.array([-8.0, 2.0]), 0.125])[0], [-1, 2])
