"""What is known of a run before its first picture: the explained layer, the shapes of maps, the number of classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..attribution.explainer import Explainer
from ..attribution.explanation import Explanation
from ..attribution.targets.embeddings import SelfSimilarity, embeddings
from ..attribution.targets.outputs import Output
from ..engine.base import Outputs
from ..grids import Spans

#: False, True for the only output, or the name or position of one of several.
EmbeddingLike = bool | str | int


@dataclass(frozen=True)
class Plan:
    """What all rows of a run have in common.

    Attributes:
        maps: Name of each method to the shape of its map.
        layer: Path of the explained layer, or None without a map on a layer's grid.
        spans: Where maps on the layer's grid lie on the picture; None for all of it.
        num_classes: The number of classes of the explained output, 0 where it has none.
        embedding: The length of the embeddings, 0 without them.
        target: What is explained, as the target is written.
        quantity: What the score is: "score", or "value" for the number that a regression predicts.
    """

    maps: Mapping[str, tuple[int, ...]]
    layer: str | None = None
    spans: Spans = None
    num_classes: int = 0
    embedding: int = 0
    target: str | None = None
    quantity: str = "score"

    def to_json(self) -> dict[str, Any]:
        """Describes the plan in JSON."""
        return {
            **vars(self),
            "maps": {name: list(shape) for name, shape in self.maps.items()},
            "spans": None if self.spans is None else [list(span) for span in self.spans],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Plan:
        """Reads what :meth:`to_json` wrote.

        Raises:
            KeyError, TypeError or ValueError: If it is something else.
        """
        spans = value["spans"]
        if spans is not None and (not isinstance(spans, list) or len(spans) != 2):
            raise ValueError("Spans are those of two axes.")
        return cls(
            maps={str(name): tuple(map(int, shape)) for name, shape in value["maps"].items()},
            layer=None if value["layer"] is None else str(value["layer"]),
            spans=None if spans is None else tuple((float(first), float(last)) for first, last in spans),
            num_classes=int(value["num_classes"]),
            embedding=int(value["embedding"]),
            target=None if value["target"] is None else str(value["target"]),
            quantity=str(value["quantity"]),
        )


def make_plan(explainer: Explainer, images: np.ndarray, embedding: EmbeddingLike) -> Plan:
    """Finds out what the rows will have in common by explaining some pictures.

    Raises:
        ArgumentError: If layer, target, methods or embedding do not fit the model.
    """
    explanation = explainer(images)
    return Plan(
        maps={name: maps.shape[1:] for name, maps in explanation.drawn_maps().items()},
        layer=explanation.layer,
        spans=explanation.spans,
        num_classes=0 if explanation.probabilities is None else explanation.probabilities.shape[1],
        embedding=0 if embedding is False else embeddings_of(explainer, explanation, embedding).shape[1],
        target=explanation.target,
        quantity=explanation.quantity,
    )


def embeddings_of(explainer: Explainer, explanation: Explanation, which: EmbeddingLike) -> np.ndarray:
    """Returns the embeddings among the outputs of an explanation, float32 (N, D).

    Args:
        explainer: It made the explanation.
        explanation: With the model's outputs.
        which: The output, by name or position; True for the one that is explained.

    Raises:
        ArgumentError: If the model has no such output, or several and none is named.
    """
    predictions = explanation.predictions
    names = tuple(getattr(explainer.model, "output_names", ()))
    outputs = Outputs(predictions, predictions, predictions, predictions, names)
    if which is True:
        return embeddings(outputs, explainer.target)
    return embeddings(outputs, Output(which, SelfSimilarity()))
