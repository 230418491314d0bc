"""Maps of logits, probabilities and embeddings, and what is found before the end of a model."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers as L  # noqa: N812
from models import (
    CLASSES,
    SIZE,
    ConvnetByHand,
    convnet,
    images,
    logits,
    named,
    randomised,
)
from oracles import (
    rectifier,
)
from tapes import check_gradcam, mean, picked

from keras_gradcam import Class, Unit, explain


@pytest.mark.parametrize(("of_class", "sign"), [(1, 1), (0, -1)])
@pytest.mark.parametrize("activation", ["sigmoid", None])
def test_one_unit(activation, of_class, sign):
    model = convnet(activation="relu", dense={"units": 1, "activation": activation}, seed=1)
    by_hand = ConvnetByHand(model, [rectifier().ordinary()] * 2, fused=True)
    result = explain(model, images(), target=of_class, methods="gradcam")
    check_gradcam(result, by_hand.features, lambda a: sign * by_hand.logits(a)[:, 0], images())
    np.testing.assert_array_equal(result.classes, [of_class] * 3)


def test_predicted_class_of_one_unit():
    model = convnet(activation="relu", dense={"units": 1, "activation": "sigmoid"})
    pictures = images(6)
    dense = model.get_layer("dense")
    z = dense.bias.numpy() - np.median(explain(model, pictures, target=1, methods="gradcam").scores)
    dense.bias.assign(z)
    result = explain(model, pictures)
    probability = model.predict(pictures, verbose=0)[:, 0]
    np.testing.assert_array_equal(result.classes, probability > 0.5)
    assert set(result.classes.tolist()) == {0, 1}
    np.testing.assert_allclose(result.scores, np.abs(np.log(probability / (1 - probability))), rtol=1e-3)


FINAL_ACTIVATIONS = {
    "softmax": ("softmax", keras.ops.softmax),
    "log_softmax": ("log_softmax", keras.ops.log_softmax),
    "sigmoid": ("sigmoid", keras.ops.sigmoid),
    "none": (None, lambda x: x),
}


@pytest.mark.parametrize("ending", FINAL_ACTIVATIONS)
def test_logits_are_explained_unless_told_otherwise(ending):
    activation, function = FINAL_ACTIVATIONS[ending]
    model = convnet(activation="relu", dense={"activation": activation})
    named(model, "dense").kernel.assign(named(model, "dense").kernel * 0.1)  # far from saturated
    by_hand = ConvnetByHand(model, [rectifier().ordinary()] * 2, fused=True)
    result = explain(model, images(), target=Class(3), methods="gradcam")
    check_gradcam(result, by_hand.features, lambda a: by_hand.logits(a)[:, 3], images())
    result = explain(model, images(), target=Class(3, logits=False), methods="gradcam")
    check_gradcam(result, by_hand.features, lambda a: function(by_hand.logits(a))[:, 3], images(), 1e-4)


@pytest.mark.parametrize(
    "ending",
    [
        L.Softmax,
        lambda: L.Activation("softmax"),
        lambda: L.Lambda(lambda x: keras.ops.softmax(x)),
        lambda: keras.ops.softmax,
    ],
)
def test_softmax_is_found_wherever_it_is(ending):
    inputs = keras.Input((*SIZE, 3))
    dense = L.Dense(CLASSES, name="dense")
    x = dense(L.GlobalAveragePooling2D()(L.Conv2D(4, 3, activation="relu", name="conv")(inputs)))
    model = randomised(keras.Model(inputs, L.Identity()(ending()(x))))
    result = explain(model, images(), target=1, methods="gradcam")
    check_gradcam(result, model.get_layer("conv"), lambda a: logits(dense, mean(a))[:, 1], images())


def test_saturated_softmax_keeps_its_map():
    model = convnet(activation="relu", seed=2)
    dense = named(model, "dense")
    dense.kernel.assign(dense.kernel * 1000)
    result = explain(model, images())
    assert (result.predictions.max(1) == 1.0).all()
    by_hand = ConvnetByHand(model, [rectifier().ordinary()] * 2, fused=True)
    check_gradcam(result, by_hand.features, lambda a: picked(by_hand.logits(a), result.classes), images())
    assert (result.gradcam.max((1, 2)) > 1).all()
    with pytest.warns(UserWarning, match="gradient has vanished"):
        saturated = explain(model, images(), target=Class(logits=False), methods="gradcam")
    np.testing.assert_array_equal(saturated.gradcam, np.zeros_like(result.gradcam))
    np.testing.assert_array_equal(saturated.scores, [1, 1, 1])


BEHIND = {
    "reshape": (L.Reshape((1, 1, CLASSES)), lambda z: z),
    "flatten": (lambda p: L.Flatten()(L.Reshape((1, CLASSES))(p)), lambda z: z),
    "cast": (lambda p: keras.ops.cast(p, "float64"), lambda z: z),
    "clip": (lambda p: keras.ops.clip(p, 1e-7, 1 - 1e-7), lambda z: z),
    "slice": (lambda p: p[:, 1:], lambda z: z[:, 1:]),
    "reversed": (lambda p: p[:, ::-1], lambda z: z[:, ::-1]),
    "new axis": (lambda p: p[:, None], lambda z: z),
    "permuted": (lambda p: L.Permute((2, 1))(L.Reshape((1, CLASSES))(p)), lambda z: z),
}


@pytest.mark.parametrize("behind", BEHIND)
@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_activations_are_found_behind_what_only_moves_their_values(activation, behind):
    end, moved = BEHIND[behind]
    inputs = keras.Input((*SIZE, 3))
    dense = L.Dense(CLASSES, name="dense")
    x = dense(L.GlobalAveragePooling2D()(L.Conv2D(4, 3, activation="relu", name="conv")(inputs)))
    model = randomised(keras.Model(inputs, end(L.Activation(activation)(x))))
    result = explain(model, images(), target=1, methods="gradcam")
    check_gradcam(result, model.get_layer("conv"), lambda a: moved(logits(dense, mean(a)))[:, 1], images())
    returned = np.asarray(model(images())).reshape(3, -1)
    np.testing.assert_allclose(result.probabilities, returned, rtol=1e-5)


def test_sigmoids_side_by_side_have_their_scores_side_by_side():
    inputs = keras.Input((*SIZE, 3))
    pooled = L.GlobalAveragePooling2D()(L.Conv2D(4, 3, activation="relu", name="conv")(inputs))
    heads = [L.Dense(1, name=name) for name in ("cat", "dog", "cow")]
    both = L.Concatenate()([L.Activation("sigmoid")(head(pooled)) for head in heads])
    model = randomised(keras.Model(inputs, both))
    result = explain(model, images(), target=2, methods="gradcam")
    check_gradcam(result, model.get_layer("conv"), lambda a: logits(heads[2], mean(a))[:, 0], images())


TOGETHER = {
    "average": lambda p, q: L.Average()([p, q]),
    "weighted": lambda p, q: 0.25 * p + 0.75 * q,
    "product": lambda p, q: p * q,
    "smaller": lambda p, q: L.Minimum()([p, q]),
    "or": lambda p, q: 1 - (1 - p) * (1 - q),
}


@pytest.mark.parametrize("together", TOGETHER)
@pytest.mark.parametrize("units", [1, 3])
def test_what_is_made_of_several_probabilities_is_known_to_be_one(together, units):
    inputs = keras.Input((*SIZE, 3))
    pooled = L.GlobalAveragePooling2D()(L.Conv2D(4, 3, activation="relu", name="conv")(inputs))
    p, q = (L.Dense(units, activation="sigmoid")(pooled) for _ in range(2))
    model = randomised(keras.Model(inputs, TOGETHER[together](p, q)))
    returned = np.asarray(model(images()), "float64")
    result = explain(model, images(), methods="gradcam")
    expected = np.concatenate([1 - returned, returned], axis=1) if units == 1 else returned
    np.testing.assert_allclose(result.probabilities, expected, rtol=1e-5)
    np.testing.assert_array_equal(result.classes, expected.argmax(axis=1))


@pytest.mark.parametrize(
    ("loss", "is_value"),
    [
        (None, True),
        ("mse", True),
        (keras.losses.Huber(), True),
        (keras.losses.mean_absolute_error, True),
        (keras.losses.BinaryCrossentropy(from_logits=True), False),
        ("hinge", False),
        (keras.losses.BinaryFocalCrossentropy(from_logits=True), False),
        (["binary_crossentropy"], False),
    ],
)
def test_one_linear_unit_is_a_value_unless_the_loss_is_one_of_classes(loss, is_value):
    model = convnet(activation="relu", dense={"units": 1, "activation": None}, seed=1)
    if loss is not None:
        model.compile("sgd", loss)
    by_hand = ConvnetByHand(model, [rectifier().ordinary()] * 2, fused=True)
    values = np.asarray(model(images()))[:, 0]
    assert (values < 0).any()
    result = explain(model, images(), methods="gradcam")
    sign = np.ones(3) if is_value else np.sign(values)
    check_gradcam(result, by_hand.features, lambda a: sign * by_hand.logits(a)[:, 0], images())
    np.testing.assert_allclose(result.scores, sign * values, rtol=1e-5)
    assert result.quantity == ("value" if is_value else "score")
    assert (result.classes is None) == (result.probabilities is None) == is_value


def test_embedding_without_classes():
    inputs = keras.Input((*SIZE, 3))
    x = L.GlobalAveragePooling2D()(L.Conv2D(4, 3, activation="relu", name="conv")(inputs))
    model = randomised(keras.Model(inputs, L.UnitNormalization()(x)))
    result = explain(model, images(), target=Unit([0, 3, 2]), methods="gradcam")
    check_gradcam(
        result,
        model.get_layer("conv"),
        lambda a: picked(mean(a) / keras.ops.norm(mean(a), axis=1, keepdims=True), [0, 3, 2]),
        images(),
    )
    assert result.classes is None


def test_softmaxes_side_by_side_are_compared_as_probabilities():
    inputs = keras.Input((*SIZE, 3))
    pooled = L.GlobalAveragePooling2D()(L.Conv2D(4, 3, activation="relu", name="conv")(inputs))
    parts = [L.Softmax()(L.Dense(3, bias_initializer=keras.initializers.Constant(bias))(pooled)) for bias in (0, 50)]
    model = keras.Model(inputs, L.Concatenate()(parts))
    result = explain(model, images(), methods="gradcam")
    returned = np.asarray(model(images()))
    np.testing.assert_allclose(result.probabilities, returned, rtol=1e-5)
    np.testing.assert_array_equal(result.classes, returned.argmax(axis=1))
