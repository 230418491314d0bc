"""Filmstrips and animations by their pixels."""

from __future__ import annotations

import io

import numpy as np
from drawn_pairs import faint, pair, picture
from PIL import Image

from keras_gradcam.drawing import panels
from keras_gradcam.drawing.filmstrips import Filmstrip, animation, draw_filmstrip
from keras_gradcam.drawing.panels import Frame
from keras_gradcam.drawing.pixels import Style


def test_a_filmstrip_says_so_above_each_frame():
    strip = Filmstrip((pair(), pair(), pair()), (("epoch 0",),) * 3, (np.nan, 0.5, 0.5))
    drawn = draw_filmstrip(strip)
    for number, frame in enumerate(strip.frames):
        x = 8 + number * 282
        np.testing.assert_array_equal(drawn[26:282, x : x + 258], panels.cell(frame, Style()))
        words = faint(drawn[8:26, x : x + 264])
        assert words.min() >= 130
        assert words.max() < 258


def film(count=3):
    frames = tuple(Frame(picture(64, 64), cams={"Grad-CAM": np.eye(3) * (n + 1)}, vmax=3.0) for n in range(count))
    return Filmstrip(frames, tuple((f"epoch {n}", "cat") for n in range(count)), (np.nan, *[0.5] * (count - 1)))


def test_a_filmstrip_holds_its_frames_in_a_row():
    strip = film()
    drawn = draw_filmstrip(strip)
    for number, frame in enumerate(strip.frames):
        x = 8 + number * 262
        np.testing.assert_array_equal(drawn[8:264, x : x + 256], panels.gradcam_cell(frame, (256, 256), Style()))


def test_an_animation_has_a_picture_per_epoch():
    with Image.open(io.BytesIO(animation(film(5)))) as image:
        assert image.n_frames == 5
