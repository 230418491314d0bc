"""Receptive fields by brute force."""

from __future__ import annotations

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


def changed_boxes(features, shape, step: float = 1e4) -> np.ndarray:
    """The box around the pixels that change a cell, (h, w, channels, 4), by changing every pixel in turn.

    Args:
        features: (N, H, W, C) -> (N, h, w, channels).
        shape: (H, W, C).
        step: By how much a pixel is changed.
    """
    height, width = shape[:2]
    base = np.random.default_rng(1).uniform(0.5, 1, shape).astype("float32")
    pictures = np.repeat(base[None], height * width + 1, axis=0)
    for pixel in range(height * width):
        pictures[pixel, pixel // width, pixel % width] += step
    made = np.asarray(features(pictures))
    moved = (made[:-1] != made[-1]).reshape(height, width, *made.shape[1:])
    boxes = np.zeros((*made.shape[1:], 4), int)
    for cell in np.ndindex(*made.shape[1:]):
        rows, columns = np.nonzero(moved[(slice(None), slice(None), *cell)])
        if len(rows):
            boxes[cell] = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    return boxes


def squeeze_and_excite(x):
    gate = L.GlobalAveragePooling2D(keepdims=True)(x)
    return L.Multiply()([x, L.Conv2D(x.shape[-1], 1, activation="sigmoid")(gate)])
