"""The contract between the callback and the places its results go to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from ...drawing.filmstrips import Filmstrip
from ...drawing.panels import Frame
from ...errors import ArgumentError
from ...reid.ranking import RankList
from ...tensorboard_plugin.metadata import RunInfo
from ..history import EpochRecord, History

#: What every writer can do, in the order in which it is asked to.
METHODS = ("prepare", "write", "summarize", "close")


@dataclass(frozen=True, eq=False)
class Run:
    """What stays the same over a training.

    Attributes:
        info: The description: layer, target, methods, class names, and label and region of each probe.
        pictures: uint8 (N, H, W, 3), the probes for display.
        partner_pictures: uint8 (N, H', W', 3), the other pictures where the probes are pairs, or None.
    """

    info: RunInfo
    pictures: np.ndarray
    partner_pictures: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class LogEntry:
    """The probes at one epoch, or before the first one.

    Attributes:
        record: The epoch with its maps and numbers: ``record.epoch`` (None before the first), ``record.maps``,
            ``record.column("score")`` per probe, ``record.means()`` over the probes, ``record.totals``.
        frames: One per probe with all its maps and captions; :func:`keras_gradcam.drawing.panels.panel` draws one,
            :func:`keras_gradcam.drawing.panels.overview` draws all.
        rankings: Ranked lists with maps, where there is a gallery and it was ranked.
        pictures: Name to uint8 (H, W, 3): other pictures, such as "filters/kernels".
    """

    record: EpochRecord
    frames: tuple[Frame, ...]
    rankings: tuple[RankList, ...] = ()
    pictures: Mapping[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Summary:
    """A training in retrospect.

    Attributes:
        history: Everything that was logged, as arrays.
        filmstrips: One per probe, over evenly spaced epochs; none without maps.
        report: Markdown: which probes moved most, when each settled, where predictions flipped.
    """

    history: History
    filmstrips: tuple[Filmstrip, ...]
    report: str

    @property
    def step(self) -> int:
        """The last logged epoch."""
        return int(self.history.epochs[-1])


class Writer(Protocol):
    r"""A place that results go to, such as an experiment tracker. Any object with these four methods is one.

    For each training :meth:`prepare` is called once, then :meth:`write` for each logged epoch, :meth:`summarize` once,
    if any epoch was logged, and :meth:`close`. :meth:`write` and :meth:`summarize` run on a thread that belongs to
    this writer alone, in order; training waits only when two entries are still to be written. What is handed over must
    not be changed: other writers get the same objects.

    A writer may have one method more: ``write_numbers(entry)`` is called in the training's own thread, before
    :meth:`write`, for what is small and must not be lost if the process is killed while pictures are drawn.

    An exception in any of the methods is warned of once in a training, and both the training and the other writers go
    on. Only an :class:`~keras_gradcam.errors.ArgumentError` in :meth:`prepare` keeps the training from beginning.

    Example: a writer of one's own, with the means over all probes in a file of comma-separated values.

        >>> import keras, numpy as np, pathlib, tempfile
        >>> from keras_gradcam import GuidedGradCAMCallback
        >>> class MeansAsCSV:
        ...     def __init__(self, path):
        ...         self.path = pathlib.Path(path)
        ...     def prepare(self, run):
        ...         self.path.write_text(f"epoch,name,mean over {len(run.info.probes)} probes\n")
        ...     def write(self, entry):
        ...         with self.path.open("a") as file:
        ...             for name, mean in entry.record.means().items():
        ...                 file.write(f"{entry.record.title},{name},{mean:.4g}\n")
        ...     def summarize(self, summary):
        ...         self.path.with_suffix(".md").write_text(summary.report)
        ...     def close(self):
        ...         pass
        >>> images, labels = np.random.rand(8, 16, 16, 3), np.arange(8) % 2
        >>> model = keras.Sequential([keras.Input((16, 16, 3)), keras.layers.Conv2D(4, 3, activation="relu"),
        ...                           keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(2)])
        >>> model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> means = MeansAsCSV(folder / "means.csv")
        >>> callback = GuidedGradCAMCallback((images, labels), folder, writers=[means])
        >>> _ = model.fit(images, labels, epochs=1, verbose=0, callbacks=[callback])
        >>> lines = means.path.read_text().splitlines()
        >>> lines[0], lines[1].split(",")[:2], lines[-1].split(",")[0]
        ('epoch,name,mean over 8 probes', ['start', 'score'], 'epoch 0')

    A tracker such as Weights & Biases takes the same values: ``wandb.log(entry.record.means())`` and
    ``wandb.Image(overview(entry.frames))`` in :meth:`write`.
    """

    def prepare(self, run: Run) -> None:
        """Begins a training; nothing is written before. May be called again after :meth:`close`.

        Raises:
            ArgumentError: If nothing can be written there, so that the training does not begin in vain.
        """

    def write(self, entry: LogEntry) -> None:
        """Writes one entry, so that it can be read even if the process ends right after."""

    def summarize(self, summary: Summary) -> None:
        """Writes what is known at the end of a training."""

    def close(self) -> None:
        """Ends writing."""


def check_writers(writers: Any) -> list[Writer]:
    """Returns the writers that a user gave as a list.

    Raises:
        ArgumentError: If they are no sequence, or one of them lacks a method.

    Example:
        >>> check_writers([object()])
        Traceback (most recent call last):
            ...
        keras_gradcam.errors.ArgumentError: `writers` must hold objects with the methods prepare, write, summarize, ...
    """
    if not isinstance(writers, (list, tuple)):
        raise ArgumentError("writers", "be a list of writers", type(writers).__name__, "[writer]")
    for writer in writers:
        missing = [name for name in METHODS if not callable(getattr(writer, name, None))]
        if isinstance(writer, type) or missing:
            received = f"the class {writer.__name__}" if isinstance(writer, type) else type(writer).__name__
            raise ArgumentError(
                "writers",
                f"hold objects with the methods {', '.join(METHODS)}",
                f"{received} without {', '.join(missing)}" if missing else received,
                "an object of a class as keras_gradcam.training.writers.base.Writer describes it, not the class itself",
            )
    return list(writers)
