"""Targets of one output of several, functions as targets, and what stands for a target."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ...engine.base import Outputs, Structure, Tensor
from ...errors import ArgumentError, check_flag
from .base import IdentityKey, Target, TargetLike
from .classes import CLASS_NUMBERS, Class, class_numbers
from .probabilities import PROBABILITIES


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
            raise ArgumentError("which", "be a name or a position", repr(which))
        self.which = which
        #: Whether it was left open what to explain in the output.
        self.is_default = target is None
        self.target = as_target(target)
        self.num_arguments = self.target.num_arguments

    def cache_key(self) -> Hashable:
        return ("Output", self.which, self.target.cache_key())

    def arguments(self, samples: int) -> tuple[np.ndarray, ...]:
        return self.target.arguments(samples)

    def check(self, outputs: Outputs) -> None:
        self.target.check(self._select(outputs))

    def scores(self, outputs: Outputs, arguments: Sequence[Tensor]) -> Tensor:
        return self.target.scores(self._select(outputs), arguments)

    def classes(self, outputs: Outputs, arguments: Sequence[Tensor]) -> Tensor | None:
        return self.target.classes(self._select(outputs), arguments)

    def resolve_arguments(self, outputs: Outputs, arguments: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return self.target.resolve_arguments(self._select(outputs), arguments)

    def with_predicted_classes(self, predict: Callable[[Target], np.ndarray]) -> Target:
        inner = self.target.with_predicted_classes(lambda target: predict(Output(self.which, target)))
        return Output(self.which, inner)

    def with_classes(self, classes: np.ndarray | None) -> Target | None:
        inner = self.target.with_classes(classes)
        return None if inner is None else Output(self.which, inner)

    def comparison(self) -> tuple[Any, float] | None:
        return self.target.comparison()

    @property
    def quantity(self) -> tuple[str, float]:  # type: ignore[override]
        return self.target.quantity

    @property
    def is_embedding(self) -> bool:  # type: ignore[override]
        return self.target.is_embedding

    def select_output(self, outputs: Outputs) -> Outputs:
        """Returns the named output alone, down to the innermost ``Output``."""
        return self.target.select_output(self._select(outputs))

    def on_same_output(self, other: Target) -> Target:
        return Output(self.which, self.target.on_same_output(other))

    def with_embedded_references(self, embed: Callable[[Structure], Outputs]) -> Target:
        return Output(self.which, self.target.with_embedded_references(lambda pictures: self._select(embed(pictures))))

    def reads_activation(self, outputs: Outputs) -> bool:
        return self.target.reads_activation(self._select(outputs))

    def quantity_of(self, outputs: Outputs) -> tuple[str, float]:
        return self.target.quantity_of(self._select(outputs))

    def warning(self, scores: np.ndarray, outputs: Outputs) -> str | None:
        return self.target.warning(scores, self._select(outputs))

    def _select(self, outputs: Outputs) -> Outputs:
        structure = outputs.predictions
        if isinstance(structure, dict):
            choices: dict[Any, Any] = {name: name for name in structure}
            choices.update(enumerate(structure))
        elif isinstance(structure, (list, tuple)):
            choices = {index: index for index in range(len(structure))}
            choices.update({name: index for index, name in enumerate(outputs.names)})
        else:
            if self.which in (0, *outputs.names):
                return outputs
            choices = {0: None, **dict.fromkeys(outputs.names)}
        if isinstance(structure, (dict, list, tuple)):
            choices = {name: at for name, at in choices.items() if structure[at] is not None}
        if self.which not in choices:
            raise ArgumentError(
                "output",
                "name one of the model's outputs",
                f"Output({self.which!r}, ...)",
                [repr(name) for name in choices],
                values=list(choices),
            )
        at = choices[self.which]
        return replace(
            outputs,
            predictions=structure[at],
            logits=outputs.logits[at],
            final_activations=outputs.final_activations[at],
            pre_normalization=outputs.pre_normalization[at],
            names=(),
        )

    def __repr__(self) -> str:
        return f"Output({self.which!r}, {self.target!r})"


class Function(Target):
    """A function of the model's outputs, from which it makes one score per sample.

    Args:
        function: Takes the model's outputs, in the structure in which the model returns them, and returns one score
            per sample, shape (batch,).
        logits: True to hand it the scores before a final softmax or sigmoid instead, where the outputs end in one; of
            probabilities close to 0 or 1 the gradient vanishes.

    Example:
        >>> def largest(outputs):
        ...     return outputs.max(axis=1)
        >>> Function(largest), Function(largest, logits=True)
        (largest, Function(largest, logits=True))
    """

    def __init__(self, function: Callable[[Structure], Tensor], *, logits: bool = False) -> None:
        if not callable(function):
            raise ArgumentError("function", "be a function `outputs -> (batch,)`", repr(function))
        check_flag("logits", logits)
        self.function, self.logits = function, logits

    def cache_key(self) -> Hashable:
        return (IdentityKey(self.function), self.logits)

    def scores(self, outputs: Outputs, arguments: Sequence[Tensor]) -> Tensor:
        return self.function(outputs.logits if self.logits else outputs.predictions)

    def reads_activation(self, outputs: Outputs) -> bool:
        known = ("probabilities",) if self.logits else PROBABILITIES
        activations = outputs.final_activations
        return any(leaf in known for leaf in _leaves(activations))

    def __repr__(self) -> str:
        name = getattr(self.function, "__name__", repr(self.function))
        return f"Function({name}, logits=True)" if self.logits else name


def _leaves(structure: Structure) -> list[Any]:
    import keras

    return keras.tree.flatten(structure)


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
        raise ArgumentError("target", "be an object, not a class", str(target.__name__), f"{target.__name__}(...)")
    if target is None:
        return Class()
    if callable(target):
        return Function(target)
    if isinstance(target, str):
        raise ArgumentError("target", "not be a name", repr(target), CLASS_NUMBERS)
    if isinstance(target, (list, tuple)) or len(getattr(target, "shape", ())):
        return Class(class_numbers("target", target))
    try:
        return Class(target)
    except ValueError:
        raise ArgumentError(
            "target",
            "say what to explain",
            repr(target),
            "None (the predicted class), a class index, one index per sample, Class(...), Unit(...), "
            "Output(...), a function `outputs -> (batch,)`",
        ) from None
