"""Explainer, explain and Explanation: numbers computed by hand, batches, inputs of all kinds, current weights."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from backends import numbers
from keras import layers as L  # noqa: N812
from models import CLASSES, SIZE, ConvnetByHand, convnet, images
from oracles import (
    assert_close,
    assert_same,
    guided_gradcam_by_hand,
    input_gradient,
    plain_gradcam,
    rectifier,
    upsample_by_hand,
)

from keras_gradcam import Class, Explainer, Unit, explain
from keras_gradcam.attribution.explainer import as_explainer

# ----------------------------------------------------------------------------------------------------- computed by hand


def tiny():
    """A_0 = relu(x), A_1 = relu(-x) on 2 x 2 cells, mean, logits 2 A_0 - A_1 + 10 and A_0 + 3 A_1 - 7."""
    model = keras.Sequential(
        [
            keras.Input((2, 2, 1)),
            L.Conv2D(2, 1, activation="relu", name="conv"),
            L.GlobalAveragePooling2D(),
            L.Dense(2, activation="softmax"),
        ]
    )
    model.set_weights(
        [np.array([[[[1.0, -1.0]]]]), np.zeros(2), np.array([[2.0, 1.0], [-1.0, 3.0]]), np.array([10.0, -7.0])]
    )
    return model


TINY_IMAGE = np.array([[1.0, 2.0], [3.0, -4.0]], "float32")[None, ..., None]


@pytest.mark.parametrize(
    ("target", "score", "gradcam", "guided"),
    [
        (0, 12.0, [[0.5, 1.0], [1.5, 0.0]], [[0.5, 0.5], [0.5, 0.0]]),
        (1, -2.5, [[0.25, 0.5], [0.75, 3.0]], [[0.25, 0.25], [0.25, -0.75]]),
        (-Class(0), -12.0, [[0.0, 0.0], [0.0, 1.0]], [[0.0, 0.0], [0.0, -0.25]]),
        (Class(0) - Class(1), 14.5, [[0.25, 0.5], [0.75, 0.0]], [[0.25, 0.25], [0.25, 0.0]]),
    ],
    ids=repr,
)
def test_hand_computed_network(target, score, gradcam, guided):
    result = explain(tiny(), TINY_IMAGE, target=target)
    np.testing.assert_allclose(result.scores, [score], rtol=1e-6)
    np.testing.assert_allclose(result.gradcam[0], gradcam, atol=1e-6)
    np.testing.assert_allclose(result.heatmap[0], gradcam, atol=1e-6)
    np.testing.assert_allclose(result.guided_backprop[0, ..., 0], guided, atol=1e-6)
    np.testing.assert_allclose(result.guided_gradcam[0, ..., 0], np.multiply(gradcam, guided), atol=1e-6)
    assert result.layer == "conv"


def test_heatmap_of_a_coarser_grid_by_hand():
    model = keras.Sequential(
        [
            keras.Input((1, 4, 1)),
            L.Conv2D(1, (1, 2), strides=2, activation="relu", use_bias=False),
            L.Flatten(),
            L.Dense(1),
        ]
    )
    model.set_weights([np.full((1, 2, 1, 1), 0.5), np.array([[2.0], [0.0]]), np.zeros(1)])
    image = np.array([1.0, 3.0, 0.0, 12.0], "float32").reshape(1, 1, 4, 1)
    result = explain(model, image, target=1, methods="gradcam")
    # A = (2, 6), gradient (2, 0), so alpha = 1; upsampled to four pixels
    np.testing.assert_allclose(result.gradcam, [[[2.0, 6.0]]])
    np.testing.assert_allclose(result.heatmap, [[[2.0, 3.0, 5.0, 6.0]]])


@pytest.mark.parametrize("of_class", range(CLASSES))
def test_mean_and_dense_head_gives_class_activation_maps(of_class):
    """There alpha = W / (h w), and the map before the ReLU sums to the logit without its bias."""
    model = convnet(activation="relu")
    explainer = Explainer(model, methods="gradcam")
    speaking_for, speaking_against = explainer(images(), Class(of_class)), explainer(images(), -Class(of_class))
    features = numbers(keras.Model(model.input, model.get_layer("conv2").output)(images()))
    kernel, bias = model.get_layer("dense").get_weights()
    raw = features @ kernel[:, of_class] / (6 * 5)
    assert_close(speaking_for.gradcam, np.maximum(raw, 0))
    assert_close(speaking_against.gradcam, np.maximum(-raw, 0))
    difference = (speaking_for.gradcam - speaking_against.gradcam).sum((1, 2))
    np.testing.assert_allclose(difference, speaking_for.scores - bias[of_class], rtol=1e-4, atol=1e-4)


def test_all_results_of_one_pass_equal_the_oracles():
    model = convnet(activation="relu")
    result = explain(model, images(), target=[3, 0, 1])
    ordinary, guided = (
        ConvnetByHand(model, [getattr(rectifier(), kind)()] * 2, fused=True) for kind in ("ordinary", "guided")
    )

    def one_each(logits):
        return keras.ops.sum(logits * keras.ops.one_hot([3, 0, 1], CLASSES), axis=1)

    gradcam = plain_gradcam(ordinary.features, lambda a: one_each(ordinary.logits(a)), images())
    backprop = input_gradient(lambda x: one_each(guided.logits(guided.features(x))), images())
    assert_close(result.scores, gradcam.scores)
    assert_close(result.gradcam, gradcam.gradcam)
    assert_close(result.heatmap, upsample_by_hand(gradcam.gradcam, SIZE))
    assert_close(result.guided_backprop, backprop)
    assert_close(result.guided_gradcam, guided_gradcam_by_hand(backprop, gradcam.gradcam))
    np.testing.assert_array_equal(result.classes, [3, 0, 1])
    for array in (result.scores, result.gradcam, result.heatmap, result.guided_backprop, result.guided_gradcam):
        assert array.dtype == np.float32


PREDICTING_SEVERAL = 2  # the seed of a network that sees several classes in the pictures


def test_predictions_equal_those_of_the_model():
    model = convnet(activation="relu", seed=PREDICTING_SEVERAL)
    result = explain(model, images(5))
    np.testing.assert_allclose(result.predictions, model.predict(images(5), verbose=0), rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(result.classes, result.predictions.argmax(1))
    assert len(set(result.classes.tolist())) > 1, "the pictures should not all be of one class"


# ------------------------------------------------------------------------------------------------------ batches, inputs


ONE_EACH = [3, 0, 1, 2, 2, 1, 0]


@pytest.fixture(scope="module")
def model():
    return convnet(activation="relu")


@pytest.fixture(scope="module")
def singles(model):
    explainer = Explainer(model)
    return [explainer(images(7)[n : n + 1], [one]) for n, one in enumerate(ONE_EACH)]


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_batch_equals_single_pictures(model, singles, batch_size):
    result = Explainer(model, batch_size=batch_size)(images(7), ONE_EACH)
    assert len(result) == 7
    for n, single in enumerate(singles):
        assert_same(result[n], single)


@pytest.mark.parametrize("size", [(12, 10), (10, 12), (5, 16)])
def test_height_and_width_are_not_swapped(size):
    """A head that reads one corner only makes a map whose hottest cell is there."""
    inputs = keras.Input((*size, 1))
    features = L.Conv2D(1, 1, activation="relu", kernel_initializer="ones", name="conv")(inputs)
    corner = L.Lambda(lambda x: x[:, 1, -2, :])(features)
    model = keras.Model(inputs, corner)
    pictures = np.zeros((1, *size, 1), "float32")
    pictures[0, 1, -2] = 5.0
    result = explain(model, pictures, target=Unit(0))
    expected = np.zeros((1, *size))
    expected[0, 1, -2] = 5.0 / (size[0] * size[1])
    np.testing.assert_allclose(result.gradcam, expected, rtol=1e-6)
    np.testing.assert_allclose(result.guided_backprop[..., 0], expected > 0, rtol=1e-6)


# -------------------------------------------------------------------------------------------------------------- methods

METHODS = ["gradcam", "guided_backprop", "guided_gradcam"]


@pytest.fixture(scope="module")
def complete(model):
    return explain(model, images(), target=1)


@pytest.mark.parametrize("methods", [*METHODS, METHODS[:2], METHODS[1:], METHODS[::2]])
def test_only_what_was_asked_for_is_there_and_it_is_the_same(model, complete, methods):
    result = explain(model, images(), target=1, methods=methods)
    asked = {methods} if isinstance(methods, str) else set(methods)
    for name in METHODS:
        if name in asked:
            assert_close(getattr(result, name), getattr(complete, name))
        else:
            assert getattr(result, name) is None
    assert (result.heatmap is None) == ("gradcam" not in asked)
    assert result.layer == (None if asked == {"guided_backprop"} else "conv2")


@pytest.mark.parametrize("batch_size", [0, -1, 1.5, True, None, "8"])
def test_batch_size_must_be_a_whole_number(model, batch_size):
    with pytest.raises(ValueError, match=r"`batch_size`"):
        Explainer(model, batch_size=batch_size)


@pytest.mark.parametrize("wrong", [None, "model", lambda x: x, L.Dense, keras.Model])
def test_what_is_no_model_is_refused(wrong):
    with pytest.raises(ValueError, match=r"`model` must be a Keras 3 model"):
        Explainer(wrong)


@pytest.mark.parametrize("target", ["cat", 1.5, -1, Class])
def test_wrong_target_is_refused_at_once(model, target):
    with pytest.raises(ValueError, match=r"`target` must"):
        Explainer(model, target=target)


@pytest.mark.parametrize("target", [4, [0, 1], [0, 1, 9], Unit(7), Class(0) - Class(4)])
def test_target_that_does_not_fit_is_refused(model, target):
    with pytest.raises(ValueError, match=r"`target` must"):
        explain(model, images(), target=target)


def test_explainers_own_target_serves_where_none_is_given(model):
    explainer = Explainer(model, target=2)
    np.testing.assert_array_equal(explainer(images()).classes, [2, 2, 2])
    np.testing.assert_array_equal(explainer(images(), 1).classes, [1, 1, 1])
    np.testing.assert_array_equal(explainer(images()).classes, [2, 2, 2])


def test_explainer_says_what_it_explains(model):
    assert repr(Explainer(model)) == (
        f"Explainer({model.name!r}, layer=the last feature map, target=Class(), "
        "methods=('gradcam', 'guided_backprop', 'guided_gradcam'))"
    )
    chosen = Explainer(model, layer=model.get_layer("conv1"), target=3, methods="gradcam")
    assert repr(chosen) == f"Explainer({model.name!r}, layer=Conv2D 'conv1', target=Class(3), methods=('gradcam',))"
    many = Explainer(model, layer="conv1", target=np.arange(1000) % CLASSES)
    assert "layer='conv1', target=Class([0, 1, " in repr(many)
    assert len(repr(many)) < 200


def test_labels_of_a_data_set_are_explained(model):
    labels = np.array([3, 0, 1])
    expected = explain(model, images(), target=Class(labels))
    np.testing.assert_array_equal(expected.classes, labels)
    explainer = Explainer(model)
    for given in (labels[:, None], np.eye(CLASSES)[labels], np.eye(CLASSES, dtype=int)[labels], labels.astype(float)):
        assert_same(explainer(images(), given), expected)


def test_a_model_or_an_explainer_is_taken_for_an_explainer(model):
    explainer = Explainer(model, layer="conv1")
    assert as_explainer(explainer) is explainer
    assert as_explainer(explainer, methods="saliency").methods == explainer.methods
    made = as_explainer(model, layer="conv1", methods="saliency")
    assert (made.model, made.methods) == (model, ("saliency",))
    with pytest.raises(ValueError, match=r"`layer` must be given to the explainer.*layer='conv2'"):
        as_explainer(explainer, layer="conv2")


def test_the_explained_layer_is_named_for_pictures_like_these(model):
    assert Explainer(model, methods="gradcam").explained_layer(images(2)) == "conv2"
    assert Explainer(model, layer="conv1", methods="layercam").explained_layer(images(2)) == "conv1"
    assert Explainer(model, methods="saliency").explained_layer(images(2)) is None
    with pytest.raises(ValueError, match="`images` must have the shape"):
        Explainer(model).explained_layer(images(2, channels=1))
