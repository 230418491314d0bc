"""Small models that several tests use. Weights are random but seeded, biases and statistics included."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
from keras import layers as L  # noqa: N812

#: Not square, so that swapped axes show.
SIZE = (12, 10)
CLASSES = 4


def images(count: int = 3, size=SIZE, channels: int = 3, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (count, *size, channels)).astype("float32")


def randomised(model, seed: int = 0, scale: float = 1.0):
    """Gives ``model`` weights under which no unit is idle: biases, scales and moving statistics are not 0 and 1."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        name = weight.path.rsplit("/", 1)[-1]
        if name in ("gamma", "moving_variance"):
            value = rng.uniform(0.5, 1.5, weight.shape)
        elif name == "kernel":
            value = rng.normal(0, 2 * scale / np.sqrt(np.prod(weight.shape[:-1])), weight.shape)
        else:  # biases, beta, moving means, PReLU's alpha, embeddings, tokens
            value = rng.normal(0, 0.5, weight.shape)
        weight.assign(value)
    return model


def named(model, name: str):
    """The one layer of that name, wherever it is nested."""
    (found,) = [layer for layer in model._flatten_layers(include_self=False) if layer.name == name]
    return found


# -------------------------------------------------------------------------------------- conv1, f, conv2, f, mean, dense
# The same network built in every way that Keras allows; tests compare it with `ConvnetByHand`.

#: Scale of the weights under which units reach the plateau of relu6.
_LOUD = 2.0


def _conv1(**options):
    return L.Conv2D(4, 3, padding="same", name="conv1", **options)


def _conv2(**options):
    return L.Conv2D(5, 3, strides=2, padding="same", name="conv2", **options)


def _mean():
    return L.GlobalAveragePooling2D(name="mean")


def _dense(units: int = CLASSES, activation="softmax"):
    return L.Dense(units, activation=activation, name="dense")


def convnet(after: Callable | None = None, activation=None, seed: int = 0, dense=None):
    """Functional. ``after(position)`` makes what follows a convolution, ``activation`` is fused into it."""
    inputs = keras.Input((*SIZE, 3))
    x = _conv1(activation=activation)(inputs)
    x = after(1)(x) if after else x
    x = _conv2(activation=activation)(x)
    x = after(2)(x) if after else x
    return randomised(keras.Model(inputs, _dense(**(dense or {}))(_mean()(x))), seed, _LOUD)


def convnet_in_sequence(activation="relu", seed: int = 0, name: str | None = None):
    return randomised(
        keras.Sequential(
            [
                keras.Input((*SIZE, 3)),
                _conv1(activation=activation),
                _conv2(activation=activation),
                _mean(),
                _dense(),
            ],
            name=name,
        ),
        seed,
        _LOUD,
    )


class ConvnetByCall(keras.Model):
    """Subclassed; ``rectify`` is called between the layers."""

    def __init__(self, rectify: Callable, **options):
        super().__init__(**options)
        self.conv1, self.conv2, self.mean, self.dense = _conv1(), _conv2(), _mean(), _dense()
        self.rectify = rectify

    def call(self, inputs):
        return self.dense(self.mean(self.rectify(self.conv2(self.rectify(self.conv1(inputs))))))


def called(model, seed: int = 0):
    """A subclassed model after its first call, with random weights."""
    model(images(1))
    return randomised(model, seed, _LOUD)


def block_convnet(block, seed: int = 0):
    inputs = keras.Input((*SIZE, 3))
    return randomised(keras.Model(inputs, _dense()(_mean()(block(inputs)))), seed, _LOUD)


def nested_convnet(seed: int = 0):
    """conv1 and conv2 two models deep."""
    inner_input = keras.Input((*SIZE, 3))
    inner = keras.Model(inner_input, L.ReLU(name="act1")(_conv1()(inner_input)), name="inner")
    middle_input = keras.Input((*SIZE, 3))
    middle = keras.Model(middle_input, L.ReLU(name="act2")(_conv2()(inner(middle_input))), name="middle")
    inputs = keras.Input((*SIZE, 3))
    return randomised(keras.Model(inputs, _dense()(_mean()(middle(inputs)))), seed, _LOUD)


