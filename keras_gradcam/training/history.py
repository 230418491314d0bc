"""What a training has shown so far: maps, predictions and drift of every logged epoch."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..drawing.notebook import table
from ..errors import check_path
from ..grids import Spans
from ..metrics.drift import center_shift, rank_correlation
from ..metrics.regions import Region, mass_inside, pointing_game
from ..metrics.statistics import focus, mass, mean_of_present
from ..tensorboard_plugin.columns import COLUMNS
from .event_files import LoggedRun, read_run

#: The columns that say something about attention, in the order in which they are reported.
DRIFT_COLUMNS = COLUMNS[5:]

#: The drift columns that compare a map with an earlier one.
COMPARED = ("similarity_previous", "similarity_first", "center_shift")

# Maximum epochs that a notebook shows.
_SHOWN = 20

#: The columns that are worth a mean over the probes.
AVERAGED = ("score", "probability", *DRIFT_COLUMNS)


@dataclass(frozen=True, eq=False, repr=False)
class EpochRecord:
    """The probes at one epoch.

    Attributes:
        epoch: The absolute epoch; None for the model before its first one.
        maps: (N, h, w), raw Grad-CAM as :func:`compact` keeps it, or None if it was not computed.
        numbers: float32 (N, columns), NaN where unknown; :data:`keras_gradcam.tensorboard_plugin.columns.COLUMNS`
            names the columns.
        partner_maps: (N, h, w), the maps of the partners where the probes are pairs.
        totals: Name to number, for all probes together: similarities of pairs, "mean_ap" of a gallery.
    """

    epoch: int | None
    maps: np.ndarray | None
    numbers: np.ndarray
    partner_maps: np.ndarray | None = None
    totals: Mapping[str, float] = field(default_factory=dict)

    @property
    def is_start(self) -> bool:
        """Whether this is the model before its first epoch."""
        return self.epoch is None

    @property
    def step(self) -> int:
        """The absolute epoch; 0 for the model before its first one."""
        return self.epoch or 0

    @property
    def title(self) -> str:
        """"epoch 12", or "start"."""  # fmt: skip
        return "start" if self.epoch is None else f"epoch {self.epoch}"

    def column(self, name: str) -> np.ndarray:
        """Returns one number per probe: "score", "focus", ..., NaN where it is unknown."""
        return self.numbers[:, COLUMNS.index(name)]

    def means(self) -> dict[str, float]:
        """Returns the mean of each column over the probes that have a value; without the columns in which none has."""
        means = {name: mean_of_present(self.column(name))[0] for name in AVERAGED}
        return {name: mean for name, mean in means.items() if not np.isnan(mean)}

    def __repr__(self) -> str:
        return f"EpochRecord({self.title}, {len(self.numbers)} probes)"


@dataclass(frozen=True, eq=False, repr=False)
class History:
    """All logged epochs of a training as arrays.

    A training of 1000 epochs, 16 probes and maps of 7 x 7 takes 2.3 MB.

    Attributes:
        start: The model before its first epoch, or None (a resumed training).
        epochs: int (E,), absolute epochs.
        maps: (E, N, h, w), raw Grad-CAM, float16 (float32 where that is too coarse); a list of (N, h, w) where the
            grid changed; None if not computed.
        numbers: Name to float32 (E, N), NaN where missing: score and probability of what is explained, the classes
            predicted and explained, the confidence (probability of what is predicted), the similarity (rank
            correlation) to the previous logged epoch and to the first map of the training, the shift of the centre of
            mass since the previous one, focus, mass, and with regions the mass inside and the pointing game.
        partner_maps: As ``maps``, of the partners where the probes are pairs.
        totals: Name to float64 (E,), for all probes together, NaN where not computed: with pairs the mean similarity of
            one identity and of two and their gap ("similarity_positive", "similarity_negative", "similarity_gap"), with
            a gallery "mean_ap", "rank_1", "rank_5", "rank_10".
    """

    start: EpochRecord | None
    epochs: np.ndarray
    maps: np.ndarray | list[np.ndarray] | None
    numbers: Mapping[str, np.ndarray]
    partner_maps: np.ndarray | list[np.ndarray] | None = None
    totals: Mapping[str, np.ndarray] = field(default_factory=dict)

    @classmethod
    def load(cls, log_dir: str | os.PathLike[str]) -> History:
        """Reads a training back from its event files; one that was resumed is read as a whole.

        Similarities and shifts are computed again over all of it: a training that was resumed did not know the maps
        before.

        Args:
            log_dir: The folder that was given to :class:`keras_gradcam.GuidedGradCAMCallback`, or one above or below it
                that holds this training alone.

        Raises:
            ArgumentError: If the folder holds no training with a logged epoch, or several.

        Example:
            >>> History.load("logs/run1").numbers["focus"].shape  # doctest: +SKIP
            (20, 16)
        """
        return cls.of_run(read_run(os.path.expanduser(check_path("log_dir", log_dir))))

    @classmethod
    def of_run(cls, run: LoggedRun) -> History:
        """Builds the history of a training that was read from event files, as the callback would know it."""
        start = None
        if run.start is not None:
            start = EpochRecord(None, run.start.maps, run.start.numbers, run.start.partner_maps, run.start.totals)
        # Another version may have logged other columns.
        numbers = {name: np.full((len(run.epochs), len(run.info.probes)), np.nan, np.float32) for name in COLUMNS}
        numbers |= {name: np.stack([e.numbers[:, i] for e in run.epochs]) for i, name in enumerate(run.info.columns)}
        maps = [epoch.maps for epoch in run.epochs]
        _compare_all(numbers, maps, start)
        return cls(
            start,
            np.array([epoch.step for epoch in run.epochs], int),
            _stacked(maps),
            numbers,
            _stacked([epoch.partner_maps for epoch in run.epochs]),
            _totals([epoch.totals for epoch in run.epochs]),
        )

    def _repr_markdown_(self) -> str:
        """Shows the means over the probes in notebooks, of at most 20 epochs evenly spaced."""
        indices = np.unique(np.linspace(0, len(self.epochs) - 1, min(len(self.epochs), _SHOWN)).round().astype(int))
        columns = [name for name in AVERAGED if name in self.numbers and np.isfinite(self.numbers[name]).any()]
        rows = [
            [str(self.epochs[index]), *(f"{mean_of_present(self.numbers[name][index])[0]:.3g}" for name in columns)]
            for index in indices
        ]
        return f"{self!r}\n\n{table(['epoch', *columns], rows)}\n"

    def __repr__(self) -> str:
        shape = self.maps.shape if isinstance(self.maps, np.ndarray) else "none or of several grids"
        return f"History({len(self.epochs)} epochs, maps {shape}, numbers: {', '.join(self.numbers)})"


def compact(maps: np.ndarray) -> np.ndarray:
    """Returns maps (N, h, w) as float16, or as float32 where that would overflow or leave too few digits.

    Example:
        >>> import numpy as np
        >>> compact(np.ones((1, 2, 2))).dtype, compact(np.full((1, 2, 2), 1e-7)).dtype
        (dtype('float16'), dtype('float32'))
    """
    peaks = np.abs(np.where(np.isfinite(maps), maps, 0)).max(axis=(1, 2), initial=0)
    fits = ((peaks == 0) | ((peaks >= 2**-9) & (peaks <= np.finfo(np.float16).max))).all()
    return maps.astype(np.float16 if fits else np.float32)


def compared(maps: np.ndarray, previous: np.ndarray | None, first: np.ndarray | None) -> dict[str, np.ndarray]:
    """Compares maps (N, h, w) with earlier ones, all of them compact, so that an unchanged map is exactly so.

    Maps of another grid (another model in a second training) cannot be compared cell by cell.

    Args:
        maps: Of an epoch.
        previous: Of the epoch logged before it, or None.
        first: Of the start of the training, or None.

    Returns:
        Name to (N,), those of :data:`COMPARED` that can be computed.
    """
    numbers = {}
    if previous is not None and previous.shape == maps.shape:
        numbers["similarity_previous"] = rank_correlation(previous, maps)
        numbers["center_shift"] = center_shift(previous, maps)
    if first is not None and first.shape == maps.shape:
        numbers["similarity_first"] = rank_correlation(first, maps)
    return numbers


class Recorder:
    """Collects the records of a training and computes their drift.

    "First" is the model before its first epoch, where that was seen, otherwise the first logged epoch.
    """

    def __init__(self) -> None:
        self.start: EpochRecord | None = None
        self.records: list[EpochRecord] = []
        self._regions: Sequence[Region] | None = None
        self._input_size: tuple[int, ...] = ()
        self._spans: Spans = None

    def watch(self, regions: Sequence[Region] | None, input_size: Sequence[int], spans: Spans = None) -> None:
        """Measures attention inside a region per probe from now on.

        Args:
            regions: One per probe.
            input_size: Height and width of the input.
            spans: Where the maps lie on it.
        """
        self._regions, self._input_size, self._spans = regions, tuple(input_size), spans

    def add(
        self,
        epoch: int | None,
        maps: np.ndarray | None,
        predictions: Mapping[str, np.ndarray],
        partner_maps: np.ndarray | None = None,
        totals: Mapping[str, float] | None = None,
    ) -> EpochRecord:
        """Records one epoch.

        Args:
            epoch: The absolute epoch, or None for the model before its first one. An epoch that comes again, and
                everything after it, replaces what was there.
            maps: (N, h, w) raw Grad-CAM, or None.
            predictions: Columns that do not come from the maps: "score", "probability" (of what is explained),
                "predicted", "explained" and "confidence" (the probability of what is predicted).
            partner_maps: (N, h, w) raw Grad-CAM of the partners.
            totals: For all probes together.

        Returns:
            The record, with its drift.
        """
        if epoch is None:
            self.start, self.records = None, []
        else:
            self.records = [record for record in self.records if record.epoch is not None and record.epoch < epoch]
        columns = dict(predictions)
        kept = None
        if maps is not None:
            kept = compact(maps)
            columns |= self._drift(maps.astype(np.float64), kept)
        numbers = np.full((len(predictions["score"]), len(COLUMNS)), np.nan, np.float32)
        for name, values in columns.items():
            numbers[:, COLUMNS.index(name)] = values
        kept_partners = None if partner_maps is None else compact(partner_maps)
        record = EpochRecord(epoch, kept, numbers, kept_partners, totals or {})
        if epoch is None:
            self.start = record
        else:
            self.records.append(record)
        return record

    def _drift(self, maps: np.ndarray, kept: np.ndarray) -> dict[str, np.ndarray]:
        columns = {"focus": focus(maps), "mass": mass(maps)}
        earlier = [record for record in (self.start, *self.records) if record is not None]
        if earlier:
            columns |= compared(kept, earlier[-1].maps, earlier[0].maps)
        if self._regions is not None:
            size, spans = self._input_size, self._spans
            columns["mass_inside"] = mass_inside(maps, self._regions, size, spans).values
            columns["pointing_game"] = pointing_game(maps, self._regions, size, tolerance=0, spans=spans).values
        return columns

    def history(self) -> History:
        """Returns everything recorded so far, as arrays."""
        numbers = np.stack([record.numbers for record in self.records]) if self.records else np.zeros((0, 0, 0))
        return History(
            self.start,
            np.array([record.epoch for record in self.records], int),
            _stacked([record.maps for record in self.records]),
            {name: numbers[..., index] for index, name in enumerate(COLUMNS)} if self.records else {},
            _stacked([record.partner_maps for record in self.records]),
            _totals([record.totals for record in self.records]),
        )


def _stacked(maps: Sequence[np.ndarray | None]) -> np.ndarray | list[np.ndarray] | None:
    """Stacks the maps of several epochs where their grid stays the same."""
    present = [array for array in maps if array is not None]
    if not present:
        return None
    return np.stack(present) if len({array.shape for array in present}) == 1 else present


def _totals(totals: Sequence[Mapping[str, float]]) -> dict[str, np.ndarray]:
    names = dict.fromkeys(name for epoch in totals for name in epoch)
    return {name: np.array([epoch.get(name, np.nan) for epoch in totals]) for name in names}


def _compare_all(
    numbers: Mapping[str, np.ndarray], maps: Sequence[np.ndarray | None], start: EpochRecord | None
) -> None:
    """Fills the columns that compare a map with earlier ones; without maps they stay unknown."""
    earlier = [] if start is None else [start.maps]
    for row, array in enumerate(maps):
        values = compared(array, earlier[-1], earlier[0]) if array is not None and earlier else {}
        for name in COMPARED:
            if array is not None:
                numbers[name][row] = values.get(name, np.nan)
        if array is not None:
            earlier.append(array)
