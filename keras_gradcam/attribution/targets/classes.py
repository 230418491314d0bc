"""Targets for classes, and the numbers that labels stand for."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np

from ...engine.base import Outputs, Tensor
from ...errors import ArgumentError, as_numpy, check_flag, check_whole_number
from .base import Target, check_one_output, fewer_rows
from .probabilities import PROBABILITIES, class_count, class_rows, is_value

_PREDICTED = -1

#: What works where classes are named by words.
CLASS_NUMBERS = "class numbers, as the model counts its classes; names are only for captions (`class_names`)"


class Class(Target):
    """The score of a class.

    By default the score before the softmax or sigmoid that the output ends in, found in the model's graph; the model
    is not edited. Axes of extent 1 beside the batch and the classes do not count.

    An output with one unit stands for two classes where it ends in a sigmoid, where the loss that the model was
    compiled with is one of classes, or where classes are named here: its score before the sigmoid is the logit z,
    class 1 scores z and class 0 scores -z. Otherwise it is a value (a regression), which is the score itself.

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
        check_flag("logits", logits)
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
        count = class_count(shape)
        if count is None:
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
        classes = max(count, 2)
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
            class_zero = 1 - class_one if self._explains_probabilities(outputs) else -class_one
            return ops.where(index == 0, class_zero, class_one)
        # Selecting by `where` rather than by a product keeps a logit of -inf in another class from giving NaN.
        chosen = ops.arange(output.shape[1], dtype="int32")[None, :] == index[:, None]
        return ops.sum(ops.where(chosen, output, ops.zeros_like(output)), axis=1)

    def classes(self, outputs: Outputs, arguments: Sequence[Tensor]) -> Tensor:
        from keras import ops

        output, (index,) = self._output(outputs), arguments
        if is_value(outputs):
            predicted = ops.full_like(index, _PREDICTED)
        elif output.shape[1] == 1:
            predicted = output[:, 0] >= (0.5 if self._explains_probabilities(outputs) else 0.0)
        else:
            predicted = ops.argmax(output, axis=1)
        return ops.where(index < 0, ops.cast(predicted, "int32"), index)

    def resolve_arguments(self, outputs: Outputs, arguments: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return (self.classes(outputs, arguments),)

    def with_predicted_classes(self, predict: Callable[[Target], np.ndarray]) -> Target:
        predicted = predict(self) if self.index is None else None
        if predicted is None or (predicted < 0).any():  # a value has no classes
            return self
        return Class(predicted, logits=self.logits)

    def with_classes(self, classes: np.ndarray | None) -> Target | None:
        return None if classes is None else Class(classes, logits=self.logits)

    def reads_activation(self, outputs: Outputs) -> bool:
        return self._explains_probabilities(outputs)

    def quantity_of(self, outputs: Outputs) -> tuple[str, float]:
        return ("value", 1.0) if self.index is None and is_value(outputs) else self.quantity

    def _explains_probabilities(self, outputs: Outputs) -> bool:
        known = outputs.final_activations
        return known == "probabilities" or (known in ("sigmoid", "softmax") and not self.logits)

    def _output(self, outputs: Outputs) -> Tensor:
        from keras import ops

        return ops.cast(class_rows(outputs.logits if self.logits else outputs.predictions), "float32")

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
        check_whole_number("rank", rank, 0)
        self.rank = int(rank)

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

        scores = ops.cast(class_rows(outputs.logits), "float32")
        if scores.shape[1] == 1:
            other = 1 - scores if outputs.final_activations == "probabilities" else -scores
            scores = ops.concatenate([other, scores], axis=1)
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
        count = class_count(shape)
        if count is None or self.index.max() >= count:
            raise ArgumentError(
                "target",
                "name a unit of the model's output",
                f"{self!r} for an output of shape {shape}",
                "a function" if count is None else f"0 to {count - 1}",
            )

    def scores(self, outputs: Outputs, arguments: Sequence[Tensor]) -> Tensor:
        from keras import ops

        output = ops.cast(class_rows(outputs.predictions), "float32")
        chosen = ops.arange(output.shape[1], dtype="int32")[None, :] == arguments[0][:, None]
        return ops.sum(ops.where(chosen, output, ops.zeros_like(output)), axis=1)

    def reads_activation(self, outputs: Outputs) -> bool:
        return outputs.final_activations in PROBABILITIES

    def quantity_of(self, outputs: Outputs) -> tuple[str, float]:
        return ("value", 1.0) if is_value(outputs) else self.quantity

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
        return as_numpy(value)
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
