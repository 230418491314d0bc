"""Models that hold PyTorch's own modules, and what tests of its engine record."""

from __future__ import annotations

import keras
import numpy as np
import torch
from keras import layers as L  # noqa: N812
from models import CLASSES, images, randomised

from keras_gradcam.engine.torch.recorder import Recorder


class ChannelsFirst(keras.Model):
    """A PyTorch module, to which pictures go with their channels first, between two transpositions."""

    def __init__(self, *modules: torch.nn.Module, units: int = CLASSES):
        super().__init__()
        self.net = L.TorchModuleWrapper(torch.nn.Sequential(*modules), name="net")
        self.back = L.Identity(name="map")
        self.mean = L.GlobalAveragePooling2D()
        self.dense = L.Dense(units, name="dense")

    def call(self, inputs):
        x = self.net(keras.ops.transpose(inputs, (0, 3, 1, 2)))
        return self.dense(self.mean(self.back(keras.ops.transpose(x, (0, 2, 3, 1)))))


def channels_first(*modules: torch.nn.Module, size=(12, 10), seed: int = 0) -> ChannelsFirst:
    """A model of some modules after its first call, with random weights, which a forward pass has not touched."""
    torch.manual_seed(seed)
    model = ChannelsFirst(*modules)
    model(images(1, size), training=False)
    randomised(model.dense, seed)
    for buffer in model.net.module.buffers():
        if buffer.is_floating_point():
            buffer.copy_(torch.rand_like(buffer) + 0.5)
    return model


def recorded(function, *arrays, weights=()):
    """The recorder after a function of tensors, the tensors, and what the function has returned."""
    recorder = Recorder(weights)
    tensors = [torch.from_numpy(np.array(array)) for array in arrays]
    for tensor in tensors:
        recorder.feed(tensor)
    with recorder:
        result = function(*tensors)
    return recorder, tensors, result


def run_graph(recorder: Recorder, arrays, end) -> np.ndarray:
    """What a value is, by the operations' own functions of arrays."""
    known = {id(value): array for value, array in zip(recorder.graph.inputs, arrays, strict=True)}

    def of(value):
        return known[id(value)] if id(value) in known else np.asarray(value.content())

    for operation in recorder.graph.operations:
        if id(end) in known:
            break
        results = operation.run([of(value) for value in operation.inputs])
        known.update((id(value), result) for value, result in zip(operation.outputs, results, strict=False))
    return of(end)
