"""The words below the pictures of a training."""

from __future__ import annotations

import numpy as np

from ..drawing.class_names import class_name, short_name
from ..tensorboard_plugin.metadata import RunInfo
from .history import EpochRecord


class Captions:
    """Describes probes at an epoch, in lines to be drawn below their pictures.

    Args:
        info: Labels, names of classes or identities, target and kind of score of the training.
    """

    def __init__(self, info: RunInfo) -> None:
        self._info = info

    def panel(self, record: EpochRecord, index: int, vmax: float | None) -> tuple[str, ...]:
        """Returns the caption of a panel: truth, prediction, what is explained, the epoch and the score.

        Args:
            record: The epoch.
            index: The probe.
            vmax: The value that gets the strongest colour, or None without a map on the layer's grid.
        """
        label, prediction = self._label(index), self.prediction(record, index)
        lines = []
        if label is not None:
            lines.append(f"truth: {self._name(label)}" if self._info.label == "class" else self._name(label))
        if prediction:
            lines.append(f"predicted: {prediction}")
        explained = record.column("explained")[index]
        lines.append(f"explained: {self._info.explained.target if np.isnan(explained) else self._name(explained)}")
        lines += [record.title, self._score(record, index)]
        if vmax is not None:
            lines.append(f"top {vmax:.3g}{' (this frame)' if self._info.scale == 'frame' else ''}")
        if self.is_wrong(record, index):
            lines.append("wrong")
        return tuple(lines)

    def cell(self, record: EpochRecord, index: int) -> tuple[str, ...]:
        """Returns the caption of a small cell: what was predicted, and the truth where that was wrong."""
        label, prediction = self._label(index), self.prediction(record, index)
        if prediction and self.is_wrong(record, index) and label is not None:
            return (f"{prediction} (truth: {self._name(label)})",)
        if prediction:
            return (prediction,)
        score = self._score(record, index)
        return (score,) if label is None or self._info.label == "class" else (self._name(label), score)

    def filmstrip(self, record: EpochRecord, index: int) -> tuple[str, ...]:
        """Returns the lines below a frame of a filmstrip, without a similarity that is unknown."""
        similarity = record.column("similarity_previous")[index]
        similarity_line = () if np.isnan(similarity) else (f"map similarity {similarity:.2f}",)
        return (record.title, *self.cell(record, index), *similarity_line)

    def prediction(self, record: EpochRecord, index: int) -> str:
        """Returns the predicted class with its probability, "" for a model without classes."""
        predicted, confidence = record.column("predicted")[index], record.column("confidence")[index]
        return "" if np.isnan(predicted) else f"{self._name(predicted)} {confidence:.2f}"

    def is_wrong(self, record: EpochRecord, index: int) -> bool:
        """Returns whether another class than the label was predicted."""
        predicted, label = record.column("predicted")[index], self._label(index)
        return label is not None and not np.isnan(predicted) and int(predicted) != label

    def _score(self, record: EpochRecord, index: int) -> str:
        name, factor = self._info.explained.quantity
        return f"{name} {factor * record.column('score')[index] + 0.0:.3g}"  # zero, not minus zero

    def _label(self, index: int) -> int | None:
        return self._info.probes[index].label

    def _name(self, number: float) -> str:
        return short_name(class_name(number, self._info.class_names, self._info.label))
