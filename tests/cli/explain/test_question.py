"""What is explained: --class, --contrast, --counterfactual and --output."""

from __future__ import annotations

import numpy as np
import pytest

from keras_gradcam import Class, Output, TopClass
from keras_gradcam.attribution.explanation import Explanation
from keras_gradcam.cli.errors import CommandError
from keras_gradcam.cli.explain.question import explained_classes, read_output, read_question
from keras_gradcam.cli.inputs.labels import Labels

LABELS = Labels({0: "cat", 1: "wild cat", 2: "dog"})


def question(of_class="predicted", contrast=None, counterfactual=False, output=None, labels=LABELS):
    return read_question(of_class, contrast, counterfactual, output, labels, 3)


@pytest.mark.parametrize(
    ("words", "option", "target"),
    [
        ({}, "predicted", Class()),
        ({"of_class": "2"}, 2, Class(2)),
        ({"of_class": "DOG"}, 2, Class(2)),
        ({"of_class": "wild"}, 1, Class(1)),
        ({"of_class": "2", "contrast": "0"}, 2, Class(2) - Class(0)),
        ({"contrast": "1"}, "predicted", Class() - Class(1)),
        ({"counterfactual": True}, "predicted", -Class()),
        ({"of_class": "cat", "counterfactual": True}, 0, -Class(0)),
        ({"of_class": "top2"}, "top2", TopClass(0)),
        ({"of_class": "dog", "output": "second"}, 2, Output("second", Class(2))),
        ({"counterfactual": True, "output": "1"}, "predicted", Output(1, -Class())),
    ],
)
def test_targets(words, option, target):
    asked = question(**words)
    assert repr(asked.target) == repr(target)
    assert asked.class_option == option


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"of_class": "3"}, "Received: 3. Candidates: 0 to 2"),
        ({"of_class": "cat", "labels": Labels()}, "--labels FILE"),
        ({"of_class": "cow"}, "'cow' is no class of the model. Candidates: 0 'cat', 1 'wild cat', 2 'dog'"),
        ({"of_class": "1", "contrast": "1"}, "--contrast must be another class"),
        ({"contrast": "3"}, "--contrast must be one of the model's classes"),
        ({"contrast": "1", "counterfactual": True}, "exclude each other"),
        ({"of_class": "top4"}, "top1 to top3.*Received: top4"),
        ({"of_class": "top0"}, "top1 to top3"),
    ],
)
def test_questions_that_do_not_fit(words, message):
    with pytest.raises(CommandError, match=message):
        question(**words)


def test_captions():
    assert question().caption("cat 0.90", "") == "cat 0.90"
    assert question(contrast="1").caption("cat 0.90", "wild cat 0.05") == "cat 0.90 rather than wild cat 0.05"
    assert question(counterfactual=True).caption("cat 0.90", "") == "against cat 0.90"


def test_a_difference_is_of_the_most_likely_classes():
    """A target of two classes has none of its own."""
    probabilities = np.array([[0.1, 0.6, 0.3], [0.5, 0.2, 0.3]])
    without_classes = [Explanation(np.zeros(2), probabilities)]
    asked = question("top2", counterfactual=True)
    assert explained_classes(asked, probabilities, without_classes).tolist() == [[1, 2], [0, 2]]
    assert explained_classes(question("dog"), probabilities, without_classes).tolist() == [[2], [2]]
    with_classes = [Explanation(np.zeros(2), probabilities, classes=np.array([2, 1]))]
    assert explained_classes(question(), probabilities, with_classes).tolist() == [[2], [1]]


def test_outputs_are_named_or_numbered():
    assert [read_output(text) for text in (None, "second", "1")] == [None, "second", 1]
