"""What values of a graph come from, and where layers' outputs lead to."""

from __future__ import annotations

import numpy as np
import pytest
from graph_builder import GraphBuilder

from keras_gradcam.engine.base import LayerCall, LayerOutput
from keras_gradcam.engine.graphs.graph import (
    CONSTANT,
    INPUT,
    OPAQUE,
    WEIGHT,
    Value,
    ancestors,
    marked,
    origin_of,
    with_free_batch,
)


def layer_output(name, value):
    return LayerOutput(LayerCall(name, "Layer", tuple(value.shape)), object(), value)


@pytest.fixture
def network():
    """Two inputs; a stem of the first, a side of both, a head of the side, and what nobody reads."""
    builder = GraphBuilder()
    image, extra = builder.input((2, 3)), builder.input((2, 3))

    def layer(*inputs):
        return builder.add("conv", OPAQUE, *inputs, builder.weight((3,)), run=lambda *arrays: sum(arrays))

    stem = layer(image)
    side = layer(stem, extra)
    head = layer(side)
    unread = layer(stem)
    values = {"image": image, "extra": extra, "stem": stem, "side": side, "head": head, "unread": unread}
    return builder, values


def layers_of(values, *names):
    return [layer_output(name, values[name]) for name in names]


@pytest.mark.parametrize(
    ("content", "number"),
    [(3, 3.0), ([2.5, 2.5], 2.5), (-np.inf, -np.inf), ([1, 2], None), ([], None), ([[True]], 1.0), (np.nan, None)],
)
def test_number_of_a_constant(content, number):
    value = Value(np.shape(content), "float32", CONSTANT, lambda: content)
    assert value.number() == number


@pytest.mark.parametrize("origin", [INPUT, WEIGHT])
def test_no_other_value_is_a_number(origin):
    assert Value((), "float32", origin).number() is None


def test_what_is_computed_of_an_input_comes_from_it():
    builder = GraphBuilder()
    image, weight, constant = builder.input((2,)), builder.weight((2,)), builder.constant(1.0)
    assert origin_of([constant, weight, image]) == INPUT
    assert origin_of([constant, weight]) == WEIGHT
    assert origin_of([constant, constant]) == origin_of([]) == CONSTANT


def test_ancestors_are_all_that_a_value_is_computed_from(network):
    _, values = network
    found = ancestors([values["side"]])
    assert {name for name, value in values.items() if id(value) in found} == {"image", "extra", "stem", "side"}
    assert id(values["side"].producer.inputs[-1]) in found  # the weight


def test_ancestors_that_are_reached_past_a_value(network):
    builder, values = network
    found = ancestors([values["head"]], without=values["stem"])
    assert id(values["image"]) not in found
    assert id(values["extra"]) in found
    both = builder.elementwise("add", values["head"], values["image"])
    assert id(values["image"]) in ancestors([both], without=values["stem"])


def test_marks_of_layers(network):
    builder, values = network
    found = layers_of(values, "stem", "side", "head", "unread")
    marks = {mark.info.path: mark for mark in marked(builder.graph, found, [values["head"]], [values["head"]])}
    assert [name for name, mark in marks.items() if mark.influences_score] == ["stem", "side", "head"]
    assert [name for name, mark in marks.items() if mark.is_model_output] == ["head"]
    assert {name: mark.inputs for name, mark in marks.items()} == {
        "stem": (0,),
        "side": (0, 1),
        "head": (0, 1),
        "unread": (0,),
    }
    assert {name: mark.computed_from for name, mark in marks.items()} == {
        "stem": frozenset(),
        "side": {0},
        "head": {0, 1},
        "unread": {0},
    }
    assert marks["side"].layer is found[1].layer


def test_layers_of_the_score_are_those_before_its_ends(network):
    builder, values = network
    found = layers_of(values, "stem", "side", "head", "unread")
    marks = marked(builder.graph, found, [values["head"]], [values["head"]], [values["unread"]])
    assert [mark.info.path for mark in marks if mark.influences_score] == ["stem", "unread"]


def test_scores_before_an_activation_are_an_output_too(network):
    builder, values = network
    probabilities = builder.elementwise("sigmoid", values["head"])
    values["probabilities"] = probabilities
    marks = marked(builder.graph, layers_of(values, "side", "head", "probabilities"), [probabilities], [values["head"]])
    assert [mark.info.path for mark in marks if mark.is_model_output] == ["head", "probabilities"]


def test_an_output_that_another_is_computed_from_is_inside_the_model(network):
    builder, values = network
    outputs = [values["side"], values["head"]]
    marks = marked(builder.graph, layers_of(values, "stem", "side", "head"), outputs, outputs)
    assert [mark.info.path for mark in marks if mark.is_model_output] == ["head"]


def test_an_output_that_is_returned_twice_is_an_output(network):
    builder, values = network
    outputs = [values["head"], values["head"]]
    marks = marked(builder.graph, layers_of(values, "side", "head"), outputs, outputs)
    assert [mark.info.path for mark in marks if mark.is_model_output] == ["head"]


def test_a_layer_that_returns_its_input_comes_from_what_the_layer_before_comes_from(network):
    builder, values = network
    found = [*layers_of(values, "stem", "side"), layer_output("dropout", values["side"])]
    marks = marked(builder.graph, found, [values["head"]], [values["head"]])
    assert [mark.computed_from for mark in marks] == [frozenset(), {0}, {0}]


def test_a_layer_that_returns_an_input_of_the_model(network):
    builder, values = network
    (mark,) = marked(builder.graph, layers_of(values, "image"), [values["head"]], [values["head"]])
    assert (mark.inputs, mark.influences_score, mark.is_model_output) == ((0,), True, False)


def test_the_batch_is_free_where_it_is_the_one_of_the_trace():
    builder = GraphBuilder()
    assert with_free_batch(layer_output("conv", builder.input((3, 7, 8))), 3).info.output_shape == (None, 7, 8)
    merged = layer_output("tokens", builder.input((21, 8)))
    assert with_free_batch(merged, 3) is merged
    scalar = layer_output("loss", builder.input(()))
    assert with_free_batch(scalar, 3) is scalar
