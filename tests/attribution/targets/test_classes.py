"""Targets give the numbers they promise, combine like numbers, and refuse what does not fit."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from backends import tensor
from spelling import spelled
from target_outputs import BINARY, LOGITS, PROBABILITIES, SIGMOID, Z, evaluate, outputs

from keras_gradcam import Class, Output, TopClass, Unit
from keras_gradcam.attribution.targets.classes import class_numbers
from keras_gradcam.attribution.targets.outputs import as_target

ONE_EACH = [3, 0, 1]
ROWS = np.arange(3)


@pytest.mark.parametrize(
    ("target", "scores"),
    [
        (Class(2), LOGITS[:, 2]),
        (Class(0), LOGITS[:, 0]),
        (Class(ONE_EACH), LOGITS[ROWS, ONE_EACH]),
        (Class(np.array(ONE_EACH)), LOGITS[ROWS, ONE_EACH]),
        (Class(), LOGITS.max(1)),
        (Class(2, logits=False), PROBABILITIES[:, 2]),
        (Class(ONE_EACH, logits=False), PROBABILITIES[ROWS, ONE_EACH]),
        (Class(logits=False), PROBABILITIES.max(1)),
        (Unit(2), PROBABILITIES[:, 2]),
        (Unit(ONE_EACH), PROBABILITIES[ROWS, ONE_EACH]),
        (2, LOGITS[:, 2]),
        (np.int64(2), LOGITS[:, 2]),
        (ONE_EACH, LOGITS[ROWS, ONE_EACH]),
        (tuple(ONE_EACH), LOGITS[ROWS, ONE_EACH]),
        (np.array(ONE_EACH, "uint8"), LOGITS[ROWS, ONE_EACH]),
        (np.eye(4)[ONE_EACH], LOGITS[ROWS, ONE_EACH]),
        (Class(np.eye(4)[ONE_EACH], logits=False), PROBABILITIES[ROWS, ONE_EACH]),
        (np.array(ONE_EACH)[:, None], LOGITS[ROWS, ONE_EACH]),
        (Output("species", np.eye(4)[ONE_EACH]), LOGITS[ROWS, ONE_EACH]),
        (None, LOGITS.max(1)),
        (lambda predictions: predictions[:, 1] ** 2, PROBABILITIES[:, 1] ** 2),
        (Output("species", 2), LOGITS[:, 2]),
        (Output(0, Class(1, logits=False)), PROBABILITIES[:, 1]),
    ],
    ids=spelled,
)
def test_scores(target, scores):
    np.testing.assert_allclose(evaluate(target)[0], scores, rtol=1e-6)


@pytest.mark.parametrize(
    ("target", "classes"),
    [
        (Class(2), [2, 2, 2]),
        (Class(ONE_EACH), ONE_EACH),
        (Class(), LOGITS.argmax(1)),
        (Class(logits=False), LOGITS.argmax(1)),
        (-Class(2), None),
        (3 * Class(), LOGITS.argmax(1)),
        (Output("species"), LOGITS.argmax(1)),
        (Class(3) - Class(5 - 4), None),
        (Unit(1), None),
        (lambda predictions: predictions[:, 0], None),
    ],
    ids=spelled,
)
def test_explained_class(target, classes):
    actual = evaluate(target)[1]
    assert (actual is None) == (classes is None)
    if classes is not None:
        np.testing.assert_array_equal(actual, classes)


@pytest.mark.parametrize(
    ("target", "scores", "classes"),
    [
        (Class(1), Z[:, 0], [1, 1, 1]),
        (Class(0), -Z[:, 0], [0, 0, 0]),
        (Class([0, 1, 0]), [-2.0, -1.5, -0.25], [0, 1, 0]),
        (Class(), np.abs(Z[:, 0]), [1, 0, 1]),
        (Class(1, logits=False), SIGMOID[:, 0], [1, 1, 1]),
        (Class(0, logits=False), 1 - SIGMOID[:, 0], [0, 0, 0]),
        (Class(logits=False), np.maximum(SIGMOID, 1 - SIGMOID)[:, 0], [1, 0, 1]),
        (-Class(1), -Z[:, 0], None),
        (Class(1) - Class(0), 2 * Z[:, 0], None),
    ],
    ids=spelled,
)
def test_one_unit_has_two_classes(target, scores, classes):
    actual = evaluate(target, BINARY)
    np.testing.assert_allclose(actual[0], scores, rtol=1e-6)
    np.testing.assert_array_equal(actual[1], classes)


def test_infinite_logit_of_another_class_does_not_spoil_the_score():
    logits = LOGITS.copy()
    logits[0, 1] = -np.inf
    np.testing.assert_array_equal(evaluate(Class(3), outputs(PROBABILITIES, logits, "softmax"))[0], LOGITS[:, 3])


# --------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize("index", [-1, 1.0, 1.5, True, "cat", np.inf], ids=spelled)
@pytest.mark.parametrize("target", [Class, Unit])
def test_index_must_be_a_whole_number(target, index):
    with pytest.raises(ValueError, match=r"`index` must be a whole number >= 0") as caught:
        target(index)
    assert repr(index) in str(caught.value)


@pytest.mark.parametrize(
    "index", [[], [1, -1], [1.0, 2.0], [[1, 2]], [[0, 1]], [True, False], np.array([0.5])], ids=spelled
)
def test_units_must_be_whole_numbers(index):
    with pytest.raises(ValueError, match=r"`index` must be a whole number >= 0") as caught:
        Unit(index)
    assert repr(index) in str(caught.value)


NO_LABELS = [
    [],
    [1, -1],
    [1.0, 2.5],
    [1.0, np.nan],
    [1.0, np.inf],
    np.array([0, 2**64 - 1], "uint64"),
    [[1, 2]],
    [[1, 1, 0]],
    [[0, 0, 0]],
    [[2, -1]],
    [[True, True]],
    np.zeros((0, 3)),
    np.eye(3)[None],
    [1 + 0j],
    [[1], [1, 2]],
]


@pytest.mark.parametrize("index", NO_LABELS, ids=spelled)
def test_what_are_no_labels_is_refused(index):
    with pytest.raises(ValueError, match=r"^`index` must be "):
        Class(index)
    with pytest.raises(ValueError, match=r"^`target` must be "):
        as_target(index)


@pytest.mark.parametrize("names", ["cat", ["cat", "dog"], ("id7", "id9"), np.array(["cat", "dog"]), np.array([b"cat"])])
def test_names_of_classes_are_answered_with_numbers(names):
    with pytest.raises(ValueError, match=r"^`target` must .*Candidates: class numbers.*`class_names`"):
        as_target(names)
    with pytest.raises(ValueError, match=r"^`index` must .*Candidates: class numbers.*`class_names`"):
        Class(names)


def test_names_of_identities_are_answered_with_a_way_to_number_them():
    names = ["id7", "id3", "id7", "id9"]
    with pytest.raises(ValueError, match=r"`probe` must be class numbers.*'id7'.*np\.unique\(labels, return_inverse"):
        class_numbers("probe", names)


def test_soft_labels_are_refused_with_the_way_to_harden_them():
    soft = np.array([[0.1, 0.9], [0.6, 0.4]])
    with pytest.raises(ValueError, match=r"one-hot rows.*Candidates: labels\.argmax\(axis=1\)"):
        as_target(soft)
    np.testing.assert_array_equal(class_numbers("probe", soft, soft=True), [1, 0])
    with pytest.raises(ValueError, match=r"one-hot rows"):
        class_numbers("probe", [[0.5, 0.9]], soft=True)


def test_labels_of_several_classes_are_refused_with_the_target_that_says_so():
    with pytest.raises(ValueError, match=r"one-hot rows.*Candidates: .*`Class\(0\) \+ Class\(3\)`"):
        class_numbers("probe[1]", [[1, 0, 1], [0, 1, 0]], soft=True)


@pytest.mark.parametrize(
    "kind", ["int64", "uint8", "float32", "float16", "tensor", "list", "column", "one-hot", "bool"]
)
def test_labels_as_data_sets_have_them_mean_those_classes(kind):
    labels = np.array([1, 0, 1, 1])
    given = {
        "tensor": tensor(labels),
        "list": labels.tolist(),
        "column": labels[:, None].astype("uint8"),
        "one-hot": keras.utils.to_categorical(labels, 3),
        "bool": labels.astype(bool),
    }.get(kind)
    given = labels.astype(kind) if given is None else given
    for target in (Class(given), as_target(given)):
        assert repr(target) == "Class([1, 0, 1, 1])"
        np.testing.assert_array_equal(target.arguments(4)[0], labels)


@pytest.mark.parametrize("index", [4, 400, [0, 1, 4], 2**40])
@pytest.mark.parametrize("logits", [True, False])
def test_class_out_of_range_names_the_range(index, logits):
    with pytest.raises(ValueError, match=rf"class {np.max(index)}.*Candidates: 0 to 3"):
        evaluate(Class(index, logits=logits))


def test_class_two_of_one_unit_is_out_of_range():
    with pytest.raises(ValueError, match=r"Candidates: 0 to 1"):
        evaluate(Class(2), BINARY)


def test_unit_out_of_range_names_the_range():
    with pytest.raises(ValueError, match=r"Unit\(4\).*Candidates: 0 to 3"):
        evaluate(Unit(4))


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("target", [Class, Unit, lambda index: Class(0) - Class(index), lambda i: Output("species", i)])
def test_one_class_per_sample_must_match_the_number_of_samples(target, count):
    with pytest.raises(ValueError, match=rf"Received: {count} for 3 pictures"):
        target([0] * count).arguments(3)


@pytest.mark.parametrize("shape", [(3, 4, 4, 5), (3, 1, 4, 5), (3, 2, 2)])
@pytest.mark.parametrize("target", [Class(0), Unit(0)], ids=spelled)
def test_output_that_is_no_table_of_classes_is_refused(target, shape):
    with pytest.raises(ValueError, match=r"`target` must") as caught:
        target.check(outputs(np.zeros(shape, "float32")))
    assert str(shape) in str(caught.value)


def shaped(values, extents):
    """The same outputs with axes of extent 1 beside batch and classes."""
    return np.reshape(values, (len(values), *extents))


@pytest.mark.parametrize("extents", [(1, 1, 4), (1, 4), (4, 1), (1, 1, 1, 4)])
def test_axes_of_extent_one_do_not_count(extents):
    of = outputs(shaped(PROBABILITIES, extents), shaped(LOGITS, extents), "softmax")
    for target in (Class(ONE_EACH), Class(), Class(2, logits=False), TopClass(1), Unit(3)):
        found, classes = evaluate(target, of)
        expected, expected_classes = evaluate(target)
        np.testing.assert_allclose(found, expected, rtol=1e-6)
        np.testing.assert_array_equal(classes, expected_classes)


def test_outputs_of_one_number_per_sample_are_one_unit():
    of = outputs(SIGMOID[:, 0], Z[:, 0], "sigmoid")
    for target in (Class(), Class(0), Class(1, logits=False), Unit(0)):
        for found, expected in zip(evaluate(target, of), evaluate(target, BINARY), strict=True):
            np.testing.assert_array_equal(found, expected)


def test_a_unit_of_which_nothing_says_that_it_stands_for_classes_is_a_value():
    value = outputs(Z)
    scores, classes = evaluate(Class(), value)
    np.testing.assert_array_equal(scores, Z[:, 0])
    np.testing.assert_array_equal(classes, [-1] * 3)
    assert Class().quantity_of(value) == Unit(0).quantity_of(value) == ("value", 1.0)
    np.testing.assert_array_equal(evaluate(Unit(0), value)[0], Z[:, 0])
    # Classes named, or a loss of classes, say otherwise.
    for of, target in ((value, Class([0, 1, 0])), (outputs(Z, ending="logits"), Class([0, 1, 0]))):
        np.testing.assert_array_equal(evaluate(target, of)[0], Z[:, 0] * [-1, 1, -1])
    np.testing.assert_array_equal(evaluate(Class(), outputs(Z, ending="logits"))[0], np.abs(Z[:, 0]))
    assert Class(1).quantity_of(value)[0] == Class().quantity_of(BINARY)[0] == "score"


def test_units_known_to_be_probabilities_are_not_taken_for_scores():
    averaged = outputs(SIGMOID, ending="probabilities")
    scores, classes = evaluate(Class(), averaged)
    np.testing.assert_array_equal(classes, SIGMOID[:, 0] >= 0.5)
    np.testing.assert_allclose(scores, np.maximum(SIGMOID, 1 - SIGMOID)[:, 0], rtol=1e-6)
    np.testing.assert_allclose(evaluate(Class(0), averaged)[0], 1 - SIGMOID[:, 0], rtol=1e-6)
    np.testing.assert_array_equal(evaluate(TopClass(0), averaged)[1], classes)
    np.testing.assert_array_equal(evaluate(TopClass(1), averaged)[1], 1 - classes)
