"""How the graph is gone through: what is refused, gates, tokens, and which picture a layer sees."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from fields import changed_boxes
from graph_layers import Layers, loud

from keras_gradcam.engine.base import InputSpec, LayerCall, LayerOutput
from keras_gradcam.engine.boxes import Window, as_boxes
from keras_gradcam.engine.graphs.receptive_field import ReachReader, receptive_boxes

SHAPE = (6, 5, 2)
ALL = slice(None)


def read(function, gates=True):
    layers = Layers()
    picture = layers.input((1, *SHAPE))
    result = function(layers, picture)
    reader = ReachReader("a/layer", gates)
    return reader.read(layers.graph, picture, result), reader


def opaque(g, *values, run=lambda x, *_: np.cumsum(x, axis=1)):
    return g.add("opaque", "opaque", *values, run=run, name="fft")


def same(size, stride=1):
    return {1: Window(size, stride, 1, size // 2, size // 2), 2: Window(size, stride, 1, size // 2, size // 2)}


# ------------------------------------------------------------------------------------------------------ what is unknown


def test_operation_that_is_not_known_is_named():
    with pytest.raises(ValueError, match=r"`layer` must be computed by.*'a/layer', computed through fft.*before it"):
        read(opaque)


def test_operation_that_is_not_known_sees_everything_of_everything():
    reach, _ = read(lambda g, x: opaque(g, g.elementwise("add", x, g.reduce(x, 1, 2, 3, keepdims=True))))
    assert reach.sees_all(SHAPE[:2])
    assert reach.shape == (1, *SHAPE)


def test_operation_that_is_not_needed_does_not_matter():
    def passed_by(g, x):
        opaque(g, x)
        return g.elementwise("relu", x)

    assert read(passed_by)[0].lines[0].size == 1


@pytest.mark.parametrize(
    "function",
    [
        lambda g, x: g.move("named", x, g.index(x, 0, slice(0, 3), 0, 0), run=lambda x, _: x[:, :3]),
        lambda g, x: g.add("named", "window", x, x, run=lambda x, _: x, windows=same(1), channels=3, groups=1),
        lambda g, x: g.add("named", "window", 1.0, x, run=lambda _, x: x, windows=same(1), channels=3, groups=1),
        lambda g, x: g.add("named", "einsum of something", x, run=lambda x: x),
    ],
)
def test_what_depends_on_the_picture_in_an_unknown_way_is_refused(function):
    with pytest.raises(ValueError, match="named"):
        read(function)


def test_what_depends_on_no_pixel():
    def unrelated(g, x):
        return g.elementwise("relu", g.input((1, 4, 4, 2)))

    reach, _ = read(unrelated)
    assert not as_boxes(reach.values, SHAPE[:2]).any()
    assert reach.shape == (1, 4, 4, 2)


def test_results_beside_the_first():
    layers = Layers()
    x = layers.input((1, *SHAPE))
    values, indices, statistics = layers.add(
        "sort", "along", x, run=lambda x: [np.sort(x, 1), np.argsort(x, 1), x.mean((1, 2))], axes=(1,)
    )
    fields = [ReachReader("layer", True).read(layers.graph, x, value) for value in (values, indices, statistics)]
    np.testing.assert_array_equal(fields[0].values, fields[1].values)
    assert not fields[2].values.any()


# ---------------------------------------------------------------------------------------------------------------- gates


def gated(g, x):
    return g.elementwise("multiply", x, g.elementwise("sigmoid", g.reduce(x, 1, 2, keepdims=True)))


def gated_first(g, x):
    """The same with channels first, as other backends run it."""
    turned = g.transpose(x, 0, 3, 1, 2)
    gate = g.reshape(g.contract("nc,cd->nd", g.reduce(turned, 2, 3), loud(2, 2)), 1, 2, 1, 1)
    return g.transpose(g.elementwise("multiply", gate, turned), 0, 2, 3, 1)


@pytest.mark.parametrize("gate", [gated, gated_first])
def test_gates_are_left_out_and_told(gate):
    with_gates, reader = read(gate)
    assert reader.gated
    assert with_gates.sees_all(SHAPE[:2])
    without, reader = read(gate, gates=False)
    assert reader.gated
    np.testing.assert_array_equal(as_boxes(without.values, SHAPE[:2])[0, 3, 2, 0], [2, 3, 3, 4])
    assert [(line.axis, line.size) for line in without.lines] == [(-3, 1), (-2, 1)]


def test_what_is_no_gate():
    assert not read(lambda g, x: g.elementwise("add", x, g.conv(x, 2, 3)))[1].gated


# ----------------------------------------------------------------------------------------------------------- the layers


def boxes_of(function, shape=SHAPE, **marks):
    """Returns the boxes of what a function of a graph and its picture gives, and the function on pictures."""
    layers = Layers()
    picture = layers.input((1, *shape))
    result = function(layers, picture)
    info = LayerCall("a/layer", "Layer", (None, *result.shape[1:]))
    layer_output = LayerOutput(info, None, result, inputs=(0,))
    spec = InputSpec(None, ((shape, "float32"),))
    answer = receptive_boxes(layers.graph, replace(layer_output, **marks), spec, 0)
    return answer, lambda pictures: np.concatenate(
        [layers.computed({picture: one[None].astype(float)})(result) for one in pictures]
    )


def network_first(g, x):
    """What other backends make of two convolutions and a pooling: channels first within each layer."""
    for stride in (1, 2):
        turned = g.pad(g.transpose(x, 0, 3, 1, 2), (0, 0), (0, 0), (0, 1), (1, 0))
        conv = g.conv(turned, 3, {2: Window(2, stride), 3: Window(3, stride, 1, 0, 1)}, channel_axis=1)
        bias = g.reshape(g.weight((3,)), 1, 3, 1, 1)
        x = g.elementwise("relu", g.transpose(g.elementwise("multiply", conv, bias), 0, 2, 3, 1))
    return g.pool(x, {1: Window(2), 2: Window(2)}, "mean")


def test_network():
    shape = (10, 9, 2)
    layers = Layers()
    picture = layers.input((1, *shape))
    weights = {}
    original = layers.weight
    layers.weight = lambda shape: weights.setdefault(len(weights), original(shape))
    result = network_first(layers, picture)
    arrays = {weight: np.ones(weight.shape) for weight in weights.values()}

    def on_pictures(pictures):
        return np.concatenate(
            [layers.computed({picture: one[None].astype(float), **arrays})(result) for one in pictures]
        )

    layer_output = LayerOutput(LayerCall("end", "Layer", (None, *result.shape[1:])), None, result, inputs=(0,))
    answer = receptive_boxes(layers.graph, layer_output, InputSpec(None, ((shape, "float32"),)), 0)
    np.testing.assert_array_equal(answer.boxes, changed_boxes(on_pictures, shape))
    assert answer.boxes.dtype == np.int32
    assert [(line.axis, line.stride, line.first, line.size) for line in answer.lines] == [(-3, 2, 0, 5), (-2, 2, -2, 7)]
    assert (answer.layer.path, answer.explained_input, answer.gated) == ("end", 0, False)


def test_tokens_lie_on_their_grid():
    def tokens(g, x):
        patches = g.conv(x, 4, {1: Window(2, 2), 2: Window(2, 2)})
        return g.concatenate(g.constant(loud(1, 1, 4)), g.reshape(patches, 1, 12, 4), axis=1)

    answer, function = boxes_of(tokens, (8, 6, 2))
    assert answer.boxes.shape == (4, 3, 4, 4)
    expected = changed_boxes(lambda x: function(x)[:, 1:].reshape(-1, 4, 3, 4), (8, 6, 2))
    np.testing.assert_array_equal(answer.boxes, expected)
    assert answer.lines == (None, None)


def test_map_that_is_turned_has_no_lines():
    answer, function = boxes_of(lambda g, x: g.transpose(g.conv(x, 1, 3), 0, 2, 1, 3))
    np.testing.assert_array_equal(answer.boxes, changed_boxes(function, SHAPE))
    assert answer.lines == (None, None)


@pytest.mark.parametrize(
    "function",
    [
        lambda g, x: g.reduce(x, 1, 2),
        lambda g, x: g.reduce(x, 1),
        lambda g, x: g.reshape(x, 3, 2, 5, 2),
    ],
)
def test_what_is_no_map_is_refused(function):
    with pytest.raises(ValueError, match=r"`layer` must return one feature map.*'a/layer', which returns shape"):
        boxes_of(function)


def test_layer_of_another_picture_sees_that_one():
    layers = Layers()
    left, right = layers.input((1, 12, 10, 3)), layers.input((1, 8, 8, 1))
    spec = InputSpec(None, (((12, 10, 3), "float32"), ((8, 8, 1), "float32")))
    for index, picture, size in ((0, left, (10, 8)), (1, right, (6, 6))):
        result = layers.conv(picture, 2, {1: Window(3), 2: Window(3)})
        layer_output = LayerOutput(LayerCall("tower", "", (None, *size, 2)), None, result, inputs=(index,))
        answer = receptive_boxes(layers.graph, layer_output, spec, 0)
        assert (answer.explained_input, answer.boxes.shape[:2]) == (index, size)
