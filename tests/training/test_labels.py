"""Labels of a probe are judged by the target: explained, shown, or left aside."""

from __future__ import annotations

import warnings

import keras
import numpy as np
import pytest
from backends import BACKEND, numbers, tensorflow_only
from keras import layers as L  # noqa: N812
from models import randomised
from retrieval_sets import dataset

from keras_gradcam import Class, Explainer, GuidedGradCAMCallback, Output, Probe, Unit

N = 6
X = np.random.default_rng(0).random((N, 16, 12, 3), "float32")
KINDS = np.arange(N) % 3
AGES = np.linspace(20.5, 61, N).astype("float32")
MASKS = np.arange(N * 16 * 12).reshape(N, 16, 12, 1) % 2
SEVERAL = np.eye(3)[KINDS] + np.eye(3)[(KINDS + 1) % 3]
BOXES = [np.ones((count, 4)) for count in (1, 3, 2, 0, 1, 2)]


def network(*heads, activation=None):
    """One convolution, and a head of so many units for each."""
    inputs = keras.Input((16, 12, 3))
    x = L.GlobalAveragePooling2D()(L.Conv2D(4, 3, activation="relu", name="conv")(inputs))
    outputs = [L.Dense(units, activation, name=name)(x) for name, units in heads]
    return randomised(keras.Model(inputs, outputs if len(outputs) > 1 else outputs[0]))


def data_set(labels):
    return dataset(X, labels).batch(4)


def arrays(labels):
    return X, labels


DATA_SET = pytest.param(data_set, marks=tensorflow_only, id="tf.data")


class Batches(keras.utils.PyDataset):
    def __init__(self, labels):
        super().__init__()
        self.labels = labels

    def __len__(self):
        return 2

    def __getitem__(self, index):
        rows = slice(3 * index, 3 * index + 3)
        return X[rows], keras.tree.map_structure(lambda array: array[rows], self.labels)


def begun(model, probe, tmp_path, **options):
    """A callback that has checked everything, and the monitor of its training."""
    callback = GuidedGradCAMCallback(probe, tmp_path, methods="gradcam", **options)
    if not model.compiled:
        model.compile("sgd")
    callback.set_model(model)
    callback.on_train_begin()
    return callback, callback._monitor


def explained(model, probe, tmp_path, **options):
    """What a callback explains: target, scores, and the labels that it shows."""
    callback, monitor = begun(model, probe, tmp_path, **options)
    info = callback._frames.run.info
    return monitor._explainer.target, monitor.measure(0).explanation, [probe.label for probe in info.probes]


