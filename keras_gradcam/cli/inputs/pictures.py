"""Pictures from files: decoded as people see them, and as a model takes them."""

from __future__ import annotations

import hashlib
import io
import os
import stat
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ..errors import PictureError, in_one_line

#: The longer side of a picture that a map is drawn on in its own size.
LARGEST = 2048


@dataclass(frozen=True, eq=False)
class Picture:
    """A decoded picture.

    Attributes:
        digest: SHA-256 of the file.
        size: (height, width), turned as its camera says.
        pixels: uint8 (h, w, C), resized to what the model takes.
        shown: uint8 (h, w, 3), to draw on: no larger than asked for, its aspect ratio kept.
    """

    digest: str
    size: tuple[int, int]
    pixels: np.ndarray
    shown: np.ndarray


def read_file(path: str) -> bytes:
    """Reads a file.

    Raises:
        PictureError: If it cannot be read.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # a pipe would keep us waiting for ever
            raise PictureError("is no file")
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise PictureError(f"cannot be read: {error.strerror or error}") from error


def digest(content: bytes) -> str:
    """Returns the SHA-256 of a file's content."""
    return hashlib.sha256(content).hexdigest()


def decode(content: bytes, size: tuple[int, int], channels: int, largest: int) -> Picture:
    """Decodes a picture: turned as its camera says, in red, green and blue, transparent parts on white.

    Of an animation the first frame is decoded; 16 bits are scaled to 8; pictures without colour are grey.

    Args:
        content: The file's content.
        size: Height and width that the model takes. The whole picture is resized to it (bilinear, smoothed where it
            shrinks), so that its shape may change and nothing is cut off.
        channels: 3, or 1 for grey.
        largest: The longer side of the picture to draw on, at most.

    Raises:
        PictureError: If the content is no picture, or a broken one.
    """
    if not content:
        raise PictureError("is empty")
    try:
        image = _decoded(content)
    except PictureError:
        raise
    except UnidentifiedImageError as error:
        raise PictureError("is no picture that can be read") from error
    except Exception as error:  # decoders raise all kinds of errors for broken data
        raise PictureError(f"cannot be decoded: {in_one_line(error)}") from error
    colored = image if channels == 3 else image.convert("L")
    pixels = np.asarray(colored.resize(size[::-1], Image.Resampling.BILINEAR))
    shown = image
    if max(image.size) > largest:
        factor = largest / max(image.size)
        width, height = (max(1, round(side * factor)) for side in image.size)
        shown = image.resize((width, height), Image.Resampling.BOX)
    return Picture(
        digest(content), (image.height, image.width), pixels.reshape(*size, channels), np.asarray(shown, np.uint8)
    )


def _decoded(content: bytes) -> Image.Image:
    image: Image.Image = Image.open(io.BytesIO(content))
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > limit:
        # Pillow itself only warns up to twice the limit. A small file may unfold to more than memory holds.
        raise PictureError(f"has {image.width} x {image.height} pixels, more than the {limit} that are safe to decode")
    image.load()
    try:
        image = ImageOps.exif_transpose(image)
    except Exception:  # EXIF that cannot be read is common, and turns nothing
        image = image.copy()
    if image.mode.startswith(("I", "F")):
        image = Image.fromarray(_eight_bits(np.asarray(image)))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        paper = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(paper, image)
    return image.convert("RGB")


def _eight_bits(values: np.ndarray) -> np.ndarray:
    """Converts grey values of 16 or 32 bits, or floating point from 0 to 1 or to 255, to 8 bits."""
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= 65535):  # not a number is neither
        raise PictureError(f"has grey values from {low:g} to {high:g}, of which it is not known what is white")
    if values.dtype.kind == "f":
        if high > 255:
            raise PictureError(f"has grey values from {low:g} to {high:g}, of which it is not known what is white")
        return np.rint(values * (255 if high <= 1 else 1)).astype(np.uint8)
    if values.dtype.itemsize > 2 and high <= 255:
        return values.astype(np.uint8)
    return np.rint(values / 257).astype(np.uint8)
