"""The files of one explained picture."""

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
from ..inputs.pictures import LARGEST

# The longer side of a panel's cell is between these.
_CELL_MIN, _CELL_MAX = 192, 256

# Names longer than this are shortened in captions.
_NAME_LENGTH = 28


@dataclass(frozen=True, eq=False)
class Result:
    """One picture, explained for one or several classes.

    Attributes:
        shown: uint8 (H, W, 3), to draw on.
        maps: For each explained class the raw map of every method.
        captions: For each explained class what is written below its maps.
        arrays: Name to array: what is stored beside the maps.
    """

    shown: np.ndarray
    maps: Sequence[Mapping[str, np.ndarray]]
    captions: Sequence[tuple[str, ...]]
    arrays: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Format:
    """A kind of result.

    Attributes:
        largest: Of the longer side of what the model takes to that of the pictures that are drawn on, at most.
        suffixes: Of the methods and the number of classes to the endings of the files' names.
        contents: The files, one for each ending.
    """

    largest: Callable[[int], int]
    suffixes: Callable[[Sequence[str], int], list[str]]
    contents: Callable[[Result, Style], list[bytes]]


def _in_a_cell(taken: int) -> int:
    """Where cells may be as large as what the model takes, maps of that size need not grow by odd factors."""
    return taken if _CELL_MIN <= taken <= _CELL_MAX else _CELL_MAX


def _panel(result: Result, style: Style) -> list[bytes]:
    rows = [panel(_frame(result, place), style) for place in range(len(result.maps))]
    return [encoded(np.concatenate(_equally_wide(rows)))]


def _frame(result: Result, place: int) -> Frame:
    frame = build_frame(result.maps[place], result.shown)
    vmax = () if frame.gradcam is None else (f"top {frame.vmax:.3g}",)
    return replace(frame, caption=(*result.captions[place], *vmax))


def _equally_wide(rows: Sequence[np.ndarray]) -> list[np.ndarray]:
    width = max(row.shape[1] for row in rows)
    return [np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0)), constant_values=255) for row in rows]


def _separate(result: Result, style: Style) -> list[bytes]:
    drawn = []
    for maps in result.maps:
        for name, array in maps.items():
            if name in CAMS:
                frame = build_frame({name: array}, result.shown)
                drawn.append(encoded(gradcam_cell(frame, result.shown.shape[:2], style)))
            else:
                height, width = result.shown.shape[:2]
                picture = Image.fromarray(relief(array)).resize((width, height), Image.Resampling.BILINEAR)
                drawn.append(encoded(np.asarray(picture)))
    return drawn


def _separate_suffixes(methods: Sequence[str], places: int) -> list[str]:
    ranks = [""] if places == 1 else [f".top{place}" for place in range(1, places + 1)]
    return [f"{rank}.{method}.png" for rank in ranks for method in methods]


def _npz(result: Result, style: Style) -> list[bytes]:
    buffer = io.BytesIO()
    stacked = {name: np.stack([maps[name] for maps in result.maps]) for name in result.maps[0]}
    np.savez_compressed(buffer, **stacked, **result.arrays)  # type: ignore[arg-type]
    return [buffer.getvalue()]


#: The kinds of results by the names they have on the command line.
FORMATS = {
    "panel": Format(_in_a_cell, lambda methods, places: [".png"], _panel),
    "separate": Format(lambda _: LARGEST, _separate_suffixes, _separate),
    "npz": Format(lambda _: 1, lambda methods, places: [".npz"], _npz),
}


def shortened(name: str) -> str:
    """A class name cut in the middle."""
    if len(name) <= _NAME_LENGTH:
        return name
    return f"{name[: _NAME_LENGTH // 2]}…{name[-(_NAME_LENGTH // 2 - 1) :]}"
