"""Turns measurements into frames with captions, and epochs into filmstrips, on one scale of colours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..attribution.explanation import build_frame
from ..drawing.class_names import class_name, short_name
from ..drawing.filmstrips import Filmstrip
from ..drawing.panels import Frame
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
                tuple(self.filmstrip_caption(record, index) for record in shown),
                tuple(float(record.column("similarity_previous")[index]) for record in shown),
            )
            for index in range(len(self.run.pictures))
        )

    def filmstrip_caption(self, record: EpochRecord, index: int) -> tuple[str, ...]:
        """Returns the lines below a frame of a filmstrip, without a similarity that is unknown."""
        similarity = record.column("similarity_previous")[index]
        last_line = () if np.isnan(similarity) else (f"map similarity {similarity:.2f}",)
        return (record.title, *self._short(record, index), *last_line)

    def prediction(self, record: EpochRecord, index: int) -> tuple[str, bool]:
        """Returns the predicted class with its probability, "" for a model without classes, and whether it is wrong."""
        predicted, confidence = record.column("predicted")[index], record.column("confidence")[index]
        if np.isnan(predicted):
            return "", False
        label = self._label(index)
        return f"{self._name(predicted)} {confidence:.2f}", label is not None and int(predicted) != label

    @property
    def _per_frame(self) -> bool:
        return self.run.info.scale == "frame"

    def _raised(self, vmax: np.ndarray, maps: np.ndarray | None) -> np.ndarray:
        """Returns the largest values of these maps, or of all so far."""
        if maps is None:
            return vmax
        peaks = np.nan_to_num(maps.reshape(len(maps), -1), posinf=0).max(axis=1)
        return peaks if self._per_frame else np.maximum(vmax, peaks)

    def _frame(self, index: int, measurement: Measurement, record: EpochRecord) -> Frame:
        explanation, vmax = measurement.explanation, float(self.vmax[index])
        prediction, wrong = self.prediction(record, index)
        caption = []
        label = self._label(index)
        if label is not None:
            caption.append(f"truth: {self._name(label)}" if self.run.info.label == "class" else self._name(label))
        if prediction:
            caption.append(f"predicted: {prediction}")
        explained = record.column("explained")[index]
        caption.append(f"explained: {self.run.info.target if np.isnan(explained) else self._name(explained)}")
        caption += [record.title, self._score(explanation.scores[index])]
        if explanation.cam is not None:
            caption.append(f"top {vmax:.3g}{' (this frame)' if self._per_frame else ''}")
        if wrong:
            caption.append("wrong")
        return build_frame(
            {method: maps[index] for method, maps in explanation.maps.items()},
            self.run.pictures[index],
            caption=caption,
            short=self._short(record, index),
            vmax=vmax,
            wrong=wrong,
        )

    def _small_frame(self, record: EpochRecord, index: int) -> Frame:
        """Builds a frame of a filmstrip: the picture with its first map."""
        assert record.maps is not None
        gradcam = record.maps[index].astype(np.float32)
        vmax = float(np.nan_to_num(gradcam).max()) if self._per_frame else float(self.vmax[index])
        return Frame(
            self.run.pictures[index],
            gradcam=gradcam,
            vmax=vmax,
            wrong=self.prediction(record, index)[1],
            partner=self._partner(record, index),
        )

    def _partner(self, record: EpochRecord, index: int) -> Frame | None:
        """Builds the frame of the other picture of a pair."""
        pictures, maps = self.run.partner_pictures, record.partner_maps
        if pictures is None:
            return None
        gradcam = None if maps is None else maps[index].astype(np.float32)
        return Frame(pictures[index], gradcam=gradcam, vmax=float(self.partner_vmax[index]))

    def _short(self, record: EpochRecord, index: int) -> tuple[str, ...]:
        """Returns the caption of a small cell: what was predicted, and the truth where that was wrong."""
        prediction, wrong = self.prediction(record, index)
        label = self._label(index)
        if prediction:
            return (f"{prediction} (truth: {self._name(label)})",) if wrong and label is not None else (prediction,)
        score = self._score(record.column("score")[index])
        return (score,) if label is None or self.run.info.label == "class" else (self._name(label), score)

    def _score(self, score: float) -> str:
        name, factor = self.run.info.quantity
        return f"{name} {factor * score + 0.0:.3g}"  # zero, not minus zero

    def _label(self, index: int) -> int | None:
        return self.run.info.probes[index].label

    def _name(self, number: float) -> str:
        return short_name(class_name(number, self.run.info.class_names, self.run.info.label))
