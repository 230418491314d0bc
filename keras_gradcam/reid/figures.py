"""Pictures for a report: ranked lists and pairs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..drawing.canvas import FAINT, INK, LINE, RIGHT, WRONG, Canvas, shortened
from ..drawing.panels import Frame, gradcam_cell
from ..drawing.pixels import Style, cell_size, displayed
from ..errors import ArgumentError
from .ranking import RankList
from .similarity import SimilarityMaps

_GAP, _MARGIN = 8, 10

#: Between a query and its list.
_APART = 28

#: Between the two pictures of a pair; lines cross it.
_BETWEEN = 96

#: How far apart lines are half way that would run together.
_LANE = 9

#: What the maps of a list are.
_FORMS = {"exact": "maps: exact shares", "gradient": "maps: gradient"}


def rank_figure(lists: RankList | Sequence[RankList], style: Style | None = None) -> np.ndarray:
    """Draws queries with the first of their lists: the map on each, right ones framed green, wrong ones red.

    The maps of a list share one scale, so that they can be compared; the query's map has its own. Below the query
    stands whether they are exact shares of the similarity or Grad-CAM of the score.

    Args:
        lists: Of :func:`keras_gradcam.reid.rank`, one or several; each is a row.
        style: How maps are drawn.

    Returns:
        uint8 (H, W, 3).

    Raises:
        ValueError: If there is no list.
    """
    rows = [lists] if isinstance(lists, RankList) else list(lists)
    if not rows:
        raise ArgumentError("lists", "hold at least one", "none", "rank(..., explain=3).explained")
    style = style or Style()
    size = cell_size(*rows[0].query.shape[:2])
    step = size[1] + _GAP
    width = 2 * _MARGIN + size[1] + _APART + max(len(row.pictures) for row in rows) * step - _GAP
    below = size[0] + 2 * LINE + 4
    canvas = Canvas(2 * _MARGIN + len(rows) * (LINE + below + _GAP) - _GAP, width)
    for number, row in enumerate(rows):
        y = _MARGIN + number * (LINE + below + _GAP)
        if row.query.shape == row.pictures.shape[1:]:  # one rule for all, so that they can be compared
            query, *pictures = displayed(np.concatenate([row.query[None], row.pictures]))
        else:
            (query,), pictures = displayed(row.query[None]), list(displayed(row.pictures))
        canvas.text(_MARGIN, y, shortened(f"query {row.index}", size[1]), FAINT)
        canvas.paste(_overlay(query, row.query_map, _top(row.query_map), size, style), y + LINE, _MARGIN)
        canvas.text(_MARGIN, y + LINE + size[0] + 2, shortened(f"id {row.identity}", size[1]))
        top = _top(row.maps)
        for place, picture in enumerate(pictures):
            x = _MARGIN + size[1] + _APART + place * step
            color = RIGHT if row.correct[place] else WRONG
            canvas.text(x, y, f"{place + 1}", FAINT)
            canvas.paste(_overlay(picture, row.maps[place], top, size, style), y + LINE, x)
            canvas.border(color, (y + LINE, x, *size))
            said = f"id {row.identities[place]}", _score(row, place)
            for line, text in enumerate(said):
                canvas.text(x, y + LINE * (1 + line) + size[0] + 2, shortened(text, size[1]), color)
        said_of_maps = shortened(_FORMS[row.form], size[1] + _APART - _GAP)
        canvas.text(_MARGIN, y + LINE * 2 + size[0] + 2, said_of_maps, FAINT)
    return canvas.picture()


def pair_figure(
    a: np.ndarray, b: np.ndarray, maps: SimilarityMaps, count: int = 5, style: Style | None = None
) -> np.ndarray:
    """Draws pairs of pictures with their maps and the strongest matches of cells as lines, as wide as their share.

    Each cell belongs to one line at most; lines that run together part half way.

    Both maps of a pair share one scale.

    Args:
        a: The first pictures, as given to :func:`keras_gradcam.reid.similarity_maps`: (N, H, W, C), or (H, W, C).
        b: The second pictures.
        maps: Of these pairs; those of the gradient form have no matches and so no lines.
        count: How many lines.
        style: How maps are drawn.

    Returns:
        uint8 (H, W, 3); each pair is a row.

    Raises:
        ValueError: If there is not a picture for every map.
    """
    a, b = (np.asarray(one)[None] if np.ndim(one) == 3 else np.asarray(one) for one in (a, b))
    if not len(a) == len(b) == len(maps):
        raise ValueError(f"`a` and `b` must have one picture per map. Received: {len(a)}, {len(b)} and {len(maps)}.")
    style = style or Style()
    shown = displayed(a), displayed(b)
    sizes = [cell_size(*pictures.shape[1:3]) for pictures in shown]
    height = max(size[0] for size in sizes)
    row = LINE + height + LINE + 4 + _GAP
    canvas = Canvas(2 * _MARGIN + len(a) * row - _GAP, 2 * _MARGIN + sizes[0][1] + _BETWEEN + sizes[1][1])
    right = _MARGIN + sizes[0][1] + _BETWEEN
    for number in range(len(a)):
        y = _MARGIN + number * row
        map_a, map_b = maps.map_a[number], maps.map_b[number]
        top = _top(np.concatenate([map_a.ravel(), map_b.ravel()]))
        canvas.text(_MARGIN, y, f"similarity {maps.similarity[number]:.3f}")
        canvas.paste(_overlay(shown[0][number], map_a, top, sizes[0], style), y + LINE, _MARGIN)
        canvas.paste(_overlay(shown[1][number], map_b, top, sizes[1], style), y + LINE, right)
        if maps.matrix is None:
            continue
        (matches,) = maps[number].matches(count, once=True)
        strongest = matches[0][2] if matches else 1.0
        ends = [
            (
                _centre(cell_a, map_a.shape, sizes[0], (y + LINE, _MARGIN)),
                _centre(cell_b, map_b.shape, sizes[1], (y + LINE, right)),
            )
            for cell_a, cell_b, _ in matches
        ]
        edges = _MARGIN + sizes[0][1], right
        bows = _bows([(_height(*line, edges[0]), _height(*line, edges[1])) for line in ends])
        for (start, end), (*_, share), bow in reversed(list(zip(ends, matches, bows, strict=True))):
            canvas.link(start, end, width=1 + 2 * share / strongest, bow=bow)
        for point in (point for pair in ends for point in pair):
            canvas.dot(point)
        total = sum(share for *_, share in matches)
        foot = f"{len(matches)} of {map_a.size * map_b.size} pairs of cells: {total:.3f}"
        canvas.text(_MARGIN, y + LINE + height + 2, foot, INK)
    return canvas.picture()


def _overlay(picture: np.ndarray, one: np.ndarray, top: float, size: tuple[int, int], style: Style) -> np.ndarray:
    return gradcam_cell(Frame(picture, gradcam=one, vmax=top), size, style)


def _top(maps: np.ndarray) -> float:
    return float(np.nan_to_num(maps).max(initial=0))


def _score(row: RankList, place: int) -> str:
    score = row.similarities[place]
    return f"{score:.3f}" if row.metric == "cosine" else f"{0 - score:.3f} apart"


def _bows(lines: Sequence[tuple[float, float]]) -> list[float]:
    """How far to bend each line, so that those that run together part half way.

    Args:
        lines: Where each leaves the first picture and where it reaches the second one, from above.
    """
    bundles: list[list[int]] = []
    for number, line in enumerate(lines):
        near = (one for one in bundles if np.abs(np.subtract(lines[one[0]], line)).max() < _LANE)
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
    """Where a straight line crosses a column."""
    return start[1] + (end[1] - start[1]) * (x - start[0]) / (end[0] - start[0])


def _centre(
    cell: tuple[int, int], grid: Sequence[int], size: tuple[int, int], corner: tuple[int, int]
) -> tuple[float, float]:
    """The middle of a cell, (x, y) on the canvas."""
    y, x = ((place + 0.5) * extent / cells for place, extent, cells in zip(cell, size, grid, strict=True))
    return corner[1] + x, corner[0] + y
