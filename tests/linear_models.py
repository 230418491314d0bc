"""Linear models whose scores are computed by hand, and slow curves of them."""

from __future__ import annotations

from functools import cache

import keras
import numpy as np
from keras import layers as L  # noqa: N812

from keras_gradcam import Explainer

GRID = (3, 4)
RNG = np.random.default_rng(5)
WEIGHTS = RNG.normal(size=(24, 2)).astype("float32")
BIAS = np.array([0.5, -0.25], "float32")
PICTURES = RNG.uniform(-1, 1, (3, *GRID, 2)).astype("float32")
MAPS = np.stack([RNG.permutation(12).reshape(GRID) for _ in range(3)]).astype(float)


@cache
def linear(activation=None, units=2, batch_size=32):
    """sum_i w_i x_i + b, then perhaps an activation; explained by one Explainer for all tests."""
    dense = L.Dense(units, activation=activation)
    model = keras.Sequential([keras.Input((*GRID, 2)), L.Flatten(), dense])
    dense.set_weights([WEIGHTS[:, :units], BIAS[:units]])
    return Explainer(model, methods="gradcam", batch_size=batch_size)


def by_hand(picture):
    return picture.astype(float).ravel() @ WEIGHTS + BIAS


def softmax(row):
    return np.exp(row - row.max()) / np.exp(row - row.max()).sum()


def slow_curve(begin, end, weights, steps, score):
    """Changes the strongest cells one after another, the first in reading order of equal ones."""
    cells = sorted(np.ndindex(*weights.shape), key=lambda cell: -weights[cell])  # Python's sort is stable
    curve = []
    for step in range(steps + 1):
        picture = begin.copy()
        for cell in cells[: round(step / steps * len(cells))]:
            picture[cell] = end[cell]
        curve.append(score(picture))
    return curve
