"""Checks what event files hold before it is used: types, shapes and sizes. Anybody may have written them."""

from __future__ import annotations

from typing import Any

import numpy as np

from .metadata import MOST_COLUMNS, MOST_PROBES

#: The longest side of a map, in cells, and the largest number of cells of all maps of an epoch.
LONGEST_SIDE, MOST_CELLS = 4096, 1 << 24

#: The largest number of bytes of a description or a report, and of an encoded picture.
MOST_BYTES_OF_TEXT, MOST_BYTES_OF_PICTURE = 8 << 20, 16 << 20


def check_maps(value: Any) -> np.ndarray:
    """Returns maps of all probes, floats (N, h, w).

    Raises:
        ValueError: If ``value`` is anything else, or too large.

    Example:
        >>> check_maps(np.zeros((2, 7, 7), np.float16)).shape
        (2, 7, 7)
    """
    array = _floats(value, 3)
    count, height, width = array.shape
    if count > MOST_PROBES or not (0 < height <= LONGEST_SIDE and 0 < width <= LONGEST_SIDE) or array.size > MOST_CELLS:
        raise ValueError(f"expected up to {MOST_PROBES} maps of 1 to {LONGEST_SIDE} cells a side, found {array.shape}")
    return array


def check_numbers(value: Any) -> np.ndarray:
    """Returns numbers of all probes, floats (N, columns).

    Raises:
        ValueError: If ``value`` is anything else, or too large.
    """
    array = _floats(value, 2)
    if array.shape[0] > MOST_PROBES or array.shape[1] > MOST_COLUMNS:
        raise ValueError(f"expected up to {MOST_PROBES} rows of up to {MOST_COLUMNS} numbers, found {array.shape}")
    return array


def check_scalar(value: Any) -> float:
    """Returns one number.

    Raises:
        ValueError: If ``value`` is anything else.
    """
    return float(_floats(value, 0))


def check_text(value: Any) -> bytes:
    """Returns one text, encoded.

    Raises:
        ValueError: If ``value`` is anything else, or too long.

    Example:
        >>> check_text(np.array(b"text", dtype=object))
        b'text'
    """
    array = np.asarray(value)
    return _bytes(array.item() if array.size == 1 else array, MOST_BYTES_OF_TEXT)


def check_pictures(value: Any) -> list[bytes]:
    """Returns encoded pictures, one per probe.

    Raises:
        ValueError: If ``value`` is anything else, or too large.
    """
    array = np.asarray(value)
    if array.ndim != 1 or len(array) > MOST_PROBES:
        raise ValueError(f"expected up to {MOST_PROBES} pictures, found an array of shape {array.shape}")
    return [check_picture(picture) for picture in array]


def check_picture(value: Any) -> bytes:
    """Returns one encoded picture.

    Raises:
        ValueError: If ``value`` is anything else, or too large.
    """
    return _bytes(value, MOST_BYTES_OF_PICTURE)


def _floats(value: Any, axes: int) -> np.ndarray:
    array = np.asarray(value)
    if array.ndim != axes or array.dtype.kind != "f":
        raise ValueError(f"expected floats with {axes} axes, found {array.dtype} of shape {array.shape}")
    return array


def _bytes(value: Any, most: int) -> bytes:
    # bytes(7) would be seven zeros.
    content = value.encode(errors="replace") if isinstance(value, str) else value
    if not isinstance(content, bytes):
        raise ValueError(f"expected a text or a picture, found {type(value).__name__}")
    if len(content) > most:
        raise ValueError(f"expected up to {most} bytes, found {len(content)}")
    return content
