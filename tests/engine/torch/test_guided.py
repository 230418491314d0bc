"""Hooks that cut negative gradients, while they are told to."""

from __future__ import annotations

import numpy as np
import torch

from keras_gradcam.engine.torch.guided import GuidedRule


def gradients(sign):
    x = torch.tensor([1.0, -2.0, 3.0, 4.0], requires_grad=True)
    y = torch.relu(x)
    rule = GuidedRule()
    rule.attach({0: (y.grad_fn, 0)}, {0: sign})
    above = torch.tensor([-1.0, 5.0, 6.0, -7.0])

    def gradient():
        return torch.autograd.grad(y, [x], above, retain_graph=True)[0].numpy()

    ordinary = gradient()
    with rule.on():
        guided = gradient()
    return ordinary, guided, gradient()


def test_positive_gradients_pass_a_rectifier():
    ordinary, guided, after = gradients(1)
    np.testing.assert_array_equal(ordinary, [-1, 0, 6, -7])
    np.testing.assert_array_equal(guided, [0, 0, 6, 0])
    np.testing.assert_array_equal(after, ordinary)


def test_negative_gradients_pass_minus_a_rectifier():
    np.testing.assert_array_equal(gradients(-1)[1], [-1, 0, 0, -7])
