"""Programs of PyTorch: parameters, modules, modes and hooks are as they were."""

from __future__ import annotations

import gc

import keras
import numpy as np
import pytest
import torch
from contract import ask, plain_cam, run, spec_of
from keras import layers as L  # noqa: N812
from models import CLASSES, convnet, images, named
from oracles import assert_close

from keras_gradcam.engine.torch.program import TorchProgram

EVERYTHING = {"cams": {"plain": plain_cam}, "gradient": True, "guided_backprop": True}


def torch_network():
    """Modules of PyTorch, some of which write in place and count what they see."""
    body = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU(inplace=True), torch.nn.Dropout2d(0.5)
    )
    inputs = keras.Input((3, 12, 10))
    x = L.TorchModuleWrapper(body, name="body", output_shape=(None, 4, 10, 8))(inputs)
    return keras.Model(inputs, L.Dense(CLASSES)(L.Reshape((320,))(x)))


def test_gradients_flags_modes_and_hooks_are_as_they_were():
    model = convnet(lambda position: L.ReLU())
    kernel = named(model, "dense").kernel.value
    kernel.grad = torch.ones_like(kernel)
    named(model, "conv1").kernel.value.requires_grad_(False)
    model.train()
    flags = [variable.value.requires_grad for variable in model.variables]
    hooks = [(len(module._forward_hooks), len(module._backward_hooks)) for module in model.modules()]
    request = ask(1, **EVERYTHING)
    program = TorchProgram(model, spec_of(images()), [request])
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        result = run(program, images(), request)
        assert not torch.is_grad_enabled()
        assert torch.is_autocast_enabled("cpu")
    assert result.gradient.any()
    assert model.training
    assert torch.equal(kernel.grad, torch.ones_like(kernel))
    assert [variable.value.requires_grad for variable in model.variables] == flags
    assert [variable.value.grad is None for variable in model.variables].count(False) == 1
    assert [(len(module._forward_hooks), len(module._backward_hooks)) for module in model.modules()] == hooks


def test_modules_of_pytorch_are_explained_in_evaluation_mode_and_left_in_theirs():
    model = torch_network()
    (body,) = [layer for layer in model.layers if layer.name == "body"]
    body.module.train()
    before = {name: buffer.clone() for name, buffer in body.module.named_buffers()}
    pictures = np.random.default_rng(0).random((2, 3, 12, 10)).astype("float32")
    request = ask(1, layer="body", **EVERYTHING)
    program = TorchProgram(model, spec_of(pictures), [request])
    first, second = run(program, pictures, request), run(program, pictures, request)
    np.testing.assert_array_equal(first.guided_backprop, second.guided_backprop)
    assert program.guided_coverage.reached == {"relu": 1}
    assert body.module.training
    for name, buffer in body.module.named_buffers():
        assert torch.equal(buffer, before[name]), name


def test_guided_gradients_in_inference_mode():
    model = convnet(lambda position: L.ReLU())
    request = ask(1, **EVERYTHING)
    program = TorchProgram(model, spec_of(images()), [request])
    expected = run(program, images(), request)
    with torch.inference_mode():
        assert_close(run(program, images(), request).guided_backprop, expected.guided_backprop)


@pytest.mark.parametrize("wanted", [EVERYTHING, {"features": True}], ids=["maps", "features"])
def test_calls_leave_no_tensors_behind(wanted):
    model = convnet(lambda position: L.ReLU())
    request = ask(1 if "cams" in wanted else None, **wanted)
    program = TorchProgram(model, spec_of(images()), [request])

    def tensors():
        gc.collect()
        return sum(issubclass(type(found), torch.Tensor) for found in gc.get_objects())

    run(program, images(), request)
    before = tensors()
    for _ in range(20):
        run(program, images(), request)
    assert tensors() == before


def test_an_error_in_the_middle_leaves_nothing_behind():
    class Failing(L.Layer):
        fails = False

        def call(self, inputs):
            if Failing.fails:
                raise OSError("in the middle")
            return inputs

    inputs = keras.Input((12, 10, 3))
    x = Failing()(L.Conv2D(4, 3, activation="relu", name="conv2")(inputs))
    model = keras.Model(inputs, L.Dense(CLASSES)(L.GlobalAveragePooling2D()(x)))
    request = ask(1, **EVERYTHING)
    program = TorchProgram(model, spec_of(images()), [request])
    expected = run(program, images(), request)
    Failing.fails = True
    try:
        with pytest.raises(OSError, match="in the middle"):
            run(program, images(), request)
    finally:
        Failing.fails = False
    assert "call" not in vars(model.layers[1])
    assert_close(run(program, images(), request).gradient, expected.gradient)
