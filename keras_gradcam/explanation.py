"""What came out of explaining pictures: :class:`Explanation`."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .engine.base import Structure
from .maps import upsample
from .methods import CAMS

if TYPE_CHECKING:
    from .class_names import ClassNames
    from .render import Style

# A target may hold a class for each of a thousand samples.
_LONGEST = 60
# So many classes are listed.
_LISTED = 8


@dataclass(frozen=True, eq=False, repr=False)
class Explanation:
    """What a model looks at in N samples. Arrays are NumPy, values raw: nothing is normalised.

    Indexing and slicing give an ``Explanation`` of those samples; an integer keeps the batch axis.

    Attributes:
        scores: float32 (N,), the explained score.
        predictions: The model's outputs as it returns them, in its own structure.
        classes: int (N,), the explained class, or None where the target has none.
        probabilities: float64 (N, K), of the classes of the explained output, or None if it has none.
        layer: Path of the layer whose feature map was explained, or None without any CAM.
        maps: Name of the method to its map, in the order asked for. Grad-CAM and its cousins: float32 (N, h, w) on the
            layer's own grid, >= 0; zero everywhere means that nothing in this feature map speaks for the score, and
            the counter-evidence is in ``-target``. Gradients: float32 (N, H, W, C), signed; saliency (N, H, W).
        images: (N, H, W, C), the explained input as the model takes it.
        completeness_error: float32 (N,), by how much the sum of integrated gradients differs from what the score gains
            from the baseline to the picture; None without them.
        target: What was explained, as the target is written.
    """

    scores: np.ndarray
    predictions: Structure
    classes: np.ndarray | None = None
    probabilities: np.ndarray | None = None
    layer: str | None = None
    maps: Mapping[str, np.ndarray] = field(default_factory=dict)
    images: np.ndarray | None = None
    completeness_error: np.ndarray | None = None
    target: str | None = None

    @property
    def cam(self) -> np.ndarray | None:
        """float32 (N, h, w), the first map on the layer's grid: Grad-CAM, if it is the first asked for."""
        return next((array for name, array in self.maps.items() if name in CAMS), None)

    @property
    def gradcam(self) -> np.ndarray | None:
        """float32 (N, h, w), raw Grad-CAM on the layer's own grid, or None if it was not asked for."""
        return self.maps.get("gradcam")

    @functools.cached_property
    def heatmap(self) -> np.ndarray | None:
        """float32 (N, H, W), the first map on the layer's grid upsampled bilinearly to the input."""
        cam = self.cam
        return None if cam is None or self.images is None else upsample(cam, self.images.shape[1 : cam.ndim])

    @property
    def guided_backprop(self) -> np.ndarray | None:
        """float32 (N, H, W, C), raw guided gradient of the score with respect to the input, or None."""
        return self.maps.get("guided_backprop")

    @property
    def guided_gradcam(self) -> np.ndarray | None:
        """float32 (N, H, W, C), guided backpropagation times the heatmap of Grad-CAM, or None."""
        return self.maps.get("guided_gradcam")

    def overlay(self, style: Style | None = None) -> np.ndarray:
        """The first map on the layer's grid laid on each picture, uint8 (N, H, W, 3).

        Args:
            style: How the map is drawn. Each has a scale of its own.

        Raises:
            ValueError: If there is no such map, or what was explained are no pictures.
        """
        from .display import overlays

        return overlays(self, style)

    def figure(self, class_names: ClassNames = None, style: Style | None = None) -> Any:
        """A matplotlib figure: for each sample the picture and all its maps.

        Args:
            class_names: A list of names in the order of the classes, or a dict {number: name}.
            style: How maps are drawn.

        Raises:
            ValueError: If what was explained are no pictures.
        """
        from .display import figure

        return figure(self, class_names, style)

    def save(self, directory: str | Path, class_names: ClassNames = None, style: Style | None = None) -> Path:
        """Writes a picture per sample, the raw maps and, last, a manifest.

        Args:
            directory: Any folder; made when needed.
            class_names: A list of names in the order of the classes, or a dict {number: name}.
            style: How maps are drawn.

        Returns:
            The folder, with ``sample_000.png`` ..., ``explanation.npz`` and ``manifest.json``.

        Raises:
            ValueError: If what was explained are no pictures.
        """
        from .display import save

        return save(self, directory, class_names, style)

    def to_dict(self) -> dict[str, Any]:
        """All of it by name, arrays as they are."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def _repr_html_(self) -> str | None:
        from .display import drawable, html

        return html(self) if drawable(self) else None

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, index: Any) -> Explanation:
        if isinstance(index, (int, np.integer)):
            # Through range(), so that an index out of range is an error and the batch axis stays.
            position = range(len(self))[index]
            index = slice(position, position + 1)
        elif not isinstance(index, (slice, list, np.ndarray)):
            raise TypeError(f"An explanation is indexed by a number, a slice, a list or an array. Received: {index!r}.")
        return replace(
            self,
            **{
                field.name: _map_arrays(lambda array: array[index], getattr(self, field.name))
                for field in fields(self)
                if field.name not in ("layer", "target")
            },
        )

    def __iter__(self) -> Iterator[Explanation]:
        return (self[position] for position in range(len(self)))

    def __repr__(self) -> str:
        maps = [f"{name} {array.shape}" for name, array in self.maps.items()]
        samples = f"{len(self)} sample{'' if len(self) == 1 else 's'}"
        return f"Explanation({', '.join([samples, *self._explained(), f'layer={self.layer!r}', *maps])})"

    def _explained(self) -> list[str]:
        """What was explained in these samples, in a few words."""
        if self.classes is None:
            return [] if self.target is None else [f"target={shortened(self.target)}"]
        found = list(dict.fromkeys(np.asarray(self.classes).tolist()))
        if len(found) > _LISTED:
            return [f"{len(found)} classes"]
        return [f"class{'' if len(found) == 1 else 'es'} {', '.join(map(str, found))}"] if found else []


def shortened(text: str) -> str:
    """A text of one line, without its middle where it is long."""
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 13]} ... {text[-8:]}"


def _map_arrays(function: Any, structure: Structure) -> Structure:
    """Applies ``function`` to every array of a list, tuple or dict of arrays; None stays None."""
    if structure is None:
        return None
    if isinstance(structure, dict):
        return {name: _map_arrays(function, part) for name, part in structure.items()}
    if isinstance(structure, (list, tuple)):
        return type(structure)(_map_arrays(function, part) for part in structure)
    return function(structure)


def joined(parts: Sequence[Structure]) -> Structure:
    """Concatenates structures of arrays, sample by sample."""
    first = parts[0]
    if first is None or len(parts) == 1:
        return first
    if isinstance(first, dict):
        return {name: joined([part[name] for part in parts]) for name in first}
    if isinstance(first, (list, tuple)):
        return type(first)(joined(list(column)) for column in zip(*parts, strict=True))
    return np.concatenate(parts)
