"""The engine contract: what every backend's engine answers, beside a network in NumPy and by plain gradients.

Everything here is written in Keras and NumPy and runs with the engine of the backend in use.
"""

from __future__ import annotations

import gc
import warnings
import weakref

import keras
import numpy as np
import pytest
from backends import BACKEND, numbers
from contract import ClassScore, NumPyConvnet, answer, ask, plain_cam, run, spec_of
from fields import changed_boxes, layer_function, loud, squeeze_and_excite
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
    transfer,
)
from oracles import (
    assert_close,
    gradcam_by_hand,
    hard_sigmoid_gate,
    input_gradient,
    plain_gradcam,
    rectifier,
    relative_error,
    upsample_by_hand,
)
from rectifiers import (
    CASES,
    OF_CLASS,
    OPTIONS,
    check_gradcam_is_ordinary,
    check_guided_backprop,
    check_the_oracle_differs_from_plain_backpropagation,
)
from snapshots import unchanged
from tapes import check_gradcam, mean, predictions

from keras_gradcam import Explainer, explain
from keras_gradcam.engine.base import Request


def relu_convnet(**options):
    return convnet(lambda position: L.ReLU(**options))


# ------------------------------------------------------------------------------------------------- trace: what it gives


@pytest.mark.parametrize("slope", [0.0, 0.25])
def test_one_pass_gives_scores_maps_and_gradients(engine, slope):
    model = relu_convnet(negative_slope=slope)
    classes = [2, 0, 3]
    wanted = ask(
        classes,
        cams={"plain": plain_cam, "minimum": lambda a, g: keras.ops.min(g, axis=-1)},
        gradient=True,
        guided_backprop=True,
        features=True,
    )
    program = engine.trace(model, spec_of(images()), [wanted])
    result = run(program, images(), wanted)
    features, logits, gradients, gradient, guided = NumPyConvnet(model, slope).run(images(), classes)
    assert relative_error(gradient, guided) > 0.1
    expected = {
        "scores": logits[range(3), classes],
        "gradient": gradient,
        "guided_backprop": guided,
        "features": features,
    }
    for name, array in expected.items():
        assert getattr(result, name).dtype == np.float32
        assert_close(getattr(result, name), array)
    assert set(result.cams) == {"plain", "minimum"}
    assert all(array.dtype == np.float32 for array in result.cams.values())
    assert_close(result.cams["plain"], gradcam_by_hand(features, gradients))
    assert_close(result.cams["minimum"], gradients.min(axis=-1))
    np.testing.assert_array_equal(result.classes, classes)
    np.testing.assert_allclose(result.predictions, predictions(model, images()), rtol=1e-5, atol=1e-6)
    assert result.arguments is None
    (layer,) = program.layers
    assert (layer.path, layer.layer_type, layer.output_shape, layer.call) == ("conv2", "Conv2D", (None, 6, 5, 5), 0)


def test_what_is_not_asked_for_is_none(engine):
    model = relu_convnet()
    result = answer(engine, model, images(), ask(1))
    names = ("cams", "gradient", "guided_backprop", "features", "arguments")
    assert [getattr(result, name) for name in names] == [None] * 5 or not result.cams
    alone = answer(engine, model, images(), ask(features=True))
    assert (alone.predictions, alone.scores, alone.classes) == (None, None, None)
    assert alone.features.shape == (3, 6, 5, 5)
    nothing = answer(engine, model, images(), ask())
    np.testing.assert_allclose(nothing.predictions, predictions(model, images()), rtol=1e-5, atol=1e-6)


def test_arguments_are_resolved_where_that_is_wanted(engine):
    model = relu_convnet()
    result = answer(engine, model, images(), ask(1, resolved_arguments=True))
    np.testing.assert_array_equal(result.arguments[0], result.predictions.argmax(axis=1))


class CountsTraces(L.Layer):
    calls = 0

    def call(self, inputs):
        CountsTraces.calls += 1
        return inputs


