"""The receptive field of every rule, beside changing every pixel in turn."""

from __future__ import annotations

import numpy as np
import pytest
from fields import changed_boxes
from graph_layers import Layers, linear_weights, loud

from keras_gradcam.engine.boxes import Window, as_boxes
from keras_gradcam.engine.graphs.receptive_field import ReachReader

SHAPE = (6, 5, 2)
CUBIC = np.array([[0.0, -0.1, 0.6, 0.6, -0.1, 0.0], [1.0, 0.0, 0.0, 0.0, 0.0, 0.0]])


def reach_of(function, shape=SHAPE):
    """Returns what a function of a graph and its picture sees, and the function on pictures."""
    layers = Layers()
    picture = layers.input((1, *shape))
    result = function(layers, picture)
    reach = ReachReader("layer", gates=True).read(layers.graph, picture, result)
    return reach, lambda pictures: np.concatenate(
        [layers.computed({picture: one[None].astype(float)})(result) for one in pictures]
    )


def first_and_conv(g, x, axis=-1):
    """One channel that sees a pixel, and one that sees more."""
    wide = g.conv(x, 1, {a: Window(3, 1, 1, 1, 1) for a in range(1, 4) if a != axis % 4}, channel_axis=axis)
    return g.concatenate(g.move("slice", x, run=lambda x: x.take([0], axis)), wide, axis=axis)


def first(g, x):
    return g.transpose(x, 0, 3, 1, 2)


CASES = {
    # windows
    "conv, valid": lambda g, x: g.conv(x, 3, {1: Window(3), 2: Window(2)}),
    "conv, same, strided": lambda g, x: g.conv(x, 3, {1: Window.same(3, 2, 1, 6), 2: Window.same(2, 2, 1, 5)}),
    "conv, explicit padding": lambda g, x: g.conv(x, 3, {1: Window(2, 1, 1, 1, 2), 2: Window(2, before=0, after=1)}),
    "conv, dilated": lambda g, x: g.conv(x, 3, {1: Window(2, 1, 2, 1, 1), 2: Window(3, 1, 2, 2, 2)}),
    "conv, along one axis": lambda g, x: g.conv(x, 3, {2: Window(3, 2)}),
    "conv, channels first": lambda g, x: g.transpose(
        g.conv(first(g, x), 3, {2: Window(3, 2), 3: Window(2)}, channel_axis=1), 0, 2, 3, 1
    ),
    "groups": lambda g, x: g.conv(g.concatenate(first_and_conv(g, x), x), 6, {1: Window(2), 2: Window(1, 2)}, groups=2),
    "groups, channels first": lambda g, x: g.conv(
        first_and_conv(g, first(g, x), 1), 4, {2: Window(2), 3: Window(1, 2)}, groups=2, channel_axis=1
    ),
    "max pooling": lambda g, x: g.pool(first_and_conv(g, x), {1: Window.same(2, 2, 1, 6), 2: Window.same(3, 2, 1, 5)}),
    "average pooling, channels first": lambda g, x: g.pool(
        first_and_conv(g, first(g, x), 1), {2: Window(3), 3: Window(3, 2)}, "mean", 1
    ),
    "back, valid": lambda g, x: g.back(
        g.index(x, slice(None), slice(None, None, 3), slice(None, None, 3)),
        3,
        {1: Window(3, 2), 2: Window(2, 2)},
        {1: 5, 2: 4},
    ),
    "back, same, channels first": lambda g, x: g.back(
        first(g, g.index(x, slice(None), slice(None, None, 3), slice(None, None, 3))),
        3,
        {2: Window(3, 2, 1, 0, 1), 3: Window(3, 2, 1, 1, 1)},
        {2: 4, 3: 3},
        1,
    ),
    # resizing
    "resize": lambda g, x: g.resize(first_and_conv(g, x), {1: linear_weights(4, 6), 2: linear_weights(8, 5)}),
    "resize, channels first": lambda g, x: g.resize(first(g, x), {2: CUBIC}),
    # sums
    "mean, kept": lambda g, x: g.reduce(x, 2, keepdims=True),
    "max of the last axis": lambda g, x: g.reduce(x, -1, function="max"),
    "sum of rows": lambda g, x: g.reduce(x, 1, function="sum"),
    "softmax of channels": lambda g, x: g.along(g.elementwise("multiply", first_and_conv(g, x), 1e-5), -1),
    "cumsum": lambda g, x: g.along(g.along(x, 1, function="cumsum"), 1, function="flip"),
    # products
    "matrix product": lambda g, x: g.contract("bhw,bwd->bhd", g.index(x, ..., 0), loud(1, 5, 4)),
    "transposed matrix product": lambda g, x: g.contract("bhw,bhd->bwd", g.index(x, ..., 0), loud(1, 6, 4)),
    "product of two": lambda g, x: g.contract("bhw,bkw->bhk", g.index(x, ..., 0), g.index(x, ..., 1)),
    "product with a turned result": lambda g, x: g.contract("bhwc,cd->bwhd", first_and_conv(g, x), loud(2, 3)),
    "product of rows": lambda g, x: g.contract(
        "bhc,bwc->bhw", g.index(x, slice(None), slice(None), 0), g.index(x, slice(None), 2)
    ),
    "elementwise of ranks": lambda g, x: g.elementwise("add", x, g.reduce(x, 0, 1)),
    # reshapes
    "reshape": lambda g, x: g.reshape(x, 1, 3, 2, 5, 2),
    "squeeze": lambda g, x: g.reshape(g.index(x, slice(None), slice(0, 1)), 1, 5, 1, 2),
}


