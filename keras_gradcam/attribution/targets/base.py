"""The base class of targets: a target turns a model's outputs into one score per sample."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, Union

import numpy as np

from ...engine.base import Outputs, Structure, Tensor
from ...errors import ArgumentError

#: What a function that takes a target understands: a target, a class, labels (a class per sample), or a function.
TargetLike = Union["Target", int, Sequence[int], np.ndarray, Callable[[Any], Any], None]


class Target:
    """One score per sample, made from a model's outputs. Base class of all targets.

    A target of your own implements :meth:`scores` and :meth:`cache_key`. Numbers that change from call to call, such as
    a class per sample, are no part of the key: :meth:`arguments` returns them as arrays with a row per sample,
    ``num_arguments`` says how many arrays, and :meth:`scores` is handed them as tensors. All else has a default.

    Example:
        >>> from keras_gradcam import Class
        >>> 2 * Class(3) - Class([5, 5, 6])
        2*Class(3) - Class([5, 5, 6])

        A target that weighs all classes with numbers of its own:

        >>> class Weighted(Target):
        ...     num_arguments = 1
        ...
        ...     def __init__(self, weights):
        ...         self.weights = np.asarray(weights, np.float32)
        ...
        ...     def cache_key(self):
        ...         return "Weighted"
        ...
        ...     def arguments(self, samples):
        ...         return (np.broadcast_to(self.weights, (samples, len(self.weights))),)
        ...
        ...     def scores(self, outputs, arguments):
        ...         (weights,) = arguments
        ...         return (outputs.logits * weights).sum(axis=1)
        >>> Weighted([1.0, -1.0]).arguments(2)[0].shape
        (2, 2)
    """

    #: How many arrays :meth:`arguments` returns.
    num_arguments = 0
    #: Whether the explained output is an embedding, whose units are no classes.
    is_embedding = False
    #: What the score is, in words, and the factor that makes it so: a :class:`Distance` scores minus the distance.
    quantity: tuple[str, float] = ("score", 1.0)

    def cache_key(self) -> Hashable:
        """Returns what the trace depends on: targets with equal keys share one."""
        raise NotImplementedError

    def arguments(self, samples: int) -> tuple[np.ndarray, ...]:
        """Returns the arrays that are handed to :meth:`scores` at every call, each with ``samples`` rows."""
        return ()

    def check(self, outputs: Outputs) -> None:
        """Raises ValueError if the target does not fit a model with these outputs (shapes instead of tensors)."""

    def scores(self, outputs: Outputs, arguments: Sequence[Tensor]) -> Tensor:
        """Returns the explained score per sample, shape (batch,)."""
        raise NotImplementedError

    def classes(self, outputs: Outputs, arguments: Sequence[Tensor]) -> Tensor | None:
        """Returns the class per sample that is explained, shape (batch,), or None where that makes no sense."""
        return None

    def resolve_arguments(self, outputs: Outputs, arguments: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Returns ``arguments`` with what the target leaves to the model, such as the predicted class, filled in.

        With them the target explains the same on changed pictures.
        """
        return tuple(arguments)

    def select_output(self, outputs: Outputs) -> Outputs:
        """Returns the one of several outputs that this target is about."""
        return outputs

    def on_same_output(self, other: Target) -> Target:
        """Returns another target as one of the output that this target is about."""
        return other

    def with_embedded_references(self, embed: Callable[[Structure], Outputs]) -> Target:
        """Returns this target with its reference pictures, if it has any, replaced by their embeddings.

        Args:
            embed: The model: pictures to its outputs.
        """
        return self

    def with_predicted_classes(self, predict: Callable[[Target], np.ndarray]) -> Target:
        """Returns this target with every predicted class in it replaced by a fixed one.

        Args:
            predict: Gives the class per sample, int (N,), that a target such as ``Class()`` explains.
        """
        return self

    def with_classes(self, classes: np.ndarray | None) -> Target | None:
        """Returns this target for these classes, int (N,), or None if that is not what it explains.

        Args:
            classes: None where no class was explained.
        """
        return self if classes is None else None

    def comparison(self) -> tuple[Any, float] | None:
        """Returns the target within this one that compares a picture with one reference, and its weight, or None."""
        return None

    def warning(self, scores: np.ndarray, outputs: Outputs) -> str | None:
        """Returns what to warn of when the target gave these scores for these outputs (arrays), or None."""
        return None

    def reads_activation(self, outputs: Outputs) -> bool:
        """Returns whether the score is computed from the results of a final softmax or sigmoid.

        Where these are so close to 0 or 1 that they no longer change, the gradient vanishes.
        """
        return False

    def quantity_of(self, outputs: Outputs) -> tuple[str, float]:
        """Returns :attr:`quantity` for a model with these outputs."""
        return self.quantity

    def __neg__(self) -> Target:
        return WeightedSum(((-1.0, self),))

    def __add__(self, other: Target) -> Target:
        return WeightedSum(((1.0, self), (1.0, other))) if isinstance(other, Target) else NotImplemented

    def __sub__(self, other: Target) -> Target:
        return WeightedSum(((1.0, self), (-1.0, other))) if isinstance(other, Target) else NotImplemented

    def __mul__(self, factor: float) -> Target:
        if isinstance(factor, bool) or not isinstance(factor, (int, float, np.integer, np.floating)):
            return NotImplemented
        return WeightedSum(((float(factor), self),))

    __rmul__ = __mul__


class IdentityKey:
    """Compares by identity, for functions that cannot be hashed; holds the function, so that no other gets its id."""

    def __init__(self, held: Any) -> None:
        self._held = held

    def __eq__(self, other: object) -> bool:
        return isinstance(other, IdentityKey) and self._held is other._held

    def __hash__(self) -> int:
        return id(self._held)


