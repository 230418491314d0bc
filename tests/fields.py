"""Receptive fields by brute force."""

from __future__ import annotations

import keras
import numpy as np
from keras import layers as L  # noqa: N812

# ---------------------------------------------------------------------------------------------------------- brute force


def loud(model, seed: int = 0):
    """Gives ``model`` weights under which nothing cancels and no rectifier cuts: all of them positive."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        if "moving_mean" not in weight.path and "seed" not in weight.path:
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
    return model


def layer_function(model, name: str):
    """A function from a batch of pictures to what the layer of that name returns, by calling the model."""
    (layer,) = [layer for layer in model._flatten_layers(include_self=False) if layer.name == name.rpartition("/")[2]]

    def call(pictures):
        outputs = []

        def seen(*args, original=layer.call, **kwargs):
            outputs.append(original(*args, **kwargs))
            return outputs[-1]

        vars(layer)["call"] = seen
        try:
            model(pictures, training=False)
        finally:
            del vars(layer)["call"]
        return outputs[-1]

    def features(pictures):
        if keras.config.backend() != "tensorflow":
            return keras.ops.convert_to_numpy(call(pictures))
        import tensorflow as tf

        eagerly = tf.config.functions_run_eagerly()
        tf.config.run_functions_eagerly(True)  # the layers of a model whose call is a tf.function are seen, too
        try:
            return np.asarray(call(pictures))
        except (tf.errors.UnimplementedError, tf.errors.InvalidArgumentError):
            # Which convolutions run on a CPU depends on the CPU; XLA compiles all of them.
            tf.config.run_functions_eagerly(False)
            return np.asarray(tf.function(call, jit_compile=True)(tf.constant(pictures)))
        finally:
            tf.config.run_functions_eagerly(eagerly)

    return features


#: The same number, computed in another position of the batch, may differ by this, relative to the largest one.
ROUNDING = 1e-5


def changed_boxes(features, shape, step: float = 1e4) -> np.ndarray:
    """The box around the pixels that change a cell, (h, w, channels, 4), by changing every pixel in turn.

    Args:
        features: (N, H, W, C) -> (N, h, w, channels).
        shape: (H, W, C).
        step: By how much a pixel is changed, so that real changes are far larger than rounding.
    """
    height, width = shape[:2]
    base = np.random.default_rng(1).uniform(0.5, 1, shape).astype("float32")
    pictures = np.repeat(base[None], height * width + 1, axis=0)
    for pixel in range(height * width):
        pictures[pixel, pixel // width, pixel % width] += step
    results = np.asarray(features(pictures), "float64")
    changed = np.abs(results[:-1] - results[-1]) > ROUNDING * np.abs(results[-1]).max()
    changed = changed.reshape(height, width, *results.shape[1:])
    boxes = np.zeros((*results.shape[1:], 4), int)
    for cell in np.ndindex(*results.shape[1:]):
        rows, columns = np.nonzero(changed[(slice(None), slice(None), *cell)])
        if len(rows):
            boxes[cell] = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    return boxes


def squeeze_and_excite(x):
    gate = L.GlobalAveragePooling2D(keepdims=True)(x)
    return L.Multiply()([x, L.Conv2D(x.shape[-1], 1, activation="sigmoid")(gate)])
