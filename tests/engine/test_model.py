"""Models of every kind go in as they are, and nothing is left behind: not on them, not in Keras, whatever happens."""

from __future__ import annotations

import contextlib
import threading
import time
import warnings
from typing import NamedTuple

import keras
import numpy as np
import pytest
from backends import numbers
from keras import layers as L  # noqa: N812
from models import (
    CLASSES,
    SIZE,
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
    input_gradient,
    rectifier,
    relative_error,
)
from snapshots import Snapshot, unchanged
from tapes import check_gradcam, mean, predictions
from threads import Count, Gate, Worker, gated_model, held_while_tracing

from keras_gradcam import Class, Explainer, Output, explain, list_layers
from keras_gradcam.engine.model import loss_says_classes, recorded_calls, weights_digest

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
    np.testing.assert_allclose(result.predictions, predictions(model, PHOTOS), rtol=1e-5, atol=1e-6)


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


def test_parts_that_are_not_trainable_change_nothing():
    model = convnet(activation="relu")
    expected = explain(model, images(), target=1)
    parts = [layer for layer in model.layers if layer.weights]
    assert len(parts) == 3
    for part in (*parts, model):
        part.trainable = False
        result = explain(model, images(), target=1)
        np.testing.assert_array_equal(result.gradcam, expected.gradcam)
        np.testing.assert_array_equal(result.guided_backprop, expected.guided_backprop)
        if part is not model:
            part.trainable = True


# --------------------------------------------------------------------------------------------- subclassed, built lazily


def lazy_layers():
    # Backends draw other numbers from the same seed: with these weights, something speaks for every class.
    weights = keras.initializers.RandomUniform(-0.2, 0.8)
    return [
        L.Conv2D(4, 3, activation="relu", name="conv1", kernel_initializer=weights),
        L.Conv2D(5, 3, activation="relu", name="conv2", kernel_initializer=weights),
        L.GlobalAveragePooling2D(name="mean"),
        L.Dense(CLASSES, activation="softmax", name="dense", kernel_initializer=weights),
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
            x = gate(keras.ops.conv(x, conv.kernel, 1, "valid") + conv.bias)
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
        expected = predictions(model, given)
    except ValueError:
        pytest.skip("this Keras takes no dict for a list of inputs")
    result = explain(model, given, target=1)
    assert result.layer == "conv"
    check_gradcam(result, conv, lambda a: logits(dense, keras.ops.concatenate([mean(a), NUMBERS], 1))[:, 1], images())
    gate = rectifier().guided()

    def score(x):
        a = gate(keras.ops.conv(x, conv.kernel, 1, "valid") + conv.bias)
        return logits(dense, keras.ops.concatenate([mean(a), NUMBERS], 1))[:, 1]

    assert_close(result.guided_backprop, input_gradient(score, images()))
    np.testing.assert_allclose(result.predictions, expected, rtol=1e-5)


@pytest.mark.filterwarnings("ignore:When providing `inputs` as a dict")  # Keras would rather have them equal
def test_keys_of_a_dict_need_not_be_the_names_of_the_inputs():
    """Sorted, the keys come in another order than the names do."""
    picture, numbers = keras.Input((*SIZE, 3), name="a_picture"), keras.Input((5,), name="z_numbers")
    conv, dense = L.Conv2D(4, 3, activation="relu"), L.Dense(CLASSES)
    joined = L.Concatenate()([L.GlobalAveragePooling2D()(conv(picture)), numbers])
    model = randomised(keras.Model({"z": picture, "a": numbers}, dense(joined)))
    result = explain(model, {"z": images(), "a": NUMBERS}, target=1, methods="gradcam")
    check_gradcam(result, conv, lambda a: logits(dense, keras.ops.concatenate([mean(a), NUMBERS], 1))[:, 1], images())


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
        return logits(dense, keras.ops.concatenate([mean(a), other] if which == 0 else [other, mean(a)], 1))[:, 1]

    check_gradcam(result, convs[which], head, pictures[which])
    gate, conv = rectifier().guided(), convs[which]
    guided = input_gradient(
        lambda x: head(gate(keras.ops.conv(x, conv.kernel, 1, "valid") + conv.bias)), pictures[which]
    )
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
    check_gradcam(
        result, features, lambda a: logits(dense, hidden(keras.ops.reshape(pool(a), (len(a), -1))))[:, 1], images()
    )


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
        result,
        lambda x: 2 * conv(x),
        lambda a: logits(dense, mean(a + 1.5 * keras.ops.stop_gradient(a)))[:, 1],
        images(),
    )


