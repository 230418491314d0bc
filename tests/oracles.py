"""Slow and independent re-implementations that the package is compared with. Nothing here imports the package."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np

# ------------------------------------------------------------------------------------------------------------ comparing


def numbers(tensor) -> np.ndarray:
    """What an array, or a tensor of the backend, holds, in float64."""
    return np.asarray(keras.ops.convert_to_numpy(tensor), "float64")


def relative_error(actual, expected) -> float:
    """max |actual - expected| / max |expected|."""
    actual, expected = numbers(actual), numbers(expected)
    assert actual.shape == expected.shape, (actual.shape, expected.shape)
    return float(np.abs(actual - expected).max() / np.abs(expected).max())


def assert_close(actual, expected, tolerance: float = 1e-5) -> None:
    """Asserts a relative error of at most ``tolerance``; an oracle of nothing but zeros proves nothing and fails."""
    assert np.abs(numbers(expected)).max() > 0, "the oracle is zero everywhere"
    error = relative_error(actual, expected)
    assert error <= tolerance, f"relative error {error:.3g} > {tolerance:g}"


# ------------------------------------------------------------------------------------------------------------- formulas


def gradcam_by_hand(activations, gradients) -> np.ndarray:
    """max(0, sum_k mean(dY/dA_k) A_k), one cell and one channel at a time; (N, *space, K) -> (N, *space)."""
    activations, gradients = np.asarray(activations, "float64"), np.asarray(gradients, "float64")
    samples, *space, channels = activations.shape
    cells = list(np.ndindex(*space))
    result = np.zeros((samples, *space))
    for n, k in itertools.product(range(samples), range(channels)):
        weight = sum(gradients[(n, *cell, k)] for cell in cells) / len(cells)
        for cell in cells:
            result[(n, *cell)] += weight * activations[(n, *cell, k)]
    for index in np.ndindex(*result.shape):
        result[index] = max(result[index], 0.0)
    return result


def _neighbours(position: int, old: int, new: int) -> tuple[tuple[int, float], tuple[int, float]]:
    """The two old cells, with weights, between whose centres the centre of a new cell lies."""
    centre = min(max((position + 0.5) * old / new - 0.5, 0.0), old - 1.0)
    below = int(centre)
    return (below, 1 - (centre - below)), (min(below + 1, old - 1), centre - below)


def upsample_by_hand(maps, size) -> np.ndarray:
    """Linear interpolation, half-pixel centres clamped at the edges, one cell at a time; (N, *space) -> (N, *size)."""
    maps = np.asarray(maps, "float64")
    result = np.zeros((len(maps), *size))
    for cell in np.ndindex(*size):
        between = [_neighbours(*axis) for axis in zip(cell, maps.shape[1:], size, strict=True)]
        for corner in itertools.product(*between):
            index = tuple(position for position, _ in corner)
            weight = np.prod([share for _, share in corner])
            for n in range(len(maps)):
                result[(n, *cell)] += weight * maps[(n, *index)]
    return result


def guided_gradcam_by_hand(guided, gradcam) -> np.ndarray:
    """Guided gradients (N, *size, C) times the map (N, *space) at the size of the input."""
    guided = np.asarray(guided, "float64")
    heatmap = upsample_by_hand(gradcam, guided.shape[1:-1])
    result = np.empty(guided.shape)
    for index in np.ndindex(*guided.shape):
        result[index] = guided[index] * heatmap[index[:-1]]
    return result


# ------------------------------------------------------------------------------------------------------------ gradients


class Plain(NamedTuple):
    """Ordinary Grad-CAM and what it was made from."""

    gradcam: np.ndarray
    activations: np.ndarray
    gradients: np.ndarray
    scores: np.ndarray


def plain_gradcam(features: Callable, head: Callable, images) -> Plain:
    """Grad-CAM of ``head(features(images))`` by a plain tape that starts at the feature map.

    Args:
        features: images -> (N, *space, K).
        head: (N, *space, K) -> score per sample.
    """
    activations = keras.ops.convert_to_tensor(features(keras.ops.convert_to_tensor(images)))
    scores, gradients = score_and_gradient(head, activations)
    arrays = [numbers(tensor) for tensor in (activations, gradients, scores)]
    return Plain(gradcam_by_hand(arrays[0], arrays[1]), *arrays)


def input_gradient(score: Callable, images) -> np.ndarray:
    """d(score)/d(images) by a plain tape."""
    return numbers(score_and_gradient(score, keras.ops.convert_to_tensor(images))[1])


def score_and_gradient(score: Callable, tensor):
    """score(tensor) and d(sum of score(tensor))/d(tensor), by the backend's own plain means."""
    backend = keras.config.backend()
    if backend == "torch":
        import torch

        tensor = tensor.detach().clone().requires_grad_()
        scores = score(tensor)
        return scores.detach(), torch.autograd.grad(scores.sum(), tensor)[0]
    if backend == "jax":
        import jax

        def total(values):
            scores = score(values)
            return scores.sum(), scores

        gradient, scores = jax.grad(total, has_aux=True)(tensor)
        return scores, gradient
    import tensorflow as tf

    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(tensor)
        scores = score(tensor)
    return scores, tape.gradient(scores, tensor)


