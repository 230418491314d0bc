"""Pictures with words: the panel of a probe, the overview of all, filmstrips and animations."""

from __future__ import annotations

import functools
import io
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from .render import Style, cell_size, overlay, relief, resized

_GAP, _MARGIN, _LINE = 6, 8, 18
#: Height of the line at the foot of a filmstrip.
_STRIP = 28
_PAPER, _INK, _FAINT, _WRONG = (255, 255, 255), (33, 33, 33), (95, 95, 95), (198, 40, 40)


@dataclass(frozen=True, eq=False)
class Frame:
    """One probe at one moment: the picture, its maps and what is said below them.

    Attributes:
        picture: uint8 (H, W, 3), the picture as people know it.
        caption: Short texts, in the order in which they are written below.
        short: The caption of a small cell.
        gradcam: (h, w) raw Grad-CAM on its own grid, or None.
        guided_backprop: (H', W', C) raw guided gradient, or None.
        guided_gradcam: (H', W', C) raw guided Grad-CAM, or None.
        top: The value drawn with the strongest colour.
        wrong: Whether the prediction is wrong.
    """

    picture: np.ndarray
    caption: tuple[str, ...] = ()
    short: tuple[str, ...] = ()
    gradcam: np.ndarray | None = None
    guided_backprop: np.ndarray | None = None
    guided_gradcam: np.ndarray | None = None
    top: float = 0.0
    wrong: bool = False


@dataclass(frozen=True, eq=False)
class Film:
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
    picture = overlay(resized(frame.picture, size), frame.gradcam, frame.top, style)
    if not np.isfinite(frame.gradcam).all():
        return _labelled(picture, "map is not finite")
    return picture if frame.gradcam.any() else _labelled(picture, "map is zero")


def panel(frame: Frame, style: Style | None = None) -> np.ndarray:
    """Draws one probe: picture, Grad-CAM overlay, guided backpropagation, guided Grad-CAM, and the caption below.

    Methods that were not computed are left out. A wrong prediction carries a thin red frame.

    Args:
        frame: The probe at one moment.
        style: How maps are drawn.

    Returns:
        uint8 (H, W, 3).
    """
    size = cell_size(*frame.picture.shape[:2])
    cells = [("picture", resized(frame.picture, size))]
    if frame.gradcam is not None:
        cells.append(("Grad-CAM", gradcam_cell(frame, size, style or Style())))
    for title, gradient in (
        ("guided backprop", frame.guided_backprop),
        ("guided Grad-CAM", frame.guided_gradcam),
    ):
        if gradient is not None:
            cells.append((title, resized(relief(gradient), size)))
    width = len(cells) * (size[1] + _GAP) - _GAP
    lines = flowed(frame.caption, width)
    canvas = _Canvas(size[0] + _LINE * (1 + len(lines)) + 2 * _MARGIN + 4, width + 2 * _MARGIN)
    for number, (title, cell) in enumerate(cells):
        left = _MARGIN + number * (size[1] + _GAP)
        canvas.text(left, _MARGIN, shortened(title, size[1]), _FAINT)
        canvas.paste(cell, _MARGIN + _LINE, left)
    for number, line in enumerate(lines):
        canvas.text(_MARGIN, _MARGIN + _LINE * (1 + number) + size[0] + 4, line)
    if frame.wrong:
        canvas.border(_WRONG)
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
    sizes = [cell_size(*frame.picture.shape[:2]) for frame in frames]
    height, width = max(size[0] for size in sizes), max(size[1] for size in sizes)
    columns = min(max(math.ceil(math.sqrt(len(frames) * height / width)), min(len(frames), 4)), 4096 // (width + _GAP))
    texts = [[shortened(line, width) for line in frame.short] for frame in frames]
    row = height + _LINE * max(len(lines) for lines in texts) + _GAP
    top = _MARGIN + (_LINE if title else 0)
    rows = math.ceil(len(frames) / columns)
    canvas = _Canvas(top + rows * row + _MARGIN, 2 * _MARGIN + columns * (width + _GAP) - _GAP)
    canvas.text(_MARGIN, _MARGIN, shortened(title, columns * (width + _GAP) - _GAP))
    for number, (frame, size) in enumerate(zip(frames, sizes, strict=True)):
        y, x = top + number // columns * row, _MARGIN + number % columns * (width + _GAP)
        has_map = frame.gradcam is not None
        canvas.paste(gradcam_cell(frame, size, style or Style()) if has_map else resized(frame.picture, size), y, x)
        if frame.wrong:
            canvas.border(_WRONG, (y, x, *size))
        for line, text in enumerate(texts[number]):
            canvas.text(x, y + size[0] + 2 + line * _LINE, text, _WRONG if frame.wrong else _INK)
    return canvas.picture()


def filmstrip(film: Film, style: Style | None = None) -> np.ndarray:
    """Draws one probe over several epochs in a row, with a line of its similarity to the frame before at the foot.

    Args:
        film: The probe at each epoch.
        style: How maps are drawn.

    Returns:
        uint8 (H, W, 3).
    """
    frames, captions, similarity = film.frames, film.captions, film.similarity
    size = cell_size(*frames[0].picture.shape[:2])
    rows = max((len(lines) for lines in captions), default=0)
    step, below = size[1] + _GAP, _MARGIN + size[0] + 2
    foot = below + rows * _LINE
    canvas = _Canvas(foot + _STRIP + _MARGIN, 2 * _MARGIN + len(frames) * step - _GAP)
    points: list[tuple[float, float] | None] = []
    for number, (frame, lines, value) in enumerate(zip(frames, captions, similarity, strict=True)):
        x = _MARGIN + number * step
        has_map = frame.gradcam is not None
        cell = gradcam_cell(frame, size, style or Style()) if has_map else resized(frame.picture, size)
        canvas.paste(cell, _MARGIN, x)
        if frame.wrong:
            canvas.border(_WRONG, (_MARGIN, x, *size))
        for line, text in enumerate(lines):
            canvas.text(x, below + line * _LINE, shortened(text, size[1]), _WRONG if frame.wrong and line else _INK)
        height = foot + _STRIP * (1 - np.clip(value, -1, 1)) / 2
        points.append(None if np.isnan(value) else (x + size[1] / 2, float(height)))
    canvas.line(points, _FAINT)
    return canvas.picture()


def animation(film: Film, style: Style | None = None, seconds: float = 0.4) -> bytes:
    """One probe over several epochs as an endless GIF, each picture with its captions."""
    from PIL import Image

    drawn = [
        overview([replace(frame, short=tuple(lines))], style=style)
        for frame, lines in zip(film.frames, film.captions, strict=True)
    ]
    images = [Image.fromarray(picture).quantize(128) for picture in drawn]
    buffer = io.BytesIO()
    duration = int(seconds * 1000)
    images[0].save(buffer, "gif", save_all=True, append_images=images[1:], duration=duration, loop=0)
    return buffer.getvalue()


def flowed(texts: Sequence[str], width: int) -> list[str]:
    """Short texts set one after another in as few lines as fit ``width`` pixels."""
    lines: list[str] = []
    for text in map(printable, texts):
        joined = f"{lines[-1]}    {text}" if lines else text
        if lines and _text_width(joined) <= width:
            lines[-1] = joined
        else:
            lines.append(shortened(text, width))
    return lines


def printable(text: str) -> str:
    """``text`` without what cannot be drawn on one line: line breaks, control characters, changes of direction."""
    return "".join(character if character.isprintable() else " " for character in text)


def shortened(text: str, width: int) -> str:
    """``text`` cut in the middle to fit ``width`` pixels, on one line."""
    text = printable(text[:1000])
    if _text_width(text) <= width:
        return text
    kept = len(text)
    while kept > 1:
        kept = min(kept - 1, max(1, int(kept * width / max(_text_width(text), 1)) if kept == len(text) else kept - 1))
        candidate = text[: math.ceil(kept / 2)] + "…" + text[len(text) - kept // 2 :]
        if _text_width(candidate) <= width:
            return candidate
    return "…"


@functools.lru_cache(maxsize=1)
def _font() -> Any:
    import matplotlib
    from PIL import ImageFont

    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), 12)


