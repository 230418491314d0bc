"""Turns measurements into frames, and epochs into filmstrips, on one scale of colours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..attribution.explanation import build_frame
from ..attribution.methods.names import CAMS, TITLES
from ..drawing.filmstrips import Filmstrip
from ..drawing.panels import Frame
from .captions import Captions
from .history import EpochRecord
from .monitor import Measurement
from .writers.base import Run

# Maximum epochs in a filmstrip.
_LONGEST_FILMSTRIP = 12


class FrameBuilder:
    """Builds the frames of a training.

    Each probe has one scale of colours for all epochs, up to the largest value so far, or one for each epoch where the
    style asks for that (``scale="frame"``).

    Args:
        run: The probes' pictures, labels and names.
        before: The builder of a training that this one continues, with whose scale it goes on.

    Attributes:
        run: The description.
        vmax: (N,), the value that gets the strongest colour.
        partner_vmax: (N,), the same of the partners.
    """

    def __init__(self, run: Run, before: FrameBuilder | None = None) -> None:
        self.run = run
        self._captions = Captions(run.info)
        self.vmax = self.partner_vmax = np.zeros(len(run.pictures))
        if before is not None:
            self.vmax, self.partner_vmax = before.vmax, before.partner_vmax

    def restart(self) -> None:
        """Resets the largest values, before a training starts from scratch."""
        self.vmax = self.partner_vmax = np.zeros(len(self.run.pictures))

    def frames(self, measurement: Measurement, record: EpochRecord) -> tuple[Frame, ...]:
        """Builds one frame per probe with all its maps, to be drawn as a panel, and keeps the largest values."""
        partner = measurement.partner
        self.vmax = self._raised(self.vmax, measurement.explanation.cam)
        self.partner_vmax = self._raised(self.partner_vmax, None if partner is None else partner.cam)
        return tuple(
            replace(self._frame(index, measurement, record), partner=self._partner(record, index))
            for index in range(len(self.run.pictures))
        )

    def filmstrips(self, records: Sequence[EpochRecord]) -> tuple[Filmstrip, ...]:
        """Builds one filmstrip per probe over evenly spaced epochs; none where an epoch has no maps."""
        indices = np.linspace(0, len(records) - 1, min(len(records), _LONGEST_FILMSTRIP)).round().astype(int)
        shown = [records[index] for index in np.unique(indices)]
        if any(record.maps is None for record in shown):
            return ()
        return tuple(
            Filmstrip(
                tuple(self._small_frame(record, index) for record in shown),
                tuple(self._captions.filmstrip(record, index) for record in shown),
                tuple(float(record.column("similarity_previous")[index]) for record in shown),
            )
            for index in range(len(self.run.pictures))
        )

    @property
    def _per_frame(self) -> bool:
        return self.run.info.scale == "frame"

    @property
    def _title(self) -> str:
        """The title of the maps whose drift is measured."""
        return next((TITLES[name] for name in self.run.info.explained.methods if name in CAMS), "")

    def _raised(self, vmax: np.ndarray, maps: np.ndarray | None) -> np.ndarray:
        """Returns the largest values of these maps, or of all so far."""
        if maps is None:
            return vmax
        peaks = np.nan_to_num(maps.reshape(len(maps), -1), posinf=0).max(axis=1)
        return peaks if self._per_frame else np.maximum(vmax, peaks)

    def _frame(self, index: int, measurement: Measurement, record: EpochRecord) -> Frame:
        """Builds a frame with all maps of a probe."""
        explanation, vmax = measurement.explanation, float(self.vmax[index])
        return build_frame(
            {method: maps[index] for method, maps in explanation.drawn_maps().items()},
            self.run.pictures[index],
            caption=self._captions.panel(record, index, None if explanation.cam is None else vmax),
            short=self._captions.cell(record, index),
            vmax=vmax,
            spans=self.run.info.explained.spans,
            wrong=self._captions.is_wrong(record, index),
        )

    def _small_frame(self, record: EpochRecord, index: int) -> Frame:
        """Builds a frame of a filmstrip: the picture with its first map."""
        assert record.maps is not None
        gradcam = record.maps[index].astype(np.float32)
        vmax = float(np.nan_to_num(gradcam).max()) if self._per_frame else float(self.vmax[index])
        return Frame(
            self.run.pictures[index],
            cams={self._title: gradcam},
            vmax=vmax,
            spans=self.run.info.explained.spans,
            wrong=self._captions.is_wrong(record, index),
            partner=self._partner(record, index),
        )

    def _partner(self, record: EpochRecord, index: int) -> Frame | None:
        """Builds the frame of the other picture of a pair."""
        pictures, maps = self.run.partner_pictures, record.partner_maps
        if pictures is None:
            return None
        cams = {} if maps is None else {self._title: maps[index].astype(np.float32)}
        spans = self.run.info.explained.spans
        return Frame(pictures[index], cams=cams, vmax=float(self.partner_vmax[index]), spans=spans)
