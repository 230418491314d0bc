"""Explanations: scores, predictions and maps of some samples, as numbers, figures and files."""

from __future__ import annotations

import functools
import io
import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..drawing import notebook
from ..drawing.class_names import ClassNames, class_name, names_by_number
from ..drawing.overlays import overlay
from ..drawing.panels import Frame, panel
from ..drawing.pixels import StyleLike, as_style, displayed, encoded
from ..engine.base import Structure
from ..errors import ArgumentError, check_path
from ..files import replace_whole
from ..grids import Placement, Spans, upsample
from .methods.names import CAMS, INPUT_MAPS, TITLES

# Maximum length of a target's text; a target may hold a class for each of a thousand samples.
_LONGEST = 60

# Maximum number of samples in a notebook's cell, and of classes in the text of an explanation.
_SHOWN = 8
_LISTED = 8


@dataclass(frozen=True)
class Explained:
    """What an explanation is about.

    Attributes:
        layer: Path of the layer whose feature map was explained, or None without any CAM.
        target: What was explained, as the target is written.
        quantity: What the score is: "score", or "value" for the number that a regression predicts.
    """

    layer: str | None = None
    target: str | None = None
    quantity: str = "score"


@dataclass(frozen=True, eq=False, repr=False)
class Explanation:
    """What a model looks at in N samples. Arrays are NumPy, values raw: nothing is normalised.

    Indexing and slicing give an ``Explanation`` of those samples; an integer keeps the batch axis.

    Attributes:
        scores: float32 (N,), the explained score.
        predictions: The model's outputs as it returns them, in its own structure.
        classes: int (N,), the explained class, or None where the target has none.
        probabilities: float64 (N, K), of the classes of the explained output, or None if it has none.
        maps: Name of the method to its map, in the order asked for. CAMs: float32 (N, h, w) on the layer's
            own grid, >= 0; zero everywhere means that nothing in this feature map speaks for the score, and
            the counter-evidence is in ``-target``. Gradients: float32 (N, H, W, C), signed; saliency (N, H, W).
        images: (N, H, W, C), the explained input as the model takes it.
        completeness_error: float32 (N,), by how much the sum of integrated gradients differs from what the score gains
            from the baseline to the picture; None without them.
        explained: The layer and the target; also found as ``layer``, ``target`` and ``quantity``.
        placement: Where on the input the maps on the layer's grid lie; None where that is all of it, (H, W, C). Maps
            have the axes of the input, in its order, also where the model turns or flips its input.
    """

    scores: np.ndarray
    predictions: Structure
    classes: np.ndarray | None = None
    probabilities: np.ndarray | None = None
    maps: Mapping[str, np.ndarray] = field(default_factory=dict)
    images: np.ndarray | None = None
    completeness_error: np.ndarray | None = None
    explained: Explained = Explained()
    placement: Placement | None = None

    @property
    def layer(self) -> str | None:
        """Path of the layer whose feature map was explained, or None without any CAM."""
        return self.explained.layer

    @property
    def target(self) -> str | None:
        """What was explained, as the target is written."""
        return self.explained.target

    @property
    def quantity(self) -> str:
        """What the score is: "score", or "value" for the number that a regression predicts."""
        return self.explained.quantity

    @property
    def pictures(self) -> np.ndarray | None:
        """(N, H, W, C), the explained input, its channels last also where the model takes them first."""
        return None if self.images is None else self.channels_last(self.images)

    def channels_last(self, inputs: np.ndarray) -> np.ndarray:
        """Returns what is shaped like the explained input with its channels last."""
        return inputs if self.placement is None else self.placement.channels_last(inputs)

    def drawn_maps(self) -> dict[str, np.ndarray]:
        """Returns the maps as they are drawn: those that are shaped like the input with its channels last."""
        shape = None if self.images is None else self.images.shape
        return {name: self.channels_last(maps) if maps.shape == shape else maps for name, maps in self.maps.items()}

    @property
    def spans(self) -> Spans:
        """Where the maps on the layer's grid lie along each axis of the input, as shares of it; None without them."""
        return None if self.placement is None else self.placement.spans

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
        """float32 (N, H, W), the first map on the layer's grid upsampled bilinearly to its place on the input.

        That is all of the input, as in the paper, unless the model crops or pads it: what the model does not look at
        is zero.
        """
        cam = self.cam
        return None if cam is None or self.images is None else self.on_input(cam)

    def on_input(self, cam: np.ndarray) -> np.ndarray:
        """Returns a map on the layer's grid, (N, h, w), upsampled bilinearly to its place on the input, (N, H, W)."""
        assert self.images is not None
        placement = self.placement or Placement.whole(cam.ndim - 1)
        return upsample(cam, placement.size(self.images.shape[1:]), placement.spans)

    @property
    def guided_backprop(self) -> np.ndarray | None:
        """float32 (N, H, W, C), raw guided gradient of the score with respect to the input, or None."""
        return self.maps.get("guided_backprop")

    @property
    def guided_gradcam(self) -> np.ndarray | None:
        """float32 (N, H, W, C), guided backpropagation times the heatmap of Grad-CAM, or None."""
        return self.maps.get("guided_gradcam")

    def overlay(self, style: StyleLike = None) -> np.ndarray:
        """Lays the first map on the layer's grid on each picture, uint8 (N, H, W, 3).

        Args:
            style: How the map is drawn. Each map has a scale of its own.

        Raises:
            ArgumentError: If there is no such map, or the explained input is no picture.
        """
        drawn = []
        for frame in frames(self):
            if frame.gradcam is None:
                raise ArgumentError(
                    "methods",
                    "name one with a map on the layer's grid, to be laid on pictures",
                    ", ".join(self.maps),
                    list(CAMS),
                )
            drawn.append(overlay(frame.picture, frame.gradcam, frame.vmax, as_style(style), frame.spans))
        return np.stack(drawn).view(notebook.Pictures)

    def figure(self, class_names: ClassNames = None, style: StyleLike = None) -> Any:
        """Draws a matplotlib figure: for each sample the picture and all its maps.

        Args:
            class_names: A list of names in the order of the classes, or a dict {number: name}.
            style: How maps are drawn.

        Raises:
            ArgumentError: If the explained input is no picture.
        """
        return notebook.figure([panel(frame, as_style(style)) for frame in frames(self, class_names)])

    def save(self, directory: str | Path, class_names: ClassNames = None, style: StyleLike = None) -> Path:
        """Writes a picture per sample, the raw maps and, last, a manifest.

        Args:
            directory: Any folder; made when needed.
            class_names: A list of names in the order of the classes, or a dict {number: name}.
            style: How maps are drawn.

        Returns:
            The folder, with ``sample_000.png`` ..., ``explanation.npz`` and ``manifest.json``.

        Raises:
            ArgumentError: If the explained input is no picture.
        """
        folder = Path(check_path("directory", directory)).expanduser()
        folder.mkdir(parents=True, exist_ok=True)
        files: dict[str, bytes] = {}
        for index, frame in enumerate(frames(self, class_names)):
            files[f"sample_{index:03d}.png"] = encoded(panel(frame, as_style(style)))
        arrays = {"scores": self.scores, **self.maps}
        for name in ("classes", "probabilities", "completeness_error"):
            if getattr(self, name) is not None:
                arrays[name] = getattr(self, name)
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
        files["explanation.npz"] = buffer.getvalue()
        manifest = {
            "layer": self.layer,
            "methods": list(self.maps),
            "spans": None if self.spans is None else [list(span) for span in self.spans],
            "scores": [float(score) for score in self.scores],
            "classes": None if self.classes is None else [int(number) for number in self.classes],
            "files": sorted(files),
        }
        files["manifest.json"] = json.dumps(manifest, indent=1).encode()
        for name, content in files.items():
            replace_whole(folder / name, content)
        return folder

    def _repr_html_(self) -> str | None:
        if not drawable(self):
            return None
        more = len(self) - _SHOWN
        note = repr(self) + (f", {more} more not shown" if more > 0 else "")
        return notebook.html([panel(frame) for frame in frames(self[:_SHOWN])], note)

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, index: Any) -> Explanation:
        if isinstance(index, (int, np.integer)):
            # Through range(), so that an index out of range is an error and the batch axis stays.
            row = range(len(self))[index]
            index = slice(row, row + 1)
        elif not isinstance(index, (slice, list, np.ndarray)):
            raise TypeError(f"An explanation is indexed by a number, a slice, a list or an array. Received: {index!r}.")
        return replace(
            self,
            **{
                field.name: _map_arrays(lambda array: array[index], getattr(self, field.name))
                for field in fields(self)
                if field.name not in ("explained", "placement")
            },
        )

    def __iter__(self) -> Iterator[Explanation]:
        return (self[index] for index in range(len(self)))

    def __repr__(self) -> str:
        maps = [f"{name} {array.shape}" for name, array in self.maps.items()]
        samples = f"{len(self)} sample{'' if len(self) == 1 else 's'}"
        return f"Explanation({', '.join([samples, *self._explained(), f'layer={self.layer!r}', *maps])})"

    def _explained(self) -> list[str]:
        """Returns what was explained in these samples, in a few words."""
        if self.classes is None:
            return [] if self.target is None else [f"target={shortened(self.target)}"]
        classes = list(dict.fromkeys(np.asarray(self.classes).tolist()))
        if len(classes) > _LISTED:
            return [f"{len(classes)} classes"]
        return [f"class{'' if len(classes) == 1 else 'es'} {', '.join(map(str, classes))}"] if classes else []


