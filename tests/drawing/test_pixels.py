"""Maps and pictures by their pixels."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from keras_gradcam.drawing import pixels as render
from keras_gradcam.drawing.pixels import Style


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


def test_png_is_lossless_and_jpeg_smaller():
    base = picture(64, 64)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(render.encoded(base)))), base)
    assert len(render.encoded(base, quality=80)) < len(render.encoded(base))
    sharp, soft = (np.asarray(Image.open(io.BytesIO(render.encoded(base, quality)))) for quality in (95, 60))
    assert np.abs(sharp - base.astype(int)).mean() < np.abs(soft - base.astype(int)).mean()


@pytest.mark.parametrize(
    ("options", "message"), [({"scale": "log"}, "`scale`"), ({"colormap": "rainbows"}, "`colormap`")]
)
def test_unknown_styles_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Style(**options)


@pytest.mark.parametrize(
    ("low", "high", "start", "end"),
    [
        (0.0, 1.05, 0, 1),
        (-0.02, 1.02, 0, 1),
        (-0.08, 0.9, 0, 1),
        (-1.03, 1.08, -1, 1),
        (-6.0, 258.0, 0, 255),
        (0.0, 3.0, 0, 255),
        (0.0, 1.6, 0, 1.6),
        (-2.1, 2.6, -2.1, 2.6),
        (-123.0, 151.0, -123, 151),
    ],
)
def test_pictures_may_overshoot_their_range_a_little(low, high, start, end):
    picture = np.linspace(low, high, 48, dtype=np.float32).reshape(1, 4, 4, 3)
    expected = np.rint(np.clip((picture.astype(float) - start) / (end - start), 0, 1) * 255)
    np.testing.assert_allclose(render.displayed(picture), expected, atol=1)


@pytest.mark.parametrize("images", ["all", "", True, 1])
def test_what_is_drawn_must_be_known(images):
    with pytest.raises(ValueError, match=r"`images` must say what is drawn.*'overview'"):
        Style(images=images)
