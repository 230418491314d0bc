"""Plans of passes, and what watches that they are followed."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import torch

from keras_gradcam.engine.graphs.activations import activations
from keras_gradcam.engine.graphs.outputs import find_outputs
from keras_gradcam.engine.torch.plan import (
    Again,
    DeviatesError,
    OfInput,
    OfOperator,
    OfOutput,
    Watcher,
    plan_of,
    seen_in,
    tensor_of,
)
from keras_gradcam.engine.torch.recorder import Recorder


def planned(function, marks=None, gradients=False):
    """The plan of a function of one tensor of one row, the recorder, that tensor, and what was returned."""
    recorder, x = Recorder(()), torch.linspace(-1, 1, 6)[None].requires_grad_(gradients)
    recorder.feed(x)
    with recorder:
        result = function(x)
        value = recorder.value(result)
    found = find_outputs(keras.Sequential(), [value])
    return plan_of(recorder, found, [value], activations(recorder.graph), marks or {}), recorder, x, result


def watched(function, plan, x, guided=False):
    watcher = Watcher(plan, guided)
    with watcher:
        result = function(x)
    watcher.finish()
    return watcher, result


ENDS = {
    "itself": (lambda x: x * 2, lambda x: x * 2, OfOutput),
    "softmax of the input": (lambda x: x.softmax(-1), lambda x: x, OfInput),
    "softmax": (lambda x: (x * 2).softmax(-1), lambda x: x * 2, OfOperator),
    "sigmoid, reshaped": (lambda x: (x * 2).sigmoid().view(len(x), 2, 3), lambda x: (x * 2).view(-1, 2, 3), Again),
    "softmax, turned and joined": (
        lambda x: torch.cat([(x * 2).view(-1, 2, 3).sigmoid().permute(0, 2, 1)] * 2, 1),
        lambda x: torch.cat([(x * 2).view(-1, 2, 3).permute(0, 2, 1)] * 2, 1),
        Again,
    ),
    "softmax, turned and laid flat": (
        lambda x: (x * 2).view(-1, 2, 3).softmax(1).permute(0, 2, 1).reshape(len(x), 6),
        lambda x: (x * 2).view(-1, 2, 3).permute(0, 2, 1).reshape(-1, 6),
        Again,
    ),
}


@pytest.mark.parametrize("name", ENDS)
def test_scores_are_found_in_passes_of_any_number_of_samples(name):
    function, scores, kind = ENDS[name]
    plan, recorder, x, result = planned(function)
    (source,) = plan.logits
    assert isinstance(source, kind)
    np.testing.assert_allclose(tensor_of(source, seen_in(recorder, plan), [x], [result]), scores(x))
    many = torch.linspace(-2, 3, 24).reshape(4, 6).requires_grad_()
    watcher, result = watched(function, plan, many)
    found = tensor_of(source, watcher.seen, [many], [result])
    np.testing.assert_allclose(found.detach(), scores(many).detach())
    assert found.requires_grad


def test_scores_that_an_activation_has_overwritten_are_probabilities():
    plan, *_ = planned(lambda x: (x * 2).sigmoid_())
    assert plan.logits == [OfOutput(0)]
    assert plan.final_activations == ["probabilities"]


@pytest.mark.parametrize(
    "other",
    [lambda x: (x + 2).softmax(-1), lambda x: (x * 2 * 2).softmax(-1), lambda x: x * 2, lambda x: (x * 2).sigmoid()],
    ids=["another", "one more", "one less", "another end"],
)
def test_other_operators_than_planned_are_noticed(other):
    plan, *_, x, _ = planned(lambda x: (x * 2).softmax(-1))
    with pytest.raises(DeviatesError):
        watched(other, plan, x)


def test_no_except_of_the_models_own_catches_a_deviation():
    assert not issubclass(DeviatesError, Exception)


def test_rectifiers_have_their_steps_of_the_backward_pass_only_where_they_are_wanted():
    def function(x):
        y = torch.relu(x * 2)
        return torch.nn.functional.hardtanh_(y.flip(1) * 3, 0.0, 1.0) - torch.relu(-x.roll(1, 1))

    plan, *_ = planned(function, gradients=True)  # with which autograd copies what is overwritten
    assert sorted(plan.rectifiers.values()) == [1, 1, 1]
    x = torch.ones(2, 6, requires_grad=True)
    watcher, _ = watched(function, plan, x, guided=True)
    names = sorted(node.name() for node, _ in watcher.seen.nodes.values())
    assert names == ["HardtanhBackward0", "ReluBackward0", "ReluBackward0"]
    assert not watched(function, plan, x)[0].seen.nodes
    assert not Watcher(plan, guided=False).is_needed


def test_watching_begins_after_the_last_layer_before_what_is_wanted():
    plan, *_ = planned(lambda x: (x * 2 + 1).exp().softmax(-1), marks={1: 1, 2: 2, 3: 3, 4: 4})
    watcher = Watcher(plan, guided=False)
    assert watcher.start == 2  # the scores are the result of the third operator
    y = torch.ones(2, 6) * 2 + 1
    with watcher:
        y.exp().softmax(-1)
    watcher.finish()
    assert set(watcher.seen.results) == {2}
    assert planned(lambda x: x.softmax(-1), marks={1: 1})[0].marks == {1: 1}


def test_what_runs_while_it_is_paused_is_not_seen():
    plan, *_, x, _ = planned(lambda x: (x * 2).softmax(-1))
    watcher = Watcher(plan, guided=False)
    with watcher:
        y = x * 2
        watcher.paused = True
        y.clone()
        watcher.paused = False
        y.softmax(-1)
    watcher.finish()