@pytest.mark.parametrize("name", CASES)
def test_rule(name):
    reach, function = reach_of(CASES[name])
    if name == "cumsum":  # as if every cell saw all of the axis
        boxes = as_boxes(reach.values, SHAPE[:2])[0]
        np.testing.assert_array_equal(boxes[2, 3, 0], [3, 0, 4, 6])
        return
    np.testing.assert_array_equal(as_boxes(reach.values, SHAPE[:2])[0], changed_boxes(function, SHAPE))


LINES = {
    "conv, same, strided": [(-3, 2, 0, 3), (-2, 2, 0, 2)],
    "conv, explicit padding": [(-3, 1, -1, 2), (-2, 1, 0, 2)],
    "conv, dilated": [(-3, 1, -1, 3), (-2, 1, -2, 5)],
    "conv, along one axis": [(-3, 1, 0, 1), (-2, 2, 0, 3)],
    "conv, channels first": [(-3, 2, 0, 3), (-2, 1, 0, 2)],
    "groups, channels first": [(-2, 1, -1, 4), (-1, 2, -1, 3)],
    "average pooling, channels first": [(-2, 1, -1, 5), (-1, 2, -1, 5)],
    "back, same, channels first": [None, None],
    "resize": [None, None],
    "mean, kept": [(-3, 1, 0, 1), None],
    "max of the last axis": [(-2, 1, 0, 1), (-1, 1, 0, 1)],
    "softmax of channels": [(-3, 1, -1, 3), (-2, 1, -1, 3)],
    "cumsum": [None, (-2, 1, 0, 1)],
    "matrix product": [(-2, 1, 0, 1), None],
    "product of two": [None, None],
    "product with a turned result": [(-2, 1, -1, 3), (-3, 1, -1, 3)],
    "reshape": [None, (-2, 1, 0, 1)],
}


@pytest.mark.parametrize("name", LINES)
def test_lines_of_a_rule(name):
    lines = reach_of(CASES[name])[0].lines
    assert [line and (line.axis, line.stride, line.first, line.size) for line in lines] == LINES[name]


def test_windows_that_crop():
    reach, _ = reach_of(lambda g, x: g.conv(x, 1, {1: Window(1), 2: Window(1)}))
    cropped = Layers()
    picture = cropped.input((1, *SHAPE))
    result = cropped.add(
        "convolution",
        "window",
        picture,
        run=lambda x: x[:, 1:-2, :, :1],
        windows={1: Window(1, before=-1, after=-2)},
        channels=3,
        groups=1,
    )
    seen = ReachReader("layer", gates=True).read(cropped.graph, picture, result)
    np.testing.assert_array_equal(seen.values, reach.values[:, :, 1:-2])
    assert (seen.lines[0].first, seen.lines[1].first) == (1, 0)


@pytest.mark.parametrize(
    ("shape", "lines"),
    [
        ((1, 1, 6, 5, 2), [-3, -2]),
        ((6, 5, 2), [-3, -2]),
        ((1, 6, 5, 2, 1), [-4, -3]),
        ((1, 6, 5, 1, 2), [-4, -3]),
        ((1, 6, 10), [-2, None]),
        ((1, 30, 2), [None, None]),
        ((1, 2, 3, 5, 2), [None, -2]),
    ],
)
def test_axes_that_a_reshape_keeps(shape, lines):
    reach, _ = reach_of(lambda g, x: g.reshape(x, *shape))
    assert [line and line.axis for line in reach.lines] == lines


def test_axes_that_are_folded_for_a_product_and_unfolded():
    def dense(g, x):
        folded = g.reshape(g.conv(x, 2, 3), 30, 2)
        return g.reshape(g.elementwise("add", g.contract("nc,cd->nd", folded, loud(2, 4)), 1.0), 1, 6, 5, 4)

    reach, function = reach_of(dense)
    np.testing.assert_array_equal(as_boxes(reach.values, SHAPE[:2])[0], changed_boxes(function, SHAPE))
    assert [(line.axis, line.first, line.size, line.held) for line in reach.lines] == [(-3, -1, 3, ()), (-2, -1, 3, ())]


def test_a_repeated_letter_is_not_known():
    with pytest.raises(ValueError, match="einsum"):
        reach_of(lambda g, x: g.contract("bhhc->bhc", g.index(x, slice(None), slice(0, 5))))


def test_what_all_channels_see_takes_no_memory_of_its_own():
    reach, _ = reach_of(lambda g, x: g.conv(first(g, x), 64, {2: Window(3), 3: Window(3)}, channel_axis=1))
    assert reach.values.strides[2] == 0
    last, _ = reach_of(lambda g, x: g.transpose(g.conv(first(g, x), 64, {2: Window(3)}, channel_axis=1), 0, 2, 3, 1))
    assert last.values.strides[-1] == 0
