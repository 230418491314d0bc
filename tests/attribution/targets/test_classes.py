"""Targets give the numbers they promise, combine like numbers, and refuse what does not fit."""

from __future__ import annotations

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_gradcam import Class, Output, Target, Unit
from keras_gradcam.attribution.targets.classes import class_numbers
from keras_gradcam.attribution.targets.outputs import as_target
from keras_gradcam.engine.base import Outputs

LOGITS = np.array([[1.0, -2.0, 0.5, 3.0], [0.0, 4.0, -1.0, 2.0], [-3.0, -1.0, -2.0, -4.0]], "float32")
PROBABILITIES = np.exp(LOGITS) / np.exp(LOGITS).sum(1, keepdims=True)
Z = np.array([[2.0], [-1.5], [0.25]], "float32")
SIGMOID = 1 / (1 + np.exp(-Z))


def outputs(predictions, logits=None, ending="", names=()):
    tensor = tf.constant(predictions)
    return Outputs(tensor, tensor if logits is None else tf.constant(logits), ending, tensor, names)


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
    values = [tf.constant(array) for array in target.arguments(samples)]
    assert len(values) == target.num_arguments
    classes = target.classes(of, values)
    return target.scores(of, values).numpy(), None if classes is None else classes.numpy()


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
    ids=repr,
)
def test_scores(target, scores):
    np.testing.assert_allclose(evaluate(target)[0], scores, rtol=1e-6)


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
    ids=repr,
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
    ids=repr,
)
def test_one_unit_has_two_classes(target, scores, classes):
    actual = evaluate(target, BINARY)
    np.testing.assert_allclose(actual[0], scores, rtol=1e-6)
    np.testing.assert_array_equal(actual[1], classes)


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
    ids=repr,
)
def test_outputs_by_name_and_position(of, target, scores, classes):
    actual = evaluate(target, of)
    np.testing.assert_allclose(actual[0], scores, rtol=1e-6)
    np.testing.assert_array_equal(actual[1], classes)


def test_function_sees_the_structure_the_model_returns():
    target = as_target(lambda predictions: predictions["species"][:, 0] + predictions["alive"][:, 0])
    np.testing.assert_allclose(evaluate(target, KEYED)[0], PROBABILITIES[:, 0] + SIGMOID[:, 0], rtol=1e-6)


def test_infinite_logit_of_another_class_does_not_spoil_the_score():
    logits = LOGITS.copy()
    logits[0, 1] = -np.inf
    np.testing.assert_array_equal(evaluate(Class(3), outputs(PROBABILITIES, logits, "softmax"))[0], LOGITS[:, 3])


# --------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize("index", [-1, 1.0, 1.5, True, "cat", np.inf], ids=repr)
@pytest.mark.parametrize("target", [Class, Unit])
def test_index_must_be_a_whole_number(target, index):
    with pytest.raises(ValueError, match=r"`index` must be a whole number >= 0") as caught:
        target(index)
    assert repr(index) in str(caught.value)


@pytest.mark.parametrize(
    "index", [[], [1, -1], [1.0, 2.0], [[1, 2]], [[0, 1]], [True, False], np.array([0.5])], ids=repr
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


@pytest.mark.parametrize("index", NO_LABELS, ids=repr)
def test_what_are_no_labels_is_refused(index):
    with pytest.raises(ValueError, match=r"^`index` must be "):
        Class(index)
    with pytest.raises(ValueError, match=r"^`target` must be "):
        as_target(index)


@pytest.mark.parametrize("value", [-1, 1.5, True, "cat", [], [0.5, 2.0], Class, object(), {"a": 1}], ids=repr)
def test_what_is_no_target_is_refused(value):
    with pytest.raises(ValueError, match=r"`target` must"):
        as_target(value)


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
        "tensor": tf.constant(labels),
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


@pytest.mark.parametrize("target", [Class(5) - Class(0), -Class(5), Class(0) + 2 * Class(5), Output("species", 5)])
def test_terms_inside_other_targets_are_checked(target):
    with pytest.raises(ValueError, match=r"class 5"):
        evaluate(target)


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("target", [Class, Unit, lambda index: Class(0) - Class(index), lambda i: Output("species", i)])
def test_one_class_per_sample_must_match_the_number_of_samples(target, count):
    with pytest.raises(ValueError, match=rf"Received: {count} for 3 pictures"):
        target([0] * count).arguments(3)


@pytest.mark.parametrize("target", [Class(1), Class(), Unit(0), Class(1) - Class(0)], ids=repr)
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


@pytest.mark.parametrize("shape", [(3, 4, 4, 5), (3,), (3, 2, 2)])
@pytest.mark.parametrize("target", [Class(0), Unit(0)], ids=repr)
def test_output_that_is_no_table_of_classes_is_refused(target, shape):
    with pytest.raises(ValueError, match=r"`target` must") as caught:
        target.check(outputs(np.zeros(shape, "float32")))
    assert str(shape) in str(caught.value)


@pytest.mark.parametrize(
    "operation", [lambda t: t + 1, lambda t: 1 - t, lambda t: t * "a", lambda t: t * True, lambda t: t * t]
)
def test_other_arithmetic_is_a_type_error(operation):
    with pytest.raises(TypeError):
        operation(Class(1))


# ------------------------------------------------------------------------------------------------------------- identity


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


def test_functions_share_a_trace_only_with_themselves():
    one, other = (lambda y: y[:, 0]), (lambda y: y[:, 0])
    assert as_target(one).cache_key() == as_target(one).cache_key()
    assert as_target(one).cache_key() != as_target(other).cache_key()


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


def test_any_callable_is_a_target():
    class Scorer:
        def __call__(self, predictions):
            return predictions[:, 1]

    def power(predictions, exponent):
        return predictions[:, 1] ** exponent

    np.testing.assert_allclose(evaluate(Scorer())[0], PROBABILITIES[:, 1])
    np.testing.assert_allclose(evaluate(functools.partial(power, exponent=3))[0], PROBABILITIES[:, 1] ** 3, rtol=1e-6)


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
