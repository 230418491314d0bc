"""Forward passes as JAX traces them: what is seen of layers and variables, and running them again."""

from __future__ import annotations

import jax
import keras
import numpy as np
import pytest
from contract import ClassScore, ask, spec_of
from keras import layers as L  # noqa: N812
from models import SIZE, ConvnetByCall, called, convnet, images, randomised
from threads import Count

from keras_gradcam.engine.graphs.graph import CONSTANT, INPUT, WEIGHT
from keras_gradcam.engine.jax.tracing import current_weights, needed_steps, run_again, tensor_of, trace_forward


def paths(trace):
    return [output.info.path for output in trace.layer_outputs]


def run(trace, pictures, added=None):
    tensors = {id(value): variable.value for value, variable in zip(trace.weights, trace.variables, strict=True)}
    tensors[id(trace.graph.inputs[0])] = jax.numpy.asarray(pictures)
    run_again(trace.steps, tensors, {}, added or {})
    return tensors


@pytest.mark.parametrize("samples", [1, 3])
def test_a_trace_that_is_run_again_gives_what_the_model_gives(samples):
    model = convnet(lambda position: L.ReLU(6.0))
    trace = trace_forward(model, spec_of(images()), samples)
    tensors = run(trace, images(samples))
    np.testing.assert_allclose(tensor_of(trace.predictions, tensors), model(images(samples)), rtol=1e-6)
    assert [value.origin for value in (*trace.graph.inputs, *trace.weights)] == [INPUT] + [WEIGHT] * 6


def test_what_is_added_to_a_layer_s_output_reaches_what_follows():
    model = convnet()
    trace = trace_forward(model, spec_of(images()), 3)
    conv2 = next(output.output for output in trace.layer_outputs if output.info.path == "conv2")
    moved = run(trace, images(), {id(conv2): 0.5})
    features = model.get_layer("conv2")(model.get_layer("conv1")(images())) + 0.5
    expected = model.get_layer("dense")(keras.ops.mean(features, axis=(1, 2)))
    np.testing.assert_allclose(tensor_of(trace.predictions, moved), expected, rtol=1e-5)


def test_layers_inside_a_jitted_function_or_a_loop_are_left_out_and_those_after_it_are_seen():
    class Jitted(ConvnetByCall):
        def call(self, inputs):
            x = jax.jit(lambda x: keras.ops.relu(self.conv1(x)))(inputs)
            x = jax.lax.fori_loop(0, 2, lambda _, y: self.rectify(y), x)
            return self.dense(self.mean(self.rectify(self.conv2(x))))

    trace = trace_forward(called(Jitted(keras.ops.relu)), spec_of(images()), 2)
    assert paths(trace) == ["conv2", "mean", "dense"]
    assert trace.unreached == 1
    assert {"conv_general_dilated", "max"} <= {operation.name for operation in trace.graph.operations}


@pytest.mark.parametrize(
    "rectify",
    [keras.ops.relu, lambda x: keras.ops.leaky_relu(x, 0.1), lambda x: jax.numpy.maximum(x, 0),
     lambda x: jax.numpy.where(x > 0, x, 0)],
)  # fmt: skip
def test_rectifiers_in_loops_and_branches_are_counted_however_they_are_written(rectify):
    class Mapped(L.Layer):
        def call(self, inputs):
            mapped = jax.lax.map(lambda x: jax.lax.cond(x.mean() > 0, rectify, jax.numpy.tanh, x), inputs)
            return jax.lax.map(rectify, mapped)

    trace = trace_forward(called(ConvnetByCall(Mapped())), spec_of(images()), 2)
    assert trace.unreached == 4


def test_what_prints_is_passed_over():
    class Loud(L.Layer):
        def call(self, inputs):
            jax.debug.print("mean {}", inputs.mean())
            return inputs

    model = called(ConvnetByCall(Loud()))
    trace = trace_forward(model, spec_of(images()), 3)
    np.testing.assert_allclose(tensor_of(trace.predictions, run(trace, images())), model(images()), rtol=1e-5)


def test_variables_that_keras_does_not_track_are_arguments_all_the_same():
    hidden = keras.Variable(np.float32(2))

    class Hidden(L.Layer):
        def call(self, inputs):
            return inputs * hidden

    inputs = keras.Input((*SIZE, 3))
    model = keras.Model(inputs, Hidden()(inputs))
    trace = trace_forward(model, spec_of(images()), 2)
    assert [variable is hidden for variable in trace.variables] == [True]
    hidden.assign(3)
    np.testing.assert_allclose(tensor_of(trace.predictions, run(trace, images(2))), 3 * images(2), rtol=1e-6)


def test_what_the_model_assigns_is_dropped():
    inputs = keras.Input((12, 10, 3))
    count = Count(name="count")
    model = keras.Model(inputs, count(inputs))
    trace_forward(model, spec_of(images()), 1)
    assert float(count.count.value) == 0


def test_pictures_of_whole_numbers_are_cast():
    model = convnet()
    trace = trace_forward(model, spec_of((images() * 100).astype("uint8")), 1)
    assert (trace.graph.inputs[0].dtype, trace.explained.dtype) == ("uint8", "float32")


def test_constants_are_computed_when_they_are_asked_for():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, L.Lambda(lambda x: x + keras.ops.sum(keras.ops.arange(4.0)) * 2)(inputs))
    trace = trace_forward(model, spec_of(np.ones((1, 4), "float32")), 1)
    (added,) = [operation for operation in trace.graph.operations if operation.outputs[0] is trace.predictions]
    assert [value.origin for value in added.inputs] == [INPUT, CONSTANT]
    assert added.inputs[1].number() == 12


def test_steps_from_a_layer_to_the_end_need_no_picture():
    model = convnet()
    trace = trace_forward(model, spec_of(images()), 3)
    conv2 = next(output.output for output in trace.layer_outputs if output.info.path == "conv2")
    steps = needed_steps(trace.steps, trace.predictions, conv2)
    taken = {id(value) for step in steps for value in step.inputs}
    assert id(conv2) in taken
    assert id(trace.graph.inputs[0]) not in taken


def test_scores_are_values_of_the_graph():
    model = randomised(convnet())
    trace = trace_forward(model, spec_of(images()), 2)
    request = ask(ClassScore((1, 2, 0)))
    score = trace.score_of(request)
    assert score.shape == (2,)
    outputs = trace.marked([score])
    assert all(output.influences_score for output in outputs if output.info.path != "dense")


def test_weights_that_every_device_has_are_read_from_one():
    variables = [keras.Variable(np.float32(2)), keras.Variable(np.zeros(3, "float32"))]
    assert [float(value.sum()) for value in current_weights(variables)] == [2, 0]
    assert all(len(value.sharding.device_set) == 1 for value in current_weights(variables))
