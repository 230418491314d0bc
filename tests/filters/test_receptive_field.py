"""Receptive fields are compared with what happens when every pixel is changed in turn."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from fields import changed_boxes, layer_function, loud, squeeze_and_excite
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from keras import layers as L  # noqa: N812
from models import SIZE, ClassToken, ConvnetByCall, images, nested_convnet
from snapshots import unchanged
from tensorflow_models import ConvnetByAutograph, ConvnetByFunction

from keras_gradcam.filters.receptive_field import receptive_field


def stacked(*layers, shape=(*SIZE, 3)):
    """A model of layers (or functions of a tensor), one after another, and classes."""
    inputs = x = keras.Input(shape)
    for layer in layers:
        x = layer(x)
    x = L.Identity(name="end")(x)
    return loud(keras.Model(inputs, L.Dense(2)(L.Flatten()(x))))


def check(model, layer="end", shape=(*SIZE, 3), **options):
    field = receptive_field(model, layer, **options)
    expected = changed_boxes(layer_function(model, layer), shape)
    assert field.grid == expected.shape[:2]
    np.testing.assert_array_equal(field.boxes, expected)
    return field


def check_unclipped(field, exactly=True):
    """Within the picture the two answers agree, unless pixels were cropped away; at its border a cell sees less."""
    height, width = field.input_size
    for row, column in np.ndindex(*field.grid):
        x0, y0, x1, y1 = field.box(row, column)
        left, top, right, bottom = field.unclipped(row, column)
        if exactly and min(left, top) >= 0 and right <= width and bottom <= height:
            assert (x0, y0, x1, y1) == (left, top, right, bottom)
        elif x1 > 0:
            assert max(left, 0) <= x0
            assert max(top, 0) <= y0
            assert x1 <= min(right, width)
            assert y1 <= min(bottom, height)


class ByTensorFlow(L.Layer):
    """A layer that calls a function of TensorFlow's own."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def call(self, x):
        return self.function(x)


def add(*branches):
    return lambda x: L.Add()([branch(x) for branch in branches])


def concatenate(*branches, axis=-1):
    return lambda x: L.Concatenate(axis=axis)([branch(x) for branch in branches])


def chain(*layers):
    def run(x):
        for layer in layers:
            x = layer(x)
        return x

    return run