class WeightedSum(Target):
    """A weighted sum of targets."""

    def __init__(self, terms: Sequence[tuple[float, Target]]) -> None:
        flat: list[tuple[float, Target]] = []
        for factor, target in terms:
            inner = target.terms if isinstance(target, WeightedSum) else ((1.0, target),)
            flat.extend((factor * weight, term) for weight, term in inner)
        self.terms: tuple[tuple[float, Target], ...] = tuple(flat)
        self.num_arguments = sum(target.num_arguments for _, target in flat)

    def cache_key(self) -> Hashable:
        return ("sum", tuple((factor, target.cache_key()) for factor, target in self.terms))

    def arguments(self, samples: int) -> tuple[np.ndarray, ...]:
        return tuple(array for _, target in self.terms for array in target.arguments(samples))

    def check(self, outputs: Outputs) -> None:
        for _, target in self.terms:
            target.check(outputs)

    def scores(self, outputs: Outputs, arguments: Sequence[Tensor]) -> Tensor:
        total, rest = 0.0, list(arguments)
        for factor, target in self.terms:
            total = total + factor * target.scores(outputs, rest[: target.num_arguments])
            rest = rest[target.num_arguments :]
        return total

    def resolve_arguments(self, outputs: Outputs, arguments: Sequence[Tensor]) -> tuple[Tensor, ...]:
        parts: list[Tensor] = []
        rest = list(arguments)
        for _, target in self.terms:
            parts.extend(target.resolve_arguments(outputs, rest[: target.num_arguments]))
            rest = rest[target.num_arguments :]
        return tuple(parts)

    def with_predicted_classes(self, predict: Callable[[Target], np.ndarray]) -> Target:
        return WeightedSum([(factor, target.with_predicted_classes(predict)) for factor, target in self.terms])

    def comparison(self) -> tuple[Any, float] | None:
        ((weight, target), *others) = self.terms
        comparison = None if others else target.comparison()
        return comparison and (comparison[0], weight * comparison[1])

    @property
    def quantity(self) -> tuple[str, float]:  # type: ignore[override]
        ((weight, target), *others) = self.terms
        name, factor = target.quantity
        return Target.quantity if others or not weight or name == "score" else (name, factor / weight)

    @property
    def is_embedding(self) -> bool:  # type: ignore[override]
        return any(target.is_embedding for _, target in self.terms)

    def select_output(self, outputs: Outputs) -> Outputs:
        return self.terms[0][1].select_output(outputs)

    def on_same_output(self, other: Target) -> Target:
        return self.terms[0][1].on_same_output(other)

    def reads_activation(self, outputs: Outputs) -> bool:
        return any(target.reads_activation(outputs) for _, target in self.terms)

    def warning(self, scores: np.ndarray, outputs: Outputs) -> str | None:
        (factor, target), *others = self.terms
        return target.warning(scores / factor, outputs) if factor and not others else None

    def with_embedded_references(self, embed: Callable[[Structure], Outputs]) -> Target:
        return WeightedSum([(factor, target.with_embedded_references(embed)) for factor, target in self.terms])

    def classes(self, outputs: Outputs, arguments: Sequence[Tensor]) -> Tensor | None:
        # A difference of classes is about two of them, and what speaks against a class does not explain it.
        (factor, target), *others = self.terms
        return target.classes(outputs, arguments) if factor > 0 and not others else None

    def __repr__(self) -> str:
        text = ""
        for factor, target in self.terms:
            sign = "-" if factor < 0 else "+"
            size = "" if abs(factor) == 1 else f"{abs(factor):g}*"
            text += f" {sign} {size}{target!r}" if text else f"{'-' if factor < 0 else ''}{size}{target!r}"
        return text


def fewer_rows(rows: int, samples: int) -> list[str]:
    """Returns the ways out where a target has more rows than there are pictures, as candidates of an error.

    A callback keeps the first pictures of its probe only, so that labels of all no longer fit.
    """
    return ["those of the pictures alone", f"in a callback, Probe(..., limit={rows})"] if rows > samples else []


def check_one_output(outputs: Outputs, target: Target) -> None:
    """Raises ArgumentError if there are several outputs, which ``target`` cannot choose from."""
    structure = outputs.predictions
    if isinstance(structure, (dict, list, tuple)):
        if isinstance(structure, dict):
            choices: list[Any] = [name for name, output in structure.items() if output is not None]
        else:
            choices = list(outputs.names) or [at for at, output in enumerate(structure) if output is not None]
        raise ArgumentError(
            "output",
            "name one output of a model that has several",
            repr(target),
            [f"Output({name!r}, {target!r})" for name in choices],
            values=choices,
        )


class WrappedTarget(Target):
    """A target made of another one."""

    def __init__(self, inner: Target) -> None:
        self.inner = inner
        self.num_arguments = inner.num_arguments

    def cache_key(self) -> Hashable:
        return (type(self).__name__, self.inner.cache_key())

    def arguments(self, samples: int) -> tuple[np.ndarray, ...]:
        return self.inner.arguments(samples)

    def check(self, outputs: Outputs) -> None:
        self.inner.check(outputs)

    def scores(self, outputs: Outputs, arguments: Sequence[Tensor]) -> Tensor:
        return self.inner.scores(outputs, arguments)


class WithArguments(WrappedTarget):
    """A target with given arguments, such as those of some of the pictures."""

    def __init__(self, inner: Target, arguments: Sequence[np.ndarray]) -> None:
        super().__init__(inner)
        self._arguments = tuple(arguments)

    def cache_key(self) -> Hashable:
        return self.inner.cache_key()  # the trace is the same

    def arguments(self, samples: int) -> tuple[np.ndarray, ...]:
        return self._arguments
