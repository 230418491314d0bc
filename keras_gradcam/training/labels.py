"""What the labels of a probe are to its target: classes to explain, or nothing."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..attribution.targets.base import Target
from ..attribution.targets.classes import Class, class_numbers
from ..attribution.targets.outputs import Output
from ..attribution.targets.probabilities import is_value
from ..engine.base import Outputs, Structure, Tensor
from .probe import ProbeSamples, numbers_of


class LabelClass(Class):
    """The class that each probe's label names; of an output that is a value, the value.

    Labels 0 and 1 say that a single unit stands for classes.
    """

    def cache_key(self) -> Hashable:
        return (super().cache_key(), self._is_binary())

    def check(self, outputs: Outputs) -> None:
        if self._is_value(outputs):
            Class().check(outputs)
        else:
            super().check(outputs)

    def classes(self, outputs: Outputs, arguments: Sequence[Tensor]) -> Tensor:
        from keras import ops

        if self._is_value(outputs):
            arguments = [ops.full_like(arguments[0], -1)]
        return super().classes(outputs, arguments)

    def quantity_of(self, outputs: Outputs) -> tuple[str, float]:
        return Class().quantity_of(outputs) if self._is_value(outputs) else self.quantity

    def _is_binary(self) -> bool:
        return self.index is not None and bool(self.index.max() <= 1)

    def _is_value(self, outputs: Outputs) -> bool:
        return is_value(outputs) and not self._is_binary()


def apply_labels(
    requested: Target, is_open: bool, samples: ProbeSamples, names: Sequence[str] = ()
) -> tuple[Target, ProbeSamples]:
    """Finds the labels that belong to the explained output, and explains them where the user left that open.

    Args:
        requested: What the user wants to be explained.
        is_open: Whether labels may say what that is.
        samples: The probes.
        names: The names of the model's outputs, as far as they are known.

    Returns:
        The target, and the probes with the labels of its output.

    Raises:
        ArgumentError: If names of classes were given for labels that say what to explain.
    """
    given = _labels_of(samples.given_labels, requested, names)
    samples = replace(samples, labels=numbers_of(given))
    if not is_open:
        return requested, samples
    if isinstance(given, np.ndarray) and given.dtype.kind in "SUO" and given.ndim < 3:
        class_numbers("probe[1]", given)  # says what labels must be
    if samples.labels is not None:
        requested = requested.on_same_output(LabelClass(samples.labels))
    return requested, samples


def warn_about_labels(target: Target, samples: ProbeSamples, outputs: Outputs) -> None:
    """Warns where labels were given from which the classes to explain cannot be taken."""
    if samples.given_labels is None or samples.labels is not None or target.quantity_of(outputs)[0] == "value":
        return
    warnings.warn(
        "The labels of `probe` are no class numbers and no one-hot rows, so that the class predicted at each epoch is "
        "explained. Say what to explain by `target=`, or leave the labels out: probe=images, or "
        "probe=data.map(lambda x, y: x).",
        UserWarning,
        stacklevel=4,
    )


def _labels_of(labels: Structure, target: Target, names: Sequence[str]) -> Structure:
    """Returns the labels of the output that a target names, where there are labels for several outputs."""
    if not isinstance(labels, (dict, list)):
        return labels
    parts = list(labels.values()) if isinstance(labels, dict) else labels
    if not isinstance(target, Output):
        return parts[0] if len(parts) == 1 else labels
    by_output: dict[Any, Any] = dict(enumerate(parts))
    by_output.update(labels if isinstance(labels, dict) else zip(names, labels, strict=False))
    return by_output.get(target.which)
