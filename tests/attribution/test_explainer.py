"""Explainer, explain and Explanation: numbers computed by hand, batches, inputs of all kinds, current weights."""

from __future__ import annotations

import dataclasses
import gc
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as L  # noqa: N812
from models import CLASSES, SIZE, ConvnetByCall, ConvnetByHand, called, convnet, convnet_in_sequence, images, randomised
from oracles import assert_close, guided_gradcam_by_hand, input_gradient, plain_gradcam, rectifier, upsample_by_hand

from keras_gradcam import Class, Explainer, Explanation, Target, Unit, explain
from keras_gradcam.engine.tensorflow.engine import TensorFlowEngine

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
    features = keras.Model(model.input, model.get_layer("conv2").output)(images()).numpy()
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
        return tf.gather(logits, [3, 0, 1], batch_dims=1)

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


@pytest.fixture(scope="module")
def model():
    return convnet(activation="relu")


ARRAYS = ("scores", "predictions", "classes", "gradcam", "heatmap", "guided_backprop", "guided_gradcam")


def assert_same(actual: Explanation, expected: Explanation, tolerance: float = 1e-5):
    for name in ARRAYS:
        one, other = getattr(actual, name), getattr(expected, name)
        assert (one is None) == (other is None), name
        if name == "classes" or other is None or not other.any():
            np.testing.assert_array_equal(one, other)
        else:
            assert_close(one, other, tolerance)
    assert actual.layer == expected.layer


@pytest.mark.parametrize("batch_size", [1, 3, 7, 100])
def test_batch_equals_single_pictures(model, batch_size):
    target = [3, 0, 1, 2, 2, 1, 0]
    result = Explainer(model, batch_size=batch_size)(images(7), target)
    assert len(result) == 7
    single = Explainer(model)
    for n in range(7):
        assert_same(result[n], single(images(7)[n : n + 1], target[n : n + 1]))


def test_batches_of_any_length_share_one_program(model):
    explainer = Explainer(model, batch_size=4)
    for count in (1, 2, 9):
        explainer(images(count))
    assert len(explainer.runner.cache) == 1


INTEGERS = np.random.default_rng(3).integers(0, 256, (3, *SIZE, 3))


@pytest.mark.parametrize(
    "given",
    [
        INTEGERS.astype("float64"),
        INTEGERS.astype("float16"),
        INTEGERS.astype("uint8"),
        INTEGERS.astype("int32"),
        INTEGERS.astype("int64"),
        tf.constant(INTEGERS, "float32"),
        tf.constant(INTEGERS, "uint8"),
        tf.Variable(INTEGERS, dtype="float32"),
        tf.cast(INTEGERS, "bfloat16"),
        np.ascontiguousarray(INTEGERS[::-1].astype("float32"))[::-1],
    ],
    ids=lambda given: f"{type(given).__name__} {getattr(given, 'dtype', '')}",
)
def test_numbers_of_all_kinds_are_explained_as_they_are(model, given):
    expected = explain(model, INTEGERS.astype("float32"), target=1)
    assert_same(
        explain(model, given, target=1), expected, 0.02 if "bfloat16" in str(getattr(given, "dtype", "")) else 1e-5
    )


def test_booleans_are_explained_as_zero_and_one(model):
    given = INTEGERS > 127
    assert_same(explain(model, given, target=1), explain(model, given.astype("float32"), target=1))


def test_pictures_are_not_modified(model):
    given = images()
    given.flags.writeable = False
    explain(model, given)
    np.testing.assert_array_equal(given, images())


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


@pytest.mark.parametrize("methods", [*METHODS, METHODS[:2], METHODS[1:], METHODS[::2], METHODS])
def test_only_what_was_asked_for_is_there_and_it_is_the_same(model, methods):
    complete = explain(model, images(), target=1)
    result = explain(model, images(), target=1, methods=methods)
    asked = {methods} if isinstance(methods, str) else set(methods)
    for name in METHODS:
        if name in asked:
            assert_close(getattr(result, name), getattr(complete, name))
        else:
            assert getattr(result, name) is None
    assert (result.heatmap is None) == ("gradcam" not in asked)
    assert result.layer == (None if asked == {"guided_backprop"} else "conv2")


