"""Targets: what is explained. A target turns a model's outputs into one score per sample.

Targets combine: ``-Class(3)`` asks for counter-evidence, ``Class(3) - Class(5)`` for what speaks for 3 rather than
for 5. Numbers inside a target, such as class indices, may change from call to call without the model being traced
again.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from typing import Any, Union

import numpy as np

from .engine.base import Outputs, Structure, Tensor

#: What a function that takes a target understands: a target, a class, labels (a class per sample), or a function.
TargetLike = Union["Target", int, Sequence[int], np.ndarray, Callable[[Any], Any], None]

_PREDICTED = -1
# What is said to those who name classes by words.
_NUMBERS = "class numbers, as the model counts its classes; names are only for captions (`class_names`)"


class Target:
    """One score per sample, made from a model's outputs. Base class of all targets.

    A new target implements :meth:`scores` and :meth:`key`, and :meth:`values` with ``arity`` if it holds numbers that
    may change from call to call.

    Example:
        >>> 2 * Class(3) - Class([5, 5, 6])
        2*Class(3) - Class([5, 5, 6])
    """

    #: How many arrays :meth:`values` returns.
    arity = 0
    #: Whether the explained output is an embedding, whose units are no classes.
    is_embedding = False

    def key(self) -> Hashable:
        """What has to be traced anew when it changes; equal keys share one trace."""
        raise NotImplementedError

    def values(self, samples: int) -> tuple[np.ndarray, ...]:
        """Arrays that are handed to :meth:`scores` at every call, each with ``samples`` rows."""
        return ()

    def check(self, outputs: Outputs) -> None:
        """Raises ValueError if the target does not fit a model with these outputs (shapes instead of tensors)."""

    def scores(self, outputs: Outputs, values: Sequence[Tensor]) -> Tensor:
        """Returns the explained score per sample, shape (batch,)."""
        raise NotImplementedError

    def classes(self, outputs: Outputs, values: Sequence[Tensor]) -> Tensor | None:
        """Returns the class per sample that is explained, shape (batch,), or None where that makes no sense."""
        return None

    def settled(self, outputs: Outputs, values: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """``values`` with what the target leaves to the model, such as the predicted class, filled in.

        With them the target explains the same on changed pictures.
        """
        return tuple(values)

    def narrow(self, outputs: Outputs) -> Outputs:
        """The one of several outputs that this target is about."""
        return outputs

    def instead(self, other: Target) -> Target:
        """``other``, of the output that this target is about."""
        return other

    def embedded(self, embed: Callable[[Structure], Outputs]) -> Target:
        """This target with its pictures, where it holds some, replaced by what the model, ``embed``, makes of them."""
        return self

    def remark(self, scores: np.ndarray, outputs: Outputs) -> str | None:
        """What a user should be warned of when the target gave these scores for these outputs (arrays)."""
        return None

    def __neg__(self) -> Target:
        return _Sum(((-1.0, self),))

    def __add__(self, other: Target) -> Target:
        return _Sum(((1.0, self), (1.0, other))) if isinstance(other, Target) else NotImplemented

    def __sub__(self, other: Target) -> Target:
        return _Sum(((1.0, self), (-1.0, other))) if isinstance(other, Target) else NotImplemented

    def __mul__(self, factor: float) -> Target:
        if isinstance(factor, bool) or not isinstance(factor, (int, float, np.integer, np.floating)):
            return NotImplemented
        return _Sum(((float(factor), self),))

    __rmul__ = __mul__


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

    arity = 1

    def __init__(self, index: int | Sequence[int] | np.ndarray | None = None, *, logits: bool = True) -> None:
        self.index = None if index is None else _classes("index", index)
        self.logits = logits

    def key(self) -> Hashable:
        return ("Class", self.logits)

    def values(self, samples: int) -> tuple[np.ndarray, ...]:
        index = np.array(_PREDICTED) if self.index is None else self.index
        return (_per_sample(index.astype(np.int32), samples),)

    def check(self, outputs: Outputs) -> None:
        check_one_output(outputs, self)
        shape = tuple(outputs.predictions.shape)
        if len(shape) != 2:
            raise ValueError(
                "`target` must fit the model's output. "
                f"Received: {self!r} for an output of shape {shape}, where Class needs (batch, classes). "
                "Candidates: a function `outputs -> (batch,)`."
            )
        if outputs.endings == "l2_normalization":
            raise ValueError(
                "`target` must fit the model's output. "
                f"Received: {self!r} for an output that is L2-normalised: an embedding, whose units are no classes. "
                "Candidates: Similarity(...), SelfSimilarity(), Unit(...)."
            )
        classes = max(shape[1], 2)
        if self.index is not None and self.index.max() >= classes:
            raise ValueError(
                f"`target` must name classes the model has. Received: class {self.index.max()}. "
                f"Candidates: 0 to {classes - 1}."
            )

    def scores(self, outputs: Outputs, values: Sequence[Tensor]) -> Tensor:
        from keras import ops

        output = self._output(outputs)
        index = self.classes(outputs, values)
        if output.shape[1] == 1:
            one = output[:, 0]
            zero = -one if self.logits else 1 - one
            return ops.where(index == 1, one, zero)
        # Selecting by `where` rather than by a product keeps a logit of -inf in another class from giving NaN.
        chosen = ops.arange(output.shape[1], dtype="int32")[None, :] == index[:, None]
        return ops.sum(ops.where(chosen, output, ops.zeros_like(output)), axis=1)

    def classes(self, outputs: Outputs, values: Sequence[Tensor]) -> Tensor:
        from keras import ops

        output, (index,) = self._output(outputs), values
        if output.shape[1] == 1:
            threshold = 0.5 if outputs.endings == "sigmoid" and not self.logits else 0.0
            predicted = output[:, 0] >= threshold
        else:
            predicted = ops.argmax(output, axis=1)
        return ops.where(index < 0, ops.cast(predicted, "int32"), index)

    def settled(self, outputs: Outputs, values: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return (self.classes(outputs, values),)

    def _output(self, outputs: Outputs) -> Tensor:
        from keras import ops

        return ops.cast(outputs.logits if self.logits else outputs.predictions, "float32")

    def __repr__(self) -> str:
        index = "" if self.index is None else str(self.index.tolist())
        flag = "" if self.logits else "logits=False"
        return f"Class({', '.join(filter(None, (index, flag)))})"


class TopClass(Target):
    """The score of the class at some place of each sample's prediction: ``TopClass(0)`` is the predicted one.

    Args:
        place: Counted from 0, the class with the highest score.

    Raises:
        ValueError: If ``place`` is not a whole number >= 0.

    Example:
        >>> TopClass(2)
        TopClass(2)
    """

    arity = 1

    def __init__(self, place: int) -> None:
        self.place = int(_whole_numbers("place", place))

    def key(self) -> Hashable:
        return ("TopClass", self.place)

    def values(self, samples: int) -> tuple[np.ndarray, ...]:
        return Class().values(samples)

    def check(self, outputs: Outputs) -> None:
        Class(self.place).check(outputs)

    def scores(self, outputs: Outputs, values: Sequence[Tensor]) -> Tensor:
        return Class().scores(outputs, (self.classes(outputs, values),))

    def classes(self, outputs: Outputs, values: Sequence[Tensor]) -> Tensor:
        from keras import ops

        scores = ops.cast(outputs.logits, "float32")
        if scores.shape[1] == 1:
            scores = ops.concatenate([-scores, scores], axis=1)
        chosen = ops.cast(ops.top_k(scores, self.place + 1)[1][:, self.place], "int32")
        return ops.where(values[0] < 0, chosen, values[0])

    def settled(self, outputs: Outputs, values: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return (self.classes(outputs, values),)

    def __repr__(self) -> str:
        return f"TopClass({self.place})"


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

    arity = 1

    def __init__(self, index: int | Sequence[int] | np.ndarray) -> None:
        self.index = _whole_numbers("index", index)

    def key(self) -> Hashable:
        return "Unit"

    def values(self, samples: int) -> tuple[np.ndarray, ...]:
        return (_per_sample(self.index.astype(np.int32), samples),)

    def check(self, outputs: Outputs) -> None:
        check_one_output(outputs, self)
        shape = tuple(outputs.predictions.shape)
        if len(shape) != 2 or self.index.max() >= shape[1]:
            raise ValueError(
                "`target` must name a unit of the model's output. "
                f"Received: {self!r} for an output of shape {shape}. "
                + (f"Candidates: 0 to {shape[1] - 1}." if len(shape) == 2 else "Candidates: a function.")
            )

    def scores(self, outputs: Outputs, values: Sequence[Tensor]) -> Tensor:
        from keras import ops

        output = ops.cast(outputs.predictions, "float32")
        chosen = ops.arange(output.shape[1], dtype="int32")[None, :] == values[0][:, None]
        return ops.sum(ops.where(chosen, output, ops.zeros_like(output)), axis=1)

    def __repr__(self) -> str:
        return f"Unit({self.index.tolist()})"


class Output(Target):
    """A target of one output of a model that has several.

    Args:
        which: Name of the output, its key in a dict, or its position.
        target: What to explain in that output; anything a target can be, by default its predicted class.

    Example:
        >>> Output("species", Class(3))
        Output('species', Class(3))
    """

    def __init__(self, which: str | int, target: TargetLike = None) -> None:
        if isinstance(which, bool) or not isinstance(which, (str, int)):
            raise ValueError(f"`which` must be a name or a position. Received: {which!r}.")
        self.which = which
        self.target = as_target(target)
        self.arity = self.target.arity

    def key(self) -> Hashable:
        return ("Output", self.which, self.target.key())

    def values(self, samples: int) -> tuple[np.ndarray, ...]:
        return self.target.values(samples)

    def check(self, outputs: Outputs) -> None:
        self.target.check(self._narrow(outputs))

    def scores(self, outputs: Outputs, values: Sequence[Tensor]) -> Tensor:
        return self.target.scores(self._narrow(outputs), values)

    def classes(self, outputs: Outputs, values: Sequence[Tensor]) -> Tensor | None:
        return self.target.classes(self._narrow(outputs), values)

    def settled(self, outputs: Outputs, values: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return self.target.settled(self._narrow(outputs), values)

    @property
    def is_embedding(self) -> bool:  # type: ignore[override]
        return self.target.is_embedding

    def narrow(self, outputs: Outputs) -> Outputs:
        """The named output alone, down to the innermost ``Output``."""
        return self.target.narrow(self._narrow(outputs))

    def instead(self, other: Target) -> Target:
        return Output(self.which, self.target.instead(other))

    def embedded(self, embed: Callable[[Structure], Outputs]) -> Target:
        return Output(self.which, self.target.embedded(lambda pictures: self._narrow(embed(pictures))))

    def remark(self, scores: np.ndarray, outputs: Outputs) -> str | None:
        return self.target.remark(scores, self._narrow(outputs))

    def _narrow(self, outputs: Outputs) -> Outputs:
        structure = outputs.predictions
        if isinstance(structure, dict):
            choices: dict[Any, Any] = {name: name for name in structure}
            choices.update(enumerate(structure))
        elif isinstance(structure, (list, tuple)):
            choices = {position: position for position in range(len(structure))}
            choices.update({name: position for position, name in enumerate(outputs.names)})
        else:
            if self.which in (0, *outputs.names):
                return outputs
            choices = {0: None, **dict.fromkeys(outputs.names)}
        if self.which not in choices:
            raise ValueError(
                "`target` must name one of the model's outputs. "
                f"Received: Output({self.which!r}, ...). Candidates: {', '.join(map(repr, choices))}."
            )
        at = choices[self.which]
        return replace(
            outputs,
            predictions=structure[at],
            logits=outputs.logits[at],
            endings=outputs.endings[at],
            unnormalized=outputs.unnormalized[at],
            names=(),
        )

    def __repr__(self) -> str:
        return f"Output({self.which!r}, {self.target!r})"


class _Function(Target):
    """A function of the model's outputs."""

    def __init__(self, function: Callable[[Structure], Tensor]) -> None:
        self.function = function

    def key(self) -> Hashable:
        return _Identity(self.function)

    def scores(self, outputs: Outputs, values: Sequence[Tensor]) -> Tensor:
        return self.function(outputs.predictions)

    def __repr__(self) -> str:
        return getattr(self.function, "__name__", repr(self.function))


