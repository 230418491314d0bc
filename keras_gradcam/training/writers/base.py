"""The contract between the callback and the places its results go to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from ...drawing.panels import Filmstrip, Frame
from ...reid.ranking import RankList
from ..history import EpochRecord, History


@dataclass(frozen=True, eq=False)
class Run:
    """What stays the same over a run.

    Attributes:
        pictures: uint8 (N, H, W, 3), the probes for display.
        input_size: Height and width of the model's input.
        layer: Path of the explained layer, or None.
        target: What is explained, in words.
        methods: The maps that are computed.
        every: Epochs from one logged epoch to the next.
        labels: int (N,), or None.
        names: Class number to name.
        label: What a label is: "class" or "identity".
        quantity: What the score is, in a word, and what to multiply it with.
        partners: uint8 (N, H, W, 3), the other pictures where the probes are pairs, or None.
        regions: One box (x0, y0, x1, y1) in input pixels per probe, the bounds of its region, or None.
    """

    pictures: np.ndarray
    input_size: tuple[int, int]
    layer: str | None
    target: str
    methods: tuple[str, ...]
    every: int = 1
    labels: np.ndarray | None = None
    names: Mapping[int, str] = field(default_factory=dict)
    label: str = "class"
    quantity: tuple[str, float] = ("score", 1.0)
    partners: np.ndarray | None = None
    regions: tuple[tuple[int, int, int, int], ...] | None = None


@dataclass(frozen=True, eq=False)
class LogEntry:
    """All that is known of the probes at one moment of the training.

    Attributes:
        record: The epoch, its maps and its numbers.
        frames: One per probe, with full maps, for pictures.
        title: Names the moment in pictures: "epoch 12", "start".
        scalars: Tag to value.
        rankings: Ranked lists with maps, where there is a gallery and it was ranked.
        pictures: Name to uint8 (H, W, 3): other pictures.
    """

    record: EpochRecord
    frames: tuple[Frame, ...]
    title: str
    scalars: Mapping[str, float] = field(default_factory=dict)
    rankings: tuple[RankList, ...] = ()
    pictures: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def start(self) -> bool:
        """Whether this is the model before its first epoch.

        It has tags of its own, so that writing it again when a training is resumed cannot disturb the epochs.
        """
        return self.record.epoch is None

    @property
    def step(self) -> int:
        """The absolute epoch as a step; 0 for the start."""
        return self.record.epoch or 0


@dataclass(frozen=True, eq=False)
class Summary:
    """A look back over the run.

    Attributes:
        step: The last logged epoch.
        history: Everything that was logged.
        filmstrips: One per probe, over evenly chosen epochs.
        report: Markdown.
    """

    step: int
    history: History
    filmstrips: tuple[Filmstrip, ...]
    report: str


class Writer(Protocol):
    """A destination. Nothing is opened before :meth:`prepare`."""

    def prepare(self, run: Run) -> None:
        """Begins a run. Raises ValueError if nothing can be written there."""

    def write(self, entry: LogEntry) -> None:
        """Writes one entry, so that it can be read even if the process ends right after."""

    def summarize(self, summary: Summary) -> None:
        """Writes a look back over the run."""

    def close(self) -> None:
        """Ends writing; :meth:`prepare` may be called again later."""