@pytest.mark.parametrize(
    ("methods", "gradcam", "guided"),
    [("gradcam", True, False), ("guided_backprop", False, True), ("guided_gradcam", True, True)],
)
def test_engine_is_asked_for_what_is_needed_only(model, monkeypatch, methods, gradcam, guided):
    requests = []
    trace = TensorFlowEngine.trace

    def spy(self, model, input_spec, asked):
        requests.extend(asked)
        return trace(self, model, input_spec, asked)

    monkeypatch.setattr(TensorFlowEngine, "trace", spy)
    explain(model, images(), methods=methods)
    assert [("gradcam" in request.cams, request.guided_backprop) for request in requests] == [(gradcam, guided)]


def operations(explainer) -> set[str]:
    """The types of all operations that the results of the one program need, which are all that TensorFlow runs."""
    (program,) = explainer.runner.cache._kept.values()
    needed, todo = set(), [tensor.op for tensor in program._function.graph.outputs]
    while todo:
        op = todo.pop()
        if op not in needed:
            needed.add(op)
            todo.extend([*op.control_inputs, *(tensor.op for tensor in op.inputs)])
    return {op.type for op in needed}


def test_gradcam_alone_takes_no_gradient_below_the_layer(model):
    for methods, expected in (("gradcam", False), (METHODS, True)):
        explainer = Explainer(model, methods=methods)
        explainer(images())
        assert ("Conv2DBackpropInput" in operations(explainer)) is expected


def test_no_gradient_is_taken_with_respect_to_weights(model):
    explainer = Explainer(model)
    explainer(images())
    assert not [kind for kind in operations(explainer) if "BackpropFilter" in kind]


@pytest.mark.parametrize("methods", [(), "gradcm", ["gradcam", "smooth"], [""]])
def test_unknown_method_lists_the_methods(model, methods):
    with pytest.raises(ValueError, match=r"`methods`.*Candidates: gradcam, .*guided_backprop, .*integrated_gradients"):
        Explainer(model, methods=methods)


@pytest.mark.parametrize("batch_size", [0, -1, 1.5, True, None, "8"])
def test_batch_size_must_be_a_whole_number(model, batch_size):
    with pytest.raises(ValueError, match=r"`batch_size`"):
        Explainer(model, batch_size=batch_size)


@pytest.mark.parametrize("wrong", [None, "model", lambda x: x, tf.Module(), keras.Model])
def test_what_is_no_model_is_refused(wrong):
    with pytest.raises(ValueError, match=r"`model` must be a Keras 3 model"):
        Explainer(wrong)


@pytest.mark.parametrize("target", ["cat", 1.5, -1, Class])
def test_wrong_target_is_refused_at_once(model, target):
    with pytest.raises(ValueError, match=r"`target` must"):
        Explainer(model, target=target)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (images()[0], r"\(None, 12, 10, 3\).*\(12, 10, 3\).*images\[None\]"),
        (images(channels=1), r"\(None, 12, 10, 3\).*\(3, 12, 10, 1\)"),
        (images(size=(10, 12)), r"\(None, 12, 10, 3\).*\(3, 10, 12, 3\)"),
        (images()[:0], r"at least one.*\(0, 12, 10, 3\)"),
        (np.array(3.0), "must be a batch"),
        ([], "must be a batch"),
        ([images(2), images(3)], "same number of samples"),
        (images().astype("complex64"), "real numbers.*complex64"),
        (np.array(["cat"]), "real numbers"),
    ],
    ids=["single", "channels", "swapped", "empty", "number", "nothing", "lengths", "complex", "strings"],
)
def test_wrong_pictures_are_refused_with_their_shape(model, given, message):
    with pytest.raises(ValueError, match=message):
        explain(model, given)