REGULAR = {
    "valid": lambda: [L.Conv2D(2, 3)],
    "even kernel, same": lambda: [L.Conv2D(2, 4, padding="same"), L.Conv2D(2, 2, padding="same")],
    "stride 2, same, even and odd": lambda: [L.Conv2D(2, 3, 2, "same"), L.Conv2D(2, 3, 2, "same")],
    "stride larger than the kernel": lambda: [L.Conv2D(2, 2, strides=3)],
    "oblong": lambda: [L.Conv2D(2, (1, 5), strides=(2, 1), padding="same"), L.Conv2D(2, (3, 1))],
    "pixels dropped, then padded": lambda: [L.Conv2D(2, 3, 2), L.Conv2D(2, 3, padding="same")],
    "dilated, same": lambda: [L.Conv2D(2, 3, dilation_rate=2, padding="same"), L.Conv2D(2, 3, padding="same")],
    "dilated, valid": lambda: [L.Conv2D(2, 3, dilation_rate=(3, 2))],
    "dilated along one axis": lambda: [L.Conv2D(2, 3, dilation_rate=(2, 1), padding="same"), L.MaxPooling2D(2)],
    "dilated along the other": lambda: [L.Conv2D(2, 3, dilation_rate=(1, 3)), L.Conv2D(2, 2, padding="same")],
    "dilated, even kernel": lambda: [L.Conv2D(2, 2, dilation_rate=3, padding="same"), L.MaxPooling2D(2)],
    "depthwise": lambda: [L.DepthwiseConv2D(3, 2, "same", depth_multiplier=2)],
    "depthwise, dilated": lambda: [L.DepthwiseConv2D(3, dilation_rate=2, padding="same")],
    "separable": lambda: [L.SeparableConv2D(4, 3, padding="same"), L.SeparableConv2D(4, 3, 2)],
    "separable, dilated": lambda: [L.SeparableConv2D(4, 3, dilation_rate=2, padding="same")],
    "max pooling": lambda: [L.MaxPooling2D(2), L.MaxPooling2D(3, 2, "same")],
    "average pooling": lambda: [L.AveragePooling2D(3, 1, "same"), L.AveragePooling2D(2)],
    "zero padding": lambda: [L.ZeroPadding2D(((0, 1), (2, 0))), L.Conv2D(2, 3, 2)],
    "zero padding seen": lambda: [L.Conv2D(2, 3), L.ZeroPadding2D(2)],
    "cropping": lambda: [L.Conv2D(2, 3), L.Cropping2D(((1, 2), (0, 1))), L.Conv2D(2, 3, padding="same")],
    "add": lambda: [add(L.Conv2D(3, 3, padding="same"), L.Conv2D(3, (5, 1), padding="same"), L.Identity())],
    "residual, strided": lambda: [add(chain(L.Conv2D(3, 3, 2, "same"), L.ReLU()), L.Conv2D(3, 1, 2, "same"))],
    "concatenate": lambda: [
        concatenate(L.Conv2D(2, 5, padding="same"), L.Identity(), L.Conv2D(1, (1, 3), padding="same")),
        L.BatchNormalization(),
    ],
    "concatenate, joined again": lambda: [
        concatenate(L.Conv2D(2, 5, padding="same"), L.Identity()),
        L.Conv2D(2, 2, padding="same"),
    ],
    "groups": lambda: [
        concatenate(L.Conv2D(3, 3, padding="same"), L.Identity()),
        L.Conv2D(4, (3, 1), groups=2),
    ],
    "dense in every cell": lambda: [L.Conv2D(6, 3, 2), L.LayerNormalization(), L.Dense(3), L.Conv2D(2, 2)],
    "activations": lambda: [L.Conv2D(2, 3, activation="gelu"), L.PReLU(shared_axes=[1, 2]), L.Activation("swish")],
    "rescaling and augmentation": lambda: [L.Rescaling(0.5), L.RandomFlip(), L.RandomRotation(0.1), L.Conv2D(2, 3, 2)],
    "slices": lambda: [L.Conv2D(2, 3), lambda x: x[:, 1:, ::2], lambda x: x[..., :1]],
    "transposed and back": lambda: [L.Permute((2, 1, 3)), L.Conv2D(2, (3, 1)), L.Permute((2, 1, 3))],
    "one row": lambda: [L.Conv2D(2, (12, 9))],
    "padding of one row": lambda: [L.Conv2D(2, 3, (12, 5), "same"), L.Conv2D(2, 3, padding="same")],
    "matrices": lambda: [L.Conv2D(2, 3), lambda x: keras.ops.matmul(x, keras.ops.ones((2, 4)))],
    "channels split and shuffled": lambda: [
        L.Conv2D(4, 3, 2),
        lambda x: keras.ops.split(x, 2, axis=-1)[1],
        L.Reshape((5, 4, 1, 2)),
        L.Permute((1, 2, 4, 3)),
        L.Reshape((5, 4, 2)),
        L.Conv2D(2, 2, padding="same"),
    ],
    "slices with everything": lambda: [
        lambda x: x[:, None, 1:, ..., :-1, :2],
        lambda x: x[:, 0, ..., None, :],
        lambda x: x[:, ::2, :, 0, 1:],
        L.Conv2D(2, 2, padding="same"),
    ],
}

CROPPED = ("cropping", "pixels dropped, then padded", "slices with everything")


@pytest.mark.parametrize("name", REGULAR)
def test_network_of_windows(name):
    field = check(stacked(*REGULAR[name]()))
    assert field.size is not None
    assert not field.gated
    check_unclipped(field, exactly=name not in CROPPED)


