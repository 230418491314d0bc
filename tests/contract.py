"""What tests of the engine contract ask with: a target, requests, and a network in NumPy to compare with."""

from __future__ import annotations

import keras
import numpy as np
from models import named

from keras_gradcam.engine.base import InputSpec, Request


def spec_of(inputs) -> InputSpec:
    leaves = tuple((leaf.shape[1:], str(leaf.dtype)) for leaf in keras.tree.flatten(inputs))
    return InputSpec(keras.tree.map_structure(lambda _: 0, inputs), leaves)


class ClassScore:
    """The logit of one class per sample; the class is an argument."""

    def __init__(self, classes=(0,)):
        self._classes = np.asarray(classes, "int32")

    def cache_key(self):
        return "ClassScore"

    def arguments(self, samples):
        return (np.broadcast_to(self._classes, samples),)

    def check(self, outputs):
        assert outputs.logits.shape[0] is None
        assert outputs.logits.shape[1:] == outputs.predictions.shape[1:]

    def scores(self, outputs, arguments):
        chosen = keras.ops.one_hot(arguments[0], outputs.logits.shape[-1], dtype=outputs.logits.dtype)
        return keras.ops.sum(outputs.logits * chosen, axis=-1)

    def classes(self, outputs, arguments):
        return arguments[0]

    def resolve_arguments(self, outputs, arguments):
        return (keras.ops.argmax(outputs.logits, axis=-1),)

    def select_output(self, outputs):
        return outputs


def at(layer: str, call: int = -1):
    """Selects a call of the layer with that path."""
    return lambda layer_outputs: [output for output in layer_outputs if output.info.path == layer][call]


def plain_cam(activations, gradients):
    """Grad-CAM's formula in tensors of the backend."""
    weights = keras.ops.mean(gradients, axis=tuple(range(1, len(gradients.shape) - 1)), keepdims=True)
    return keras.ops.relu(keras.ops.sum(weights * activations, axis=-1))


def ask(target=None, layer="conv2", **wanted) -> Request:
    """A request; ``target`` may be a class or a list of classes."""
    if target is not None and not hasattr(target, "scores"):
        target = ClassScore(target)
    return Request(target, target.arguments(3) if target else (), at(layer), **wanted)


def answer(engine, model, images, *requests, samples=None):
    """Traces a model with requests and runs it once; a single answer is returned by itself."""
    program = engine.trace(model, spec_of(images), requests)
    return run(program, images, *requests)


def run(program, images, *requests):
    flat = keras.tree.flatten(images)
    arguments = [request.target.arguments(len(flat[0])) if request.target else () for request in requests]
    results = program(flat, arguments)
    return results[0] if len(requests) == 1 else results


# --------------------------------------------------------------------------------------------------- a network in NumPy


def _patches(x, stride):
    """What 3 x 3 windows with "same" padding see, (N, h, w, 3, 3, C), as views that can be written to."""
    before = [max((-(-extent // stride) - 1) * stride + 3 - extent, 0) // 2 for extent in x.shape[1:3]]
    padded = np.zeros((len(x), x.shape[1] + 3, x.shape[2] + 3, x.shape[3]))
    inside = padded[:, before[0] : before[0] + x.shape[1], before[1] : before[1] + x.shape[2]]
    inside[:] = x
    size = [-(-extent // stride) for extent in x.shape[1:3]]
    return (
        padded,
        inside,
        [
            (
                i,
                j,
                padded[:, i : i + size[0] * stride : stride, j : j + size[1] * stride : stride][
                    :, : size[0], : size[1]
                ],
            )
            for i in range(3)
            for j in range(3)
        ],
    )


def convolve(x, kernel, stride):
    return sum(patch @ kernel[i, j] for i, j, patch in _patches(x, stride)[2])


def convolve_back(gradient, kernel, stride, shape):
    """The gradient of a convolution's input."""
    _, inside, patches = _patches(np.zeros(shape), stride)
    for i, j, patch in patches:
        patch += gradient @ kernel[i, j].T
    return inside


class NumPyConvnet:
    """conv1, f, conv2, f, mean, dense, forwards and backwards by hand in float64; f is a leaky ReLU.

    Args:
        model: A `models.convnet` whose weights are taken, as they are now.
        slope: Of the rectifier below zero.
    """

    def __init__(self, model, slope: float = 0.0):
        self._weights = {}
        for name in ("conv1", "conv2", "dense"):
            layer = named(model, name)
            self._weights[name] = np.asarray(layer.kernel, "float64"), np.asarray(layer.bias, "float64")
        self._slope = slope

    def run(self, images, classes):
        """Features of conv2, logits, the gradient of the features, the input's gradient and its guided one."""
        images = np.asarray(images, "float64")
        (kernel1, bias1), (kernel2, bias2), (kernel, bias) = self._weights.values()
        x1 = convolve(images, kernel1, 1) + bias1
        x2 = convolve(self._rectified(x1), kernel2, 2) + bias2
        logits = self._rectified(x2).mean(axis=(1, 2)) @ kernel + bias
        above = np.broadcast_to(kernel.T[classes][:, None, None], x2.shape) / (x2.shape[1] * x2.shape[2])
        gradients = {}
        for kind in ("ordinary", "guided"):
            back2 = self._backward(x2, above, kind)
            back1 = self._backward(x1, convolve_back(back2, kernel2, 2, x1.shape), kind)
            gradients[kind] = back2, convolve_back(back1, kernel1, 1, images.shape)
        return x2, logits, gradients["ordinary"][0], gradients["ordinary"][1], gradients["guided"][1]

    def _rectified(self, x):
        return np.where(x > 0, x, self._slope * x)

    def _backward(self, x, gradient, kind):
        return np.where(x > 0, 1, self._slope) * (np.maximum(gradient, 0) if kind == "guided" else gradient)