def shortened(text: str) -> str:
    """Returns a text as one line, without its middle where it is long."""
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


def frames(explanation: Explanation, class_names: ClassNames = None) -> list[Frame]:
    """Returns one frame per sample with all its maps, each map on a scale of its own.

    Raises:
        ArgumentError: If the explained input is no picture, or a list of names is not as long as there are classes.
    """
    images = explanation.images
    if images is None or not drawable(explanation):
        shape = None if images is None else images.shape
        raise ArgumentError("explanation", "be one of pictures, (N, H, W, C), to be drawn", f"shape {shape}")
    pictures = displayed(np.asarray(explanation.pictures))
    names = names_by_number(class_names)
    count = 0 if explanation.probabilities is None else explanation.probabilities.shape[1]
    if names and count and not isinstance(class_names, Mapping) and len(names) != count:
        raise ArgumentError(
            "class_names",
            f"name the {count} classes of the model",
            f"{len(names)} names",
            "a dict {number: name} for some of them",
        )
    return [_frame(explanation, index, picture, names) for index, picture in enumerate(pictures)]


def drawable(explanation: Explanation) -> bool:
    """Returns whether pictures were explained, not series or volumes."""
    cam, images = explanation.cam, explanation.images
    return images is not None and images.ndim in (3, 4) and (cam is None or cam.ndim == 3)


