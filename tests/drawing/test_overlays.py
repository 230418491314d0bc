"""Overlays: the blend, the line at half of the maximum, and what is said of maps that colours cannot show."""

import numpy as np
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_gradcam.drawing.colormaps import color_table
from keras_gradcam.drawing.overlays import overlay, remark
from keras_gradcam.drawing.pixels import Style


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["inferno", "jet", "viridis"]))
def test_an_overlay_is_the_documented_blend_with_a_line(seed, colormap):
    rng = np.random.default_rng(seed)
    gradcam = rng.random((rng.integers(1, 5), rng.integers(1, 5)))
    picture = rng.integers(0, 256, (24, 18, 3)).astype(np.uint8)
    vmax = float(rng.uniform(0.2, 2))
    expected = oracles.overlay(picture, gradcam, vmax, color_table(colormap))
    drawn = overlay(picture, gradcam, vmax, Style(colormap))
    np.testing.assert_allclose(drawn, expected, atol=0.51)


def test_a_large_picture_has_a_thicker_line():
    rng = np.random.default_rng(0)
    gradcam, picture = np.array([[0.0, 1.0]]), rng.integers(0, 256, (4, 1536, 3)).astype(np.uint8)
    drawn = overlay(picture, gradcam)
    np.testing.assert_allclose(drawn, oracles.overlay(picture, gradcam, 1.0, color_table("inferno")), atol=0.51)
    white = (drawn[0] == 255).all(axis=-1)
    assert white.sum() == 3
    assert np.flatnonzero(white)[0] in (767, 768)


def test_no_colour_but_the_maps_is_left_where_the_map_is_strong():
    saturated = np.zeros((32, 32, 3), np.uint8)
    saturated[..., 0] = 255
    drawn = overlay(saturated, np.ones((1, 1)), style=Style("gray"))
    assert (drawn == drawn[..., :1]).all()  # a grey map on what was red is grey


def test_a_picture_keeps_its_colours_where_the_map_is_zero():
    rng = np.random.default_rng(1)
    picture = rng.integers(0, 256, (16, 16, 3)).astype(np.uint8)
    gradcam = np.zeros((16, 16))
    gradcam[4:8, 4:8] = 1
    drawn = overlay(picture, gradcam)
    untouched = np.ones((16, 16), bool)
    untouched[3:9, 3:9] = False
    assert (drawn[untouched] == picture[untouched]).all()
    assert (drawn[~untouched] != picture[~untouched]).any()


def test_the_line_shows_where_a_faint_map_lies():
    picture = np.full((64, 64, 3), 120, np.uint8)
    gradcam = np.zeros((4, 4))
    gradcam[1, 2] = 0.01
    faint, strong = overlay(picture, gradcam, 1.0), overlay(picture, gradcam, 0.01)
    for color in (0, 255):
        lines = [(drawn == color).all(axis=-1) for drawn in (faint, strong)]
        assert lines[0].any()
        np.testing.assert_array_equal(*lines)


@pytest.mark.parametrize("value", [0.0, 0.7])
def test_a_flat_map_has_no_line(value):
    drawn = overlay(np.full((20, 20, 3), 90, np.uint8), np.full((3, 3), value))
    assert (drawn == drawn[0, 0]).all()


@pytest.mark.parametrize(
    ("values", "vmax", "expected"),
    [
        ([0.0, 0.0], 1.0, "map is zero"),
        ([0.0, np.nan], 1.0, "map is not finite"),
        ([0.0, np.inf], 1.0, "map is not finite"),
        ([0.0, 0.2], 1.0, "peak 20 % of scale"),
        ([0.0, 1e-5], 1.0, "peak below 1 % of scale"),
        ([0.0, 0.3], 1.0, ""),
        ([0.0, 0.3], 0.0, ""),
        ([-1.0, 0.0], 1.0, ""),
    ],
)
def test_what_colours_cannot_show_is_said(values, vmax, expected):
    assert remark(np.array([values]), vmax) == expected