def test_subclassed_model_between_layers_of_its_own_kind():
    model = called(ConvnetByCall(keras.ops.relu))
    by_hand = ConvnetByHand(model, [rectifier().ordinary()] * 2)
    result = explain(model, images(), target=1, methods="gradcam")
    assert result.layer == "conv2"
    check_gradcam(result, by_hand.features, lambda a: by_hand.logits(a)[:, 1], images())


# -------------------------------------------------------------------------------------------------------- models, calls


class Fuse(L.Layer):
    """Does nothing, until it is lit: then its call raises."""

    lit = False

    def call(self, inputs):
        if Fuse.lit:
            raise RuntimeError("blown")
        return inputs


class Restless(keras.Model):
    """Counts its calls and draws random numbers at inference."""

    def __init__(self):
        super().__init__()
        self.count = Count(name="count")
        self.conv = L.Conv2D(4, 3, activation="relu", name="conv")
        self.noise = L.Dropout(0.5, seed=1)
        self.fuse = Fuse()
        self.mean = L.GlobalAveragePooling2D(name="mean")
        self.dense = L.Dense(CLASSES, name="dense")

    def call(self, inputs):
        x = self.noise(self.conv(self.count(inputs)), training=True)
        return self.dense(self.mean(self.fuse(x)))


def fused_transfer():
    model = transfer(frozen=True)
    inner = keras.Sequential([keras.Input((*SIZE, 3)), Fuse(name="fuse"), model])
    inner.compile("adam", "sparse_categorical_crossentropy")
    return inner


def fused_functional():
    inputs = keras.Input((*SIZE, 3))
    conv = L.Conv2D(3, 3, padding="same", activation="relu", name="conv")
    x = Fuse(name="fuse")(conv(conv(inputs)))
    x = L.BatchNormalization()(x)
    return randomised(keras.Model(inputs, L.Dense(CLASSES, name="dense")(L.GlobalAveragePooling2D(name="mean")(x))))


MODELS = {
    "transfer": fused_transfer,
    "functional": fused_functional,
    "restless": lambda: called(Restless()),
}


def raising(predictions):
    raise ZeroDivisionError("my own")


@contextlib.contextmanager
def lit():
    Fuse.lit = True
    try:
        yield
    finally:
        Fuse.lit = False


def with_fuse_lit(call):
    def wrapped(model):
        with lit():
            call(model)

    return wrapped


def twice(model):
    explainer = Explainer(model)
    explainer(images(), 1)
    explainer(images(), [0, 1, 2])


SUCCEEDING = {
    "gradcam": lambda model: explain(model, images(), methods="gradcam"),
    "everything twice": twice,
    "outputs": lambda model: Explainer(model).runner.traced(images()),
    "list_layers with pictures": lambda model: list_layers(model, images()),
}
FAILING = {
    "no such layer": (lambda model: explain(model, images(), layer="missing"), "layer"),
    "layer without space": (lambda model: explain(model, images(), layer="dense"), "layer"),
    "foreign layer": (lambda model: explain(model, images(), layer=L.Conv2D(2, 3)), "layer"),
    "no such call": (lambda model: explain(model, images(), layer="mean", layer_call=3), "layer_call"),
    "class out of range": (lambda model: explain(model, images(), target=CLASSES), "class"),
    "wrong number of classes": (lambda model: explain(model, images(), target=[0, 1]), "target"),
    "target that raises": (lambda model: explain(model, images(), target=raising), "my own"),
    "target of a wrong shape": (lambda model: explain(model, images(), target=lambda y: y), "one score"),
    "target of strings": (lambda model: explain(model, images(), target=lambda y: "cat"), None),
    "score from nowhere": (
        lambda model: explain(model, images(), target=lambda y: keras.ops.zeros_like(y[:, 0])),
        "influence",
    ),
    "wrong channels": (lambda model: explain(model, images(channels=2)), None),
    "single picture": (lambda model: explain(model, images()[0]), None),
    "layer raises": (with_fuse_lit(lambda model: explain(model, images())), "blown"),
    "layer raises in list_layers": (with_fuse_lit(lambda model: list_layers(model, images())), "blown"),
}


@pytest.fixture(scope="module", params=MODELS)
def model(request):
    """One model for all ways of explaining: they do not change it."""
    return MODELS[request.param]()


@pytest.mark.parametrize("way", SUCCEEDING)
def test_explaining_leaves_the_model_as_it_was(model, way):
    with unchanged(model):
        SUCCEEDING[way](model)


@pytest.mark.parametrize("way", FAILING)
def test_failing_leaves_the_model_as_it_was(model, way):
    call, message = FAILING[way]
    with unchanged(model), pytest.raises(Exception, match=message):
        call(model)


