"""Encoded pictures: decoded as people see them, and as a model takes them."""

from __future__ import annotations

import contextlib
import hashlib
import io
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ..errors import PictureError, in_one_line
from .depth import Range, scaled, stretched

# What a PNG file begins with; its bit depth is byte 24.
_PNG = b"\x89PNG\r\n\x1a\n"

# The only formats that are decoded, whatever a file is called: of others Pillow runs programs (EPS: Ghostscript).
_FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TGA", "TIFF", "WEBP")

# The pixels that are decoded at the same time: one has up to 4 x 8 bytes, in the file's colours and in ours.
_PIXELS_AT_ONCE = 100_000_000

#: The longer side of a picture that a map is drawn on in its own size.
LARGEST = 2048


@dataclass(frozen=True, eq=False)
class Picture:
    """A decoded picture.

    Attributes:
        digest: SHA-256 of the file.
        size: (height, width), turned as its camera says.
        pixels: (h, w, C), resized to what the model takes; uint8, or float32 where the file has more than 8 bits.
        shown: uint8 (h, w, 3), to draw on: no larger than asked for, its aspect ratio kept.
        depth: What was done to values of more than 8 bits, in words; "" for other pictures.
    """

    digest: str
    size: tuple[int, int]
    pixels: np.ndarray
    shown: np.ndarray
    depth: str = ""


class _Budget:
    """Lets threads take amounts of something until there is none left; the others wait.

    Args:
        amount: How much there is.
    """

    def __init__(self, amount: int) -> None:
        self._whole = self._left = amount
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def take(self, amount: int) -> Iterator[None]:
        amount = min(amount, self._whole)
        with self._changed:
            self._changed.wait_for(lambda: self._left >= amount)
            self._left -= amount
        try:
            yield
        finally:
            with self._changed:
                self._left += amount
                self._changed.notify_all()


_pixels = _Budget(_PIXELS_AT_ONCE)


def decode(content: bytes, size: tuple[int, int], channels: int, largest: int, values: Range | None = None) -> Picture:
    """Decodes a picture: turned as its camera says, in red, green and blue, transparent parts on white.

    Of an animation the first frame is decoded; grey values of more than 8 bits keep them for the model, and are
    stretched to be looked at; pictures without colour are grey.

    Args:
        content: The file's content.
        size: Height and width that the model takes. The whole picture is resized to it (bilinear, smoothed where it
            shrinks), so that its shape may change and nothing is cut off.
        channels: 3, or 1 for grey.
        largest: The longer side of the picture to draw on, at most.
        values: What is black and white in a picture of more than 8 bits, see
            :func:`keras_gradcam.pictures.depth.scaled`.

    Raises:
        PictureError: If the content is no picture, or a broken one.
    """
    if not content:
        raise PictureError("is empty")
    try:
        image = Image.open(io.BytesIO(content), formats=_formats())
        limit = Image.MAX_IMAGE_PIXELS
        if limit is not None and image.width * image.height > limit:
            # Pillow itself only warns up to twice the limit. A small file may unfold to more than memory holds.
            raise PictureError(
                f"has {image.width} x {image.height} pixels, more than the {limit} that are safe to decode"
            )
        with _pixels.take(image.width * image.height):
            return _resized(content, *_decoded(image, content, values), size, channels, largest)
    except PictureError:
        raise
    except UnidentifiedImageError as error:
        raise PictureError("is no picture that can be read") from error
    except Exception as error:  # decoders raise all kinds of errors for broken data
        raise PictureError(f"cannot be decoded: {in_one_line(error)}") from error


def _formats() -> list[str]:
    """Returns the formats that this Pillow can decode."""
    Image.init()
    return [name for name in _FORMATS if name in Image.OPEN]


def _resized(
    content: bytes,
    image: Image.Image,
    deep: np.ndarray | None,
    depth: str,
    size: tuple[int, int],
    channels: int,
    largest: int,
) -> Picture:
    """Resizes a decoded picture for the model, and to draw on."""
    colours = image if channels == 3 else image.convert("L")
    source = colours if deep is None else Image.fromarray(deep)
    pixels = np.asarray(source.resize(size[::-1], Image.Resampling.BILINEAR)).reshape(*size, -1)
    shown = image
    if max(image.size) > largest:
        factor = largest / max(image.size)
        width, height = (max(1, round(side * factor)) for side in image.size)
        shown = image.resize((width, height), Image.Resampling.BOX)
    return Picture(
        hashlib.sha256(content).hexdigest(),
        (image.height, image.width),
        np.repeat(pixels, channels // pixels.shape[2], axis=2),
        np.asarray(shown, np.uint8),
        depth,
    )


def _decoded(image: Image.Image, content: bytes, values: Range | None) -> tuple[Image.Image, np.ndarray | None, str]:
    """Returns the picture in colours of 8 bits, grey values of more bits if it has them, and what was done to them."""
    image.load()
    try:
        image = ImageOps.exif_transpose(image)
    except Exception:  # EXIF that cannot be read is common, and turns nothing
        image = image.copy()
    deep, depth = None, ""
    if image.mode.startswith(("I", "F")):
        deep, depth = scaled(np.asarray(image), values)
        image = Image.fromarray(stretched(deep))
    elif content[:8] == _PNG and content[24] == 16:
        depth = "16 bits in each colour were cut to 8; only grey pictures keep them"
    if image.has_transparency_data:
        image = image.convert("RGBA")
        paper = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(paper, image)
    return image.convert("RGB"), deep, depth