@pytest.mark.parametrize("target", [4, [0, 1], [0, 1, 9], Unit(7), Class(0) - Class(4)])
def test_target_that_does_not_fit_is_refused(model, target):
    with pytest.raises(ValueError, match=r"`target` must"):
        explain(model, images(), target=target)


@pytest.mark.parametrize(
    "target",
    [lambda y: y, lambda y: tf.reduce_sum(y), lambda y: y[:, None, :1]],
    ids=["a table", "one number", "three axes"],
)
def test_function_must_give_one_score_per_sample(model, target):
    with pytest.raises(ValueError, match=r"one score per sample"):
        explain(model, images(), target=target)


def test_error_of_a_target_reaches_the_user(model):
    def broken(predictions):
        raise KeyError("my own")

    with pytest.raises(KeyError, match=r"my own"):
        explain(model, images(), target=broken)


def test_input_of_integers_has_no_guided_gradient():
    model = keras.Sequential(
        [
            keras.Input((12,), dtype="int32"),
            L.Embedding(10, 4),
            L.Conv1D(3, 3, activation="relu"),
            L.GlobalAveragePooling1D(),
            L.Dense(2),
        ]
    )
    with pytest.raises(ValueError, match=r"must be differentiable.*int32.*methods="):
        explain(model, np.ones((2, 12), "int32"), layer="conv1d", methods="guided_backprop")


def test_weights_that_are_not_finite_are_warned_about():
    model = convnet(activation="relu")
    model.get_layer("dense").kernel.assign(np.full((5, CLASSES), np.nan))
    with pytest.warns(RuntimeWarning) as caught:
        explain(model, images(), target=1)
    for name, warning in zip(("scores", "gradcam", "guided_backprop"), caught, strict=True):
        assert f"`{name}` is not finite for 3 of 3 samples" in str(warning.message)


# ----------------------------------------------------------------------------------------------- traced once, read anew


class Counter(L.Layer):
    """Counts how often Python runs its call."""

    calls = 0

    def call(self, inputs):
        Counter.calls += 1
        return inputs * 1.0


@pytest.fixture
def counted():
    inputs = keras.Input((*SIZE, 3))
    x = Counter()(inputs)
    x = L.Conv2D(4, 3, activation="relu", name="conv")(x)
    x = L.BatchNormalization(name="norm")(x)
    x = L.Activation("relu")(x)
    model = randomised(keras.Model(inputs, L.Dense(CLASSES, activation="softmax")(L.GlobalAveragePooling2D()(x))))
    Counter.calls = 0
    return model


def test_assigned_weights_are_read_without_a_new_trace(counted):
    explainer = Explainer(counted, target=1)
    before = explainer(images())
    assert Counter.calls == 1
    randomised(counted, seed=5)
    after = explainer(images())
    assert Counter.calls == 1
    assert_same(after, explain(counted, images(), target=1))
    assert np.abs(after.gradcam - before.gradcam).max() > 1e-3
    assert np.abs(after.guided_backprop - before.guided_backprop).max() > 1e-3


def test_training_between_calls_is_seen_without_a_new_trace(counted):
    explainer = Explainer(counted, target=1)
    explainer(images())
    counted.compile(keras.optimizers.SGD(0.5), "sparse_categorical_crossentropy", metrics=["accuracy"])
    counted.fit(images(8), np.arange(8) % CLASSES, epochs=1, batch_size=4, verbose=0)
    traces = Counter.calls
    after = explainer(images())
    assert Counter.calls == traces
    assert len(explainer.runner.cache) == 1
    assert_same(after, explain(counted, images(), target=1))


