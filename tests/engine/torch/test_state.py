"""A model and PyTorch, left as they were found."""

from __future__ import annotations

import keras
import pytest
import torch
from keras import layers as L  # noqa: N812
from models import convnet

from keras_gradcam.engine.torch.state import (
    as_found,
    device_of,
    modules_of,
    plain_torch,
    random_state_kept,
    weights_of,
)


def wrapped(module):
    inputs = keras.Input((4,))
    return keras.Model(inputs, L.TorchModuleWrapper(module, output_shape=(4,))(inputs))


def test_weights_are_those_of_variables_and_of_modules():
    norm = torch.nn.BatchNorm1d(4)
    weights = weights_of(wrapped(norm))
    assert {id(tensor) for tensor in (norm.weight, norm.bias, norm.running_mean)} <= {id(tensor) for tensor in weights}
    model = convnet()
    assert len(weights_of(model)) == len(model.variables)
    assert device_of(model).type == "cpu"


def test_modules_and_buffers_are_put_back_also_after_an_error():
    norm = torch.nn.BatchNorm1d(4)
    model = wrapped(norm)
    before = norm.running_mean.clone()

    def disturb():
        norm.train()
        norm(torch.rand(3, 4) + 5)
        raise OSError("disturbed")

    norm.eval()
    with pytest.raises(OSError, match="disturbed"), as_found(model):
        disturb()
    assert torch.equal(norm.running_mean, before)
    assert not norm.training
    assert any(module is norm for module in modules_of(model))


def test_modes_of_the_caller_are_off_inside_and_on_after():
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        with plain_torch(torch.device("cpu")):
            assert torch.is_grad_enabled()
            assert not torch.is_autocast_enabled("cpu")
        assert not torch.is_grad_enabled()
        assert torch.is_autocast_enabled("cpu")
    with plain_torch(torch.device("cpu"), gradients=False):
        assert not torch.is_grad_enabled()


def test_random_numbers_go_on_as_if_nothing_had_been_drawn():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    with random_state_kept(torch.device("cpu")):
        torch.rand(5)
    assert torch.equal(torch.rand(2), expected)
