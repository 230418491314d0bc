"""Tracing inlines every ``tf.function``, runs none of the model's assignments, and leaves other threads alone."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as L  # noqa: N812
from models import SIZE, called, images, named
from snapshots import unchanged
from tensorflow_models import ConvnetByFunction
from threads import gated_model, held_while_tracing, two_traces

from keras_gradcam import Explainer, explain, list_layers


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