def test_requests_share_one_forward_pass_and_keep_their_answers_apart(engine):
    inputs = keras.Input((*SIZE, 3))
    x = CountsTraces()(L.Conv2D(4, 3, activation="relu", name="conv1")(inputs))
    x = L.GlobalAveragePooling2D()(L.Conv2D(5, 3, activation="relu", name="conv2")(x))
    model = randomised(keras.Model(inputs, L.Dense(CLASSES)(x)))
    requests = [
        ask([0, 1, 2], layer="conv1", cams={"plain": plain_cam}),
        ask([3, 3, 0], layer="conv2", cams={"plain": plain_cam}, guided_backprop=True),
        ask([1, 1, 1], gradient=True),
        ask(layer="conv1", features=True),
    ]
    CountsTraces.calls = 0
    program = engine.trace(model, spec_of(images()), requests)
    assert CountsTraces.calls == 1
    assert [layer and layer.path for layer in program.layers] == ["conv1", "conv2", None, "conv1"]
    together = run(program, images(), *requests)
    for request, result in zip(requests, together, strict=True):
        alone = answer(engine, model, images(), request)
        for name in ("scores", "classes", "gradient", "guided_backprop", "features"):
            if getattr(alone, name) is not None:
                np.testing.assert_allclose(getattr(result, name), getattr(alone, name), rtol=1e-5, atol=1e-7)
        if request.cams:
            np.testing.assert_allclose(result.cams["plain"], alone.cams["plain"], rtol=1e-5, atol=1e-7)


def test_batch_size_is_free_and_arguments_come_with_each_call(engine):
    model = relu_convnet()
    request = ask(1, cams={"plain": plain_cam}, guided_backprop=True)
    program = engine.trace(model, spec_of(images()), [request])
    for samples in (1, 5, 2):
        classes = np.arange(samples, dtype="int32") % CLASSES
        (result,) = program([images(samples)], [(classes,)])
        features, logits, gradients, _, guided = NumPyConvnet(model).run(images(samples), classes)
        assert_close(result.scores, logits[range(samples), classes])
        assert_close(result.cams["plain"], gradcam_by_hand(features, gradients))
        assert_close(result.guided_backprop, guided)


def test_every_call_reads_the_current_weights(engine):
    model = relu_convnet()
    request = ask(1, cams={"plain": plain_cam}, gradient=True)
    program = engine.trace(model, spec_of(images()), [request])
    before = run(program, images(), request)
    randomised(model, seed=5, scale=2.0)
    after = run(program, images(), request)
    features, logits, gradients, gradient, _ = NumPyConvnet(model).run(images(), [1] * 3)
    assert_close(after.scores, logits[:, 1])
    assert_close(after.cams["plain"], gradcam_by_hand(features, gradients))
    assert_close(after.gradient, gradient)
    assert relative_error(before.gradient, gradient) > 0.1


def test_gradient_of_any_explained_input_and_of_an_inner_layer(engine):
    left, right = keras.Input((*SIZE, 3), name="left"), keras.Input((*SIZE, 3), name="right")
    conv = L.Conv2D(2, 3, name="conv", use_bias=False)
    pooled = L.GlobalAveragePooling2D()(conv(left)), L.GlobalAveragePooling2D()(conv(right))
    model = randomised(keras.Model([left, right], pooled[0] - 3 * pooled[1]))
    pictures = [images(), images(seed=2)]

    def of_input(index):
        return lambda outputs: next(out for out in outputs if out.layer is conv and out.inputs == (index,))

    requests = [
        Request(ClassScore(0), ClassScore(0).arguments(3), of_input(index), index, {"g": lambda a, g: g[..., 0]}, True)
        for index in (0, 1)
    ]
    first, second = (answer(engine, model, pictures, request) for request in requests)
    assert_close(second.gradient, -3 * first.gradient)
    assert_close(first.cams["g"], np.full((3, 10, 8), 1 / 80))
    assert_close(second.cams["g"], np.full((3, 10, 8), -3 / 80))


def test_tokens_lie_on_their_grid(engine):
    inputs = keras.Input((8, 4, 3))
    tokens = L.Reshape((32, 3), name="tokens")(inputs)
    extra = L.ZeroPadding1D((2, 0), name="extra")(tokens)
    model = keras.Model(inputs, L.GlobalAveragePooling1D()(extra))
    pictures = images(2, (8, 4))
    request = ask(1, layer="extra", features=True, cams={"sum": lambda a, g: keras.ops.sum(a * g, axis=-1)})
    result = answer(engine, model, pictures, request)
    np.testing.assert_array_equal(result.features, pictures)
    assert_close(result.cams["sum"], pictures[..., 1] / 34)


