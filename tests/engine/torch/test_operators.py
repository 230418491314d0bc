"""Operators in the words of graphs: run as graphs, they compute what they compute by themselves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch_models import recorded, run_graph

from keras_gradcam.engine.graphs.graph import (
    ALONG,
    CONSTANT,
    CONTRACTION,
    ELEMENTWISE,
    INPUT,
    MOVE,
    OPAQUE,
    REDUCE,
    RESHAPE,
    WEIGHT,
)

X = np.random.default_rng(0).normal(size=(2, 4, 6))
PICTURE = np.random.default_rng(1).normal(size=(1, 4, 6, 8))
WEIGHTS = torch.from_numpy(np.random.default_rng(2).normal(size=(6, 3)))

#: What is called, of which array, and the rules that it follows.
CALLS = {
    "permute": (lambda x: x.permute(2, 0, 1), X, [MOVE]),
    "transpose": (lambda x: x.transpose(1, 2), X, [MOVE]),
    "t": (lambda x: x[0].t(), X, [MOVE, MOVE]),
    "expand": (lambda x: x[:, :1].expand(2, 5, 6), X, [MOVE, MOVE]),
    "slice": (lambda x: x[:, 1::2, -3:], X, None),
    "select": (lambda x: x[:, -1], X, None),
    "split": (lambda x: x.split(2, 1)[1], X, [MOVE]),
    "split by sizes": (lambda x: x.split([1, 3], 1)[1], X, [MOVE]),
    "chunk": (lambda x: x.chunk(3, -1)[2], X, [MOVE]),
    "unbind": (lambda x: x.unbind(1)[2], X, [MOVE]),
    "cat": (lambda x: torch.cat([x, x[:, :2]], 1), X, None),
    "stack": (lambda x: torch.stack([x, x], 1), X, None),
    "pad": (lambda x: F.pad(x, (1, 2, 0, 1)), X, [MOVE]),
    "reflection": (lambda x: F.pad(x, (2, 1, 1, 3), mode="reflect"), PICTURE, [MOVE]),
    "replication": (lambda x: F.pad(x, (2, 1, 1, 3), mode="replicate"), PICTURE, [MOVE]),
    "flip": (lambda x: x.flip(1, 2), X, [MOVE]),
    "roll": (lambda x: x.roll((1, -2), (1, 2)), X, None),
    "repeat": (lambda x: x.repeat(1, 2, 1), X, None),
    "tile": (lambda x: x.tile(2), X, None),
    "repeat_interleave": (lambda x: x.repeat_interleave(2, 1), X, None),
    "index_select": (lambda x: x.index_select(1, torch.tensor([3, 0])), X, [MOVE]),
    "index": (lambda x: x[:, torch.tensor([3, 0])], X, None),
    "gather": (lambda x: x.gather(1, torch.zeros(2, 1, 6, dtype=torch.int64)), X, [MOVE]),
    "unfold": (lambda x: x.unfold(2, 3, 2), X, [MOVE]),
    "patches": (lambda x: F.unfold(x, 2, stride=2), PICTURE, [MOVE]),
    "pixel_shuffle": (lambda x: F.pixel_shuffle(x, 2), PICTURE, [MOVE]),
    "pixel_unshuffle": (lambda x: F.pixel_unshuffle(x, 2), PICTURE, [MOVE]),
    "nearest": (lambda x: F.interpolate(x, scale_factor=2), PICTURE, [MOVE]),
    "tril": (torch.tril, X, [MOVE]),
    "diagonal": (lambda x: x.diagonal(0, 1, 2), X, [MOVE]),
    "view": (lambda x: x.view(2, 24), X, [RESHAPE]),
    "reshape": (lambda x: x.permute(0, 2, 1).reshape(-1, 4), X, None),
    "flatten": (lambda x: x.flatten(1), X, [RESHAPE]),
    "squeeze": (lambda x: x.unsqueeze(1).squeeze(1), X, [RESHAPE, RESHAPE]),
    "mean": (lambda x: x.mean((1, 2), keepdim=True), X, [REDUCE]),
    "sum": (lambda x: x.sum(), X, [REDUCE]),
    "amax": (lambda x: x.amax(-1), X, [REDUCE]),
    "max": (lambda x: x.max(1).values, X, [REDUCE]),
    "var": (lambda x: x.var((0, 2), correction=0), X, [REDUCE]),
    "var_mean": (lambda x: torch.var_mean(x, 1)[1], X, [REDUCE]),
    "norm": (lambda x: torch.linalg.vector_norm(x, dim=-1), X, [REDUCE]),
    "logsumexp": (lambda x: x.logsumexp(-1), X, None),
    "argmax": (lambda x: x.argmax(-1), X, [REDUCE]),
    "softmax": (lambda x: x.softmax(-2), X, [ALONG]),
    "log_softmax": (lambda x: x.log_softmax(1), X, [ALONG]),
    "cumsum": (lambda x: x.cumsum(1), X, [ALONG]),
    "sort": (lambda x: x.sort(1).values, X, [ALONG]),
    "mm": (lambda x: x[0] @ WEIGHTS, X, [MOVE, CONTRACTION]),
    "matmul": (lambda x: x @ WEIGHTS, X, None),
    "bmm": (lambda x: x @ x.transpose(1, 2), X, None),
    "mv": (lambda x: x[0] @ WEIGHTS[:, 0], X, [MOVE, CONTRACTION]),
    "linear": (lambda x: F.linear(x[0], WEIGHTS.T, torch.ones(3, dtype=x.dtype)), X, [MOVE, CONTRACTION, ELEMENTWISE]),
    "baddbmm": (lambda x: torch.baddbmm(x, x[:, :, :4], x), X, None),
    "scaled sum": (lambda x: torch.addmm(x[0, :, :3], x[0], WEIGHTS, alpha=1), X, None),
    "einsum": (lambda x: torch.einsum("nij,nkj->nik", x, x), X, None),
}


@pytest.mark.parametrize("name", CALLS)
def test_graph_computes_what_the_operators_compute(name):
    function, array, rules = CALLS[name]
    recorder, (tensor,), result = recorded(function, array, weights=[WEIGHTS])
    found = [operation.rule for operation in recorder.graph.operations if operation.outputs[0].origin == INPUT]
    assert rules is None or found == rules
    assert OPAQUE not in found
    weights = {id(recorder.value(WEIGHTS)): WEIGHTS}
    for operation in recorder.graph.operations:
        for value in operation.inputs:
            if value.origin == WEIGHT and value.producer is None:
                assert id(value) in weights
                value.content = WEIGHTS.numpy
    end = recorder.value(result)
    actual = run_graph(recorder, [array], end)
    np.testing.assert_allclose(actual, function(tensor).numpy(), rtol=1e-6, atol=1e-9)
    assert end.shape == tuple(result.shape)


def test_what_says_where_to_move_elements_is_not_moved():
    recorder, _, _ = recorded(lambda x: x[:, torch.tensor([3, 0])], X)
    (operation,) = (one for one in recorder.graph.operations if one.function == "index")
    assert operation.parameters["moved"] == (0,)
    assert operation.inputs[1].content().tolist() == [3, 0]


def test_padding_is_zero_where_elements_are_followed():
    recorder, _, _ = recorded(lambda x: F.pad(x, (1, 0), value=7.0), X)
    (operation,) = recorder.graph.operations
    assert not operation.run([X])[0][..., 0].any()


def test_what_is_added_to_by_an_index_is_opaque():
    def adds(x):
        return torch.zeros(4, dtype=x.dtype).index_put((torch.tensor([0, 0]),), x, accumulate=True)

    recorder, _, _ = recorded(adds, X[0, 0, :2])
    assert [operation.rule for operation in recorder.graph.operations] == [OPAQUE]


def test_attention_that_is_one_operator_is_two_products():
    def attend(x):
        return F.scaled_dot_product_attention(x[None], x[None], x[None])

    recorder, _, result = recorded(attend, X.astype("float32"))
    rules = [one.rule for one in recorder.graph.operations if one.name.startswith("_scaled_dot_product")]
    if rules:  # how PyTorch computes it depends on the release and the machine
        assert rules == [CONTRACTION, ALONG, CONTRACTION]
        first, _, last = (one for one in recorder.graph.operations if one.name.startswith("_scaled_dot_product"))
        assert first.parameters["labels"] == ("xyqd", "xykd", "xyqk")
        assert last.outputs[0] is recorder.value(result)


@pytest.mark.parametrize("training", [False, True])
def test_normalisations(training):
    norm = torch.nn.BatchNorm2d(4).train(training).double()

    def normalize(x):
        return F.group_norm(F.layer_norm(norm(x), (8,)), 2)

    recorder, _, _ = recorded(normalize, PICTURE, weights=[*norm.parameters(), *norm.buffers()])
    found = [
        (one.function, one.rule, one.parameters.get("axes"))
        for one in recorder.graph.operations
        if one.function.endswith("_norm")
    ]
    batch = ("batch_norm", ALONG, (0, 2, 3)) if training else ("batch_norm", ELEMENTWISE, None)
    assert found == [batch, ("layer_norm", ALONG, (3,)), ("group_norm", ALONG, (1, 2, 3))]


def test_origins():
    weight = torch.nn.Parameter(torch.ones(6, dtype=torch.float64))

    def function(x):
        return x + weight, 2 * weight, torch.zeros_like(x) + 1, torch.rand(3), torch.arange(3)

    recorder, _, results = recorded(function, X, weights=[weight])
    values = [recorder.value(result) for result in results]
    assert [value.origin for value in values] == [INPUT, WEIGHT, CONSTANT, WEIGHT, CONSTANT]
    assert values[2].number() == 1
    assert values[4].content().tolist() == [0, 1, 2]
    assert [value.content is None for value in values] == [True, True, False, True, False]
    assert recorder.draws
