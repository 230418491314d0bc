"""Pictures by their pixels."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from keras_gradcam import render
from keras_gradcam.maps import upsample
from keras_gradcam.render import Film, Frame, Style

RED = np.array([198, 40, 40])


def picture(height=30, width=20, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([0, 128, 255], np.uint8), [0, 128, 255]),
        (np.array([0.0, 0.5, 1.0]), [0, 128, 255]),
        (np.array([-1.0, 0.0, 1.0]), [0, 128, 255]),
        (np.array([0.0, 100.0, 255.0]), [0, 100, 255]),
        (np.array([-120.0, 0.0, 120.0]), [0, 128, 255]),
        (np.array([0.0, 500.0, 1000.0]), [0, 128, 255]),
        (np.array([0, 1000, 2000]), [0, 128, 255]),
        (np.array([0.0, np.nan, 1.0]), [0, 0, 255]),
        (np.array([7.0, 7.0, 7.0]), [7, 7, 7]),
    ],
    ids=["uint8", "0..1", "-1..1", "0..255", "mean subtracted", "large", "wide integers", "nan", "constant"],
)
def test_inputs_are_stretched_by_one_documented_rule(values, expected):
    shown = render.displayed(values.reshape(1, 1, 3, 1))
    np.testing.assert_allclose(shown[0, 0, :, 0], expected, atol=1)
    assert shown.dtype == np.uint8


def test_channels_become_red_green_blue():
    many = np.stack([np.full((1, 2, 2), value, np.uint8) for value in (10, 20, 30, 255)], axis=-1)
    assert render.displayed(many[..., :3])[0, 0, 0].tolist() == [10, 20, 30]
    assert render.displayed(many)[0, 0, 0].tolist() == [10, 20, 30]
    assert render.displayed(many[..., :2])[0, 0, 0].tolist() == [15, 15, 15]
    assert render.displayed(many[..., 0])[0, 0, 0].tolist() == [10, 10, 10]


@given(st.integers(0, 2**32 - 1))
def test_overlay_is_the_documented_blend(seed):
    rng = np.random.default_rng(seed)
    gradcam, base = rng.random((3, 2)), picture(seed=seed)
    top = float(rng.uniform(0.2, 2))
    share = np.clip(upsample(gradcam[None], (30, 20))[0] / top, 0, 1)
    color = render.color_table("inferno")[np.rint(share * 255).astype(int)]
    expected = base * (1 - 0.75 * share[..., None]) + color * 0.75 * share[..., None]
    np.testing.assert_allclose(render.overlay(base, gradcam, top), expected, atol=0.51)


def test_a_zero_map_leaves_the_picture_and_says_so():
    frame = Frame(picture(200, 200), gradcam=np.zeros((2, 2)))
    cell = render.gradcam_cell(frame, (200, 200), Style())
    np.testing.assert_array_equal(cell[:178], frame.picture[:178])
    assert (cell[182:] != frame.picture[182:]).mean() > 0.9


def test_a_map_that_is_not_finite_is_drawn_and_says_so():
    broken, zero = (
        render.gradcam_cell(Frame(picture(200, 200), gradcam=values, top=1), (200, 200), Style())
        for values in (np.array([[np.nan, np.inf]]), np.zeros((1, 2)))
    )
    assert (broken[182:] != zero[182:]).any()


def test_relief_is_symmetric_around_grey():
    gradient = np.random.default_rng(0).normal(size=(40, 40, 3))
    up, down = render.relief(gradient).astype(int), render.relief(-gradient).astype(int)
    np.testing.assert_allclose(up - 128, 128 - down, atol=1)
    top = np.percentile(np.abs(gradient), 99.5)
    np.testing.assert_allclose(up, 128 + 127 * np.clip(gradient / top, -1, 1), atol=0.51)


def test_relief_of_a_sparse_map_is_not_lost():
    gradient = np.zeros((50, 50, 1))
    gradient[3, 4] = -2
    shown = render.relief(gradient)
    assert shown[3, 4].tolist() == [1, 1, 1]
    assert (shown[4] == 128).all()


@pytest.mark.parametrize(
    ("size", "expected"),
    [((28, 28), (252, 252)), ((32, 32), (256, 256)), ((224, 224), (224, 224)), ((128, 64), (256, 128)),
     ((1024, 512), (256, 128)), ((1, 500), (1, 256))],
)  # fmt: skip
def test_cells_keep_their_shape_and_grow_by_whole_factors(size, expected):
    assert render.cell_size(*size) == expected


def test_small_pictures_grow_without_blur():
    base = picture(4, 3)
    np.testing.assert_array_equal(render.resized(base, (12, 9)), base.repeat(3, axis=0).repeat(3, axis=1))


def panel_frame(**options):
    return Frame(
        picture(64, 64),
        caption=("truth: cat", "predicted: dog 0.90", "epoch 3"),
        gradcam=np.random.default_rng(1).random((4, 4)),
        guided_backprop=np.random.default_rng(2).normal(size=(64, 64, 3)),
        guided_gradcam=np.random.default_rng(3).normal(size=(64, 64, 3)),
        top=1.0,
        **options,
    )


def test_a_panel_holds_its_four_cells():
    frame = panel_frame()
    drawn = render.panel(frame)
    size = (256, 256)
    cells = [
        render.resized(frame.picture, size),
        render.gradcam_cell(frame, size, Style()),
        render.resized(render.relief(frame.guided_backprop), size),
        render.resized(render.relief(frame.guided_gradcam), size),
    ]
    for number, cell in enumerate(cells):
        left = 8 + number * 262
        np.testing.assert_array_equal(drawn[26:282, left : left + 256], cell)
    assert drawn.shape[1] == 4 * 262 - 6 + 16


def test_methods_that_were_not_computed_are_left_out():
    frame = Frame(picture(64, 64), gradcam=np.ones((2, 2)))
    assert render.panel(frame).shape[1] == 2 * 262 - 6 + 16


def test_a_wrong_prediction_has_a_red_frame_and_a_right_one_none():
    for wrong in (True, False):
        drawn = render.panel(panel_frame(wrong=wrong))
        border = np.concatenate([drawn[0], drawn[-1], drawn[:, 0], drawn[:, -1]])
        assert (border == RED).all() == wrong


@given(st.text(max_size=300), st.integers(20, 400))
def test_texts_fit_their_width(text, width):
    short = render.shortened(text, width)
    assert render._text_width(short) <= width or short == "…"
    assert len(short) <= len(text)


def test_a_shortened_text_keeps_both_ends():
    short = render.shortened("abcdefghij" * 20, 200)
    assert short.startswith("abcdef")
    assert short.endswith("efghij")
    assert "…" in short


def test_captions_flow_into_lines():
    assert render.flowed(["one", "two"], 500) == ["one    two"]
    assert render.flowed(["one", "two"], 40) == ["one", "two"]
    assert render.flowed([], 40) == []


def test_line_breaks_and_changes_of_direction_are_not_drawn():
    assert render.flowed(["cat\n", "\u202eabc"], 500) == ["cat      abc"]
    assert render.panel(Frame(picture(64, 64), caption=("truth: cat\n", "a\u202eb"))).shape[1] == 256 + 16


def test_an_overview_holds_every_overlay():
    frames = [Frame(picture(64, 64, seed), ("a",), (f"cat {seed}",), np.eye(3), top=1.0) for seed in range(6)]
    drawn = render.overview(frames, "epoch 3")
    for number, frame in enumerate(frames):
        y, x = 26 + number // 4 * (256 + 18 + 6), 8 + number % 4 * 262
        np.testing.assert_array_equal(drawn[y : y + 256, x : x + 256], render.gradcam_cell(frame, (256, 256), Style()))


def test_an_overview_of_many_stays_below_4096_pixels():
    frames = [Frame(picture(64, 64), gradcam=np.eye(2), top=1.0)] * 300
    assert render.overview(frames).shape[1] <= 4096


def film(count=3):
    frames = tuple(Frame(picture(64, 64), gradcam=np.eye(3) * (n + 1), top=3.0) for n in range(count))
    return Film(frames, tuple((f"epoch {n}", "cat") for n in range(count)), (np.nan, *[0.5] * (count - 1)))


def test_a_filmstrip_holds_its_frames_in_a_row():
    strip = film()
    drawn = render.filmstrip(strip)
    for number, frame in enumerate(strip.frames):
        x = 8 + number * 262
        np.testing.assert_array_equal(drawn[8:264, x : x + 256], render.gradcam_cell(frame, (256, 256), Style()))


def test_an_animation_has_a_picture_per_epoch():
    with Image.open(io.BytesIO(render.animation(film(5)))) as image:
        assert image.n_frames == 5


def test_png_is_lossless_and_jpeg_smaller():
    base = picture(64, 64)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(render.encoded(base)))), base)
    assert len(render.encoded(base, lossy=True)) < len(render.encoded(base))


@pytest.mark.parametrize(
    ("options", "message"), [({"scale": "log"}, "`scale`"), ({"colormap": "rainbows"}, "`colormap`")]
)
def test_unknown_styles_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Style(**options)