def _text_width(text: str) -> int:
    return math.ceil(_font().getlength(text))


def _labelled(picture: np.ndarray, text: str) -> np.ndarray:
    """``picture`` with a line of light text on a dark band at its foot."""
    from PIL import Image, ImageDraw

    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, image.height - _LINE - 4, image.width, image.height), fill=_INK)
    draw.text((5, image.height - _LINE - 2), shortened(text, image.width - 8), fill=_PAPER, font=_font())
    return np.asarray(image)


class _Canvas:
    """White paper to paste cells and write lines on."""

    def __init__(self, height: int, width: int) -> None:
        from PIL import Image, ImageDraw

        self._image = Image.new("RGB", (width, height), _PAPER)
        self._draw = ImageDraw.Draw(self._image)

    def paste(self, picture: np.ndarray, y: int, x: int) -> None:
        from PIL import Image

        self._image.paste(Image.fromarray(picture), (x, y))

    def text(self, x: int, y: int, text: str, color: tuple[int, int, int] = _INK) -> None:
        self._draw.text((x, y), text, fill=color, font=_font())

    def border(self, color: tuple[int, int, int], box: tuple[int, int, int, int] | None = None) -> None:
        y, x, height, width = box or (0, 0, self._image.height, self._image.width)
        self._draw.rectangle((x, y, x + width - 1, y + height - 1), outline=color, width=3)

    def line(self, points: Sequence[tuple[float, float] | None], color: tuple[int, int, int]) -> None:
        """A line through the points, broken at None."""
        for one, other in itertools.pairwise(points):
            if one and other:
                self._draw.line((*one, *other), fill=color, width=2)
        for point in points:
            if point:
                self._draw.ellipse((point[0] - 2, point[1] - 2, point[0] + 2, point[1] + 2), fill=color)

    def picture(self) -> np.ndarray:
        return np.asarray(self._image)