def _frame(explanation: Explanation, index: int, picture: np.ndarray, names: Mapping[int, str]) -> Frame:
    """Builds the frame of one sample, with a caption that says what was predicted and explained."""
    maps = {name: array[index] for name, array in explanation.drawn_maps().items()}
    frame = build_frame(maps, picture, spans=explanation.spans)
    caption = []
    if explanation.probabilities is not None:
        predicted = int(explanation.probabilities[index].argmax())
        caption.append(f"predicted: {class_name(predicted, names)} {explanation.probabilities[index, predicted]:.2f}")
    if explanation.classes is not None:
        caption.append(f"explained: {class_name(explanation.classes[index], names)}")
    caption.append(f"{explanation.quantity} {explanation.scores[index]:.3g}")
    if frame.gradcam is not None:
        caption.append(f"top {frame.vmax:.3g}")
    return replace(frame, caption=tuple(caption), short=tuple(caption[-2:]))


def build_frame(
    maps: Mapping[str, np.ndarray],
    picture: np.ndarray,
    *,
    caption: Sequence[str] = (),
    short: Sequence[str] = (),
    vmax: float | None = None,
    spans: Spans = None,
    wrong: bool = False,
) -> Frame:
    """Builds a frame, which a panel draws, from the maps of one sample.

    Args:
        maps: Name of the method to its map, without a batch axis. The first CAM is laid on the picture, further CAMs
            are its variants, all others are drawn as gradients.
        picture: uint8 (H, W, 3).
        caption: Short texts written below.
        short: The caption of a small cell.
        vmax: The value of the first CAM that gets the strongest colour; by default its largest finite value.
        spans: Where the maps on a layer's grid lie on the picture; by default over all of it.
        wrong: Whether the prediction is wrong.

    Example:
        >>> import numpy as np
        >>> frame = build_frame({"layercam": np.array([[1.0, 3.0]])}, np.zeros((8, 16, 3), np.uint8))
        >>> list(frame.cams), frame.vmax
        (['LayerCAM'], 3.0)
    """
    cams = {TITLES[name]: array for name, array in maps.items() if name in CAMS}
    if vmax is None:
        cam = next(iter(cams.values()), None)
        vmax = 0.0 if cam is None else float(np.nan_to_num(cam, posinf=0).max(initial=0))
    return Frame(
        picture=picture,
        caption=tuple(caption),
        short=tuple(short),
        cams=cams,
        gradients={TITLES[name]: array for name, array in maps.items() if name in INPUT_MAPS},
        vmax=vmax,
        spans=spans,
        wrong=wrong,
    )


def warn_about_infinities(arrays: Mapping[str, np.ndarray | None]) -> None:
    """Warns of scores and maps that are not finite."""
    for name, array in arrays.items():
        if array is not None and not np.isfinite(array).all():
            bad = ~np.isfinite(array.reshape(len(array), -1)).all(axis=1)
            warnings.warn(
                f"`{name}` is not finite for {bad.sum()} of {len(bad)} samples. The model's weights or outputs are "
                "likely not finite there, or a 16-bit gradient overflowed.",
                RuntimeWarning,
                stacklevel=5,
            )
