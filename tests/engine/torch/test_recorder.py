"""What is recorded of tensors that are written to, that share memory, and that nobody has seen before."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch_models import recorded, run_graph

from keras_gradcam.engine.graphs.graph import CONSTANT, INPUT, MOVE, WEIGHT
from keras_gradcam.engine.torch.recorder import Recorder, storage_of

X = np.random.default_rng(0).normal(size=(3, 4))

WRITES = {
    "in place": lambda x: x.clone().relu_().mul_(2),
    "to a part": lambda x: _written(x.clone(), lambda y: y[:, 1:3].relu_()),
    "to a turned part": lambda x: _written(x.clone(), lambda y: y.t()[1:].mul_(-1)),
    "from elsewhere": lambda x: _written(torch.zeros(3, 4, dtype=x.dtype), lambda y: y[1:].copy_(x[:2])),
    "one after the other": lambda x: _written(
        torch.ones(3, 4, dtype=x.dtype), lambda y: (y[0].copy_(x[0]), y[:, 0].copy_(x[:, 3]), y[2].zero_())
    ),
    "by an index": lambda x: _written(
        torch.zeros(3, 4, dtype=x.dtype), lambda y: y.__setitem__(torch.tensor([2]), x[:1])
    ),
    "seen through another": lambda x: _written(x.clone(), lambda y: y.view(-1)[2:7].add_(1)).view(2, 6),
    "before the write": lambda x: _before(x.clone()),
    "filled": lambda x: _written(x.clone(), lambda y: y[1].fill_(3.0)),
}


def _written(tensor, write):
    write(tensor)
    return tensor * 1


def _before(tensor):
    row = tensor[1] * 1
    tensor[1].zero_()
    return row + tensor[0]


@pytest.mark.parametrize("name", WRITES)
def test_what_is_written_over_is_read_anew(name):
    recorder, (tensor,), result = recorded(WRITES[name], X)
    found = run_graph(recorder, [X], recorder.value(result))
    np.testing.assert_allclose(found, WRITES[name](tensor).numpy())


def test_a_part_that_is_written_moves_into_the_whole():
    def write(x):
        whole = torch.zeros(4, 4, dtype=x.dtype)
        whole[1:] = x
        return whole + 0

    recorder, _, _ = recorded(write, X)
    (operation,) = (one for one in recorder.graph.operations if one.function == "scatter")
    assert (operation.rule, operation.parameters["moved"]) == (MOVE, (0, 1))
    assert [value.origin for value in operation.inputs] == [CONSTANT, INPUT]


def test_constants_keep_the_numbers_that_they_had():
    def function(x):
        constant = torch.zeros(2, dtype=x.dtype)
        total = x[0, :2] + constant
        constant.add_(5)
        return total, x[0, :2] + constant

    recorder, _, results = recorded(function, X)
    contents = [recorder.value(result).producer.inputs[1].content().tolist() for result in results]
    assert contents == [[0, 0], [5, 5]]


def test_weights_are_known_by_their_memory_however_they_come():
    weight = torch.nn.Parameter(torch.ones(4, dtype=torch.float64))
    recorder, _, result = recorded(lambda x: x * weight.detach() + weight.data[:1], X, weights=[weight])
    origins = [value.origin for operation in recorder.graph.operations for value in operation.inputs]
    assert set(origins) == {INPUT, WEIGHT}
    assert storage_of(weight) == storage_of(weight.detach()[2:])
    assert recorder.value(result).origin == INPUT


def test_autograd_does_not_count_as_the_model():
    tensor = torch.ones(3, requires_grad=True)
    recorder = Recorder(())
    recorder.feed(tensor)
    with recorder:
        result = tensor.sigmoid().exp() * 2
    assert [operator._schema.name for operator in recorder.operators] == ["aten::sigmoid", "aten::exp", "aten::mul"]
    assert recorder.place_of(recorder.value(result)) == (2, 0)
    assert recorder.call_of(recorder.value(result).producer)[0] == 2
    assert recorder.results_of([1])[1][0] is not None


def test_a_value_that_was_written_over_has_no_place():
    recorder, _, _ = recorded(lambda x: (x + 1).sigmoid_(), X)
    add, sigmoid = recorder.graph.operations
    assert recorder.place_of(add.outputs[0]) is None
    assert recorder.place_of(sigmoid.outputs[0]) == (1, 0)


def test_what_runs_while_it_is_paused_is_not_seen():
    recorder = Recorder(())
    tensor = torch.ones(2)
    value = recorder.feed(tensor)
    with recorder:
        recorder.paused = True
        other = tensor.clone()
        recorder.paused = False
    recorder.same(other, tensor)
    assert recorder.value(other) is value
    assert not recorder.operators


def test_random_numbers_of_a_generator_of_their_own_do_not_count_as_drawn():
    generator = torch.Generator()
    recorder, _, noise = recorded(lambda x: x + torch.rand(4, generator=generator), X)
    assert (recorder.draws, recorder.value(noise).producer.inputs[1].origin) == (False, WEIGHT)
    assert recorded(lambda x: torch.nn.functional.dropout(x), X)[0].draws
