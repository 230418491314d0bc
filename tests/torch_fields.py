"""Receptive fields of functions of PyTorch tensors, read off what is recorded of them."""

from __future__ import annotations

import numpy as np
import torch

from keras_gradcam.engine.base import InputSpec, LayerCall, LayerOutput
from keras_gradcam.engine.graphs.receptive_field import receptive_boxes
from keras_gradcam.engine.torch.recorder import Recorder

SHAPE = (6, 5, 2)


def kernel(*shape):
    return torch.from_numpy(np.random.default_rng(0).uniform(0.5, 1.5, shape).astype("float32"))


def on_pictures(function):
    """A function of pictures whose channels come first, for pictures whose channels come last."""
    return lambda x: function(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


def recorded(function):
    """What is recorded of a function of one picture, and the value that it returns."""
    recorder = Recorder(())
    picture = torch.zeros(1, *SHAPE)
    recorder.feed(picture)
    with recorder, torch.no_grad():
        result = function(picture)
        value = recorder.value(result)
    return recorder, value


def boxes_of(function) -> np.ndarray:
    recorder, value = recorded(function)
    layer = LayerOutput(LayerCall("layer", "Layer", (None, *value.shape[1:])), None, value, inputs=(0,))
    return receptive_boxes(recorder.graph, layer, InputSpec(0, ((SHAPE, "float32"),)), 0, True).boxes