def test_values_of_targets_change_without_a_new_trace(counted):
    explainer = Explainer(counted)
    for target in (None, 0, 3, [1, 2, 3], Class(2), np.array([0, 0, 1])):
        assert_same(explainer(images(), target), explain(counted, images(), target=target))
    assert len(explainer.runner.cache) == 1
    for target in (Class(0) - Class(1), Class(2) - Class([3, 2, 1])):
        explainer(images(), target)
    assert len(explainer.runner.cache) == 2


def test_functions_made_anew_for_every_call_do_not_pile_up_graphs(model):
    explainer = Explainer(model, methods="gradcam")
    for position in range(12):
        expected = explain(model, images(), target=Unit(position % CLASSES), methods="gradcam")
        actual = explainer(images(), lambda outputs, position=position: outputs[:, position % CLASSES])
        assert_close(actual.scores, expected.scores)
    assert len(explainer.runner.cache) <= 8


def test_explainers_own_target_serves_where_none_is_given(model):
    explainer = Explainer(model, target=2)
    np.testing.assert_array_equal(explainer(images()).classes, [2, 2, 2])
    np.testing.assert_array_equal(explainer(images(), 1).classes, [1, 1, 1])
    np.testing.assert_array_equal(explainer(images()).classes, [2, 2, 2])


def test_replaced_activation_is_explained_anew():
    model = convnet(activation="relu")
    explainer = Explainer(model, target=1)
    explainer(images())
    model.get_layer("conv1").activation = keras.activations.relu6
    model.get_layer("conv2").activation = keras.activations.leaky_relu
    assert_same(explainer(images()), explain(model, images(), target=1))


def test_unbuilt_model_is_traced_once():
    model = keras.Sequential([Counter(), L.Conv2D(2, 3, activation="relu"), L.GlobalAveragePooling2D(), L.Dense(2)])
    explainer = Explainer(model)
    explainer(images())
    calls = Counter.calls
    explainer(images())
    assert Counter.calls == calls


def test_functions_run_eagerly_by_the_user_keep_working_and_stay_so(model):
    expected = explain(model, images(), target=1)
    tf.config.run_functions_eagerly(True)
    explainer = Explainer(model, target=1)
    assert_same(explainer(images()), expected)
    assert_same(explainer(images()), expected)
    assert tf.config.functions_run_eagerly()
    with pytest.raises(ValueError, match=r"layer"):
        explain(model, images(), layer="missing")
    assert tf.config.functions_run_eagerly()


@pytest.mark.parametrize("build", [lambda: convnet(activation="relu"), lambda: called(ConvnetByCall(tf.nn.relu))])
def test_explainer_keeps_no_model_alive(build):
    model = build()
    explainer = Explainer(model)
    explainer(images(), 1)
    explainer(images(), lambda outputs: outputs[:, 0])
    alive = weakref.ref(model)
    del model, explainer
    gc.collect()
    assert alive() is None


@pytest.mark.parametrize("layer", [L.ReLU, L.PReLU])
def test_explainer_keeps_no_graph_alive(layer):
    explainer = Explainer(convnet(lambda position: layer()))
    explainer(images(), 1)
    (program,) = explainer.runner.cache._kept.values()
    alive = weakref.ref(program._function.graph)
    del explainer, program
    gc.collect()
    assert alive() is None


def test_explain_keeps_no_model_alive_and_its_result_stays():
    model = convnet_in_sequence()
    result = explain(model, images())
    alive = weakref.ref(model)
    del model
    gc.collect()
    assert alive() is None
    assert result.gradcam.shape == (3, 6, 5)


def test_own_target_reads_logits(model):
    class Margin(Target):
        """The best class against the second best."""

        def cache_key(self):
            return "Margin"

        def scores(self, outputs, arguments):
            best = keras.ops.top_k(outputs.logits, 2)[0]
            return best[:, 0] - best[:, 1]

    order = np.argsort(explain(model, images()).predictions, axis=1)
    expected = explain(model, images(), target=Class(order[:, -1]) - Class(order[:, -2]))
    result = explain(model, images(), target=Margin())
    assert_close(result.gradcam, expected.gradcam)
    assert_close(result.scores, expected.scores)


