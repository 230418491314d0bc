"""Forward passes of PyTorch: recorded, watched, and without a trace in the model."""

from __future__ import annotations

import numpy as np
import torch
from contract import spec_of
from keras import layers as L  # noqa: N812
from models import convnet, images
from oracles import assert_close

from keras_gradcam.engine.torch.forward import Capture, Forward, key_of, samples_of, tensors_in
from keras_gradcam.engine.torch.state import device_of


def test_a_trace_has_every_layer_and_what_follows_from_it():
    model = convnet(lambda position: L.ReLU(name=f"act{position}"))
    forward = Forward(model, spec_of(images()), device_of(model))
    with forward.session():
        trace = forward.traced(samples_of(spec_of(images())), Capture(None))
        calls = trace.marked()
    assert [call.info.path for call in calls] == ["conv1", "act1", "conv2", "act2", "mean", "dense"]
    assert all(call.influences_score for call in calls)
    assert [activation.kind for activation in trace.activations][:2] == ["rectifier", "rectifier"]


def test_a_run_gives_features_to_differentiate_by():
    model = convnet(lambda position: L.ReLU())
    forward = Forward(model, spec_of(images()), device_of(model))
    with forward.session():
        trace = forward.traced(samples_of(spec_of(images())), Capture(None))
        (conv2,) = [call for call in trace.layer_outputs if call.info.path == "conv2"]
        run, capture = forward.run(forward.tensors([images()]), lambda: Capture({key_of(conv2): False}))
        captured = capture.captured[key_of(conv2)]
        scores = run.outputs().logits[:, 1].sum()
        (gradient,) = torch.autograd.grad(scores, [captured.edge])
    assert gradient.shape == captured.features.shape == (3, 6, 5, 5)
    features = model.get_layer("conv2")(torch.relu(model.get_layer("conv1")(images())))
    assert_close(captured.features.detach(), features.detach())
    (output,) = tensors_in(run.structure)
    np.testing.assert_allclose(output.detach(), model(images()).detach(), rtol=1e-5)


def test_inputs_are_numbers_that_the_model_may_take():
    floats, integers = samples_of(spec_of([images(), np.zeros((1, 4), "int32")]), 2)
    assert (floats.shape, floats.min() >= 0, integers.sum()) == ((2, 12, 10, 3), True, 0)