# ----------------------------------------------------------------------------------------------- trace: what it refuses


def test_target_that_checks_and_scores_is_believed(engine):
    class Refusing(ClassScore):
        def check(self, outputs):
            raise ZeroDivisionError("does not fit")

    class Flat(ClassScore):
        def scores(self, outputs, arguments):
            return outputs.logits

    class Elsewhere(ClassScore):
        def scores(self, outputs, arguments):
            return keras.ops.zeros_like(outputs.logits[:, 0])

    model = relu_convnet()
    with unchanged(model):
        with pytest.raises(ZeroDivisionError, match="does not fit"):
            engine.trace(model, spec_of(images()), [ask(Refusing())])
        with pytest.raises(ValueError, match=r"`target` must give one score per sample"):
            engine.trace(model, spec_of(images()), [ask(Flat())])
        with pytest.raises(ValueError, match=r"`layer` must influence the target.*'conv2'"):
            engine.trace(model, spec_of(images()), [ask(Elsewhere(), cams={"plain": plain_cam})])


def test_input_without_gradient_is_refused(engine):
    inputs = keras.Input((12,), dtype="int32")
    model = keras.Model(inputs, L.GlobalAveragePooling1D()(L.Embedding(20, 3, name="words")(inputs)))
    words = np.arange(24, dtype="int32").reshape(2, 12) % 20
    assert answer(engine, model, words, ask(1, layer="words", features=True)).features.shape == (2, 12, 3)
    with pytest.raises(ValueError, match=r"`model` must be differentiable.*int32"):
        engine.trace(model, spec_of(words), [ask(1, gradient=True)])


def test_layer_that_changes_the_batch_is_refused_when_it_is_run(engine):
    inputs = keras.Input((*SIZE, 3))
    x = L.Conv2D(2, 3, name="conv")(inputs)
    x = Rebatch((-1, 5, 8, 2), name="halves")(x)
    model = keras.Model(inputs, Rebatch((-1, 160), name="whole")(x))
    with pytest.raises(ValueError, match=r"`layer` must give one map per sample.*'halves', which gives 6 for 3"):
        answer(engine, model, images(), ask(layer="halves", features=True))


class Rebatch(L.Layer):
    """Lays other axes into the batch, or takes them out again."""

    def __init__(self, shape, **options):
        super().__init__(**options)
        self.shape = shape

    def call(self, inputs):
        return keras.ops.reshape(inputs, self.shape)

    def compute_output_shape(self, shape):
        return (None, *self.shape[1:])


# --------------------------------------------------------------------------------------- outputs, logits and embeddings


def normalized(x):
    return x / keras.ops.sqrt(keras.ops.sum(keras.ops.square(x), axis=-1, keepdims=True))


#: The end of a model after its last dense layer, how it is called, and whether logits or embedding stand before it.
ENDS = {
    "none": (lambda x: x, "", False, False),
    "softmax": (L.Softmax(), "softmax", True, False),
    "softmax, by a function": (lambda x: keras.ops.softmax(x), "softmax", True, False),
    "sigmoid": (L.Activation("sigmoid"), "sigmoid", True, False),
    "log_softmax": (L.Activation("log_softmax"), "log_softmax", True, False),
    "tanh": (L.Activation("tanh"), "", False, False),
    "L2": (L.UnitNormalization(), "l2_normalization", False, True),
    "L2, by hand": (normalized, "l2_normalization", False, True),
    "L2, scaled": (lambda x: 16.0 * normalized(x), "l2_normalization", False, True),
    "L1": (lambda x: x / keras.ops.sum(keras.ops.abs(x), axis=-1, keepdims=True), "", False, False),
}


