"""Outputs as classes: how many there are, and how likely."""

from __future__ import annotations

import numpy as np
import pytest
from backends import numbers, tensor
from target_outputs import BINARY, PROBABILITIES, SIGMOID, SOFTMAX, Z, evaluate, outputs

from keras_gradcam import Class, Output, Unit
from keras_gradcam.attribution.targets.probabilities import (
    ClassProbability,
    ExplainedClass,
    class_count,
    class_probabilities,
    class_rows,
    is_value,
)


@pytest.mark.parametrize(
    ("outputs", "ending", "expected"),
    [
        ([[0.2, 0.8]], "softmax", [[0.2, 0.8]]),
        ([[0.9, 0.8]], "sigmoid", [[0.9, 0.8]]),
        ([[0.75]], "sigmoid", [[0.25, 0.75]]),
        ([[np.log(3)]], "", [[0.25, 0.75]]),
        ([[-800.0]], "", [[1.0, 0.0]]),
        ([[0.0, np.log(3)]], "", [[0.25, 0.75]]),
        ([[0.2, 0.8], [0.5, 0.5]], "", [[0.2, 0.8], [0.5, 0.5]]),
        ([[np.log(0.2), np.log(0.8)]], "log_softmax", [[0.2, 0.8]]),
        ([[1000.0, 0.0]], "", [[1.0, 0.0]]),
    ],
)
def test_probabilities_from_every_kind_of_output(outputs, ending, expected):
    np.testing.assert_allclose(class_probabilities(np.array(outputs), ending), expected, atol=1e-12)
    np.testing.assert_allclose(numbers(class_probabilities(tensor(outputs, "float32"), ending)), expected, atol=1e-6)


def test_each_picture_is_a_distribution_or_not_by_itself():
    rows = np.array([[0.2, 0.8], [0.0, np.log(3)]])
    np.testing.assert_allclose(class_probabilities(rows, ""), [[0.2, 0.8], [0.25, 0.75]])
    np.testing.assert_allclose(numbers(class_probabilities(tensor(rows), "")), [[0.2, 0.8], [0.25, 0.75]], rtol=1e-6)


def test_outputs_that_are_no_classes_have_no_probabilities():
    assert class_probabilities(np.zeros((2, 3, 3)), "") is None
    assert class_probabilities([np.zeros((2, 3))], "") is None


@pytest.mark.parametrize("ending", ["probabilities", "softmax", "sigmoid"])
def test_what_is_known_to_be_probabilities_stays_as_it_is(ending):
    values = np.array([[0.5, 0.125, 0.25], [1.0, 0.0, 0.75]])
    np.testing.assert_array_equal(class_probabilities(values, ending), values)
    np.testing.assert_array_equal(class_probabilities(values[:, :1], ending), [[0.5, 0.5], [0.0, 1.0]])


def test_the_loss_says_that_raw_numbers_are_scores():
    sums_to_one = np.array([[0.25, 0.75]])
    np.testing.assert_array_equal(class_probabilities(sums_to_one, ""), sums_to_one)
    assert class_probabilities(np.array([[np.log(3.0)]]), "logits").tolist() == [[0.25, pytest.approx(0.75)]]


@pytest.mark.parametrize(
    ("shape", "count"), [((None, 7), 7), ((None, 1, 7, 1), 7), ((None, 1), 1), ((None,), 1), ((None, 2, 7), None)]
)
def test_number_of_classes(shape, count):
    assert class_count(shape) == count
    if count is not None:
        values = np.arange(3.0 * count).reshape(3, *shape[1:])
        np.testing.assert_array_equal(class_rows(values), values.reshape(3, count))
        np.testing.assert_array_equal(numbers(class_rows(tensor(values))), values.reshape(3, count))


def test_one_number_is_a_value_unless_it_is_known_to_stand_for_classes():
    for values in (Z, Z[:, 0], Z[:, None]):
        assert is_value(outputs(values))
    for ending in ("sigmoid", "logits", "probabilities", "l2_normalization"):
        assert not is_value(outputs(Z, ending=ending))
    assert not is_value(outputs(PROBABILITIES))


def test_the_probability_of_the_explained_class_is_a_target():
    np.testing.assert_allclose(evaluate(ClassProbability(Class(2), True))[0], PROBABILITIES[:, 2], rtol=1e-6)
    np.testing.assert_allclose(evaluate(ClassProbability(Class(0), True), BINARY)[0], 1 - SIGMOID[:, 0], rtol=1e-6)
    np.testing.assert_array_equal(evaluate(ExplainedClass(Class()))[0], PROBABILITIES.argmax(1))
    # What has no class is scored as it is, or refused where a probability is asked for.
    for target, of, expected in ((Class(), outputs(Z), Z[:, 0]), (Class(2) - Class(1), SOFTMAX, None)):
        direct = evaluate(target, of)[0]
        np.testing.assert_array_equal(evaluate(ClassProbability(target, False), of)[0], direct)
        if expected is not None:
            np.testing.assert_array_equal(direct, expected)
        with pytest.raises(ValueError, match=r"'probability' for .* no class"):
            evaluate(ClassProbability(target, True), of)


def test_targets_of_one_output_have_its_probabilities():
    found = evaluate(ClassProbability(Output("species", 1), True), SOFTMAX)[0]
    np.testing.assert_allclose(found, PROBABILITIES[:, 1], rtol=1e-6)
    assert evaluate(ClassProbability(Unit(1), False))[0] == pytest.approx(PROBABILITIES[:, 1])
