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
    saturated = explain(model, images(), target=Class(logits=False), methods="gradcam")
    np.testing.assert_array_equal(saturated.gradcam, np.zeros_like(result.gradcam))
    np.testing.assert_array_equal(saturated.scores, [1, 1, 1])


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