@pytest.mark.parametrize("name", ["transfer", "functional"])
def test_listing_layers_without_pictures_leaves_the_model_as_it_was(name):
    model = MODELS[name]()
    with unchanged(model):
        list_layers(model)


def test_snapshot_sees_a_shadowed_call_a_weight_and_a_list():
    model = fused_functional()
    before = Snapshot(model)
    vars(named(model, "conv"))["call"] = lambda x: x
    named(model, "dense").bias.assign_add(np.ones(CLASSES))
    named(model, "fuse")._losses.append(1.0)
    changed = " ".join(before.differences(Snapshot(model)))
    for part in ("conv.call", "fuse._losses", "variables"):
        assert part in changed


def test_explaining_works_after_a_failure():
    model = fused_functional()
    expected = explain(model, images(), target=1)
    explainer = Explainer(model, target=1)
    with lit(), pytest.raises(Exception, match=r"blown"):
        explainer(images())
    with pytest.raises(ValueError, match=r"class"):
        explainer(images(), 99)
    np.testing.assert_array_equal(explainer(images()).gradcam, expected.gradcam)


# ---------------------------------------------------------------------------------------------------------------- state


def test_counter_and_seed_generator_do_not_advance():
    model = called(Restless())
    count, seed = float(model.count.count.value), np.array(model.noise.seed_generator.state)
    explainer = Explainer(model)
    for _ in range(3):
        explainer(images())
    list_layers(model, images())
    assert float(model.count.count.value) == count
    np.testing.assert_array_equal(model.noise.seed_generator.state, seed)
    model(images())
    assert float(model.count.count.value) == pytest.approx(count + 1)


def test_batch_normalisation_forced_to_train_keeps_its_statistics():
    class Forced(L.Layer):
        def __init__(self, **options):
            super().__init__(**options)
            self.norm = L.BatchNormalization(name="norm")

        def build(self, shape):
            self.norm.build(shape)

        def call(self, inputs):
            return self.norm(inputs, training=True)

    model = keras.Sequential(
        [keras.Input((*SIZE, 3)), L.Conv2D(2, 3, activation="relu"), Forced(), L.GlobalAveragePooling2D(), L.Dense(2)]
    )
    before = np.array(named(model, "norm").moving_mean)
    explain(model, images())
    np.testing.assert_array_equal(named(model, "norm").moving_mean, before)


@pytest.mark.parametrize(
    "way", [lambda m: explain(m, images()), lambda m: list_layers(m)], ids=["explain", "list_layers"]
)
def test_losses_of_the_last_call_stay(way):
    class Penalty(L.Layer):
        def call(self, inputs):
            self.add_loss(keras.ops.sum(inputs**2))
            return inputs

    model = keras.Sequential(
        [
            keras.Input((*SIZE, 3)),
            L.Conv2D(2, 3, activation="relu", activity_regularizer="l2", kernel_regularizer="l2"),
            Penalty(),
            L.GlobalAveragePooling2D(),
            L.Dense(2),
        ]
    )
    model(images())
    lists = [layer._losses for layer in model._flatten_layers()]
    before = [float(numbers(loss)) for loss in model.losses]
    assert len(before) == 3
    way(model)
    assert [float(numbers(loss)) for loss in model.losses] == before
    assert all(layer._losses is known for layer, known in zip(model._flatten_layers(), lists, strict=True))


class WithIdleLayer(keras.Model):
    """Holds a layer that it never calls, which therefore is never built."""

    def __init__(self):
        super().__init__()
        self.count = Count(name="count")
        self.conv, self.mean = L.Conv2D(2, 3, activation="relu"), L.GlobalAveragePooling2D()
        self.dense, self.idle = L.Dense(2), L.Dense(3, name="idle")

    def build(self, shape):
        self.built = True

    def call(self, inputs):
        return self.dense(self.mean(self.conv(self.count(inputs))))


def test_model_with_a_layer_that_is_never_built_is_not_called():
    model = WithIdleLayer()
    model(images())
    count = float(model.count.count.value)
    explain(model, images())
    list_layers(model, images())
    assert float(model.count.count.value) == count
    assert not model.idle.built


def test_building_a_model_leaves_its_counters_at_the_start():
    model = Restless()
    explain(model, images())
    assert float(model.count.count.value) == 0


