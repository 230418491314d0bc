"""Draws pictures with their maps and captions: panels, overviews, filmstrips and animations."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ..grids import Spans
from .canvas import FAINT, INK, LINE, WRONG, Canvas, bar_width, flowed, labelled, shortened
from .colormaps import color_table
from .overlays import overlay, remark
from .pixels import Style, cell_size, relief, resized

_GAP = 6
#: Space around everything.
MARGIN = 8

# The upper end of the colours of pictures with a scale each.
_PEAK = "peak"

#: Between a picture and its partner.
_PAIR_GAP = 2


@dataclass(frozen=True, eq=False)
class Frame:
    """A picture with its maps and its captions.

    Attributes:
        picture: uint8 (H, W, 3), for display.
        caption: Short texts, in the order in which a panel shows them.
        short: The lines below a small cell, in an overview.
        cams: Title to raw map (h, w) on the layer's grid; the first is laid on the picture, others are variants of it.
        gradients: Title to maps at the size of the input, (H', W', C) and signed or (H', W').
        vmax: The value of the first of these maps that is drawn with the strongest colour.
        spans: Where these maps lie on the picture, as :func:`keras_gradcam.grids.upsample` takes it.
        wrong: Whether to mark the picture in red, as one with a wrong prediction.
        partner: The picture that this one is compared with, or None.
    """

    picture: np.ndarray
    caption: tuple[str, ...] = ()
    short: tuple[str, ...] = ()
    cams: Mapping[str, np.ndarray] = field(default_factory=dict)
    gradients: Mapping[str, np.ndarray] = field(default_factory=dict)
    vmax: float = 0.0
    spans: Spans = None
    wrong: bool = False
    partner: Frame | None = None

    @property
    def gradcam(self) -> np.ndarray | None:
        """The map that is laid on the picture, or None."""
        return next(iter(self.cams.values()), None)


def gradcam_cell(frame: Frame, size: tuple[int, int], style: Style) -> np.ndarray:
    """Draws the overlay of a frame at ``size``, with a note if the map is zero, faint or not finite."""
    assert frame.gradcam is not None
    picture = overlay(resized(frame.picture, size), frame.gradcam, frame.vmax, style, frame.spans)
    note = remark(frame.gradcam, frame.vmax)
    return labelled(picture, note) if note else picture


def cell(frame: Frame, style: Style) -> np.ndarray:
    """Draws the overlay of a frame, or its picture if there is no map; beside it that of its partner, equally high."""
    size = cell_size(*frame.picture.shape[:2])
    drawn = [_drawn(frame, size, style)]
    if frame.partner is not None:
        height, width = frame.partner.picture.shape[:2]
        drawn.append(np.full((size[0], _PAIR_GAP, 3), 255, np.uint8))
        drawn.append(_drawn(frame.partner, (size[0], max(1, round(width * size[0] / height))), style))
    return np.concatenate(drawn, axis=1)


def _drawn(frame: Frame, size: tuple[int, int], style: Style) -> np.ndarray:
    return resized(frame.picture, size) if frame.gradcam is None else gradcam_cell(frame, size, style)


def title_partner(canvas: Canvas, frame: Frame, y: int, x: int, width: int) -> None:
    """Writes "partner" above the partner's picture in a cell of ``width`` pixels."""
    if frame.partner is not None:
        left = cell_size(*frame.picture.shape[:2])[1] + _PAIR_GAP
        canvas.text(x + left, y, shortened("partner", width - left), FAINT)


def spacing(frames: Sequence[Frame]) -> tuple[int, int]:
    """Returns the height above cells and the width between them; cells with partners get a title and a wider gap."""
    return (0, _GAP) if all(frame.partner is None for frame in frames) else (LINE, 4 * _GAP)