@pytest.mark.parametrize("end", ENDS)
def test_what_stands_before_the_end_of_a_model(engine, end):
    function, name, has_logits, has_embedding = ENDS[end]
    inputs = keras.Input((*SIZE, 3))
    before = L.Dense(CLASSES, name="dense")(L.GlobalAveragePooling2D()(inputs))
    model = randomised(keras.Model(inputs, function(before)))

    class Look(ClassScore):
        def __init__(self, part):
            super().__init__(0)
            self.part = part

        def scores(self, outputs, arguments):
            return getattr(outputs, self.part)[:, 1]

    requests = [ask(Look(part)) for part in ("predictions", "logits", "pre_normalization")]
    program = engine.trace(model, spec_of(images()), requests)
    score, logit, embedding = (result.scores for result in run(program, images(), *requests))
    dense = numbers(keras.Model(inputs, before)(images()))[:, 1]
    final = predictions(model, images())[:, 1]
    np.testing.assert_allclose(score, final, rtol=1e-5)
    np.testing.assert_allclose(logit, dense if has_logits else final, rtol=1e-5)
    np.testing.assert_allclose(embedding, dense if has_embedding else final, rtol=1e-5)
    assert program.outputs.final_activations == name
    for shape in (program.outputs.predictions, program.outputs.logits, program.outputs.pre_normalization):
        assert isinstance(shape, keras.KerasTensor)
        assert (shape.shape, shape.dtype) == ((None, CLASSES), "float32")


def test_outputs_keep_the_structure_and_the_names(engine):
    inputs = keras.Input((*SIZE, 3))
    x = L.GlobalAveragePooling2D()(inputs)
    heads = {"kind": L.Dense(3, activation="softmax", name="kind")(x), "age": L.Dense(1, name="age")(x)}
    model = randomised(keras.Model(inputs, heads))
    program = engine.trace(model, spec_of(images()), [ask()])
    assert program.outputs.final_activations == {"kind": "softmax", "age": ""}
    assert sorted(program.outputs.names) == ["age", "kind"]
    (result,) = program([images()], [()])
    for name, expected in predictions(model, images()).items():
        np.testing.assert_allclose(result.predictions[name], expected, rtol=1e-5)


# ---------------------------------------------------------------------------------------------------------- layer calls


def test_layer_calls_in_order_with_what_they_lead_to(engine):
    inputs = [keras.Input((*SIZE, 3), name="picture"), keras.Input((5,), name="numbers")]
    conv = L.Conv2D(3, 3, padding="same", name="conv")
    inner = keras.Sequential([keras.Input((*SIZE, 3)), L.ReLU(name="relu")], name="inner")
    mean = L.GlobalAveragePooling2D(name="mean")(inner(conv(conv(inputs[0]))))
    dense = L.Dense(4, activation="softmax", name="dense")(L.Concatenate(name="both")([mean, inputs[1]]))
    model = keras.Model(inputs, dense)
    with unchanged(model):
        calls = engine.layer_calls(model, spec_of([images(), np.zeros((3, 5), "float32")]))
    found = {(call.info.path, call.info.call): call for call in calls}
    paths = [call.info.path for call in calls if "input" not in call.info.layer_type.lower()]
    assert paths == ["conv", "conv", "inner/relu", "inner", "mean", "both", "dense"]
    assert found["conv", 1].info.output_shape == (None, *SIZE, 3)
    assert found["inner/relu", 0].info.layer_type == "ReLU"
    assert found["inner/relu", 0].layer is inner.get_layer("relu")
    assert all(call.influences_score for call in calls)
    assert [name for (name, _), call in found.items() if call.is_model_output] == ["dense"]
    assert (found["mean", 0].inputs, found["both", 0].inputs) == ((0,), (0, 1))


def test_layer_calls_mark_what_the_score_depends_on(engine):
    inputs = keras.Input((*SIZE, 3))
    x = L.Conv2D(3, 3, name="trunk")(inputs)
    heads = [L.GlobalAveragePooling2D(name=f"mean_{name}")(L.Conv2D(2, 1, name=name)(x)) for name in ("a", "b")]
    model = keras.Model(inputs, heads)

    class OfA(ClassScore):
        def check(self, outputs):
            pass

        def scores(self, outputs, arguments):
            return outputs.predictions[0][:, 0]

    seen = {}

    def select(layer_outputs):
        seen.update({output.info.path: output.influences_score for output in layer_outputs})
        return layer_outputs[-1]

    target = OfA(0)
    engine.trace(model, spec_of(images()), [Request(target, target.arguments(3), select, features=True)])
    assert {name: seen[name] for name in ("trunk", "a", "b")} == {"trunk": True, "a": True, "b": False}