class ConvnetByHand:
    """The network above without Keras, sharing the weights of a Keras model.

    Args:
        model: Where the weights are read.
        gates: The two activations (`oracles.Gate.ordinary()` or `.guided()`).
        fused: Whether the feature map of conv2 is taken after its activation.
    """

    def __init__(self, model, gates, fused: bool = False):
        self.conv1, self.conv2, self.dense = (named(model, name) for name in ("conv1", "conv2", "dense"))
        self.gates = gates
        self.fused = fused

    def features(self, pictures):
        x = keras.ops.conv(pictures, self.conv1.kernel, 1, "same") + self.conv1.bias
        x = keras.ops.conv(self.gates[0](x), self.conv2.kernel, 2, "same") + self.conv2.bias
        return self.gates[1](x) if self.fused else x

    def logits(self, features):
        x = features if self.fused else self.gates[1](features)
        return logits(self.dense, keras.ops.mean(x, axis=(1, 2)))

    def score(self, of_class: int) -> Callable:
        return lambda pictures: self.logits(self.features(pictures))[:, of_class]


# ---------------------------------------------------------------------------------------------------- transfer learning


def backbone(name: str = "backbone"):
    """A small MobileNet: convolution, depthwise convolution, batch normalisation and ReLU6."""
    inputs = keras.Input((*SIZE, 3))
    x = inputs
    for position, conv in enumerate(
        (L.Conv2D(4, 3, padding="same"), L.DepthwiseConv2D(3, 2, "same"), L.Conv2D(6, 1)), 1
    ):
        x = L.BatchNormalization(name=f"norm{position}")(conv(x))
        x = L.ReLU(6.0, name=f"relu{position}")(x)
    return keras.Model(inputs, x, name=name)


def transfer(frozen: bool = False, seed: int = 0):
    """Augmentation, rescaling, backbone, mean, dropout, classes; takes pictures from 0 to 255."""
    base = backbone()
    base.trainable = not frozen
    return randomised(
        keras.Sequential(
            [
                keras.Input((*SIZE, 3)),
                L.RandomFlip("horizontal", seed=1),
                L.RandomRotation(0.2, seed=2),
                L.Rescaling(1 / 127.5, offset=-1, name="rescaling"),
                base,
                L.GlobalAveragePooling2D(name="mean"),
                L.Dropout(0.3, seed=3),
                L.Dense(CLASSES, activation="softmax", name="dense"),
            ]
        ),
        seed,
    )


def through(layers, x, relu: Callable | None = None):
    """Runs layers one after another without a model; ``relu`` takes the place of their ReLU layers."""
    for layer in layers:
        if relu is not None and isinstance(layer, L.ReLU):
            x = relu(x)
        elif isinstance(layer, (L.BatchNormalization, L.Dropout)):
            x = layer(x, training=False)
        elif not isinstance(layer, L.InputLayer):
            x = layer(x)
    return x


def logits(dense, x):
    """The scores of a Dense layer before its activation."""
    return x @ keras.ops.convert_to_tensor(dense.kernel) + keras.ops.convert_to_tensor(dense.bias)


class ClassToken(L.Layer):
    """Puts a token of its own before the others."""

    def build(self, shape):
        self.token = self.add_weight(shape=(1, 1, shape[-1]), name="token")

    def call(self, inputs):
        token = keras.ops.broadcast_to(self.token, (keras.ops.shape(inputs)[0], 1, inputs.shape[-1]))
        return keras.ops.concatenate([token, inputs], axis=1)


def small_network(pooled=True, positive=False):
    """Two convolutions of pictures (12, 8, 3) and four classes; with positive weights everything speaks for a class."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((12, 8, 3))
    x = keras.layers.Conv2D(6, 3, activation="relu")(inputs)
    x = keras.layers.Conv2D(5, 3, activation="relu", name="last")(x)
    x = keras.layers.GlobalAveragePooling2D()(x) if pooled else keras.layers.Flatten()(x)
    initializer = keras.initializers.RandomUniform(0.1, 1) if positive else "glorot_uniform"
    return keras.Model(inputs, keras.layers.Dense(4, kernel_initializer=initializer)(x))
