"""Scores of changed pictures, which all measures of faithfulness are made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..attribution.explainer import Explainer, as_explainer
from ..attribution.explanation import Explanation
from ..attribution.targets.base import Target, TargetLike, WithArguments
from ..attribution.targets.outputs import as_target
from ..attribution.targets.probabilities import ClassProbability, ExplainedClass
from ..engine.base import Structure
from ..engine.model import declared_inputs
from ..errors import ArgumentError, as_numpy, check_choice
from ..grids import upsample
from .statistics import informative, maps_of

#: What the curves and drops are measured in; see :func:`deletion`.
SCORES = ("auto", "probability", "target")

# The deviation of the Gaussian, as a share of the shorter side. It removes shapes too, not only details: with less, a
# small picture would still show its class.
_BLUR = 0.1


def fixed_target(explainer: Explainer, images: Structure, target: TargetLike = None) -> Target:
    """Returns the target with every ``Class()`` in it replaced by the class predicted for the original pictures.

    With it, scores of changed pictures are about the same class.

    Args:
        explainer: Predicts, and has the target where ``target`` is None.
        images: The original pictures.
        target: What is explained.
    """

    def predict(predicted: Target) -> np.ndarray:
        return explainer.score(images, ExplainedClass(predicted)).astype(np.int64)

    return (explainer.target if target is None else as_target(target)).with_predicted_classes(predict)


class Scorer:
    """Scores changed versions of some pictures, one batch after another.

    Attributes:
        pictures: Floating point (N, H, W, C) or (N, H, W), the explained input.
        maps: float64 (N, H, W); zero where they are missing.
        present: bool (N,), which maps say something.
    """

    def __init__(
        self, explainer: Any, images: Structure, maps: Explanation | np.ndarray, target: TargetLike, score: str
    ) -> None:
        import keras

        check_choice("score", score, SCORES, "say what is measured")
        self._explainer, self._structure = as_explainer(explainer, methods="gradcam").prepared(images)
        self._flat = keras.tree.flatten(self._structure)
        self._explained_input = self._explainer.runner.explained_input(self._structure)
        pictures = self._flat[self._explained_input]
        if pictures.ndim not in (3, 4):
            raise ArgumentError("images", "be pictures, (N, H, W, C) or (N, H, W)", f"shape {pictures.shape}")
        declared = declared_inputs(self._explainer.model, self._structure)
        takes_integers = len(declared) == len(self._flat) and keras.backend.is_int_dtype(
            declared[self._explained_input].dtype
        )
        self._dtype = pictures.dtype if takes_integers else np.dtype(keras.config.floatx())
        self.pictures = pictures.astype(keras.config.floatx(), copy=False)
        self.maps, self.present = self._on_pictures(maps)
        if target is None and isinstance(maps, Explanation):
            target = _target_of(self._explainer, maps)
        chosen = fixed_target(self._explainer, self._structure, target).with_embedded_references(
            self._explainer.runner.embed_references
        )
        self._target = chosen if score == "target" else ClassProbability(chosen, required=score == "probability")
        self._arguments = self._target.arguments(len(pictures))

    def __call__(self, rows: np.ndarray, changed: Callable[[slice], np.ndarray]) -> np.ndarray:
        """Returns the scores, float64 (R,), of R changed pictures.

        Args:
            rows: (R,), which picture each is a version of.
            changed: Makes the changed pictures for a slice of ``rows``.
        """
        import keras

        scores = [np.zeros(0)]
        for start in range(0, len(rows), self._explainer.batch_size):
            part = slice(start, start + self._explainer.batch_size)
            flat = [array[rows[part]] for array in self._flat]
            pictures = changed(part)
            flat[self._explained_input] = (np.rint(pictures) if self._dtype.kind in "iu" else pictures).astype(
                self._dtype
            )
            target = WithArguments(self._target, [array[rows[part]] for array in self._arguments])
            scores.append(self._explainer.score(keras.tree.pack_sequence_as(self._structure, flat), target))
        return np.concatenate(scores)

    def baseline(self, baseline: str | np.ndarray) -> np.ndarray:
        """Returns what removed pixels become, shaped like the pictures."""
        if isinstance(baseline, str) and baseline == "mean":
            return np.broadcast_to(self.pictures.mean(axis=(1, 2), keepdims=True), self.pictures.shape)
        if isinstance(baseline, str) and baseline == "blur":
            from scipy.ndimage import gaussian_filter

            deviation = _BLUR * min(self.pictures.shape[1:3])
            return gaussian_filter(self.pictures, (0, deviation, deviation, 0)[: self.pictures.ndim])
        try:
            return np.broadcast_to(as_numpy(baseline).astype(self.pictures.dtype), self.pictures.shape)
        except (TypeError, ValueError):
            raise ArgumentError(
                "baseline",
                "say what a removed pixel becomes",
                repr(baseline),
                ["'mean'", "'blur'", f"an array that broadcasts to {self.pictures.shape}"],
            ) from None

    def _on_pictures(self, maps: Explanation | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the maps at the size of the pictures, zero where they say nothing, and which do say something."""
        stack, _ = maps_of(maps)
        size = self.pictures.shape[1:3]
        if len(stack) != len(self.pictures) or any(
            have > want for have, want in zip(stack.shape[1:], size, strict=True)
        ):
            raise ArgumentError(
                "maps",
                "be one for each picture, at most as large",
                f"shape {stack.shape} for pictures of shape {self.pictures.shape}",
            )
        present = informative(stack)
        stack = np.where(present[:, None, None], stack, 0)
        return (stack if stack.shape[1:] == size else upsample(stack, size)), present


def _target_of(explainer: Explainer, explanation: Explanation) -> Target:
    """Returns an explainer's target for the classes that an explanation, perhaps made for other ones, is about."""
    has_classes = explanation.quantity != "value"
    target = explainer.target.with_classes(explanation.classes) if has_classes else explainer.target
    if target is None:
        raise ArgumentError(
            "target",
            "be given for an explanation of something else than what the explainer explains",
            f"target=None, an explainer of {explainer.target!r} and an explanation "
            f"{'without classes' if explanation.classes is None else 'of classes'}",
            "the target it was made for",
        )
    return target
