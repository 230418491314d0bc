"""Guided backpropagation is f'(x) * max(g, 0) at every rectifier, wherever it came from, and Grad-CAM is not."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as L  # noqa: N812
from models import (
    BlockByFunction,
    ConvnetByAutograph,
    ConvnetByCall,
    ConvnetByFunction,
    ConvnetByHand,
    block_convnet,
    called,
    convnet,
    convnet_in_sequence,
    images,
    named,
    nested_convnet,
    randomised,
)
from oracles import Gate, assert_close, hard_sigmoid_gate, input_gradient, plain_gradcam, rectifier, relative_error

from keras_gradcam import Explainer, explain

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
    return [rectifier(negative_slope=tf.constant(named(model, name).alpha.numpy())) for name in ("act1", "act2")]


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

CASES = {
    **{f"layers.ReLU, {name}": relu_layer(**options) for name, options in OPTIONS.items()},
    **{f"activations.relu called, {name}": relu_function(**options) for name, options in OPTIONS.items()},
    **{f"activations.relu fused, {name}": relu_fused(**options) for name, options in OPTIONS.items()},
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
    "ops.maximum, functional": Case(lambda: convnet(lambda position: lambda x: keras.ops.maximum(x, 0)), rectifier()),
    "ops.where(x > 0, x, 0)": Case(
        lambda: called(ConvnetByCall(lambda x: keras.ops.where(x > 0, x, 0.0))), rectifier()
    ),
    "ops.clip(x, 0, 2)": Case(
        lambda: called(ConvnetByCall(lambda x: keras.ops.clip(x, 0.0, 2.0))), rectifier(max_value=2.0)
    ),
    "tf.nn.relu": Case(lambda: called(ConvnetByCall(tf.nn.relu)), rectifier()),
    "tf.nn.relu in a Lambda": Case(lambda: convnet(lambda position: L.Lambda(tf.nn.relu)), rectifier()),
    "tf.nn.relu6 in a Lambda": Case(
        lambda: convnet(lambda position: L.Lambda(lambda x: tf.nn.relu6(x))), rectifier(max_value=6.0)
    ),
    "in a model in a model": Case(nested_convnet, rectifier()),
    "model's call is a tf.function": Case(lambda: called(ConvnetByFunction(tf.nn.relu)), rectifier()),
    "model's call is a tf.function, PReLU by ops": Case(
        lambda: called(ConvnetByFunction(lambda x: keras.ops.relu(x) - 0.4 * keras.ops.relu(-x))),
        rectifier(negative_slope=0.4),
    ),
    "model's call is a tf.function with `if`": Case(lambda: called(ConvnetByAutograph(tf.nn.relu)), rectifier()),
    "layer's call is a tf.function": Case(
        lambda: block_convnet(BlockByFunction(keras.activations.relu, name="block")), rectifier()
    ),
}


@pytest.fixture(scope="module", params=CASES, ids=str)
def explained(request):
    """A case, its model, and the maps that one pass gives together."""
    case = CASES[request.param]
    try:
        model = case.build()
    except tf.errors.OperatorNotAllowedInGraphError:
        # The model cannot even be called: TensorFlow 2.21's AutoGraph does not work on Python 3.13.
        if sys.version_info < (3, 13):
            raise
        pytest.skip("AutoGraph does not convert functions on this Python")
    return case, model, explain(model, images(), target=OF_CLASS, layer="conv2")


def test_guided_backprop_equals_a_network_of_custom_gradients(explained):
    case, model, result = explained
    expected = input_gradient(case.by_hand(model, "guided").score(OF_CLASS), images())
    assert_close(result.guided_backprop, expected)


def test_the_guided_oracle_differs_from_plain_backpropagation(explained):
    case, model, _ = explained
    guided, plain = (
        input_gradient(case.by_hand(model, kind).score(OF_CLASS), images()) for kind in ("guided", "ordinary")
    )
    assert relative_error(plain, guided) > 0.1


def test_gradcam_keeps_ordinary_gradients(explained):
    case, model, result = explained
    ordinary, guided = (case.by_hand(model, kind) for kind in ("ordinary", "guided"))
    expected, wrong = (
        plain_gradcam(net.features, lambda a, net=net: net.logits(a)[:, OF_CLASS], images())
        for net in (ordinary, guided)
    )
    assert_close(result.gradcam, expected.gradcam)
    assert_close(result.scores, expected.scores)
    if not case.fused:  # where a rectifier lies between the feature map and the score, guided gradients would show
        assert relative_error(wrong.gradcam, expected.gradcam) > 0.01


@pytest.mark.parametrize("name", ["layers.ReLU, max 6", "layers.ReLU, max 2.5", "layers.ReLU, all three"])
def test_the_pictures_reach_the_plateau(name):
    case, options = CASES[name], OPTIONS[name.split(", ")[1]]
    before_last_gate = case.by_hand(case.build(), "ordinary").features(images())
    assert np.mean(before_last_gate > options["max_value"]) > 0.02


# ------------------------------------------------------------------------------------- residual, gates, what is no ReLU


def test_relu6_after_a_sum_of_two_branches_is_a_rectifier():
    inputs = keras.Input((*images().shape[1:3], 3))
    left, right = L.Conv2D(4, 3, padding="same")(inputs), L.Conv2D(4, 1)(inputs)
    joined = L.ReLU(6.0)(L.Add()([left, right]))
    outputs = L.Dense(3)(L.GlobalAveragePooling2D()(joined))
    model = randomised(keras.Model(inputs, outputs))
    one, two, dense = (layer for layer in model.layers if layer.weights)
    gate = rectifier(max_value=6.0).guided()

    def score(x):
        left = tf.nn.conv2d(x, one.kernel, 1, "SAME") + one.bias
        right = tf.nn.conv2d(x, two.kernel, 1, "SAME") + two.bias
        return (tf.reduce_mean(gate(left + right), (1, 2)) @ dense.kernel + dense.bias)[:, 1]

    result = explain(model, images(), target=1, methods="guided_backprop")
    assert_close(result.guided_backprop, input_gradient(score, images()))


GATES = {
    "hard_silu": ("hard_silu", lambda x: x * hard_sigmoid_gate()(x)),
    "hard_sigmoid": ("hard_sigmoid", hard_sigmoid_gate()),
    "relu6(x + 3) / 6": (lambda x: tf.nn.relu6(x + 3.0) / 6.0, hard_sigmoid_gate()),
    "x * relu6(x + 3) / 6": (lambda x: x * keras.ops.relu6(x + 3.0) / 6.0, lambda x: x * hard_sigmoid_gate()(x)),
}


@pytest.mark.parametrize("name", GATES)
def test_hard_sigmoid_gate_keeps_its_ordinary_gradient_beside_a_relu(name):
    activation, by_hand = GATES[name]
    model = convnet(lambda position: L.Activation(activation) if position == 1 else L.ReLU())
    result = explain(model, images(), target=OF_CLASS, methods="guided_backprop")
    expected = ConvnetByHand(model, [by_hand, rectifier().guided()])
    assert_close(result.guided_backprop, input_gradient(expected.score(OF_CLASS), images()))


SMOOTH = {
    "silu": "silu",
    "gelu": "gelu",
    "elu": "elu",
    "tanh": "tanh",
    "hard_silu": "hard_silu",
    "softplus": "softplus",
}


@pytest.mark.parametrize("activation", SMOOTH)
def test_model_without_relu_warns_and_gives_plain_gradients(activation):
    model = convnet(activation=activation)
    with pytest.warns(UserWarning, match=rf"no ReLU.*plain backpropagation.*{activation}"):
        result = explain(model, images(), target=OF_CLASS)
    activation = keras.activations.get(activation)
    by_hand = ConvnetByHand(model, [activation, activation])
    assert_close(result.guided_backprop, input_gradient(by_hand.score(OF_CLASS), images()))


def test_smooth_function_in_a_subclassed_model_is_named():
    model = called(ConvnetByCall(tf.nn.tanh))
    with pytest.warns(UserWarning, match=r"tanh"):
        explain(model, images(), target=OF_CLASS, methods="guided_backprop")


def test_gradcam_alone_does_not_warn_about_a_model_without_relu():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        explain(convnet(activation="silu"), images(), target=OF_CLASS, methods="gradcam")


def _while_loop(x):
    return tf.while_loop(lambda i, _: i < 2, lambda i, x: (i + 1, tf.nn.relu(x)), (0, x), maximum_iterations=2)[1]


def _keras_while_loop(x):
    loop = keras.ops.while_loop
    return loop(lambda i, _: i < 2, lambda i, x: (i + 1, keras.ops.relu(x)), (0, x), maximum_iterations=2)[1]


LOOPS = {"tf.while_loop": _while_loop, "keras.ops.while_loop": _keras_while_loop}


@pytest.mark.parametrize("name", LOOPS)
def test_relu_in_a_loop_beside_another_warns_and_keeps_its_ordinary_gradient(name):
    model = convnet(lambda position: L.ReLU() if position == 1 else L.Lambda(LOOPS[name]))
    with pytest.warns(UserWarning, match=r"1 ReLU operation.* inside a loop or a branch"):
        result = explain(model, images(), target=OF_CLASS, layer="conv2")
    by_hand = ConvnetByHand(model, [rectifier().guided(), rectifier().ordinary()])
    assert_close(result.guided_backprop, input_gradient(by_hand.score(OF_CLASS), images()))


@pytest.mark.parametrize("name", LOOPS)
def test_relu_in_loops_alone_warns(name):
    model = called(ConvnetByCall(LOOPS[name]))
    with pytest.warns(UserWarning, match=r"ReLU"):
        explain(model, images(), target=OF_CLASS, layer="conv2", methods="guided_backprop")


@pytest.mark.skipif(not hasattr(keras, "remat"), reason="this Keras has no remat")
def test_relu_recomputed_in_the_backward_pass_is_guided_or_warned_about():
    """`keras.remat` runs its function again while it differentiates, where the rule may not reach."""

    def rematerialised(x):
        return keras.remat(tf.nn.relu)(x)

    model = called(ConvnetByCall(rematerialised))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = explain(model, images(), target=OF_CLASS, layer="conv2", methods="guided_backprop")
    if not caught:
        by_hand = ConvnetByHand(model, [rectifier().guided()] * 2)
        assert_close(result.guided_backprop, input_gradient(by_hand.score(OF_CLASS), images()))


def test_guided_rule_does_not_leak_into_the_users_own_gradients():
    model = convnet(activation="relu")
    plain = ConvnetByHand(model, [rectifier().ordinary()] * 2, fused=True)
    expected = input_gradient(plain.score(OF_CLASS), images())

    def own():
        x = tf.convert_to_tensor(images())
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(x)
            logits = tf.math.log(model(x))
            score = logits[:, OF_CLASS]
        return tape.gradient(score, x), score

    before, _ = own()
    Explainer(model)(images())
    after, _ = own()
    np.testing.assert_array_equal(before, after)
    assert np.abs(expected).max() > 0
