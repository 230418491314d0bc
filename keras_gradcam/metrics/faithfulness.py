"""Measures of faithfulness: what the score does when the pixels of a map are removed, inserted or kept alone.

The model is only run forward, on pictures (N, H, W, C) or (N, H, W); further inputs of a model stay as they are. The
class is the one predicted for the original picture throughout, never for a changed picture. Maps that say nothing
(empty, the same everywhere, not finite) give missing numbers, NaN, and the model is not run for them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..attribution.explainer import Explainer
from ..attribution.explanation import Explanation
from ..attribution.targets.base import TargetLike
from ..engine.base import Structure
from ..errors import check_whole_number
from .scoring import Scorer
from .statistics import PerSample


@dataclass(frozen=True, eq=False, repr=False)
class Curve:
    """The score while more and more of the pictures is changed.

    Attributes:
        fractions: float64 (S + 1,), the share of pixels changed, from 0 to 1.
        scores: float64 (N, S + 1), NaN for samples whose map is missing.
    """

    fractions: np.ndarray
    scores: np.ndarray

    @property
    def auc(self) -> PerSample:
        """The area under each curve, by the trapezoidal rule."""
        heights = (self.scores[:, 1:] + self.scores[:, :-1]) / 2
        return PerSample((heights * np.diff(self.fractions)).sum(axis=1))

    def __repr__(self) -> str:
        return f"Curve({self.scores.shape[1]} points, area {self.auc!r})"


@dataclass(frozen=True, eq=False)
class MaskedConfidence:
    """The score of pictures, and of what their maps leave of them.

    Attributes:
        original: float64 (N,), the score Y of the picture.
        masked: float64 (N,), the score O of the picture times its map; NaN where the map is missing.
    """

    original: np.ndarray
    masked: np.ndarray

    @property
    def drop(self) -> PerSample:
        """max(0, Y - O) / Y; missing where Y <= 0, of which a share means nothing."""
        positive = self.original > 0
        share = np.maximum(self.original - self.masked, 0) / np.where(positive, self.original, 1)
        return PerSample(np.where(positive, share, np.nan))

    @property
    def increase(self) -> PerSample:
        """1 where O > Y, else 0."""
        return PerSample(np.where(np.isnan(self.masked), np.nan, self.masked > self.original))


def deletion(
    explainer: Explainer | Any,
    images: Structure,
    maps: Explanation | np.ndarray,
    *,
    target: TargetLike = None,
    steps: int = 50,
    baseline: str | np.ndarray = "mean",
    score: str = "auto",
) -> Curve:
    """Measures the deletion curve: the score while pixels are removed, the strongest first. A good map falls fast.

    At step s of S the ``round(s / S * H * W)`` strongest pixels are replaced by the baseline, all channels of a pixel
    at once. Pixels of equal value go in reading order (a stable sort), which decides among the many zeros of a map.
    Memory holds a few copies of the pictures and one batch of changed ones.

    Args:
        explainer: An :class:`~keras_gradcam.Explainer`, whose batch size and target are used, or a model.
        images: The pictures, N samples of what the model takes.
        maps: Their heatmaps (N, H, W), coarser ones (upsampled bilinearly), or an
            :class:`~keras_gradcam.Explanation`, whose explained classes then hold where ``target`` is None.
        target: What the score is about, by default the explainer's target. Predicted classes are those predicted for
            the original pictures.
        steps: Number of steps S, at most the number of pixels.
        baseline: What a removed pixel becomes: "mean", the picture's own mean over all pixels, channel by channel;
            "blur", the picture under a Gaussian whose deviation is a tenth of its shorter side; or an array that fits
            the pictures.
        score: "probability" of the explained class; the "target"'s own score, such as a logit; or "auto", the
            probability where the target has a class and else its score.

    Returns:
        The :class:`Curve`; its ``auc.mean`` is the metric, for probabilities from 0 to 1, lower is better.

    Raises:
        ArgumentError: If the arguments do not fit each other or the model.

    Example:
        >>> import keras, numpy as np
        >>> total = keras.Sequential([keras.Input((2, 2, 1)), keras.layers.Lambda(lambda x: keras.ops.sum(x, (1, 2)))])
        >>> images, maps = np.array([[[[4.0], [3.0]], [[2.0], [1.0]]]]), np.array([[[4.0, 3.0], [2.0, 1.0]]])
        >>> deletion(total, images, maps, target=lambda outputs: outputs[:, 0], steps=4, baseline=np.zeros(1)).scores
        array([[10.,  6.,  3.,  1.,  0.]])

    Source: Petsiuk et al., RISE, BMVC 2018, https://arxiv.org/abs/1806.07421.
    """
    scorer = Scorer(explainer, images, maps, target, score)
    return _curve(scorer, steps, scorer.pictures, scorer.baseline(baseline))


def insertion(
    explainer: Explainer | Any,
    images: Structure,
    maps: Explanation | np.ndarray,
    *,
    target: TargetLike = None,
    steps: int = 50,
    baseline: str | np.ndarray = "blur",
    score: str = "auto",
) -> Curve:
    """Measures the insertion curve: the score while pixels appear, the strongest first. A good map rises fast.

    The reverse of :func:`deletion`: it begins with the baseline and ends with the picture.

    Args:
        explainer: As for :func:`deletion`.
        images: The pictures.
        maps: Their heatmaps, or an explanation.
        target: What the score is about.
        steps: Number of steps.
        baseline: What the curve begins with, "blur" in the paper.
        score: "auto", "probability" or "target".

    Returns:
        The :class:`Curve`; higher areas are better.

    Raises:
        ArgumentError: If the arguments do not fit each other or the model.

    Example:
        >>> import keras, numpy as np
        >>> total = keras.Sequential([keras.Input((2, 2, 1)), keras.layers.Lambda(lambda x: keras.ops.sum(x, (1, 2)))])
        >>> images, maps = np.array([[[[4.0], [3.0]], [[2.0], [1.0]]]]), np.array([[[4.0, 3.0], [2.0, 1.0]]])
        >>> insertion(total, images, maps, target=lambda outputs: outputs[:, 0], steps=4, baseline=np.zeros(1)).scores
        array([[ 0.,  4.,  7.,  9., 10.]])

    Source: Petsiuk et al., RISE, BMVC 2018, https://arxiv.org/abs/1806.07421.
    """
    scorer = Scorer(explainer, images, maps, target, score)
    return _curve(scorer, steps, scorer.baseline(baseline), scorer.pictures)


def masked_confidence(
    explainer: Explainer | Any,
    images: Structure,
    maps: Explanation | np.ndarray,
    *,
    target: TargetLike = None,
    score: str = "auto",
) -> MaskedConfidence:
    """Scores each picture X (Y) and X * max(L, 0) / max(L), the picture masked by its map L (O).

    Where the map is zero the masked picture is 0 in the units that the model takes. A map without a positive value is
    missing.

    Args:
        explainer: As for :func:`deletion`.
        images: The pictures.
        maps: Their heatmaps, or an explanation.
        target: What the score is about.
        score: "auto", "probability" or "target".

    Returns:
        The :class:`MaskedConfidence`, with ``drop`` and ``increase``.

    Raises:
        ArgumentError: If the arguments do not fit each other or the model.

    Source: Chattopadhay et al., Grad-CAM++, WACV 2018, section 4.1, https://arxiv.org/abs/1710.11063.
    """
    scorer = Scorer(explainer, images, maps, target, score)
    everything = np.arange(len(scorer.pictures))
    original = scorer(everything, lambda part: scorer.pictures[part])
    maxima = np.where(scorer.present, scorer.maps.max(axis=(1, 2), initial=0), 0)
    rows = np.flatnonzero(maxima > 0)
    masked = np.full(len(original), np.nan)

    def kept(part: slice) -> np.ndarray:
        chosen = rows[part]
        # Divide by the largest value first: sums and products of very small maps stay exact.
        weights = np.maximum(scorer.maps[chosen] / maxima[chosen, None, None], 0)
        return scorer.pictures[chosen] * _beside(weights, scorer.pictures)

    masked[rows] = scorer(rows, kept)
    return MaskedConfidence(original, masked)


def average_drop(
    explainer: Explainer | Any,
    images: Structure,
    maps: Explanation | np.ndarray,
    *,
    target: TargetLike = None,
    score: str = "auto",
) -> PerSample:
    """Computes the average drop max(0, Y - O) / Y: the share of the score lost when only what the map shows is kept.

    Y and O as in :func:`masked_confidence`, which gives this and :func:`increase_in_confidence` in one run. The paper
    states the mean as a percentage; here it is a share.

    Args:
        explainer: As for :func:`deletion`.
        images: The pictures.
        maps: Their heatmaps, or an explanation.
        target: What the score is about.
        score: "auto", "probability" or "target".

    Returns:
        A share from 0 (best) to 1 per sample; missing where the map is or Y <= 0.

    Raises:
        ArgumentError: If the arguments do not fit each other or the model.

    Example:
        >>> import keras, numpy as np
        >>> total = keras.Sequential([keras.Input((1, 2, 1)), keras.layers.Lambda(lambda x: keras.ops.sum(x, (1, 2)))])
        >>> maps = np.array([[[8.0, 2.0]]])  # a quarter of the second pixel is kept
        >>> average_drop(total, np.full((1, 1, 2, 1), 0.5), maps, target=lambda outputs: outputs[:, 0]).mean
        0.375

    Source: Chattopadhay et al., Grad-CAM++, WACV 2018, https://arxiv.org/abs/1710.11063.
    """
    return masked_confidence(explainer, images, maps, target=target, score=score).drop


def increase_in_confidence(
    explainer: Explainer | Any,
    images: Structure,
    maps: Explanation | np.ndarray,
    *,
    target: TargetLike = None,
    score: str = "auto",
) -> PerSample:
    """Computes the increase in confidence: 1 if the score rises when only what the map shows is kept (O > Y), else 0.

    Args:
        explainer: As for :func:`deletion`.
        images: The pictures.
        maps: Their heatmaps, or an explanation.
        target: What the score is about.
        score: "auto", "probability" or "target".

    Returns:
        1.0 or 0.0 per sample, whose mean is the metric, as a share, higher is better; missing where the map is.

    Raises:
        ArgumentError: If the arguments do not fit each other or the model.

    Example:
        >>> import keras, numpy as np
        >>> total = keras.Sequential([keras.Input((1, 2, 1)), keras.layers.Lambda(lambda x: keras.ops.sum(x, (1, 2)))])
        >>> images, maps = np.array([[[[3.0], [-1.0]]]]), np.array([[[1.0, 0.0]]])  # what speaks against it is hidden
        >>> increase_in_confidence(total, images, maps, target=lambda outputs: outputs[:, 0]).mean
        1.0

    Source: Chattopadhay et al., Grad-CAM++, WACV 2018, https://arxiv.org/abs/1710.11063.
    """
    return masked_confidence(explainer, images, maps, target=target, score=score).increase


def _curve(scorer: Scorer, steps: int, begin: np.ndarray, end: np.ndarray) -> Curve:
    """Scores pictures while their pixels go from ``begin`` to ``end``, the map's strongest first."""
    check_whole_number("steps", steps, 1)
    samples, *size = scorer.maps.shape
    cells = size[0] * size[1]
    counts = np.rint(np.linspace(0, cells, min(int(steps), cells) + 1)).astype(int)
    order = np.argsort(-scorer.maps.reshape(samples, cells), axis=1, kind="stable")
    ranks = np.empty(order.shape, np.int32)
    np.put_along_axis(ranks, order, np.arange(cells, dtype=np.int32)[None], axis=1)
    rows = np.repeat(np.flatnonzero(scorer.present), len(counts))
    changed_cells = np.tile(counts, scorer.present.sum())

    def changed(part: slice) -> np.ndarray:
        done = (ranks[rows[part]] < changed_cells[part, None]).reshape(-1, *size)
        return np.where(_beside(done, begin), end[rows[part]], begin[rows[part]])

    scores = np.full((samples, len(counts)), np.nan)
    scores[scorer.present] = scorer(rows, changed).reshape(-1, len(counts))
    return Curve(counts / cells, scores)


def _beside(cells: np.ndarray, pictures: np.ndarray) -> np.ndarray:
    """Returns numbers per pixel, (N, H, W), so that they apply to all channels of pictures that have them."""
    return cells[..., None] if pictures.ndim == 4 else cells
