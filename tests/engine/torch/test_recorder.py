"""What is recorded of operators: where values come from, what is written over, what constants are."""

from __future__ import annotations

import numpy as np
import torch

from keras_gradcam.engine.graphs.graph import CONSTANT, INPUT, WEIGHT, ancestors
from keras_gradcam.engine.torch.recorder import Recorder, dtype_of, storage_of


def recorded(function, weights=()):
    recorder, picture = Recorder(weights), torch.ones(2, 3)
    value = recorder.feed(picture)
    with recorder:
        result = function(picture)
    return recorder, value, recorder.value(result)


def test_values_come_from_inputs_weights_and_constants():
    weight = torch.full((3,), 2.0)
    recorder, _, result = recorded(lambda x: x * weight + torch.arange(3.0) * 2, [weight])
    product, total = recorder.graph.operations
    assert (result.origin, total.function, total.outputs[0] is result) == (INPUT, "add", True)
    assert [value.origin for value in product.inputs] == [INPUT, WEIGHT]
    constant = total.inputs[1]
    assert (constant.origin, constant.producer) == (CONSTANT, None)
    np.testing.assert_array_equal(constant.content(), [0, 2, 4])


def test_what_is_written_in_place_is_another_value():
    def function(x):
        y = x * 2
        z = y + 1
        y.relu_()
        return y + z

    recorder, picture, result = recorded(function)
    names = [operation.function for operation in recorder.graph.operations]
    assert names == ["multiply", "add", "relu", "add"]
    relu, last = recorder.graph.operations[2:]
    assert last.inputs[0] is relu.outputs[0]
    assert id(picture) in ancestors([result])


def test_a_view_sees_what_is_written_into_its_memory():
    def function(x):
        y = torch.zeros(2, 3)
        view = y[0]
        y.copy_(x)
        return view * 1

    _, picture, result = recorded(function)
    assert result.origin == INPUT
    assert id(picture) in ancestors([result])


def test_a_constant_keeps_its_numbers_when_something_is_written_over_it():
    def function(x):
        ones = torch.ones(3)
        y = x + ones
        ones.zero_()
        return y

    recorder, _, _ = recorded(function)
    np.testing.assert_array_equal(recorder.graph.operations[0].inputs[1].content(), [1, 1, 1])


def test_operators_are_counted_and_results_found_again():
    recorder, _, result = recorded(lambda x: torch.relu(x * 2))
    assert [operator._schema.name for operator in recorder.operators] == ["aten::mul", "aten::relu"]
    assert recorder.place_of(result) == (1, 0)
    number, call = recorder.call_of(recorder.graph.operations[1])
    assert (number, call.name) == (1, "relu")
    assert torch.equal(recorder.results_of([1])[1][0], torch.full((2, 3), 2.0))


def test_random_numbers_are_noticed():
    assert not recorded(lambda x: x * 2)[0].draws
    assert recorded(lambda x: x * torch.rand(3))[0].draws


def test_names_and_memory():
    x = torch.ones(2, 3, dtype=torch.bfloat16)
    assert dtype_of(x) == "bfloat16"
    assert storage_of(x) == storage_of(x[0])
