"""Panels, overviews and filmstrips by their pixels."""

from __future__ import annotations

import numpy as np
from drawn_pairs import faint, pair, picture

from keras_gradcam.drawing import overlays, panels
from keras_gradcam.drawing import pixels as render
from keras_gradcam.drawing.canvas import PAPER
from keras_gradcam.drawing.colormaps import color_table
from keras_gradcam.drawing.panels import Frame
from keras_gradcam.drawing.pixels import Style

RED = np.array([198, 40, 40])


def test_a_zero_map_leaves_the_picture_and_says_so():
    frame = Frame(picture(200, 200), cams={"Grad-CAM": np.zeros((2, 2))})
    cell = panels.gradcam_cell(frame, (200, 200), Style())
    np.testing.assert_array_equal(cell[:178], frame.picture[:178])
    assert (cell[182:] != frame.picture[182:]).mean() > 0.9


def test_a_map_that_is_not_finite_is_drawn_and_says_so():
    broken, zero = (
        panels.gradcam_cell(Frame(picture(200, 200), cams={"Grad-CAM": values}, vmax=1), (200, 200), Style())
        for values in (np.array([[np.nan, np.inf]]), np.zeros((1, 2)))
    )
    assert (broken[182:] != zero[182:]).any()


def panel_frame(**options):
    return Frame(
        picture(64, 64),
        caption=("truth: cat", "predicted: dog 0.90", "epoch 3"),
        cams={
            "Grad-CAM": np.random.default_rng(1).random((4, 4)),
            "LayerCAM": np.random.default_rng(4).random((5, 3)) * 7,
        },
        gradients={
            "guided backprop": np.random.default_rng(2).normal(size=(64, 64, 3)),
            "saliency": np.random.default_rng(3).random(size=(64, 64)),
        },
        vmax=1.0,
        **options,
    )


def test_a_panel_holds_its_cells_a_cousin_on_its_own_scale():
    frame = panel_frame()
    drawn = panels.panel(frame)
    size = (256, 256)
    cells = [
        render.resized(frame.picture, size),
        panels.gradcam_cell(frame, size, Style()),
        overlays.overlay(render.resized(frame.picture, size), frame.cams["LayerCAM"]),
        render.resized(render.relief(frame.gradients["guided backprop"]), size),
        render.resized(render.relief(frame.gradients["saliency"]), size),
    ]
    for number, cell in enumerate(cells):
        left = 8 + number * 262
        np.testing.assert_array_equal(drawn[26:282, left : left + 256], cell)
    assert drawn.shape[1] == 5 * 262 - 6 + 16


def test_each_map_has_a_colour_bar_up_to_its_own_scale():
    """At the right end of its title: the lightest colour of inferno stands nowhere else in that line."""
    frame = panel_frame()
    title = panels.panel(frame)[8:26]
    yellow = (title == color_table("inferno")[255]).all(axis=-1).any(axis=0)
    ends = np.flatnonzero(yellow)
    assert [int((end - 8) // 262) for end in ends] == [1, 2]
    bare = panels.panel(Frame(frame.picture, cams=frame.cams, vmax=0.5))[8:26]
    assert (bare[:, 262:530] != title[:, 262:530]).any()  # another number
    np.testing.assert_array_equal(bare[:, 532:790], title[:, 532:790])


def test_methods_that_were_not_computed_are_left_out():
    frame = Frame(picture(64, 64), cams={"Grad-CAM": np.ones((2, 2))})
    assert panels.panel(frame).shape[1] == 2 * 262 - 6 + 16


def test_a_wrong_prediction_has_a_red_frame_and_a_right_one_none():
    for wrong in (True, False):
        drawn = panels.panel(panel_frame(wrong=wrong))
        border = np.concatenate([drawn[0], drawn[-1], drawn[:, 0], drawn[:, -1]])
        assert (border == RED).all() == wrong


def test_line_breaks_and_changes_of_direction_are_not_drawn():
    assert panels.panel(Frame(picture(64, 64), caption=("truth: cat\n", "a\u202eb"))).shape[1] == 256 + 16


def test_an_overview_holds_every_overlay():
    frames = [
        Frame(picture(64, 64, seed), ("a",), (f"cat {seed}",), {"Grad-CAM": np.eye(3)}, vmax=1.0) for seed in range(6)
    ]
    drawn = panels.overview(frames, "epoch 3")
    for number, frame in enumerate(frames):
        y, x = 26 + number // 4 * (256 + 18 + 6), 8 + number % 4 * 262
        np.testing.assert_array_equal(drawn[y : y + 256, x : x + 256], panels.gradcam_cell(frame, (256, 256), Style()))


def test_an_overview_of_many_stays_below_4096_pixels():
    frames = [Frame(picture(64, 64))] * 300
    assert panels.overview(frames).shape[1] <= 4096


def test_an_overview_says_above_the_right_one_of_a_pair_that_it_is_the_partner():
    frames = [pair(short=("Ann",)), pair(short=("a long name that needs both pictures",)), Frame(picture(64, 32))]
    drawn = panels.overview(frames, "epoch 3")
    for number, frame in enumerate(frames):
        x = 8 + number * (258 + 24)
        one = panels.cell(frame, Style())
        np.testing.assert_array_equal(drawn[44:300, x : x + one.shape[1]], one)
        words = faint(drawn[26:44, x : x + 258])
        if frame.partner is None:
            assert not words.size
        else:
            assert words.min() >= 130
            assert words.max() < 258
    assert (drawn[300:318] == PAPER).all(-1).mean() > 0.9, "captions stay below"


def test_the_word_for_a_narrow_partner_is_no_wider_than_it():
    drawn = panels.overview([pair(512, 128, 60), Frame(picture(512, 128))])
    words = faint(drawn[8:26])
    assert words.min() >= 8 + 66
    assert words.max() < 8 + 66 + 30
