"""Targets of one output of several, functions as targets, and what stands for a target."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from spelling import spelled
from target_outputs import KEYED, LISTED, LOGITS, PROBABILITIES, SIGMOID, SOFTMAX, Z, evaluate

from keras_gradcam import Class, Output, Unit
from keras_gradcam.attribution.targets.outputs import as_target
from keras_gradcam.engine.base import Outputs

ONE_EACH = [3, 0, 1]
ROWS = np.arange(3)


@pytest.mark.parametrize("of", [LISTED, KEYED], ids=["list", "dict"])
@pytest.mark.parametrize(
    ("target", "scores", "classes"),
    [
        (Output("species", 1), LOGITS[:, 1], [1, 1, 1]),
        (Output(0, Class(1)), LOGITS[:, 1], [1, 1, 1]),
        (Output("alive", Class(0)), -Z[:, 0], [0, 0, 0]),
        (Output(1), np.abs(Z[:, 0]), [1, 0, 1]),
        (Output("species", lambda predictions: predictions[:, 3]), PROBABILITIES[:, 3], None),
        (Output("species", 3) - Output("alive", 1), LOGITS[:, 3] - Z[:, 0], None),
        (Output("species", Class(3) - Class(1)), LOGITS[:, 3] - LOGITS[:, 1], None),
        (2 * Output("alive", 1), 2 * Z[:, 0], [1, 1, 1]),
        (-2 * Output("alive", 1), -2 * Z[:, 0], None),
    ],
    ids=spelled,
)
def test_outputs_by_name_and_position(of, target, scores, classes):
    actual = evaluate(target, of)
    np.testing.assert_allclose(actual[0], scores, rtol=1e-6)
    np.testing.assert_array_equal(actual[1], classes)


def test_function_sees_the_structure_the_model_returns():
    target = as_target(lambda predictions: predictions["species"][:, 0] + predictions["alive"][:, 0])
    np.testing.assert_allclose(evaluate(target, KEYED)[0], PROBABILITIES[:, 0] + SIGMOID[:, 0], rtol=1e-6)


@pytest.mark.parametrize("value", [-1, 1.5, True, "cat", [], [0.5, 2.0], Class, object(), {"a": 1}], ids=spelled)
def test_what_is_no_target_is_refused(value):
    with pytest.raises(ValueError, match=r"`target` must"):
        as_target(value)


@pytest.mark.parametrize("target", [Class(1), Class(), Unit(0), Class(1) - Class(0)], ids=spelled)
def test_several_outputs_need_output(target):
    with pytest.raises(ValueError, match=r"several.*Output\('species', .*Output\('alive', "):
        target.check(LISTED)
    with pytest.raises(ValueError, match=r"several.*Output\('species', .*Output\('alive', "):
        target.check(KEYED)


def test_outputs_without_names_are_proposed_by_position():
    with pytest.raises(ValueError, match=r"Output\(0, .*Output\(1, "):
        Class(1).check(Outputs(LISTED.predictions, LISTED.logits, LISTED.final_activations, LISTED.pre_normalization))


@pytest.mark.parametrize("which", ["specis", 2, -1])
@pytest.mark.parametrize("of", [LISTED, KEYED, SOFTMAX], ids=["list", "dict", "single"])
def test_unknown_output_lists_the_outputs(which, of):
    with pytest.raises(ValueError, match=r"Candidates: .*'species'"):
        Output(which, 0).check(of)


@pytest.mark.parametrize("which", [True, 1.0, None, ["species"]])
def test_output_must_be_named_by_string_or_position(which):
    with pytest.raises(ValueError, match=r"`which`"):
        Output(which)


def test_functions_share_a_trace_only_with_themselves():
    one, other = (lambda y: y[:, 0]), (lambda y: y[:, 0])
    assert as_target(one).cache_key() == as_target(one).cache_key()
    assert as_target(one).cache_key() != as_target(other).cache_key()


def test_any_callable_is_a_target():
    class Scorer:
        def __call__(self, predictions):
            return predictions[:, 1]

    def power(predictions, exponent):
        return predictions[:, 1] ** exponent

    np.testing.assert_allclose(evaluate(Scorer())[0], PROBABILITIES[:, 1])
    np.testing.assert_allclose(evaluate(functools.partial(power, exponent=3))[0], PROBABILITIES[:, 1] ** 3, rtol=1e-6)
