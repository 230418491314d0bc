"""What only JAX's engine has: its versions, and layers inside loops."""

from __future__ import annotations

import jax
import keras
import numpy as np
import pytest
from contract import spec_of
from keras import layers as L  # noqa: N812
from models import ConvnetByCall, called, images

from keras_gradcam.engine.jax.engine import JaxEngine


def test_versions():
    assert JaxEngine().versions() == {"keras": keras.__version__, "jax": jax.__version__}


def test_starting_computes_something_small():
    JaxEngine().start()


def test_layers_within_a_loop_are_left_out():
    inner = L.Conv2D(4, 1, name="inner")

    class Loop(ConvnetByCall):
        def __init__(self):
            super().__init__(self.loop)
            self.inner = inner

        def loop(self, x):
            if x.shape[-1] != 4:
                return x
            return jax.lax.fori_loop(0, 2, lambda _, y: self.inner(y), x)

    model = called(Loop())
    paths = [call.info.path for call in JaxEngine().layer_calls(model, spec_of(images()))]
    assert paths == ["conv1", "conv2", "mean", "dense"]


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float64"])
def test_pictures_of_any_dtype(dtype):
    model = called(ConvnetByCall(keras.ops.relu))
    pictures = (images() * 100).astype(dtype)
    (call, *_) = JaxEngine().layer_calls(model, spec_of(pictures))
    assert call.info.output_shape == (None, *np.shape(pictures)[1:3], 4)
