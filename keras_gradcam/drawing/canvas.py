"""A white canvas to paste pictures on and to write on, and functions that fit words into a width."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .notebook import Pictures

#: Height of a line of text.
LINE = 18

PAPER, INK, FAINT, WRONG, RIGHT = (255, 255, 255), (33, 33, 33), (95, 95, 95), (198, 40, 40), (46, 125, 50)

LINK = (128, 222, 234)

# Width of a colour bar, and of the gaps beside it.
_BAR, _BAR_GAP = 48, 4

# Factor by which smooth lines are drawn larger before they are shrunk.
_FINE = 4


def flowed(texts: Sequence[str], width: int) -> list[str]:
    """Joins short texts into as few lines of at most ``width`` pixels as possible."""
    lines: list[str] = []
    for text in map(printable, texts):
        joined = f"{lines[-1]}    {text}" if lines else text
        if lines and _text_width(joined) <= width:
            lines[-1] = joined
        else:
            lines.append(shortened(text, width))
    return lines


@functools.lru_cache(maxsize=4096)
def printable(text: str) -> str:
    """Replaces what cannot be drawn on one line by spaces: line breaks, control characters, changes of direction."""
    return "".join(character if character.isprintable() else " " for character in text)


def shortened(text: str, width: int) -> str:
    """Cuts a text in the middle so that it fits into ``width`` pixels on one line."""
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


@functools.lru_cache(maxsize=4096)
def _text_width(text: str) -> int:
    return math.ceil(_font().getlength(text))


def bar_width(top: str) -> int:
    """Returns the width of a colour bar with its numbers."""
    return _text_width("0") + _BAR + 2 * _BAR_GAP + _text_width(top)


@functools.lru_cache(maxsize=1024)
def _written(text: str) -> Any:
    """Returns a line of text as an image of opacities; titles stand in every panel of every epoch."""
    from PIL import Image, ImageDraw

    image = Image.new("L", (_text_width(text) + 2, LINE))
    ImageDraw.Draw(image).text((0, 0), text, fill=255, font=_font())
    return image


def labelled(picture: np.ndarray, text: str) -> np.ndarray:
    """Writes a line of light text on a dark band at the bottom of a picture."""
    from PIL import Image, ImageDraw

    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, image.height - LINE - 4, image.width, image.height), fill=INK)
    draw.text((5, image.height - LINE - 2), shortened(text, image.width - 8), fill=PAPER, font=_font())
    return np.asarray(image)


class Canvas:
    """A white picture to paste other pictures on and to write on.

    Args:
        height: In pixels.
        width: In pixels.
    """

    def __init__(self, height: int, width: int) -> None:
        from PIL import Image, ImageDraw

        self._image = Image.new("RGB", (width, height), PAPER)
        self._draw = ImageDraw.Draw(self._image)

    def paste(self, picture: np.ndarray, y: int, x: int) -> None:
        """Places a picture, uint8 (H, W, 3), with its upper left corner at (x, y)."""
        from PIL import Image

        self._image.paste(Image.fromarray(picture), (x, y))

    def text(self, x: int, y: int, text: str, color: tuple[int, int, int] = INK) -> None:
        """Writes a line of text to the right of (x, y), below it."""
        self._image.paste(color, (x, y), _written(text))

    def colour_bar(self, right: int, y: int, table: np.ndarray, top: str) -> None:
        """Draws a colour bar on a line of text, from "0" to ``top``, that ends at ``right``.

        Args:
            right: Where it ends.
            y: The top of the line.
            table: uint8 (256, 3), the colours.
            top: The words at the upper end, see :func:`bar_width`.
        """
        x = right - bar_width(top)
        self.text(x, y, "0", FAINT)
        x += _text_width("0") + _BAR_GAP
        colors = table[np.linspace(0, 255, _BAR).round().astype(int)]
        self.paste(np.repeat(colors[None], LINE - 9, axis=0), y + 3, x)
        self.text(x + _BAR + _BAR_GAP, y, top, FAINT)

    def border(self, color: tuple[int, int, int], box: tuple[int, int, int, int] | None = None) -> None:
        """Draws a frame around a box (y, x, height, width), or around everything."""
        y, x, height, width = box or (0, 0, self._image.height, self._image.width)
        self._draw.rectangle((x, y, x + width - 1, y + height - 1), outline=color, width=3)

    def line(self, points: Sequence[tuple[float, float] | None], color: tuple[int, int, int]) -> None:
        """Draws a line through points (x, y), broken at None, with a dot on each."""
        for start, end in itertools.pairwise(points):
            if start and end:
                self._draw.line((*start, *end), fill=color, width=2)
        for point in points:
            if point:
                self._draw.ellipse((point[0] - 2, point[1] - 2, point[0] + 2, point[1] + 2), fill=color)

    def link(self, start: tuple[float, float], end: tuple[float, float], width: float, bow: float = 0.0) -> None:
        """Draws a light line with a dark rim, visible on pictures and on white, that hangs ``bow`` pixels through."""
        along = np.linspace(0, 1, 33)
        x, y = (first + (last - first) * along for first, last in zip(start, end, strict=True))
        # Flatter in the middle than a parabola, so that lines with a common end separate soon.
        points = list(zip(x.tolist(), (y + bow * (1 - (2 * along - 1) ** 4)).tolist(), strict=True))
        self._stroke(points, width + 2, INK)
        self._stroke(points, width, LINK)

    def dot(self, point: tuple[float, float]) -> None:
        """Draws a light dot with a dark rim."""
        self._stroke([point], 10, INK)
        self._stroke([point], 6, LINK)

    def _stroke(self, points: Sequence[tuple[float, float]], width: float, color: tuple[int, int, int]) -> None:
        """Draws a line with round ends through points; it is drawn large and shrunk, so that its edges are smooth."""
        from PIL import Image, ImageDraw

        left, top = (math.floor(min(coordinates) - width) for coordinates in zip(*points, strict=True))
        right, bottom = (math.ceil(max(coordinates) + width) for coordinates in zip(*points, strict=True))
        mask = Image.new("L", ((right - left) * _FINE, (bottom - top) * _FINE))
        draw = ImageDraw.Draw(mask)
        # The centre of a pixel is half a pixel from its corner.
        fine = [((x - left + 0.5) * _FINE, (y - top + 0.5) * _FINE) for x, y in points]
        radius = width * _FINE / 2
        if len(fine) > 1:
            draw.line(fine, fill=255, width=round(2 * radius), joint="curve")
        for x, y in (fine[0], fine[-1]):
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
        self._image.paste(color, (left, top), mask.resize((right - left, bottom - top), Image.Resampling.BOX))

    def picture(self) -> np.ndarray:
        """Returns what was drawn so far, uint8 (H, W, 3), which notebooks show as a picture."""
        return np.asarray(self._image).view(Pictures)
