"""Pictures from files: as people see them, whatever the format; broken ones in words."""

from __future__ import annotations

import io
import struct
import subprocess
import time
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from cli_models import jpeg_bytes, picture
from PIL import Image

from keras_gradcam.errors import PictureError
from keras_gradcam.pictures import decoding
from keras_gradcam.pictures.decoding import decode

SIZE = (30, 40)


def encoded(image, kind="png", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def shown(content, largest=4096):
    return decode(content, SIZE, 3, largest).shown


def test_a_picture_of_the_models_size_is_taken_as_it_is():
    given = picture()
    found = decode(encoded(Image.fromarray(given)), SIZE, 3, 4096)
    np.testing.assert_array_equal(found.pixels, given)
    np.testing.assert_array_equal(found.shown, given)
    assert found.size == SIZE


def test_other_sizes_are_resized_as_a_whole():
    given = Image.fromarray(picture(size=(100, 60)))
    found = decode(encoded(given), SIZE, 3, 50)
    np.testing.assert_array_equal(found.pixels, np.asarray(given.resize((40, 30), Image.Resampling.BILINEAR)))
    assert found.size == (100, 60)
    assert found.shown.shape == (50, 30, 3)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_as_their_camera_says(orientation):
    upright = picture()
    turned = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(Image.fromarray(np.ascontiguousarray(turned)), exif=exif)
    np.testing.assert_array_equal(shown(content), upright)


def test_broken_exif_turns_nothing():
    content = encoded(Image.fromarray(picture()), "jpeg", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff\xff", quality=100)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's
        assert shown(content).shape == (30, 40, 3)


def test_grey_pictures():
    grey = picture()[..., 0]
    content = encoded(Image.fromarray(grey))
    np.testing.assert_array_equal(shown(content), np.stack([grey] * 3, axis=-1))
    np.testing.assert_array_equal(decode(content, SIZE, 1, 1).pixels[..., 0], grey)


def test_palettes():
    image = Image.fromarray(picture()).quantize(16)
    np.testing.assert_array_equal(shown(encoded(image)), np.asarray(image.convert("RGB")))


def test_two_colours():
    image = Image.fromarray(picture()).convert("1")
    assert set(np.unique(shown(encoded(image)))) == {0, 255}


@pytest.mark.parametrize("kind", ["RGBA", "LA", "P"])
def test_transparent_parts_are_white(kind):
    given = picture()
    alpha = np.zeros(SIZE, np.uint8)
    alpha[:15] = 255
    image = Image.fromarray(np.concatenate([given, alpha[..., None]], axis=-1))
    image = image.quantize(64) if kind == "P" else image.convert(kind)
    found = shown(encoded(image))
    assert (found[15:] == 255).all()
    assert not (found[:15] == 255).all()
    if kind == "RGBA":
        np.testing.assert_array_equal(found[:15], given[:15])


def test_half_transparent_parts_are_mixed_with_white():
    image = Image.new("RGBA", (4, 4), (0, 100, 200, 51))
    np.testing.assert_allclose(shown(encoded(image))[0, 0], [204, 224, 244], atol=1)


def test_a_transparent_colour_of_an_opaque_picture_is_white():
    image = Image.new("RGB", (4, 4), (10, 20, 30))
    image.putpixel((0, 0), (1, 2, 3))
    found = shown(encoded(image, transparency=(10, 20, 30)))
    assert found[0, 0].tolist() == [1, 2, 3]
    assert found[1, 1].tolist() == [255, 255, 255]


def test_printers_colours():
    image = Image.fromarray(picture()).convert("CMYK")
    np.testing.assert_allclose(shown(encoded(image, "tiff")), picture(), atol=2)
    assert shown(encoded(image, "jpeg", quality=100)).shape == (30, 40, 3)


GREY = np.floor(picture(size=SIZE)[..., 0] * 0.9)
DEEP = {
    "16 bits": (np.uint16, 257, ["png", "tiff"]),
    "32 bits": (np.int32, 257, ["tiff"]),
    "32 bits, small": (np.int32, 1, ["tiff"]),
    "floating point to 255": (np.float32, 1, ["tiff"]),
    "floating point to 1": (np.float32, 1 / 255, ["tiff"]),
}


@pytest.mark.parametrize("name", DEEP)
@pytest.mark.parametrize("channels", [1, 3])
def test_grey_values_of_more_than_8_bits_reach_the_model_unrounded(name, channels):
    dtype, factor, kinds = DEEP[name]
    finer = GREY + (0.5 if factor != 1 and dtype != np.int32 else 0)
    given = (finer * factor).astype(dtype)
    for kind in kinds:
        found = decode(encoded(Image.fromarray(given), kind), SIZE, channels, 4096)
        expected = np.repeat(given.astype(float)[..., None] / factor, channels, axis=2)
        np.testing.assert_allclose(found.pixels, expected, atol=1e-3)
        assert found.pixels.dtype == np.float32
        stretched = (GREY - GREY.min()) / np.ptp(GREY) * 255
        np.testing.assert_allclose(found.shown, np.repeat(stretched[..., None], 3, axis=2), atol=1)
        assert found.depth.startswith("values from ")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((0.0, 4095.0), lambda v: v / 4095 * 255),
        ((0.0, 255.0), lambda v: v),
        ((600.0, 4000.0), lambda v: (v - 600) / 13.333333),
    ],
    ids=["12 bits", "raw", "window"],
)
def test_what_is_black_and_white_can_be_said(values, expected):
    xray = np.full(SIZE, 600, np.uint16)
    xray[2:5, 3:7] = 4000
    for given in (xray, xray.astype(np.int32), xray.astype(np.float32)):
        found = decode(encoded(Image.fromarray(given), "tiff"), SIZE, 1, 4096, values)
        np.testing.assert_allclose(found.pixels[..., 0], expected(xray.astype(float)), rtol=1e-4, atol=1e-3)
        assert found.shown[0, 0, 0] == 0
        assert found.shown[3, 4, 0] == 255  # readable, whatever the range
    below = np.linspace(-1000, 3000, 30 * 40, dtype=np.float32).reshape(30, 40)
    found = decode(encoded(Image.fromarray(below), "tiff"), (30, 40), 1, 4096, (-1000.0, 3000.0))
    np.testing.assert_allclose(found.pixels[..., 0], (below + 1000) / 4000 * 255, atol=1e-2)


