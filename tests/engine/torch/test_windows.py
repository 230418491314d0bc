"""Convolutions, poolings and resizings of PyTorch: what their cells see, and where they lie."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from contract import ask, spec_of
from fields import changed_boxes, layer_function, loud
from models import images
from torch import nn
from torch_models import channels_first, recorded

from keras_gradcam.engine.boxes import Window
from keras_gradcam.engine.graphs.graph import RESIZE, TRANSPOSED_WINDOW, WINDOW
from keras_gradcam.engine.torch.engine import TorchEngine
from keras_gradcam.grids import Placement

SIZE = (12, 10)

MODULES = {
    "convolution": lambda: [nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.Conv2d(4, 4, (1, 3), dilation=2)],
    "groups": lambda: [nn.Conv2d(3, 6, 3, groups=3), nn.Conv2d(6, 6, 3, groups=2)],
    "padding 'same'": lambda: [nn.Conv2d(3, 4, 4, padding="same")],
    "reflected padding": lambda: [nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect")],
    "circular padding": lambda: [nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular")],
    "max pooling": lambda: [nn.MaxPool2d(3, 2, padding=1)],
    "max pooling with ceil_mode": lambda: [nn.MaxPool2d(2, 3, ceil_mode=True)],
    "dilated max pooling": lambda: [nn.MaxPool2d(2, 2, dilation=2)],
    "average pooling": lambda: [nn.AvgPool2d((3, 2), (2, 1), padding=1, ceil_mode=True)],
    "adaptive pooling": lambda: [nn.AdaptiveAvgPool2d((5, 4))],
    "adaptive max pooling": lambda: [nn.AdaptiveMaxPool2d((5, 4))],
    "transposed convolution": lambda: [nn.ConvTranspose2d(3, 4, 3, stride=2, padding=1, output_padding=1)],
    "transposed convolution in groups": lambda: [nn.ConvTranspose2d(3, 6, 3, stride=2, groups=3)],
    "bilinear": lambda: [nn.Upsample(scale_factor=2, mode="bilinear")],
    "bilinear, smaller": lambda: [nn.Upsample(size=(5, 4), mode="bilinear", align_corners=True)],
    "bicubic": lambda: [nn.Upsample(size=(7, 20), mode="bicubic")],
    "nearest": lambda: [nn.Upsample(size=(7, 20))],
    "normalisation": lambda: [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()],
    "shuffled": lambda: [nn.PixelUnshuffle(2), nn.Conv2d(12, 8, 3), nn.PixelShuffle(2)],
    "unfolded": lambda: [nn.Conv2d(3, 4, 3), nn.Dropout(0.5), nn.Identity(), nn.ReflectionPad2d((1, 2, 0, 1))],
}


@pytest.mark.parametrize("name", MODULES)
def test_receptive_field_equals_brute_force(name):
    model = loud(channels_first(*MODULES[name](), size=SIZE))
    for buffer in model.net.module.buffers():
        buffer.fill_(1)
    traced = TorchEngine().receptive_field(model, spec_of(images(1, SIZE)), ask(layer="map"))
    np.testing.assert_array_equal(traced.boxes, changed_boxes(layer_function(model, "map"), (*SIZE, 3)))


@pytest.mark.parametrize("name", [name for name in MODULES if name != "circular padding"])
def test_maps_lie_over_the_whole_input(name):
    model = channels_first(*MODULES[name](), size=SIZE)
    request = ask(layer="map", features=True)
    (layout,) = TorchEngine().trace(model, spec_of(images(1, SIZE)), [request]).layouts
    if name in ("max pooling with ceil_mode", "unfolded", "nearest"):  # it reaches beyond the input, or lies aslant
        assert isinstance(layout.placement, Placement)
    else:
        assert layout.placement.is_whole


def parameters(function, shape):
    recorder, _, _ = recorded(function, np.zeros(shape, "float32"))
    operation = recorder.graph.operations[-1]
    return operation.rule, operation.parameters


def test_windows_have_the_axes_that_they_lie_on():
    rule, found = parameters(nn.Conv1d(4, 6, 5, stride=3, padding=2, dilation=2, groups=2), (1, 4, 30))
    assert (rule, found["channels"], found["groups"]) == (WINDOW, 1, 2)
    assert found["windows"] == {2: Window(5, 3, 2, 2, 2)}
    rule, found = parameters(nn.AvgPool3d((1, 2, 3), padding=(0, 1, 0)), (1, 4, 6, 6, 6))
    assert (rule, found["channels"], found["groups"]) == (WINDOW, 1, 0)
    assert found["windows"] == {2: Window(1), 3: Window(2, 2, 1, 1, 1), 4: Window(3, 3)}


def test_windows_of_a_transposed_convolution_lead_back():
    rule, found = parameters(nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1), (1, 4, 5, 5))
    assert (rule, found["groups"]) == (TRANSPOSED_WINDOW, 1)
    assert found["windows"] == {axis: Window(3, 2, 1, 1, 0) for axis in (2, 3)}


def test_weights_of_a_resized_map_resize_it():
    numbers = np.random.default_rng(0).normal(size=(1, 2, 5, 6)).astype("float32")

    def resize(x):
        return nn.functional.interpolate(x, size=(9, 4), mode="bicubic")

    rule, found = parameters(resize, numbers.shape)
    assert rule == RESIZE
    expected = np.einsum("hi,wj,ncij->nchw", found["weights"][2], found["weights"][3], numbers)
    np.testing.assert_allclose(resize(torch.from_numpy(numbers)), expected, rtol=1e-4, atol=1e-5)
