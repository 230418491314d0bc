"""What only PyTorch's engine has: its versions, and passes that compute nothing."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import torch
from contract import spec_of
from keras import layers as L  # noqa: N812
from models import ConvnetByCall, called, images

from keras_gradcam.engine.torch.engine import TorchEngine


def test_versions():
    assert TorchEngine().versions() == {"keras": keras.__version__, "torch": torch.__version__}


def test_starting_computes_something_small():
    TorchEngine().start()


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float64"])
def test_pictures_of_any_dtype(dtype):
    model = called(ConvnetByCall(keras.ops.relu))
    pictures = (images() * 100).astype(dtype)
    (call, *_) = TorchEngine().layer_calls(model, spec_of(pictures))
    assert call.info.output_shape == (None, *np.shape(pictures)[1:3], 4)


def test_a_model_that_looks_at_its_numbers_is_listed_all_the_same():
    class Looks(L.Layer):
        def call(self, inputs):
            return inputs * 2 if float(inputs.mean()) > 0 else inputs

    inputs = keras.Input((12, 10, 3))
    model = keras.Model(inputs, Looks(name="looks")(inputs))
    paths = [call.info.path for call in TorchEngine().layer_calls(model, spec_of(images()))]
    assert paths[-1] == "looks"
