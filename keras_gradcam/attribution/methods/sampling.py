"""Methods that take many gradients: SmoothGrad and integrated gradients.

The model is given as a function ``gradient(pictures, samples)``: the gradient of the explained score at some pictures,
each a changed version of the sample whose index is given beside it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Union

import numpy as np

from ...errors import ArgumentError, check_numbers, check_whole_number

# Steps of integrated gradients by default, at first and at most.
_FIRST_STEPS, _MOST_STEPS = 32, 512

# How much of a map's sum of absolute values completeness may miss before more steps are taken, and before a warning.
_COMPLETE, _INCOMPLETE = 0.01, 0.05

#: (M, H, W, C) pictures and (M,) sample indices to (M, H, W, C) gradients.
Gradient = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class SmoothGrad:
    r"""The mean gradient of noisy copies of each picture; one of the ``methods`` of an explainer.

    .. math:: \frac{1}{n} \sum_{i=1}^n \frac{\partial Y}{\partial X}(X + \epsilon_i) \qquad
        \epsilon_i \sim \mathcal N(0, \sigma^2) \qquad \sigma = \text{noise} \cdot (\max X - \min X)

    Args:
        noise: Standard deviation of the noise, as a share of the picture's range of values.
        samples: How many noisy copies.
        seed: Of the noise. It is the same for every picture and every epoch, so that no drift comes from it.

    Raises:
        ValueError: If a number is out of range.

    Example:
        >>> import numpy as np
        >>> picture = np.ones((1, 2, 2, 1))  # no range of values, no noise
        >>> SmoothGrad(samples=3).maps(lambda x, _: 2 * x, picture).ravel()
        array([2., 2., 2., 2.])

    Source: Smilkov et al., SmoothGrad, 2017, https://arxiv.org/abs/1706.03825.
    """

    name: ClassVar[str] = "smoothgrad"

    noise: float = 0.15
    samples: int = 25
    seed: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.noise, bool) or not isinstance(self.noise, (int, float, np.number)) or not self.noise >= 0:
            raise ArgumentError("noise", "be a number >= 0", repr(self.noise))
        check_whole_number("samples", self.samples, 1)
        check_whole_number("seed", self.seed, 0)

    def maps(self, gradient: Gradient, images: np.ndarray, batch_size: int = 32) -> np.ndarray:
        """Computes the maps of some pictures.

        Args:
            gradient: The model.
            images: (N, H, W, C), floating point.
            batch_size: How many pictures the model takes at once.

        Returns:
            Shaped like ``images``, signed.
        """
        axes = tuple(range(1, images.ndim))
        sigma = self.noise * (images.max(axis=axes, keepdims=True) - images.min(axis=axes, keepdims=True))
        rng = np.random.default_rng(self.seed)
        noise = rng.standard_normal((self.samples, *images.shape[1:])).astype(images.dtype)
        total = np.zeros(images.shape)
        for samples, draws in _batches(len(images), self.samples, batch_size):
            np.add.at(total, samples, gradient(images[samples] + sigma[samples] * noise[draws], samples))
        return (total / self.samples).astype(images.dtype)


@dataclass(frozen=True, eq=False)
class IntegratedGradients:
    r"""Gradients gathered on the straight line from a baseline to each picture; one of an explainer's ``methods``.

    .. math:: (X - X') \cdot \int_0^1 \frac{\partial Y}{\partial X}(X' + a (X - X')) \, da

    by the midpoint rule: along the line a network of ReLUs has gradients that are constant piece by piece, for which
    rules of a higher order are no better. The map sums to the difference of the scores, Y(X) - Y(X'), but for the error
    of the rule (completeness).

    Args:
        steps: How many points on the line. By default as many as completeness takes: 32, and for pictures whose sum
            misses the difference of the scores by more than 1 % of the map's sum of absolute values twice as many each
            time, up to 512.
        baseline: Where it begins: a number, or a picture (H, W, C).

    Raises:
        ValueError: If a number is out of range.

    Example:
        >>> import numpy as np
        >>> IntegratedGradients().maps(lambda x, _: 2 * x, np.full((1, 1, 1, 2), 3.0)).ravel()  # of sum(x**2)
        array([9., 9.])

    Source: Sundararajan et al., Axiomatic Attribution for Deep Networks, ICML 2017, https://arxiv.org/abs/1703.01365.
    """

    name: ClassVar[str] = "integrated_gradients"

    steps: int | None = None
    baseline: Any = 0.0

    def __post_init__(self) -> None:
        if self.steps is not None:
            check_whole_number("steps", self.steps, 1)

    def maps(
        self, gradient: Gradient, images: np.ndarray, batch_size: int = 32, steps: int | None = None
    ) -> np.ndarray:
        """Computes the maps of some pictures.

        Args:
            gradient: The model.
            images: (N, H, W, C), floating point.
            batch_size: How many pictures the model takes at once.
            steps: How many points on the line instead of those that were asked for.

        Returns:
            Shaped like ``images``, signed.

        Raises:
            ValueError: If the baseline is no picture of that shape.
        """
        difference = images - self.baselines(images)
        total = np.zeros(images.shape)
        steps = steps or self.steps or _FIRST_STEPS
        for samples, draws in _batches(len(images), steps, batch_size):
            left = 1 - (draws + 0.5) / steps
            shares = left.reshape(-1, *[1] * (images.ndim - 1)).astype(images.dtype)
            np.add.at(total, samples, gradient(images[samples] - difference[samples] * shares, samples))
        return (difference * (total / steps)).astype(images.dtype)

    def baselines(self, images: np.ndarray) -> np.ndarray:
        """Returns the baseline for each of the pictures.

        Raises:
            ValueError: If it is no picture of that shape.
        """
        baseline = check_numbers("baseline", self.baseline, "be a number or a picture").astype(images.dtype)
        if baseline.shape not in ((), images.shape[1:]):
            raise ArgumentError(
                "baseline", f"be a number or a picture of shape {images.shape[1:]}", f"shape {baseline.shape}"
            )
        return np.broadcast_to(baseline, images.shape)


def integrated(
    sampler: IntegratedGradients, gradient: Gradient, images: np.ndarray, gain: np.ndarray, batch_size: int = 32
) -> tuple[np.ndarray, np.ndarray]:
    """Computes integrated gradients with as many steps as completeness takes, and warns where it is missed.

    Args:
        sampler: The method.
        gradient: The model.
        images: (N, H, W, C), floating point.
        gain: float64 (N,), what the score of each picture gains from its baseline.
        batch_size: How many pictures the model takes at once.

    Returns:
        The maps, shaped like ``images``, and float32 (N,), by how much their sums miss ``gain``.
    """
    maps = sampler.maps(gradient, images, batch_size)
    error, share = _missed(maps, gain)
    steps = sampler.steps or _FIRST_STEPS
    while sampler.steps is None and steps < _MOST_STEPS and (share > _COMPLETE).any():
        steps *= 2
        (rows,) = np.nonzero(share > _COMPLETE)

        def of_rows(pictures: np.ndarray, samples: np.ndarray, rows: np.ndarray = rows) -> np.ndarray:
            return gradient(pictures, rows[samples])

        maps[rows] = sampler.maps(of_rows, images[rows], batch_size, steps)
        error, share = _missed(maps, gain)
    if (share > _INCOMPLETE).any():
        more = (
            "IntegratedGradients() takes as many steps as are needed"
            if sampler.steps
            else "See SmoothGrad, which makes no such promise"
        )
        warnings.warn(
            f"Integrated gradients with {steps} steps do not add up to what the score gains from the baseline: they "
            f"miss it by up to {share.max():.0%} of the map's sum of absolute values. {more}.",
            UserWarning,
            stacklevel=6,
        )
    return maps, error.astype(np.float32)


def _missed(maps: np.ndarray, gain: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns by how much the sums of maps miss the gain of the score, and what share of their size that is."""
    flat = maps.reshape(len(maps), -1).astype(np.float64)
    error, size = flat.sum(axis=1) - gain, np.abs(flat).sum(axis=1)
    # What rounding in float32 leaves of a score is no error of the rule.
    error_beyond_rounding = np.maximum(np.abs(error) - 1e-5 * np.abs(gain), 0)
    return error, error_beyond_rounding / np.where(size > 0, size, np.inf)


#: A method with options of its own.
Sampler = Union[SmoothGrad, IntegratedGradients]


def samplers(methods: Any) -> dict[str, Sampler]:
    """Returns the methods that take many gradients, by name; those given by name have their defaults.

    Args:
        methods: One or several methods, as :func:`keras_gradcam.attribution.methods.names.method_names` takes them.

    Example:
        >>> samplers(["gradcam", "smoothgrad", IntegratedGradients(steps=8)])  # doctest: +NORMALIZE_WHITESPACE
        {'smoothgrad': SmoothGrad(noise=0.15, samples=25, seed=0),
         'integrated_gradients': IntegratedGradients(steps=8, baseline=0.0)}
    """
    defaults: dict[str, Sampler] = {sampler.name: sampler for sampler in (SmoothGrad(), IntegratedGradients())}
    listed = [methods] if isinstance(methods, (str, SmoothGrad, IntegratedGradients)) else methods
    by_name = {method if isinstance(method, str) else method.name: method for method in listed}
    return {
        name: defaults[name] if isinstance(method, str) else method
        for name, method in by_name.items()
        if name in defaults
    }


def _batches(count: int, draws: int, size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields every draw of every sample, ``size`` at a time: sample indices and indices of the draw."""
    for start in range(0, count * draws, size):
        index = np.arange(start, min(start + size, count * draws))
        yield index // draws, index % draws