IRREGULAR = {
    "transposed convolution, same": lambda: [L.Conv2D(2, 3, 2), L.Conv2DTranspose(2, 3, 2, "same")],
    "transposed convolution, valid": lambda: [L.Conv2D(2, 3, 3), L.Conv2DTranspose(2, (2, 3), (3, 2))],
    "transposed convolution, gaps": lambda: [L.MaxPooling2D(3), L.Conv2DTranspose(2, 1, 3)],
    "transposed convolution, dilated": lambda: [L.MaxPooling2D(2), L.Conv2DTranspose(2, 2, dilation_rate=2)],
    "upsampling": lambda: [L.MaxPooling2D(2), L.UpSampling2D((2, 3)), L.Conv2D(2, 3, padding="same")],
    "upsampling, bilinear": lambda: [L.Conv2D(2, 3, 2), L.UpSampling2D(2, interpolation="bilinear")],
    "resizing, nearest": lambda: [L.Conv2D(2, 3), L.Resizing(7, 13, "nearest")],
    "resizing, smaller": lambda: [L.Conv2D(2, 3), L.Resizing(4, 3)],
    "resizing, bicubic": lambda: [L.Resizing(7, 13, "bicubic")],
    "resizing, area": lambda: [ByTensorFlow(lambda x: tf.image.resize(x, (5, 4), "area"))],
    "resizing, lanczos": lambda: [L.Resizing(7, 9, "lanczos3")],
    "resizing, antialiased": lambda: [lambda x: keras.ops.image.resize(x, (5, 7), antialias=True)],
    "space to depth": lambda: [
        ByTensorFlow(lambda x: tf.nn.space_to_depth(x, 2)),
        ByTensorFlow(lambda x: tf.nn.depth_to_space(x, 2)),
    ],
    "patches, same": lambda: [
        ByTensorFlow(lambda x: tf.image.extract_patches(x, [1, 3, 3, 1], [1, 2, 2, 1], [1] * 4, "SAME"))
    ],
    "turned": lambda: [L.Conv2D(2, 3), L.Permute((2, 1, 3))],
    "mirrored": lambda: [L.Conv2D(2, 3, 2), lambda x: x[:, ::-1], ByTensorFlow(lambda x: tf.reverse(x, [2]))],
    "rolled": lambda: [L.MaxPooling2D((2, 5)), lambda x: keras.ops.roll(x, 1, 1)],
    "taken": lambda: [L.Conv2D(2, 3), lambda x: keras.ops.take(x, [3, 0, 0], axis=2)],
    "split and stacked": lambda: [
        L.Conv2D(2, 3),
        lambda x: keras.ops.concatenate(keras.ops.split(x, 2, axis=1)[::-1], axis=1),
        lambda x: keras.ops.stack(keras.ops.unstack(x, axis=2), axis=2),
    ],
    "means of rows": lambda: [L.Conv2D(2, 3), lambda x: keras.ops.mean(x, axis=2, keepdims=True) + x],
    "means of rows alone": lambda: [lambda x: keras.ops.repeat(keras.ops.max(x, 2)[:, :, None], 3, axis=2)],
    "sums of products": lambda: [
        concatenate(L.Conv2D(2, 3, padding="same"), L.Identity()),
        ByTensorFlow(
            lambda x: tf.einsum("b...c,cd->b...d", x, tf.ones((5, 2))) + tf.einsum("bhwc,bhvc->bhwv", x, x)[..., :2]
        ),
    ],
    "fields at different distances": lambda: [
        add(chain(L.MaxPooling2D(2), L.Conv2D(3, (1, 5))), chain(L.Cropping2D(((3, 3), (4, 5))), L.ZeroPadding2D(0)))
    ],
}


@pytest.mark.parametrize("name", IRREGULAR)
def test_network_of_anything_else(name):
    field = check(stacked(*IRREGULAR[name]()))
    assert (field.size, field.stride, field.offset, field.unclipped(0, 0)) == (None,) * 4


def test_mirrored_border_is_seen_and_is_none_without_border():
    mirror = ByTensorFlow(lambda x: tf.pad(x, [[0, 0], [2, 1], [3, 0], [0, 0]], "REFLECT"))
    field = check(stacked(mirror, L.Conv2D(2, 3)))
    assert field.box(0, 0) == (1, 0, 4, 3)
    assert (field.size, field.offset) == ((3, 3), (-2, -3))


# ------------------------------------------------------------------------------------------------------ random networks