def test_outputs_says_how_the_model_ends_without_running_it(model):
    outputs = Explainer(model).runner.outputs(images())
    assert tuple(outputs.predictions.shape) == (None, CLASSES)
    assert outputs.final_activations == "softmax"
    with pytest.raises(ValueError, match=r"`target` must name classes"):
        Explainer(model, target=9).runner.outputs(images())


# ---------------------------------------------------------------------------------------------------------- Explanation


def explanation():
    """Five samples of two outputs, every number its own."""
    count = iter(range(100_000))

    def array(*shape):
        return np.array([next(count) for _ in range(int(np.prod(shape)))], "float32").reshape(shape)

    return Explanation(
        scores=array(5),
        predictions={"a": array(5, 2), "b": [array(5, 3), array(5)]},
        classes=np.arange(5),
        layer="conv",
        maps={"gradcam": array(5, 2, 3), "guided_backprop": array(5, 4, 6, 3)},
        images=array(5, 4, 6, 3),
    )


MASK = np.array([True, False, True, True, False])


@pytest.mark.parametrize(
    ("index", "rows"),
    [
        (0, [0]),
        (3, [3]),
        (-1, [4]),
        (-5, [0]),
        (np.int64(2), [2]),
        (slice(1, 3), [1, 2]),
        (slice(None, None, -2), [4, 2, 0]),
        (slice(3, 3), []),
        (MASK, [0, 2, 3]),
        ([4, 0, 0], [4, 0, 0]),
        (np.array([1, -1]), [1, 4]),
    ],
    ids=str,
)
def test_indexing_takes_the_same_samples_everywhere(index, rows):
    whole, part = explanation(), explanation()[index]
    assert len(part) == len(rows)
    for name in ("scores", "classes", "gradcam", "heatmap", "guided_backprop"):
        np.testing.assert_array_equal(getattr(part, name), getattr(whole, name)[rows])
    np.testing.assert_array_equal(part.predictions["a"], whole.predictions["a"][rows])
    np.testing.assert_array_equal(part.predictions["b"][0], whole.predictions["b"][0][rows])
    np.testing.assert_array_equal(part.predictions["b"][1], whole.predictions["b"][1][rows])
    assert part.layer == "conv"
    assert part.guided_gradcam is None


@pytest.mark.parametrize("index", [5, -6, np.int32(9)])
def test_index_out_of_range_is_an_index_error(index):
    with pytest.raises(IndexError):
        explanation()[index]


def test_mask_of_another_length_is_an_index_error():
    with pytest.raises(IndexError):
        explanation()[MASK[:3]]


def test_iteration_gives_every_sample_in_order():
    parts = list(explanation())
    assert [part.scores.tolist() for part in parts] == [[score] for score in explanation().scores.tolist()]
    assert all(len(part) == 1 for part in parts)
    assert parts[3].gradcam.shape == (1, 2, 3)


def test_explanation_is_frozen():
    result = explanation()
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.scores = None
    with pytest.raises(dataclasses.FrozenInstanceError):
        del result.scores


def test_explanation_says_what_it_holds():
    maps = "layer='conv', gradcam (5, 2, 3), guided_backprop (5, 4, 6, 3)"
    whole = explanation()
    assert repr(whole) == f"Explanation(5 samples, classes 0, 1, 2, 3, 4, {maps})"
    assert repr(whole[3]) == f"Explanation(1 sample, class 3, {maps})".replace("(5,", "(1,")
    assert repr(dataclasses.replace(whole, classes=np.full(5, 2))) == f"Explanation(5 samples, class 2, {maps})"
    assert repr(dataclasses.replace(whole, classes=None)) == f"Explanation(5 samples, {maps})"
    many = Explanation(np.zeros(20), None, np.arange(20) % 9)
    assert repr(many) == "Explanation(20 samples, 9 classes, layer=None)"


