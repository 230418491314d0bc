"""Shows results in notebooks: panels as a matplotlib figure or as HTML, words and numbers as Markdown."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np

from .pixels import encoded


def figure(panels: Sequence[np.ndarray]) -> Any:
    """Returns a matplotlib figure with panels, uint8 (H, W, 3), one below the other."""
    from matplotlib.figure import Figure

    width, height = max(panel.shape[1] for panel in panels), sum(panel.shape[0] for panel in panels)
    result = Figure(figsize=(width / 100, height / 100), dpi=100)
    bottom = 1.0
    for panel in panels:
        share = panel.shape[0] / height
        bottom -= share
        axes = result.add_axes((0, bottom, panel.shape[1] / width, share))
        axes.imshow(panel, interpolation="nearest", aspect="auto")
        axes.set_axis_off()
    return result


def html(panels: Sequence[np.ndarray], note: str) -> str:
    """Returns HTML with a note above panels, uint8 (H, W, 3), one below the other."""
    tags = [_tag(panel, f"sample {number}") for number, panel in enumerate(panels)]
    return f"<div>{escape(note)}</div>" + "".join(f"<div>{tag}</div>" for tag in tags)


class Pictures(np.ndarray):
    """An array that notebooks show as pictures, as long as it holds some: uint8 (H, W, 3) or (N, H, W, 3)."""

    def _repr_html_(self) -> str | None:
        if self.dtype != np.uint8 or self.ndim not in (3, 4) or self.shape[-1] != 3 or not self.size:
            return None
        plain = np.asarray(self)
        return html([plain] if self.ndim == 3 else list(plain), f"uint8 {self.shape}")


class Markdown(str):
    """A text that notebooks show as Markdown."""

    __slots__ = ()

    def _repr_markdown_(self) -> str:
        return str(self)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Writes a table as Markdown.

    Example:
        >>> print(table(["epoch", "focus"], [["0", "0.25"]]))
        | epoch | focus |
        |---|---|
        | 0 | 0.25 |
    """
    lines = [heads, *rows]
    drawn = [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines]
    return "\n".join([drawn[0], "|" + "---|" * len(heads), *drawn[1:]])


def _tag(picture: np.ndarray, alternative: str) -> str:
    content = base64.b64encode(encoded(picture)).decode()
    return f'<img alt="{escape(alternative)}" style="max-width:100%" src="data:image/png;base64,{content}">'
