"""Filmstrips: one picture and its map over several epochs, in a row or as an animation."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace

import numpy as np

from .canvas import FAINT, INK, LINE, WRONG, Canvas, shortened
from .panels import MARGIN, Frame, cell, overview, spacing, title_partner
from .pixels import Style

#: Height of the curve at the bottom of a filmstrip.
_STRIP = 28


@dataclass(frozen=True, eq=False)
class Filmstrip:
    """One picture with a sequence of maps.

    Attributes:
        frames: The picture with each map.
        captions: Short lines below each frame, equally many.
        similarity: One value from -1 to 1 per frame, drawn as a curve; NaN leaves a gap.
    """

    frames: tuple[Frame, ...]
    captions: tuple[tuple[str, ...], ...]
    similarity: tuple[float, ...]


def draw_filmstrip(filmstrip: Filmstrip, style: Style | None = None) -> np.ndarray:
    """Draws one picture with a sequence of maps in a row, above the curve of their similarity.

    Args:
        filmstrip: The frames and their captions.
        style: How maps are drawn.

    Returns:
        uint8 (H, W, 3).
    """
    frames, captions, similarity = filmstrip.frames, filmstrip.captions, filmstrip.similarity
    cells = [cell(frame, style or Style()) for frame in frames]
    size = cells[0].shape[:2]
    rows = max((len(lines) for lines in captions), default=0)
    head, gap = spacing(frames)
    top = MARGIN + head
    step, below = size[1] + gap, top + size[0] + 2
    foot = below + rows * LINE
    canvas = Canvas(foot + _STRIP + MARGIN, 2 * MARGIN + len(frames) * step - gap)
    points: list[tuple[float, float] | None] = []
    for index, (frame, lines, value) in enumerate(zip(frames, captions, similarity, strict=True)):
        x = MARGIN + index * step
        title_partner(canvas, frame, MARGIN, x, size[1])
        canvas.paste(cells[index], top, x)
        if frame.wrong:
            canvas.border(WRONG, (top, x, *size))
        for line, text in enumerate(lines):
            canvas.text(x, below + line * LINE, shortened(text, size[1]), WRONG if frame.wrong and line else INK)
        height = foot + _STRIP * (1 - np.clip(value, -1, 1)) / 2
        points.append(None if np.isnan(value) else (x + size[1] / 2, float(height)))
    canvas.line(points, FAINT)
    return canvas.picture()


def animation(filmstrip: Filmstrip, style: Style | None = None, seconds: float = 0.4) -> bytes:
    """Encodes a filmstrip as an endless GIF, ``seconds`` per frame."""
    from PIL import Image

    drawn = [
        overview([replace(frame, short=tuple(lines))], style=style)
        for frame, lines in zip(filmstrip.frames, filmstrip.captions, strict=True)
    ]
    images = [Image.fromarray(picture).quantize(128) for picture in drawn]
    buffer = io.BytesIO()
    duration = int(seconds * 1000)
    images[0].save(buffer, "gif", save_all=True, append_images=images[1:], duration=duration, loop=0)
    return buffer.getvalue()