class _Identity:
    """Compares by identity, for functions that cannot be hashed; holds the function, so that no other gets its id."""

    def __init__(self, held: Any) -> None:
        self._held = held

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Identity) and self._held is other._held

    def __hash__(self) -> int:
        return id(self._held)


class _Sum(Target):
    """A weighted sum of targets."""

    def __init__(self, terms: Sequence[tuple[float, Target]]) -> None:
        flat: list[tuple[float, Target]] = []
        for factor, target in terms:
            inner = target.terms if isinstance(target, _Sum) else ((1.0, target),)
            flat.extend((factor * weight, term) for weight, term in inner)
        self.terms: tuple[tuple[float, Target], ...] = tuple(flat)
        self.arity = sum(target.arity for _, target in flat)

    def key(self) -> Hashable:
        return ("sum", tuple((factor, target.key()) for factor, target in self.terms))

    def values(self, samples: int) -> tuple[np.ndarray, ...]:
        return tuple(array for _, target in self.terms for array in target.values(samples))

    def check(self, outputs: Outputs) -> None:
        for _, target in self.terms:
            target.check(outputs)

    def scores(self, outputs: Outputs, values: Sequence[Tensor]) -> Tensor:
        total, rest = 0.0, list(values)
        for factor, target in self.terms:
            total = total + factor * target.scores(outputs, rest[: target.arity])
            rest = rest[target.arity :]
        return total

    def settled(self, outputs: Outputs, values: Sequence[Tensor]) -> tuple[Tensor, ...]:
        parts: list[Tensor] = []
        rest = list(values)
        for _, target in self.terms:
            parts.extend(target.settled(outputs, rest[: target.arity]))
            rest = rest[target.arity :]
        return tuple(parts)

    @property
    def is_embedding(self) -> bool:  # type: ignore[override]
        return any(target.is_embedding for _, target in self.terms)

    def narrow(self, outputs: Outputs) -> Outputs:
        return self.terms[0][1].narrow(outputs)

    def instead(self, other: Target) -> Target:
        return self.terms[0][1].instead(other)

    def remark(self, scores: np.ndarray, outputs: Outputs) -> str | None:
        (factor, target), *others = self.terms
        return target.remark(scores / factor, outputs) if factor and not others else None

    def embedded(self, embed: Callable[[Structure], Outputs]) -> Target:
        return _Sum([(factor, target.embedded(embed)) for factor, target in self.terms])

    def classes(self, outputs: Outputs, values: Sequence[Tensor]) -> Tensor | None:
        # A difference of classes is about two of them, and what speaks against a class does not explain it.
        (factor, target), *others = self.terms
        return target.classes(outputs, values) if factor > 0 and not others else None

    def __repr__(self) -> str:
        text = ""
        for factor, target in self.terms:
            sign = "-" if factor < 0 else "+"
            size = "" if abs(factor) == 1 else f"{abs(factor):g}*"
            text += f" {sign} {size}{target!r}" if text else f"{'-' if factor < 0 else ''}{size}{target!r}"
        return text


