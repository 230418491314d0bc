"""Targets for classes, and the numbers that labels stand for."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np

from ...engine.base import Outputs, Tensor
from ...errors import ArgumentError
from ..methods.formulas import array_namespace
from .base import Target, WrappedTarget, check_one_output, fewer_rows

_PREDICTED = -1

#: What works where classes are named by words.
CLASS_NUMBERS = "class numbers, as the model counts its classes; names are only for captions (`class_names`)"


class Class(Target):
    """The score of a class.

    By default the score before the softmax or sigmoid that the output ends in, found in the model's graph; the model
    is not edited. An output with one unit is read as the logit z of two classes: class 1 scores z, class 0 scores -z.

    Args:
        index: The class; one class per sample, as labels come (see :func:`class_numbers`); or None for the class that
            the model predicts for each sample.
        logits: False to explain the output as the model returns it (probabilities, where it ends in a softmax).

    Raises:
        ValueError: If ``index`` is not a whole number >= 0, nor labels.

    Example:
        >>> Class(), Class(3), Class([3, 1]), Class(3, logits=False)
        (Class(), Class(3), Class([3, 1]), Class(3, logits=False))
    """

    num_arguments = 1

    def __init__(self, index: int | Sequence[int] | np.ndarray | None = None, *, logits: bool = True) -> None:
        self.index = None if index is None else _classes("index", index)
        self.logits = logits

    def cache_key(self) -> Hashable:
        return ("Class", self.logits)

    def arguments(self, samples: int) -> tuple[np.ndarray, ...]:
        index = np.array(_PREDICTED) if self.index is None else self.index
        return (_per_sample(index.astype(np.int32), samples),)

    def check(self, outputs: Outputs) -> None:
        check_one_output(outputs, self)
        shape = tuple(outputs.predictions.shape)
        if len(shape) != 2:
            raise ArgumentError(
                "target",
                "fit the model's output",
                f"{self!r} for an output of shape {shape}, where Class needs (batch, classes)",
                "a function `outputs -> (batch,)`",
            )
        if outputs.final_activations == "l2_normalization":
            raise ArgumentError(
                "target",
                "fit the model's output",
                f"{self!r} for an output that is L2-normalised: an embedding, whose units are no classes",
                ["Similarity(...)", "SelfSimilarity()", "Unit(...)"],
            )
        classes = max(shape[1], 2)
        if self.index is not None and self.index.max() >= classes:
            raise ArgumentError(
                "target", "name classes the model has", f"class {self.index.max()}", f"0 to {classes - 1}"
            )

    def scores(self, outputs: Outputs, arguments: Sequence[Tensor]) -> Tensor:
        from keras import ops

        output = self._output(outputs)
        index = self.classes(outputs, arguments)
        if output.shape[1] == 1:
            class_one = output[:, 0]
            class_zero = -class_one if self.logits else 1 - class_one
            return ops.where(index == 1, class_one, class_zero)
        # Selecting by `where` rather than by a product keeps a logit of -inf in another class from giving NaN.
        chosen = ops.arange(output.shape[1], dtype="int32")[None, :] == index[:, None]
        return ops.sum(ops.where(chosen, output, ops.zeros_like(output)), axis=1)

    def classes(self, outputs: Outputs, arguments: Sequence[Tensor]) -> Tensor:
        from keras import ops

        output, (index,) = self._output(outputs), arguments
        if output.shape[1] == 1:
            threshold = 0.5 if outputs.final_activations == "sigmoid" and not self.logits else 0.0
            predicted = output[:, 0] >= threshold
        else:
            predicted = ops.argmax(output, axis=1)
        return ops.where(index < 0, ops.cast(predicted, "int32"), index)

    def resolve_arguments(self, outputs: Outputs, arguments: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return (self.classes(outputs, arguments),)

    def with_predicted_classes(self, predict: Callable[[Target], np.ndarray]) -> Target:
        return self if self.index is not None else Class(predict(self), logits=self.logits)

    def with_classes(self, classes: np.ndarray | None) -> Target | None:
        return None if classes is None else Class(classes, logits=self.logits)

    def _output(self, outputs: Outputs) -> Tensor:
        from keras import ops

        return ops.cast(outputs.logits if self.logits else outputs.predictions, "float32")

    def __repr__(self) -> str:
        index = "" if self.index is None else str(self.index.tolist())
        flag = "" if self.logits else "logits=False"
        return f"Class({', '.join(filter(None, (index, flag)))})"


class TopClass(Target):
    """The score of the class with some rank in each sample's prediction: ``TopClass(0)`` is the predicted one.

    Args:
        rank: Counted from 0, the class with the highest score.

    Raises:
        ValueError: If ``rank`` is not a whole number >= 0.

    Example:
        >>> TopClass(2)
        TopClass(2)
    """

    num_arguments = 1

    def __init__(self, rank: int) -> None:
        self.rank = int(_whole_numbers("rank", rank))

    def cache_key(self) -> Hashable:
        return ("TopClass", self.rank)

    def arguments(self, samples: int) -> tuple[np.ndarray, ...]:
        return Class().arguments(samples)

    def check(self, outputs: Outputs) -> None:
        Class(self.rank).check(outputs)

    def scores(self, outputs: Outputs, arguments: Sequence[Tensor]) -> Tensor:
        return Class().scores(outputs, (self.classes(outputs, arguments),))

    def classes(self, outputs: Outputs, arguments: Sequence[Tensor]) -> Tensor:
        from keras import ops

        scores = ops.cast(outputs.logits, "float32")
        if scores.shape[1] == 1:
            scores = ops.concatenate([-scores, scores], axis=1)
        chosen = ops.cast(ops.top_k(scores, self.rank + 1)[1][:, self.rank], "int32")
        return ops.where(arguments[0] < 0, chosen, arguments[0])

    def resolve_arguments(self, outputs: Outputs, arguments: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return (self.classes(outputs, arguments),)

    def __repr__(self) -> str:
        return f"TopClass({self.rank})"


class Unit(Target):
    """One unit of an output without classes (an embedding, a regression), as the model returns it.

    Args:
        index: The unit, counted over the output's last axis, or one per sample.

    Raises:
        ValueError: If ``index`` is not a whole number >= 0 or a flat list of them.

    Example:
        >>> Unit(7)
        Unit(7)
    """

    num_arguments = 1

    def __init__(self, index: int | Sequence[int] | np.ndarray) -> None:
        self.index = _whole_numbers("index", index)

    def cache_key(self) -> Hashable:
        return "Unit"

    def arguments(self, samples: int) -> tuple[np.ndarray, ...]:
        return (_per_sample(self.index.astype(np.int32), samples),)

    def check(self, outputs: Outputs) -> None:
        check_one_output(outputs, self)
        shape = tuple(outputs.predictions.shape)
        if len(shape) != 2 or self.index.max() >= shape[1]:
            raise ArgumentError(
                "target",
                "name a unit of the model's output",
                f"{self!r} for an output of shape {shape}",
                f"0 to {shape[1] - 1}" if len(shape) == 2 else "a function",
            )

    def scores(self, outputs: Outputs, arguments: Sequence[Tensor]) -> Tensor:
        from keras import ops

        output = ops.cast(outputs.predictions, "float32")
        chosen = ops.arange(output.shape[1], dtype="int32")[None, :] == arguments[0][:, None]
        return ops.sum(ops.where(chosen, output, ops.zeros_like(output)), axis=1)

    def __repr__(self) -> str:
        return f"Unit({self.index.tolist()})"


def class_numbers(name: str, labels: Any, soft: bool = False) -> np.ndarray:
    """Returns the classes that labels stand for, as data sets give them, int64 (N,).

    Args:
        name: The argument that errors are about.
        labels: Whole numbers >= 0 of any dtype, (N,) or (N, 1), or one-hot rows (N, classes).
        soft: Whether rows of shares, as mixing pictures or smoothing labels makes them, stand for the largest one.

    Raises:
        ValueError: If they are none of these.

    Example:
        >>> class_numbers("target", [[3], [1]]).tolist(), class_numbers("target", [[0.0, 1.0], [1.0, 0.0]]).tolist()
        ([3, 1], [1, 0])
    """
    array = _array(name, labels)
    column = array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array
    candidates = "the number of a class for each sample"
    if array.dtype.kind in "SUO":
        candidates = f"{CLASS_NUMBERS}; for identities `np.unique(labels, return_inverse=True)[1]`"
    elif array.dtype.kind in "biuf" and array.size and np.isfinite(array).all():
        if column.ndim == 1:
            numbers = column.astype(np.int64)
            if (numbers == column).all() and (numbers >= 0).all():
                return numbers
        elif column.ndim == 2 and (column >= 0).all():
            shares = np.allclose(column.sum(axis=1, dtype=np.float64), 1)
            if shares and (soft or np.isin(column, (0, 1)).all()):
                return column.argmax(axis=1)
            if not shares:
                candidates += "; where a picture has several, no labels but a target such as `Class(0) + Class(3)`"
            else:
                candidates = "labels.argmax(axis=1), the largest share of each soft label"
    received = " ".join(repr(labels).split()) if array.size <= 8 else f"dtype {array.dtype}, shape {array.shape}"
    raise ArgumentError(
        name, "be class numbers >= 0, one per sample, or one-hot rows (N, classes)", received, candidates
    )


def _classes(name: str, value: Any) -> np.ndarray:
    """Returns a class, or one per sample, as an array."""
    array = _array(name, value)
    if array.ndim:
        return class_numbers(name, value)
    if array.dtype.kind in "SU":
        raise ArgumentError(name, "be a whole number >= 0", repr(value), CLASS_NUMBERS)
    return _whole_numbers(name, value)


def _whole_numbers(name: str, value: Any) -> np.ndarray:
    array = _array(name, value)
    if array.dtype.kind not in "iu" or array.ndim > 1 or array.size == 0 or array.min() < 0:
        raise ArgumentError(name, "be a whole number >= 0, or a flat list with one per sample", repr(value))
    return array


def _array(name: str, value: Any) -> np.ndarray:
    try:
        return np.asarray(value)
    except (TypeError, ValueError) as error:
        raise ArgumentError(name, "be an array of numbers", f"{value!r} ({error})") from error


def _per_sample(array: np.ndarray, samples: int) -> np.ndarray:
    """Returns the array with one row per sample; a single number serves all."""
    if array.ndim == 0:
        return np.full(samples, array)
    if len(array) != samples:
        raise ArgumentError(
            "target",
            "have one class or unit for all pictures or one for each",
            f"{len(array)} for {samples} pictures",
            fewer_rows(len(array), samples),
        )
    return array


def class_probabilities(predictions: Any, final_activation: str) -> Any:
    """Returns the probabilities of the classes, from outputs as the model returns them.

    An output that ends in a softmax or sigmoid holds them already. Raw scores go through a softmax (one unit: through
    a sigmoid), but for rows that are a distribution already. One unit stands for two classes.

    Args:
        predictions: (N, K) outputs: an array, or a tensor of the Keras backend.
        final_activation: "softmax", "log_softmax", "sigmoid", "l2_normalization", or "" if the output ends in none.

    Returns:
        (N, max(K, 2)), float64 for arrays and float32 for tensors; None if the outputs are not of shape (N, K) or are
        embeddings.

    Example:
        >>> import numpy as np
        >>> class_probabilities(np.array([[0.75]]), "sigmoid")
        array([[0.25, 0.75]])
    """
    if len(getattr(predictions, "shape", ())) != 2 or final_activation == "l2_normalization":
        return None
    xp = array_namespace(predictions)
    values = predictions.astype(np.float64) if xp is np else xp.cast(predictions, "float32")
    if final_activation == "log_softmax":
        return xp.exp(values)
    if values.shape[1] == 1:
        # The sigmoid of a logit, without overflow.
        class_one = values if final_activation == "sigmoid" else xp.exp(-xp.logaddexp(xp.zeros_like(values), -values))
        return xp.concatenate([1 - class_one, class_one], axis=1)
    if final_activation:
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

    def scores(self, outputs: Outputs, arguments: Sequence[Tensor]) -> Tensor:
        from keras import ops

        classes, probabilities = self.inner.classes(outputs, arguments), None
        if classes is not None:
            selected = self.inner.select_output(outputs)
            probabilities = class_probabilities(selected.predictions, selected.final_activations)
        if classes is not None and probabilities is not None:
            chosen = ops.arange(probabilities.shape[1], dtype="int32")[None, :] == classes[:, None]
            return ops.sum(ops.where(chosen, probabilities, ops.zeros_like(probabilities)), axis=1)
        if self.required:
            raise ArgumentError(
                "score",
                "be one that the target has",
                f"'probability' for {self.inner!r}, which has no class",
                ["'auto'", "'target'"],
            )
        return self.inner.scores(outputs, arguments)
