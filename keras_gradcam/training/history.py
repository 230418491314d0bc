"""What a run has shown so far: maps, predictions and drift of every logged epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..metrics.drift import center_shift, rank_correlation
from ..metrics.regions import Region, mass_inside, pointing_game
from ..metrics.statistics import focus, mass
from ..tensorboard_plugin.metadata import COLUMNS

#: The columns that say something about attention, in the order in which they are reported.
DRIFT_COLUMNS = COLUMNS[5:]

#: Those of them that compare a map with an earlier one.
COMPARED = ("similarity_previous", "similarity_first", "center_shift")


@dataclass(frozen=True, eq=False, repr=False)
class EpochRecord:
    """The probe batch at one epoch.

    Attributes:
        epoch: The absolute epoch; None before the first one ("start").
        maps: (N, h, w), raw Grad-CAM as :func:`compact` keeps it, or None if it was not computed.
        numbers: float32 (N, columns), see :data:`COLUMNS`.
        partner_maps: (N, h, w), the maps of the partners where the probes are pairs.
        totals: Name to number, for all probes together.
    """

    epoch: int | None
    maps: np.ndarray | None
    numbers: np.ndarray
    partner_maps: np.ndarray | None = None
    totals: Mapping[str, float] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"EpochRecord({'start' if self.epoch is None else f'epoch {self.epoch}'}, {len(self.numbers)} probes)"

    def column(self, name: str) -> np.ndarray:
        """One number per probe."""
        return self.numbers[:, COLUMNS.index(name)]


@dataclass(frozen=True, eq=False, repr=False)
class History:
    """All logged epochs of a run as arrays.

    A run of 1000 epochs, 16 probes and maps of 7 x 7 takes 2.3 MB.

    Attributes:
        start: The model before its first epoch, or None (a resumed training).
        epochs: int (E,), absolute epochs.
        maps: (E, N, h, w), raw Grad-CAM, float16 (float32 where that is too coarse); a list of (N, h, w) where the
            grid changed; None if not computed.
        numbers: Name to float32 (E, N), NaN where missing: score and probability of what is explained, the classes
            predicted and explained, the confidence (probability of what is predicted), the similarity (rank
            correlation) to the previous logged epoch and to the first map of the run, the shift of the centre of mass
            since the previous one, focus, mass, and with regions the mass inside and the pointing hit.
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

    def __repr__(self) -> str:
        shape = self.maps.shape if isinstance(self.maps, np.ndarray) else "none or of several grids"
        return f"History({len(self.epochs)} epochs, maps {shape}, numbers: {', '.join(self.numbers)})"


def compact(maps: np.ndarray) -> np.ndarray:
    """Maps (N, h, w) as float16, or as float32 where that would overflow or leave too few digits.

    Example:
        >>> import numpy as np
        >>> compact(np.ones((1, 2, 2))).dtype, compact(np.full((1, 2, 2), 1e-7)).dtype
        (dtype('float16'), dtype('float32'))
    """
    tops = np.abs(np.where(np.isfinite(maps), maps, 0)).max(axis=(1, 2), initial=0)
    fits = ((tops == 0) | ((tops >= 2**-9) & (tops <= np.finfo(np.float16).max))).all()
    return maps.astype(np.float16 if fits else np.float32)


def compared(maps: np.ndarray, previous: np.ndarray | None, first: np.ndarray | None) -> dict[str, np.ndarray]:
    """What compares maps (N, h, w) with earlier ones, all of them compact, so that an unchanged map is exactly so.

    Maps of another grid (another model in a second training) cannot be compared cell by cell.

    Args:
        maps: Of an epoch.
        previous: Of the epoch logged before it, or None.
        first: Of the start of the run, or None.

    Returns:
        Name to (N,), those of :data:`COMPARED` that are known.
    """
    numbers = {}
    if previous is not None and previous.shape == maps.shape:
        numbers["similarity_previous"] = rank_correlation(previous, maps)
        numbers["center_shift"] = center_shift(previous, maps)
    if first is not None and first.shape == maps.shape:
        numbers["similarity_first"] = rank_correlation(first, maps)
    return numbers


class Recorder:
    """Collects records and computes their drift.

    "First" is the model before its first epoch, where that was seen, otherwise the first logged epoch.

    """

    def __init__(self) -> None:
        self.start: EpochRecord | None = None
        self.records: list[EpochRecord] = []
        self._regions: Sequence[Region] | None = None
        self._input_size: tuple[int, ...] = ()

    def watch(self, regions: Sequence[Region] | None, input_size: Sequence[int]) -> None:
        """Measures attention inside a region per probe from now on; the size is that of the input."""
        self._regions, self._input_size = regions, tuple(input_size)

    def add(
        self,
        epoch: int | None,
        maps: np.ndarray | None,
        said: Mapping[str, np.ndarray],
        partner_maps: np.ndarray | None = None,
        totals: Mapping[str, float] | None = None,
    ) -> EpochRecord:
        """Records one epoch.

        Args:
            epoch: The absolute epoch, or None for the model before its first one. An epoch that comes again, and
                everything after it, replaces what was there.
            maps: (N, h, w) raw Grad-CAM, or None.
            said: Columns that do not come from the maps: "score", "probability" (of what is explained), "predicted",
                "explained" and "confidence" (the probability of what is predicted).
            partner_maps: (N, h, w) raw Grad-CAM of the partners.
            totals: For all probes together.

        Returns:
            The record, with its drift.
        """
        if epoch is None:
            self.start, self.records = None, []
        else:
            self.records = [record for record in self.records if record.epoch is not None and record.epoch < epoch]
        samples = len(said["score"])
        numbers = np.full((samples, len(COLUMNS)), np.nan, np.float32)
        for name, values in said.items():
            numbers[:, COLUMNS.index(name)] = values
        kept = None
        if maps is not None:
            kept = compact(maps)
            for name, values in self._drift(maps.astype(np.float64), kept).items():
                numbers[:, COLUMNS.index(name)] = values
        kept_partners = None if partner_maps is None else compact(partner_maps)
        record = EpochRecord(epoch, kept, numbers, kept_partners, totals or {})
        if epoch is None:
            self.start = record
        else:
            self.records.append(record)
        return record

    def _drift(self, maps: np.ndarray, kept: np.ndarray) -> dict[str, np.ndarray]:
        numbers = {"focus": focus(maps), "mass": mass(maps)}
        seen = [record for record in (self.start, *self.records) if record is not None]
        if seen:
            numbers |= compared(kept, seen[-1].maps, seen[0].maps)
        if self._regions is not None:
            numbers["mass_inside"] = mass_inside(maps, self._regions, self._input_size).values
            numbers["pointing_game"] = pointing_game(maps, self._regions, self._input_size, tolerance=0).values
        return numbers

    def history(self) -> History:
        """Everything recorded so far, as arrays."""
        totals = dict.fromkeys(name for record in self.records for name in record.totals)
        numbers = np.stack([record.numbers for record in self.records]) if self.records else np.zeros((0, 0, 0))
        return History(
            self.start,
            np.array([record.epoch for record in self.records], int),
            _stacked([record.maps for record in self.records]),
            {name: numbers[..., place] for place, name in enumerate(COLUMNS)} if self.records else {},
            _stacked([record.partner_maps for record in self.records]),
            {name: np.array([record.totals.get(name, np.nan) for record in self.records]) for name in totals},
        )


def _stacked(maps: Sequence[np.ndarray | None]) -> np.ndarray | list[np.ndarray] | None:
    known = [one for one in maps if one is not None]
    if not known:
        return None
    return np.stack(known) if len({one.shape for one in known}) == 1 else known
