"""What came out of explaining pictures: :class:`Explanation`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from .engine.base import Structure


@dataclass(frozen=True, eq=False, repr=False)
class Explanation:
    """What a model looks at in N samples. Arrays are NumPy; methods that were not asked for are None.

    Indexing and slicing give an ``Explanation`` of those samples; an integer keeps the batch axis.

    Attributes:
        scores: float32 (N,), the explained score.
        classes: int (N,), the explained class, or None where the target has none.
        predictions: The model's outputs as it returns them, in its own structure.
        layer: Path of the layer whose feature map was explained, or None without Grad-CAM.
        gradcam: float32 (N, h, w), raw Grad-CAM on the layer's own grid, >= 0. Zero everywhere means that nothing in
            this feature map speaks for the score; the counter-evidence is then in ``-target``.
        heatmap: float32 (N, H, W), ``gradcam`` upsampled bilinearly to the input, not normalised.
        guided_backprop: float32 (N, H, W, C), raw guided gradient of the score with respect to the input.
        guided_gradcam: float32 (N, H, W, C), ``guided_backprop`` times ``heatmap``.
    """

    scores: np.ndarray
    predictions: Structure
    classes: np.ndarray | None = None
    layer: str | None = None
    gradcam: np.ndarray | None = None
    heatmap: np.ndarray | None = None
    guided_backprop: np.ndarray | None = None
    guided_gradcam: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, index: Any) -> Explanation:
        if isinstance(index, (int, np.integer)):
            # Through range(), so that an index out of range is an error and the batch axis stays.
            position = range(len(self))[index]
            index = slice(position, position + 1)
        return replace(
            self,
            **{
                field.name: _map_arrays(lambda array: array[index], getattr(self, field.name))
                for field in fields(self)
                if field.name != "layer"
            },
        )

    def __iter__(self) -> Iterator[Explanation]:
        return (self[position] for position in range(len(self)))

    def __repr__(self) -> str:
        maps = ", ".join(
            f"{name} {getattr(self, name).shape}"
            for name in ("gradcam", "guided_backprop", "guided_gradcam")
            if getattr(self, name) is not None
        )
        return f"Explanation({len(self)} samples, layer={self.layer!r}, {maps})"


def _map_arrays(function: Any, structure: Structure) -> Structure:
    """Applies ``function`` to every array of a list, tuple or dict of arrays; None stays None."""
    if structure is None:
        return None
    if isinstance(structure, dict):
        return {name: _map_arrays(function, part) for name, part in structure.items()}
    if isinstance(structure, (list, tuple)):
        return type(structure)(_map_arrays(function, part) for part in structure)
    return function(structure)
