"""Numbers of single maps against hand-made cases and slow oracles."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from models import convnet_in_sequence, images

from keras_gradcam import Explainer
from keras_gradcam.metrics.statistics import (
    PerSample,
    center_of_mass,
    focus,
    informative,
    maps_of,
    mass,
    mean_of_present,
)

maps = arrays(np.float64, (3, 4), elements=st.integers(0, 6).map(float))


@given(maps)
def test_focus_is_the_smallest_area_with_half_the_mass(a):
    expected = math.nan
    if a.sum() > 0:
        ordered = sorted(a.flat, reverse=True)
        expected = next(k for k in range(1, 13) if sum(ordered[:k]) >= a.sum() / 2) / 12
    np.testing.assert_allclose(focus(a), expected)


@given(maps)
def test_the_centre_of_mass_is_the_weighted_mean_of_the_cells(a):
    expected = [math.nan, math.nan]
    if a.sum() > 0:
        sums = [0.0, 0.0]
        for (y, x), value in np.ndenumerate(a):
            sums = [sums[0] + value * (y + 0.5) / 3, sums[1] + value * (x + 0.5) / 4]
        expected = [part / a.sum() for part in sums]
    np.testing.assert_allclose(center_of_mass(a), expected)


def test_single_maps_that_are_zero_constant_or_not_finite():
    zero, constant, broken = np.zeros((2, 2)), np.full((2, 2), 3.0), np.array([[1, np.nan], [0, 2]])
    stack = np.stack([zero, constant, broken])
    np.testing.assert_allclose(focus(stack), [np.nan, 0.5, np.nan])
    np.testing.assert_allclose(mass(stack), [0, 12, np.nan])
    np.testing.assert_allclose(center_of_mass(stack), [[np.nan] * 2, [0.5, 0.5], [np.nan] * 2])
    assert informative(np.stack([*stack, np.eye(2)])).tolist() == [False, False, False, True]


def test_mean_of_present_counts_the_missing():
    assert mean_of_present([np.nan, 2.0]) == (2.0, 1)
    mean, missing = mean_of_present([np.nan, np.nan])
    assert math.isnan(mean)
    assert missing == 2


def test_numbers_per_sample_know_their_mean_and_the_missing():
    numbers = PerSample(np.array([0, np.nan, np.nan, 1, np.nan]))
    assert (numbers.mean, numbers.missing, len(numbers)) == (0.5, 3, 5)
    assert repr(numbers) == "PerSample(mean 0.5 of 2, 3 missing)"
    assert math.isnan(PerSample(np.full(2, np.nan)).mean)


def test_maps_of_an_explanation_on_either_grid():
    explanation = Explainer(convnet_in_sequence(), methods=["layercam", "gradcam"])(images())
    stack, size = maps_of(explanation, coarse=True)
    np.testing.assert_array_equal(stack, explanation.maps["layercam"])
    assert size == (12, 10)
    stack, size = maps_of(explanation)
    np.testing.assert_array_equal(stack, explanation.heatmap)
    assert size == (12, 10)


def test_an_explanation_without_a_map_is_refused():
    explanation = Explainer(convnet_in_sequence(), methods="guided_backprop")(images())
    with pytest.raises(ValueError, match=r"`maps` must hold a Grad-CAM map.*Candidates: methods="):
        maps_of(explanation)