def test_layer_calls_of_so_many_samples_tell_the_batch_from_other_axes(engine):
    inputs = keras.Input((*SIZE, 3))
    x = Rebatch((-1, 5, 8, 2), name="halves")(L.Conv2D(2, 3, name="conv")(inputs))
    model = keras.Model(inputs, Rebatch((-1, 160), name="whole")(x))
    shapes = {
        call.info.path: call.info.output_shape for call in engine.layer_calls(model, spec_of(images()), samples=7)
    }
    assert shapes["conv"] == (None, 10, 8, 2)
    assert shapes["halves"] == (14, 5, 8, 2)
    assert shapes["whole"] == (None, 160)


# ---------------------------------------------------------------------------------------------------------------- split


def embedder(after=lambda x: x):
    inputs = keras.Input((*SIZE, 3))
    x = L.Conv2D(4, 3, activation="relu", name="conv")(inputs)
    x = L.Dense(6, name="embedding")(L.GlobalAveragePooling2D()(x))
    return randomised(keras.Model(inputs, after(x)))


@pytest.mark.parametrize("normalize", [False, True])
def test_both_halves_of_a_split_model(engine, normalize):
    model = embedder(L.UnitNormalization() if normalize else lambda x: x)
    request = ask(ClassScore(0), layer="conv")
    with unchanged(model):
        split = engine.split(model, spec_of(images()), request)
        features, embedding = split.body([images()])
    assert (split.layer.path, split.layout.first) == ("conv", 0)
    conv, dense = model.get_layer("conv"), model.get_layer("embedding")
    assert_close(features, conv(images()))
    assert_close(embedding, dense(features.mean(axis=(1, 2))))
    np.testing.assert_allclose(split.head(features), embedding, rtol=1e-5)
    assert features.dtype == embedding.dtype == np.float32
    # Any features, any number of rows, the weights of now.
    dense.bias.assign(np.arange(6.0))
    other = images(5, (10, 8), 4, seed=9)
    assert_close(split.head(other), dense(other.mean(axis=(1, 2))))


def test_split_where_a_branch_passes_the_layer_by_is_refused(engine):
    inputs = keras.Input((*SIZE, 3))
    x = L.Add()([L.Conv2D(3, 3, padding="same", name="conv")(inputs), inputs])
    model = keras.Model(inputs, L.GlobalAveragePooling2D()(x))
    with unchanged(model), pytest.raises(ValueError, match=r"`layer` must be one through which all goes.*'conv'"):
        engine.split(model, spec_of(images()), ask(ClassScore(0), layer="conv"))


# ------------------------------------------------------------------------------------------------------ receptive field


def end_of(*layers):
    inputs = x = keras.Input((*SIZE, 3))
    for layer in layers:
        x = layer(x)
    return loud(keras.Model(inputs, L.Flatten()(L.Identity(name="end")(x))))


WINDOWS = {
    "convolutions": lambda: [L.Conv2D(2, 3, 2, "same"), L.Conv2D(2, 2)],
    "depthwise and pooling": lambda: [L.DepthwiseConv2D(3, padding="same"), L.MaxPooling2D(2), L.AveragePooling2D(2)],
    "branches": lambda: [lambda x: L.Add()([L.Conv2D(3, 3, padding="same")(x), x]), L.BatchNormalization(), L.ReLU()],
    "padding and cropping": lambda: [L.ZeroPadding2D(1), L.Conv2D(2, 3), L.Cropping2D(2)],
}


@pytest.mark.parametrize("name", WINDOWS)
def test_receptive_field_equals_brute_force(engine, name):
    model = end_of(*WINDOWS[name]())
    with unchanged(model):
        traced = engine.receptive_field(model, spec_of(images(1)), ask(layer="end"))
    assert (traced.layer.path, traced.explained_input, traced.gated) == ("end", 0, False)
    assert traced.boxes.dtype == np.int32
    np.testing.assert_array_equal(traced.boxes, changed_boxes(layer_function(model, "end"), (*SIZE, 3)))


def test_lines_of_a_receptive_field(engine):
    model = end_of(L.Conv2D(2, 3, padding="same"), L.MaxPooling2D(2), L.Conv2D(2, (3, 1), padding="same"))
    traced = engine.receptive_field(model, spec_of(images(1)), ask(layer="end"))
    down, across = traced.lines
    assert [(line.stride, line.first, line.size) for line in (down, across)] == [(2, -3, 8), (2, -1, 4)]
    transposed = end_of(L.Conv2DTranspose(2, 3, 2))
    assert engine.receptive_field(transposed, spec_of(images(1)), ask(layer="end")).lines == (None, None)


