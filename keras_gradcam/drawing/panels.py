"""Pictures with words: the panel of a probe, the overview of all, filmstrips and animations."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from .canvas import FAINT, INK, LINE, WRONG, Canvas, flowed, labelled, shortened
from .pixels import Style, cell_size, overlay, relief, resized

_GAP, _MARGIN = 6, 8

#: Between the two pictures of a pair.
_PAIR_GAP = 2

#: Height of the line at the foot of a filmstrip.
_STRIP = 28


@dataclass(frozen=True, eq=False)
class Frame:
    """One probe at one moment: the picture, its maps and what is said below them.

    Attributes:
        picture: uint8 (H, W, 3), the picture as people know it.
        caption: Short texts, in the order in which they are written below.
        short: The caption of a small cell.
        gradcam: (h, w) raw Grad-CAM, or the first of its cam_variants, on its own grid; or None.
        title: Names that map.
        cam_variants: Title to other maps on a grid, (h, w).
        gradients: Title to maps at the size of the input, (H', W', C) and signed or (H', W').
        vmax: The value drawn with the strongest colour.
        wrong: Whether the prediction is wrong.
        partner: The other picture of a pair, with its map, or None.
    """

    picture: np.ndarray
    caption: tuple[str, ...] = ()
    short: tuple[str, ...] = ()
    gradcam: np.ndarray | None = None
    title: str = "Grad-CAM"
    cam_variants: Mapping[str, np.ndarray] = field(default_factory=dict)
    gradients: Mapping[str, np.ndarray] = field(default_factory=dict)
    vmax: float = 0.0
    wrong: bool = False
    partner: Frame | None = None


@dataclass(frozen=True, eq=False)
class Filmstrip:
    """One probe at several epochs.

    Attributes:
        frames: The probe at each epoch.
        captions: Short lines below each frame, equally many.
        similarity: One value from -1 to 1 per frame, NaN where it is missing.
    """

    frames: tuple[Frame, ...]
    captions: tuple[tuple[str, ...], ...]
    similarity: tuple[float, ...]


def gradcam_cell(frame: Frame, size: tuple[int, int], style: Style) -> np.ndarray:
    """The overlay of one frame at ``size``; a map that shows nothing says so."""
    assert frame.gradcam is not None
    picture = overlay(resized(frame.picture, size), frame.gradcam, frame.vmax, style)
    if not np.isfinite(frame.gradcam).all():
        return labelled(picture, "map is not finite")
    return picture if frame.gradcam.any() else labelled(picture, "map is zero")


def cell(frame: Frame, style: Style) -> np.ndarray:
    """The overlay of one frame, or the picture where there is no map; the two of a pair side by side, equally high."""
    size = cell_size(*frame.picture.shape[:2])
    drawn = [_drawn(frame, size, style)]
    if frame.partner is not None:
        height, width = frame.partner.picture.shape[:2]
        drawn.append(np.full((size[0], _PAIR_GAP, 3), 255, np.uint8))
        drawn.append(_drawn(frame.partner, (size[0], max(1, round(width * size[0] / height))), style))
    return np.concatenate(drawn, axis=1)


def _drawn(frame: Frame, size: tuple[int, int], style: Style) -> np.ndarray:
    return resized(frame.picture, size) if frame.gradcam is None else gradcam_cell(frame, size, style)


def _title_partner(canvas: Canvas, frame: Frame, y: int, x: int, width: int) -> None:
    """Says above a cell, ``width`` wide, which of the two pictures of a pair is the partner."""
    if frame.partner is not None:
        left = cell_size(*frame.picture.shape[:2])[1] + _PAIR_GAP
        canvas.text(x + left, y, shortened("partner", width - left), FAINT)


def _room(frames: Sequence[Frame]) -> tuple[int, int]:
    """The height of what stands above cells, and the width between them: pairs stand further apart."""
    return (0, _GAP) if all(frame.partner is None for frame in frames) else (LINE, 4 * _GAP)


def panel(frame: Frame, style: Style | None = None) -> np.ndarray:
    """Draws one probe: picture, Grad-CAM overlay, guided backpropagation, guided Grad-CAM, and the caption below.

    Methods that were not computed are left out. A wrong prediction carries a thin red frame. The partner of a pair
    stands to the right with its own overlay.

    Args:
        frame: The probe at one moment.
        style: How maps are drawn.

    Returns:
        uint8 (H, W, 3).
    """
    size = cell_size(*frame.picture.shape[:2])
    cells = [("picture", resized(frame.picture, size))]
    if frame.gradcam is not None:
        cells.append((frame.title, gradcam_cell(frame, size, style or Style())))
    for title, cousin in frame.cam_variants.items():
        # Values of different methods cannot be compared: each has a scale of its own.
        other = replace(frame, gradcam=cousin, vmax=float(np.nan_to_num(cousin).max(initial=0)))
        cells.append((title, gradcam_cell(other, size, style or Style())))
    for title, gradient in frame.gradients.items():
        cells.append((title, resized(relief(gradient), size)))
    if frame.partner is not None:
        beside = cell_size(*frame.partner.picture.shape[:2])
        cells.append(("partner", resized(frame.partner.picture, beside)))
        if frame.partner.gradcam is not None:
            cells.append((f"partner's {frame.title}", gradcam_cell(frame.partner, beside, style or Style())))
    height, width = max(len(one) for _, one in cells), sum(one.shape[1] + _GAP for _, one in cells) - _GAP
    lines = flowed(frame.caption, width)
    canvas = Canvas(height + LINE * (1 + len(lines)) + 2 * _MARGIN + 4, width + 2 * _MARGIN)
    left = _MARGIN
    for title, one in cells:
        canvas.text(left, _MARGIN, shortened(title, one.shape[1]), FAINT)
        canvas.paste(one, _MARGIN + LINE, left)
        left += one.shape[1] + _GAP
    for number, line in enumerate(lines):
        canvas.text(_MARGIN, _MARGIN + LINE * (1 + number) + height + 4, line)
    if frame.wrong:
        canvas.border(WRONG)
    return canvas.picture()


def overview(frames: Sequence[Frame], title: str = "", style: Style | None = None) -> np.ndarray:
    """Draws the overlays of all probes as one grid, at most 4096 pixels wide.

    Args:
        frames: The probes at one moment.
        title: Written above.
        style: How maps are drawn.

    Returns:
        uint8 (H, W, 3).
    """
    cells = [cell(frame, style or Style()) for frame in frames]
    height, width = max(one.shape[0] for one in cells), max(one.shape[1] for one in cells)
    head, gap = _room(frames)
    columns = min(max(math.ceil(math.sqrt(len(frames) * height / width)), min(len(frames), 4)), 4096 // (width + gap))
    texts = [[shortened(line, width) for line in frame.short] for frame in frames]
    row = head + height + LINE * max(len(lines) for lines in texts) + _GAP
    top = _MARGIN + (LINE if title else 0)
    rows = math.ceil(len(frames) / columns)
    canvas = Canvas(top + rows * row + _MARGIN, 2 * _MARGIN + columns * (width + gap) - gap)
    canvas.text(_MARGIN, _MARGIN, shortened(title, columns * (width + gap) - gap))
    for number, (frame, one) in enumerate(zip(frames, cells, strict=True)):
        y, x = top + number // columns * row, _MARGIN + number % columns * (width + gap)
        _title_partner(canvas, frame, y, x, one.shape[1])
        y += head
        canvas.paste(one, y, x)
        if frame.wrong:
            canvas.border(WRONG, (y, x, *one.shape[:2]))
        for line, text in enumerate(texts[number]):
            canvas.text(x, y + len(one) + 2 + line * LINE, text, WRONG if frame.wrong else INK)
    return canvas.picture()


def draw_filmstrip(filmstrip: Filmstrip, style: Style | None = None) -> np.ndarray:
    """Draws one probe over several epochs in a row, with a line of its similarity to the frame before at the foot.

    Args:
        filmstrip: The probe at each epoch.
        style: How maps are drawn.

    Returns:
        uint8 (H, W, 3).
    """
    frames, captions, similarity = filmstrip.frames, filmstrip.captions, filmstrip.similarity
    cells = [cell(frame, style or Style()) for frame in frames]
    size = cells[0].shape[:2]
    rows = max((len(lines) for lines in captions), default=0)
    head, gap = _room(frames)
    top = _MARGIN + head
    step, below = size[1] + gap, top + size[0] + 2
    foot = below + rows * LINE
    canvas = Canvas(foot + _STRIP + _MARGIN, 2 * _MARGIN + len(frames) * step - gap)
    points: list[tuple[float, float] | None] = []
    for number, (frame, lines, value) in enumerate(zip(frames, captions, similarity, strict=True)):
        x = _MARGIN + number * step
        _title_partner(canvas, frame, _MARGIN, x, size[1])
        canvas.paste(cells[number], top, x)
        if frame.wrong:
            canvas.border(WRONG, (top, x, *size))
        for line, text in enumerate(lines):
            canvas.text(x, below + line * LINE, shortened(text, size[1]), WRONG if frame.wrong and line else INK)
        height = foot + _STRIP * (1 - np.clip(value, -1, 1)) / 2
        points.append(None if np.isnan(value) else (x + size[1] / 2, float(height)))
    canvas.line(points, FAINT)
    return canvas.picture()


def animation(filmstrip: Filmstrip, style: Style | None = None, seconds: float = 0.4) -> bytes:
    """One probe over several epochs as an endless GIF, each picture with its captions."""
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
