"""One trace serves many calls, current weights, several targets and layers; nothing is kept alive."""

from __future__ import annotations

import gc
import weakref

import keras
import numpy as np
import pytest
from backends import BACKEND, compiled_only, tensorflow_only
from keras import layers as L  # noqa: N812
from models import CLASSES, SIZE, ConvnetByCall, called, convnet, convnet_in_sequence, images, randomised, small_network
from oracles import assert_same

from keras_gradcam import Class, Explainer, Norm, Output, explain
from keras_gradcam.engine import current_engine


@pytest.fixture(scope="module")
def model():
    return convnet(activation="relu")


METHODS = ["gradcam", "guided_backprop", "guided_gradcam"]


def test_batches_of_any_length_share_one_program(model):
    explainer = Explainer(model, batch_size=4)
    for count in (1, 2, 9):
        explainer(images(count))
    assert len(explainer.runner.cache) == 1


@pytest.mark.parametrize(
    ("methods", "gradcam", "guided"),
    [("gradcam", True, False), ("guided_backprop", False, True), ("guided_gradcam", True, True)],
)
def test_engine_is_asked_for_what_is_needed_only(model, monkeypatch, methods, gradcam, guided):
    requests = []
    engine = type(current_engine())
    trace = engine.trace

    def spy(self, model, input_spec, asked):
        requests.extend(asked)
        return trace(self, model, input_spec, asked)

    monkeypatch.setattr(engine, "trace", spy)
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


@tensorflow_only
def test_gradcam_alone_takes_no_gradient_below_the_layer(model):
    for methods, expected in (("gradcam", False), (METHODS, True)):
        explainer = Explainer(model, methods=methods)
        explainer(images())
        assert ("Conv2DBackpropInput" in operations(explainer)) is expected


@tensorflow_only
def test_no_gradient_is_taken_with_respect_to_weights(model):
    explainer = Explainer(model)
    explainer(images())
    assert not [kind for kind in operations(explainer) if "BackpropFilter" in kind]


#: JAX traces a model once to know it, and once for each batch size.
MOST_TRACES = 2 if BACKEND == "jax" else 1


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


@compiled_only
def test_assigned_weights_are_read_without_a_new_trace(counted):
    explainer = Explainer(counted, target=1)
    before = explainer(images())
    traces = Counter.calls
    assert traces <= MOST_TRACES
    randomised(counted, seed=5)
    after = explainer(images())
    assert Counter.calls == traces
    assert_same(after, explain(counted, images(), target=1))
    assert np.abs(after.gradcam - before.gradcam).max() > 1e-3
    assert np.abs(after.guided_backprop - before.guided_backprop).max() > 1e-3


@compiled_only
def test_training_between_calls_is_seen_without_a_new_trace(counted):
    explainer = Explainer(counted, target=1)
    explainer(images())
    counted.compile(keras.optimizers.SGD(0.5), "sparse_categorical_crossentropy")
    counted.fit(images(8), np.arange(8) % CLASSES, epochs=1, batch_size=4, verbose=0)
    traces = Counter.calls
    after = explainer(images())
    assert Counter.calls == traces
    assert len(explainer.runner.cache) == 1
    assert_same(after, explain(counted, images(), target=1))


def test_values_of_targets_change_without_a_new_trace(counted):
    explainer, backwards = Explainer(counted), Explainer(counted)
    targets = (None, 0, 3, [1, 2, 3], Class(2), np.array([0, 0, 1]))
    found = [explainer(images(), target) for target in targets]
    # What was traced for another target, and asked in another order, gives the same.
    expected = [backwards(images(), target) for target in reversed(targets)]
    for one, other in zip(found, reversed(expected), strict=True):
        assert_same(one, other)
    assert_same(found[3], explain(counted, images(), target=[1, 2, 3]))
    assert len(explainer.runner.cache) == 1
    for target in (Class(0) - Class(1), Class(2) - Class([3, 2, 1])):
        explainer(images(), target)
    assert len(explainer.runner.cache) == 2


def test_replaced_activation_is_explained_anew():
    model = convnet(activation="relu")
    explainer = Explainer(model, target=1)
    explainer(images())
    model.get_layer("conv1").activation = keras.activations.relu6
    model.get_layer("conv2").activation = keras.activations.leaky_relu
    assert_same(explainer(images()), explain(model, images(), target=1))


@compiled_only
def test_unbuilt_model_is_traced_once():
    model = keras.Sequential([Counter(), L.Conv2D(2, 3, activation="relu"), L.GlobalAveragePooling2D(), L.Dense(2)])
    explainer = Explainer(model)
    explainer(images())
    calls = Counter.calls
    explainer(images())
    assert Counter.calls == calls


@tensorflow_only
def test_functions_run_eagerly_by_the_user_keep_working_and_stay_so(model):
    import tensorflow as tf

    expected = explain(model, images(), target=1)
    tf.config.run_functions_eagerly(True)
    explainer = Explainer(model, target=1)
    assert_same(explainer(images()), expected)
    assert_same(explainer(images()), expected)
    assert tf.config.functions_run_eagerly()
    with pytest.raises(ValueError, match=r"layer"):
        explain(model, images(), layer="missing")
    assert tf.config.functions_run_eagerly()


