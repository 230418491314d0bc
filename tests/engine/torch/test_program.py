"""Programs on PyTorch: what they leave alone, what they do not compute, and that nothing piles up."""

from __future__ import annotations

import gc

import keras
import numpy as np
import pytest
import torch
from contract import ClassScore, ask, plain_cam, run, spec_of
from keras import layers as L  # noqa: N812
from models import CLASSES, SIZE, convnet, images, logits, randomised, transfer
from oracles import assert_close, input_gradient, plain_gradcam, rectifier
from snapshots import unchanged
from torch import nn
from torch_models import channels_first

from keras_gradcam import explain
from keras_gradcam.engine.torch.engine import TorchEngine
from keras_gradcam.engine.torch.program import TorchProgram


def everything(layer="conv2", target=1):
    return ask(target, layer=layer, cams={"plain": plain_cam}, gradient=True, guided_backprop=True, features=True)


def answer(model, request, pictures=None):
    pictures = images() if pictures is None else pictures
    return run(TorchEngine().trace(model, spec_of(pictures), [request]), pictures, request)


def relu_convnet():
    return convnet(lambda position: L.ReLU())


def same(first, second):
    np.testing.assert_allclose(first.cams["plain"], second.cams["plain"], rtol=1e-5, atol=1e-7)
    for name in ("scores", "gradient", "guided_backprop", "features"):
        np.testing.assert_allclose(getattr(first, name), getattr(second, name), rtol=1e-5, atol=1e-7)


# ------------------------------------------------------------------------------------------------- what it leaves alone


def torch_state(model):
    """What PyTorch users could see of a model: gradients, flags, modes, hooks, buffers."""
    layers = [model, *model._flatten_layers(include_self=False)]
    modules = {id(module): module for layer in layers for module in layer.modules()}.values()
    tensors = [variable.value for variable in model.variables]
    return (
        [
            (id(tensor), tensor.requires_grad, tensor.grad, tensor._version, tensor._backward_hooks)
            for tensor in tensors
        ],
        [(id(module), module.training) for module in modules],
        [list(module._forward_hooks.values()) for module in modules],
        [(id(buffer), buffer.tolist()) for module in modules for buffer in module.buffers()],
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.is_autocast_enabled("cpu"),
        torch.get_rng_state().tolist(),
        torch.utils._python_dispatch._get_current_dispatch_mode(),
    )


class Raises(nn.Module):
    """Does nothing, until it is lit."""

    lit = False

    def forward(self, x):
        if Raises.lit:
            raise ZeroDivisionError("blown")
        return x


def with_modules():
    model = channels_first(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), Raises(), nn.Dropout(0.5))
    model.net.train()
    model.net.module[1].eval()
    next(model.net.module.parameters()).requires_grad_(False)
    model.net.module[0].register_forward_hook(lambda module, args, output: None)
    return model


MODELS = {"modules": (with_modules, "map"), "frozen": (lambda: transfer(frozen=True), "backbone/relu3")}


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_gradients_flags_modes_and_hooks_are_as_found(name, fails, monkeypatch):
    build, layer = MODELS[name]
    model = build()
    program = TorchEngine().trace(model, spec_of(images()), [everything(layer)])
    before = torch_state(model)
    with unchanged(model):
        if fails and name == "modules":
            monkeypatch.setattr(Raises, "lit", True)
            with pytest.raises(Exception, match="blown"):
                run(program, images(), everything(layer))
            with pytest.raises(Exception, match="blown"):
                TorchEngine().trace(model, spec_of(images()), [everything(layer)])
        elif fails:

            class Fails(ClassScore):
                def scores(self, outputs, arguments):
                    raise ZeroDivisionError("blown")

            with pytest.raises(ZeroDivisionError):
                TorchEngine().trace(model, spec_of(images()), [everything(layer, Fails())])
        else:
            run(program, images(), everything(layer))
            TorchEngine().trace(model, spec_of(images()), [everything(layer)])
    assert torch_state(model) == before


def test_gradients_that_training_has_left_stay():
    model = relu_convnet()
    x = torch.from_numpy(images())
    model(x).sum().backward()
    before = [variable.value.grad.clone() for variable in model.trainable_variables]
    answer(model, everything())
    for variable, gradient in zip(model.trainable_variables, before, strict=True):
        assert torch.equal(variable.value.grad, gradient)


