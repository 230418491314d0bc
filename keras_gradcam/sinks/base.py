"""The contract between the callback and the places its results go to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from ..render import Frame


@dataclass(frozen=True, eq=False)
class Record:
    """All that is known of the probes at one moment of the training.

    Attributes:
        step: The epoch, counted from 0 over all of the training.
        frames: One per probe.
        title: Names the moment in pictures: "epoch 12", "start".
        scalars: Tag to value.
        start: Whether this is the model before its first epoch; it has tags of its own, so that writing it again
            when a training is resumed cannot disturb the epochs.
    """

    step: int
    frames: tuple[Frame, ...]
    title: str
    scalars: Mapping[str, float] = field(default_factory=dict)
    start: bool = False


class Sink(Protocol):
    """A destination. Nothing is opened before :meth:`prepare`."""

    def prepare(self) -> None:
        """Raises OSError or ValueError if nothing can be written there."""

    def write(self, record: Record) -> None:
        """Writes one record, so that it can be read even if the process ends right after."""

    def close(self) -> None:
        """Ends writing; :meth:`prepare` and :meth:`write` may be called again later."""
