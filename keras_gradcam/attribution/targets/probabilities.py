"""Outputs as classes: how many there are, their probabilities, and targets that score those."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from ...engine.base import Outputs, Tensor
from ...errors import ArgumentError
from ..methods.formulas import array_namespace
from .base import Target, WrappedTarget

#: The final activations whose results are probabilities, see :attr:`keras_gradcam.engine.base.Outputs`.
PROBABILITIES = ("probabilities", "sigmoid", "softmax")


def class_count(shape: Sequence[int | None]) -> int | None:
    """Returns the number of classes or units in an output of this shape, the batch first; None if it has more axes.

    Example:
        >>> class_count((None, 10)), class_count((None, 1, 1, 10)), class_count((None,)), class_count((None, 8, 10))
        (10, 10, 1, None)
    """
    extents = [extent for extent in shape[1:] if extent != 1]
    if not shape or len(extents) > 1 or None in extents:
        return None
    return extents[0] if extents else 1


def class_rows(values: Any) -> Any:
    """Returns an output, array or tensor, as rows (N, classes)."""
    if len(values.shape) == 2:
        return values
    if isinstance(values, np.ndarray):
        return values.reshape(len(values), -1)
    from keras import ops

    return ops.reshape(values, (-1, class_count(values.shape)))


def is_value(outputs: Outputs) -> bool:
    """Returns whether an output is one number of which nothing says that it stands for classes: a regression."""
    shape = getattr(outputs.predictions, "shape", None)
    return shape is not None and class_count(shape) == 1 and outputs.final_activations == ""


def class_probabilities(predictions: Any, final_activation: str) -> Any:
    """Returns the probabilities of the classes, from outputs as the model returns them.

    An output that ends in a softmax or sigmoid holds them already. Raw scores go through a softmax (one unit: through
    a sigmoid), but for rows that are a distribution already. One unit stands for two classes.

    Args:
        predictions: (N, K) outputs: an array, or a tensor of the Keras backend.
        final_activation: As in :attr:`keras_gradcam.engine.base.Outputs.final_activations`.

    Returns:
        (N, max(K, 2)), float64 for arrays and float32 for tensors; None if the outputs are not of shape (N, K) or are
        embeddings.

    Example:
        >>> import numpy as np
        >>> class_probabilities(np.array([[0.75]]), "sigmoid")
        array([[0.25, 0.75]])
    """
    if class_count(getattr(predictions, "shape", ())) is None or final_activation == "l2_normalization":
        return None
    xp, predictions = array_namespace(predictions), class_rows(predictions)
    values = predictions.astype(np.float64) if xp is np else xp.cast(predictions, "float32")
    if final_activation == "log_softmax":
        return xp.exp(values)
    if values.shape[1] == 1:
        # The sigmoid of a logit, without overflow.
        known = final_activation in PROBABILITIES
        class_one = values if known else xp.exp(-xp.logaddexp(xp.zeros_like(values), -values))
        return xp.concatenate([1 - class_one, class_one], axis=1)
    if final_activation not in ("", "logits"):
        return values
    # Row by row, so that no picture depends on the others of its batch.
    near_one = xp.abs(xp.sum(values, axis=1, keepdims=True) - 1) <= 1e-3
    distribution = xp.logical_and(near_one, xp.all(values >= 0, axis=1, keepdims=True))
    exponentials = xp.exp(values - xp.max(values, axis=1, keepdims=True))
    return xp.where(distribution, values, exponentials / xp.sum(exponentials, axis=1, keepdims=True))


class ExplainedClass(WrappedTarget):
    """The number of the class that a target explains, as its score."""

    def scores(self, outputs: Outputs, arguments: Sequence[Tensor]) -> Tensor:
        from keras import ops

        return ops.cast(self.inner.classes(outputs, arguments), "float32")


class ClassProbability(WrappedTarget):
    """The probability of the class that a target explains; without a class its score, unless that is an error."""

    def __init__(self, inner: Target, required: bool) -> None:
        super().__init__(inner)
        self.required = required

    def cache_key(self) -> Hashable:
        return (super().cache_key(), self.required)

    def check(self, outputs: Outputs) -> None:
        super().check(outputs)
        if self.required and self.inner.quantity_of(outputs)[0] == "value":
            raise self._no_class()

    def scores(self, outputs: Outputs, arguments: Sequence[Tensor]) -> Tensor:
        from keras import ops

        scores, classes = self.inner.scores(outputs, arguments), self.inner.classes(outputs, arguments)
        selected = self.inner.select_output(outputs)
        probabilities = None
        if classes is not None:
            probabilities = class_probabilities(selected.predictions, selected.final_activations)
        if classes is None or probabilities is None:
            if self.required:
                raise self._no_class()
            return scores
        chosen = ops.arange(probabilities.shape[1], dtype="int32")[None, :] == classes[:, None]
        probability = ops.sum(ops.where(chosen, probabilities, ops.zeros_like(probabilities)), axis=1)
        return ops.where(classes < 0, scores, probability)  # a value has no class

    def _no_class(self) -> ArgumentError:
        return ArgumentError(
            "score",
            "be one that the target has",
            f"'probability' for {self.inner!r}, which has no class",
            ["'auto'", "'target'"],
        )
