"""A small trained network, for checks against random weights."""

from __future__ import annotations

from functools import cache

import keras
import numpy as np
from keras import layers as L  # noqa: N812

# ------------------------------------------------------------------------------------------------------ a trained model

EXTENT = 24
_Y, _X = np.mgrid[:9, :9] - 4
#: A disc, a plus and a cross.
SHAPES = [np.hypot(_Y, _X) <= 4, (abs(_Y) <= 1) | (abs(_X) <= 1), (abs(_Y - _X) <= 1) | (abs(_Y + _X) <= 1)]


def shapes(count, seed):
    """Noise with one shape in it: pictures, classes, and boxes (x0, y0, x1, y1)."""
    rng = np.random.default_rng(seed)
    labels, corners = rng.integers(3, size=count), rng.integers(0, EXTENT - 9, (count, 2))
    pictures = rng.normal(0, 0.15, (count, EXTENT, EXTENT, 3)).astype("float32")
    for picture, label, (left, top) in zip(pictures, labels, corners, strict=True):
        picture[top : top + 9, left : left + 9] += SHAPES[label][..., None] * rng.uniform(0.5, 1, 3)
    return pictures, labels, np.concatenate([corners, corners + 9], axis=1)


@cache
def trained():
    """A small network that tells the shapes apart, after two seconds of training."""
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((EXTENT, EXTENT, 3)),
            L.Conv2D(8, 3, padding="same", activation="relu", name="conv1"),
            L.MaxPooling2D(),
            L.Conv2D(16, 3, padding="same", activation="relu", name="conv2"),
            L.Conv2D(32, 3, padding="same", activation="relu", name="conv3"),
            L.GlobalMaxPooling2D(),
            L.Dense(32, activation="relu", name="hidden"),
            L.Dense(3, activation="softmax", name="classes"),
        ]
    )
    model.compile(keras.optimizers.Adam(3e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
    pictures, labels, _ = shapes(600, seed=0)
    model.fit(pictures, labels, epochs=8, batch_size=32, verbose=0)
    pictures, labels, _ = shapes(64, seed=1)
    assert model.evaluate(pictures, labels, verbose=0)[1] > 0.95
    return model
