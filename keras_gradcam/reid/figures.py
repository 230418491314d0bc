"""Figures of ranked lists and of pairs of pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..drawing.canvas import FAINT, INK, LINE, RIGHT, WRONG, Canvas, shortened
from ..drawing.panels import Frame, gradcam_cell
from ..drawing.pixels import Style, StyleLike, as_style, cell_size, displayed
from ..errors import ArgumentError, as_numpy, check_list, check_numbers, check_type, check_whole_number, described
from ..grids import Spans, cell_edges
from .ranking import RankList
from .similarity import SimilarityMaps

_GAP, _MARGIN = 8, 10

#: Between a query and its list.
_APART = 28

#: Between the two pictures of a pair; lines cross it.
_BETWEEN = 96

#: How far apart, half way, lines are drawn that would run together.
_LANE = 9

_LISTS = "be one or several lists that were explained"

#: What the maps of a list are.
_FORMS = {"exact": "maps: exact shares", "gradient": "maps: gradient"}


def rank_figure(lists: RankList | Sequence[RankList], style: StyleLike = None) -> np.ndarray:
    """Draws queries with the first of their lists: the map on each, right ones framed green, wrong ones red.

    The maps of a list share one scale, so that they can be compared; the query's map has its own. Below the query
    stands whether they are exact shares of the similarity or Grad-CAM of the score.

    Args:
        lists: One or several, as :func:`keras_gradcam.reid.rank` explains them; each is a row.
        style: How maps are drawn.

    Returns:
        uint8 (H, W, 3).

    Raises:
        ArgumentError: If there is no list.
    """
    style = as_style(style)
    rows = [lists] if isinstance(lists, RankList) else list(check_list("lists", lists, _LISTS))
    if not all(isinstance(row, RankList) for row in rows):
        raise ArgumentError("lists", _LISTS, described(lists), "rank(..., explain=3).explained")
    if not rows:
        raise ArgumentError("lists", "hold at least one", "none", "rank(..., explain=3).explained")
    size = cell_size(*rows[0].query.shape[:2])
    columns = max(len(row.pictures) for row in rows)
    width = 2 * _MARGIN + size[1] + _APART + columns * (size[1] + _GAP) - _GAP
    height = LINE + size[0] + 2 * LINE + 4 + _GAP
    canvas = Canvas(2 * _MARGIN + len(rows) * height - _GAP, width)
    for number, row in enumerate(rows):
        _draw_list(canvas, row, _MARGIN + number * height, size, style)
    return canvas.picture()


def _draw_list(canvas: Canvas, row: RankList, y: int, size: tuple[int, int], style: Style) -> None:
    """Draws a query and its list from row ``y`` of the canvas on."""
    if row.query.shape == row.pictures.shape[1:]:  # one rule for all, so that they can be compared
        query, *pictures = displayed(np.concatenate([row.query[None], row.pictures]))
    else:
        (query,), pictures = displayed(row.query[None]), list(displayed(row.pictures))
    below = y + LINE + size[0] + 2
    canvas.text(_MARGIN, y, shortened(f"query {row.index}", size[1]), FAINT)
    canvas.paste(_overlay(query, row.query_map, _vmax(row.query_map), size, style, row.spans), y + LINE, _MARGIN)
    canvas.text(_MARGIN, below, shortened(f"id {row.identity}", size[1]))
    canvas.text(_MARGIN, below + LINE, shortened(_FORMS[row.form], size[1] + _APART - _GAP), FAINT)
    vmax = _vmax(row.maps)
    for rank, picture in enumerate(pictures):
        x = _MARGIN + size[1] + _APART + rank * (size[1] + _GAP)
        color = RIGHT if row.correct[rank] else WRONG
        canvas.text(x, y, f"{rank + 1}", FAINT)
        canvas.paste(_overlay(picture, row.maps[rank], vmax, size, style, row.spans), y + LINE, x)
        canvas.border(color, (y + LINE, x, *size))
        for line, text in enumerate((f"id {row.identities[rank]}", _score(row, rank))):
            canvas.text(x, below + LINE * line, shortened(text, size[1]), color)


def pair_figure(
    a: np.ndarray, b: np.ndarray, maps: SimilarityMaps, count: int = 5, style: StyleLike = None
) -> np.ndarray:
    """Draws pairs of pictures with their maps and the strongest matches of cells as lines, as wide as their share.

    Each cell belongs to one line at most; lines that run together part half way.

    Both maps of a pair share one scale.

    Args:
        a: The first pictures, as given to :func:`keras_gradcam.reid.similarity_maps`: (N, H, W, C), or (H, W, C).
        b: The second pictures.
        maps: The maps of these pairs; the gradient form has no matches and so no lines.
        count: How many lines.
        style: How maps are drawn.

    Returns:
        uint8 (H, W, 3); each pair is a row.

    Raises:
        ArgumentError: If there is not a picture for every map.
    """
    style = as_style(style)
    check_whole_number("count", count, 0)
    check_type("maps", maps, SimilarityMaps, "be those of similarity_maps", "similarity_maps(model, a, b)")
    a, b = _pictures("a", a), _pictures("b", b)
    if not len(a) == len(b) == len(maps):
        raise ArgumentError("a", "have, like `b`, one picture per map", f"{len(a)}, {len(b)} and {len(maps)}")
    shown = displayed(a), displayed(b)
    sizes = [cell_size(*pictures.shape[1:3]) for pictures in shown]
    height = max(size[0] for size in sizes) + 2 * LINE + 4 + _GAP
    canvas = Canvas(2 * _MARGIN + len(a) * height - _GAP, 2 * _MARGIN + sizes[0][1] + _BETWEEN + sizes[1][1])
    for number, pictures in enumerate(zip(*shown, strict=True)):
        _draw_pair(canvas, pictures, maps[number], count, _MARGIN + number * height, sizes, style)
    return canvas.picture()


def _pictures(name: str, value: Any) -> np.ndarray:
    """Returns pictures (N, H, W, C) as they were given, of one picture too."""
    axes = check_numbers(name, value).ndim
    pictures = as_numpy(value)[None] if axes == 3 else as_numpy(value)
    if pictures.ndim != 4 or 0 in pictures.shape:
        raise ArgumentError(name, "be pictures, (N, H, W, C) or (H, W, C)", f"shape {pictures.shape}")
    return pictures


def _draw_pair(
    canvas: Canvas,
    pictures: tuple[np.ndarray, np.ndarray],
    maps: SimilarityMaps,
    count: int,
    y: int,
    sizes: Sequence[tuple[int, int]],
    style: Style,
) -> None:
    """Draws a pair of pictures and the lines between them from row ``y`` of the canvas on."""
    map_a, map_b = maps.map_a[0], maps.map_b[0]
    vmax = _vmax(np.concatenate([map_a.ravel(), map_b.ravel()]))
    left, right, top = _MARGIN, _MARGIN + sizes[0][1] + _BETWEEN, y + LINE
    canvas.text(left, y, f"similarity {maps.similarity[0]:.3f}")
    canvas.paste(_overlay(pictures[0], map_a, vmax, sizes[0], style, maps.spans_a), top, left)
    canvas.paste(_overlay(pictures[1], map_b, vmax, sizes[1], style, maps.spans_b), top, right)
    if maps.matrix is None:
        return
    (matches,) = maps.matches(count, once=True)
    strongest = matches[0][2] if matches else 1.0
    ends = [
        (
            _centre(cell_a, map_a.shape, sizes[0], (top, left), maps.spans_a),
            _centre(cell_b, map_b.shape, sizes[1], (top, right), maps.spans_b),
        )
        for cell_a, cell_b, _ in matches
    ]
    edges = left + sizes[0][1], right
    bows = _bows([(_height(*line, edges[0]), _height(*line, edges[1])) for line in ends])
    for (start, end), (*_, share), bow in reversed(list(zip(ends, matches, bows, strict=True))):
        canvas.link(start, end, width=1 + 2 * share / strongest, bow=bow)
    for point in (point for pair in ends for point in pair):
        canvas.dot(point)
    total = sum(share for *_, share in matches)
    summary = f"{len(matches)} of {map_a.size * map_b.size} pairs of cells: {total:.3f}"
    canvas.text(left, top + max(size[0] for size in sizes) + 2, summary, INK)


def _overlay(
    picture: np.ndarray, cam: np.ndarray, vmax: float, size: tuple[int, int], style: Style, spans: Spans
) -> np.ndarray:
    return gradcam_cell(Frame(picture, cams={"": cam}, vmax=vmax, spans=spans), size, style)


def _vmax(maps: np.ndarray) -> float:
    return float(np.nan_to_num(maps).max(initial=0))


def _score(row: RankList, rank: int) -> str:
    score = row.similarities[rank]
    return f"{score:.3f}" if row.metric == "cosine" else f"{0 - score:.3f} apart"


def _bows(lines: Sequence[tuple[float, float]]) -> list[float]:
    """Returns how far to bend each line, so that lines that run together part half way.

    Args:
        lines: Where each leaves the first picture and where it reaches the second one, from above.
    """
    bundles: list[list[int]] = []
    for number, line in enumerate(lines):
        near = (members for members in bundles if np.abs(np.subtract(lines[members[0]], line)).max() < _LANE)
        bundle = next(near, None)
        if bundle is None:
            bundles.append([number])
        else:
            bundle.append(number)
    bows = np.zeros(len(lines))
    for bundle in bundles:
        middles = np.mean([lines[number] for number in bundle], axis=1)
        lanes = np.argsort(np.argsort(middles, kind="stable")) - (len(bundle) - 1) / 2
        # Many lanes are narrower, so that they stay near their cells.
        bows[bundle] = middles.mean() + min(_LANE, 4 * _LANE / max(len(bundle) - 1, 1)) * lanes - middles
    return bows.tolist()


def _height(start: tuple[float, float], end: tuple[float, float], x: float) -> float:
    """Returns the y at which a straight line crosses column ``x``."""
    return start[1] + (end[1] - start[1]) * (x - start[0]) / (end[0] - start[0])


def _centre(
    cell: tuple[int, int], grid: Sequence[int], size: tuple[int, int], corner: tuple[int, int], spans: Spans
) -> tuple[float, float]:
    """Returns the middle of a cell, (x, y) on the canvas."""
    y, x = (
        cell_edges(cells, extent, span)[index : index + 2].mean()
        for index, cells, extent, span in zip(cell, grid, size, spans or ((0.0, 1.0), (0.0, 1.0)), strict=True)
    )
    return corner[1] + x, corner[0] + y
