"""Targets combine like numbers; those that differ in numbers alone share a trace; own targets."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from models import convnet, images
from oracles import assert_close
from target_outputs import LOGITS, PROBABILITIES, evaluate

from keras_gradcam import Class, Output, Target, Unit, explain
from keras_gradcam.attribution.targets.outputs import as_target


@pytest.fixture(scope="module")
def model():
    return convnet(activation="relu")


ONE_EACH = [3, 0, 1]
ROWS = np.arange(3)
A, B, C = Class(3), Class(1), Unit(0)
a, b, c = LOGITS[:, 3], LOGITS[:, 1], PROBABILITIES[:, 0]


@pytest.mark.parametrize(
    ("target", "scores"),
    [
        (-A, -a),
        (A - B, a - b),
        (A + B, a + b),
        (2 * A, 2 * a),
        (A * 2, 2 * a),
        (0.5 * A - 3 * B, 0.5 * a - 3 * b),
        (np.float32(0.5) * A, 0.5 * a),
        (-(A - B), b - a),
        (A - (B - C), a - b + c),
        (2 * (A + 3 * (B - C)) - A, 2 * (a + 3 * (b - c)) - a),
        (A - A, 0 * a),
        (Class(ONE_EACH) - Class(), LOGITS[ROWS, ONE_EACH] - LOGITS.max(1)),
        (A - as_target(lambda predictions: predictions[:, 0]), a - c),
    ],
    ids=repr,
)
def test_algebra(target, scores):
    np.testing.assert_allclose(evaluate(target)[0], scores, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "operation", [lambda t: t + 1, lambda t: 1 - t, lambda t: t * "a", lambda t: t * True, lambda t: t * t]
)
def test_other_arithmetic_is_a_type_error(operation):
    with pytest.raises(TypeError):
        operation(Class(1))


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        (Class(1), Class(2), True),
        (Class(1), Class([1, 2, 3]), True),
        (Class(1), Class(), True),
        (Class(1), Class(1, logits=False), False),
        (Class(1), Unit(1), False),
        (Class(1) - Class(2), Class(3) - Class(0), True),
        (Class(1) - Class(2), Class(1) + Class(2), False),
        (Class(1), 2 * Class(1), False),
        (Output("a", 1), Output("a", 2), True),
        (Output("a", 1), Output("b", 1), False),
    ],
    ids=repr,
)
def test_targets_that_differ_in_numbers_alone_share_a_trace(one, other, equal):
    assert (one.cache_key() == other.cache_key()) is equal
    if equal:
        assert hash(one.cache_key()) == hash(other.cache_key())


@pytest.mark.parametrize(
    "text",
    [
        "Class()",
        "Class(3)",
        "Class([3, 1])",
        "Class(3, logits=False)",
        "Class(logits=False)",
        "Unit(7)",
        "Unit([1, 2])",
        "Output('species', Class(3))",
        "-Class(3)",
        "Class(3) - Class(5)",
        "2*Class(3) - 0.5*Unit(1)",
    ],
)
def test_repr_is_how_it_is_written(text):
    target = eval(text)
    assert repr(target) == text
    assert isinstance(target, Target)


def test_own_target_with_values_of_its_own():
    class Weighted(Target):
        num_arguments = 1

        def __init__(self, weights):
            self.weights = np.asarray(weights, "float32")

        def cache_key(self):
            return "Weighted"

        def arguments(self, samples):
            return (np.tile(self.weights, (samples, 1)),)

        def scores(self, outputs, arguments):
            return keras.ops.sum(outputs.logits * arguments[0], axis=1)

    weights = [1.0, 2.0, 0.0, -1.0]
    np.testing.assert_allclose(evaluate(Weighted(weights) - Class(1))[0], LOGITS @ weights - LOGITS[:, 1], rtol=1e-6)


@pytest.mark.parametrize("target", [Class(5) - Class(0), -Class(5), Class(0) + 2 * Class(5), Output("species", 5)])
def test_terms_inside_other_targets_are_checked(target):
    with pytest.raises(ValueError, match=r"class 5"):
        evaluate(target)


def test_own_target_reads_logits(model):
    class Margin(Target):
        """The best class against the second best."""

        def cache_key(self):
            return "Margin"

        def scores(self, outputs, arguments):
            best = keras.ops.top_k(outputs.logits, 2)[0]
            return best[:, 0] - best[:, 1]

    order = np.argsort(explain(model, images()).predictions, axis=1)
    expected = explain(model, images(), target=Class(order[:, -1]) - Class(order[:, -2]))
    result = explain(model, images(), target=Margin())
    assert_close(result.gradcam, expected.gradcam)
    assert_close(result.scores, expected.scores)


def test_error_of_a_target_reaches_the_user(model):
    def broken(predictions):
        raise KeyError("my own")

    with pytest.raises(KeyError, match=r"my own"):
        explain(model, images(), target=broken)