def test_the_range_of_8_bit_pictures_stays():
    content = encoded(Image.fromarray(picture()))
    found = [decode(content, SIZE, 3, 256, values) for values in (None, (0.0, 4095.0))]
    np.testing.assert_array_equal(found[0].pixels, found[1].pixels)
    assert found[0].depth == found[1].depth == ""


def test_colours_of_16_bits_are_said_to_be_cut():
    content = bytearray(encoded(Image.fromarray(picture())))
    rows = b"".join(b"\0" + b"".join(struct.pack(">H", 257 * int(v)) for v in row.ravel()) for row in picture())

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 40, 30, 16, 2, 0, 0, 0)
    content = bytes(content[:8]) + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    found = decode(content, (30, 40), 3, 256)
    np.testing.assert_array_equal(found.pixels, picture())
    assert found.depth.startswith("16 bits in each colour were cut to 8")


def test_the_first_frame_of_an_animation():
    frames = [Image.new("P", (8, 8), number) for number in (1, 2, 3)]
    for number, frame in enumerate(frames):
        frame.putpalette([value for color in range(4) for value in (color * 50, number * 20, 7)])
    content = encoded(frames[0], "gif", save_all=True, append_images=frames[1:])
    assert (shown(content) == [50, 0, 7]).all()


@pytest.mark.parametrize("kind", ["bmp", "ppm", "tga", "webp", "jpeg"])
def test_other_formats(kind):
    options = {"lossless": True} if kind == "webp" else {"quality": 100} if kind == "jpeg" else {}
    found = shown(encoded(Image.fromarray(picture()), kind, **options))
    np.testing.assert_allclose(found.astype(int), picture(), atol=20 if kind == "jpeg" else 0)


