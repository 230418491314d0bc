"""The arithmetic of places on the input, with numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from keras_gradcam.engine.places import (
    Layout,
    Lost,
    fitted,
    interpolated,
    joined,
    layout,
    mean_of_channels,
    mean_of_present,
    spread,
)
from keras_gradcam.grids import Placement

NAN = np.nan


def row(*places):
    """Places along the height of a picture, one pixel broad."""
    height = np.array(places, float).reshape(1, -1, 1, 1)
    return np.stack([height, 0 * height + 0.5, 0 * height + 1.5])


def down(places):
    return places[0].ravel().tolist()


def test_the_mean_leaves_out_what_says_nothing():
    gate = row(4, 4, 4)
    assert down(joined([row(1, 2, 3), row(3, 4, 5)])) == [2, 3, 4]
    assert down(joined([row(1, 2, 3), gate])) == [1, 2, 3]
    assert down(joined([gate, row(2, 2, 2)])) == [3, 3, 3]
    assert down(joined([row(1, NAN, 3), row(3, 7, NAN)])) == [2, 7, 3]
    assert_allclose(mean_of_present(np.array([[1, NAN], [NAN, NAN]]), 0), [1, NAN])


def test_channels_that_see_everything_say_nothing_beside_others():
    places = np.concatenate([row(1, 2, 3), row(3, 4, 5), row(9, 9, 9)], axis=-1)
    assert mean_of_channels(places)[0].ravel().tolist() == [2, 3, 4]


@pytest.mark.parametrize(
    ("places", "count", "reach", "expected"),
    [
        ((0.5, 1.5, 2.5, 3.5), 2, 0, [1, 3]),
        ((0.5, 1.5, 2.5, 3.5), 4, 0, [0.5, 1.5, 2.5, 3.5]),
        ((1, 3), 4, 0, [0.5, 1.5, 2.5, 3.5]),
        # The window of three uses one cell of padding on each side up.
        ((NAN, 0.5, 1.5, 2.5, 3.5, NAN), 4, 2, [0.5, 1.5, 2.5, 3.5]),
        # Padding at the end alone, as MobileNet has it.
        ((0.5, 1.5, 2.5, 3.5, NAN), 2, 2, [1, 3]),
        # Two cells on each side, of which one is used up.
        ((NAN, NAN, 0.5, 1.5, NAN, NAN), 4, 2, [NAN, 0.5, 1.5, NAN]),
        # The operation pads by itself, and uses no padding up.
        ((NAN, 0.5, 1.5, NAN), 4, 0, [NAN, 0.5, 1.5, NAN]),
    ],
)
def test_cells_are_spread_over_what_a_window_is_applied_to(places, count, reach, expected):
    assert_allclose(down(spread(row(*places), 2, count, reach)), expected)


def test_places_between_cells_and_beyond_them():
    assert down(interpolated(row(1, 3, 5), 2, np.array([-1, 0.5, 2.5]))) == [-1, 2, 6]


def test_one_cell_laid_out_stays_in_one_place():
    (height, *_) = spread(row(23.7), 2, 31, 0)
    assert height.size == 31
    assert (height == 23.7).all()


def grid(rows, columns, channel=0.0):
    down, across = np.meshgrid(np.array(rows, float), np.array(columns, float), indexing="ij")
    return np.stack([down, across, np.full_like(down, channel)])


@pytest.mark.parametrize(
    ("cells", "placement"),
    [
        (grid([2, 6], [1, 3, 5]), Placement((0, 1), ((0.0, 1.0), (0.0, 1.0)))),
        (grid([6, 2], [1, 3, 5]), Placement((0, 1), ((1.0, 0.0), (0.0, 1.0)))),
        (grid([2, 6], [1, 3, 5]).swapaxes(1, 2), Placement((1, 0), ((0.0, 1.0), (0.0, 1.0)))),
        (grid([3, 5], [1, 3, 5]), Placement((0, 1), ((0.25, 0.75), (0.0, 1.0)))),
        (grid([-2, 2, 6], [1, 3, 5]), Placement((0, 1), ((-0.5, 1.0), (0.0, 1.0)))),
        (grid([2.5, 6.5], [1, 3, 5]), Placement((0, 1), ((0.0, 1.0), (0.0, 1.0)))),  # a quarter of a cell off at most
        (grid([NAN, 2, 6], [1, 3, 5]), Placement((0, 1), ((-0.5, 1.0), (0.0, 1.0)))),
        (grid([4], [1, 3, 5]), Placement((0, 1), ((0.0, 1.0), (0.0, 1.0)))),
        (grid([2, 2, 6, 6], [1, 3, 5]), Placement((0, 1), ((0.0, 1.0), (0.0, 1.0)))),  # each row enlarged to two
        (grid([2], [1, 3, 5]), Placement((0, 1), ((0.0, 0.5), (0.0, 1.0)))),
        (grid([4, 4], [1, 3, 5]), None),  # two rows in one place
        (grid([1, 5, 7], [1, 3, 5]), None),
        (grid([2, 6], [1, 3, 5]) + np.array([[0, 0, 0], [0, 0, 3]])[None], None),
    ],
)
def test_cells_on_a_regular_grid(cells, placement):
    result = fitted(cells, (8, 6, 3))
    if placement is None:
        assert result is None
    else:
        assert result.axes == placement.axes
        assert_allclose(result.spans, placement.spans)


def test_layout_of_a_map_of_tokens_and_of_what_has_no_place():
    size = (8, 6, 3)
    cells = grid([2, 6], [1, 3, 5])
    assert layout((2, 3), cells[:, None, ..., None], size) == Layout((2, 3), Placement.whole(2))
    extra = np.full((3, 1), NAN)
    tokens = np.concatenate([extra, cells.reshape(3, -1), extra, extra], axis=1)
    assert layout((9,), tokens[:, None, :, None], size) == Layout((2, 3), Placement.whole(2), 1)
    assert layout((2, 3), Lost("somewhere"), size) == Layout((2, 3), Lost("somewhere"))
    assert layout((2, 3), None, size) == Layout((2, 3), Placement.whole(2))
    twice = np.repeat(cells[:, None, ..., None], 2, axis=1)
    assert "batch" in layout((2, 3), twice, size).placement.reason
    # Places that say nothing: the last tokens, on a grid with the proportions of the input.
    same = np.full((3, 1, 13, 1), 4.0)
    guessed = layout((13,), same, size)
    assert (guessed.grid, guessed.first) == ((4, 3), 1)
    assert isinstance(guessed.placement, Lost)