def test_training_goes_on_as_if_nothing_had_been_explained():
    """Dropout, shuffling, moving averages and the optimiser draw from states that explaining must not touch."""

    def trained(explaining: bool):
        keras.utils.set_random_seed(3)
        inputs = keras.Input((*SIZE, 3))
        x = L.BatchNormalization()(L.Conv2D(4, 3, activation="relu", kernel_regularizer="l2")(L.Dropout(0.3)(inputs)))
        x = L.GaussianNoise(0.3)(L.GlobalAveragePooling2D()(x))
        model = keras.Model(inputs, L.Dense(CLASSES, activation="softmax")(x))
        model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "sparse_categorical_crossentropy")
        explainer = Explainer(model)

        def at_epoch_end(epoch, logs):
            if explaining:
                explainer(images(), 1)
                explain(model, images(), methods="gradcam")

        callback = keras.callbacks.LambdaCallback(on_epoch_end=at_epoch_end)
        history = model.fit(
            images(12), np.arange(12) % CLASSES, epochs=2, batch_size=4, verbose=0, callbacks=[callback]
        )
        return [*model.get_weights(), history.history["loss"]]

    for with_, without in zip(trained(True), trained(False), strict=True):
        np.testing.assert_allclose(with_, without, rtol=1e-5, atol=1e-6)


# -------------------------------------------------------------------------------------------------------------- threads


@pytest.fixture
def gated():
    with gated_model() as model:
        yield model


def test_threads_explain_one_model_at_once(gated):
    targets = [0, 1, 2, 3]
    alone = Explainer(gated)
    expected = [alone(images(), target) for target in targets]
    Gate.visit = staticmethod(lambda: time.sleep(0.05))
    barrier = threading.Barrier(len(targets))

    def work(target):
        barrier.wait(30)
        return explain(gated, images(), target=target)

    workers = [Worker(lambda target=target: work(target)) for target in targets]
    for worker, one in zip(workers, expected, strict=True):
        result = worker.result()
        assert result.layer == "conv"
        np.testing.assert_allclose(result.gradcam, one.gradcam, rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(result.guided_backprop, one.guided_backprop, rtol=1e-5, atol=1e-7)
    assert all("call" not in vars(layer) for layer in gated._flatten_layers())


def test_threads_share_one_explainer(gated):
    explainer = Explainer(gated, batch_size=2)
    alone = Explainer(gated)
    expected = {target: alone(images(5), target) for target in range(4)}
    barrier = threading.Barrier(4)

    def work(target):
        barrier.wait(30)
        return [explainer(images(5), target) for _ in range(5)]

    for target, worker in enumerate([Worker(lambda target=target: work(target)) for target in range(4)]):
        for result in worker.result():
            np.testing.assert_allclose(result.gradcam, expected[target].gradcam, rtol=1e-5, atol=1e-7)


def test_thread_that_calls_the_model_while_another_traces_is_not_disturbed(gated):
    expected = numbers(gated(images()))
    named(gated, "count").count.assign(0.0)
    with held_while_tracing(lambda: explain(gated, images(), target=1)) as worker:
        np.testing.assert_array_equal(numbers(gated(images())), expected)
    assert float(named(gated, "count").count.value) == 1  # the call of this thread, and no other
    result = worker.result()
    np.testing.assert_allclose(result.gradcam, explain(gated, images(), target=1).gradcam, rtol=1e-5)


def test_thread_that_predicts_while_another_traces_is_not_disturbed(gated):
    expected = gated.predict(images(), verbose=0)
    with held_while_tracing(lambda: explain(gated, images())) as worker:
        np.testing.assert_array_equal(gated.predict(images(), verbose=0), expected)
    worker.result()


def test_interrupt_during_a_trace_leaves_the_model_as_it_was():
    model = convnet(activation="relu")

    def interrupting(predictions):
        raise KeyboardInterrupt

    with unchanged(model), pytest.raises(KeyboardInterrupt):
        explain(model, images(), target=interrupting)


def of_classes(y_true, y_pred):
    return keras.losses.mse(y_true, y_pred)


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        ("sparse_categorical_crossentropy", [True, True]),
        ({"a": "mse", "b": keras.losses.CategoricalCrossentropy(from_logits=True)}, [False, True]),
        (["squared_hinge", None], [True, False]),
        ({"b": keras.losses.binary_focal_crossentropy}, [False, True]),
        (of_classes, [False, False]),
        (keras.losses.CosineSimilarity(), [False, False]),
        (None, [False, False]),
    ],
)
def test_losses_of_classes_are_known_by_output(loss, expected):
    inputs = keras.Input((4,))
    model = keras.Model(inputs, [L.Dense(1, name="a")(inputs), L.Dense(1, name="b")(inputs)])
    if loss is not None:
        model.compile("sgd", loss)
    assert loss_says_classes(model, ["a", "b"], 2) == expected