def test_gates_of_a_receptive_field_count_or_not(engine):
    model = end_of(L.Conv2D(4, 3), squeeze_and_excite)
    plain = end_of(L.Conv2D(4, 3))
    everything, local, expected = (
        engine.receptive_field(built, spec_of(images(1)), ask(layer="end"), gates=gates)
        for built, gates in ((model, True), (model, False), (plain, True))
    )
    assert (everything.gated, local.gated, expected.gated) == (True, True, False)
    assert (everything.boxes == [0, 0, SIZE[1], SIZE[0]]).all()
    np.testing.assert_array_equal(local.boxes, expected.boxes)
    assert local.lines == expected.lines


def test_receptive_field_of_what_is_no_map_is_refused(engine):
    model = end_of(L.Conv2D(2, 3), L.GlobalAveragePooling2D())
    with pytest.raises(ValueError, match=r"`layer` must return one feature map"):
        engine.receptive_field(model, spec_of(images(1)), ask(layer="end"))


# --------------------------------------------------------------------------------------------- what it leaves untouched


def test_tracing_and_running_leave_the_model_as_it_was(engine):
    model = transfer()
    request = ask(1, layer="backbone/relu3", cams={"plain": plain_cam}, gradient=True, guided_backprop=True)
    pictures = images()
    with unchanged(model):
        program = engine.trace(model, spec_of(pictures), [request])
        run(program, pictures, request)


class Counts(L.Layer):
    """Counts its calls in a weight."""

    def build(self, shape):
        self.count = self.add_weight(shape=(), initializer="zeros", trainable=False, name="count")

    def call(self, inputs):
        self.count.assign_add(1.0)
        return inputs


def test_build_makes_weights_and_calls_nothing_twice(engine):
    model = keras.Sequential([Counts(name="counts"), L.Conv2D(2, 3, name="conv"), L.GlobalAveragePooling2D()])
    assert not model.built
    engine.build(model, spec_of(images()))
    assert named(model, "conv").kernel.shape == (3, 3, 3, 2)
    assert float(np.asarray(named(model, "counts").count)) == 0
    with unchanged(model):
        engine.build(model, spec_of(images()))
        run(engine.trace(model, spec_of(images()), [ask(1)]), images(), ask(1))


def test_program_keeps_no_model_alive(engine):
    model = relu_convnet()
    request = ask(1, cams={"plain": plain_cam}, guided_backprop=True)
    program = engine.trace(model, spec_of(images()), [request])
    run(program, images(), request)
    alive = weakref.ref(model)
    del model, program
    gc.collect()
    assert alive() is None


def test_versions_name_keras_and_the_backend(engine):
    versions = engine.versions()
    assert versions["keras"] == keras.__version__
    assert set(versions) == {"keras", keras.config.backend()}
    assert all(version[0].isdigit() for version in versions.values())


# ------------------------------------------------------------------------------------------------------ guided coverage


def test_guided_coverage_counts_rectifiers_and_names_other_activations(engine):
    mixed = convnet(lambda position: L.ReLU() if position == 1 else L.Activation("tanh"))
    coverage = engine.trace(mixed, spec_of(images()), [ask(1, guided_backprop=True)]).guided_coverage
    assert (sum(coverage.reached.values()), coverage.unreached, coverage.others) == (1, 0, ("tanh",))
    smooth = engine.trace(convnet(activation="silu"), spec_of(images()), [ask(1)]).guided_coverage
    assert (dict(smooth.reached), smooth.unreached) == ({}, 0)
    assert "silu" in smooth.others


def test_guided_coverage_counts_what_stays_out_of_reach(engine):
    def loop(x):
        body = lambda i, x: (i + 1, keras.ops.relu(x))  # noqa: E731
        return keras.ops.while_loop(lambda i, _: i < 2, body, (0, x), maximum_iterations=2)[1]

    coverage = engine.trace(called(ConvnetByCall(loop)), spec_of(images()), [ask(1)]).guided_coverage
    if BACKEND == "torch":  # whose loops are Python's: nothing in them is out of reach
        assert (sum(coverage.reached.values()), coverage.unreached) == (2, 0)
        return
    assert not coverage.reached
    assert coverage.unreached > 0