@pytest.mark.parametrize("size", [(1, 1), (20000, 1), (1, 20000)])
def test_extreme_shapes(size):
    found = decode(encoded(Image.new("RGB", size[::-1], (9, 8, 7))), SIZE, 3, 256)
    assert (found.pixels == [9, 8, 7]).all()
    assert found.size == size
    assert max(found.shown.shape) <= 256
    assert min(found.shown.shape) >= 1


# --- what is no picture ---------------------------------------------------------------------------------------------

WHOLE_PNG = encoded(Image.fromarray(picture()))
BROKEN = {
    "empty": (b"", "is empty"),
    "text": (b"just some words\n" * 20, "is no picture"),
    "half a jpeg": (jpeg_bytes()[: len(jpeg_bytes()) // 2], "cannot be decoded: .*[Tt]runcated"),
    "head of a jpeg": (jpeg_bytes()[:20], "is no picture|cannot be decoded"),
    "half a png": (WHOLE_PNG[: len(WHOLE_PNG) // 2], "cannot be decoded: .*truncated"),
    "a png with a flipped byte": (WHOLE_PNG[:60] + b"\0\xff" + WHOLE_PNG[62:], "cannot be decoded"),
    "png signature": (WHOLE_PNG[:8], "is no picture|cannot be decoded"),
    "not a number": (encoded(Image.fromarray(np.full((4, 4), np.nan, np.float32)), "tiff"), "not known what is white"),
    "below zero": (encoded(Image.fromarray(np.full((4, 4), -5, np.int32)), "tiff"), "not known what is white"),
    "heights in metres": (encoded(Image.fromarray(np.full((4, 4), 812.5, np.float32)), "tiff"), "not known what"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_pictures_are_told_in_one_line(name):
    content, message = BROKEN[name]
    with pytest.raises(PictureError, match=message) as error:
        decode(content, SIZE, 3, 256)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("times", [1.01, 3])
def test_what_unfolds_to_too_much_is_refused_not_warned_of(monkeypatch, times):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", int(30 * 40 / times))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(PictureError, match=r"pixels, more than|exceeds limit"):
            decode(WHOLE_PNG, SIZE, 3, 256)


def test_no_program_is_run_for_a_format_that_is_not_named(monkeypatch):
    """Pillow hands EPS to Ghostscript, whatever the file is called."""
    monkeypatch.setattr(subprocess, "Popen", None)
    content = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n"
    with pytest.raises(PictureError, match="is no picture that can be read"):
        decode(content, SIZE, 3, 4096)


def test_large_pictures_are_decoded_one_after_another(monkeypatch):
    """Four threads, pictures of 0.6 of what may be decoded at the same time: never two at once."""
    now, most = [0], [0]

    def counted(image, content, values):
        now[0] += 1
        most[0] = max(most[0], now[0])
        time.sleep(0.02)
        now[0] -= 1
        return image.convert("RGB"), None, ""

    monkeypatch.setattr(decoding, "_decoded", counted)
    monkeypatch.setattr(decoding, "_pixels", decoding._Budget(2000))
    content = encoded(Image.fromarray(picture()))  # 1200 pixels
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: decode(content, SIZE, 3, 4096), range(8)))
        assert most[0] == 1
        small = encoded(Image.fromarray(picture(size=(10, 10))))
        list(pool.map(lambda _: decode(small, SIZE, 3, 4096), range(16)))
    assert most[0] > 1
    huge = encoded(Image.fromarray(picture(size=(60, 80))))  # more than there is: decoded alone
    assert decode(huge, SIZE, 3, 4096).size == (60, 80)
