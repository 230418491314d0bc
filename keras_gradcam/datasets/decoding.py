"""The first half of explaining a batch: pictures in any form become pixels of the size that the model takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from PIL import Image

from ..errors import ArgumentError, PictureError, as_numpy
from ..metrics.regions import check_box, region_mask
from ..pictures.decoding import decode
from ..pictures.reading import read_file
from ..pictures.spec import PictureSpec
from .columns import FAILURE, IMAGE, REGION

# Pixels of one picture, and its own height and width.
_Pixels = tuple[np.ndarray, tuple[int, int]]


def decode_rows(rows: Mapping[str, np.ndarray], spec: PictureSpec, pool: ThreadPoolExecutor) -> dict[str, np.ndarray]:
    """Decodes the pictures of some rows, and scales their regions along.

    Args:
        rows: Columns under their names in the results. "image": pixels, (N, H, W, C) or arrays of any height and width;
            encoded pictures (bytes, or dicts with "bytes" as Hugging Face keeps them); or paths of files. "region": in
            pixels of the picture itself, a box (x0, y0, x1, y1) or a mask, or None.
        spec: The pictures that the model takes.
        pool: Threads to decode with.

    Returns:
        The same columns with "image" (N, *size, channels), uint8 or float32; "region" in pixels of that size, boxes
        (N, 4) or masks (N, H, W), NaN where there is none; and "failure", what is wrong with a picture, "" if nothing
        is. A picture that cannot be decoded is black.
    """
    images = rows[IMAGE]
    shape = (*spec.size, spec.channels)
    failures = np.full(len(images), "", object)
    if images.dtype.kind in "fiu" and images.shape[1:] == shape:
        pixels = images if images.dtype == np.uint8 else images.astype(np.float32)
        sizes: list[tuple[int, int] | None] = [spec.size] * len(images)
    else:
        outcomes = list(pool.map(lambda image: _try(image, spec), images))
        sizes = [None if isinstance(outcome, PictureError) else outcome[1] for outcome in outcomes]
        for index, outcome in enumerate(outcomes):
            if isinstance(outcome, PictureError):
                failures[index] = str(outcome)
        black = np.zeros(shape, np.uint8)
        decoded = [black if isinstance(outcome, PictureError) else outcome[0] for outcome in outcomes]
        are_bytes = all(array.dtype == np.uint8 for array in decoded)
        pixels = np.stack(decoded) if decoded else np.zeros((0, *shape), np.uint8)
        pixels = pixels if are_bytes else pixels.astype(np.float32)
    result = {**rows, IMAGE: pixels, FAILURE: failures}
    if REGION in rows:
        result[REGION] = _scaled_regions(rows[REGION], sizes, spec.size, failures)
    return result


def _try(image: Any, spec: PictureSpec) -> _Pixels | PictureError:
    """Decodes one picture; returns what is wrong with it where that fails."""
    try:
        return _decoded(image, spec)
    except PictureError as error:
        return error


def _decoded(image: Any, spec: PictureSpec) -> _Pixels:
    if isinstance(image, Mapping):
        image = image.get("bytes") or image.get("path")
    if image is None:
        raise PictureError("is missing")
    if isinstance(image, str):
        image = read_file(image, spec.most_bytes)
    if isinstance(image, (bytes, bytearray, memoryview)):
        picture = decode(bytes(image), spec.size, spec.channels, 1, spec.values)
        return picture.pixels, picture.size
    return _resized(as_numpy(image), spec)


def _resized(array: np.ndarray, spec: PictureSpec) -> _Pixels:
    """Resizes pixels, as pictures from files are: as a whole, bilinear, smoothed where they shrink."""
    if array.ndim == 2:
        array = array[..., None]
    shape = (*spec.size, spec.channels)
    if array.ndim != 3 or array.shape[2] not in (1, 3, spec.channels) or 0 in array.shape:
        raise PictureError(f"has pixels of shape {array.shape}, not (height, width, channels)")
    size = array.shape[:2]
    if array.shape == shape:
        return (array if array.dtype == np.uint8 else array.astype(np.float32)), size
    if array.dtype != np.uint8:
        raise PictureError(f"has pixels of type {array.dtype} and shape {array.shape}, which only uint8 are resized to")
    image = Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)
    image = image.convert("L" if spec.channels == 1 else "RGB")
    return np.asarray(image.resize(spec.size[::-1], Image.Resampling.BILINEAR)).reshape(shape), size


def _scaled_regions(
    regions: np.ndarray, sizes: Sequence[tuple[int, int] | None], size: tuple[int, int], failures: np.ndarray
) -> np.ndarray:
    """Scales regions as their pictures were; writes into ``failures`` what is wrong with one."""
    scaled: list[np.ndarray | None] = []
    for index, (region, own) in enumerate(zip(regions, sizes, strict=True)):
        array = None
        if own is not None and region is not None and not _is_missing(region):
            try:
                array = _scaled_region(np.asarray(region, np.float64), own, size)
            except (ArgumentError, TypeError, ValueError) as error:
                failures[index] = str(error)
        scaled.append(array)
    are_masks = any(array is not None and array.ndim == 2 for array in scaled)
    shape = size if are_masks else (4,)
    missing = np.full(shape, np.nan, np.float32)
    whole = [
        missing if array is None else region_mask(array, size) if are_masks and array.ndim == 1 else array
        for array in scaled
    ]
    return np.stack(whole).astype(np.float32) if whole else np.zeros((0, *shape), np.float32)


def _is_missing(region: Any) -> bool:
    """Returns whether a region is only NaN, as tables spell what is not there."""
    array = np.asarray(region)
    return array.dtype.kind == "f" and bool(np.isnan(array).all())


def _scaled_region(region: np.ndarray, own: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    if region.ndim == 2:
        if region.shape != own:
            raise ArgumentError("region", f"be a mask of the picture's own size, {own}", f"shape {region.shape}")
        image = Image.fromarray((region > 0).astype(np.uint8))
        return np.asarray(image.resize(size[::-1], Image.Resampling.NEAREST), np.float64)
    check_box(region, own)
    return region * np.tile([size[1] / own[1], size[0] / own[0]], 2)