def as_target(target: TargetLike) -> Target:
    """Returns the target that ``target`` stands for.

    Args:
        target: A target; None for the predicted class; a class index; labels, a class per sample, see
            :func:`class_numbers`; or a function that takes the model's outputs and returns one score per sample.

    Raises:
        ValueError: If it is none of these.

    Example:
        >>> as_target(None), as_target(3), as_target([3, 1]), as_target(np.eye(4)[[3, 1]])
        (Class(), Class(3), Class([3, 1]), Class([3, 1]))
    """
    if isinstance(target, Target):
        return target
    if isinstance(target, type) and issubclass(target, Target):
        raise ValueError(
            f"`target` must be an object, not a class. Received: {target.__name__}. Candidates: {target.__name__}(...)."
        )
    if target is None:
        return Class()
    if callable(target):
        return _Function(target)
    if isinstance(target, str):
        raise ValueError(f"`target` must not be a name. Received: {target!r}. Candidates: {_NUMBERS}.")
    if isinstance(target, (list, tuple)) or len(getattr(target, "shape", ())):
        return Class(class_numbers("target", target))
    try:
        return Class(target)
    except ValueError:
        raise ValueError(
            "`target` must say what to explain. "
            f"Received: {target!r}. "
            "Candidates: None (the predicted class), a class index, one index per sample, Class(...), Unit(...), "
            "Output(...), a function `outputs -> (batch,)`."
        ) from None


