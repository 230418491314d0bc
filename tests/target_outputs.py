"""Outputs of a model, as an engine hands them to a target."""

from __future__ import annotations

import numpy as np
from backends import numbers, tensor

from keras_gradcam.attribution.targets.outputs import as_target
from keras_gradcam.engine.base import Outputs

LOGITS = np.array([[1.0, -2.0, 0.5, 3.0], [0.0, 4.0, -1.0, 2.0], [-3.0, -1.0, -2.0, -4.0]], "float32")
PROBABILITIES = np.exp(LOGITS) / np.exp(LOGITS).sum(1, keepdims=True)
Z = np.array([[2.0], [-1.5], [0.25]], "float32")
SIGMOID = 1 / (1 + np.exp(-Z))


def outputs(predictions, logits=None, ending="", names=()):
    given = tensor(predictions)
    return Outputs(given, given if logits is None else tensor(logits), ending, given, names)


SOFTMAX = outputs(PROBABILITIES, LOGITS, "softmax", ("species",))
BINARY = outputs(SIGMOID, Z, "sigmoid")
LISTED = Outputs(
    [SOFTMAX.predictions, BINARY.predictions],
    [SOFTMAX.logits, BINARY.logits],
    ["softmax", "sigmoid"],
    [SOFTMAX.predictions, BINARY.predictions],
    ("species", "alive"),
)


KEYED = Outputs(
    {"species": SOFTMAX.predictions, "alive": BINARY.predictions},
    {"species": SOFTMAX.logits, "alive": BINARY.logits},
    {"species": "softmax", "alive": "sigmoid"},
    {"species": SOFTMAX.predictions, "alive": BINARY.predictions},
)


def evaluate(target, of=SOFTMAX, samples=3):
    """Scores and classes as the engine asks for them."""
    target = as_target(target)
    target.check(of)
    values = [tensor(array) for array in target.arguments(samples)]
    assert len(values) == target.num_arguments
    classes = target.classes(of, values)
    return numbers(target.scores(of, values)), None if classes is None else numbers(classes)
