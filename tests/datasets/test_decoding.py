"""Pictures in any form become the pixels that files of them would give, and regions go along."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from cli_models import SIZE, jpeg_bytes, picture, png
from PIL import Image

from keras_gradcam.datasets.columns import as_column
from keras_gradcam.datasets.decoding import decode_rows
from keras_gradcam.pictures.decoding import decode
from keras_gradcam.pictures.preprocessing import NONE
from keras_gradcam.pictures.spec import PictureSpec

SPEC, GREY = PictureSpec(SIZE, 3, NONE), PictureSpec(SIZE, 1, NONE)


def decoded(images, spec=SPEC, **columns):
    with ThreadPoolExecutor(2) as pool:
        rows = {"image": as_column(images), **{name: as_column(values) for name, values in columns.items()}}
        return decode_rows(rows, spec, pool)


def test_all_forms_of_a_picture_give_the_same_pixels(tmp_path):
    given = picture(3)
    path = png(tmp_path / "p.png", 3)
    buffer = io.BytesIO()
    Image.fromarray(given).save(buffer, "png")
    content = buffer.getvalue()
    expected = decode(content, SIZE, 3, 1).pixels
    forms = [
        content,
        bytearray(content),
        memoryview(content),
        {"bytes": content, "path": None},
        {"path": path},
        path,
        given,
    ]
    rows = decoded(forms)
    assert rows["failure"].tolist() == [""] * len(forms)
    for pixels in rows["image"]:
        np.testing.assert_array_equal(pixels, expected)


def test_pixels_of_the_models_size_stay_as_they_are(rng):
    bytes_, floats = rng.integers(0, 256, (2, *SIZE, 3), np.uint8), rng.uniform(-1, 1, (2, *SIZE, 3))
    np.testing.assert_array_equal(decoded(bytes_)["image"], bytes_)
    assert decoded(floats)["image"].dtype == np.float32
    np.testing.assert_array_equal(decoded(floats)["image"], floats.astype(np.float32))


def test_channels_fit_the_model():
    grey = picture(0)[..., :1]
    np.testing.assert_array_equal(np.ptp(decoded([grey, picture(1)])["image"][0].astype(int), axis=-1), 0)
    assert decoded([grey, grey[..., 0], picture(1)], GREY)["image"].shape == (3, *SIZE, 1)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (None, "is missing"),
        (b"", "is empty"),
        (b"no picture", "is no picture"),
        ("nowhere.jpg", "cannot be read: No such file"),
        (np.zeros((4, 4, 5), np.uint8), "pixels of shape"),
        (np.zeros((4,), np.uint8), "pixels of shape"),
        (np.zeros((4, 4, 3)), "which only uint8 are resized to"),
    ],
)
def test_what_is_wrong_with_a_picture_stands_in_its_row_alone(image, message):
    rows = decoded([jpeg_bytes(0), image, jpeg_bytes(1)])
    assert rows["failure"][[0, 2]].tolist() == ["", ""]
    assert message in rows["failure"][1]
    assert not rows["image"][1].any()
    assert rows["image"][2].any()


def test_boxes_are_scaled_as_their_pictures():
    # 30 x 40 pixels become 16 x 12.
    rows = decoded([picture(0), picture(1), picture(2)], region=[(0, 0, 40, 30), None, (10, 15, 20, 30)])
    np.testing.assert_allclose(rows["region"][0], [0, 0, 12, 16])
    assert np.isnan(rows["region"][1]).all()
    np.testing.assert_allclose(rows["region"][2], [3, 8, 6, 16])


def test_masks_are_scaled_as_their_pictures():
    mask = np.zeros((30, 40))
    mask[:15] = 1
    rows = decoded([picture(0), picture(1)], region=[mask, (0, 0, 40, 30)])
    assert rows["region"].shape == (2, *SIZE)
    assert rows["region"][0][:8].all()
    assert not rows["region"][0][8:].any()
    assert rows["region"][1].all(), "a box beside masks is one"


def test_regions_that_are_none_are_said():
    rows = decoded([picture(0)] * 4, region=[(5, 5, 1, 1), (0.1, 0.1, 0.5, 0.5), np.ones((3, 3)), "left"])
    for failure, message in zip(rows["failure"], ["x0 < x1", "not in fractions", "own size", "could not"], strict=True):
        assert message in failure


def test_no_rows():
    rows = decoded(np.zeros((0, *SIZE, 3), np.uint8), region=np.zeros((0, 4)))
    assert rows["image"].shape == (0, *SIZE, 3)
    assert decoded([])["image"].shape == (0, *SIZE, 3)
