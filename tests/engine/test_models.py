"""Models of every kind go in as they are, and their maps equal those of a plain tape."""

from __future__ import annotations

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as L  # noqa: N812
from models import (
    CLASSES,
    SIZE,
    ClassToken,
    ConvnetByCall,
    ConvnetByHand,
    called,
    convnet,
    images,
    logits,
    named,
    randomised,
    through,
    transfer,
)
from oracles import (
    assert_close,
    gradcam_by_hand,
    input_gradient,
    plain_gradcam,
    rectifier,
    relative_error,
    upsample_by_hand,
)

from keras_gradcam import Class, Explainer, Output, Unit, explain


def check_gradcam(result, features, head, pictures, tolerance=1e-5):
    """Scores, map and heatmap of ``result`` equal those of ``head(features(pictures))``."""
    expected = plain_gradcam(features, head, pictures)
    assert_close(result.scores, expected.scores, tolerance)
    assert_close(result.gradcam, expected.gradcam, tolerance)
    assert_close(result.heatmap, upsample_by_hand(expected.gradcam, result.heatmap.shape[1:]), tolerance)


def mean(x):
    return tf.reduce_mean(x, axis=tuple(range(1, x.shape.rank - 1)))


# ------------------------------------------------------------------------------------------------------- nested, frozen

PHOTOS = np.random.default_rng(2).integers(0, 256, (3, *SIZE, 3)).astype("float32")