def panel(frame: Frame, style: Style | None = None, drawn: np.ndarray | None = None) -> np.ndarray:
    """Draws a picture and all its maps in a row, with the caption below.

    A wrong prediction gets a thin red frame. A partner stands on the right with its own overlay.

    Args:
        frame: The picture, its maps and its caption.
        style: How maps are drawn.
        drawn: What :func:`cell` has drawn of the frame, where it has already.

    Returns:
        uint8 (H, W, 3).
    """
    style = style or Style()
    cells = _titled_cells(frame, style, drawn)
    tops = {title: f"{_vmax(frame, number):.2g}" for number, title in enumerate(frame.cams)}
    height, width = max(len(part) for _, part in cells), sum(part.shape[1] + _GAP for _, part in cells) - _GAP
    lines = flowed(frame.caption, width)
    canvas = Canvas(height + LINE * (1 + len(lines)) + 2 * MARGIN + 4, width + 2 * MARGIN)
    left = MARGIN
    for title, part in cells:
        width = part.shape[1]
        top = tops.get(title, "")
        if top and width >= 2 * bar_width(top):
            width -= bar_width(top) + _GAP
            canvas.colour_bar(left + part.shape[1], MARGIN, color_table(style.colormap), top)
        canvas.text(left, MARGIN, shortened(title, width), FAINT)
        canvas.paste(part, MARGIN + LINE, left)
        left += part.shape[1] + _GAP
    for index, line in enumerate(lines):
        canvas.text(MARGIN, MARGIN + LINE * (1 + index) + height + 4, line)
    if frame.wrong:
        canvas.border(WRONG)
    return canvas.picture()


def _titled_cells(frame: Frame, style: Style, drawn: np.ndarray | None) -> list[tuple[str, np.ndarray]]:
    """Draws the cells of a panel, from left to right, each with its title."""
    size = cell_size(*frame.picture.shape[:2])
    cells = [("picture", resized(frame.picture, size))]
    for number, (title, cam) in enumerate(frame.cams.items()):
        if drawn is not None and not number:
            cells.append((title, drawn[:, : size[1]]))
            continue
        single = replace(frame, cams={title: cam}, vmax=_vmax(frame, number))
        cells.append((title, gradcam_cell(single, size, style)))
    for title, gradient in frame.gradients.items():
        cells.append((title, resized(relief(gradient), size)))
    if frame.partner is not None:
        partner_size = cell_size(*frame.partner.picture.shape[:2])
        cells.append(("partner", resized(frame.partner.picture, partner_size)))
        for title in frame.partner.cams:
            cells.append((f"partner's {title}", gradcam_cell(frame.partner, partner_size, style)))
    return cells


def _vmax(frame: Frame, number: int) -> float:
    """Returns the scale of a map: values of different methods cannot be compared, so that each has its own."""
    return float(np.nan_to_num(list(frame.cams.values())[number]).max(initial=0)) if number else frame.vmax


def overview(
    frames: Sequence[Frame], title: str = "", style: Style | None = None, drawn: Sequence[np.ndarray] | None = None
) -> np.ndarray:
    """Draws the overlays of many pictures as one grid, at most 4096 pixels wide.

    Args:
        frames: The pictures with their maps.
        title: Written above the grid.
        style: How maps are drawn.
        drawn: What :func:`cell` has drawn of each frame, where it has already.

    Returns:
        uint8 (H, W, 3).
    """
    cells = drawn or [cell(frame, style or Style()) for frame in frames]
    height, width = max(len(picture) for picture in cells), max(picture.shape[1] for picture in cells)
    head, gap = spacing(frames)
    columns = min(max(math.ceil(math.sqrt(len(frames) * height / width)), min(len(frames), 4)), 4096 // (width + gap))
    texts = [[shortened(line, width) for line in frame.short] for frame in frames]
    row = head + height + LINE * max(len(lines) for lines in texts) + _GAP
    top = MARGIN + (LINE if title else 0)
    rows = math.ceil(len(frames) / columns)
    canvas = Canvas(top + rows * row + MARGIN, 2 * MARGIN + columns * (width + gap) - gap)
    whole = columns * (width + gap) - gap
    if title and frames[0].gradcam is not None and whole >= 2 * bar_width(_PEAK):
        canvas.colour_bar(MARGIN + whole, MARGIN, color_table((style or Style()).colormap), _PEAK)
        whole -= bar_width(_PEAK) + _GAP
    canvas.text(MARGIN, MARGIN, shortened(title, whole))
    for index, (frame, picture) in enumerate(zip(frames, cells, strict=True)):
        y, x = top + index // columns * row, MARGIN + index % columns * (width + gap)
        title_partner(canvas, frame, y, x, picture.shape[1])
        y += head
        canvas.paste(picture, y, x)
        if frame.wrong:
            canvas.border(WRONG, (y, x, *picture.shape[:2]))
        for line, text in enumerate(texts[index]):
            canvas.text(x, y + len(picture) + 2 + line * LINE, text, WRONG if frame.wrong else INK)
    return canvas.picture()