class WithNothing(keras.Model):
    """Returns None beside its scores, as models of transformers do where nobody asked for attentions."""

    def __init__(self, kind):
        super().__init__()
        self.conv, self.dense, self.kind = L.Conv2D(4, 3, activation="relu", name="conv"), L.Dense(CLASSES), kind

    def call(self, x):
        scores = self.dense(keras.ops.mean(self.conv(x), (1, 2)))
        return {
            "dict": {"attentions": None, "logits": scores},
            "list": [None, scores],
            "nested": {"logits": scores, "hidden": None, "loss": None},
        }[self.kind]


@pytest.mark.parametrize(("kind", "which"), [("dict", "logits"), ("list", 1), ("nested", "logits")])
def test_none_among_outputs_stays_none(kind, which):
    model = WithNothing(kind)
    model(images())
    result = explain(model, images(), target=Output(which, 2))
    alone = keras.Sequential([keras.Input((*SIZE, 3)), model.conv, L.GlobalAveragePooling2D(), model.dense])
    expected = explain(alone, images(), target=2)
    np.testing.assert_allclose(result.gradcam, expected.gradcam, rtol=1e-5)
    returned = [leaf for leaf in keras.tree.flatten(result.predictions) if leaf is not None]
    np.testing.assert_allclose(returned[0], expected.predictions, rtol=1e-5)
    assert len(keras.tree.flatten(result.predictions)) == {"dict": 2, "list": 2, "nested": 3}[kind]
    with pytest.raises(ValueError, match=rf"`output` must.*{which!r}") as caught:
        explain(model, images())
    assert "None" not in str(caught.value).partition("Candidates")[2]
    with pytest.raises(ValueError, match="name one of the model's outputs"):
        explain(model, images(), target=Output(0 if kind == "list" else "attentions"))


@pytest.mark.parametrize("mode", ["int8", "int4", "float8"])
def test_quantized_layers_are_seen(mode):
    inputs = keras.Input((16, 16, 3))
    x = L.Reshape((16, 8))(L.Conv2D(8, 4, 4, activation="relu", name="patches")(inputs))
    x = L.Dense(8, activation="relu", name="tokens")(x)
    model = randomised(keras.Model(inputs, L.Dense(4, name="scores")(L.GlobalAveragePooling1D()(x))))
    before = [layer.path for layer in list_layers(model)]
    expected = explain(model, images(2, (16, 16)), target=1, layer="tokens", methods="gradcam")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of layers that cannot be quantized
        try:
            model.quantize(mode)
        except ValueError as error:
            pytest.skip(f"this release of Keras knows no such mode: {error}")
    attributes = [set(vars(layer)) for layer in model.layers]
    assert [layer.path for layer in list_layers(model)] == before
    result = explain(model, images(2, (16, 16)), target=1, layer="tokens", methods="gradcam")
    assert [set(vars(layer)) for layer in model.layers] == attributes
    assert np.corrcoef(result.gradcam.ravel(), expected.gradcam.ravel())[0, 1] > 0.8


def test_the_digest_of_weights_tells_models_apart():
    first, second = (keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]) for _ in range(2))
    second.set_weights(first.get_weights())
    assert weights_digest(first) == weights_digest(second)
    second.layers[-1].bias.assign([0.0, 1.0])
    assert weights_digest(first) != weights_digest(second)


class Pair(NamedTuple):
    one: object
    other: object


@pytest.mark.parametrize("kind", ["tensor", "list", "tuple", "named tuple", "dict"])
def test_the_model_goes_on_with_what_takes_the_place_of_an_output(kind):
    class Several(L.Layer):
        def call(self, x):
            kinds = {"tensor": x, "list": [x, x], "tuple": (x, x), "named tuple": Pair(x, x), "dict": {"a": x, "b": x}}
            return kinds[kind]

    class Goes(keras.Model):
        def __init__(self):
            super().__init__()
            self.several = Several(name="several")

        def call(self, x):
            result = self.several(x)
            return keras.tree.flatten(result) if kind != "named tuple" else list(result)

    model, seen = Goes(), []
    model(images())

    def change(layer_output):
        seen.append(layer_output.info.path)
        return layer_output.output + 1

    with recorded_calls(model, change) as layer_outputs:
        first, *others = (numbers(leaf) for leaf in model(images()))
    np.testing.assert_allclose(first, images() + 1, rtol=1e-6)
    for other in others:
        np.testing.assert_array_equal(other, images())
    assert (seen, layer_outputs) == (["several"], [])
    with recorded_calls(model) as layer_outputs:
        model(images())
    assert [layer_output.info.path for layer_output in layer_outputs] == ["several"]