# ----------------------------------------------------------------------------------------------------------- rectifiers


class Gate(NamedTuple):
    """An activation and its derivative, both written from the definition."""

    value: Callable
    slope: Callable

    def ordinary(self) -> Callable:
        return self._with_backward(lambda x, upstream: self.slope(x) * upstream)

    def guided(self) -> Callable:
        """The same activation, whose backward pass is f'(x) * max(upstream, 0)."""
        return self._with_backward(lambda x, upstream: self.slope(x) * keras.ops.where(upstream > 0, upstream, 0.0))

    def _with_backward(self, backward: Callable) -> Callable:
        @keras.ops.custom_gradient
        def activation(x):
            def gradient(*arguments, upstream=None):
                # PyTorch passes what the function was given, and the gradient by its name.
                return backward(x, arguments[0] if upstream is None else upstream)

            return self.value(x), gradient

        return activation


def rectifier(negative_slope=0.0, max_value=np.inf, threshold=0.0) -> Gate:
    """max_value above it, x down to the threshold, negative_slope * (x - threshold) below: Keras' definition of relu.

    ``negative_slope`` may be an array (PReLU).
    """
    if isinstance(negative_slope, np.ndarray):
        negative_slope = keras.ops.convert_to_tensor(negative_slope)

    def value(x):
        below = negative_slope * (x - threshold)
        return keras.ops.where(x > threshold, keras.ops.where(x < max_value, x, max_value), below)

    def slope(x):
        above = keras.ops.where(x < max_value, keras.ops.ones_like(x), keras.ops.zeros_like(x))
        return keras.ops.where(x > threshold, above, negative_slope * keras.ops.ones_like(x))

    return Gate(value, slope)


def hard_sigmoid_gate() -> Callable:
    """clip(x / 6 + 1/2, 0, 1), to be used with its ordinary gradient."""

    def value(x):
        return keras.ops.where(x <= -3.0, 0.0, keras.ops.where(x >= 3.0, 1.0, x / 6.0 + 0.5))

    def slope(x):
        inside = keras.ops.logical_and(x > -3.0, x < 3.0)
        return keras.ops.where(inside, keras.ops.ones_like(x) / 6.0, keras.ops.zeros_like(x))

    return Gate(value, slope).ordinary()


def slow_spearman(a, b):
    """Spearman's rank correlation by counting, cell against cell; NaN where a map is constant."""
    a, b = [float(value) for value in np.ravel(a)], [float(value) for value in np.ravel(b)]

    def ranks(values):
        return [
            sum(other < one for other in values) + (sum(other == one for other in values) - 1) / 2 for one in values
        ]

    first, second = ranks(a), ranks(b)
    means = sum(first) / len(first), sum(second) / len(second)
    covariance = sum((x - means[0]) * (y - means[1]) for x, y in zip(first, second, strict=True))
    variances = [sum((x - mean) ** 2 for x in r) for r, mean in zip((first, second), means, strict=True)]
    return covariance / (variances[0] * variances[1]) ** 0.5 if all(variances) else float("nan")


_ARRAYS = ("scores", "predictions", "classes", "gradcam", "heatmap", "guided_backprop", "guided_gradcam")


def assert_same(actual, expected, tolerance: float = 1e-5):
    """Checks that two explanations are about the same and equal but for rounding errors."""
    for name in _ARRAYS:
        one, other = getattr(actual, name), getattr(expected, name)
        assert (one is None) == (other is None), name
        if name == "classes" or other is None or not other.any():
            np.testing.assert_array_equal(one, other)
        else:
            assert_close(one, other, tolerance)
    assert actual.layer == expected.layer


def overlay(picture, gradcam, vmax, table):
    """The blend of a picture, its grey and a map's colours, and the line at half of the maximum, pixel by pixel."""
    height, width = picture.shape[:2]
    share = np.clip(upsample_by_hand(gradcam[None].astype(float), (height, width))[0] / vmax, 0, 1)
    inside = share >= 0.4999 * share.max()
    thickness = max(1, round(max(height, width) / 512))
    drawn = np.zeros((height, width, 3))
    for y in range(height):
        for x in range(width):
            index = int(np.rint(share[y, x] * 255))
            alpha = 0.75 * index / 255
            grey = min(1.0, 4 * alpha)
            red, green, blue = (float(value) for value in picture[y, x])
            brightness = 0.299 * red + 0.587 * green + 0.114 * blue
            for channel, value in enumerate((red, green, blue)):
                below = (1 - grey) * value + grey * brightness
                drawn[y, x, channel] = (1 - alpha) * below + alpha * float(table[index, channel])
            near = [
                (y + dy, x + dx)
                for dy in range(-thickness, thickness + 1)
                for dx in range(-thickness, thickness + 1)
                if abs(dy) + abs(dx) <= thickness and 0 <= y + dy < height and 0 <= x + dx < width
            ]
            if share.max() > 0 and any(inside[at] != inside[y, x] for at in near):
                drawn[y, x] = 255 if inside[y, x] else 0
    return drawn
