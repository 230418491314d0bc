"""Mass inside regions and the pointing game against hand-made cases, pixels, and their samples one by one."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from models import convnet_in_sequence, images

from keras_gradcam import Explainer
from keras_gradcam.metrics.regions import bounds, mass_inside, pointing_game, region_mask

maps = arrays(np.float64, (3, 4), elements=st.integers(0, 6).map(float))
large_maps = arrays(np.float64, (5, 6), elements=st.integers(0, 4).map(float))
boxes = st.tuples(st.integers(0, 5), st.integers(0, 4), st.integers(1, 6), st.integers(1, 5)).map(
    lambda b: (b[0], b[1], min(b[0] + b[2], 6), min(b[1] + b[3], 5))
)


def drawn(*rows):
    """A map from rows of digits, a dot for zero."""
    return np.array([[float(cell.replace(".", "0")) for cell in row] for row in rows])


ROW = np.array([[0.0, 1.0, 2.0, 5.0]])
SPOT = drawn("....", ".9..", "....")  # its centre lies at (1.5, 1.5)


def points(*given_arguments, tolerance=1):
    return pointing_game(*given_arguments, tolerance=tolerance)


# --- mass inside ----------------------------------------------------------------------------------------------------


@given(a=maps, box=st.tuples(*[st.integers(0, 11)] * 4))
def test_mass_inside_counts_pixels(a, box):
    x0, x1 = sorted((box[0], box[2]))
    y0, y1 = min(box[1], box[3]) % 9, max(box[1], box[3]) % 9 + 1
    if x0 == x1 or y0 >= y1:
        return
    # 3 x 4 cells of 3 x 3 pixels each.
    pixels = np.kron(a, np.ones((3, 3)))
    expected = pixels[y0:y1, x0:x1].sum() / pixels.sum() if a.sum() else math.nan
    np.testing.assert_allclose(mass_inside(a, (x0, y0, x1, y1), (9, 12)), expected, atol=1e-12)
    mask = np.zeros((9, 12), bool)
    mask[y0:y1, x0:x1] = True
    np.testing.assert_allclose(mass_inside(a, mask, (9, 12)), expected, atol=1e-12)


def test_mass_inside_where_cells_and_pixels_do_not_line_up():
    # 2 cells over 3 pixels: the middle pixel is half in each.
    assert mass_inside(np.array([[1.0, 3.0]]), (1, 0, 2, 1), (1, 3)) == pytest.approx(1 / 3)


def test_mass_inside_by_hand():
    stack = np.stack([drawn("13", "22"), drawn("..", ".."), drawn("11", "11")])
    inside = mass_inside(stack, [(1, 0, 2, 2), (0, 0, 1, 1), np.array([[1, 0], [0, 0]])])
    np.testing.assert_allclose(inside.values, [5 / 8, np.nan, 1 / 4])
    assert inside.missing == 1
    coarse = mass_inside(stack[:1], [(2, 0, 6, 4)], input_size=(4, 8))
    np.testing.assert_allclose(coarse.values, [(0.5 * 3 + 0.5 * 5) / 8])


# --- the pointing game ----------------------------------------------------------------------------------------------


def test_single_maps_with_and_without_tolerance():
    spot = np.zeros((4, 4))
    spot[1, 2] = 1  # its centre is at x 10, y 6 of a 16 x 16 input
    assert pointing_game(spot, (8, 4, 12, 8), (16, 16), tolerance=0) == 1
    assert pointing_game(spot, (0, 4, 7, 8), (16, 16), tolerance=0) == 0
    assert pointing_game(spot, (0, 4, 7, 8), (16, 16), tolerance=2.9) == 0
    assert pointing_game(spot, (0, 4, 7, 8), (16, 16), tolerance=3) == 1
    assert pointing_game(spot, np.zeros((16, 16)), (16, 16), tolerance=99) == 0


@pytest.mark.parametrize(
    ("region", "tolerance", "expected"),
    [
        ((1, 1, 2, 2), 0, 1),
        ((3, 1, 4, 2), 0, 0),
        ((3, 1, 4, 2), 1.5, 1),
        ((3, 1, 4, 2), 1.49, 0),
        ((3, 0, 4, 1), 1.58, 0),  # 1.5 to the right and 0.5 up are 1.581 away
        ((3, 0, 4, 1), 1.59, 1),
        (drawn("...1", "....", "....") > 0, 1.59, 1),
    ],
)
def test_pointing_by_hand(region, tolerance, expected):
    assert pointing_game(SPOT[None], [region], tolerance=tolerance).values.tolist() == [expected]


def test_the_paper_allows_15_pixels():
    far = np.zeros((1, 40, 40))
    far[0, 0, 0] = 1
    assert pointing_game(far, [(15, 0, 20, 40)]).mean == 1
    assert pointing_game(far, [(16, 0, 20, 40)]).mean == 0


def test_of_several_maxima_the_first_counts_and_missing_maps_are_missing():
    stack = np.stack([drawn("9..9"), drawn("...."), drawn("1111"), drawn("...9"), np.full((1, 4), np.nan)])
    game = pointing_game(stack, [(3, 0, 4, 1)] * 5, tolerance=0)
    np.testing.assert_array_equal(game.values, [0, np.nan, np.nan, 1, np.nan])
    assert (game.mean, game.missing, len(game)) == (0.5, 3, 5)


@pytest.mark.parametrize("tolerance", [-1, math.nan, True])
def test_a_tolerance_that_is_none_is_refused(tolerance):
    with pytest.raises(ValueError, match=rf"`tolerance` must .*Received: {tolerance}"):
        pointing_game(SPOT[None], [(0, 0, 1, 1)], tolerance=tolerance)


# --- both -----------------------------------------------------------------------------------------------------------


def test_maps_that_are_zero_constant_or_not_finite():
    zero, constant, broken = np.zeros((2, 2)), np.full((2, 2), 3.0), np.array([[1, np.nan], [0, 2]])
    stack = np.stack([zero, constant, broken])
    regions = [(0, 0, 1, 2)] * 3
    np.testing.assert_allclose(mass_inside(stack, regions, (2, 2)).values, [np.nan, 0.5, np.nan])
    np.testing.assert_allclose(pointing_game(stack, regions, (2, 2), tolerance=0).values, [np.nan] * 3)


@given(st.lists(large_maps, min_size=2, max_size=3), boxes)
def test_numbers_of_a_batch_equal_those_of_its_maps(several, box):
    for game in (mass_inside, points):
        together = game(np.stack(several), [box] * len(several)).values
        np.testing.assert_array_equal(together, [game(single[None], [box]).values[0] for single in several])
        np.testing.assert_array_equal(together, [game(single, box) for single in several])


def test_explanations_are_taken_on_the_grid_of_the_layer():
    explanation = Explainer(convnet_in_sequence(), methods="gradcam")(images())
    regions = [(0, 0, 5, 6), (2, 2, 9, 9), (5, 0, 10, 12)]
    for game in (pointing_game, mass_inside):
        expected = game(explanation.gradcam, regions, input_size=(12, 10)).values
        np.testing.assert_array_equal(game(explanation, regions).values, expected)


@pytest.mark.parametrize("game", [pointing_game, mass_inside])
@pytest.mark.parametrize(
    ("regions", "message"),
    [
        ([(0, 0, 1, 1)] * 2, r"`regions` must hold one .*Received: 2 for 1"),
        ([(2, 0, 1, 1)], r"`regions` must be boxes"),
        ([(0.1, 0.2, 0.5, 0.9)], r"not in fractions"),
        ([(10, 10, 12, 12)], r"at least one pixel"),
        ([np.ones((2, 2))], r"masks of shape \(3, 4\)"),
    ],
)
def test_regions_that_do_not_fit_are_refused(game, regions, message):
    with pytest.raises(ValueError, match=message):
        game(SPOT[None], regions)


@pytest.mark.parametrize("region", [(4, 0, 2, 3), (1, 2, 3), np.ones((3, 3)), (0, 0, np.nan, 2)])
def test_regions_that_are_none_are_refused(region):
    with pytest.raises(ValueError, match="`regions` must be boxes"):
        mass_inside(ROW, region, (2, 8))


@given(boxes)
def test_bounds_of_a_box_are_the_box(box):
    assert bounds(region_mask(box, (5, 6))) == box