def class_numbers(name: str, labels: Any, soft: bool = False) -> np.ndarray:
    """The classes that labels stand for, as data sets give them, int64 (N,).

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
        candidates = f"{_NUMBERS}; for identities `np.unique(labels, return_inverse=True)[1]`"
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
    raise ValueError(
        f"`{name}` must be class numbers >= 0, one per sample, or one-hot rows (N, classes). "
        f"Received: {received}. Candidates: {candidates}."
    )


def _classes(name: str, value: Any) -> np.ndarray:
    """A class, or one per sample."""
    array = _array(name, value)
    if array.ndim:
        return class_numbers(name, value)
    if array.dtype.kind in "SU":
        raise ValueError(f"`{name}` must be a whole number >= 0. Received: {value!r}. Candidates: {_NUMBERS}.")
    return _whole_numbers(name, value)


def _whole_numbers(name: str, value: Any) -> np.ndarray:
    array = _array(name, value)
    if array.dtype.kind not in "iu" or array.ndim > 1 or array.size == 0 or array.min() < 0:
        raise ValueError(
            f"`{name}` must be a whole number >= 0, or a flat list with one per sample. Received: {value!r}."
        )
    return array


def _array(name: str, value: Any) -> np.ndarray:
    try:
        return np.asarray(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"`{name}` must be an array of numbers. Received: {value!r} ({error}).") from error


def _per_sample(array: np.ndarray, samples: int) -> np.ndarray:
    """``array`` with one row per sample; a single number serves all."""
    if array.ndim == 0:
        return np.full(samples, array)
    if len(array) != samples:
        raise ValueError(
            f"`target` must have one class or unit for all pictures or one for each. Received: {len(array)} for "
            f"{samples} pictures.{more_than_probes(len(array), samples)}"
        )
    return array


def more_than_probes(given: int, samples: int) -> str:
    """The way out where there are more than pictures, as where a callback keeps the first of its probes only."""
    return f" Candidates: those of the pictures alone; in a callback, max_probes={given}." if given > samples else ""


def check_one_output(outputs: Outputs, target: Target) -> None:
    """Raises ValueError if there are several outputs, which ``target`` cannot choose from."""
    structure = outputs.predictions
    if isinstance(structure, (dict, list, tuple)):
        names: list[Any] = list(structure) if isinstance(structure, dict) else list(outputs.names)
        choices = [f"Output({name!r}, {target!r})" for name in names or range(len(structure))]
        raise ValueError(
            "`target` must name one output of a model that has several. "
            f"Received: {target!r}. Candidates: {', '.join(choices)}."
        )
