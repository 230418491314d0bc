"""Words for pictures: from an explanation to frames with captions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from ..attribution.explanation import Explanation, build_frame
from ..attribution.targets.base import Target
from ..drawing.class_names import class_name
from ..drawing.panels import Frame
from .history import EpochRecord

# A filmstrip shows at most so many epochs.
_FILM_LENGTH = 12


# Class names longer than this are shortened in captions.
_NAME_LENGTH = 28


@dataclass(frozen=True, eq=False)
class Captions:
    """What is known of the probes for the whole run.

    Attributes:
        pictures: uint8 (N, H, W, 3), for display.
        labels: int (N,), or None.
        names: Class number to name.
        target: What is explained, in words, where that is no class.
        per_frame: Whether each map has a scale of its own.
        label: What a label is: "class" or "identity".
        partners: uint8 (N, H, W, 3), the partners where the probes are pairs.
        quantity: What the score is, in words, and what to multiply it with.
    """

    pictures: np.ndarray
    labels: np.ndarray | None
    names: Mapping[int, str]
    target: str
    per_frame: bool = False
    label: str = "class"
    partners: np.ndarray | None = None
    quantity: tuple[str, float] = Target.quantity

    def frames(
        self, explanation: Explanation, record: EpochRecord, vmax: np.ndarray, partner_vmax: np.ndarray
    ) -> tuple[Frame, ...]:
        """One frame per probe with all its maps, to be drawn as a panel."""
        frames = (self._frame(number, explanation, record, float(top)) for number, top in enumerate(vmax))
        return tuple(
            replace(frame, partner=self.partner(record, number, float(top)))
            for number, (frame, top) in enumerate(zip(frames, partner_vmax, strict=True))
        )

    def partner(self, record: EpochRecord, number: int, vmax: float) -> Frame | None:
        """The other picture of a pair with its map."""
        if self.partners is None:
            return None
        maps = record.partner_maps
        return Frame(self.partners[number], gradcam=None if maps is None else maps[number].astype(np.float32), vmax=vmax)

    def _frame(self, number: int, explanation: Explanation, record: EpochRecord, vmax: float) -> Frame:
        said, wrong = self.said(record, number)
        caption = []
        if self.labels is not None:
            name = self.name(self.labels[number])
            caption.append(f"truth: {name}" if self.label == "class" else name)
        if said:
            caption.append(f"predicted: {said}")
        explained = record.column("explained")[number]
        caption.append(f"explained: {self.target if np.isnan(explained) else self.name(explained)}")
        caption += [title(record), self._score(explanation.scores[number])]
        if explanation.cam is not None:
            caption.append(f"top {vmax:.3g}{' (this frame)' if self.per_frame else ''}")
        if wrong:
            caption.append("wrong")
        return build_frame(
            {method: maps[number] for method, maps in explanation.maps.items()},
            self.pictures[number],
            caption=caption,
            short=self.short(record, number),
            vmax=vmax,
            wrong=wrong,
        )

    def short(self, record: EpochRecord, number: int) -> tuple[str, ...]:
        """The caption of a small cell: what was predicted, and the truth where that was wrong."""
        said, wrong = self.said(record, number)
        if said and wrong and self.labels is not None:
            return (f"{said} (truth: {self.name(self.labels[number])})",)
        if said:
            return (said,)
        score = self._score(record.column("score")[number])
        return (score,) if self.label == "class" or self.labels is None else (self.name(self.labels[number]), score)

    def film(self, record: EpochRecord, number: int) -> tuple[str, ...]:
        """The lines below a frame of a filmstrip; nothing of a similarity that is not known."""
        similarity = record.column("similarity_previous")[number]
        known = () if np.isnan(similarity) else (f"map similarity {similarity:.2f}",)
        return (title(record), *self.short(record, number), *known)

    def said(self, record: EpochRecord, number: int) -> tuple[str, bool]:
        """The predicted class with its probability, and whether it is wrong; empty for a model without classes."""
        predicted, confidence = record.column("predicted")[number], record.column("confidence")[number]
        if np.isnan(predicted):
            return "", False
        wrong = self.labels is not None and int(predicted) != int(self.labels[number])
        return f"{self.name(predicted)} {confidence:.2f}", wrong

    def _score(self, score: float) -> str:
        name, factor = self.quantity
        return f"{name} {factor * score + 0.0:.3g}"  # zero, not minus zero

    def full_name(self, number: float) -> str:
        """The name of a class or an identity."""
        return class_name(number, self.names, self.label)

    def name(self, number: float) -> str:
        """The name of a class or an identity, shortened in the middle."""
        name = self.full_name(number)
        if len(name) <= _NAME_LENGTH:
            return name
        return f"{name[: _NAME_LENGTH // 2]}…{name[-(_NAME_LENGTH // 2 - 1) :]}"


def title(record: EpochRecord) -> str:
    """Names a record: "epoch 12" or "start"."""
    return "start" if record.epoch is None else f"epoch {record.epoch}"