@pytest.mark.parametrize(
    "context",
    [
        torch.no_grad,
        torch.inference_mode,
        lambda: torch.autocast("cpu", torch.bfloat16),
        lambda: torch.autograd.set_detect_anomaly(False),
        lambda: keras.device("cpu"),
    ],
    ids=["no_grad", "inference_mode", "autocast", "anomaly", "device"],
)
def test_results_do_not_depend_on_what_the_caller_has_switched_on(context):
    model = relu_convnet()
    expected = answer(model, everything())
    with context():
        same(answer(model, everything()), expected)
    program = TorchEngine().trace(model, spec_of(images()), [everything()])
    with context():
        same(run(program, images(), everything()), expected)


def test_random_numbers_that_a_module_draws_are_not_missing_later():
    class Noise(L.Layer):
        def call(self, inputs):
            return torch.nn.functional.dropout(inputs, 0.5, training=True)

    inputs = keras.Input((*SIZE, 3))
    x = Noise()(L.Conv2D(3, 3, name="conv2", activation="relu")(inputs))
    model = randomised(keras.Model(inputs, L.Dense(CLASSES)(L.GlobalAveragePooling2D()(x))))
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    program = TorchEngine().trace(model, spec_of(images()), [everything()])
    run(program, images(), everything())
    assert torch.equal(torch.rand(3), expected)


# ---------------------------------------------------------------------------------------------------- what it computes


def test_modules_of_pytorch_are_explained():
    module = [nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Conv2d(4, 5, 3)]
    model = channels_first(*module)
    gate = rectifier().guided()

    def net(x, relu):
        conv, norm, _, last = model.net.module.eval()
        x = last(relu(norm(conv(x.permute(0, 3, 1, 2)))))
        return x.permute(0, 2, 3, 1)

    def head(a):
        return logits(model.dense, keras.ops.mean(a, (1, 2)))[:, 1]

    result = answer(model, everything("map"))
    expected = plain_gradcam(lambda x: net(x, torch.relu), head, images())
    assert_close(result.features, expected.activations)
    assert_close(result.cams["plain"], expected.gradcam)
    assert_close(result.gradient, input_gradient(lambda x: head(net(x, torch.relu)), images()))
    assert_close(result.guided_backprop, input_gradient(lambda x: head(net(x, gate)), images()))


@pytest.mark.parametrize("layer", ["conv1", "conv2"])
@pytest.mark.parametrize("gradient", [False, True])
def test_layers_in_recomputed_blocks_are_explained(layer, gradient):
    class Recomputed(keras.Model):
        def __init__(self):
            super().__init__()
            self.conv1, self.conv2 = L.Conv2D(4, 3, name="conv1"), L.Conv2D(4, 3, name="conv2")
            self.dense = L.Dense(CLASSES, name="dense")

        def call(self, inputs):
            x = keras.remat(lambda x: keras.ops.relu(self.conv1(x)))(inputs)
            return self.dense(keras.ops.mean(keras.ops.relu(self.conv2(x)), axis=(1, 2)))

    model = Recomputed()
    model(images())
    randomised(model)
    relu, conv1, conv2 = keras.ops.relu, model.conv1, model.conv2
    features, rest = {
        "conv1": (conv1, lambda a: relu(conv2(relu(a)))),
        "conv2": (lambda x: conv2(relu(conv1(x))), relu),
    }[layer]
    request = ask(1, layer=layer, cams={"plain": plain_cam}, gradient=gradient)
    program = TorchEngine().trace(model, spec_of(images()), [request])
    for _ in range(2):
        result = run(program, images(), request)
        expected = plain_gradcam(
            features, lambda a: logits(model.dense, keras.ops.mean(rest(a), (1, 2)))[:, 1], images()
        )
        assert_close(result.cams["plain"], expected.gradcam)


class Counts(torch.autograd.Function):
    """The identity, which counts how often it is differentiated."""

    backwards = 0

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        Counts.backwards += 1
        return gradient


