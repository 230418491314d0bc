"""An explanation as pictures: for notebooks, figures and folders."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .class_names import ClassNames, names_by_number
from .methods import CAMS, titled
from .panels import Frame, panel
from .render import Style, displayed, encoded, overlay
from .writing import replace_whole

if TYPE_CHECKING:
    from .explanation import Explanation

# A notebook's cell shows so many samples.
_SHOWN = 8


def frames(explanation: Explanation, class_names: ClassNames = None) -> list[Frame]:
    """One frame per sample with all its maps, each map on a scale of its own.

    Raises:
        ValueError: If what was explained are no pictures.
    """
    images = explanation.images
    if images is None or not drawable(explanation):
        shape = None if images is None else images.shape
        raise ValueError(f"`explanation` must be one of pictures, (N, H, W, C), to be drawn. Received: {shape}.")
    pictures = displayed(np.asarray(images))
    names = names_by_number(class_names)
    return [_frame(explanation, number, picture, names) for number, picture in enumerate(pictures)]


def drawable(explanation: Explanation) -> bool:
    """Whether pictures were explained, not series or volumes."""
    cam, images = explanation.cam, explanation.images
    return images is not None and images.ndim in (3, 4) and (cam is None or cam.ndim == 3)


def _frame(explanation: Explanation, number: int, picture: np.ndarray, names: Mapping[int, str]) -> Frame:
    cams, gradients = titled(explanation.maps, number)
    first = next(iter(cams), None)
    cam = None if first is None else cams.pop(first)
    top = 0.0 if cam is None else float(np.nan_to_num(cam, posinf=0).max(initial=0))
    caption = []
    if explanation.probabilities is not None:
        chosen = int(explanation.probabilities[number].argmax())
        caption.append(f"predicted: {_name(chosen, names)} {explanation.probabilities[number, chosen]:.2f}")
    if explanation.classes is not None:
        caption.append(f"explained: {_name(int(explanation.classes[number]), names)}")
    caption += [f"score {explanation.scores[number]:.3g}", *([] if cam is None else [f"top {top:.3g}"])]
    return Frame(
        picture=picture,
        caption=tuple(caption),
        short=tuple(caption[-2:]),
        gradcam=cam,
        title=first or "Grad-CAM",
        cousins=cams,
        gradients=gradients,
        top=top,
    )


def overlays(explanation: Explanation, style: Style | None = None) -> np.ndarray:
    """The first map on each picture, uint8 (N, H, W, 3), each on a scale of its own.

    Raises:
        ValueError: If there is no such map, or no picture.
    """
    drawn = []
    for frame in frames(explanation):
        if frame.gradcam is None:
            raise ValueError(
                "`methods` must name one with a map on the layer's grid, to be laid on pictures. "
                f"Received: {', '.join(explanation.maps)}. Candidates: {', '.join(CAMS)}."
            )
        drawn.append(overlay(frame.picture, frame.gradcam, frame.top, style))
    return np.stack(drawn)


def figure(explanation: Explanation, class_names: ClassNames = None, style: Style | None = None) -> Any:
    """A matplotlib figure with a panel per sample, one below the other."""
    from matplotlib.figure import Figure

    panels = [panel(frame, style) for frame in frames(explanation, class_names)]
    width, height = max(one.shape[1] for one in panels), sum(one.shape[0] for one in panels)
    drawn = Figure(figsize=(width / 100, height / 100), dpi=100)
    top = 1.0
    for one in panels:
        share = one.shape[0] / height
        top -= share
        axes = drawn.add_axes((0, top, one.shape[1] / width, share))
        axes.imshow(one, interpolation="nearest", aspect="auto")
        axes.set_axis_off()
    return drawn


def html(explanation: Explanation) -> str:
    """A row of panels per sample, for notebooks."""
    shown = [_tag(panel(frame), f"sample {number}") for number, frame in enumerate(frames(explanation[:_SHOWN]))]
    more = len(explanation) - len(shown)
    note = f"<div>{escape(repr(explanation))}{f', {more} more not shown' if more > 0 else ''}</div>"
    return note + "".join(f"<div>{tag}</div>" for tag in shown)


def _tag(picture: np.ndarray, alternative: str) -> str:
    content = base64.b64encode(encoded(picture)).decode()
    return f'<img alt="{escape(alternative)}" style="max-width:100%" src="data:image/png;base64,{content}">'


def save(
    explanation: Explanation,
    directory: str | Path,
    class_names: ClassNames = None,
    style: Style | None = None,
) -> Path:
    """Writes a panel per sample, the raw maps and, last, a manifest.

    Returns:
        The folder, with ``sample_000.png`` ..., ``explanation.npz`` and ``manifest.json``.
    """
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    files: dict[str, bytes] = {}
    for number, frame in enumerate(frames(explanation, class_names)):
        files[f"sample_{number:03d}.png"] = encoded(panel(frame, style))
    arrays = {"scores": explanation.scores, **explanation.maps}
    for name in ("classes", "probabilities", "completeness_error"):
        if getattr(explanation, name) is not None:
            arrays[name] = getattr(explanation, name)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    files["explanation.npz"] = buffer.getvalue()
    manifest = {
        "layer": explanation.layer,
        "methods": list(explanation.maps),
        "scores": [float(score) for score in explanation.scores],
        "classes": None if explanation.classes is None else [int(one) for one in explanation.classes],
        "files": sorted(files),
    }
    files["manifest.json"] = json.dumps(manifest, indent=1).encode()
    for name, content in files.items():
        replace_whole(folder / name, content)
    return folder


def _name(number: int, names: Mapping[int, str]) -> str:
    return names.get(number, f"class {number}")
