"""Every way to write a rectifier in Keras, and what guided backpropagation and Grad-CAM must make of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np
from keras import layers as L  # noqa: N812
from models import ConvnetByCall, ConvnetByHand, called, convnet, convnet_in_sequence, images, named, nested_convnet
from oracles import Gate, assert_close, input_gradient, plain_gradcam, rectifier, relative_error

OF_CLASS = 2


@dataclass(frozen=True)
class Case:
    """A way to write conv1, f, conv2, f, mean, dense, and what f is."""

    build: Callable[[], keras.Model]
    gate: Gate
    fused: bool = False
    gates: Callable | None = None  # where the two differ or have weights

    def by_hand(self, model, kind: str) -> ConvnetByHand:
        pair = self.gates(model) if self.gates else (self.gate, self.gate)
        return ConvnetByHand(model, [getattr(gate, kind)() for gate in pair], self.fused)


def relu_layer(**options) -> Case:
    return Case(lambda: convnet(lambda position: L.ReLU(**options)), rectifier(**options))


def relu_function(**options) -> Case:
    return Case(lambda: convnet(lambda position: lambda x: keras.activations.relu(x, **options)), rectifier(**options))


def relu_fused(**options) -> Case:

    def activation(x):
        return keras.activations.relu(x, **options)

    return Case(lambda: convnet(activation=activation), rectifier(**options), fused=True)


def prelu_gates(model):
    return [rectifier(negative_slope=np.asarray(named(model, name).alpha)) for name in ("act1", "act2")]


ALL_THREE = {"negative_slope": 0.1, "max_value": 1.5, "threshold": 0.2}
OPTIONS = {
    "plain": {},
    "max 6": {"max_value": 6.0},
    "max 2.5": {"max_value": 2.5},
    "slope": {"negative_slope": 0.1},
    "threshold": {"threshold": 0.3},
    "slope and threshold": {"negative_slope": 0.1, "threshold": 0.2},
    "slope and max": {"negative_slope": 0.1, "max_value": 1.5},
    "slope and max 6": {"negative_slope": 0.1, "max_value": 6.0},
    "threshold and max": {"max_value": 1.5, "threshold": 0.2},
    "all three": ALL_THREE,
}

#: However they are called, these end in the operations of `layers.ReLU`, of which every option is tried.
FEW = {name: OPTIONS[name] for name in ("plain", "all three")}

CASES = {
    **{f"layers.ReLU, {name}": relu_layer(**options) for name, options in OPTIONS.items()},
    **{f"activations.relu called, {name}": relu_function(**options) for name, options in FEW.items()},
    **{f"activations.relu fused, {name}": relu_fused(**options) for name, options in FEW.items()},
    "layers.LeakyReLU": Case(
        lambda: convnet(lambda position: L.LeakyReLU(negative_slope=0.25)), rectifier(negative_slope=0.25)
    ),
    "layers.PReLU": Case(
        lambda: convnet(lambda position: L.PReLU(name=f"act{position}")), rectifier(), gates=prelu_gates
    ),
    "layers.PReLU, shared axes": Case(
        lambda: convnet(lambda position: L.PReLU(shared_axes=[1, 2], name=f"act{position}")),
        rectifier(),
        gates=prelu_gates,
    ),
    "layers.Activation('relu')": Case(lambda: convnet(lambda position: L.Activation("relu")), rectifier()),
    "fused 'relu'": Case(lambda: convnet(activation="relu"), rectifier(), fused=True),
    "fused 'relu6'": Case(lambda: convnet(activation="relu6"), rectifier(max_value=6.0), fused=True),
    "fused 'leaky_relu'": Case(lambda: convnet(activation="leaky_relu"), rectifier(negative_slope=0.2), fused=True),
    "fused, Sequential": Case(convnet_in_sequence, rectifier(), fused=True),
    "ops.relu, functional": Case(lambda: convnet(lambda position: keras.ops.relu), rectifier()),
    "ops.relu": Case(lambda: called(ConvnetByCall(keras.ops.relu)), rectifier()),
    "ops.relu6": Case(lambda: called(ConvnetByCall(keras.ops.relu6)), rectifier(max_value=6.0)),
    "ops.leaky_relu": Case(
        lambda: called(ConvnetByCall(lambda x: keras.ops.leaky_relu(x, negative_slope=0.3))),
        rectifier(negative_slope=0.3),
    ),
    "ops.maximum(x, 0)": Case(lambda: called(ConvnetByCall(lambda x: keras.ops.maximum(x, 0))), rectifier()),
    "ops.maximum(0, x)": Case(lambda: called(ConvnetByCall(lambda x: keras.ops.maximum(0.0, x))), rectifier()),
    "ops.where(x > 0, x, 0)": Case(
        lambda: called(ConvnetByCall(lambda x: keras.ops.where(x > 0, x, 0.0))), rectifier()
    ),
    "ops.clip(x, 0, 2)": Case(
        lambda: called(ConvnetByCall(lambda x: keras.ops.clip(x, 0.0, 2.0))), rectifier(max_value=2.0)
    ),
    "in a model in a model": Case(nested_convnet, rectifier()),
}


def check_guided_backprop(case, model, result):
    expected = input_gradient(case.by_hand(model, "guided").score(OF_CLASS), images())
    assert_close(result.guided_backprop, expected)


def check_the_oracle_differs_from_plain_backpropagation(case, model):
    guided, plain = (
        input_gradient(case.by_hand(model, kind).score(OF_CLASS), images()) for kind in ("guided", "ordinary")
    )
    assert relative_error(plain, guided) > 0.1


def check_gradcam_is_ordinary(case, model, result):
    ordinary, guided = (case.by_hand(model, kind) for kind in ("ordinary", "guided"))
    expected, wrong = (
        plain_gradcam(net.features, lambda a, net=net: net.logits(a)[:, OF_CLASS], images())
        for net in (ordinary, guided)
    )
    assert_close(result.gradcam, expected.gradcam)
    assert_close(result.scores, expected.scores)
    if not case.fused:  # where a rectifier lies between the feature map and the score, guided gradients would show
        assert relative_error(wrong.gradcam, expected.gradcam) > 0.01