# --------------------------------------------------------------------------------------- guided backpropagation by case


@pytest.fixture(scope="module", params=CASES, ids=str)
def explained(request):
    """A case, its model, and the maps that one pass gives together."""
    case = CASES[request.param]
    model = case.build()
    return case, model, explain(model, images(), target=OF_CLASS, layer="conv2")


def test_guided_backprop_equals_a_network_of_custom_gradients(explained):
    check_guided_backprop(*explained)


def test_the_guided_oracle_differs_from_plain_backpropagation(explained):
    check_the_oracle_differs_from_plain_backpropagation(*explained[:2])


def test_gradcam_keeps_ordinary_gradients(explained):
    check_gradcam_is_ordinary(*explained)


@pytest.mark.parametrize("name", ["layers.ReLU, max 6", "layers.ReLU, max 2.5", "layers.ReLU, all three"])
def test_the_pictures_reach_the_plateau(name):
    case, options = CASES[name], OPTIONS[name.split(", ")[1]]
    before_last_gate = numbers(case.by_hand(case.build(), "ordinary").features(images()))
    assert np.mean(before_last_gate > options["max_value"]) > 0.02


# ------------------------------------------------------------------------------------- residual, gates, what is no ReLU


def test_relu6_after_a_sum_of_two_branches_is_a_rectifier():
    inputs = keras.Input((*images().shape[1:3], 3))
    left, right = L.Conv2D(4, 3, padding="same")(inputs), L.Conv2D(4, 1)(inputs)
    joined = L.ReLU(6.0)(L.Add()([left, right]))
    outputs = L.Dense(3)(L.GlobalAveragePooling2D()(joined))
    model = randomised(keras.Model(inputs, outputs))
    one, two, dense = (layer for layer in model.layers if layer.weights)
    gate = rectifier(max_value=6.0).guided()

    def score(x):
        left = keras.ops.conv(x, one.kernel, 1, "same") + one.bias
        right = keras.ops.conv(x, two.kernel, 1, "same") + two.bias
        return logits(dense, keras.ops.mean(gate(left + right), (1, 2)))[:, 1]

    result = explain(model, images(), target=1, methods="guided_backprop")
    assert_close(result.guided_backprop, input_gradient(score, images()))


GATES = {
    "hard_silu": ("hard_silu", lambda x: x * hard_sigmoid_gate()(x)),
    "hard_sigmoid": ("hard_sigmoid", hard_sigmoid_gate()),
    "relu6(x + 3) / 6": (lambda x: keras.ops.relu6(x + 3.0) / 6.0, hard_sigmoid_gate()),
    "x * relu6(x + 3) / 6": (lambda x: x * keras.ops.relu6(x + 3.0) / 6.0, lambda x: x * hard_sigmoid_gate()(x)),
}


@pytest.mark.filterwarnings("ignore:.*keep their ordinary gradient")
@pytest.mark.parametrize("name", GATES)
def test_hard_sigmoid_gate_keeps_its_ordinary_gradient_beside_a_relu(name):
    activation, by_hand = GATES[name]
    model = convnet(lambda position: L.Activation(activation) if position == 1 else L.ReLU())
    result = explain(model, images(), target=OF_CLASS, methods="guided_backprop")
    expected = ConvnetByHand(model, [by_hand, rectifier().guided()])
    assert_close(result.guided_backprop, input_gradient(expected.score(OF_CLASS), images()))


SMOOTH = {
    "silu": "silu",
    "gelu": "gelu",
    "elu": "elu",
    "hard_silu": "hard_silu",
    "softplus": "softplus",
}


@pytest.mark.parametrize("activation", SMOOTH)
def test_model_without_relu_warns_and_gives_plain_gradients(activation):
    model = convnet(activation=activation)
    with pytest.warns(UserWarning, match=rf"no ReLU.*plain backpropagation.*{activation}"):
        result = explain(model, images(), target=OF_CLASS)
    activation = keras.activations.get(activation)
    by_hand = ConvnetByHand(model, [activation, activation])
    assert_close(result.guided_backprop, input_gradient(by_hand.score(OF_CLASS), images()))