@pytest.mark.parametrize("frozen", [False, True])
def test_transfer_learning(frozen):
    model = transfer(frozen)
    base, dense = model.get_layer("backbone"), model.get_layer("dense")
    gate = rectifier(max_value=6.0)

    def score(relu):
        def function(x):
            return logits(dense, mean(through(base.layers, x / 127.5 - 1, relu)))[:, 2]

        return function

    result = explain(model, PHOTOS, target=2)
    assert result.layer == "backbone/relu3"
    check_gradcam(result, lambda x: base(x / 127.5 - 1, training=False), lambda a: logits(dense, mean(a))[:, 2], PHOTOS)
    assert_close(result.guided_backprop, input_gradient(score(gate.guided()), PHOTOS))
    np.testing.assert_allclose(result.predictions, model.predict(PHOTOS, verbose=0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("layer", ["relu1", "backbone/norm2", "backbone"])
def test_any_layer_of_a_nested_model(layer):
    model = transfer()
    base, dense = model.get_layer("backbone"), model.get_layer("dense")
    cut = len(base.layers) if layer == "backbone" else base.layers.index(named(base, layer.rsplit("/", 1)[-1])) + 1
    result = explain(model, PHOTOS, target=1, layer=layer, methods="gradcam")
    check_gradcam(
        result,
        lambda x: through(base.layers[:cut], x / 127.5 - 1),
        lambda a: logits(dense, mean(through(base.layers[cut:], a)))[:, 1],
        PHOTOS,
    )


@pytest.mark.parametrize("position", range(3))
def test_parts_that_are_not_trainable_change_nothing(position):
    model = convnet(activation="relu")
    expected = explain(model, images(), target=1)
    [layer for layer in model.layers if layer.weights][position].trainable = False
    result = explain(model, images(), target=1)
    np.testing.assert_array_equal(result.gradcam, expected.gradcam)
    np.testing.assert_array_equal(result.guided_backprop, expected.guided_backprop)
    model.trainable = False
    np.testing.assert_array_equal(explain(model, images(), target=1).gradcam, expected.gradcam)


# --------------------------------------------------------------------------------------------- subclassed, built lazily


def lazy_layers():
    return [
        L.Conv2D(4, 3, activation="relu", name="conv1"),
        L.Conv2D(5, 3, activation="relu", name="conv2"),
        L.GlobalAveragePooling2D(name="mean"),
        L.Dense(CLASSES, activation="softmax", name="dense"),
    ]


class Lazy(keras.Model):
    def __init__(self):
        super().__init__()
        self.parts = lazy_layers()

    def call(self, inputs, training=None):
        for part in self.parts:
            inputs = part(inputs)
        return inputs


class Nested(keras.Model):
    """A subclassed model in a subclassed model."""

    def __init__(self):
        super().__init__()
        self.inner = Lazy()

    def call(self, inputs, training=False):
        return self.inner(inputs, training=training)


def called_first(model):
    model(images())
    return model


@pytest.mark.parametrize(
    "build",
    [
        lambda: keras.Sequential([keras.Input((*SIZE, 3)), *lazy_layers()]),
        lambda: keras.Sequential(lazy_layers()),
        lambda: called_first(keras.Sequential(lazy_layers())),
        lambda: keras.Sequential([keras.Sequential(lazy_layers()[:2]), *lazy_layers()[2:]]),
        Lazy,
        lambda: called_first(Lazy()),
        Nested,
    ],
    ids=[
        "Sequential",
        "unbuilt Sequential",
        "Sequential without Input",
        "unbuilt in unbuilt",
        "unbuilt subclass",
        "subclass",
        "nested subclasses",
    ],
)
def test_models_of_every_making(build):
    model = build()
    result = explain(model, images(), target=1)
    conv1, conv2, dense = (named(model, name) for name in ("conv1", "conv2", "dense"))
    assert result.layer.endswith("conv2")
    check_gradcam(result, lambda x: conv2(conv1(x)), lambda a: logits(dense, mean(a))[:, 1], images())
    gate = rectifier().guided()

    def score(x):
        for conv in (conv1, conv2):
            x = gate(tf.nn.conv2d(x, conv.kernel, 1, "VALID") + conv.bias)
        return logits(dense, mean(x))[:, 1]

    assert_close(result.guided_backprop, input_gradient(score, images()))


def test_subclassed_model_built_from_a_shape():
    model = keras.Sequential(lazy_layers())
    model.build((None, *SIZE, 3))
    conv1, conv2, dense = (named(model, name) for name in ("conv1", "conv2", "dense"))
    result = explain(model, images(), target=1, methods="gradcam")
    check_gradcam(result, lambda x: conv2(conv1(x)), lambda a: logits(dense, mean(a))[:, 1], images())


# -------------------------------------------------------------------------------------------------------- shared layers


@pytest.mark.parametrize("layer_call", [0, 1, 2, -1, -3, None])
def test_every_call_of_a_shared_layer(layer_call):
    inputs = keras.Input((*SIZE, 3))
    conv = L.Conv2D(3, 3, padding="same", activation="relu", name="conv")
    dense = L.Dense(CLASSES, name="dense")
    model = randomised(keras.Model(inputs, dense(L.GlobalAveragePooling2D()(conv(conv(conv(inputs)))))))
    result = explain(model, images(), layer="conv", layer_call=layer_call, target=1, methods="gradcam")
    calls = (2 if layer_call is None else layer_call % 3) + 1
    check_gradcam(
        result,
        lambda x: through([conv] * calls, x),
        lambda a: logits(dense, mean(through([conv] * (3 - calls), a)))[:, 1],
        images(),
    )


def test_last_call_the_score_depends_on_is_the_default():
    inputs = keras.Input((*SIZE, 3))
    conv = L.Conv2D(3, 3, padding="same", activation="relu", name="conv")
    once, twice = conv(inputs), conv(conv(inputs))
    heads = [L.Dense(2, name=name)(L.GlobalAveragePooling2D()(x)) for name, x in (("once", once), ("twice", twice))]
    model = randomised(keras.Model(inputs, heads))
    for name, calls in (("once", 1), ("twice", 2)):
        dense = model.get_layer(name)
        result = explain(model, images(), layer="conv", target=Output(name, Class(1)), methods="gradcam")
        check_gradcam(
            result,
            lambda x, calls=calls: through([conv] * calls, x),
            lambda a, d=dense: logits(d, mean(a))[:, 1],
            images(),
        )


# ------------------------------------------------------------------------------------------------------- several inputs


def with_metadata(as_dict):
    """A picture and five numbers about it."""
    picture, numbers = keras.Input((*SIZE, 3), name="picture"), keras.Input((5,), name="numbers")
    conv = L.Conv2D(4, 3, activation="relu", name="conv")
    joined = L.Concatenate()([L.GlobalAveragePooling2D()(conv(picture)), numbers])
    taken = {"picture": picture, "numbers": numbers} if as_dict else [picture, numbers]
    return randomised(keras.Model(taken, L.Dense(CLASSES, activation="softmax", name="dense")(joined)))


NUMBERS = np.random.default_rng(4).normal(size=(3, 5)).astype("float32")


@pytest.mark.parametrize(
    ("as_dict", "given"),
    [
        (False, [images(), NUMBERS]),
        (False, (images(), NUMBERS)),
        (False, {"picture": images(), "numbers": NUMBERS}),
        (True, {"picture": images(), "numbers": NUMBERS}),
        (True, {"numbers": NUMBERS, "picture": images()}),
    ],
    ids=["list", "tuple", "dict for a list", "dict", "dict in another order"],
)
def test_picture_beside_numbers(as_dict, given):
    model = with_metadata(as_dict)
    conv, dense = model.get_layer("conv"), model.get_layer("dense")
    try:
        model.predict(given, verbose=0)
    except ValueError:
        pytest.skip("this Keras takes no dict for a list of inputs")
    result = explain(model, given, target=1)
    assert result.layer == "conv"
    check_gradcam(result, conv, lambda a: logits(dense, tf.concat([mean(a), NUMBERS], 1))[:, 1], images())
    gate = rectifier().guided()

    def score(x):
        a = gate(tf.nn.conv2d(x, conv.kernel, 1, "VALID") + conv.bias)
        return logits(dense, tf.concat([mean(a), NUMBERS], 1))[:, 1]

    assert_close(result.guided_backprop, input_gradient(score, images()))
    np.testing.assert_allclose(result.predictions, model.predict(given, verbose=0), rtol=1e-5)


@pytest.mark.filterwarnings("ignore:When providing `inputs` as a dict")  # Keras would rather have them equal
def test_keys_of_a_dict_need_not_be_the_names_of_the_inputs():
    """Sorted, the keys come in another order than the names do."""
    picture, numbers = keras.Input((*SIZE, 3), name="a_picture"), keras.Input((5,), name="z_numbers")
    conv, dense = L.Conv2D(4, 3, activation="relu"), L.Dense(CLASSES)
    joined = L.Concatenate()([L.GlobalAveragePooling2D()(conv(picture)), numbers])
    model = randomised(keras.Model({"z": picture, "a": numbers}, dense(joined)))
    result = explain(model, {"z": images(), "a": NUMBERS}, target=1, methods="gradcam")
    check_gradcam(result, conv, lambda a: logits(dense, tf.concat([mean(a), NUMBERS], 1))[:, 1], images())


@pytest.mark.filterwarnings("ignore:The structure of `inputs` does")  # Keras says so of predict() too
def test_dict_of_one_input():
    inputs = keras.Input((*SIZE, 3), name="picture")
    conv, dense = L.Conv2D(4, 3, activation="relu"), L.Dense(CLASSES)
    model = randomised(keras.Model(inputs, dense(L.GlobalAveragePooling2D()(conv(inputs)))))
    result = explain(model, {"picture": images()}, target=1, methods="gradcam")
    check_gradcam(result, conv, lambda a: logits(dense, mean(a))[:, 1], images())


def test_several_inputs_in_several_batches():
    model = with_metadata(False)
    whole = Explainer(model)([images(), NUMBERS], 1)
    parts = Explainer(model, batch_size=2)([images(), NUMBERS], 1)
    assert_close(parts.gradcam, whole.gradcam)
    assert_close(parts.guided_backprop, whole.guided_backprop)


def two_pictures():
    left, right = keras.Input((*SIZE, 3), name="left"), keras.Input((8, 14, 1), name="right")
    towers = [
        L.GlobalAveragePooling2D()(L.Conv2D(3, 3, activation="relu", name=f"conv_{name}")(x))
        for name, x in (("left", left), ("right", right))
    ]
    return randomised(keras.Model([left, right], L.Dense(CLASSES, name="dense")(L.Concatenate()(towers))))


@pytest.mark.parametrize(("input_index", "layer"), [(None, "conv_left"), (0, "conv_left"), (1, "conv_right")])
def test_input_index_says_which_picture_is_explained(input_index, layer):
    model = two_pictures()
    pictures = [images(), images(size=(8, 14), channels=1)]
    convs, dense = [model.get_layer(f"conv_{side}") for side in ("left", "right")], model.get_layer("dense")
    which = input_index or 0
    result = explain(model, pictures, target=1, layer=layer, input_index=input_index)
    other = mean(convs[1 - which](pictures[1 - which]))

    def head(a):
        return logits(dense, tf.concat([mean(a), other] if which == 0 else [other, mean(a)], 1))[:, 1]

    check_gradcam(result, convs[which], head, pictures[which])
    gate, conv = rectifier().guided(), convs[which]
    guided = input_gradient(lambda x: head(gate(tf.nn.conv2d(x, conv.kernel, 1, "VALID") + conv.bias)), pictures[which])
    assert_close(result.guided_backprop, guided)


# ------------------------------------------------------------------------------------------------------ several outputs


def two_outputs(as_dict):
    inputs = keras.Input((*SIZE, 3))
    x = L.GlobalAveragePooling2D()(L.Conv2D(4, 3, activation="relu", name="conv")(inputs))
    species = L.Dense(CLASSES, activation="softmax", name="species")(x)
    alive = L.Dense(1, activation="sigmoid", name="alive")(x)
    return randomised(keras.Model(inputs, {"species": species, "alive": alive} if as_dict else [species, alive]))


@pytest.mark.parametrize("as_dict", [False, True], ids=["list", "dict"])
@pytest.mark.parametrize(
    ("target", "dense", "sign", "unit", "classes"),
    [
        (Output("species", Class(2)), "species", 1, 2, [2, 2, 2]),
        (Output("alive", Class(1)), "alive", 1, 0, [1, 1, 1]),
        (Output("alive", Class(0)), "alive", -1, 0, [0, 0, 0]),
        (-Output("species", 2), "species", -1, 2, None),
    ],
    ids=repr,
)
def test_one_of_several_outputs(as_dict, target, dense, sign, unit, classes):
    model = two_outputs(as_dict)
    conv, dense = model.get_layer("conv"), model.get_layer(dense)
    result = explain(model, images(), target=target, methods="gradcam")
    check_gradcam(result, conv, lambda a: sign * logits(dense, mean(a))[:, unit], images())
    np.testing.assert_array_equal(result.classes, classes)


@pytest.mark.parametrize("as_dict", [False, True], ids=["list", "dict"])
def test_predictions_keep_the_models_structure(as_dict):
    model = two_outputs(as_dict)
    predictions = Explainer(model, batch_size=2)(images(), Output("species", 0)).predictions
    expected = model.predict(images(), verbose=0)
    assert type(predictions) is type(expected)
    for key in ("species", "alive") if as_dict else (0, 1):
        np.testing.assert_allclose(predictions[key], expected[key], rtol=1e-5)


def test_output_by_position_in_a_list():
    model = two_outputs(False)
    by_name, by_position = (explain(model, images(), target=Output(key, 0)) for key in ("alive", 1))
    np.testing.assert_array_equal(by_name.gradcam, by_position.gradcam)
    assert by_name.gradcam.max() > 0


def test_target_over_several_outputs():
    model = two_outputs(True)
    conv, species, alive = (model.get_layer(name) for name in ("conv", "species", "alive"))
    result = explain(model, images(), target=Output("species", 1) - 2 * Output("alive", 1), methods="gradcam")
    check_gradcam(result, conv, lambda a: logits(species, mean(a))[:, 1] - 2 * logits(alive, mean(a))[:, 0], images())


def test_several_outputs_without_output_are_refused():
    with pytest.raises(ValueError, match=r"several.*Output\('species', Class\(\)\), Output\('alive', Class\(\)\)"):
        explain(two_outputs(False), images())


class AuxiliaryLast(keras.Model):
    """The auxiliary head, convolutions of its own included, runs after the main one."""

    def __init__(self):
        super().__init__()
        self.trunk = L.Conv2D(4, 3, activation="relu", name="trunk")
        self.main = L.Conv2D(5, 3, activation="relu", name="main")
        self.auxiliary = L.Conv2D(3, 3, activation="relu", name="auxiliary")
        self.mean = L.GlobalAveragePooling2D()
        self.classes = L.Dense(CLASSES, name="classes")
        self.side = L.Dense(2, name="side")

    def call(self, inputs):
        x = self.trunk(inputs)
        classes = self.classes(self.mean(self.main(x)))
        side = self.side(self.mean(self.auxiliary(x)))
        return [classes, side]


@pytest.mark.parametrize(("position", "layer", "dense"), [(0, "main", "classes"), (1, "auxiliary", "side")])
def test_auxiliary_head_that_comes_last_is_passed_over(position, layer, dense):
    model = called(AuxiliaryLast())
    result = explain(model, images(), target=Output(position, 1), methods="gradcam")
    assert result.layer == layer
    trunk, conv, dense = (named(model, name) for name in ("trunk", layer, dense))
    check_gradcam(result, lambda x: conv(trunk(x)), lambda a: logits(dense, mean(a))[:, 1], images())


# ------------------------------------------------------------------------------------------------------ ends of a model


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
    "softmax": ("softmax", tf.nn.softmax),
    "log_softmax": ("log_softmax", tf.nn.log_softmax),
    "sigmoid": ("sigmoid", tf.nn.sigmoid),
    "none": (None, tf.identity),
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
    "ending", [L.Softmax, lambda: L.Activation("softmax"), lambda: L.Lambda(tf.nn.softmax), lambda: keras.ops.softmax]
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
    check_gradcam(
        result, by_hand.features, lambda a: tf.gather(by_hand.logits(a), result.classes, batch_dims=1), images()
    )
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
        lambda a: tf.gather(mean(a) / tf.norm(mean(a), axis=1, keepdims=True), [0, 3, 2], batch_dims=1),
        images(),
    )
    assert result.classes is None


# ------------------------------------------------------------------------------------------------------- half precision

#: Largest error, relative to the largest value, beside the same network in float32.
TOLERANCES = {"mixed_float16": 0.01, "mixed_bfloat16": 0.08}


def half(policy, change=lambda model: None, build=lambda: convnet(activation="relu")):
    """The same network under ``policy`` and in float32."""
    keras.config.set_dtype_policy(policy)
    model = build()
    keras.config.set_dtype_policy("float32")
    twin = build()
    for one in (model, twin):
        change(one)
    return model, twin


@pytest.mark.parametrize("policy", TOLERANCES)
@pytest.mark.parametrize("nested", [False, True])
def test_mixed_precision_is_close_to_float32(policy, nested):
    model, twin = half(policy, build=transfer if nested else lambda: convnet(activation="relu"))
    pictures = PHOTOS if nested else images()
    result, expected = explain(model, pictures, target=2), explain(twin, pictures, target=2)
    assert result.layer == expected.layer
    for name in ("scores", "gradcam", "heatmap", "guided_backprop", "guided_gradcam"):
        actual = getattr(result, name)
        assert actual.dtype == np.float32
        assert_close(actual, getattr(expected, name), TOLERANCES[policy])


def scale_head(factor):
    def change(model):
        dense = named(model, "dense")
        dense.kernel.assign(dense.kernel * factor)

    return change


def naive_error(model, expected, pictures):
    """How wrong the map is when float16 is differentiated as it is, to show that a case needs care."""
    conv1, conv2, dense = (named(model, name) for name in ("conv1", "conv2", "dense"))

    def head(a):
        kernel, bias = (tf.cast(weight.value, "float16") for weight in (dense.kernel, dense.bias))
        return tf.cast(mean(a) @ kernel + bias, "float32")[:, 1]

    return relative_error(plain_gradcam(lambda x: conv2(conv1(x)), head, pictures).gradcam, expected)


def test_float16_gradients_that_overflow_when_scaled_up():
    model, twin = half("mixed_float16", scale_head(1500))
    result, expected = explain(model, images(), target=1), explain(twin, images(), target=1)
    assert np.abs(expected.guided_backprop).max() * 1024 > 65504
    assert_close(result.gradcam, expected.gradcam, 0.01)
    assert_close(result.guided_backprop, expected.guided_backprop, 0.01)


def large_convnet():
    """A mean over many cells divides the gradient by their number."""
    inputs = keras.Input((40, 40, 3))
    x = L.Conv2D(4, 3, padding="same", activation="relu", name="conv1")(inputs)
    x = L.Conv2D(5, 3, padding="same", activation="relu", name="conv2")(x)
    return randomised(keras.Model(inputs, L.Dense(CLASSES, name="dense")(L.GlobalAveragePooling2D()(x))))


def test_float16_gradients_that_vanish_unless_scaled_up():
    model, twin = half("mixed_float16", scale_head(4e-5), large_convnet)
    pictures = images(size=(40, 40))
    result, expected = explain(model, pictures, target=1), explain(twin, pictures, target=1)
    assert naive_error(model, expected.gradcam, pictures) > 0.1
    assert_close(result.gradcam, expected.gradcam, 0.02)
    assert_close(result.guided_backprop, expected.guided_backprop, 0.02)


def test_float16_result_does_not_depend_on_what_was_explained_before():
    model, _ = half("mixed_float16", scale_head(0.01))
    explainer = Explainer(model, target=1)
    expected = explainer(images())
    broken = np.full_like(images(1), np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        explainer(broken)
    result = explainer(images())
    assert_close(result.gradcam, expected.gradcam, 1e-3)
    assert_close(result.guided_backprop, expected.guided_backprop, 1e-3)


# --------------------------------------------------------------------------------------- series, volumes, tokens, sizes


@pytest.mark.parametrize(
    ("size", "conv", "pool", "strides"),
    [((21,), L.Conv1D, L.GlobalAveragePooling1D, 2), ((6, 7, 8), L.Conv3D, L.GlobalAveragePooling3D, 2)],
    ids=["series", "volumes"],
)
def test_series_and_volumes(size, conv, pool, strides):
    model = keras.Sequential(
        [
            keras.Input((*size, 2)),
            conv(4, 3, padding="same", activation="relu", name="conv1"),
            conv(5, 3, strides=strides, padding="same", activation="relu", name="conv2"),
            pool(),
            L.Dense(CLASSES, activation="softmax", name="dense"),
        ]
    )
    randomised(model)
    conv1, conv2, dense = (model.get_layer(name) for name in ("conv1", "conv2", "dense"))
    pictures = images(2, size, 2)
    result = explain(model, pictures, target=2)
    assert result.gradcam.shape == (2, *(-(-extent // strides) for extent in size))
    check_gradcam(result, lambda x: conv2(conv1(x)), lambda a: logits(dense, mean(a))[:, 2], pictures)
    gate = rectifier().guided()

    def score(x):
        for layer, step in ((conv1, 1), (conv2, strides)):
            x = gate(tf.nn.convolution(x, layer.kernel, step, "SAME") + layer.bias)
        return logits(dense, mean(x))[:, 2]

    assert_close(result.guided_backprop, input_gradient(score, pictures))


def vision_transformer():
    """16 x 8 patches and a class token; one block; the class is read from the class token."""
    inputs = keras.Input((32, 16, 3))
    tokens = L.Reshape((128, 8))(L.Conv2D(8, 2, strides=2, name="patches")(inputs))
    tokens = ClassToken(name="tokens")(tokens)
    normed = L.LayerNormalization(name="norm1")(tokens)
    mixed = L.MultiHeadAttention(2, 4, name="attention")(normed, normed)
    tokens = L.LayerNormalization(name="norm2")(L.Add()([tokens, mixed]))
    return randomised(keras.Model(inputs, L.Dense(CLASSES, name="dense")(tokens[:, 0])))


def test_tokens_of_a_vision_transformer_on_a_picture_that_is_not_square():
    model = vision_transformer()
    pictures = images(2, (32, 16))
    patches, tokens, norm1, attention, norm2, dense = (
        model.get_layer(name) for name in ("patches", "tokens", "norm1", "attention", "norm2", "dense")
    )
    all_tokens = tokens(tf.reshape(patches(pictures), (2, 128, 8)))

    def head(a):
        return logits(dense, norm2(all_tokens + attention(a, a))[:, 0])[:, 1]

    result = explain(model, pictures, target=1, layer="norm1", methods="gradcam")
    expected = plain_gradcam(lambda x: norm1(all_tokens), head, pictures)
    on_grid = [array[:, 1:].reshape(2, 16, 8, 8) for array in (expected.activations, expected.gradients)]
    assert result.gradcam.shape == (2, 16, 8)
    assert_close(result.gradcam, gradcam_by_hand(*on_grid))
    assert_close(result.heatmap, upsample_by_hand(gradcam_by_hand(*on_grid), (32, 16)))


def test_fully_convolutional_model_takes_pictures_of_any_size():
    inputs = keras.Input((None, None, 3))
    x = L.Conv2D(4, 3, activation="relu", name="conv1")(inputs)
    x = L.Conv2D(5, 3, strides=2, activation="relu", name="conv2")(x)
    model = randomised(keras.Model(inputs, L.Dense(CLASSES, name="dense")(L.GlobalAveragePooling2D()(x))))
    conv1, conv2, dense = (model.get_layer(name) for name in ("conv1", "conv2", "dense"))
    explainer = Explainer(model, target=1)
    for size in ((12, 10), (9, 15), (12, 10)):
        result = explainer(images(size=size))
        assert result.heatmap.shape == (3, *size)
        assert result.guided_backprop.shape == (3, *size, 3)
        check_gradcam(result, lambda x: conv2(conv1(x)), lambda a: logits(dense, mean(a))[:, 1], images(size=size))


def test_map_of_a_score_over_space():
    """A segmentation model: the score is the mean logit of a class inside a mask."""
    inputs = keras.Input((*SIZE, 3))
    features = L.Conv2D(4, 3, padding="same", activation="relu", name="features")(inputs)
    final = L.Conv2D(2, 1, activation="softmax", name="final")
    model = randomised(keras.Model(inputs, final(features)))
    mask = np.zeros(SIZE, "float32")
    mask[2:5, 6:9] = 1

    def inside(outputs):
        return tf.reduce_sum(outputs[..., 1] * mask, axis=(1, 2))

    result = explain(model, images(), target=inside, methods="gradcam")
    assert result.layer == "features"
    check_gradcam(result, model.get_layer("features"), lambda a: inside(final(a)), images())


# ------------------------------------------------------------------------------------------------------ automatic layer


def test_mobilenet_is_explained_at_its_last_relu():
    model = keras.applications.MobileNetV2(
        (96, 96, 3), alpha=0.35, weights=None, classes=5, classifier_activation="softmax"
    )
    randomised(model, scale=0.8)
    pictures = images(1, (96, 96))
    result = explain(model, pictures, target=3)
    assert result.layer == "out_relu"
    features, dense = keras.Model(model.input, model.get_layer("out_relu").output), model.layers[-1]
    check_gradcam(result, lambda x: features(x, training=False), lambda a: logits(dense, mean(a))[:, 3], pictures, 1e-4)
    plain = input_gradient(lambda x: logits(dense, mean(features(x, training=False)))[:, 3], pictures)
    assert relative_error(result.guided_backprop, plain) > 0.1


def test_vgg_is_explained_at_its_last_convolution_not_the_pool():
    inputs = keras.Input((*SIZE, 3))
    x = inputs
    for block in (1, 2):
        for conv in (1, 2):
            x = L.Conv2D(4, 3, padding="same", activation="relu", name=f"block{block}_conv{conv}")(x)
        x = L.MaxPooling2D(name=f"block{block}_pool")(x)
    x = L.Dense(8, activation="relu", name="hidden")(L.Flatten()(x))
    model = randomised(keras.Model(inputs, L.Dense(CLASSES, name="dense")(x)))
    result = explain(model, images(), target=1, methods="gradcam")
    assert result.layer == "block2_conv2"
    features = keras.Model(inputs, model.get_layer("block2_conv2").output)
    pool, hidden, dense = (model.get_layer(name) for name in ("block2_pool", "hidden", "dense"))
    check_gradcam(result, features, lambda a: logits(dense, hidden(tf.reshape(pool(a), (len(a), -1))))[:, 1], images())


@pytest.mark.parametrize("after", [L.Dropout, L.SpatialDropout2D, L.GaussianDropout])
def test_dropout_after_the_last_relu_does_not_steal_its_name(after):
    inputs = keras.Input((*SIZE, 3))
    x = L.ReLU(name="last")(L.Conv2D(4, 3)(inputs))
    model = randomised(keras.Model(inputs, L.Dense(2)(L.GlobalAveragePooling2D()(after(0.5, name="dropout")(x)))))
    assert explain(model, images(), target=1, methods="gradcam").layer == "last"
    assert explain(model, images(), target=1, methods="gradcam", layer="dropout").layer == "dropout"


def test_layer_that_returns_several_tensors_is_explained_by_its_first():
    class Split(L.Layer):
        def call(self, inputs):
            return inputs * 2.0, inputs * 3.0

        def compute_output_shape(self, shape):
            return shape, shape

    inputs = keras.Input((*SIZE, 3))
    conv, dense = L.Conv2D(4, 3, activation="relu"), L.Dense(2)
    one, two = Split(name="split")(conv(inputs))
    model = randomised(keras.Model(inputs, dense(L.GlobalAveragePooling2D()(one + two))))
    result = explain(model, images(), target=1, layer="split", methods="gradcam")
    check_gradcam(
        result, lambda x: 2 * conv(x), lambda a: logits(dense, mean(a + 1.5 * tf.stop_gradient(a)))[:, 1], images()
    )


def test_subclassed_model_between_layers_of_its_own_kind():
    model = called(ConvnetByCall(tf.nn.relu))
    by_hand = ConvnetByHand(model, [rectifier().ordinary()] * 2)
    result = explain(model, images(), target=1, methods="gradcam")
    assert result.layer == "conv2"
    check_gradcam(result, by_hand.features, lambda a: by_hand.logits(a)[:, 1], images())
