"""The guided rule in PyTorch's backward pass, however a rectifier is written."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from keras import layers as L  # noqa: N812
from models import ConvnetByCall, called, convnet, images
from oracles import rectifier
from rectifiers import (
    OF_CLASS,
    Case,
    check_gradcam_is_ordinary,
    check_guided_backprop,
    check_the_oracle_differs_from_plain_backpropagation,
)

from keras_gradcam import explain
from keras_gradcam.engine.torch.guided import GuidedRule


def leaky(slope):
    return rectifier(negative_slope=slope)


CASES = {
    "F.relu": (F.relu, rectifier()),
    "torch.relu_": (lambda x: torch.relu_(x * 1), rectifier()),
    "F.relu in place of a layer's output": (lambda x: F.relu(x, inplace=True), rectifier()),
    "F.relu6": (F.relu6, rectifier(max_value=6.0)),
    "F.hardtanh": (lambda x: F.hardtanh(x, 0.0, 2.0), rectifier(max_value=2.0)),
    "F.leaky_relu": (lambda x: F.leaky_relu(x, 0.3), leaky(0.3)),
    "F.prelu": (lambda x: F.prelu(x, torch.tensor([0.3])), leaky(0.3)),
    "F.threshold": (lambda x: F.threshold(x, 0.0, 0.0), rectifier()),
    "clamp": (lambda x: x.clamp(min=0), rectifier()),
    "clip": (lambda x: x.clip(0, 2), rectifier(max_value=2.0)),
    "maximum": (lambda x: torch.maximum(x, torch.zeros(())), rectifier()),
    "where": (lambda x: torch.where(x > 0, x, 0), rectifier()),
    "product with a mask": (lambda x: x * (x > 0), rectifier()),
    "masked_fill": (lambda x: x.masked_fill(x < 0, 0), rectifier()),
    "index_put": (lambda x: x.index_put((x < 0,), torch.zeros(())), rectifier()),
    "mean of x and its absolute": (lambda x: (x + x.abs()) / 2, rectifier()),
    "difference of two": (lambda x: F.relu(x) - 0.4 * F.relu(-x), leaky(0.4)),
    "in half of the precision and back": (lambda x: F.relu(x.double()).float(), rectifier()),
}


@pytest.fixture(scope="module", params=CASES, ids=str)
def explained(request):
    function, gate = CASES[request.param]
    case = Case(lambda: called(ConvnetByCall(function)), gate)
    model = case.build()
    return case, model, explain(model, images(), target=OF_CLASS, layer="conv2")


def test_guided_backprop_equals_a_network_of_custom_gradients(explained):
    check_guided_backprop(*explained)


def test_the_guided_oracle_differs_from_plain_backpropagation(explained):
    check_the_oracle_differs_from_plain_backpropagation(*explained[:2])


def test_gradcam_keeps_ordinary_gradients(explained):
    check_gradcam_is_ordinary(*explained)


def test_recomputed_blocks_are_reached():
    """What ``keras.remat`` runs again in the backward pass is differentiated by the rule, too."""
    rectify = keras.remat(keras.ops.relu)
    case = Case(lambda: called(ConvnetByCall(lambda x: rectify(x))), rectifier())
    model = case.build()
    check_guided_backprop(case, model, explain(model, images(), target=OF_CLASS, layer="conv2"))


@pytest.mark.parametrize("sign", [1, -1])
def test_the_rule_holds_only_while_it_is_on(sign):
    x = torch.tensor([-1.0, 2.0, 3.0], requires_grad=True)
    y = torch.relu(x)
    rule = GuidedRule()
    rule.attach({7: (y.grad_fn, y.output_nr)}, {7: sign})
    above = torch.tensor([1.0, 1.0, -1.0])

    def gradient():
        return torch.autograd.grad(y, x, above, retain_graph=True)[0].tolist()

    assert gradient() == [0, 1, -1]
    with rule.on():
        assert gradient() == ([0, 1, 0] if sign > 0 else [0, 0, -1])
    assert gradient() == [0, 1, -1]
    with pytest.raises(ZeroDivisionError), rule.on():
        raise ZeroDivisionError
    assert gradient() == [0, 1, -1]


def test_gradients_that_the_user_takes_meanwhile_do_not_feel_the_rule():
    model = convnet(lambda position: L.ReLU())

    def gradient():
        x = torch.from_numpy(images()).requires_grad_()
        return torch.autograd.grad(model(x)[:, OF_CLASS].sum(), x)[0].numpy()

    before = gradient()
    explain(model, images(), target=OF_CLASS)
    np.testing.assert_array_equal(gradient(), before)