def test_gradcam_alone_does_not_warn_about_a_model_without_relu():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        explain(convnet(activation="silu"), images(), target=OF_CLASS, methods="gradcam")


# ------------------------------------------------------------------------------------------------------- half precision

#: Largest error, relative to the largest value, beside the same network in float32.
TOLERANCES = {"mixed_float16": 0.01, "mixed_bfloat16": 0.08}


PHOTOS = np.random.default_rng(2).integers(0, 256, (3, *SIZE, 3)).astype("float32")


def under(policy, build):
    keras.config.set_dtype_policy(policy)
    model = build()
    keras.config.set_dtype_policy("float32")
    return model


def half(policy, change, build=lambda: convnet(activation="relu")):
    """The same network under ``policy`` and in float32."""
    model, twin = under(policy, build), build()
    for one in (model, twin):
        change(one)
    return model, twin


@pytest.mark.parametrize("nested", [False, True])
def test_mixed_precision_is_close_to_float32(nested):
    pictures, build = (PHOTOS, transfer) if nested else (images(), lambda: convnet(activation="relu"))
    expected = explain(build(), pictures, target=2)
    for policy, tolerance in TOLERANCES.items():
        result = explain(under(policy, build), pictures, target=2)
        assert result.layer == expected.layer
        for name in ("scores", "gradcam", "heatmap", "guided_backprop", "guided_gradcam"):
            actual = getattr(result, name)
            assert actual.dtype == np.float32
            assert_close(actual, getattr(expected, name), tolerance)


def scale_head(factor):
    def change(model):
        dense = named(model, "dense")
        dense.kernel.assign(dense.kernel * factor)

    return change


def naive_error(model, expected, pictures):
    """How wrong the map is when float16 is differentiated as it is, to show that a case needs care."""
    conv1, conv2, dense = (named(model, name) for name in ("conv1", "conv2", "dense"))

    def head(a):
        kernel, bias = (keras.ops.cast(weight.value, "float16") for weight in (dense.kernel, dense.bias))
        return keras.ops.cast(keras.ops.mean(a, axis=(1, 2)) @ kernel + bias, "float32")[:, 1]

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
    # A unit within the rounding of float16 around zero may open or close, which concerns the pixels around it alone.
    errors = np.abs(result.guided_backprop - expected.guided_backprop) / np.abs(expected.guided_backprop).max()
    assert np.quantile(errors, 0.98) <= 0.02


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


# ------------------------------------------------------------------------------------- series, volumes, tokens, masks


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
            x = gate(keras.ops.conv(x, layer.kernel, step, "same") + layer.bias)
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
    all_tokens = tokens(keras.ops.reshape(patches(pictures), (2, 128, 8)))

    def head(a):
        return logits(dense, norm2(all_tokens + attention(a, a))[:, 0])[:, 1]

    result = explain(model, pictures, target=1, layer="norm1", methods="gradcam")
    expected = plain_gradcam(lambda x: norm1(all_tokens), head, pictures)
    on_grid = [array[:, 1:].reshape(2, 16, 8, 8) for array in (expected.activations, expected.gradients)]
    assert result.gradcam.shape == (2, 16, 8)
    assert_close(result.gradcam, gradcam_by_hand(*on_grid))
    assert_close(result.heatmap, upsample_by_hand(gradcam_by_hand(*on_grid), (32, 16)))


def test_map_of_a_score_over_space():
    """A segmentation model: the score is the mean logit of a class inside a mask."""
    inputs = keras.Input((*SIZE, 3))
    features = L.Conv2D(4, 3, padding="same", activation="relu", name="features")(inputs)
    final = L.Conv2D(2, 1, activation="softmax", name="final")
    model = randomised(keras.Model(inputs, final(features)))
    mask = np.zeros(SIZE, "float32")
    mask[2:5, 6:9] = 1

    def inside(outputs):
        return keras.ops.sum(outputs[..., 1] * keras.ops.convert_to_tensor(mask), axis=(1, 2))

    result = explain(model, images(), target=inside, methods="gradcam")
    assert result.layer == "features"
    check_gradcam(result, model.get_layer("features"), lambda a: inside(final(a)), images())
