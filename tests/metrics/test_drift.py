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

PAIRWISE = {
    "rank_correlation": drift.rank_correlation,
    "overlap": drift.overlap,
    "center_shift": drift.center_shift,
    "total_variation": drift.total_variation,
}
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