@pytest.mark.parametrize(
    ("labels", "target"),
    [
        (AGES, Unit(0)),
        (MASKS, Unit(1)),
        (X, lambda outputs: outputs[:, 0]),
        (SEVERAL, Class(2)),
        (-1 - KINDS, Class(1)),
        ({"boxes": np.ones((N, 9, 4)), "classes": np.ones((N, 9))}, Unit(2)),
        ([AGES, MASKS], Unit(2)),
    ],
    ids=["numbers", "masks", "pictures", "several classes", "negative", "dict", "list"],
)
@pytest.mark.parametrize("kind", [DATA_SET, Batches, arrays])
def test_labels_that_the_target_does_not_need_are_left_aside(labels, target, kind, tmp_path):
    if kind is data_set and isinstance(labels, list):
        labels = tuple(labels)
    model = network(("kind", 3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _, explanation, shown = explained(model, kind(labels), tmp_path, target=target)
    np.testing.assert_array_equal(explanation.scores, Explainer(model, methods="gradcam", target=target)(X).scores)
    assert shown == [None] * N


def test_as_many_boxes_as_there_are_objects_are_no_obstacle(tmp_path):
    model = network(("kind", 3))
    _, _, shown = explained(model, (X, BOXES), tmp_path, target=1)
    assert shown == [None] * N


@pytest.mark.parametrize(
    "labels",
    [{"kind": KINDS, "age": AGES}, [KINDS, AGES], {"kind": np.eye(3)[KINDS], "age": AGES}],
    ids=["dict", "list", "one-hot"],
)
@pytest.mark.parametrize("which", ["kind", 0])
@pytest.mark.parametrize("kind", [DATA_SET, arrays])
def test_an_output_takes_its_own_labels(labels, which, kind, tmp_path):
    if kind is data_set and isinstance(labels, list):
        labels = tuple(labels)
    model = network(("kind", 3), ("age", 1))
    target, explanation, shown = explained(model, kind(labels), tmp_path, target=Output(which))
    assert repr(target) == f"Output({which!r}, Class({KINDS.tolist()}))"
    np.testing.assert_array_equal(explanation.classes, KINDS)
    np.testing.assert_allclose(explanation.scores, numbers(model(X)[0])[np.arange(N), KINDS], rtol=1e-5)
    assert shown == KINDS.tolist()
    # What the user says counts, and so it does where the labels are of another kind.
    _, explanation, shown = explained(model, kind(labels), tmp_path, target=Output(which, Class(2)))
    np.testing.assert_array_equal(explanation.classes, [2] * N)
    assert shown == KINDS.tolist()
    _, explanation, shown = explained(model, kind(labels), tmp_path, target=Output("age"))
    np.testing.assert_allclose(explanation.scores, numbers(model(X)[1])[:, 0], rtol=1e-5)
    assert (explanation.quantity, shown) == ("value", [None] * N)


@pytest.mark.parametrize("labels", [AGES, AGES.astype(int), AGES[:, None], -AGES])
def test_numbers_to_predict_are_a_value(labels, tmp_path):
    model = network(("age", 1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _, explanation, _ = explained(model, (X, labels), tmp_path)
    assert explanation.quantity == "value"
    assert explanation.classes is None
    np.testing.assert_allclose(explanation.scores, numbers(model(X))[:, 0], rtol=1e-5)


@pytest.mark.parametrize("labels", [KINDS % 2, (KINDS % 2).astype("float32"), (KINDS % 2)[:, None], KINDS % 2 == 1])
def test_labels_zero_and_one_say_that_a_unit_stands_for_classes(labels, tmp_path):
    model = network(("alive", 1))
    _, explanation, shown = explained(model, (X, labels), tmp_path)
    np.testing.assert_array_equal(explanation.classes, KINDS % 2)
    signs = np.where(KINDS % 2, 1, -1)
    np.testing.assert_allclose(explanation.scores, signs * numbers(model(X))[:, 0], rtol=1e-5)
    assert shown == (KINDS % 2).tolist()


@pytest.mark.parametrize("labels", [SEVERAL, AGES, np.ones((N, 3))], ids=["several classes", "numbers", "ones"])
def test_labels_of_which_no_class_can_be_taken_are_said_to_be_left_aside(labels, tmp_path):
    model = network(("kind", 3), activation="sigmoid")
    with pytest.warns(UserWarning, match=r"no class numbers.*predicted at each epoch.*`target=`"):
        _, explanation, shown = explained(model, (X, labels), tmp_path)
    np.testing.assert_array_equal(explanation.classes, numbers(model(X)).argmax(axis=1))
    assert shown == [None] * N


def test_masks_of_a_segmentation_need_a_target(tmp_path):
    inputs = keras.Input((16, 12, 3))
    model = keras.Model(inputs, L.Conv2D(2, 1)(L.Conv2D(4, 3, padding="same", activation="relu")(inputs)))
    with pytest.raises(ValueError, match=r"`target` must fit the model's output.*a function"):
        begun(model, arrays(MASKS), tmp_path)
    begun(model, arrays(MASKS), tmp_path, target=lambda outputs: keras.ops.sum(outputs[..., 0], (1, 2)))


@pytest.mark.parametrize("labels", [{"kind": KINDS}, {"kind": np.eye(3)[KINDS]}])
@pytest.mark.parametrize("kind", [DATA_SET, arrays])
def test_labels_of_the_only_output_may_be_named(labels, kind, tmp_path):
    target, explanation, shown = explained(network(("kind", 3)), kind(labels), tmp_path)
    assert repr(target) == f"Class({KINDS.tolist()})"
    np.testing.assert_array_equal(explanation.classes, KINDS)
    assert shown == KINDS.tolist()


def test_weights_of_samples_are_left_aside(tmp_path):
    model = network(("kind", 3), ("age", 1))
    labels, weights = {"kind": KINDS, "age": AGES}, {"kind": np.ones(N), "age": np.ones(N)}
    sets = [(X, labels, weights)]
    if BACKEND == "tensorflow":
        sets.append(dataset(X, labels, weights).batch(4))
    for data in sets:
        _, explanation, _ = explained(model, data, tmp_path, target=Output("kind"))
        np.testing.assert_array_equal(explanation.classes, KINDS)


def test_outputs_that_labels_name_must_be_chosen(tmp_path):
    model = network(("kind", 3), ("age", 1))
    with pytest.raises(ValueError, match=r"`output` must name one output.*Output\('kind'"):
        begun(model, (X, {"kind": KINDS, "age": AGES}), tmp_path)


def test_an_explainer_of_an_output_takes_its_labels_too(tmp_path):
    model = network(("kind", 3), ("age", 1))
    probe = Probe((X, [KINDS, AGES]), limit=4)
    explainer = Explainer(model, methods="gradcam", target=Output("kind"))
    callback = GuidedGradCAMCallback(probe, tmp_path, explainer=explainer)
    model.compile("sgd")
    callback.set_model(model)
    callback.on_train_begin()
    np.testing.assert_array_equal(callback._monitor.measure(0).explanation.classes, KINDS[:4])
