"""Errors that say what an argument must be, what was received and what would work."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any


class ArgumentError(ValueError):
    """An argument that does not fit.

    The fields are kept apart, so that a program which calls this package can render them in its own words: the command
    line names its options.

    Args:
        name: The argument, as the caller spells it.
        requirement: What it must do or be; completes the sentence "`name` must ...".
        received: What was given instead.
        candidates: What would work: one text or several, each complete by itself.
        values: The candidates as plain values, where they are written in Python: of "Output('species', Class())" it is
            "species". A program that is not called from Python shows these.

    Example:
        >>> print(ArgumentError("layer", "name a layer of the model", repr("conv9"), ["conv1", "conv2"]))
        `layer` must name a layer of the model. Received: 'conv9'. Candidates: conv1, conv2.
    """

    def __init__(
        self,
        name: str,
        requirement: str,
        received: str,
        candidates: str | Sequence[str] = (),
        values: Sequence[Any] = (),
    ) -> None:
        self.name = name
        self.requirement = requirement
        self.received = received
        self.candidates = (candidates,) if isinstance(candidates, str) else tuple(candidates)
        self.values = tuple(values)
        super().__init__(name, requirement, received, self.candidates, self.values)

    def __str__(self) -> str:
        parts = [f"`{self.name}` must {self.requirement}", f"Received: {self.received}"]
        if self.candidates:
            parts.append(f"Candidates: {', '.join(self.candidates)}")
        return ". ".join(parts) + "."


def check_whole_number(name: str, number: Any, least: int) -> None:
    """Raises ArgumentError unless ``number`` is a whole number of at least ``least``."""
    if isinstance(number, bool) or not isinstance(number, Integral) or number < least:
        raise ArgumentError(name, f"be a whole number >= {least}", repr(number))
