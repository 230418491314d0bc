"""The engine for PyTorch: layers listed without computing anything, free extents, models that need numbers."""

from __future__ import annotations

import keras
import numpy as np
import torch
from contract import ask, run, spec_of
from keras import layers as L  # noqa: N812
from models import SIZE, convnet, images
from snapshots import unchanged
from torch import nn
from torch_models import channels_first

from keras_gradcam.engine import current_engine
from keras_gradcam.engine.torch.engine import TorchEngine


def test_it_is_the_engine_of_this_backend():
    engine = current_engine()
    assert isinstance(engine, TorchEngine)
    assert engine.versions()["torch"] == torch.__version__
    assert engine.is_first_process()
    engine.start()


def test_layers_are_listed_without_computing_anything():
    seen = []

    class Looks(L.Layer):
        def call(self, inputs):
            seen.append(type(inputs).__name__)
            return inputs * 2.0

    inputs = keras.Input((*SIZE, 3))
    model = keras.Model(inputs, L.GlobalAveragePooling2D()(L.Conv2D(2, 3, name="conv")(Looks()(inputs))))
    seen.clear()
    with unchanged(model):
        calls = TorchEngine().layer_calls(model, spec_of(images()))
    assert seen == ["FakeTensor"]
    assert {call.info.path: call.info.output_shape for call in calls}["conv"] == (None, 10, 8, 2)


def test_a_model_that_looks_at_numbers_is_listed_all_the_same():
    class Decides(L.Layer):
        def call(self, inputs):
            return inputs * 2.0 if float(keras.ops.convert_to_numpy(keras.ops.max(inputs))) > 0 else inputs

        def compute_output_shape(self, shape):
            return shape

    inputs = keras.Input((*SIZE, 3))
    model = keras.Model(inputs, L.Conv2D(2, 3, name="conv")(Decides(name="decides")(inputs)))
    shapes = {call.info.path: call.info.output_shape for call in TorchEngine().layer_calls(model, spec_of(images()))}
    assert (shapes["decides"], shapes["conv"]) == ((None, *SIZE, 3), (None, 10, 8, 2))


def test_what_a_layer_keeps_for_later_is_no_tensor_without_numbers():
    class Keeps(L.Layer):
        grid = None

        def call(self, inputs):
            if self.grid is None:
                self.grid = keras.ops.arange(3.0)
            return inputs * self.grid

    model = keras.Sequential([keras.Input((*SIZE, 3)), Keeps(name="keeps"), L.Conv2D(2, 3, name="conv")])
    keeps = model.layers[0]
    keeps.grid = None  # Keras itself has kept such a tensor
    TorchEngine().layer_calls(model, spec_of(images()))
    assert keeps.grid is None
    model(images())
    TorchEngine().layer_calls(model, spec_of(images()))
    assert keras.ops.convert_to_numpy(keeps.grid).tolist() == [0, 1, 2]


def test_modules_of_pytorch_are_listed_beside_layers():
    model = channels_first(nn.Conv2d(3, 4, 3), nn.ReLU())
    calls = TorchEngine().layer_calls(model, spec_of(images()), samples=5)
    assert [(call.info.path, call.info.output_shape) for call in calls][:2] == [
        ("net", (None, 4, 10, 8)),
        ("map", (None, 10, 8, 4)),
    ]
    assert all(call.influences_score for call in calls)


def test_extents_that_are_free_are_none():
    inputs = keras.Input((None, 20, 3))
    model = keras.Model(inputs, L.GlobalAveragePooling2D()(L.Conv2D(2, 3, strides=2, name="conv")(inputs)))
    spec = spec_of(images(1, (8, 20)))
    free = type(spec)(spec.structure, (((None, 20, 3), "float32"),))
    shapes = {call.info.path: call.info.output_shape for call in TorchEngine().layer_calls(model, free)}
    assert shapes["conv"] == (None, None, 9, 2)


def test_a_model_without_weights_computes_somewhere():
    inputs = keras.Input((*SIZE, 3))
    model = keras.Model(inputs, L.GlobalAveragePooling2D()(L.ReLU(name="relu")(inputs)))
    request = ask(1, layer="relu", gradient=True)
    result = run(TorchEngine().trace(model, spec_of(images()), [request]), images(), request)
    np.testing.assert_allclose(result.gradient[..., 1], (images()[..., 1] > 0) / 120, rtol=1e-5)


def test_an_unbuilt_model_is_built():
    model = keras.Sequential([L.Conv2D(2, 3), L.GlobalAveragePooling2D()])
    TorchEngine().build(model, spec_of(images()))
    assert model.built
    with unchanged(convnet()) as _:
        TorchEngine().build(convnet(), spec_of(images()))
