"""What is kept of a forward pass in later calls, and what a pass that goes another way leads to."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import torch
from contract import spec_of
from keras import layers as L  # noqa: N812
from models import convnet, images

from keras_gradcam.engine.torch.forward import Capture, Forward, samples_of
from keras_gradcam.engine.torch.plan import DeviatesError, OfOperator, OfOutput, Watcher
from keras_gradcam.engine.torch.state import device_of


def plan_of(model, pictures):
    forward = Forward(model, spec_of(pictures), device_of(model))
    with forward.session():
        return forward.traced(samples_of(spec_of(pictures)), Capture(None)).plan


def test_scores_before_a_softmax_are_the_result_of_an_operator():
    plan = plan_of(convnet(lambda position: L.ReLU()), images())
    assert plan.final_activations == ["softmax"]
    assert isinstance(plan.logits[0], OfOperator)
    assert plan.pre_normalization == [OfOutput(0)]
    assert list(plan.rectifiers.values()) == [1, 1]
    assert not plan.draws


def test_nothing_is_watched_of_a_model_without_activations():
    plan = plan_of(convnet(dense={"activation": None}), images())
    assert not Watcher(plan, guided=True).is_needed


def test_another_order_of_operators_is_noticed():
    model = convnet(lambda position: L.ReLU())
    plan = plan_of(model, images())
    with pytest.raises(DeviatesError), Watcher(plan, guided=True):
        torch.relu(torch.zeros(3))
    watcher = Watcher(plan, guided=True)
    with pytest.raises(DeviatesError):
        watcher.finish()


def test_a_model_that_does_otherwise_for_some_batch_sizes_is_planned_for_each():
    class Odd(L.Layer):
        def call(self, inputs):
            return inputs * 2 if len(inputs) % 2 else inputs + inputs + 0 * inputs

    inputs = keras.Input((3,))
    model = keras.Model(inputs, L.Softmax()(Odd()(inputs)))
    spec = spec_of(np.zeros((1, 3), "float32"))
    forward = Forward(model, spec, device_of(model))
    with forward.session(gradients=False):
        forward.traced(samples_of(spec), Capture(None, gradients=False))
        for count in (1, 2, 3, 2):
            rows = np.random.default_rng(count).random((count, 3)).astype("float32")
            run, _ = forward.run(forward.tensors([rows]), lambda: Capture({}, gradients=False))
            np.testing.assert_allclose(run.outputs().logits.numpy(), 2 * rows, rtol=1e-6)