def test_explanation_says_what_was_explained(model):
    against = explain(model, images(), target=Class(3) - Class(1), methods="gradcam")
    assert against.target == "Class(3) - Class(1)"
    assert repr(against[:2]) == "Explanation(2 samples, target=Class(3) - Class(1), layer='conv2', gradcam (2, 6, 5))"
    assert "class 2, layer" in repr(explain(model, images(), target=2, methods="gradcam"))
    one_each = explain(model, images(3), target=Class([3, 0, 1]) - Class([0, 1, 2]), methods="gradcam")
    assert one_each[0].target == "Class([3, 0, 1]) - Class([0, 1, 2])"
    long = explain(model, images(40), target=-Class([1] * 40), methods="gradcam")
    assert len(repr(long)) < 150


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
    for given in (labels[:, None], np.eye(CLASSES)[labels], np.eye(CLASSES, dtype=int)[labels], labels.astype(float)):
        assert_same(explain(model, images(), target=given), expected)


# --- inputs of other shapes -----------------------------------------------------------------------------------------


def test_grey_pictures_without_a_channel_axis_are_explained_as_with_one():
    inputs = keras.Input((12, 10))
    x = L.Reshape((12, 10, 1))(inputs)
    x = L.Conv2D(4, 3, activation="relu", name="conv")(x)
    model = keras.Model(inputs, L.Dense(3)(L.GlobalAveragePooling2D()(x)))
    with_axis = keras.Sequential([keras.Input((12, 10, 1)), *model.layers[2:]])
    grey = images()[..., 0]
    flat, full = explain(model, grey, target=1), explain(with_axis, grey[..., None], target=1)
    assert flat.layer == "conv"
    for name in ("gradcam", "heatmap"):
        np.testing.assert_allclose(getattr(flat, name), getattr(full, name), rtol=1e-6)
    for name in ("guided_backprop", "guided_gradcam"):
        np.testing.assert_allclose(getattr(flat, name), getattr(full, name)[..., 0], rtol=1e-6)


def test_words_are_explained_by_position():
    model = keras.Sequential(
        [
            keras.Input((12,), dtype="int32"),
            L.Embedding(20, 6),
            L.Conv1D(4, 3, activation="relu", padding="same", name="conv"),
            L.GlobalAveragePooling1D(),
            L.Dense(2),
        ]
    )
    result = explain(model, np.arange(24).reshape(2, 12) % 20, target=0, methods=["gradcam"])
    assert result.layer == "conv"
    assert result.heatmap.shape == (2, 12)
    np.testing.assert_allclose(result.heatmap, result.gradcam)


def test_channels_first_is_refused_or_at_least_said():
    first = keras.Sequential([keras.Input((3, 12, 10)), L.GlobalAveragePooling2D(data_format="channels_first")])
    with pytest.raises(ValueError, match="channels last"):
        explain(first, np.zeros((1, 3, 12, 10)))
    turned = keras.Sequential(
        [
            keras.Input((3, 12, 10)),
            L.Permute((2, 3, 1)),
            L.Conv2D(4, 3, activation="relu"),
            L.GlobalAveragePooling2D(),
            L.Dense(2),
        ]
    )
    with pytest.warns(UserWarning, match="channels came first"):
        explain(turned, np.zeros((1, 3, 12, 10)))


def test_functions_that_cannot_be_hashed_are_targets_too(model):
    class First:
        __hash__ = None

        def __call__(self, outputs):
            return outputs[:, 0]

    expected = explain(model, images(), target=lambda outputs: outputs[:, 0])
    explainer, target = Explainer(model), First()
    np.testing.assert_array_equal(explainer(images(), target).gradcam, expected.gradcam)
    explainer(images(), target)
    assert len(explainer.runner.cache) == 1
