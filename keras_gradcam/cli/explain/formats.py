"""The files that are written of one explained picture: ``--format``."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from ...attribution.explanation import build_frame
from ...attribution.methods.names import CAMS
from ...drawing.panels import Frame, gradcam_cell, panel
from ...drawing.pixels import Style, encoded, relief
from ...grids import Spans
from ...pictures.decoding import LARGEST

# The longer side of a panel's cell is between these.
_CELL_MIN, _CELL_MAX = 192, 256


@dataclass(frozen=True, eq=False)
class Result:
    """One picture, explained for one or several classes.

    Attributes:
        shown: uint8 (H, W, 3), the picture to draw on.
        maps: For each explained class the raw map of every method.
        captions: For each explained class the texts below its maps.
        arrays: Name to array: what is stored beside the maps.
        spans: Where the maps on a layer's grid lie on the picture.
    """

    shown: np.ndarray
    maps: Sequence[Mapping[str, np.ndarray]]
    captions: Sequence[tuple[str, ...]]
    arrays: Mapping[str, np.ndarray]
    spans: Spans = None


@dataclass(frozen=True)
class Format:
    """A kind of result.

    Attributes:
        largest: Returns the maximum length of the longer side of the pictures that are drawn on, given that of the
            pictures that the model takes.
        suffixes: Returns the endings of the files' names, given the methods and the number of explained classes.
        contents: Returns the contents of the files, in the same order.
    """

    largest: Callable[[int], int]
    suffixes: Callable[[Sequence[str], int], list[str]]
    contents: Callable[[Result, Style], list[bytes]]


def _cell_extent(model_extent: int) -> int:
    """Returns the model's own extent where a cell may have it: maps need not be scaled by odd factors then."""
    return model_extent if _CELL_MIN <= model_extent <= _CELL_MAX else _CELL_MAX


def _panel(result: Result, style: Style) -> list[bytes]:
    rows = [panel(_frame(result, rank), style) for rank in range(len(result.maps))]
    return [encoded(np.concatenate(_equally_wide(rows)))]


def _frame(result: Result, rank: int) -> Frame:
    frame = build_frame(result.maps[rank], result.shown, spans=result.spans)
    vmax = () if frame.gradcam is None else (f"top {frame.vmax:.3g}",)
    return replace(frame, caption=(*result.captions[rank], *vmax))


def _equally_wide(rows: Sequence[np.ndarray]) -> list[np.ndarray]:
    width = max(row.shape[1] for row in rows)
    return [np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0)), constant_values=255) for row in rows]


def _separate(result: Result, style: Style) -> list[bytes]:
    drawn = []
    for maps in result.maps:
        for name, array in maps.items():
            if name in CAMS:
                frame = build_frame({name: array}, result.shown, spans=result.spans)
                drawn.append(encoded(gradcam_cell(frame, result.shown.shape[:2], style)))
            else:
                height, width = result.shown.shape[:2]
                picture = Image.fromarray(relief(array)).resize((width, height), Image.Resampling.BILINEAR)
                drawn.append(encoded(np.asarray(picture)))
    return drawn


def _separate_suffixes(methods: Sequence[str], num_classes: int) -> list[str]:
    ranks = [""] if num_classes == 1 else [f".top{rank}" for rank in range(1, num_classes + 1)]
    return [f"{rank}.{method}.png" for rank in ranks for method in methods]


def _npz(result: Result, style: Style) -> list[bytes]:
    buffer = io.BytesIO()
    stacked = {name: np.stack([maps[name] for maps in result.maps]) for name in result.maps[0]}
    spans = {} if result.spans is None else {"spans": np.array(result.spans)}
    np.savez_compressed(buffer, **stacked, **result.arrays, **spans)  # type: ignore[arg-type]
    return [buffer.getvalue()]


#: The kinds of results by their names on the command line.
FORMATS = {
    "panel": Format(_cell_extent, lambda methods, num_classes: [".png"], _panel),
    "separate": Format(lambda _: LARGEST, _separate_suffixes, _separate),
    "npz": Format(lambda _: 1, lambda methods, num_classes: [".npz"], _npz),
}
