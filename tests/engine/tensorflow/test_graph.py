"""Tracing inlines every ``tf.function`` but those of XLA, assigns nothing, disturbs no thread, and finds the scores."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as L  # noqa: N812
from models import CLASSES, SIZE, ConvnetByHand, called, convnet, images, logits, named, randomised
from oracles import assert_close, input_gradient, plain_gradcam, rectifier
from snapshots import unchanged
from tapes import check_gradcam, mean, picked
from tensorflow_models import ConvnetByFunction
from threads import gated_model, held_while_tracing, two_traces

from keras_gradcam import Class, Explainer, GuidedGradCAMCallback, Unit, explain, list_layers
from keras_gradcam.filters import receptive_field


@pytest.fixture
def gated():
    with gated_model() as model:
        yield model


class Fuse(L.Layer):
    """Does nothing, until it is lit: then its call raises."""

    lit = False

    def call(self, inputs):
        if Fuse.lit:
            raise RuntimeError("blown")
        return inputs


@pytest.mark.parametrize("methods", [None, "gradcam"])
def test_model_whose_call_is_a_function_is_left_as_it_was(methods):
    fuse = Fuse(name="fuse")
    model = called(ConvnetByFunction(lambda x: fuse(keras.ops.relu(x))))
    options = {"methods": methods} if methods else {}
    with unchanged(model):
        explain(model, images(), **options)
        Explainer(model).features(images())
        list_layers(model, images())
    for broken in ({"layer": "missing"}, {"target": 99}, {"target": lambda outputs: 1 / 0}):
        with unchanged(model), pytest.raises((ValueError, ZeroDivisionError)):
            explain(model, images(), **options, **broken)
    Fuse.lit = True
    try:
        for way in (lambda: explain(model, images(), **options), lambda: list_layers(model, images())):
            with unchanged(model), pytest.raises(Exception, match="blown"):
                way()
    finally:
        Fuse.lit = False


class TensorFlowCount(L.Layer):
    """Counts its calls in a variable that Keras does not know."""

    def __init__(self, **options):
        super().__init__(**options)
        self.count = tf.Variable(0.0, trainable=False)

    def call(self, inputs):
        self.count.assign_add(1.0)
        return inputs


def test_counter_in_a_tensorflow_variable_does_not_advance():
    model = keras.Sequential(
        [
            keras.Input((*SIZE, 3)),
            TensorFlowCount(name="count"),
            L.Conv2D(2, 3, activation="relu"),
            L.GlobalAveragePooling2D(),
            L.Dense(2),
        ]
    )
    explainer = Explainer(model)
    explainer(images())
    explainer(images())
    assert float(named(model, "count").count) == 0


def test_functions_of_other_threads_stay_graphs_while_one_traces(gated):
    function = tf.function(lambda x: tf.constant(tf.executing_eagerly()))
    assert not function(1)
    with held_while_tracing(lambda: explain(gated, images())) as worker:
        assert not function(1)
    worker.result()


def test_two_traces_at_once_do_not_leave_functions_running_eagerly(gated):
    assert not tf.config.functions_run_eagerly()
    with two_traces(lambda: explain(gated, images()), lambda: explain(gated, images())) as workers:
        for worker in workers:
            worker.result()
    assert not tf.config.functions_run_eagerly()


def test_tf_function_is_inlined_though_another_trace_ends_meanwhile(gated):
    model = called(ConvnetByFunction(tf.nn.relu))
    expected = explain(model, images(), target=1)
    with two_traces(lambda: explain(gated, images()), lambda: explain(model, images(), target=1)) as (_, two):
        result = two.result()
    assert result.layer == expected.layer
    np.testing.assert_allclose(result.gradcam, expected.gradcam, rtol=1e-5)
    np.testing.assert_allclose(result.guided_backprop, expected.guided_backprop, rtol=1e-5)


# --- functions compiled by XLA, such as grouped convolutions on a CPU -----------------------------------------------


def relu(x):
    return L.ReLU()(x)


def resnext_like(x):
    x = relu(L.Conv2D(8, 3, padding="same", name="stem")(x))
    y = relu(L.Conv2D(8, 1, name="in")(x))
    y = relu(L.Conv2D(8, 3, padding="same", groups=4, use_bias=False, name="grouped")(y))
    x = relu(L.Add()([x, L.Conv2D(8, 1, name="out")(y)]))
    return L.Activation("linear", name="last")(x)


def regnet_like(x):
    x = relu(L.Conv2D(6, 3, strides=2, padding="same", name="stem")(x))
    y = relu(L.Conv2D(12, 3, strides=2, padding="same", groups=3, name="grouped")(x))
    gate = L.Dense(12, activation="sigmoid", name="gate")(L.GlobalAveragePooling2D()(y))
    y = L.Multiply()([y, L.Reshape((1, 1, 12))(gate)])
    shortcut = L.Conv2D(12, 1, strides=2, name="shortcut")(x)
    return relu(L.Add(name="last")([y, shortcut]))


def convnext_like(x):
    x = L.Conv2D(8, 2, strides=2, name="patches")(x)
    y = L.Conv2D(8, 7, padding="same", groups=8, name="grouped")(x)
    y = L.LayerNormalization(epsilon=1e-6, name="norm")(y)
    y = L.Dense(8, name="narrow")(L.Activation("gelu")(L.Dense(16, name="wide")(y)))
    return L.Add(name="last")([x, y])


def nested(x):
    x = L.Conv2D(6, 3, activation="relu", name="stem")(x)
    inputs = keras.Input(x.shape[1:])
    inner = keras.Model(inputs, L.Conv2D(6, 3, groups=3, activation="relu", name="grouped")(inputs), name="inner")
    return inner(x)


def series(x):
    return L.Conv1D(6, 3, groups=3, activation="relu", name="last")(L.Conv1D(6, 5, activation="relu", name="stem")(x))


def volumes(x):
    return L.Conv3D(4, 2, groups=2, activation="relu", name="last")(L.Conv3D(4, 2, activation="relu", name="stem")(x))


NETWORKS = {
    "ResNeXt": (resnext_like, (14, 12, 3)),
    "RegNet": (regnet_like, (16, 12, 3)),
    "ConvNeXt": (convnext_like, (16, 12, 3)),
    "nested": (nested, (12, 10, 3)),
    "series": (series, (30, 2)),
    "volumes": (volumes, (6, 5, 7, 1)),
}


def built(name):
    build, shape = NETWORKS[name]
    inputs = keras.Input(shape)
    features = build(inputs)
    pooled = L.GlobalAveragePooling1D()(L.Reshape((-1, features.shape[-1]))(features))
    model = randomised(keras.Model(inputs, L.Dense(3, activation="softmax", name="scores")(pooled)), 1)
    kernel = model.get_layer("scores").kernel
    kernel.assign(np.abs(kernel))  # so that no map is zero everywhere
    pictures = np.random.default_rng(0).normal(size=(3, *shape)).astype("float32")
    return model, keras.Model(inputs, features), pictures


def logits_of(model, features):
    dense = model.get_layer("scores")
    pooled = keras.ops.mean(keras.ops.reshape(features, (len(features), -1, features.shape[-1])), axis=1)
    return keras.ops.matmul(pooled, dense.kernel) + dense.bias


@pytest.mark.filterwarnings("ignore:The model holds no ReLU")
@pytest.mark.parametrize("name", NETWORKS)
def test_maps_are_those_of_a_tape(name):
    model, body, pictures = built(name)
    explainer = Explainer(model, target=1, methods=["gradcam", "saliency"])
    result = explainer(pictures)
    expected = plain_gradcam(body, lambda a: logits_of(model, a)[:, 1], pictures)
    assert_close(result.scores, expected.scores)
    assert_close(result.gradcam, expected.gradcam, 1e-4)
    gradient = input_gradient(lambda x: logits_of(model, body(x))[:, 1], pictures)
    assert_close(result.maps["saliency"], np.abs(gradient).max(axis=-1), 1e-4)
    for number in range(3):  # a batch is as many single pictures
        assert_close(explainer(pictures[number : number + 1]).gradcam[0], expected.gradcam[number], 1e-4)


def test_the_guided_rule_reaches_what_is_outside_of_compiled_functions():
    model, _, pictures = built("ResNeXt")
    guided = rectifier().guided()
    stem, inner, grouped, out = (model.get_layer(name) for name in ("stem", "in", "grouped", "out"))

    def score(x):
        x = guided(stem(x))
        return logits_of(model, guided(x + out(guided(grouped(guided(inner(x)))))))[:, 1]

    result = explain(model, pictures, target=1, methods="guided_backprop")
    assert_close(result.guided_backprop, input_gradient(score, pictures), 1e-4)


@pytest.mark.parametrize(("name", "layer", "size"), [("ResNeXt", "grouped", (5, 5)), ("RegNet", "grouped", (7, 7)),
                                                     ("nested", "inner/grouped", (5, 5))])  # fmt: skip
def test_receptive_fields_go_through_compiled_functions(name, layer, size):
    model, body, pictures = built(name)
    field = receptive_field(model, layer)
    assert field.size == size
    features = body if "/" in layer else keras.Model(model.input, model.get_layer(layer).output)
    row, column = (extent // 2 for extent in field.grid)
    before = np.asarray(features(pictures[:1]))[0, row, column]
    x0, y0, x1, y1 = field.box(row, column)
    outside = pictures[:1].copy()
    outside[:, :y0], outside[:, y1:], outside[:, :, :x0], outside[:, :, x1:] = 9, 9, 9, 9
    np.testing.assert_allclose(np.asarray(features(outside))[0, row, column], before, atol=1e-5)
    for y, x in ((y0, x0), (y1 - 1, x1 - 1)):
        inside = pictures[:1].copy()
        inside[:, y, x] += 9
        assert np.abs(np.asarray(features(inside))[0, row, column] - before).max() > 1e-6


@pytest.mark.filterwarnings("ignore:The model holds no ReLU")
@pytest.mark.parametrize("name", ["ResNeXt", "RegNet", "ConvNeXt"])
def test_trainings_are_watched(name, tmp_path):
    model, _, pictures = built(name)
    model.compile("sgd", "sparse_categorical_crossentropy")
    callback = GuidedGradCAMCallback((pictures, [0, 1, 2]), tmp_path, on_error="raise")
    model.fit(pictures, np.arange(3), epochs=2, verbose=0, callbacks=[callback])
    np.testing.assert_allclose(
        callback.history.maps[-1], explain(model, pictures, target=[0, 1, 2]).gradcam, rtol=2e-3, atol=1e-3
    )
    assert any(layer.path == "grouped" for layer in list_layers(model))


# ---------------------------------------------------------------------------------- what is found at the end of a model


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


def test_average_of_three_probabilities_that_are_added_at_once_is_one():
    inputs = keras.Input((*SIZE, 3))
    pooled = L.GlobalAveragePooling2D()(L.Conv2D(4, 3, activation="relu", name="conv")(inputs))
    parts = [L.Dense(3, activation="sigmoid")(pooled) for _ in range(3)]
    model = randomised(keras.Model(inputs, L.Lambda(lambda x: tf.add_n(x) / 3.0)(parts)))
    result = explain(model, images(), methods="gradcam")
    np.testing.assert_allclose(result.probabilities, np.asarray(model(images())), rtol=1e-5)
