"""What only TensorFlow's engine has: its versions, and layers that its graphs keep to themselves."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from contract import ask, spec_of
from keras import layers as L  # noqa: N812
from models import ConvnetByCall, called, images
from tensorflow_models import ConvnetByFunction

from keras_gradcam.engine.tensorflow.engine import TensorFlowEngine


def test_versions():
    assert TensorFlowEngine().versions() == {"keras": keras.__version__, "tensorflow": tf.__version__}


def test_starting_silences_the_python_log():
    logger = tf.get_logger()
    before = logger.level
    try:
        TensorFlowEngine().start()
        assert logger.level == 40
    finally:
        logger.setLevel(before)


def test_layers_within_a_function_are_seen():
    model = called(ConvnetByFunction(tf.nn.relu))
    paths = [call.info.path for call in TensorFlowEngine().layer_calls(model, spec_of(images()))]
    assert paths == ["conv1", "conv2", "mean", "dense"]


def test_layers_within_a_loop_are_left_out():
    inner = L.Conv2D(4, 1, name="inner")

    class Loop(ConvnetByCall):
        def __init__(self):
            super().__init__(self.loop)
            self.inner = inner

        def loop(self, x):
            if x.shape[-1] != 4:
                return x
            return tf.while_loop(lambda i, _: i < 2, lambda i, y: (i + 1, self.inner(y)), (0, x))[1]

    model = called(Loop())
    paths = [call.info.path for call in TensorFlowEngine().layer_calls(model, spec_of(images()))]
    assert paths == ["conv1", "conv2", "mean", "dense"]


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float64"])
def test_pictures_of_any_dtype(dtype):
    model = called(ConvnetByCall(tf.nn.relu))
    pictures = (images() * 100).astype(dtype)
    (call, *_) = TensorFlowEngine().layer_calls(model, spec_of(pictures))
    assert call.info.output_shape == (None, *np.shape(pictures)[1:3], 4)


def test_layer_of_another_picture_sees_that_one():
    left, right = keras.Input((12, 10, 3), name="left"), keras.Input((8, 8, 1), name="right")
    towers = [L.Conv2D(2, 3, name=name)(x) for name, x in (("of_left", left), ("of_right", right))]
    model = keras.Model([left, right], [L.Flatten()(tower) for tower in towers])
    spec = spec_of([images(1), images(1, (8, 8), 1)])
    for layer, index, size in (("of_left", 0, (10, 8)), ("of_right", 1, (6, 6))):
        traced = TensorFlowEngine().receptive_field(model, spec, ask(layer=layer))
        assert (traced.explained_input, traced.boxes.shape[:2]) == (index, size)


def test_receptive_field_of_a_model_that_was_never_called():
    model = keras.Sequential([L.Conv2D(2, 3, name="conv"), L.GlobalAveragePooling2D()])
    boxes = TensorFlowEngine().receptive_field(model, spec_of(images(1)), ask(layer="conv")).boxes
    assert boxes.shape == (10, 8, 2, 4)
