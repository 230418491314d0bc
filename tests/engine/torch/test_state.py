"""A model and PyTorch are as they were found after a forward pass."""

from __future__ import annotations

import gc
import weakref

import keras
import numpy as np
import pytest
import torch
from models import convnet, images
from torch import nn
from torch_models import channels_first

from keras_gradcam.engine.torch.state import (
    as_found,
    attributes_kept,
    device_of,
    free_circles,
    modules_of,
    plain_torch,
    random_state_kept,
    weights_of,
)


def with_norm():
    return channels_first(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())


def test_modules_are_those_of_pytorch_and_the_layers_that_hold_them():
    model = with_norm()
    assert modules_of(model) == [model.net, model.net.module, *model.net.module]
    assert modules_of(convnet()) == []


def test_weights_are_variables_and_buffers():
    model = with_norm()
    found = {id(tensor) for tensor in weights_of(model)}
    own = [*model.net.module.parameters(), *model.net.module.buffers(), *(one.value for one in model.variables)]
    assert found == {id(tensor) for tensor in own}


@pytest.mark.parametrize("fails", [False, True])
def test_buffers_and_modes_are_set_back(fails):
    model = with_norm()
    norm = model.net.module[1]
    model.net.train()
    norm.eval()
    before = {name: buffer.clone() for name, buffer in norm.named_buffers()}
    same = dict(norm.named_buffers())
    with pytest.raises(ZeroDivisionError) if fails else torch.no_grad(), as_found(model):
        model(images(), training=True)
        assert norm.training
        norm.num_batches_tracked = torch.tensor(99)
        if fails:
            raise ZeroDivisionError
    assert (model.net.training, model.net.module.training, norm.training) == (True, True, False)
    for name, buffer in norm.named_buffers():
        assert buffer is same[name]
        np.testing.assert_array_equal(buffer, before[name])


def test_what_is_assigned_is_dropped_and_variables_are_no_leaves():
    model = convnet()
    kernel = model.get_layer("conv1").kernel
    before = np.array(keras.ops.convert_to_numpy(kernel))
    with as_found(model):
        assert not kernel.value.requires_grad
        kernel.assign(np.zeros(kernel.shape))
    with as_found(model, by_weights=True):
        assert kernel.value.requires_grad
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(kernel), before)


def test_plain_torch_leaves_the_callers_modes():
    device = device_of(convnet())
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        with plain_torch(device):
            x = torch.ones(2, 2, requires_grad=True)
            assert (x @ x).dtype == torch.float32
            assert (x @ x).requires_grad
            assert not torch.is_inference_mode_enabled()
        assert torch.is_inference_mode_enabled()
        assert torch.is_autocast_enabled("cpu")
    with plain_torch(device, gradients=False):
        assert not torch.is_grad_enabled()
    assert torch.is_grad_enabled()


def test_attributes_of_layers_are_set_back():
    model = convnet()
    conv = model.get_layer("conv1")
    conv.other = kept = [1]
    with attributes_kept(model):
        conv.other, conv.new = [2], 3
    assert (list(conv.other), hasattr(conv, "new")) == (kept, False)


def test_tensors_in_circles_are_freed():
    class Circle:
        def __init__(self):
            self.tensor, self.itself = torch.ones(3), self

    gc.disable()
    try:
        alive = weakref.ref(Circle().tensor)
        assert alive() is not None
        free_circles()
        assert alive() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("drawn", [True, False])
def test_global_random_numbers_go_on_where_they_were(drawn):
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    with random_state_kept(torch.device("cpu"), lambda: drawn):
        torch.rand(5)
    assert torch.equal(torch.rand(2), expected) == drawn
