"""What a model says to a batch of pictures, ready to be drawn and noted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .errors import PictureError
from .pictures import Picture
from .questions import explained_classes
from .results import Result, shortened
from .work import Work

# How many of the likeliest classes are stored.
_LIKELIEST = 5


@dataclass(frozen=True, eq=False)
class Answer:
    """One explained picture.

    Attributes:
        result: What is drawn or stored.
        said: What the manifest says of it.
    """

    result: Result
    said: dict[str, Any]


def answers(work: Work, pictures: Sequence[Picture]) -> list[Answer | PictureError]:
    """Explains a batch of pictures."""
    images = work.intake.preprocessing(np.stack([picture.pixels for picture in pictures]).astype(np.float32))
    explanations = work.question.answers(work.explainer, images)
    shares = explanations[0].probabilities
    assert shares is not None  # targets of classes fit models with classes alone
    classes = explained_classes(work.question, shares, explanations)
    likeliest = np.argsort(-shares, axis=1, kind="stable")[:, :_LIKELIEST]
    found: list[Answer | PictureError] = []
    for number, picture in enumerate(pictures):
        scores = np.array([explanation.scores[number] for explanation in explanations])
        if not (np.isfinite(scores).all() and np.isfinite(shares[number]).all()):
            found.append(PictureError("the model's answer is not a finite number"))
            continue
        share, explained, best = shares[number], classes[number].tolist(), likeliest[number]
        result = Result(
            shown=picture.shown,
            maps=[{name: array[number] for name, array in one.maps.items()} for one in explanations],
            captions=_captions(work, share, explained, scores),
            arrays={
                "scores": scores,
                "classes": np.array(explained),
                "top_classes": best,
                "top_probabilities": share[best].astype(np.float32),
            },
        )
        found.append(Answer(result, _said(work, picture, share, explained, scores)))
    return found


def _captions(work: Work, share: np.ndarray, explained: Sequence[int], scores: np.ndarray) -> list[tuple[str, ...]]:
    def named(number: int) -> str:
        probability = f"{share[number]:.2f}" if share[number] >= 0.005 else "<0.01"
        return f"{shortened(work.labels.name(number))} {probability}"

    best = int(share.argmax())
    other = "" if work.question.contrast is None else named(work.question.contrast)
    captions = []
    for place, number in enumerate(explained):
        words = work.question.words(named(number), other)
        if len(explained) > 1:
            said: tuple[str, ...] = (f"{place + 1}. {words}",)
        elif words == named(best):
            said = (f"predicted: {words}",)
        else:
            said = (f"predicted: {named(best)}", f"explained: {words}")
        captions.append((*said, f"score {scores[place]:.3g}"))
    return captions


def _said(
    work: Work, picture: Picture, share: np.ndarray, explained: Sequence[int], scores: np.ndarray
) -> dict[str, Any]:
    def named(number: int) -> dict[str, Any]:
        return {"class": number, "name": work.labels.names.get(number), "probability": float(share[number])}

    return {
        "sha256": picture.digest,
        "size": list(picture.size),
        "predicted": named(int(share.argmax())),
        "explained": [
            {**named(number), "score": float(score)} for number, score in zip(explained, scores, strict=True)
        ],
        "layer": work.layer,
    }