def test_gradcam_alone_takes_no_gradient_below_the_layer():
    class Counting(L.Layer):
        def call(self, inputs):
            return Counts.apply(inputs)

        def compute_output_shape(self, shape):
            return shape

    inputs = keras.Input((*SIZE, 3))
    x = Counting()(L.Conv2D(4, 3, activation="relu")(inputs))
    x = L.GlobalAveragePooling2D()(L.Conv2D(4, 3, name="conv2")(x))
    model = randomised(keras.Model(inputs, L.Dense(CLASSES)(x)))
    counts = {}
    for name, request in (("cam", ask(1, cams={"plain": plain_cam})), ("all", everything()), ("none", ask(1))):
        program = TorchEngine().trace(model, spec_of(images()), [request])
        Counts.backwards = 0
        run(program, images(), request)
        counts[name] = Counts.backwards
    assert counts == {"cam": 0, "all": 2, "none": 0}


@pytest.mark.parametrize("wanted", [{"cams": {"plain": plain_cam}}, {"gradient": True}, {"guided_backprop": True}])
def test_nothing_is_recorded_for_the_gradients_of_weights(wanted):
    seen = []

    class Looks(L.Layer):
        def call(self, inputs):
            seen.append(inputs.requires_grad)
            return inputs

    inputs = keras.Input((*SIZE, 3))
    x = Looks()(L.Conv2D(4, 3, name="conv2")(Looks()(inputs)))
    model = randomised(keras.Model(inputs, L.Dense(CLASSES)(L.GlobalAveragePooling2D()(x))))
    program = TorchEngine().trace(model, spec_of(images()), [ask(1, **wanted)])
    seen.clear()
    run(program, images(), ask(1, **wanted))
    # The feature map alone is differentiated by for a CAM, the picture for a gradient.
    assert seen == ([False, True] if "cams" in wanted else [True, True])


def test_layer_of_a_branch_that_is_not_taken_is_refused():
    class Branches(keras.Model):
        def __init__(self):
            super().__init__()
            self.first, self.second = (L.Conv2D(4, 3, padding="same", activation="relu") for _ in range(2))
            self.dense = L.Dense(3)

        def call(self, inputs):
            x = self.first(inputs)
            x = keras.ops.cond(keras.ops.mean(inputs) > 0.4, lambda: self.second(x), lambda: x)
            return self.dense(keras.ops.mean(x, axis=(1, 2)))

    model = Branches()
    model(images())
    pictures = images() * 0.0
    with pytest.raises(ValueError, match=r"`layer` must be called for all pictures. Received: 'conv2d"):
        explain(model, pictures, target=0, layer=model.second)
    assert explain(model, pictures, target=0, layer=model.first).gradcam.shape == (3, *images().shape[1:3])


def test_cells_are_differentiated_one_by_one():
    inputs = keras.Input((*SIZE, 3))
    x = L.Conv2D(4, 3, name="conv2")(keras.ops.flip(inputs, axis=2))
    model = randomised(keras.Model(inputs, L.Dense(CLASSES)(L.GlobalAveragePooling2D()(x))))
    program = TorchEngine().trace(model, spec_of(images()), [ask(1, cams={"plain": plain_cam})])
    assert not program.layouts[0].placement.is_whole
    gradients, cells, grid = program.cell_gradients(0, [images(1)], np.array([[0, 0], [0.5, 0.99]]))
    assert (gradients.shape, cells.tolist(), grid) == ((2, *SIZE, 3), [[0, 0], [5, 7]], (10, 8))
    for gradient, (row, column) in zip(gradients, cells, strict=True):
        rows, columns = np.nonzero(np.abs(gradient).sum(-1))
        assert (rows.min(), rows.max() + 1) == (row, row + 3)
        assert (columns.min(), columns.max() + 1) == (SIZE[1] - column - 3, SIZE[1] - column)


# --------------------------------------------------------------------------------------------------------- what remains


def tensors():
    return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())


def living():
    gc.collect()
    return tensors()


def test_a_hundred_calls_leave_nothing():
    model = relu_convnet()
    program = TorchEngine().trace(model, spec_of(images()), [everything()])
    calls = dict.fromkeys(model._flatten_layers())
    run(program, images(), everything())
    before, threads = living(), torch.get_num_threads()
    gc.disable()
    torch.set_num_threads(1)
    try:
        for _ in range(100):
            run(program, images(), everything())
        without_collection = tensors()
    finally:
        gc.enable()
        torch.set_num_threads(threads)
    assert living() == before
    assert without_collection <= before + 10
    assert all(not layer._forward_hooks for layer in calls)


def test_a_program_keeps_no_tensor_of_its_trace():
    model = relu_convnet()
    before = living()
    program = TorchProgram(model, spec_of(images()), [everything()])
    assert living() <= before
    del program
    assert living() <= before
