"""Drift numbers against hand-made cases, slow oracles, and properties that must hold for all maps."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from oracles import slow_spearman

from keras_gradcam.metrics import drift
from keras_gradcam.metrics.regions import mass_inside, pointing_hit
from keras_gradcam.metrics.statistics import focus, mass, mean_of_present

PAIRWISE = {
    "rank_correlation": drift.rank_correlation,
    "overlap": drift.overlap,
    "center_shift": drift.center_shift,
    "total_variation": drift.total_variation,
}
SINGLE = {"focus": focus, "mass": mass}
SAME = {"rank_correlation": 1, "overlap": 1, "center_shift": 0, "total_variation": 0}

maps = arrays(np.float64, (3, 4), elements=st.integers(0, 6).map(float))
ROW = np.array([[0.0, 1.0, 2.0, 5.0]])


@given(maps, maps)
def test_rank_correlation_equals_the_slow_one(a, b):
    np.testing.assert_allclose(drift.rank_correlation(a, b), slow_spearman(a, b), atol=1e-12)


@given(maps, maps)
def test_total_variation_equals_the_slow_one(a, b):
    expected = math.nan
    if np.ptp(a) and np.ptp(b):
        expected = sum(abs(x / a.sum() - y / b.sum()) for x, y in zip(a.flat, b.flat, strict=True)) / 2
    np.testing.assert_allclose(drift.total_variation(a, b), expected, atol=1e-12)


@given(maps, maps)
def test_overlap_equals_sets_of_cells(a, b):
    def strongest(x):
        last = sorted(x.flat, reverse=True)[math.ceil(0.2 * x.size) - 1]
        return {cell for cell, value in enumerate(x.flat) if value >= last and value > x.min()}

    expected = math.nan
    if np.ptp(a) and np.ptp(b):
        expected = len(strongest(a) & strongest(b)) / len(strongest(a) | strongest(b))
    np.testing.assert_allclose(drift.overlap(a, b), expected, atol=1e-12)


@given(maps, maps)
def test_center_shift_equals_the_slow_one(a, b):
    def center(x):
        return np.array([sum(p[axis] * v for p, v in np.ndenumerate(x)) / x.sum() for axis in (0, 1)])

    expected = math.nan
    if np.ptp(a) and np.ptp(b):
        expected = np.linalg.norm(center(a) - center(b)) / 5  # a grid of 3 x 4 has a diagonal of 5
    np.testing.assert_allclose(drift.center_shift(a, b), expected, atol=1e-12)


@given(maps)
def test_focus_is_the_smallest_area_with_half_the_mass(a):
    expected = math.nan
    if a.sum() > 0:
        ordered = sorted(a.flat, reverse=True)
        expected = next(k for k in range(1, 13) if sum(ordered[:k]) >= a.sum() / 2) / 12
    np.testing.assert_allclose(focus(a), expected)


@pytest.mark.parametrize("name", PAIRWISE)
@given(a=maps, b=maps, factor=st.sampled_from([1e-30, 0.5, 3.0, 1e30]))
def test_comparisons_are_symmetric_scale_free_and_in_range(name, a, b, factor):
    value = PAIRWISE[name](a, b)
    np.testing.assert_allclose(PAIRWISE[name](b, a), value, atol=1e-12)
    np.testing.assert_allclose(PAIRWISE[name](a * factor, b), value, atol=1e-9)
    assert math.isnan(value) or (-1 if name == "rank_correlation" else 0) <= value <= 1 + 1e-12


@pytest.mark.parametrize("name", PAIRWISE)
@given(a=maps)
def test_a_map_agrees_with_itself_and_a_constant_one_with_nothing(name, a):
    value = PAIRWISE[name](a, a)
    if np.ptp(a):
        assert value == pytest.approx(SAME[name], abs=1e-9)
    else:
        assert math.isnan(value)


@pytest.mark.parametrize(
    "bad",
    [np.zeros((2, 2)), np.ones((2, 2)), np.array([[1, np.nan], [0, 2]]), np.array([[1, np.inf], [0, 2]])],
    ids=["zero", "constant", "nan", "inf"],
)
@pytest.mark.parametrize("name", PAIRWISE)
def test_missing_maps_give_missing_numbers(name, bad):
    good = np.array([[1.0, 2.0], [0.0, 4.0]])
    assert math.isnan(PAIRWISE[name](good, bad))
    assert math.isnan(PAIRWISE[name](bad, good))
    # In a stack only the bad one is missing.
    assert np.isnan(PAIRWISE[name](np.stack([good, bad]), np.stack([good, good]))).tolist() == [False, True]


def test_single_maps_that_are_zero_constant_or_not_finite():
    zero, constant, broken = np.zeros((2, 2)), np.full((2, 2), 3.0), np.array([[1, np.nan], [0, 2]])
    stack = np.stack([zero, constant, broken])
    np.testing.assert_allclose(focus(stack), [np.nan, 0.5, np.nan])
    np.testing.assert_allclose(mass(stack), [0, 12, np.nan])
    np.testing.assert_allclose(mass_inside(stack, (0, 0, 1, 2), (2, 2)), [np.nan, 0.5, np.nan])
    np.testing.assert_allclose(pointing_hit(stack, (0, 0, 1, 2), (2, 2)), [np.nan] * 3)


def test_inverted_and_shifted():
    assert drift.rank_correlation(ROW, -ROW) == pytest.approx(-1)
    spot = np.zeros((3, 4))
    spot[1, 0] = 2.0
    for cells in range(4):
        assert drift.center_shift(spot, np.roll(spot, cells, axis=1)) == pytest.approx(cells / 5, abs=1e-12)
        assert drift.total_variation(spot, np.roll(spot, cells, axis=1)) == (cells > 0)
        assert drift.overlap(spot, np.roll(spot, cells, axis=1)) == (cells == 0)


@pytest.mark.parametrize("share", [0, -1, 1.5])
def test_overlap_refuses_a_share_out_of_range(share):
    with pytest.raises(ValueError, match="`share`"):
        drift.overlap(ROW, ROW, share)


def test_different_grids_are_refused():
    with pytest.raises(ValueError, match="one grid"):
        drift.rank_correlation(np.ones((2, 2)), np.ones((2, 3)))


# --- regions --------------------------------------------------------------------------------------------------------


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


def test_pointing_hit_with_and_without_tolerance():
    spot = np.zeros((4, 4))
    spot[1, 2] = 1  # its centre is at x 10, y 6 of a 16 x 16 input
    assert pointing_hit(spot, (8, 4, 12, 8), (16, 16)) == 1
    assert pointing_hit(spot, (0, 4, 7, 8), (16, 16)) == 0
    assert pointing_hit(spot, (0, 4, 7, 8), (16, 16), tolerance=2.9) == 0
    assert pointing_hit(spot, (0, 4, 7, 8), (16, 16), tolerance=3) == 1
    assert pointing_hit(spot, np.zeros((16, 16)), (16, 16), tolerance=99) == 0


@pytest.mark.parametrize("region", [(4, 0, 2, 3), (1, 2, 3), np.ones((3, 3)), (0, 0, np.nan, 2)])
def test_regions_that_are_none_are_refused(region):
    with pytest.raises(ValueError, match="`regions` must be boxes"):
        mass_inside(ROW, region, (2, 8))


# --- series ---------------------------------------------------------------------------------------------------------


def test_settled_epoch():
    a, b = np.array([[9.0, 1.0]]), np.array([[1.0, 9.0]])
    assert drift.settled_epoch([a, b, b, b]) == 1
    assert drift.settled_epoch([b, a, b]) == 2  # moved until the end
    assert drift.settled_epoch([b, b * 7, b]) == 0  # strength is not movement
    assert drift.settled_epoch([b, b * 0, b, b]) == 2  # an empty map is not a settled one
    assert drift.settled_epoch([a, b, b * 0]) is None
    assert drift.settled_epoch([a, b], tolerance=1) == 0
    assert drift.settled_epoch(np.zeros((0, 1, 2))) is None


def test_mean_of_present_counts_the_missing():
    assert mean_of_present([np.nan, 2.0]) == (2.0, 1)
    mean, missing = mean_of_present([np.nan, np.nan])
    assert math.isnan(mean)
    assert missing == 2
