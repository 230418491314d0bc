"""A score that is computed around the automatically chosen layer is said to be."""

from __future__ import annotations

import warnings

import keras
import numpy as np
import pytest
from keras import layers as L  # noqa: N812
from models import images, randomised

from keras_gradcam import Explainer, Output, explain

SIZE = (16, 12)


def conv(name, filters=4, **options):
    return L.Conv2D(filters, 3, padding="same", activation="relu", name=name, **options)


def pooled(x):
    return L.GlobalAveragePooling2D()(x)


def two_backbones(x):
    return L.Concatenate()([pooled(conv("a")(x)), pooled(conv("b2")(conv("b1")(x)))])


def three_scales(x):
    fine = conv("fine")(x)
    coarse = [pooled(conv(f"coarse{stride}", strides=stride)(fine)) for stride in (2, 4)]
    return L.Concatenate()([pooled(conv("fine2")(fine)), *coarse])


def a_nested_model_beside(x):
    inputs = keras.Input((*SIZE, 3))
    net = keras.Model(inputs, pooled(conv("inner")(conv("first")(inputs))), name="net")
    return L.Concatenate()([net(x), pooled(conv("outer")(x))])


@pytest.mark.parametrize(
    ("build", "chosen", "others"),
    [
        (two_backbones, "b2", ["a"]),
        (three_scales, "fine2", ["coarse2", "coarse4"]),
        (a_nested_model_beside, "outer", ["net/inner"]),
    ],
)
def test_branches_beside_the_chosen_one_are_named(build, chosen, others):
    inputs = keras.Input((*SIZE, 3))
    model = randomised(keras.Model(inputs, L.Dense(3, activation="softmax")(build(inputs))))
    pictures, paths = images(2, SIZE), {chosen, *others}
    explainer = Explainer(model, methods="gradcam")
    with pytest.warns(UserWarning, match="knows nothing of") as caught:
        explanation = explainer(pictures)
    (text,) = (str(warning.message) for warning in caught)
    named = explanation.layer
    assert named in paths
    assert all(repr(path) in text for path in paths)
    assert f"layer={named!r} was chosen" in text
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        explainer(pictures)  # once for each explainer
        assert set(explainer.at_layers(pictures, sorted(paths))) == paths
        explain(model, pictures, layer=others[0], methods="gradcam")


def residual(x):
    y = conv("one")(x)
    return pooled(L.Add()([L.Conv2D(4, 1, name="shortcut")(x), conv("three")(conv("two")(y))]))


def dense_block(x):
    for number in range(3):
        x = L.Concatenate()([x, conv(f"conv{number}")(x)])
    return pooled(x)


def u_shaped(x):
    down = conv("down")(x)
    deep = conv("deep")(L.MaxPooling2D(2)(down))
    return pooled(conv("up")(L.Concatenate()([down, L.UpSampling2D(2)(deep)])))


def inception(x):
    x = conv("stem")(x)
    return pooled(L.Concatenate()([conv("left")(x), conv("right")(x), L.MaxPooling2D(3, 1, "same")(x)]))


def squeeze_and_excite(x):
    x = conv("features")(x)
    gate = L.Dense(4, activation="sigmoid")(L.Dense(2, activation="relu")(pooled(x)))
    return pooled(L.Multiply()([x, L.Reshape((1, 1, 4))(gate)]))


def both_pools(x):
    x = conv("last")(x)
    return L.Concatenate()([pooled(x), L.GlobalMaxPooling2D()(L.Dropout(0.5)(x))])


@pytest.mark.parametrize(
    ("build", "last"),
    [
        (residual, "add"),
        (dense_block, "concatenate"),
        (u_shaped, "up"),
        (inception, "concatenate"),
        (squeeze_and_excite, "multiply"),
        (both_pools, "last"),
    ],
)
def test_connections_within_one_network_are_no_branches(build, last):
    inputs = keras.Input((*SIZE, 3))
    model = keras.Model(inputs, L.Dense(3, activation="softmax")(build(inputs)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = explain(model, images(2, SIZE), methods="gradcam")
    assert result.layer.startswith(last)  # Keras numbers what has no name


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("keyed", [False, True])
def test_a_feature_map_that_is_returned_too_is_still_explained(order, keyed):
    inputs = keras.Input((*SIZE, 3))
    last = conv("last")(conv("first")(inputs))
    outputs = [L.Dense(3, activation="softmax")(pooled(last)), last]
    alone = randomised(keras.Model(inputs, outputs[0]))
    named = {"scores": outputs[0], "features": outputs[1]} if keyed else outputs[:: 1 - 2 * order]
    target = Output("scores" if keyed else order)
    result = explain(keras.Model(inputs, named), images(2, SIZE), target=target, methods="gradcam")
    assert result.layer == "last"
    np.testing.assert_allclose(result.gradcam, explain(alone, images(2, SIZE), methods="gradcam").gradcam, rtol=1e-5)


def test_the_map_that_is_explained_is_not_its_own_explanation():
    inputs = keras.Input((*SIZE, 3))
    model = keras.Model(inputs, L.Conv2D(2, 1, name="classes")(conv("last")(inputs)))
    result = explain(model, images(2, SIZE), target=lambda out: keras.ops.sum(out[..., 0], (1, 2)), methods="gradcam")
    assert result.layer == "last"