@st.composite
def windows(draw):
    size = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    padding = draw(st.sampled_from(["same", "valid"]))
    kind = draw(st.sampled_from(["conv", "dilated", "depthwise", "max", "mean", "pad", "crop", "branches"]))
    stride = draw(st.integers(1, 3))
    if kind == "dilated":
        return lambda: L.Conv2D(2, size, dilation_rate=stride, padding=padding)
    if kind == "depthwise":
        return lambda: L.DepthwiseConv2D(size, stride, padding)
    if kind in ("max", "mean"):
        return lambda: (L.MaxPooling2D if kind == "max" else L.AveragePooling2D)(size, stride, padding)
    if kind == "pad":
        return lambda: L.ZeroPadding2D(((size[0] - 1, stride - 1), (stride - 1, size[1] - 1)))
    if kind == "crop":
        return lambda: L.Cropping2D(((stride - 1, 0), (size[0] // 2, size[1] // 2)))
    if kind == "branches":
        other = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
        join = draw(st.sampled_from([add, concatenate]))
        return lambda: join(L.Conv2D(2, size, stride, "same"), L.Conv2D(2, other, stride, "same"))
    return lambda: L.Conv2D(2, size, stride, padding)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(windows(), min_size=1, max_size=4), st.integers(4, 13), st.integers(4, 13))
def test_random_networks(makers, height, width):
    shape = (height, width, 2)
    x = keras.Input(shape)
    fitting = []
    for make in makers:
        try:
            made = make()(x)
        except ValueError:  # nothing left of the map
            continue
        if min(made.shape[1:3]) > 0:
            x = made
            fitting.append(make)
    if x.shape[1:3] == (1, 1) or not fitting:
        return
    check_unclipped(check(stacked(*(make() for make in fitting), shape=shape), shape=shape), exactly=False)


# ----------------------------------------------------------------------------------------------------- kinds of models


def test_layers_of_a_nested_model():
    model = loud(nested_convnet())
    for layer in ("middle/inner/conv1", "conv2", "middle"):
        check(model, layer)
    assert receptive_field(model).layer == "middle/act2"


@pytest.mark.parametrize("kind", [ConvnetByCall, ConvnetByFunction])
def test_subclassed_model(kind):
    model = kind(keras.ops.relu)
    model(images(1))
    field = check(loud(model), "conv2", images=images())
    assert (field.size, field.stride, field.offset) == ((5, 5), (2, 2), (-1, -1))


def test_branch_that_depends_on_the_picture_is_refused():
    model = ConvnetByAutograph(keras.ops.relu)
    model(images(1))
    check(loud(model), "conv1", images=images())
    with pytest.raises(ValueError, match="If"):
        receptive_field(model, "conv2", images())


def test_model_that_was_never_called_is_built():
    model = keras.Sequential([L.Conv2D(2, 3, name="conv"), L.GlobalAveragePooling2D()])
    assert receptive_field(model, "conv", images()).size == (3, 3)


@pytest.mark.skipif(not hasattr(keras, "RematScope"), reason="this Keras has no RematScope")
def test_recomputed_block():
    with keras.RematScope(mode="full"):
        block = L.Conv2D(2, 3, 2, activation="relu")
    check(stacked(block, L.Conv2D(2, 2)))


def test_layer_of_one_of_several_inputs():
    small, big = keras.Input((4,), name="a_number"), keras.Input((*SIZE, 3), name="picture")
    x = L.Conv2D(2, 3, name="conv")(big)
    x = L.Multiply(name="gate")([x, L.Reshape((1, 1, 2))(L.Dense(2)(small))])
    model = keras.Model({"a_number": small, "picture": big}, L.Flatten()(x))
    field = receptive_field(model, "gate")
    assert (field.size, field.gated) == ((3, 3), False)
    assert field.box(9, 7) == (7, 9, 10, 12)


def test_layers_of_a_siamese_network_see_their_own_picture():
    one, other = (keras.Input((*SIZE, 3), name=name) for name in ("a", "b"))
    shared = L.Conv2D(2, 3, 2, name="shared")
    x = [L.Identity(name="of_a")(shared(one)), L.Identity(name="of_b")(shared(other))]
    model = keras.Model([one, other], L.Dense(1)(L.Flatten()(L.Subtract()(x))))
    for layer, index in (("shared", 0), ("of_a", 0), ("of_b", 1)):
        field = receptive_field(model, layer)
        assert (field.input_index, field.size, field.box(1, 1)) == (index, (3, 3), (2, 2, 5, 5))


def test_pictures_without_channels():
    model = stacked(L.Reshape((12, 10, 1)), L.Conv2D(2, 3), shape=SIZE)
    field = check(model, shape=SIZE)
    assert field.size == (3, 3)


@pytest.mark.parametrize("policy", ["float16", "mixed_float16", "bfloat16"])
def test_half_precision(policy):
    keras.config.set_dtype_policy(policy)
    assert receptive_field(stacked(L.Conv2D(2, 3, 2, "same"), L.MaxPooling2D(2)), "end").size == (5, 5)


def test_fully_convolutional_model_takes_the_size_of_the_pictures():
    model = keras.Sequential([keras.Input((None, None, 3)), L.Conv2D(2, 3, 2, "same", name="c"), L.GlobalMaxPool2D()])
    with pytest.raises(ValueError, match=r"`images` must be given.*\(None, None, 3\).*Candidates"):
        receptive_field(model, "c")
    # TensorFlow pads an even side after the last pixel, an odd one on both sides.
    assert receptive_field(model, "c", images(size=(8, 9))).offset == (0, -1)


def test_finding_a_field_leaves_the_model_as_it_was():
    model = stacked(L.RandomFlip(), L.Conv2D(2, 3), L.BatchNormalization(), L.Dropout(0.5))
    with unchanged(model):
        receptive_field(model)
    with unchanged(model), pytest.raises(ValueError, match="`layer` must name a layer"):
        receptive_field(model, "no such layer")


# ------------------------------------------------------------------------------------------------- the whole picture


def whole(field):
    return bool((field.boxes == [0, 0, field.input_size[1], field.input_size[0]]).all())


GATED = {
    "squeeze and excitation": lambda: [squeeze_and_excite],
    "twice": lambda: [squeeze_and_excite, squeeze_and_excite],
    "instance normalisation": lambda: [L.GroupNormalization(-1)],
    "group normalisation": lambda: [L.GroupNormalization(2)],
}


@pytest.mark.parametrize("name", GATED)
def test_gates_see_everything_or_are_left_out(name):
    model = stacked(L.Conv2D(4, 3, 2, "same"), *GATED[name](), L.Conv2D(2, 3))
    plain = stacked(L.Conv2D(4, 3, 2, "same"), L.Conv2D(2, 3))
    field, local, expected = (
        receptive_field(one, gates=gates) for one, gates in ((model, True), (model, False), (plain, True))
    )
    assert field.gated
    assert local.gated
    assert not expected.gated
    assert whole(field)
    np.testing.assert_array_equal(local.boxes, expected.boxes)
    assert (local.size, local.stride, local.offset) == (expected.size, expected.stride, expected.offset)
    assert field.size is None


def test_gate_in_a_layer_that_sees_everything_anyway_keeps_the_lines():
    field = receptive_field(stacked(L.Conv2D(4, 25, padding="same"), squeeze_and_excite), gates=False)
    assert whole(field)
    assert (field.gated, field.size) == (True, (25, 25))


def test_normalisation_within_cells_is_no_gate():
    field = receptive_field(stacked(L.Conv2D(4, 25, padding="same"), L.LayerNormalization(), L.UnitNormalization()))
    assert (field.gated, field.size) == (False, (25, 25))


def tokens(x):
    x = L.Conv2D(6, 2, 2, name="patches")(x)
    return ClassToken(name="tokens")(L.Reshape((30, 6))(x))


def test_tokens_before_and_after_attention():
    inputs = keras.Input((*SIZE, 3))
    x = tokens(inputs)
    x = L.Add(name="attended")([x, L.MultiHeadAttention(2, 3)(L.LayerNormalization()(x), x)])
    x = L.Dense(5, activation="gelu", name="mlp")(x)
    model = keras.Model(inputs, L.Dense(2)(x[:, 0]))
    before = receptive_field(model, "tokens")
    assert before.grid == (6, 5)
    assert [before.box(0, 0), before.box(5, 1)] == [(0, 0, 2, 2), (2, 10, 4, 12)]
    assert whole(receptive_field(model, "attended"))
    assert whole(receptive_field(model, "mlp"))


def test_attention_within_windows_sees_its_window():
    def attend(x):  # windows of 4 x 4, shifted by 2, as a Swin transformer has them
        x = keras.ops.roll(x, (-2, -2), (1, 2))
        x = keras.ops.reshape(x, (-1, 2, 4, 2, 4, 3))
        x = keras.ops.reshape(keras.ops.transpose(x, (0, 1, 3, 2, 4, 5)), (-1, 16, 3))
        x = keras.ops.matmul(keras.ops.softmax(keras.ops.matmul(x, keras.ops.transpose(x, (0, 2, 1)))), x)
        x = keras.ops.reshape(x, (-1, 2, 2, 4, 4, 3))
        x = keras.ops.reshape(keras.ops.transpose(x, (0, 1, 3, 2, 4, 5)), (-1, 8, 8, 3))
        return keras.ops.roll(x, (2, 2), (1, 2))

    field = receptive_field(stacked(attend, shape=(8, 8, 3)))
    assert field.box(2, 2) == field.box(5, 5) == (2, 2, 6, 6)
    assert field.box(3, 0) == (0, 2, 8, 6)  # a window that wraps around
    assert field.size is None


def test_unknown_operation_is_named():
    def rotated(x):
        return tf.raw_ops.ImageProjectiveTransformV3(
            images=x, transforms=tf.ones((1, 8)), output_shape=[12, 10], fill_value=0.0, interpolation="BILINEAR"
        )

    model = stacked(L.Conv2D(2, 3, padding="same", name="conv"), ByTensorFlow(rotated), L.Conv2D(2, 3, name="after"))
    with pytest.raises(ValueError, match=r"`layer` must be computed by.*'after'.*ImageProjectiveTransformV3.*Candid"):
        receptive_field(model, "after")
    assert receptive_field(model, "conv").size == (3, 3)


def test_unknown_operation_on_what_sees_everything_sees_everything():
    model = stacked(lambda x: x + keras.ops.mean(x), ByTensorFlow(lambda x: tf.cumsum(x, axis=1)))
    assert whole(receptive_field(model))


def test_places_that_depend_on_the_picture_are_refused():
    def chosen(x):
        return tf.gather(x, tf.cast(x[0, :3, 0, 0], "int32"), axis=1)

    with pytest.raises(ValueError, match="GatherV2"):
        receptive_field(stacked(ByTensorFlow(chosen)), "end")


def test_kernels_that_depend_on_the_picture_are_refused():
    with pytest.raises(ValueError, match="Conv2D"):
        receptive_field(stacked(ByTensorFlow(lambda x: tf.nn.conv2d(x, x[0, :3, :3, :, None], 1, "SAME"))))


def test_loops_are_refused():
    def loop(x):
        return tf.while_loop(lambda i, _: i < 3, lambda i, y: (i + 1, tf.nn.relu(y)), [0, x])[1]

    with pytest.raises(ValueError, match="While"):
        receptive_field(stacked(ByTensorFlow(loop)))


def test_channels_may_come_first():
    def pooled(x):
        return tf.transpose(tf.nn.max_pool2d(tf.transpose(x, (0, 3, 1, 2)), 2, 2, "SAME", "NCHW"), (0, 2, 3, 1))

    first = receptive_field(stacked(ByTensorFlow(pooled)), "end")
    last = receptive_field(stacked(ByTensorFlow(lambda x: tf.nn.max_pool2d(x, 2, 2, "SAME"))), "end")
    np.testing.assert_array_equal(first.boxes, last.boxes)


def test_layers_that_are_no_map_are_refused():
    inputs = keras.Input((16, 3))
    model = keras.Model(inputs, L.Flatten()(L.Conv1D(2, 3, name="conv")(inputs)))
    with pytest.raises(ValueError, match=r"must return one feature map|must take pictures"):
        receptive_field(model, "conv")
    with pytest.raises(ValueError, match="`layer` must name a layer"):
        receptive_field(stacked(L.GlobalAveragePooling2D(name="mean"), L.Reshape((3, 1, 1))), "mean")


# ------------------------------------------------------------------------------------------------------------- answers


def test_numbers_by_hand():
    # 3x3 "same" sees one pixel to each side; pooling doubles the distance; 3x3 at distance 2 adds 4 pixels.
    field = receptive_field(stacked(L.Conv2D(2, 3, padding="same"), L.MaxPooling2D(2), L.Conv2D(2, 3, padding="same")))
    assert (field.grid, field.input_size) == ((6, 5), (12, 10))
    assert (field.size, field.stride, field.offset) == ((8, 8), (2, 2), (-3, -3))
    assert field.unclipped(0, 0) == (-3, -3, 5, 5)
    assert field.unclipped(-1, -1) == field.unclipped(5, 4) == (5, 7, 13, 15)
    assert field.box(0, 0) == (0, 0, 5, 5)
    assert field.box(-1, -1) == field.box(5, 4) == (5, 7, 10, 12)


def test_sizes_from_the_literature():
    # Araujo et al., 2019, table 1: MobileNet v1 has 315 pixels at distance 32.
    field = receptive_field(keras.applications.MobileNet(weights=None), "conv_pw_13_relu")
    assert (field.size, field.stride) == ((315, 315), (32, 32))


def test_cell_that_sees_pixels_which_were_cropped_away():
    field = receptive_field(stacked(L.Cropping2D(2), L.Conv2D(2, 3, padding="same")))
    assert field.unclipped(0, 0) == (1, 1, 4, 4)
    assert field.box(0, 0) == (2, 2, 4, 4)


def test_channels_of_branches_see_their_branch():
    field = receptive_field(stacked(concatenate(L.Conv2D(2, 5, padding="same"), L.Identity())))
    assert field.box(5, 5) == field.box(5, 5, 1) == (3, 3, 8, 8)
    assert field.box(5, 5, 2) == field.box(5, 5, -1) == (5, 5, 6, 6)


def test_cells_in_the_padding_see_nothing():
    field = receptive_field(stacked(L.ZeroPadding2D(1)))
    assert field.box(0, 0) == field.box(0, 0, 1) == (0, 0, 0, 0)
    assert field.box(1, 1) == (0, 0, 1, 1)
    assert field.unclipped(0, 0) == (-1, -1, 0, 0)


def test_map_that_sees_nothing():
    field = receptive_field(stacked(lambda x: keras.ops.zeros_like(x)))
    assert not field.boxes.any()
    assert field.size is None


def test_channels_that_see_the_same_share_memory():
    field = receptive_field(stacked(L.Conv2D(64, 3)))
    assert field.boxes.shape == (10, 8, 64, 4)
    assert field.boxes.strides[2] == 0
    with pytest.raises(ValueError, match="read-only"):
        field.boxes[0, 0, 0, 0] = 1


@pytest.mark.parametrize(("row", "column"), [(10, 0), (0, 8), (-11, 0)])
def test_cell_outside_is_answered_with_candidates(row, column):
    field = receptive_field(stacked(L.Conv2D(2, 3)))
    for question in (field.box, field.unclipped):
        with pytest.raises(
            ValueError, match=r"`row` must be, with `column`, a cell.*Received: .*Candidates: \(0, 0\) to \(9, 7\)"
        ):
            question(row, column)


def test_channel_outside_is_answered_with_candidates():
    with pytest.raises(ValueError, match=r"`channel` must.*Received: 2. Candidates: 0 to 1"):
        receptive_field(stacked(L.Conv2D(2, 3))).box(0, 0, 2)


def test_repr():
    field = receptive_field(stacked(L.Conv2D(2, 3), squeeze_and_excite), "end", gates=False)
    assert repr(field) == ("ReceptiveField('end', grid=(10, 8), size=(3, 3), stride=(1, 1), offset=(0, 0), gated=True)")
