"""Maps that take many gradients: SmoothGrad and integrated gradients.

The model is given as a function ``gradient(pictures, samples)``: the gradient of the explained score at some pictures,
each a changed version of the sample whose number is given beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...errors import ArgumentError, check_whole_number

#: (M, H, W, C) pictures and (M,) sample numbers to (M, H, W, C) gradients.
Gradient = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class Sampling:
    """How SmoothGrad and integrated gradients sample.

    Attributes:
        noise: Standard deviation of SmoothGrad's noise, as a share of the picture's range of values.
        samples: How many noisy pictures.
        steps: How many points on the path of integrated gradients.
        baseline: Where that path begins: a number, or a picture (H, W, C).
        seed: Of the noise. It is the same for every picture and every epoch, so that no drift comes from it.

    Raises:
        ValueError: If a number is out of range.
    """

    noise: float = 0.15
    samples: int = 25
    steps: int = 32
    baseline: Any = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.noise >= 0:
            raise ArgumentError("noise", "be >= 0", repr(self.noise))
        for name in ("samples", "steps"):
            check_whole_number(name, getattr(self, name), 1)


def smoothgrad(gradient: Gradient, images: np.ndarray, sampling: Sampling, portion: int = 32) -> np.ndarray:
    r"""The mean gradient of noisy copies of each picture.

    .. math:: \frac{1}{n} \sum_{i=1}^n \frac{\partial Y}{\partial X}(X + \epsilon_i) \qquad
        \epsilon_i \sim \mathcal N(0, \sigma^2) \qquad \sigma = \text{noise} \cdot (\max X - \min X)

    Args:
        gradient: The model.
        images: (N, H, W, C), floating point.
        sampling: Noise, number of samples, seed.
        portion: How many pictures the model takes at once.

    Returns:
        Shaped like ``images``, signed.

    Example:
        >>> import numpy as np
        >>> smoothgrad(lambda x, _: 2 * x, np.ones((1, 2, 2, 1)), Sampling()).ravel()  # no range of values, no noise
        array([2., 2., 2., 2.])

    Source: Smilkov et al., SmoothGrad, 2017, https://arxiv.org/abs/1706.03825.
    """
    axes = tuple(range(1, images.ndim))
    sigma = sampling.noise * (images.max(axis=axes, keepdims=True) - images.min(axis=axes, keepdims=True))
    rng = np.random.default_rng(sampling.seed)
    noise = rng.standard_normal((sampling.samples, *images.shape[1:])).astype(images.dtype)
    total = np.zeros(images.shape)
    for samples, draws in _portions(len(images), sampling.samples, portion):
        np.add.at(total, samples, gradient(images[samples] + sigma[samples] * noise[draws], samples))
    return (total / sampling.samples).astype(images.dtype)


def integrated_gradients(gradient: Gradient, images: np.ndarray, sampling: Sampling, portion: int = 32) -> np.ndarray:
    r"""Gradients gathered on the straight way from a baseline to each picture.

    .. math:: (X - X') \cdot \int_0^1 \frac{\partial Y}{\partial X}(X' + a (X - X')) \, da

    by the midpoint rule. What it adds up to is the difference of the scores, Y(X) - Y(X'), but for the error of the
    rule (completeness).

    Args:
        gradient: The model.
        images: (N, H, W, C), floating point.
        sampling: Number of steps, baseline X'.
        portion: How many pictures the model takes at once.

    Returns:
        Shaped like ``images``, signed.

    Raises:
        ValueError: If the baseline is no picture of that shape.

    Example:
        >>> import numpy as np
        >>> integrated_gradients(lambda x, _: 2 * x, np.full((1, 1, 1, 2), 3.0), Sampling()).ravel()  # of sum(x**2)
        array([9., 9.])

    Source: Sundararajan et al., Axiomatic Attribution for Deep Networks, ICML 2017, https://arxiv.org/abs/1703.01365.
    """
    way = images - baseline_of(sampling, images)
    total = np.zeros(images.shape)
    for samples, draws in _portions(len(images), sampling.steps, portion):
        left = 1 - (draws + 0.5) / sampling.steps
        points = images[samples] - way[samples] * left.reshape(-1, *[1] * (images.ndim - 1)).astype(images.dtype)
        np.add.at(total, samples, gradient(points, samples))
    return (way * (total / sampling.steps)).astype(images.dtype)


def baseline_of(sampling: Sampling, images: np.ndarray) -> np.ndarray:
    """The baseline for each of the pictures.

    Raises:
        ValueError: If it is no picture of that shape.
    """
    baseline = np.asarray(sampling.baseline, images.dtype)
    if baseline.shape not in ((), images.shape[1:]):
        raise ArgumentError(
            "baseline", f"be a number or a picture of shape {images.shape[1:]}", f"shape {baseline.shape}"
        )
    return np.broadcast_to(baseline, images.shape)


def _portions(count: int, draws: int, size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Every draw of every sample, ``size`` at a time: sample numbers and numbers of the draw."""
    for start in range(0, count * draws, size):
        position = np.arange(start, min(start + size, count * draws))
        yield position // draws, position % draws