@pytest.mark.parametrize("build", [lambda: convnet(activation="relu"), lambda: called(ConvnetByCall(keras.ops.relu))])
def test_explainer_keeps_no_model_alive(build):
    model = build()
    explainer = Explainer(model)
    explainer(images(), 1)
    explainer(images(), lambda outputs: outputs[:, 0])
    alive = weakref.ref(model)
    del model, explainer
    gc.collect()
    assert alive() is None


@tensorflow_only
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


def test_outputs_says_how_the_model_ends_without_running_it(model):
    outputs = Explainer(model).runner.traced(images()).outputs
    assert tuple(outputs.predictions.shape) == (None, CLASSES)
    assert outputs.final_activations == "softmax"
    with pytest.raises(ValueError, match=r"`target` must name classes"):
        Explainer(model, target=9).runner.traced(images())


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


@pytest.mark.parametrize(
    "target",
    [lambda y: y, lambda y: keras.ops.sum(y), lambda y: y[:, None, :1]],
    ids=["a table", "one number", "three axes"],
)
def test_function_must_give_one_score_per_sample(model, target):
    with pytest.raises(ValueError, match=r"one score per sample"):
        explain(model, images(), target=target)


@pytest.fixture(scope="module")
def pictures():
    return np.random.default_rng(2).random((5, 12, 8, 3), dtype=np.float32)


def counting(model):
    inputs = keras.Input((12, 8, 3))
    counted = keras.Model(inputs, model(Counter()(inputs)))
    Counter.calls = 0
    return counted


@compiled_only
def test_the_best_classes_share_one_forward_pass(pictures):
    model = counting(small_network())
    explainer = Explainer(model)
    found = explainer.top_classes(pictures, 3)
    assert Counter.calls <= MOST_TRACES
    order = np.argsort(-model.predict(pictures, verbose=0), axis=1)
    explainer_of_one = Explainer(model)
    for place, one in enumerate(found):
        np.testing.assert_array_equal(one.classes, order[:, place])
        alone = explainer_of_one(pictures, target=order[:, place])
        np.testing.assert_allclose(one.scores, alone.scores, rtol=1e-6)
        for name in ("gradcam", "guided_backprop", "guided_gradcam"):
            np.testing.assert_allclose(one.maps[name], alone.maps[name], rtol=1e-4, atol=1e-6)


@compiled_only
def test_looking_up_a_named_layer_and_explaining_it_share_one_trace(pictures):
    explainer = Explainer(counting(small_network()), layer="last")
    explainer.runner.traced(pictures)
    traces = Counter.calls
    assert str(explainer.explained_layer(pictures)).endswith("last")
    assert Counter.calls == traces
    explainer(pictures)
    assert Counter.calls <= traces + MOST_TRACES - 1


@compiled_only
def test_several_layers_share_one_forward_pass(pictures):
    model = counting(small_network())
    found = Explainer(model, target=0, methods=["gradcam", "layercam"]).at_layers(pictures, ["conv2d", "last"])
    assert Counter.calls <= MOST_TRACES
    assert [path.rsplit("/", 1)[-1][:4] for path in found] == ["conv", "last"]
    for path, one in found.items():
        alone = explain(model, pictures, target=0, layer=path, methods=["gradcam", "layercam"])
        assert one.layer == path
        for name in ("gradcam", "layercam"):
            np.testing.assert_allclose(one.maps[name], alone.maps[name], rtol=1e-5, atol=1e-7)


def test_there_are_no_more_places_than_classes(pictures):
    with pytest.raises(ValueError, match="0 to 3"):
        Explainer(small_network()).top_classes(pictures, 5)


@compiled_only
def test_an_explainer_of_another_target_shares_what_was_compiled(counted):
    explainer = Explainer(counted, target=1)
    first = explainer(images())
    other = explainer.with_target(2)
    assert_same(other(images()), explain(counted, images(), target=2))
    Counter.calls = 0
    assert_same(explainer(images()), first)
    assert (repr(explainer.target), repr(other.target), Counter.calls) == ("Class(1)", "Class(2)", 0)
    assert other.runner.cache is explainer.runner.cache
    assert len(explainer.runner.cache) == 1


def test_a_model_is_split_for_the_output_that_the_target_names():
    inputs = keras.Input((*SIZE, 3))
    pooled = L.GlobalAveragePooling2D()(L.Conv2D(4, 3, name="conv")(inputs))
    model = keras.Model(inputs, {"small": L.Dense(2, name="a")(pooled), "large": L.Dense(5, name="b")(pooled)})
    explainer = Explainer(model, target=Output("small", Norm()), methods="gradcam")
    for _ in range(2):
        assert explainer.runner.split(images()).body([images()])[1].shape == (3, 2)
        large = explainer.with_target(Output("large", Norm()))
        assert large.runner.split(images()).body([images()])[1].shape == (3, 5)
    assert len(explainer.runner.cache) == 2
